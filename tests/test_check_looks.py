"""What is kept of a scan: small, true, nobody's, and remembered for as long as the files stay as they were."""

import json
import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from brainvq.data import look_cache, volume_cache, workers
from brainvq.data.entries import Entry
from brainvq.data.faces import shows_face
from brainvq.data.look_cache import LOOK, known_labels, look_at_all
from brainvq.data.looks import Look, largest_jump, look
from brainvq.data.planes import as_slices
from brainvq.data.scan import Scan, Storage
from brainvq.data.slicing import Slicing
from brainvq.errors import InputError

RNG = np.random.default_rng(0)
FIVE = np.diag([5.0, 5, 5, 1])  # mm: some 20 voxels make a head


def head(shape: tuple[int, int, int] = (24, 28, 20), dtype: str = "int16") -> np.ndarray:
    """An ellipsoid of about 800 that the outer slices miss, on faint noise."""
    axes = np.meshgrid(*[np.linspace(-1.3, 1.3, n) for n in shape], indexing="ij")
    inside = sum(axis**2 for axis in axes) < 1
    return np.where(inside, RNG.normal(800, 50, shape), RNG.normal(5, 2, shape)).clip(0).astype(dtype)


def whole_head(face: bool = True, up: float = 4.0) -> np.ndarray:
    """(upwards, right, front) mask: a skull 190 mm long, a neck behind, and a face in front if asked for; `up` mm."""
    z, x, y = np.meshgrid(np.arange(0, 230, up), np.arange(-90, 90, 4.0), np.arange(-110, 110, 4.0), indexing="ij")
    skull = ((z - 145) / 80) ** 2 + (x / 75) ** 2 + (y / 95) ** 2 < 1
    neck = (z < 120) & (x**2 + (y + 45) ** 2 < 50**2)
    front = (z < 110) & (np.abs(x) < 60) & (y > -40) & (y < 95 - (x / 8) ** 2)
    cut = (z < 115) & (y > 20) & (not face)
    return np.asarray((skull | neck | front) & ~cut)


def turned(voxels: np.ndarray, affine: np.ndarray, order: tuple[int, ...], flips: tuple[bool, ...]) -> Scan:
    """The same volume with its axes stored in another order and direction."""
    turn = np.zeros((4, 4))
    turn[3, 3] = 1
    for new, old in enumerate(order):
        turn[old, new] = -1 if flips[new] else 1
        turn[old, 3] = voxels.shape[old] - 1 if flips[new] else 0
    stored = voxels.transpose(order)
    stored = stored[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]
    return Scan(np.asfortranarray(stored), affine @ turn, None, "a.nii", Storage("nifti1"))


@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(3)), flips=st.tuples(*[st.booleans()] * 3))
def test_geometry_is_that_of_the_head_not_of_the_file(order: list[int], flips: tuple[bool, ...]) -> None:
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    first = look(turned(head(), affine, (0, 1, 2), (False,) * 3)).space
    found = look(turned(head(), affine, tuple(order), flips)).space
    assert first
    assert found
    assert found.spacing == pytest.approx((2, 3, 4))
    assert found.orientation == "".join("RASLPI"[axis + 3 * flip] for axis, flip in zip(order, flips, strict=True))
    assert found.tilt == pytest.approx(0, abs=1e-5)


