"""Which files are images of which split and which subject: every layout without a flag, and no subject on two sides."""

import re
import shutil
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.dicom_files import series, volume

from brainvq.data import labels
from brainvq.data.labels import evidence, label_maps
from brainvq.data.layouts import find_layout, natural, split_name
from brainvq.data.scan import Scan
from brainvq.data.sources import Source, open_source, open_splits
from brainvq.data.subjects import by_place, have_form
from brainvq.errors import InputError

RNG = np.random.default_rng(0)


def picture(path: Path, array: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 256, (10, 12), dtype=np.uint8) if array is None else array).save(path)
    return path


def case(subject: int, n: int = 0) -> str:
    return f"case_{subject:03d}_slice_{n}.nii.png"


def fill(folder: Path, subjects: Iterable[int], slices: int = 2) -> Path:
    for subject in subjects:
        for n in range(slices):
            picture(folder / case(subject, n))
    return folder


def counts(sources: dict[str, Source]) -> dict[str, tuple[int, int]]:
    return {split: (len(source), len(source.subjects)) for split, source in sources.items()}


def names(sources: dict[str, Source]) -> list[str]:
    return [item.name for source in sources.values() for item in source.items]


def test_oasis_layout_from_the_folder_its_parent_and_grandparent(slices_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "study" / "data").mkdir(parents=True)
    slices_folder = slices_folder.rename(tmp_path / "study" / "data" / "slices")
    expected = {"train": (12, 3), "validate": (8, 2), "test": (8, 2)}
    at = [open_splits(folder) for folder in (slices_folder, slices_folder.parent, slices_folder.parents[1])]
    assert [counts(sources) for sources in at] == [expected] * 3
    assert names(at[0]) == names(at[1]) == names(at[2])
    assert at[0]["train"].fingerprint == at[2]["train"].fingerprint
    assert at[0]["train"].labels_left_out == 28
    assert at[0]["train"].items[0].name == "keras_png_slices_train/case_001_slice_0.nii.png"
    assert open_source(slices_folder, split="validate").subjects == ("401", "402")


def test_scans_carry_name_and_subject_and_masks_lie_with_them(slices_folder: Path) -> None:
    source = open_source(slices_folder, split="test")
    scan, mask = source[5], source.mask(5)
    assert (scan.name, scan.subject) == ("keras_png_slices_test/case_442_slice_1.nii.png", "442")
    assert mask is not None
    assert set(np.unique(mask)) <= {0, 85, 170, 255}
    with Image.open(slices_folder / "keras_png_slices_seg_test" / "seg_442_slice_1.nii.png") as image:
        np.testing.assert_array_equal(mask, np.array(image))
    shutil.rmtree(slices_folder / "keras_png_slices_seg_test")
    assert source.mask(5) is None


@pytest.mark.parametrize("validate", ["validate", "val", "validation", "VAL"])
def test_split_folders_with_class_folders(tmp_path: Path, validate: str) -> None:
    for split, subjects in {"train": (1, 2), validate: (3,), "test": (4, 5)}.items():
        for subject in subjects:
            picture(tmp_path / split / ("AD" if subject % 2 else "CN") / case(subject))
    assert counts(open_splits(tmp_path)) == {"train": (2, 2), "validate": (1, 1), "test": (2, 2)}


def test_split_folders_inside_class_folders(tmp_path: Path) -> None:
    fill(tmp_path / "Train_images" / "keras_png_slices_train", (1, 2))
    fill(tmp_path / "Validate_images" / "keras_png_slices_validate", (3,))
    fill(tmp_path / "Test_images" / "keras_png_slices_test", (4,))
    assert counts(open_splits(tmp_path)) == {"train": (4, 2), "validate": (2, 1), "test": (2, 1)}
    renamed = tmp_path.with_name("renamed")
    for split in ("train", "validate", "test"):
        (tmp_path / f"{split.title()}_images").rename(renamed := tmp_path / f"any {split}")
    assert counts(open_splits(renamed.parent)) == {"train": (4, 2), "validate": (2, 1), "test": (2, 1)}


def test_one_oasis_folder_by_itself_keeps_its_split(slices_folder: Path) -> None:
    assert counts(open_splits(slices_folder / "keras_png_slices_validate")) == {"validate": (8, 2)}
    assert counts(open_splits(slices_folder / "keras_png_slices_train")) == {"train": (8, 2), "validate": (4, 1)}


