"""The embedded cohort: what a user may rely on, seen through its files."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from brainvq.data import anatomy
from brainvq.data.cohort import LAYOUT, cached_cohort, split_of, write_cohort
from brainvq.data.template import load_template
from brainvq.errors import InputError

SMALL = {"subjects": 10, "slices": 6, "size": 64, "seed": 3, "lesions": 0.6}
Cohort = Callable[..., Path]


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def stack(root: Path, pattern: str) -> NDArray[np.uint8]:
    paths = sorted(root.rglob(pattern))
    assert paths, pattern
    return np.stack([np.asarray(Image.open(path)) for path in paths])


def rows(root: Path) -> list[dict[str, str]]:
    with (root / "subjects.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cohort(tmp_path_factory.mktemp("cohort") / "small", **SMALL)


def test_same_seed_gives_the_same_bytes_and_another_seed_does_not(small: Path, tmp_path: Path) -> None:
    assert contents(write_cohort(tmp_path / "again", **SMALL)) == contents(small)
    other = write_cohort(tmp_path / "other", **{**SMALL, "subjects": 1, "seed": 4})
    name = f"{LAYOUT}/keras_png_slices_train/case_001_slice_0.nii.png"
    assert contents(other)[name] != contents(small)[name]


def test_a_subject_does_not_depend_on_how_many_there_are_nor_on_who_else_has_lesions(
    small: Path, tmp_path: Path
) -> None:
    alone = write_cohort(tmp_path / "few", **{**SMALL, "subjects": 3})
    healthy = write_cohort(tmp_path / "healthy", **{**SMALL, "subjects": 3, "lesions": 0.0})
    for k in (1, 2, 3):
        assert np.array_equal(stack(alone, f"case_{k:03d}_*"), stack(small, f"case_{k:03d}_*"))
        assert np.array_equal(stack(healthy, f"seg_{k:03d}_*"), stack(small, f"seg_{k:03d}_*"))
    unharmed = [r["subject"] for r in rows(small) if r["lesion_count"] == "0"]
    assert all(
        np.array_equal(stack(healthy, f"case_{k}_*"), stack(small, f"case_{k}_*")) for k in unharmed if int(k) <= 3
    )


def test_layout_names_sizes_and_values(small: Path) -> None:
    for split, subjects in (("train", 6), ("validate", 2), ("test", 2)):
        for kind, prefix in (("", "case"), ("seg_", "seg"), ("lesions_", "lesions")):
            folder = small / LAYOUT / f"keras_png_slices_{kind}{split}"
            assert len(list(folder.glob(f"{prefix}_???_slice_?.nii.png"))) == subjects * SMALL["slices"]
    images, labels = stack(small, "case_*"), stack(small, "seg_*")
    assert images.shape == (60, 64, 64)
    assert images.dtype == np.uint8
    assert set(np.unique(labels)) == {0, 85, 170, 255}
    assert (images.max((1, 2)) == 255).all(), "each slice is scaled by its own maximum"
    assert not images[:, :8].any(), "outside the field of view pixels are exactly zero"


def test_subjects_csv_agrees_with_the_files_and_splits_share_no_subject(small: Path) -> None:
    table = rows(small)
    assert [r["subject"] for r in table] == [f"{k:03d}" for k in range(1, 11)]
    for split in ("train", "validate", "test"):
        files = (small / LAYOUT / f"keras_png_slices_{split}").iterdir()
        assert {p.name.split("_")[1] for p in files} == {r["subject"] for r in table if r["split"] == split}
    assert all(18 <= int(r["age"]) <= 95 and r["sex"] in "FM" for r in table)
    assert json.loads((small / "cohort.json").read_text())["noise"] == anatomy.NOISE


@pytest.mark.parametrize(
    ("subjects", "sizes"), [(1, (1, 0, 0)), (2, (1, 1, 0)), (3, (1, 1, 1)), (8, (4, 2, 2)), (40, (28, 6, 6))]
)
def test_splits_are_about_70_15_15(subjects: int, sizes: tuple[int, int, int]) -> None:
    assert tuple(split_of(subjects).count(s) for s in ("train", "validate", "test")) == sizes


def test_tissues_look_like_a_t1_image(small: Path) -> None:
    images, labels = stack(small, "case_*"), stack(small, "seg_*")
    fluid, grey, white = (np.median(images[labels == level]) for level in (85, 170, 255))
    assert fluid + 15 < grey < white - 15
    scalp = np.percentile(images[(labels == 0) & (images > 0)], 90)
    assert scalp > white, "a bright rim surrounds the head"


def test_lesions_are_dark_spots_inside_white_matter(small: Path) -> None:
    images, labels, masks = stack(small, "case_*"), stack(small, "seg_*"), stack(small, "lesions_*") > 0
    assert masks.any()
    assert (labels[masks] == 255).all()
    assert np.median(images[masks]) < 0.85 * np.median(images[(labels == 255) & ~masks])
    for row in rows(small):
        mask = stack(small, f"lesions_{row['subject']}_*") > 0
        assert ndimage.label(mask)[1] == int(row["lesion_count"])
    assert 0 < sum(r["lesion_count"] != "0" for r in rows(small)) < SMALL["subjects"]


def _ventricle_area(age_of: Callable[[anatomy.Traits], bool], seeds: range) -> float:
    """Mean number of fluid pixels in the middle of the head, over subjects picked by their traits."""
    areas = []
    for seed in seeds:
        rng = np.random.default_rng([seed, 1])
        traits = anatomy.draw_traits(rng, 0.0)
        if age_of(traits):
            labels = anatomy.make_head(load_template(), traits, rng, slices=3, size=64).labels
            areas.append((labels[:, 16:28, 14:40] == anatomy.FLUID).sum())
    return float(np.mean(areas))


def test_ventricles_grow_with_age() -> None:
    young = _ventricle_area(lambda t: t.age < 35, range(50))
    old = _ventricle_area(lambda t: t.age > 78, range(50))
    assert old > 1.5 * young


def test_anatomy_does_not_depend_on_the_image_size() -> None:
    heads = []
    for size in (64, 128):
        rng = np.random.default_rng([0, 1])
        heads.append(anatomy.make_head(load_template(), anatomy.draw_traits(rng, 0.0), rng, slices=2, size=size))
    shrunk = heads[1].signal.reshape(2, 44, 2, 52, 2).mean((2, 4))
    assert np.corrcoef(shrunk.ravel(), heads[0].signal.ravel())[0, 1] > 0.97


def test_noise_in_the_air_is_rician_and_frozen() -> None:
    """Mean of a Rayleigh variable is sigma sqrt(pi / 2); averaging and blurring keep it and lower the spread."""
    rng = np.random.default_rng(0)
    traits = anatomy.draw_traits(rng, 0.0)
    signal = np.zeros((3, 176, 208), dtype=np.float32)
    signal[:, 80:96, 96:112] = 2.0
    pixels = anatomy.scan(signal, traits, rng, 256).astype(float)
    air, block = pixels[:, 30:70, 60:150].mean(), pixels[:, 82:94, 98:110].mean()
    assert anatomy.NOISE == 0.075
    assert 2.0 * air / block == pytest.approx(anatomy.NOISE * np.sqrt(np.pi / 2), rel=0.03)


@pytest.mark.parametrize(
    "wrong",
    [{"subjects": 0}, {"slices": 0}, {"slices": 61}, {"size": 31}, {"seed": -1}, {"lesions": 1.5}, {"size": 64.0}],
)
def test_parameters_out_of_range_are_refused_and_nothing_is_written(wrong: dict[str, float], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        write_cohort(tmp_path / "out", **wrong)
    assert not list(tmp_path.iterdir())


def test_a_folder_with_files_is_left_alone(small: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    for force in (False, True):
        with pytest.raises(InputError, match="new folder"):
            write_cohort(tmp_path, subjects=1, slices=1, size=32, force=force)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_force_replaces_an_earlier_cohort(tmp_path: Path) -> None:
    out = write_cohort(tmp_path / "out", subjects=2, slices=1, size=32)
    with pytest.raises(InputError, match="not empty"):
        write_cohort(out, subjects=1, slices=1, size=32)
    write_cohort(out, subjects=1, slices=1, size=32, force=True)
    assert len(rows(out)) == 1
    assert not list(out.rglob("case_002*"))
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_two_processes_share_one_cached_cohort(tmp_path: Path) -> None:
    code = "from brainvq.data.cohort import cached_cohort; print(cached_cohort(subjects=2, slices=2, size=32))"
    environment = {**os.environ, "BRAINVQ_CACHE": str(tmp_path)}
    both = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=250)[0].strip() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert outputs[0] == outputs[1]
    assert [path for key in (tmp_path / "cohorts").iterdir() for path in key.iterdir()] == [Path(outputs[0])]
    assert len(list(Path(outputs[0]).rglob("case_*.png"))) == 4


def test_the_cache_is_reused_and_keyed_by_every_parameter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRAINVQ_CACHE", str(tmp_path))
    one = {"subjects": 1, "slices": 1, "size": 32}
    first = cached_cohort(**one)
    before = (first / "cohort.json").stat().st_mtime_ns
    assert cached_cohort(**one) == first
    assert (first / "cohort.json").stat().st_mtime_ns == before
    others = [cached_cohort(**{**one, **change}) for change in ({"seed": 1}, {"lesions": 1.0}, {"size": 36})]
    assert len({first, *others}) == 4
