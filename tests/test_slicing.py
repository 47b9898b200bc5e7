"""Volumes as training images: which slices, of what size, and that nothing of them is cropped."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brainvq.data.loader import Cache, open_cache
from brainvq.data.planes import spacing_of
from brainvq.data.scan import Scan
from brainvq.data.slicing import Slicing, cut, resample, tile, tiles
from brainvq.data.sources import open_source, open_splits
from brainvq.data.volume_cache import with_size
from brainvq.errors import InputError

RNG = np.random.default_rng(0)


def head(shape: tuple[int, int, int] = (24, 28, 20), dtype: str = "int16") -> np.ndarray:
    """An ellipsoid of about 800 that the outer slices miss, on faint noise."""
    axes = np.meshgrid(*[np.linspace(-1.3, 1.3, n) for n in shape], indexing="ij")
    inside = sum(axis**2 for axis in axes) < 1
    return np.where(inside, RNG.normal(800, 50, shape), RNG.normal(5, 2, shape)).clip(0).astype(dtype)


def save(path: Path, voxels: np.ndarray, affine: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, np.diag([4.0, 4, 4, 1]) if affine is None else affine), path)
    return path


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Three subjects of several sizes and orientations, and a label map."""
    save(tmp_path / "study/sub-1_t1.nii.gz", head())
    save(tmp_path / "study/sub-2_t1.nii", head((20, 30, 20)), np.diag([-4.0, 4, 4, 1]))
    save(
        tmp_path / "study/sub-3_t1.nii.gz",
        head((20, 24, 26)).transpose(2, 0, 1),
        np.diag([4.0] * 3 + [1])[[1, 2, 0, 3]],
    )
    save(tmp_path / "study/sub-1_tissues.nii.gz", (head() > 400).astype(np.uint8))
    return tmp_path / "study"


def opened(study: Path, **settings: str) -> dict[str, Cache]:
    splits = open_splits(study)
    slicing = with_size(Slicing(**settings), splits.values())
    return {name: open_cache(source, slicing=slicing, multiple=(8, 8)) for name, source in splits.items()}


def test_a_study_becomes_slices_of_one_size(study: Path, cache: Path) -> None:
    found = opened(study)
    assert {name for cache in found.values() for name in cache.subjects} == {"1", "2", "3"}
    assert {cache.size for cache in found.values()} == {(24, 32)}
    assert {cache.images.shape[1:] for cache in found.values()} == {(24, 30)}
    every = [name for cache in found.values() for name in cache.names]
    assert len(set(every)) == len(every) > 30
    assert all(name.rpartition(":")[2].isdigit() for name in every)
    x = found["train"].batch(range(len(found["train"])))
    assert bool((x >= -1).all() and (x <= 1).all())
    assert x.max() > 0.8