def test_missing_validate_is_taken_from_train_never_from_test(tmp_path: Path) -> None:
    fill(tmp_path / "train", range(20))
    fill(tmp_path / "test", range(90, 95))
    sources = open_splits(tmp_path)
    assert counts(sources) == {"train": (36, 18), "validate": (4, 2), "test": (10, 5)}
    assert set(sources["test"].subjects) == {f"{n:03d}" for n in range(90, 95)}


@pytest.mark.parametrize(("subjects", "expected"), [(2, (1, 1, 0)), (5, (4, 1, 0)), (10, (8, 1, 1)), (40, (32, 4, 4))])
def test_a_flat_folder_is_split_by_subject(tmp_path: Path, subjects: int, expected: tuple[int, ...]) -> None:
    fill(tmp_path, range(subjects), slices=3)
    sources = open_splits(tmp_path)
    sizes = tuple(len(sources[split].subjects) if split in sources else 0 for split in ("train", "validate", "test"))
    assert sizes == expected
    assert sum(len(source) for source in sources.values()) == 3 * subjects
    sides = [set(source.subjects) for source in sources.values()]
    assert sum(map(len, sides)) == len(set().union(*sides)) == subjects
    assert names(open_splits(tmp_path)) == names(sources)
    assert len(open_source(tmp_path, split=None)) == 3 * subjects


def test_the_seed_changes_a_flat_split(tmp_path: Path) -> None:
    fill(tmp_path, range(30), slices=1)
    held = {open_source(tmp_path, split="validate", seed=seed).subjects for seed in range(4)}
    assert len(held) > 1


def test_one_subject_cannot_be_split_but_can_be_opened(tmp_path: Path) -> None:
    fill(tmp_path, [7], slices=5)
    with pytest.raises(InputError, match=r"one subject, '007'.*two at least"):
        open_splits(tmp_path)
    assert len(open_source(tmp_path, split=None)) == 5


def test_natural_order(tmp_path: Path) -> None:
    fill(tmp_path, (10, 9), slices=12)
    source = open_source(tmp_path, split=None)
    assert [item.name for item in source.items] == [case(s, n) for s in (9, 10) for n in range(12)]
    assert source.subjects == ("009", "010")


@given(st.lists(st.text(alphabet="a1٣²_0.", max_size=6)))
def test_natural_order_is_total_for_any_names(texts: list[str]) -> None:
    ordered = sorted(texts, key=natural)
    assert all(natural(a) <= natural(b) for a, b in pairwise(ordered))


def test_label_maps_by_name_are_left_out(tmp_path: Path) -> None:
    fill(tmp_path, range(4))
    noise = RNG.integers(0, 256, (10, 12), dtype=np.uint8)  # so that only the name can tell
    for name in ["seg_001_slice_0.png", "case_001_seg_0.png", "sub_tissues.png", "case_002_slice_0_seg.png"]:
        picture(tmp_path / name, noise)
    for folder in ["seg_maps", "keras_png_slices_seg_train", "my_tissues_2", "keras_png_slices_lesions_train"]:
        picture(tmp_path / folder / case(1), noise)
    source = open_source(tmp_path, split=None)
    assert len(source) == 8
    assert source.labels_left_out == 8


@pytest.mark.parametrize("values", [(0, 85, 170, 255), (0, 1, 2, 3), (0, 255), (0, 1)])
@pytest.mark.parametrize("suffix", [".png", ".npy", ".tif"])
def test_label_maps_are_told_by_their_pixels(tmp_path: Path, values: tuple[int, ...], suffix: str) -> None:
    for subject in range(5):
        picture(tmp_path / case(subject))
        labels = np.zeros((40, 40), np.uint8)
        for ring, value in enumerate(values[1:], start=1):
            labels[5 * ring : -5 * ring, 4 * ring + subject : -5 * ring] = value
        path = tmp_path / f"case_{subject:03d}_slice_0_truth{suffix}"
        np.save(path, labels.astype(np.int16)) if suffix == ".npy" else picture(path, labels)
    source = open_source(tmp_path, split=None)
    assert len(source) == 5
    assert source.labels_left_out == 5
    assert not any("truth" in item.name for item in source.items)


