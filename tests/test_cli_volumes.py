"""Volumes through the command line: what goes in comes back in its own place, under its own name."""

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brainvq.data.sources import open_source

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
    assert "3 images" in shown
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


def test_a_study_trains_and_is_measured(scans: Path, tmp_path: Path, cache: Path, call: Call) -> None:
    small = ("--set", "train.steps=2", "--set", "train.batch_size=4")
    code, _, err = call("train", "brain_f8", "--data", scans, "--out", tmp_path / "run", *small)
    assert code == 0, err
    code, shown, err = call("evaluate", tmp_path / "run", "--data", scans)
    assert code == 0, err
    assert "1 subjects" in shown
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