@settings(max_examples=20, deadline=None)
@given(degrees=st.floats(0.1, 30), turn=st.floats(-3, 3), axis=st.sampled_from([(0, 1), (0, 2), (2, 1)]))
def test_tilt_is_told_in_degrees_whichever_way_the_head_lies(
    degrees: float, turn: float, axis: tuple[int, int]
) -> None:
    skew, rotation = np.eye(4), np.eye(4)
    skew[axis] = np.tan(np.radians(degrees))
    rotation[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    for straight, expected in ((np.eye(4), 0.0), (skew, degrees)):
        space = look(Scan(head((8, 8, 8)), rotation @ straight, None, "a")).space
        assert space
        assert space.tilt == pytest.approx(expected, abs=1e-4)


def test_values_are_in_the_units_that_the_file_gives_them() -> None:
    found = look(Scan(head(), np.eye(4), None, "a", Storage("nifti1", slope=2.0, intercept=-1024)))
    raw = look(Scan(head(), np.eye(4), None, "a", Storage("nifti1")))
    assert (found.low, raw.low) == (-1024, 0)
    assert found.high > 800


@pytest.mark.parametrize(
    ("storage", "known"),
    [
        (Storage("nifti1", qform=0, sform=0), False),
        (Storage("nifti1", qform=1, sform=0), True),
        (Storage("nifti2", qform=0, sform=2), True),
        (Storage("analyze", qform=0, sform=0), False),
        (Storage("dicom", qform=0, sform=0), True),
    ],
)
def test_which_side_is_left(storage: Storage, known: bool) -> None:
    space = look(Scan(head(), np.eye(4), None, "a", storage)).space
    assert space
    assert space.sides_known is known


def test_the_digest_knows_content_not_its_order_in_memory() -> None:
    voxels = head()
    scans = [Scan(order(voxels), np.eye(4), None, "a") for order in (np.ascontiguousarray, np.asfortranarray)]
    other, transposed = voxels.copy(), voxels.reshape(28, 24, 20)
    other[3, 4, 5] += 1
    scans += [Scan(array, np.eye(4), None, "a") for array in (other, transposed, voxels.astype("int32"))]
    digests = [look(scan).digest for scan in scans]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 4


@settings(max_examples=20, deadline=None)
@given(slice_=st.integers(6, 13), factor=st.floats(1.3, 3), plane=st.sampled_from(["sagittal", "coronal", "axial"]))
def test_a_slice_of_another_brightness_is_found(slice_: int, factor: float, plane: str) -> None:
    scan = Scan(head((20, 20, 20)), FIVE, None, "a")
    clean = look(scan).space
    slices = as_slices(scan.voxels, FIVE, plane)  # type: ignore[arg-type]
    slices[slice_] = slices[slice_] / factor
    found = look(scan).space
    assert clean
    assert clean.jump
    assert clean.jump.ratio < 1.2
    assert found
    assert found.jump
    assert found.jump.plane == plane
    assert found.jump.index in (slice_ - 1, slice_)
    assert factor / 1.2 < found.jump.ratio < factor * 1.2


@pytest.mark.parametrize(
    ("brightness", "at", "ratio"),
    [
        ([5.0, 5, 5, 5, 5], None, 1.0),
        ([2.0, 3, 4.5, 6.75, 10.125], None, 1.0),  # steadily brighter
        ([5.0, 5, 5, 8, 8, 8], 2, 1.6),
        ([5.0, 5, 2, 5, 5, 5], 1, 2.5),
        ([5.0, 5, 0, 5, 5, 5], 1, 1000),
        ([5.0, 6, 5, 6, 5, 6], 1, 1.2),
        ([5.0, 1], None, 1.0),
        ([0.0, 0, 0], None, 1.0),
    ],
)
def test_a_jump_is_what_its_neighbours_are_not(brightness: list[float], at: int | None, ratio: float) -> None:
    found, factor = largest_jump(np.array(brightness))
    assert factor == pytest.approx(ratio)
    assert at in (None, found)


def test_thick_slices_are_compared_with_each_other_alone() -> None:
    scan = Scan(head((20, 20, 20)), np.diag([3.0, 3, 5, 1]), None, "a")
    scan.voxels[9] //= 3
    space = look(scan).space
    assert space
    assert space.jump
    assert space.jump.plane == "axial"
    assert space.jump.ratio < 1.2


def test_a_volume_of_one_value_has_nothing_to_compare() -> None:
    found = look(Scan(np.full((9, 9, 9), 7, np.int16), np.eye(4), None, "a"))
    assert found.constant
    assert found.space
    assert (found.space.jump, found.space.face) == (None, False)


@pytest.mark.parametrize("up", [1.0, 3.0, 6.0])
def test_a_face_shows_until_it_is_cut_off_or_out_of_view(up: float) -> None:
    assert shows_face(whole_head(up=up), up)
    assert not shows_face(whole_head(face=False, up=up), up)
    assert not shows_face(whole_head(up=up)[round(115 / up) :], up), "a picture that ends at the eyes"
    assert not shows_face(np.zeros((40, 40, 40), bool), up)


def test_real_heads_have_a_face_where_they_have_one(shared: Path) -> None:
    folder = shared / "inputs" / "nifti"
    if not folder.is_dir():
        pytest.skip("no real volumes")
    for name, face in {"chris_t1": True, "1101_SS": False, "open_ms_patient20_T1W": False}.items():
        image = nib.load(folder / f"{name}.nii.gz")
        space = look(Scan(np.asarray(image.dataobj), image.affine, None, name)).space
        assert space
        assert space.face is face
        assert space.jump
        assert space.jump.ratio < 1.1


# What is remembered.


@pytest.fixture
def folder(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two volumes and a picture; volumes are read in this process."""
    monkeypatch.setattr(workers, "_inside", True)
    data = tmp_path / "data"
    data.mkdir()
    for name in ("anna_smith.nii.gz", "sub-2.nii"):
        nib.save(nib.Nifti1Image(head(), np.eye(4)), data / name)
    Image.fromarray(head()[:, :, 10].astype(np.uint8)).save(data / "sub-3.png")
    return data


def entries(folder: Path) -> list[Entry]:
    return [Entry(path) for path in sorted(folder.iterdir())]


def looked(folder: Path) -> tuple[dict[Path, Look | InputError], int]:
    """What was seen, and of how many files it was not known before."""
    told: list[int] = []
    return look_at_all(entries(folder), Slicing(), lambda done, total: told.append(done)), len(told)


def test_a_second_look_reads_nothing_and_sees_the_same(folder: Path) -> None:
    first, read = looked(folder)
    again, read_again = looked(folder)
    assert (read, read_again) == (3, 0)
    assert first == again
    assert [(found.tone is None, found.space is None) for found in first.values() if isinstance(found, Look)] == [
        *((True, False), (True, False), (False, True))
    ]


def test_what_is_remembered_is_its_owners_alone(folder: Path, cache: Path) -> None:
    looked(folder)
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700


def test_a_changed_file_is_looked_at_anew(folder: Path) -> None:
    looked(folder)
    nib.save(nib.Nifti1Image(head() * 2, np.eye(4)), folder / "sub-2.nii")
    found, read = looked(folder)
    assert read == 1
    changed = found[folder / "sub-2.nii"]
    assert isinstance(changed, Look)
    assert changed.high > 1600


def test_what_is_remembered_names_nobody(folder: Path, cache: Path) -> None:
    looked(folder)
    stored = b"".join(path.read_bytes() for path in cache.glob("looks*"))
    for word in (b"anna", b"smith", b"data", b"sub-2", str(folder).encode()):
        assert word not in stored
    assert not any("anna" in path.name for path in cache.rglob("*"))


def test_a_look_is_small_and_plain() -> None:
    found = look(Scan(head((60, 60, 60)), np.eye(4), "anna", "anna.nii"))
    text = LOOK.dump_json(found)
    assert LOOK.validate_json(text) == found
    assert len(text) < 1000
    assert "anna" not in json.dumps(json.loads(text))


def test_a_label_map_keeps_its_few_values_and_is_not_cut(folder: Path, cache: Path) -> None:
    labels = np.zeros((24, 28, 20), np.int16)
    labels[4:20, 4:20, 4:16] = 3
    nib.save(nib.Nifti1Image(labels.astype(np.float32), np.eye(4)), folder / "sub-4.nii")
    found, _ = looked(folder)
    assert {path.name: seen.labels.of_labels for path, seen in found.items() if isinstance(seen, Look)} == {
        **dict.fromkeys(("anna_smith.nii.gz", "sub-2.nii", "sub-3.png"), False),
        "sub-4.nii": True,
    }
    assert len(list((cache / "volumes").iterdir())) == 2
    known = known_labels(sorted(folder.iterdir()))
    assert known == {path: seen.labels for path, seen in found.items() if isinstance(seen, Look)}
    assert known[folder / "sub-4.nii"].values == (0.0, 3.0)


@pytest.mark.parametrize("damage", [b"", b"no data base at all, but long enough to look like one" * 99, None])
def test_a_damaged_store_is_begun_anew(folder: Path, cache: Path, damage: bytes | None) -> None:
    expected, _ = looked(folder)
    (store,) = cache.glob("looks*")
    whole = store.read_bytes()
    store.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    found, read = looked(folder)
    assert (found, read) == (expected, 3)
    assert looked(folder) == (expected, 0)


def test_a_look_of_another_kind_in_the_store_is_not_taken(folder: Path, cache: Path) -> None:
    expected, _ = looked(folder)
    (store,) = cache.glob("looks*")
    with sqlite3.connect(store) as connection:
        connection.execute("""UPDATE looks SET look = '{"shape": "wide"}'""")
    assert looked(folder) == (expected, 3)


def test_without_a_store_nothing_is_remembered_and_all_is_seen(folder: Path, cache: Path) -> None:
    cache.write_text("not a folder")
    expected, _ = looked(folder)
    assert all(isinstance(found, Look) for found in expected.values())
    assert looked(folder) == (expected, 3)


@pytest.fixture
def busy(cache: Path) -> Iterator[None]:
    """Another process that writes into the store all the time."""
    cache.mkdir()
    connection = sqlite3.connect(cache / f"looks-{look_cache.FORMAT}.sqlite", isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    yield
    connection.close()


def test_a_locked_store_holds_nobody_up(folder: Path, busy: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look_cache, "PATIENCE", 0.01)
    assert looked(folder)[1] == 3


def test_one_bad_file_hides_nothing_of_the_others_and_is_not_remembered(folder: Path) -> None:
    bad = folder / "sub-2.nii"
    bad.write_bytes(bad.read_bytes()[:-100])
    (folder / "sub-9.nii").symlink_to(folder / "gone.nii")
    found, read = looked(folder)
    assert list(found) == sorted(folder.iterdir())
    assert {path.name for path, seen in found.items() if isinstance(seen, InputError)} == {"sub-2.nii", "sub-9.nii"}
    assert (read, looked(folder)[1]) == (3, 1)
    for path in (bad, folder / "sub-9.nii"):
        assert str(found[path]).startswith(f"{path}: ")


def test_what_is_looked_at_is_cut_on_the_same_occasion(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked(folder)
    parts = sorted((cache / "volumes").iterdir())
    assert len(parts) == 2
    monkeypatch.setattr(volume_cache, "read", lambda *_, **__: pytest.fail("it was read before"))
    for path in (folder / "anna_smith.nii.gz", folder / "sub-2.nii"):
        for slicing in (Slicing(), Slicing(size=(64, 64))):
            assert volume_cache.part_path(path, (), slicing, cache / "volumes") in parts
        assert volume_cache.part_path(path, (), Slicing(plane="coronal"), cache / "volumes") not in parts


def test_the_header_of_a_pair_is_part_of_it(tmp_path: Path) -> None:
    nib.save(nib.AnalyzeImage(head(), np.eye(4)), tmp_path / "a.img")
    before = volume_cache.stamps(tmp_path / "a.img", ())
    header = (tmp_path / "a.hdr").read_bytes()
    (tmp_path / "a.hdr").write_bytes(header + b"\0")
    assert volume_cache.stamps(tmp_path / "a.img", ()) != before
    assert len(before) == 2


def test_parts_that_nobody_came_for_go(tmp_path: Path) -> None:
    old, new = tmp_path / "old.npz", tmp_path / "new.npz"
    for path in (old, new):
        path.touch()
    os.utime(old, (0, 0))
    volume_cache.sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["new.npz"]


def test_workers_see_what_this_process_sees(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, _ = looked(folder)
    for store in cache.glob("looks*"):
        store.unlink()
    monkeypatch.setattr(workers, "_inside", False)
    assert looked(folder) == (here, 3)