def test_black_and_nearly_black_slices_are_no_label_maps(tmp_path: Path) -> None:
    for subject in range(3):
        picture(tmp_path / f"case_{subject}_slice_black.png", np.zeros((40, 40), np.uint8))
        picture(tmp_path / f"case_{subject}_slice_faint.png", RNG.poisson(0.8, (40, 40)).astype(np.uint8))
        picture(tmp_path / f"case_{subject}_slice_specks.png", (RNG.random((40, 40)) > 0.97).astype(np.uint8))
    assert len(open_source(tmp_path, split=None)) == 9


def test_a_black_slice_among_label_maps_goes_with_them(tmp_path: Path) -> None:
    labels = np.zeros((40, 40), np.uint8)
    labels[10:30, 10:30] = 1
    for n in range(4):
        picture(tmp_path / case(n))
        picture(tmp_path / f"case_{n:03d}_slice_0_truth.png", labels * (n > 0))
    assert len(open_source(tmp_path, split=None)) == 4


def blobs(*values: float, dtype: str = "int16", background: float = 0) -> np.ndarray:
    """(20, 20, 20): a box of each value, one beside the other."""
    voxels = np.full((20, 20, 20), background, dtype)
    for n, box in enumerate(np.array_split(np.arange(2, 18), len(values))):
        voxels[box[0] : box[-1] + 1, 4:16, 4:16] = values[n]
    return voxels


def test_a_volume_is_judged_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """However alike the names; one of a single value, such as a lesion map without lesions, goes with the maps."""
    noise = RNG.normal(300, 90, (20, 20, 20)).astype(np.int16)
    stored = {
        "p1_1": noise,
        "p1_2": blobs(3, 7),
        "p2_1": noise + 1,
        "p2_2": blobs(3),
        "p3_2": blobs(0),
        "other": blobs(0),
    }
    monkeypatch.setattr(labels, "read", lambda path: Scan(stored[path.stem], np.eye(4), None, "a"))
    paths = [Path(f"{name}.nii") for name in stored]
    assert {path.stem for path in label_maps(paths)} == {"p1_2", "p2_2", "p3_2"}
    assert label_maps(paths, {path: (path,) for path in paths}) == set(), "of a series"


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_what_labels_of_a_volume_look_like(dtype: str) -> None:
    def of_labels(voxels: np.ndarray) -> bool:
        return evidence(voxels.astype(dtype)).of_labels

    assert of_labels(blobs(1, 2, 3))
    assert of_labels(blobs(2, 41, 17, background=5)), "background need not be the least"
    odd = blobs(1, 2, background=3)
    odd[0, 0, 0] = 0
    assert of_labels(odd)
    assert not of_labels(np.where(blobs(1) > 0, RNG.integers(0, 200, (20, 20, 20)), 3)), "noise on a background"
    larger = RNG.integers(0, 200, (12, 12, 12)).repeat(4, 0).repeat(4, 1).repeat(4, 2)
    assert not of_labels(larger), "a scan of which each voxel is repeated"
    flat = np.where(blobs(1) > 0, RNG.integers(100, 120, (20, 20, 20)), 10)
    flat[0, 0, 0] = 0
    assert not of_labels(flat), "a single voxel below a constant background"


def test_nothing_but_label_maps_is_refused(tmp_path: Path) -> None:
    labels = np.zeros((40, 40), np.uint8)
    labels[10:30, 10:30] = 1
    picture(tmp_path / case(1), labels)
    with pytest.raises(InputError, match="holds nothing but 1 label map "):
        open_splits(tmp_path)


def test_other_files_and_hidden_ones_are_ignored(tmp_path: Path) -> None:
    fill(tmp_path, range(3))
    for name in ["Thumbs.db", ".DS_Store", "._case_001_slice_0.nii.png", "subjects.csv", "notes.txt", ".git/a.png"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"not an image")
    assert len(open_source(tmp_path, split=None)) == 6


def test_links_are_followed_and_circles_end(tmp_path: Path) -> None:
    real = fill(tmp_path / "real", range(3))
    data = tmp_path / "data"
    data.mkdir()
    (data / "slices").symlink_to(real)
    (data / "train").symlink_to(fill(tmp_path / "elsewhere", range(5)))
    (real / "circle").symlink_to(data)
    assert open_source(data, split=None).subjects == ("000", "001", "002", "003", "004")
    (tmp_path / "again").symlink_to(data)  # the same split folder met twice is one data set
    assert len(open_source(tmp_path, split=None)) == 10


def test_a_folder_and_a_link_to_it_are_one(tmp_path: Path) -> None:
    fill(tmp_path / "real", range(3))
    (tmp_path / "zlink").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "again").symlink_to(tmp_path)
    assert len(open_source(tmp_path, split=None)) == 6


