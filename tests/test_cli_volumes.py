"""Volumes through the command line: what goes in comes back in its own place, under its own name."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from tests.dicom_files import series, volume

from brainvq import session
from brainvq.data.scan import Scan
from brainvq.data.sources import open_source
from brainvq.data.transforms import frame_of
from brainvq.inputs import scans_in

Call = Callable[..., tuple[int, str, str]]
RNG = np.random.default_rng(0)


def brain(shape: tuple[int, int, int], dtype: str = "int16") -> np.ndarray:
    axes = np.meshgrid(*[np.linspace(-1.3, 1.3, n) for n in shape], indexing="ij")
    inside = sum(axis**2 for axis in axes) < 1
    return np.where(inside, RNG.normal(800, 50, shape), RNG.normal(5, 2, shape)).clip(0).astype(dtype)


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Volumes of several kinds, one below another folder, and a label map."""
    folder = tmp_path / "scans"
    (folder / "deep").mkdir(parents=True)
    turned = np.array([[0, 0, 1.5, -20], [-0.9, 0.1, 0, 30], [0.1, 0.9, 0, 5], [0, 0, 0, 1]])
    first = nib.Nifti1Image(brain((24, 20, 18)), turned)
    first.header.set_xyzt_units("mm")
    first.header["descrip"] = b"Jane Roe"
    nib.save(first, folder / "a.nii.gz")
    scaled = nib.Nifti2Image(brain((20, 30, 10), "uint16"), np.diag([-2.0, 2, 3, 1]))
    scaled.header.set_slope_inter(0.5, 10)
    nib.save(scaled, folder / "deep" / "b.nii")
    nib.save(nib.AnalyzeImage(brain((16, 16, 16)), np.diag([-3.0, 3, 3, 1])), folder / "c.img")
    nib.save(nib.Nifti1Image((brain((9, 9, 9)) > 400).astype(np.uint8), np.eye(4)), folder / "a_seg.nii.gz")
    return folder


def test_volumes_come_back_in_their_own_geometry(scans: Path, tmp_path: Path, call: Call) -> None:
    out = tmp_path / "out"
    code, shown, err = call("reconstruct", "brain_f8", scans, "--out", out)
    assert code == 0, err
    assert "3 volumes: " in shown
    assert "1 label map left out" in err
    assert "a.nii.gz" in shown
    assert "Not for diagnosis" in shown
    assert {path.relative_to(out).as_posix() for path in out.rglob("*.*")} == {"a.nii.gz", "deep/b.nii", "c.nii.gz"}
    for source, copy in (("a.nii.gz", "a.nii.gz"), ("deep/b.nii", "deep/b.nii"), ("c.img", "c.nii.gz")):
        before, after = nib.load(scans / source), nib.load(out / copy)
        assert after.shape == before.shape
        assert after.get_data_dtype() == before.get_data_dtype()
        np.testing.assert_allclose(after.affine, before.affine, atol=1e-6)
        assert np.corrcoef(before.get_fdata().ravel(), after.get_fdata().ravel())[0, 1] > 0.8
    assert b"Jane Roe" not in (out / "a.nii.gz").read_bytes()
    assert (
        nib.load(out / "deep" / "b.nii").header["magic"].item()
        == nib.load(scans / "deep" / "b.nii").header["magic"].item()
    )


def test_codes_of_volumes_decode_to_the_same_volume(scans: Path, tmp_path: Path, call: Call) -> None:
    for words in (
        ("encode", "brain_f8", scans / "a.nii.gz", "--out", tmp_path / "codes"),
        ("decode", "brain_f8", tmp_path / "codes", "--out", tmp_path / "decoded"),
        ("reconstruct", "brain_f8", scans / "a.nii.gz", "--out", tmp_path / "copies"),
    ):
        code, _, err = call(*words)
        assert code == 0, err
    one, two = (nib.load(tmp_path / name / "a.nii.gz") for name in ("decoded", "copies"))
    np.testing.assert_array_equal(np.asarray(one.dataobj), np.asarray(two.dataobj))
    np.testing.assert_array_equal(one.affine, two.affine)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """quick(input, ...) -> the names of what would be written, without a model."""

    def names(*inputs: Path) -> list[str]:
        return sorted(name.as_posix() for _, name in scans_in(inputs).scans)

    return names


def dicom(folder: Path, number: int = 1, part: slice = slice(0, 6), **elements: Any) -> Path:
    """Some slices of a series of six."""
    places, values = [(0, 0, 2 * k) for k in range(6)][part], volume(6)[part] + number
    series(folder, values, positions=places, SeriesInstanceUID=f"1.{number}", SeriesNumber=number, **elements)
    return folder


def test_a_series_is_called_as_the_folder_that_its_files_share(tmp_path: Path, quick: Callable[..., list[str]]) -> None:
    study = tmp_path / "study"
    dicom(study / "t1" / "a", 1, slice(0, 3))
    dicom(study / "t1" / "b", 1, slice(3, 6))
    dicom(study / "t2", 2)
    assert quick(study) == ["t1.nii.gz", "t2.nii.gz"]
    assert quick(study / "t1") == quick(study / "t1" / "a", study / "t1" / "b") == ["t1.nii.gz"]
    dicom(study / "t2", 3, names=[f"other{n}" for n in range(6)])
    assert quick(study) == ["t1.nii.gz", "t2/series-002.nii.gz", "t2/series-003.nii.gz"]
    copies = tmp_path / "copies"
    for name in ("a", "b"):
        dicom(copies / name)
    assert quick(copies) == ["a.nii.gz", "b.nii.gz"]


