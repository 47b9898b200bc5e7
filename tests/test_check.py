"""`check` names every fault of a folder, not the first alone, and says the same of it as training does."""

import io
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from brainvq.check import Findings, Problem, check, contact_sheet, table
from brainvq.data.loader import open_cache
from brainvq.data.sources import open_source, open_splits
from brainvq.errors import InputError

TRAIN, VALIDATE = "keras_png_slices_train", "keras_png_slices_validate"


@pytest.fixture(autouse=True)
def _cache_beside(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not below `tmp_path`, which is the data folder of some tests."""
    monkeypatch.setenv("BRAINVQ_CACHE", str(tmp_path_factory.mktemp("cache")))


def of(findings: Findings, kind: str) -> list[Problem]:
    return [problem for problem in findings.problems if problem.kind == kind]


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


def head(brightness: float, rng: np.random.Generator, size: int = 48) -> np.ndarray:
    """A bright disc on faint noise."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    image = brightness * (np.hypot(y, x) < 0.8) * rng.uniform(0.8, 1.2, x.shape) + rng.rayleigh(2, x.shape)
    return image.clip(0, 255).astype(np.uint8)


def test_a_sound_folder_has_no_problems_and_its_facts(slices_folder: Path, cache: Path) -> None:
    seen: list[tuple[int, int]] = []
    found = check(str(slices_folder), progress=lambda done, total: seen.append((done, total)))
    assert found.problems == ()
    assert [(s.name, s.subjects, s.images, s.slices) for s in found.splits] == [
        ("train", 3, 12, (4, 4)),
        ("validate", 2, 8, (4, 4)),
        ("test", 2, 8, (4, 4)),
    ]
    assert found.splits[0].sizes == {"32 x 24": 12}
    assert found.splits[0].types == {"uint8": 12}
    assert found.label_maps_left_out == 28
    assert found.subject_pattern == r"case_(\d+)_slice_"
    train = open_cache(open_source(slices_folder, split="train"))
    assert (found.mean, found.variance) == (train.mean, train.variance)
    assert seen == [(n + 1, 28) for n in range(28)]
    assert json.loads(json.dumps(found.to_json()))["trainable"] is True


def test_moments_of_mixed_types_are_those_of_the_loader(slices_folder: Path, cache: Path) -> None:
    path = slices_folder / TRAIN / "case_001_slice_0.nii.png"
    Image.fromarray(pixels(path).astype(np.uint16) * 13).save(path)
    found = check(str(slices_folder))
    train = open_cache(open_source(slices_folder, split="train"))
    assert (found.mean, found.variance) == (train.mean, train.variance)
    (odd,) = of(found, "mixed types")
    assert odd.file == f"{TRAIN}/case_001_slice_0.nii.png"
    assert not odd.fatal


def test_every_bad_file_is_named_with_its_reason(slices_folder: Path) -> None:
    train = slices_folder / TRAIN
    good = pixels(train / "case_001_slice_0.nii.png")
    whole = (train / "case_001_slice_0.nii.png").read_bytes()
    bad = {f"case_002_slice_{n}.nii.png": word for n, word in enumerate(("not a PNG", "broken", "colour", "1 x 1"))}
    text, cut, colour, point = bad
    (train / text).write_text("hello")
    (train / cut).write_bytes(whole[: len(whole) // 2])
    Image.fromarray(np.stack([good, good, 255 - good], axis=-1)).save(train / colour)
    Image.fromarray(good[:1, :1]).save(train / point)
    np.save(train / "case_003_slice_9.npy", np.where(good > 99, np.nan, good).astype(np.float32))
    bad["case_003_slice_9.npy"] = "NaN"
    found = check(str(slices_folder))
    assert {problem.file for problem in of(found, "unreadable")} == {f"{TRAIN}/{name}" for name in bad}
    for problem in of(found, "unreadable"):
        assert bad[Path(problem.file).name] in problem.reason
        assert problem.fatal
        assert problem.remedy.endswith(".")
        assert str(slices_folder) not in problem.reason
    assert found.splits[0].images == 13
    assert not found.to_json()["trainable"]


def test_many_kinds_of_fault_at_once(slices_folder: Path) -> None:
    train, validate = slices_folder / TRAIN, slices_folder / VALIDATE
    (train / "case_001_slice_0.nii.png").write_bytes(b"")
    Image.fromarray(pixels(train / "case_001_slice_1.nii.png")[:-2]).save(train / "case_001_slice_1.nii.png")
    Image.fromarray(np.full((32, 24), 7, np.uint8)).save(train / "case_002_slice_1.nii.png")
    shutil.copy(train / "case_003_slice_0.nii.png", train / "case_003_slice_2.nii.png")
    shutil.copy(train / "case_003_slice_1.nii.png", validate / "case_401_slice_1.nii.png")
    shutil.copy(train / "case_002_slice_0.nii.png", validate / "case_002_slice_9.nii.png")
    found = check(str(slices_folder))
    assert Counter((problem.kind, problem.fatal) for problem in found.problems) == {
        ("unreadable", True): 1,
        ("mixed sizes", True): 1,
        ("in two splits", True): 1,
        ("copy", True): 2,
        ("copy", False): 1,
        ("constant", False): 1,
    }
    assert "30 x 24 pixels (height x width)" in of(found, "mixed sizes")[0].reason
    assert of(found, "in two splits")[0].reason == "subject 002 is in train (4) and validate (1)"
    assert of(found, "copy")[-1].file == f"{TRAIN}/case_003_slice_2.nii.png"
    assert "slice_0" in of(found, "copy")[-1].reason
    assert [problem.fatal for problem in found.problems] == sorted((p.fatal for p in found.problems), reverse=True)


def test_a_train_split_without_content_is_fatal(slices_folder: Path) -> None:
    for path in (slices_folder / TRAIN).iterdir():
        Image.fromarray(np.full((32, 24), 3, np.uint8)).save(path)
    found = check(str(slices_folder))
    assert {(problem.kind, problem.fatal) for problem in found.problems} == {("constant", True)}
    assert len(found.fatal) == 12


def test_empty_slices_are_not_copies_of_each_other(slices_folder: Path) -> None:
    for split in (TRAIN, VALIDATE):
        path = sorted((slices_folder / split).iterdir())[0]
        Image.fromarray(np.zeros((32, 24), np.uint8)).save(path)
    found = check(str(slices_folder))
    assert {problem.kind for problem in found.problems} == {"constant"}
    assert found.fatal == ()


def test_a_darkened_slice_is_told_and_a_small_head_is_not(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for subject in range(4):
        for n in range(5):
            image = head(100 if (subject, n) == (2, 3) else 140, rng)
            if n == 4:  # the vertex: a dim dot of a head
                image = np.where(np.hypot(*np.mgrid[-1:1:48j, -1:1:48j]) < 0.2, image // 2, image // 100)
            Image.fromarray(image.astype(np.uint8)).save(tmp_path / f"case_{subject}_slice_{n}.png")
    (dark,) = check(str(tmp_path)).problems
    assert (dark.kind, dark.file, dark.fatal) == ("brightness", "case_2_slice_3.png", False)
    assert "subject 2: the head is 1.4" in dark.reason


@pytest.mark.parametrize("name", ["train", "validate"])
def test_an_empty_split_folder_is_told(slices_folder: Path, name: str) -> None:
    for path in (slices_folder / f"keras_png_slices_{name}").iterdir():
        path.unlink()
    found = check(str(slices_folder))
    (empty,) = found.problems
    assert (empty.kind, empty.file) == ("empty split", f"keras_png_slices_{name}")
    assert empty.fatal == (name == "train"), "a tenth of the training subjects stands in for validate"
    assert empty.fatal == ("train" not in open_splits(slices_folder))


def test_a_missing_train_split_is_told(slices_folder: Path) -> None:
    shutil.rmtree(slices_folder / TRAIN)
    (missing,) = check(str(slices_folder)).problems
    assert (missing.kind, missing.file, missing.fatal) == ("empty split", ".", True)
    assert "no train images" in missing.reason


def test_files_without_a_subject_do_not_hide_other_faults(slices_folder: Path) -> None:
    train = slices_folder / TRAIN
    (train / "case_001_slice_0.nii.png").rename(train / "scan7.png")
    (train / "case_001_slice_1.nii.png").write_text("hello")
    found = check(str(slices_folder))
    assert {(problem.kind, problem.file) for problem in found.problems} == {
        ("no subject", f"{TRAIN}/scan7.png"),
        ("unreadable", f"{TRAIN}/case_001_slice_1.nii.png"),
    }
    assert (found.splits[0].subjects, found.splits[0].images) == (3, 12)


def test_names_that_no_pattern_knows(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for n in range(8):
        Image.fromarray(head(140, rng)).save(tmp_path / f"scan{n // 2}_{n % 2}.png")
    (problem,) = check(str(tmp_path)).problems
    assert (problem.kind, problem.fatal) == ("no subject", True)
    assert "--subject-pattern" in problem.remedy
    found = check(str(tmp_path), subject_pattern=r"scan(\d)_")
    assert found.problems == ()
    assert sum(split.subjects for split in found.splits) == 4
    with pytest.raises(InputError, match="groups"):
        check(str(tmp_path), subject_pattern="scan")
    with pytest.raises(InputError, match="regular expression"):
        check(str(tmp_path), subject_pattern="(")


def test_one_subject_cannot_be_split(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for n in range(3):
        Image.fromarray(head(140, rng)).save(tmp_path / f"case_1_slice_{n}.png")
    (problem,) = check(str(tmp_path)).problems
    assert (problem.kind, problem.fatal) == ("one subject", True)


def test_label_maps_alone_are_no_data(slices_folder: Path, tmp_path: Path) -> None:
    for path in (slices_folder / "keras_png_slices_seg_train").iterdir():
        (tmp_path / "plain").mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / "plain" / path.name.replace("seg_", "case_"))
    (problem,) = check(str(tmp_path / "plain")).problems
    assert (problem.kind, problem.fatal) == ("label map", True)


def test_a_folder_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        check(str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="no images found"):
        check(str(tmp_path))


def test_the_table_counts_and_does_not_read_names_as_markup(slices_folder: Path) -> None:
    for n in range(7):
        (slices_folder / TRAIN / f"case_001_slice_{n}[red].png").write_text("hello")
    console = Console(width=200, file=io.StringIO())
    console.print(table(check(str(slices_folder))))
    text = console.file.getvalue()
    assert "unreadable (7)" in text
    assert "slice_4[red].png" in text
    assert "slice_5[red].png" not in text
    assert "and 2 more" in text
    assert "Not ready: 7 problems" in text


def test_contact_sheet_shows_slices_of_every_split_and_bad_files(slices_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "sheet.png"
    contact_sheet(str(slices_folder), path)
    good = pixels(path)
    (slices_folder / TRAIN / "case_001_slice_0.nii.png").write_text("hello")
    path.unlink()
    contact_sheet(str(slices_folder), path)
    assert pixels(path).shape == good.shape
    assert (pixels(path) != good).any()
    with pytest.raises(InputError, match="exists"):
        contact_sheet(str(slices_folder), path)
    with pytest.raises(InputError, match=r"\.png"):
        contact_sheet(str(slices_folder), tmp_path / "sheet.txt")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["keras_png_slices_data", "sheet.png"]


def test_real_slices_are_ready_and_an_uneven_subject_is_told(shared: Path, tmp_path: Path) -> None:
    images = shared / "oasis" / "keras_png_slices_data"
    for split, subjects in {TRAIN: ("001", "042"), VALIDATE: ("402",)}.items():
        (tmp_path / split).mkdir()
        for subject in subjects:
            for path in (images / split).glob(f"case_{subject}_slice_*"):
                (tmp_path / split / path.name).symlink_to(path)
    found = check(str(tmp_path))
    assert found.fatal == ()
    assert [(p.kind, p.file) for p in found.problems] == [("brightness", f"{TRAIN}/case_042_slice_19.nii.png")]