def test_folders_that_all_link_to_each_other_are_gone_through_once(tmp_path: Path) -> None:
    folders = [fill(tmp_path / f"d{n}", [n], slices=1) for n in range(10)]
    for folder in folders:
        for other in folders:
            (folder / f"to_{other.name}").symlink_to(other)
    assert len(open_source(tmp_path, split=None)) == 10


def test_split_folders_of_links_into_a_pool_beside_them(tmp_path: Path) -> None:
    """The pool is met first; and a subject that both splits link to is seen in both."""
    for n in range(4):
        fill(tmp_path / "pool" / str(n), [n])
    for split, subjects in {"train": (0, 1, 2), "validate": (3,)}.items():
        (tmp_path / split).mkdir()
        for n in subjects:
            (tmp_path / split / f"s{n}").symlink_to(tmp_path / "pool" / str(n))
    assert counts(open_splits(tmp_path)) == {"train": (6, 3), "validate": (2, 1)}
    (tmp_path / "validate" / "s0").symlink_to(tmp_path / "pool" / "0")
    with pytest.raises(InputError, match="are of one subject"):
        open_splits(tmp_path)


def test_an_entry_that_cannot_be_looked_at_is_named_and_hides_nothing(tmp_path: Path) -> None:
    fill(tmp_path, range(3))
    (tmp_path / "self").symlink_to("self")
    layout = find_layout(tmp_path)
    assert len(layout.images["all"]) == 6
    assert list(layout.broken) == [tmp_path / "self"]
    with pytest.raises(InputError, match=r"self: cannot be read .*remove it"):
        open_splits(tmp_path)
    for file in tmp_path.glob("*.png"):
        file.unlink()
    with pytest.raises(InputError, match="self: cannot be read"):
        open_splits(tmp_path)


def test_a_broken_link_is_named(tmp_path: Path) -> None:
    fill(tmp_path, [1])
    (tmp_path / "case_002_slice_0.nii.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(InputError, match="case_002_slice_0"):
        open_source(tmp_path, split=None)[2]


@pytest.mark.parametrize(
    "name",
    [
        "sub-07/anat/slice_1.png",
        "OAS1_0007_MR1_5.png",
        "subject_7_2.png",
        "patient-7.png",
        "IXI007-Guys_3.png",
        "Case7_1.png",
    ],
)
def test_common_forms_of_names(tmp_path: Path, name: str) -> None:
    picture(tmp_path / name)
    (subject,) = open_source(tmp_path, split=None).subjects
    assert subject.endswith("7")


def test_custom_patterns(tmp_path: Path) -> None:
    for subject in "abc":
        for n in range(2):
            picture(tmp_path / f"{subject}x{n}.png")
    assert open_source(tmp_path, split=None, subject_pattern=r"([a-z])x\d").subjects == ("a", "b", "c")
    named = r"(?P<subject>[a-z])x(\d)"
    assert open_source(tmp_path, split=None, subject_pattern=named).subjects == ("a", "b", "c")


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        (None, "--subject-pattern"),
        ("([a-z", "not a regular expression"),
        ("[a-z]x", "0 groups"),
        ("([a-z])x([0-9])", "2 groups"),
        ("(zzz)", "matches none of 6 files"),
        ("([ab])x", r"cx0\.png: no subject.*matches 4 of 6"),
        ("(q?)x", "matches none"),
    ],
)
def test_patterns_that_give_no_subject_are_refused(tmp_path: Path, pattern: str | None, words: str) -> None:
    for subject in "abc":
        for n in range(2):
            picture(tmp_path / f"{subject}x{n}.png")
    with pytest.raises(InputError, match=words):
        open_source(tmp_path, split=None, subject_pattern=pattern)


def test_a_subject_in_two_split_folders_is_refused(tmp_path: Path) -> None:
    fill(tmp_path / "train", (1, 2, 3))
    fill(tmp_path / "test", (2, 3, 4))
    with pytest.raises(InputError, match=r"in both: 2 subjects, 002, 003"):
        open_splits(tmp_path)


def test_two_data_sets_are_refused_rather_than_mixed(tmp_path: Path) -> None:
    for name in "ab":
        fill(tmp_path / name / "train", [1])
    with pytest.raises(InputError, match=r"a/train and .*b/train.*two data sets"):
        open_splits(tmp_path)
    fill(tmp_path / "c" / "train" / "test", [1])
    with pytest.raises(InputError, match="inside a train folder"):
        open_splits(tmp_path / "c")


