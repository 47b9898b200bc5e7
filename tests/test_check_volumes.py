"""`check` of volumes: every fault with its file, what is no fault is none, and `train` asks first."""

import io
import json
import shlex
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from tests.dicom_files import series

from brainvq import session
from brainvq.check import Findings, Problem, check, contact_sheet, sheet, table
from brainvq.check.sheet import cells_of_volume
from brainvq.config import override
from brainvq.data import labels, look_cache, volume_cache, workers
from brainvq.data.loader import open_cache
from brainvq.data.slicing import Slicing
from brainvq.data.sources import open_splits
from brainvq.data.subjects import Item
from brainvq.data.volume_cache import with_size
from brainvq.errors import InputError
from brainvq.presets import preset

RNG = np.random.default_rng(0)
FOUR = np.diag([4.0, 4, 4, 1])


@pytest.fixture(autouse=True)
def _in_this_process(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without processes to wait for, and with a cache of its own, not below the data."""
    monkeypatch.setenv("BRAINVQ_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr(workers, "_inside", True)


def head(shape: tuple[int, int, int] = (20, 24, 16), seed: int | None = None) -> np.ndarray:
    """An ellipsoid of about 800 that the outer slices miss, on faint noise; each is another."""
    rng = RNG if seed is None else np.random.default_rng(seed)
    axes = np.meshgrid(*[np.linspace(-1.3, 1.3, n) for n in shape], indexing="ij")
    inside = sum(axis**2 for axis in axes) < 1
    return np.where(inside, rng.normal(800, 50, shape), rng.normal(5, 2, shape)).clip(0).astype(np.int16)


def save(path: Path, voxels: np.ndarray | None = None, affine: np.ndarray = FOUR) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(head() if voxels is None else voxels, affine), path)
    return path


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Six subjects of one size, two of them stored in another orientation, and label maps that their names hide."""
    for n in range(6):
        save(tmp_path / f"study/sub-{n}_t1.nii", affine=np.diag([-4.0, 4, 4, 1]) if n > 3 else FOUR)
    save(tmp_path / "study/sub-1_truth.nii", (head() > 400).astype(np.uint8))
    return tmp_path / "study"


def of(findings: Findings, kind: str) -> list[Problem]:
    return [problem for problem in findings.problems if problem.kind == kind]


def kinds(findings: Findings) -> set[tuple[str, str, bool]]:
    return {(problem.kind, problem.file, problem.fatal) for problem in findings.problems}


def test_a_sound_study_has_no_problems_and_its_facts(study: Path) -> None:
    found = check(str(study))
    assert found.problems == ()
    assert found.volumes
    assert (found.label_maps_left_out, found.label_maps) == (1, ("sub-1_truth.nii",))
    assert sum(split.subjects for split in found.splits) == sum(split.images for split in found.splits) == 6
    assert {size for split in found.splits for size in split.sizes} == {"20 x 24 x 16"}
    assert {mm for split in found.splits for mm in split.spacings} == {"4 x 4 x 4"}
    assert {axes for split in found.splits for axes in split.orientations} == {"RAS", "LAS"}
    assert (found.mean, found.variance) == (None, None)
    assert json.loads(json.dumps(found.to_json()))["trainable"] is True
    console = Console(width=100, file=io.StringIO())
    console.print(table(found))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    for word in ("volumes", "20x24x16", "4x4x4", "RAS", "int16", "sub-1_truth.nii", "Ready to train"):
        assert word in text


def test_what_check_has_read_training_does_not_read_again(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(str(study))
    for module in (volume_cache, labels, look_cache):
        monkeypatch.setattr(module, "read", lambda *_, **__: pytest.fail("a volume is read twice"))
    splits = open_splits(study)
    slicing = with_size(Slicing(), splits.values())
    assert len(open_cache(splits["train"], slicing=slicing)) > 20
    assert check(str(study)).problems == ()


def refused_volumes(folder: Path) -> dict[str, str]:
    """Volumes that no reader takes, and what is to be said of each."""
    save(folder / "sub-a.nii", np.stack([head()] * 3, axis=3))
    nan = head().astype(np.float32)
    nan[3, 4, 5] = np.nan
    save(folder / "sub-b.nii", nan)
    save(folder / "sub-c.nii").write_bytes((folder / "sub-b.nii").read_bytes()[:-5000])
    colour = np.zeros((8, 8, 8), np.dtype([(channel, "u1") for channel in "RGB"]))
    save(folder / "sub-d.nii", colour)
    (folder / "sub-e.nii.gz").write_text("hello")
    zero = bytearray(save(folder / "sub-f.nii").read_bytes())
    zero[80:84] = bytes(4)  # pixdim[1]
    (folder / "sub-f.nii").write_bytes(zero)
    return dict(zip("abcdef", ("volumes", "NaN", "cut short", "RGB", "", "0 x 4 x 4"), strict=True))


def test_every_volume_that_cannot_be_read_is_named_with_its_reason(study: Path) -> None:
    said = refused_volumes(study)
    found = check(str(study))
    bad = {Path(problem.file).name[4]: problem for problem in of(found, "unreadable")}
    assert bad.keys() == said.keys()
    for name, words in said.items():
        assert words in bad[name].reason
        assert bad[name].fatal
        assert bad[name].remedy.endswith(".")
        assert str(study) not in bad[name].reason
    assert sum(split.images for split in found.splits) == 12
    assert not found.to_json()["trainable"]


def test_broken_series_are_told_and_sound_ones_are_volumes(tmp_path: Path) -> None:
    stack = head().transpose(2, 1, 0)
    for n in range(3):
        series(tmp_path / f"sub-{n}", head(seed=n).transpose(2, 1, 0), SeriesInstanceUID=f"1.2.{n}")
    series(tmp_path / "sub-7", stack[:2], SeriesInstanceUID="1.2.7")
    gap = [(0, 0, 2 * n + 2 * (n > 7)) for n in range(16)]
    series(tmp_path / "sub-8", stack, positions=gap, SeriesInstanceUID="1.2.8")
    series(tmp_path / "sub-9", stack, positions=[(0, 0, 0)] * 16, SeriesInstanceUID="1.2.9")
    found = check(str(tmp_path))
    assert {(p.kind, p.fatal) for p in found.problems} == {("broken series", True)}
    reasons = {problem.file.partition("/")[0]: problem.reason for problem in found.problems}
    assert reasons.keys() == {"sub-7", "sub-8", "sub-9"}
    assert "2 slices" in reasons["sub-7"]
    assert "missing" in reasons["sub-8"]
    assert {size for split in found.splits for size in split.sizes} == {"20 x 24 x 16"}


def changed_sub_0(study: Path, change: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]) -> Findings:
    save(study / "sub-0_t1.nii", *change(head(), FOUR))
    return check(str(study))


def dimmed(voxels: np.ndarray) -> np.ndarray:
    voxels[:, :, 8] //= 2
    return voxels


SHEARED = FOUR + np.array([[0, 0, 0.5, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])


@pytest.mark.parametrize(
    ("kind", "change", "words"),
    [
        ("constant", lambda v, a: (v * 0 + 7, a), "every voxel is 7"),
        ("padding", lambda v, a: (head((40, 40, 40)), a), "20 x 24 pixels are padded to 40 x 40 (height x width)"),
        ("mixed spacings", lambda v, a: (v, a * [1, 1, 1.5, 1]), "4 x 4 x 6 mm; most volumes have 4 x 4 x 4"),
        ("tilt", lambda v, a: (v, SHEARED), "7.1 degrees"),
        ("not MR", lambda v, a: (v - 1000, a), "-1000"),
        ("brightness", lambda v, a: (dimmed(v), a), "between the axial slices"),
        ("mixed types", lambda v, a: ((v // 4).astype(np.uint8), a), "uint8"),
    ],
)
def test_what_one_volume_has_wrong_is_a_warning(kind: str, change: Any, words: str, study: Path) -> None:
    found = changed_sub_0(study, change)
    assert {problem.kind for problem in found.problems} == {kind}
    assert found.fatal == ()
    own = [problem for problem in found.problems if problem.file == "sub-0_t1.nii"]
    assert bool(own) == (kind != "padding"), "it is the others that are padded to the size of this one"
    assert words in found.problems[0].reason


def test_sizes_orientations_and_small_differences_are_no_fault(study: Path) -> None:
    save(study / "sub-8_t1.nii", head((22, 26, 18)), np.diag([4.4, 4, 4, 1])[[1, 0, 2, 3]])
    assert check(str(study)).problems == ()


def test_what_resampling_or_tiles_mend_is_not_told(study: Path) -> None:
    save(study / "sub-0_t1.nii", head((40, 48, 32)), np.diag([2.0, 2, 2, 1]))
    assert {problem.kind for problem in check(str(study)).problems} == {"mixed spacings", "padding"}
    assert check(str(study), slicing=Slicing(spacing=(4.0, 4.0, 4.0))).problems == ()
    assert of(check(str(study), slicing=Slicing(size=(24, 24))), "padding") == []


def test_the_advice_against_padding_clears_it(study: Path) -> None:
    save(study / "sub-0_t1.nii", head((40, 48, 32)), np.diag([2.0, 2, 2, 1]))
    remedies = {problem.remedy for problem in of(check(str(study)), "padding")}
    assert remedies == {"Set data.spacing=[4,4,4], to resample all alike, or keep this volume apart."}
    (sized,) = {problem.remedy for problem in of(check(str(study), slicing=Slicing(size=(48, 48))), "padding")}
    assert sized.startswith("Lower data.size, to [20,24] say")
    save(study / "sub-0_t1.nii", head((40, 48, 32)))
    assert {p.remedy for p in of(check(str(study)), "padding")} == {"Keep this volume apart from the larger ones."}


def test_the_plane_of_thick_slices_is_advised_until_it_is_set(study: Path) -> None:
    save(study / "sub-0_t1.nii", head((5, 24, 16)), np.diag([16.0, 4, 4, 1]))
    (problem,) = of(check(str(study)), "plane")
    assert (problem.file, problem.fatal) == ("sub-0_t1.nii", False)
    assert "thick sagittal slices (16 x 4 x 4 mm), to be cut into axial ones of 5 x 24 pixels" in problem.reason
    assert problem.remedy == "Set data.plane=sagittal for volumes such as this."
    for slicing in (Slicing(plane="sagittal"), Slicing(spacing=(4.0, 4.0, 4.0))):
        assert of(check(str(study), slicing=slicing), "plane") == []


def test_a_table_on_a_narrow_screen_breaks_between_entries(study: Path) -> None:
    for n in range(6, 24):
        save(study / f"sub-{n}_t1.nii", head((120 + n, 8, 8)), np.diag([1.123, 1, 1, 1]) if n % 2 else FOUR)
    found = check(str(study))
    console = Console(width=80, file=io.StringIO())
    console.print(table(found))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    train = found.splits[0]
    for counts in (train.sizes, train.spacings):
        for name, count in list(counts.items())[:3]:
            assert f" {name.replace(' x ', 'x')} ({count})" in text
    assert f"and {len(train.sizes) - 3} more" in text
    assert max(map(len, text.partition("subject in")[0].splitlines())) <= 80


def test_a_cache_inside_the_data_is_refused_before_it_is_there(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRAINVQ_CACHE", str(study / "cache"))
    with pytest.raises(InputError, match="inside the data"):
        check(str(study))
    assert not (study / "cache").exists()


def test_a_range_that_leaves_no_slice_is_fatal(study: Path) -> None:
    found = check(str(study), slicing=Slicing(slices="20:30"))
    assert {problem.kind for problem in found.fatal} == {"no slices"}
    assert "leaves none of 16 slices" in found.fatal[0].reason
    assert check(str(study), slicing=Slicing(slices="10:30")).problems == ()


def test_a_file_that_does_not_say_which_side_is_left(study: Path) -> None:
    nib.save(nib.AnalyzeImage(head(), FOUR), study / "sub-7_t1.img")
    content = bytearray(save(study / "sub-8_t1.nii").read_bytes())
    content[252:256] = bytes(4)  # qform_code and sform_code
    (study / "sub-8_t1.nii").write_bytes(content)
    assert kinds(check(str(study))) == {("sides", "sub-7_t1.img", False), ("sides", "sub-8_t1.nii", False)}


@pytest.mark.parametrize("mm", [1e-5, 0.005, 120.0, 4000.0])
def test_spacing_that_no_scanner_has_is_told_by_itself(study: Path, mm: float) -> None:
    save(study / "sub-8_t1.nii", affine=np.diag([mm, 4, 4, 1]))
    found = check(str(study))
    (odd,) = of(found, "units")
    assert (odd.file, odd.fatal, of(found, "mixed spacings")) == ("sub-8_t1.nii", False, [])
    assert f"{mm:.3g} x 4 x 4 mm" in odd.reason
    assert {sizes for split in found.splits for sizes in split.spacings} == {"4 x 4 x 4", f"{mm:.3g} x 4 x 4"}


def test_a_spacing_that_makes_volumes_too_large_is_fatal_and_takes_no_memory(study: Path) -> None:
    found = check(str(study), slicing=Slicing(spacing=(1e-3, 1e-3, 1e-3)))
    assert {problem.kind for problem in found.fatal} == {"too large"}
    assert "data.spacing=[0.001, 0.001, 0.001] makes 80,000 x 96,000 x 64,000 voxels" in found.fatal[0].reason
    assert found.fatal[0].remedy == "Make the spacing larger."


def test_files_in_folders_of_any_name_keep_their_names(tmp_path: Path) -> None:
    """A path may hold what parts a message."""
    data = tmp_path / "Study: brain. One"
    for n in range(3):
        series(data / f"sub-{n}: t1. x", head(seed=n).transpose(2, 1, 0), SeriesInstanceUID=f"1.2.{n}")
    bad = data / "sub-0: t1. x" / "bad: one. two.dcm"
    bad.write_bytes(b"\0" * 128 + b"DICM" + b"\1\2\3" * 30)
    (problem,) = check(str(data)).problems
    assert (problem.kind, problem.file) == ("unreadable", "sub-0: t1. x/bad: one. two.dcm")
    assert str(data) not in problem.reason


def test_pictures_of_a_screen_are_left_out_with_a_warning(tmp_path: Path) -> None:
    for n in range(3):
        series(tmp_path / f"sub-{n}", head(seed=n).transpose(2, 1, 0), SeriesInstanceUID=f"1.2.{n}")
    no_place = {"ImagePositionPatient": None, "ImageOrientationPatient": None}
    kind = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7", "SeriesInstanceUID": "1.9"}
    series(tmp_path / "sub-0" / "screen", head()[:1], **no_place, **kind)
    found = check(str(tmp_path))
    assert kinds(found) == {("left out", "sub-0/screen/IM0000.dcm", False)}
    assert sum(split.images for split in found.splits) == 3


def test_a_series_that_looks_like_a_label_map_is_told(tmp_path: Path) -> None:
    for n in range(3):
        series(tmp_path / f"sub-{n}", head(seed=n).transpose(2, 1, 0), SeriesInstanceUID=f"1.2.{n}")
    series(tmp_path / "sub-7", (head() > 400).astype(np.uint16).transpose(2, 1, 0) * 100, SeriesInstanceUID="1.3")
    assert ("label map", "sub-7", False) in kinds(check(str(tmp_path)))


def test_a_part_of_known_names_is_no_name_for_the_others(tmp_path: Path) -> None:
    for n in range(3):
        save(tmp_path / f"sub-{n}_t1.nii")
    save(tmp_path / "phantom.nii")
    assert ("no subject", "phantom.nii", True) in kinds(check(str(tmp_path)))


def test_values_beyond_any_window_are_told(study: Path) -> None:
    save(study / "sub-8_t1.nii", head().astype(np.float64) * 1e300)
    (problem,) = check(str(study)).problems
    assert (problem.kind, problem.file, problem.remedy) == ("unreadable", "sub-8_t1.nii", "Rescale it.")


def test_copies_and_subjects_in_two_splits(tmp_path: Path) -> None:
    for n in range(3):
        save(tmp_path / f"train/sub-{n}_t1.nii")
    save(tmp_path / "validate/sub-8_t1.nii")
    shutil.copy(tmp_path / "train/sub-0_t1.nii", tmp_path / "train/sub-7_t1.nii")
    shutil.copy(tmp_path / "train/sub-1_t1.nii", tmp_path / "validate/sub-9_t1.nii")
    save(tmp_path / "validate/sub-2_t1.nii")
    found = check(str(tmp_path))
    assert kinds(found) == {
        ("copy", "train/sub-7_t1.nii", False),
        ("copy", "validate/sub-9_t1.nii", True),
        ("in two splits", "validate/sub-2_t1.nii", True),
    }


def test_a_study_without_content_is_fatal(tmp_path: Path) -> None:
    for n in range(3):
        save(tmp_path / f"sub-{n}.nii", head() * 0 + 3)
    assert {(problem.kind, problem.fatal) for problem in check(str(tmp_path)).problems if problem.fatal} == {
        ("constant", True)
    }


def test_guessed_subjects_are_told_until_a_pattern_says(tmp_path: Path) -> None:
    for n in range(4):
        save(tmp_path / f"anna{n}.nii")
    (guess,) = check(str(tmp_path)).problems
    assert (guess.kind, guess.file, guess.fatal) == ("subjects guessed", ".", False)
    assert "--subject-pattern" in guess.remedy
    assert check(str(tmp_path), subject_pattern=r"anna(\d)").problems == ()
    (wrong,) = check(str(tmp_path), subject_pattern=r"bert(\d)").problems
    assert (wrong.kind, wrong.fatal) == ("no subject", True)
    assert "bert" in wrong.reason


def test_faces_are_looked_for_when_asked(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("brainvq.data.looks.shows_face", lambda *_: True)
    assert of(check(str(study)), "face") == []
    found = check(str(study), sharing=True)
    assert len(of(found, "face")) == 6
    assert found.fatal == ()


@pytest.fixture
def bids(tmp_path: Path) -> Path:
    root = tmp_path / "bids"
    for n in range(4):
        save(root / f"sub-{n}/anat/sub-{n}_T1w.nii")
        save(root / f"sub-{n}/anat/sub-{n}_FLAIR.nii", head((8, 8, 8)))
    (root / "dataset_description.json").write_text("{}")
    rows = "participant_id\tage\tsex\nsub-0\t71\tF\nsub-1\tn/a\tM\nsub-2\t64\t\nsub-9\t33\tF\n"
    (root / "participants.tsv").write_text(rows)
    return root


def test_participants_are_compared_with_scans_and_no_value_is_passed_on(bids: Path) -> None:
    found = check(str(bids))
    rows, scans = of(found, "participants")
    assert rows.reason == "1 row without a scan of the kind asked for: sub-9"
    assert scans.reason == "1 subject with scans and without a row: sub-3"
    assert found.fatal == ()
    assert found.participants == {"age": 3, "sex": 3}
    told = json.dumps(found.to_json())
    assert "71" not in told
    assert "64" not in told


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"", b"name\tage\nsub-0\t3\n", b"participant_id\n\0\n"])
def test_a_table_that_is_none_stops_nothing(bids: Path, content: bytes) -> None:
    (bids / "participants.tsv").write_bytes(content)
    found = check(str(bids))
    assert found.fatal == ()
    assert {problem.kind for problem in found.problems} == {"participants"}


def test_the_suffix_says_which_images_of_a_bids_data_set(bids: Path) -> None:
    sizes = {suffix: check(str(bids), suffix=suffix).splits[0].sizes for suffix in ("T1w", "FLAIR")}
    with pytest.raises(InputError, match=r"without \*_T2w images; there are FLAIR \(4\), T1w \(4\)\. .*suffix=FLAIR"):
        check(str(bids), suffix="T2w")
    assert {suffix: list(counts) for suffix, counts in sizes.items()} == {
        "T1w": ["20 x 24 x 16"],
        "FLAIR": ["8 x 8 x 8"],
    }


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small sheets."""
    monkeypatch.setattr(sheet, "DOTS", 30)


def test_slices_of_a_sheet_are_upright_however_the_files_are_stored(tmp_path: Path) -> None:
    """Bright are the right, the front, the top."""
    voxels = head((20, 24, 16), seed=1)
    voxels[14:, 16:, 11:] = voxels[14:, 16:, 7:9] = voxels[14:, 11:13, 11:] = voxels[9:11, 16:, 11:] = 3000
    straight, flip = np.diag([4.0, 4, 6, 1]), np.diag([-4.0, 4, -6, 1])
    flip[:3, 3] = 76, 0, 90
    other = np.array([[0, 0, 4.0, 0], [4.0, 0, 0, 0], [0, 6.0, 0, 0], [0, 0, 0, 1]])
    stored = [
        save(tmp_path / "a.nii", voxels, straight),
        save(tmp_path / "b.nii", voxels[::-1, :, ::-1], flip),
        save(tmp_path / "c.nii", voxels.transpose(1, 2, 0), other),
    ]
    first, *others = (list(cells_of_volume(Item(path, path.name, "1"))) for path in stored)
    assert [cell.label.split()[0] for cell in first] == ["axial", "coronal", "sagittal", *["axial"] * 4]
    assert [cell.aspect for cell in first[:3]] == [1.0, 1.5, 1.5]
    for cell in first[:3]:
        assert cell.image is not None
        rows, columns = np.nonzero(cell.image > 0.99)
        assert rows.mean() < cell.image.shape[0] / 2 < cell.image.shape[1]
        assert columns.mean() > cell.image.shape[1] / 2
    for cells in others:
        for cell, same in zip(first, cells, strict=True):
            assert (cell.label, cell.aspect) == (same.label, same.aspect)
            np.testing.assert_array_equal(cell.image, same.image)


@pytest.mark.usefixtures("quick")
def test_a_sheet_has_a_place_for_what_cannot_be_read(study: Path, tmp_path: Path) -> None:
    for path in list(study.iterdir())[2:]:
        path.unlink()
    next(study.iterdir()).write_text("hello")
    contact_sheet(str(study), tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as image:
        assert min(image.size) > 50


@pytest.mark.parametrize("name", ["sub-1", "site-A_baseline_0001", "W" * 300, "$x^{", "a" * 41])
def test_names_of_a_sheet_keep_both_ends_and_clear_of_the_pictures(name: str) -> None:
    shown = sheet._short(name)
    assert sheet.EDGE + sheet._width(shown) < sheet.LEFT
    start, _, end = shown.partition("…")
    assert shown == name or (name.startswith(start) and name.endswith(end) and abs(len(start) - len(end)) <= 1)
    assert len(shown) >= min(8, len(name))


def test_a_sheet_says_how_much_of_it_all_is_shown(study: Path) -> None:
    items = {"train": [Item(path, path.name, path.name) for path in sorted(study.iterdir())]}
    assert sheet._part(items, sheet._rows(items)[:3], True) == "3 of 7 volumes shown"
    assert sheet._part(items, sheet._rows(items)[:3], False) == "3 of 7 subjects shown, of 7 images"


@pytest.mark.usefixtures("quick")
def test_names_are_drawn_as_they_are(tmp_path: Path) -> None:
    """Neither as mathematics nor as what is no text."""
    for name in ("$5_$", "$x^{", "\\frac", "a\x1b[31m\nb", "\udcff"):
        save(tmp_path / "the $data_" / f"{name}.nii")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        contact_sheet(str(tmp_path / "the $data_"), tmp_path / "sheet.png")


def test_a_sheet_is_not_put_among_the_data(study: Path, call: Any) -> None:
    code, _, err = call("check", study, "--sheet", study / "deep" / "sheet.png")
    assert code == 2
    assert "inside the data" in err
    assert sorted(path.suffix for path in study.iterdir()) == [".nii"] * 7


# What training does with it.


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders of trainings that were begun; none is carried out."""
    begun: list[Path] = []

    def begin(experiment: object, data: object, out: Path, **_: object) -> Path:
        begun.append(out)
        return out

    monkeypatch.setattr(session, "train", begin)
    return begun


def train(data: Path, out: Path, events: list[dict[str, Any]] | None = None, *settings: str) -> None:
    experiment = override(preset("keras_f8"), list(settings))
    session.train_run(experiment, data, out, watch=(events if events is not None else []).append)


def test_the_check_that_is_named_reads_as_the_training_did(
    study: Path, tmp_path: Path, trainings: list[Path], call: Any
) -> None:
    save(study / "sub-0_t1.nii", head() * 0 + 3)
    events: list[dict[str, Any]] = []
    train(study, tmp_path / "run", events, "data.subject_pattern=sub-(\\d)", "data.size=[24,24]")
    (note,) = [event["message"] for event in events if event["event"] == "note"]
    command = note.partition("see ")[2]
    assert command == f"brainvq check {study} --set 'data.subject_pattern=sub-(\\d)' --set 'data.size=[24,24]'"
    code, out, _ = call(*shlex.split(command)[1:])
    assert code == 0
    assert "1 warning" in out


def test_training_begins_with_sound_data_and_tells_warnings_in_a_line(
    study: Path, tmp_path: Path, trainings: list[Path]
) -> None:
    train(study, tmp_path / "run")
    save(study / "sub-0_t1.nii", head() * 0 + 3)
    events: list[dict[str, Any]] = []
    train(study, tmp_path / "again", events)
    assert trainings == [tmp_path / "run", tmp_path / "again"]
    (note,) = [event["message"] for event in events if event["event"] == "note"]
    assert note == f"1 warning about {study}; see brainvq check {study}"
    assert [event["done"] for event in events if event["event"] == "read"] == [7], "what was seen before is not read"


def test_training_is_refused_with_the_first_problems_and_where_to_read_on(
    study: Path, tmp_path: Path, trainings: list[Path]
) -> None:
    for name in refused_volumes(study):
        assert list(study.glob(f"sub-{name}*"))
    with pytest.raises(InputError) as raised:
        train(study, tmp_path / "run")
    said = str(raised.value)
    assert said.startswith(f"{study}: unreadable: sub-")
    assert said.count("unreadable: ") == 5
    assert "and 1 more" in said
    assert said.endswith(f"brainvq check {study}.")
    assert trainings == []
    for path in study.glob("sub-[a-e].*"):
        path.unlink()
    with pytest.raises(InputError, match=r"sub-f\.nii: .*0 x 4 x 4.* Repair it\. "):
        train(study, tmp_path / "run")


def test_a_wrong_output_folder_is_told_before_anything_is_read(
    study: Path, tmp_path: Path, trainings: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("years")
    monkeypatch.setattr(session, "check", lambda *_, **__: pytest.fail("data were read"))
    with pytest.raises(InputError, match="not a run"):
        train(study, tmp_path / "thesis")
    monkeypatch.setenv("RANK", "1")
    train(study, tmp_path / "run")
    monkeypatch.delenv("RANK")
    session.train_run(preset("keras_f8"), "cohort", tmp_path / "heads")
    assert trainings == [tmp_path / "run", tmp_path / "heads"]


def test_a_check_with_the_settings_of_a_training(study: Path, call: Any) -> None:
    code, out, err = call("check", study, "--set", "data.slices=40:50", "--json")
    assert code == 2, err
    assert {problem["kind"] for problem in json.loads(out)["problems"]} == {"no slices"}
    code, out, _ = call("check", study, "--sharing")
    assert code == 0
    assert "Ready to train" in out
    code, out, err = call("check", study, "--set", "data.slice=40:50")
    assert (code, out) == (2, "")
    assert "data.slices" in err