def test_a_series_has_a_name_however_its_folder_is_given(
    tmp_path: Path, quick: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = dicom(tmp_path / "scan.v1" / "x")
    monkeypatch.chdir(folder)
    (folder / "empty").mkdir()
    assert quick(Path()) == quick(Path("empty/..")) == quick(Path("../x")) == ["x.nii.gz"]
    assert quick(*sorted(Path().glob("*.dcm"))) == quick(*sorted(folder.glob("*.dcm"))) == ["x.nii.gz"]
    assert quick(Path("IM0000.dcm"), *sorted(folder.glob("*.dcm"))[1:]) == ["x.nii.gz"]
    monkeypatch.chdir(tmp_path)
    assert quick(Path("scan.v1")) == ["x.nii.gz"]


def test_the_header_of_a_pair_stands_for_it(scans: Path, quick: Callable[..., list[str]]) -> None:
    for given in (["c.hdr"], ["c.img"], ["c.hdr", "c.img"]):
        assert quick(*(scans / name for name in given)) == ["c.img"]


def test_where_no_volume_is_found_that_is_an_error(tmp_path: Path, call: Call) -> None:
    scout = dicom(tmp_path / "scout", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    screen = dicom(tmp_path / "screen", ImageType=["DERIVED", "SECONDARY"], ImagePositionPatient=None)
    for folder, words in ((scout, f"{scout}: its DICOM files are no volumes"), (screen, "says not where it lies")):
        for command in ("reconstruct", "encode"):
            code, out, err = call(command, "brain_f8", folder, "--out", tmp_path / "out")
            assert (code, out) == (2, "")
            assert words in err.replace("\n", "")
    assert not (tmp_path / "out").exists()


def test_codes_that_lost_the_name_of_their_format(scans: Path, tmp_path: Path, call: Call) -> None:
    codes = tmp_path / "codes"
    code, _, err = call("encode", "brain_f8", scans / "a.nii.gz", "--out", codes)
    assert code == 0, err
    whole = (codes / "a.nii.gz.codes.npz").rename(codes / "a.codes.npz")
    code, _, err = call("decode", "brain_f8", codes, "--out", tmp_path / "decoded")
    assert code == 0, err
    assert nib.load(tmp_path / "decoded" / "a.nii.gz").shape == nib.load(scans / "a.nii.gz").shape
    for name, words in (("a.png.codes.npz", "3 axes"), (".codes.npz", "has no name")):
        code, _, err = call("decode", "brain_f8", whole.rename(codes / name), "--out", tmp_path / "other")
        whole = codes / name
        assert code == 2
        assert words in err
    assert not (tmp_path / "other").exists()


def test_names_are_shown_so_that_no_terminal_obeys_them(scans: Path, tmp_path: Path, call: Call) -> None:
    name = "\x1b]0;owned\x07\x1b[31m\nx\u202e\udcff.nii.gz"
    (scans / "a.nii.gz").rename(scans / name)
    (scans / f"cut{name}").write_bytes((scans / name).read_bytes()[:-100])
    shown = r"\x1b]0;owned\x07\x1b[31m\nx\u202e\udcff.nii.gz"
    for words, whole in (
        (("check", scans, "--subject-pattern", r"(.)\.(?:nii|img)"), True),
        (("reconstruct", "brain_f8", scans / f"cut{name}", "--out", tmp_path / "bad"), True),
        (("reconstruct", "brain_f8", scans / name, "--out", tmp_path / "out"), False),
    ):
        _, out, err = call(*words)
        assert not any(mark in out + err for mark in ("\x1b", "\x07", "\u202e", "\udcff"))
        assert (shown if whole else shown[:12]) in (out + err).replace("\n", "")  # a table folds names


def test_a_study_trains_and_is_measured(scans: Path, tmp_path: Path, cache: Path, call: Call) -> None:
    small = ("--set", "train.steps=2", "--set", "train.batch_size=4")
    code, _, err = call("train", "brain_f8", "--data", scans, "--out", tmp_path / "run", *small)
    assert code == 0, err
    code, shown, err = call("evaluate", tmp_path / "run", "--data", scans)
    assert code == 0, err
    assert "of 1 subject" in shown
    assert "[...]" not in shown, "one subject has no interval"
    assert "-: cannot be measured" in shown
    assert call("report", tmp_path / "run")[0] == 0


def test_a_broken_volume_is_named_and_nothing_is_written(scans: Path, tmp_path: Path, call: Call) -> None:
    (scans / "z.nii.gz").write_bytes((scans / "a.nii.gz").read_bytes()[:900])
    code, _, err = call("reconstruct", "brain_f8", scans, "--out", tmp_path / "out")
    assert code == 2
    assert "z.nii.gz" in err
    assert not (tmp_path / "out").exists()


def test_real_files_are_told_from_their_label_maps(shared: Path, cache: Path) -> None:
    folder = shared / "inputs" / "nifti"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    source = open_source(folder, split=None)
    names = {path.name for path in folder.iterdir()}
    assert {item.name for item in source.items} == {name for name in names if "_tissues" not in name}
    assert len(source.subjects) == len(source)
    for index, item in enumerate(source.items):
        scan, image = source[index], nib.load(item.path)
        np.testing.assert_array_equal(scan.voxels, np.asarray(image.dataobj))
        np.testing.assert_allclose(scan.affine, image.affine, atol=1e-5)


@pytest.fixture
def halved(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that takes no time: what it gives back is half as bright."""

    class Half:
        def encode(self, scan: Scan) -> Any:
            return SimpleNamespace(scan=scan, frame=frame_of(scan, (8, 8), "axial"))

        def decode(self, encoded: Any) -> Scan:
            return replace(encoded.scan, voxels=encoded.scan.voxels // 2)

    monkeypatch.setattr(session, "load", lambda model: Half())
    monkeypatch.setattr("brainvq.data.workers._inside", True)


def cut(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:-100])
    return path


@pytest.mark.usefixtures("halved")
def test_all_that_is_broken_is_named_or_left_out(scans: Path, tmp_path: Path, call: Call) -> None:
    words = ("reconstruct", "brain_f8", scans, "--out", tmp_path / "out")
    for n in range(6):
        cut(shutil.copy(scans / "a.nii.gz", scans / f"z{n}.nii.gz"))
    code, out, err = call(*words)
    assert (code, out) == (2, "")
    assert "6 scans cannot be read" in err
    assert [n for n in range(6) if f"z{n}.nii.gz: " in err] == [0, 1, 2, 3, 4]
    assert f"and 1 more; `brainvq check {scans}` names all" in err.replace("\n", "")
    assert not (tmp_path / "out").exists()
    code, out, err = call(*words, "--skip-broken", "--json")
    assert code == 0, err
    kept = json.loads(out)
    assert kept.keys() == {"a.nii.gz", "deep/b.nii", "c.nii.gz"}
    assert {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")} == kept.keys()
    assert kept["a.nii.gz"]["mae"] > 100
    assert err.count("left out: ") == 6


@pytest.mark.usefixtures("halved")
def test_as_many_broken_as_sound_ones_are_left_out(scans: Path, tmp_path: Path, call: Call) -> None:
    for n in range(3):
        (scans / f"z{n}.nii").write_bytes(b"no header")
    code, _, err = call("reconstruct", "brain_f8", scans, "--out", tmp_path / "out", "--skip-broken")
    assert code == 0, err
    assert len([*(tmp_path / "out").rglob("*.nii*")]) == 3
    assert err.count("left out: ") == 3


@pytest.mark.usefixtures("halved")
def test_one_broken_scan_among_others_says_how_to_go_on(scans: Path, tmp_path: Path, call: Call) -> None:
    words = ("reconstruct", "brain_f8", cut(scans / "a.nii.gz"), "--out", tmp_path / "out")
    assert "skip-broken" not in call(*words)[2]
    assert "Or leave it out by --skip-broken." in call(*words[:2], scans, *words[3:])[2]
    assert call(*words, "--skip-broken")[0] == 2, "nothing would be left"


@pytest.mark.usefixtures("halved")
def test_a_label_map_that_is_given_by_itself_is_told(scans: Path, tmp_path: Path, call: Call) -> None:
    shutil.copy(scans / "a_seg.nii.gz", scans / "truth.nii.gz")
    for name in ("a_seg.nii.gz", "truth.nii.gz"):
        code, out, err = call("reconstruct", "brain_f8", scans / name, "--out", tmp_path / name)
        assert code == 0
        assert "1 volume: " in out
        assert "a label map, it seems" in err
    assert "label map" not in call("reconstruct", "brain_f8", scans / "a.nii.gz", "--out", tmp_path / "a")[2]


@pytest.mark.usefixtures("halved")
def test_a_thick_series_of_another_plane_says_why_it_has_no_ssim(tmp_path: Path, call: Call) -> None:
    nib.save(nib.Nifti1Image(brain((4, 32, 32)), np.diag([30.0, 1, 1, 1])), tmp_path / "a.nii")
    code, out, err = call("reconstruct", "brain_f8", tmp_path / "a.nii", "--out", tmp_path / "out")
    assert code == 0, err
    assert "too small to measure" in out
    assert "axial slices, of 4 x 32 pixels here (height x width)" in err
    assert "data.plane=sagittal" in err


def test_a_slice_given_by_itself_says_how_many_lie_beside_it(tmp_path: Path, call: Call) -> None:
    file = dicom(tmp_path / "study") / "IM0002.dcm"
    code, out, err = call("encode", "brain_f8", file, "--out", tmp_path / "out")
    assert (code, out) == (2, "")
    for words in (f"{file}: one slice", "its folder holds 6 DICOM files", "Give the folder"):
        assert words in err.replace("\n", "")