def test_what_holds_no_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        open_splits(tmp_path / "missing")
    with pytest.raises(InputError, match=r"no images found.*empty"):
        open_splits(tmp_path)
    (tmp_path / "scan.mgz").touch()
    with pytest.raises(InputError, match=r"Seen: 1 \.mgz"):
        open_splits(tmp_path)
    with pytest.raises(InputError, match="a file; a folder"):
        open_splits(picture(tmp_path / "a.png"))


def test_an_absent_or_unknown_split_says_what_there_is(slices_folder: Path) -> None:
    shutil.rmtree(slices_folder / "keras_png_slices_test")
    with pytest.raises(InputError, match="no test images, only train, validate"):
        open_source(slices_folder, split="test")
    with pytest.raises(InputError, match="'valid' is unknown"):
        open_source(slices_folder, split="valid")  # type: ignore[arg-type]


def test_a_broken_file_is_named_when_its_scan_is_read(slices_folder: Path) -> None:
    broken = slices_folder / "keras_png_slices_train" / case(2, 1)
    broken.write_bytes(broken.read_bytes()[:-40])
    with pytest.raises(InputError, match=re.escape(str(broken))):
        open_source(slices_folder, split="train")[5]


def test_the_fingerprint_changes_with_content_names_and_files_alone(slices_folder: Path) -> None:
    def fingerprint() -> str:
        return open_source(slices_folder, split="train").fingerprint

    first, path = fingerprint(), slices_folder / "keras_png_slices_train" / case(1)
    path.touch()
    assert fingerprint() == first
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))  # same size
    changed = fingerprint()
    path.write_bytes(content)
    assert fingerprint() == first
    path.rename(path.with_name(case(1, 9)))
    assert len({first, changed, fingerprint()}) == 3


# Whose volumes, where no name tells.


def test_a_name_of_known_form_wants_all_names_to_have_one(tmp_path: Path) -> None:
    """Else the sessions of sub-01 would be subjects of their own, as soon as a phantom lies beside them."""
    for name in ("sub-01_ses-1", "sub-01_ses-2", "sub-02_ses-1", "phantom"):
        series(
            tmp_path / name,
            volume(3),
            SeriesInstanceUID=f"1.{len(name)}.{name[-1].encode()[0]}.{name[5:6].encode()[0]}",
        )
    with pytest.raises(InputError, match=r"phantom: no subject in its name"):
        open_source(tmp_path, split=None)
    shutil.rmtree(tmp_path / "phantom")
    assert open_source(tmp_path, split=None).subjects == ("01", "02")


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["anna", "bert"], False),
        (["anna", "ms_patient20"], False),  # a loose form, by chance
        (["anna", "patient20_a", "patient20_b"], True),  # a guess would part these two
        (["patient1", "patient2"], True),
        (["anna", "sub-01"], True),
    ],
)
def test_which_names_tell_their_subjects(names: list[str], told: bool) -> None:
    assert have_form([f"{name}.nii" for name in names]) is told


def test_folders_called_by_numbers_with_dots_stay_apart() -> None:
    names = {Path(name): name for name in (f"1.2.840.5.{n}" for n in range(9))}
    assert list(by_place(names, {}).values()) == list(names.values())
    files = {Path(name): name for name in ("a.1.nii.gz", "a.2.NII", "b.dcm")}
    assert list(by_place(files, {}).values()) == ["a.1", "a.2", "b"]


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_who_shares_an_owner_is_one_subject_and_nobody_else(data: st.DataObject) -> None:
    """Held against all chains of shared owners and places."""
    names = st.builds("".join, st.tuples(st.sampled_from(["", "p1/", "p2/", "p2/x/"]), st.sampled_from("abcd")))
    paths = {Path(name): name for name in data.draw(st.lists(names, unique=True, min_size=1, max_size=8))}
    owners = {path: frozenset(data.draw(st.sets(st.sampled_from("123"), max_size=2))) for path in paths}
    alone, found = by_place(paths, {}), by_place(paths, owners)
    near = np.array([[bool(owners[a] & owners[b]) or alone[a] == alone[b] for a in paths] for b in paths], np.int64)
    same = np.array([[found[a] == found[b] for a in paths] for b in paths])
    np.testing.assert_array_equal(same, np.linalg.matrix_power(near, len(paths)) > 0)