def test_nothing_is_left_over_and_a_second_opening_reads_no_volume(
    study: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = opened(study)["train"]
    assert not list((cache / "volumes").iterdir())
    monkeypatch.setattr("brainvq.data.cache.cut_all", lambda *_: pytest.fail("volumes are read again"))
    again = opened(study)["train"]
    np.testing.assert_array_equal(again.images, first.images)
    assert again.names == first.names


@pytest.mark.parametrize("damage", [b"", b"nonsense", None])
def test_a_cache_that_has_lost_its_places_is_made_anew(study: Path, cache: Path, damage: bytes | None) -> None:
    names = opened(study)["train"].names
    for path in cache.rglob("places.npy"):
        path.unlink() if damage is None else path.write_bytes(damage)
    assert opened(study)["train"].names == names


def test_what_was_cut_before_an_error_is_kept(study: Path, cache: Path) -> None:
    (study / "sub-9_t1.nii").write_bytes((study / "sub-2_t1.nii").read_bytes()[:-1000])
    source = open_source(study, split=None)
    with pytest.raises(InputError, match="sub-9"):
        open_cache(source)
    kept = list((cache / "volumes").iterdir())
    assert kept
    assert not any(path.name.startswith("building") for path in kept)
    (study / "sub-9_t1.nii").unlink()
    assert opened(study)


def test_other_settings_are_another_cache(study: Path, cache: Path) -> None:
    whole = opened(study, slices="all")
    axial, coronal = opened(study), opened(study, plane="coronal")
    assert len(whole["train"]) > len(axial["train"])
    assert axial["train"].images.shape[1:] == (24, 30)
    assert coronal["train"].images.shape[1:] == (24, 26)


def test_the_slices_asked_for_are_taken() -> None:
    scan = Scan(head(), np.diag([4.0, 4, 4, 1]), "1", "a")
    whole = cut(scan, Slicing(slices="all"))
    assert whole.indices == range(20)
    shown = cut(scan, Slicing()).indices
    assert 2 <= shown.start < 6
    assert 14 < shown.stop <= 18
    np.testing.assert_array_equal(cut(scan, Slicing(slices="4:12:3")).levels, whole.levels[4:12:3])
    assert cut(scan, Slicing(slices="head:2")).indices == range(shown.start, shown.stop, 2)
    assert cut(scan, Slicing(slices=":5")).indices == range(5)
    assert cut(scan, Slicing(slices="18:99")).indices == range(18, 20)
    assert cut(scan, Slicing(plane="sagittal", slices="all")).levels.shape == (24, 28, 20)
    with pytest.raises(InputError, match="none of 20 slices"):
        cut(scan, Slicing(slices="30:40"))
    with pytest.raises(InputError, match="START:STOP"):
        Slicing(slices="some")
    with pytest.raises(InputError, match="above zero"):
        Slicing(spacing=(1.0, 0.0, 1.0))


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf"), float("-inf")])
def test_numbers_that_mean_nothing_are_refused(bad: float) -> None:
    with pytest.raises(InputError, match="above zero"):
        Slicing(spacing=(1.0, 1.0, bad))


def test_what_would_not_fit_into_memory_is_refused_before_it_is_made() -> None:
    for tiny in (1e-3, 1e-300):
        with pytest.raises(InputError, match=r"data\.spacing=.* voxels .*Make the spacing larger"):
            resample(head(), np.eye(4), (tiny, tiny, tiny))
    with pytest.raises(InputError, match=r"data\.size"):
        Slicing(size=(10**9, 10**9))


def test_8_bit_volumes_keep_their_levels() -> None:
    scan = Scan((head() / 8).astype(np.uint8), np.eye(4), "1", "a")
    np.testing.assert_array_equal(cut(scan, Slicing(slices="all")).levels, np.moveaxis(scan.voxels, 2, 0))


@given(length=st.integers(1, 300), size=st.integers(1, 120))
def test_tiles_cover_everything(length: int, size: int) -> None:
    """Every pixel lies in a tile, at its place, whatever the sizes."""
    starts = tiles(length, size)
    row = np.arange(1, length + 1, dtype=np.uint16)[None]
    pieces = [tile(row, 0, start, (1, size))[0] for start in starts]
    assert set(row[0].tolist()) <= {int(value) for piece in pieces for value in piece}
    assert len(starts) == max(1, -(-length // size))
    for start, piece in zip(starts, pieces, strict=True):
        assert all(value == 0 or value == start + n + 1 for n, value in enumerate(piece.tolist()))


@given(
    shape=st.tuples(*[st.integers(4, 16)] * 3),
    old=st.tuples(*[st.floats(0.5, 3)] * 3),
    new=st.tuples(*[st.floats(0.7, 3)] * 3),
)
def test_resampling_keeps_values_and_the_middle_of_the_volume(
    shape: tuple[int, ...], old: tuple[float, ...], new: tuple[float, float, float]
) -> None:
    affine = np.diag([*old, 1.0])[[2, 0, 1, 3]]
    affine[:3, 3] = 5, -7, 9
    values, found = resample(np.full(shape, 700, np.int16), affine, new)
    assert (values == 700).all()
    asked = np.array(new)[[1, 2, 0]]  # the file's axes run to the front, to the top and to the right
    sides = np.array(shape) * np.array(old)
    np.testing.assert_allclose(spacing_of(found), sides / np.maximum(1, np.rint(sides / asked)))
    middle = [matrix @ [*(np.array(size) / 2 - 0.5), 1] for matrix, size in ((affine, shape), (found, values.shape))]
    np.testing.assert_allclose(*middle, atol=1e-6)


def test_resampling_keeps_places() -> None:
    ramp = np.broadcast_to(np.arange(40.0)[:, None, None], (40, 8, 8)).astype(np.float32)
    values, affine = resample(ramp, np.eye(4), (2.0, 1.0, 1.0))
    world = affine[0, 0] * np.arange(20) + affine[0, 3]
    np.testing.assert_allclose(values[2:-2, 4, 4], world[2:-2], atol=1e-4)