def test_series_of_one_exam_or_patient_are_one_subject(tmp_path: Path) -> None:
    for n, (exam, patient) in enumerate([("1", "x"), ("1", None), ("2", "x"), ("3", "y"), ("4", None), ("4", "")]):
        own = {"StudyInstanceUID": f"1.7.{exam}", "PatientID": patient, "SeriesInstanceUID": f"1.2.{n}"}
        series(tmp_path / f"anna{n}", volume(3), **own)
    found = {item.name: item.subject for item in open_source(tmp_path, split=None).items}
    assert list(found.values()) == ["anna0", "anna0", "anna0", "anna3", "anna4", "anna4"]
    (tmp_path / "train").mkdir()
    (tmp_path / "validate").mkdir()
    for name in found:
        (tmp_path / name).rename(tmp_path / ("validate" if name == "anna5" else "train") / name)
    with pytest.raises(InputError, match=r"anna4 \(train\) and .*anna5 \(validate\) are of one subject"):
        open_splits(tmp_path)


def test_a_subject_of_many_series_is_called_as_their_folder(tmp_path: Path) -> None:
    for patient in ("p", "q"):
        for n in range(5):
            own = {"PatientID": patient, "SeriesInstanceUID": f"1.{ord(patient)}.{n}"}
            series(tmp_path / patient / f"ser{n}", volume(3), **own)
    assert open_source(tmp_path, split=None).subjects == ("p", "q")


def test_names_that_are_no_text_are_divided(tmp_path: Path) -> None:
    for n in range(3):
        path = picture(tmp_path / f"{n}.png")
        path.rename(tmp_path / f"scan_\udcff{n}.png")
    sources = open_splits(tmp_path, subject_pattern=r"scan_(.*)\.png")
    assert counts(sources)["validate"] == (1, 1)


def test_a_series_may_lie_in_several_folders(tmp_path: Path) -> None:
    for n in range(3):
        stack = volume(6) + n
        for part, at in (("a", slice(0, 3)), ("b", slice(3, 6))):
            places = [(0, 0, 2 * k) for k in range(6)][at]
            own = {"SeriesInstanceUID": f"1.{n}", "PatientID": str(n)}
            series(tmp_path / f"case_{n}" / part, stack[at], positions=places, **own)
    source = open_source(tmp_path, split=None)
    assert [item.name for item in source.items] == ["case_0", "case_1", "case_2"]
    assert [source[n].voxels.shape for n in range(3)] == [(7, 6, 6)] * 3
    copy = tmp_path / "case_0" / "copy"
    copy.mkdir()
    for file in (tmp_path / "case_0").rglob("*.dcm"):
        shutil.copy(file, copy / f"{file.parent.name}{file.name}")
    names_now = {item.name for item in open_source(tmp_path, split=None).items}
    assert names_now >= {"case_0/copy", "case_1", "case_2"}


@pytest.mark.parametrize("kind", [["ORIGINAL", "PRIMARY", "LOCALIZER"], ["DERIVED", "SECONDARY"]])
def test_a_folder_without_a_volume_says_so(tmp_path: Path, kind: list[str]) -> None:
    places = {} if "LOCALIZER" in kind else {"ImagePositionPatient": None, "ImageOrientationPatient": None}
    series(tmp_path / "s", volume(3), ImageType=kind, **places)
    with pytest.raises(InputError, match="localisers" if "LOCALIZER" in kind else "IM0000.dcm: says not where it lies"):
        find_layout(tmp_path)


def test_split_names() -> None:
    assert [split_name(n) for n in ("train", "Val", "valid", "keras_png_slices_test", "Train_images", "testing")] == [
        *("train", "validate", "validate", "test", "train", "test")
    ]
    assert not any(map(split_name, ("trained", "contest", "test_subjects_only", "slices_train", "t")))


def test_oasis(shared: Path) -> None:
    sources = open_splits(shared / "oasis")
    assert counts(sources) == {"train": (4832, 151), "validate": (1120, 35)}
    assert not set(sources["train"].subjects) & set(sources["validate"].subjects)
    assert all(not item.name.startswith("keras_png_slices_seg") for source in sources.values() for item in source.items)
    mask = sources["validate"].mask(17)
    assert mask is not None
    assert set(np.unique(mask)) == {0, 85, 170, 255}
    assert sources["train"].mask(0) is None
