"""A DICOM series becomes the volume that its headers describe, every voxel in its place; anything less is refused."""

import logging
import struct
import warnings
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pydicom.uid import (
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)
from tests.dicom_files import AXIAL, NATIVE, SECRET, enhanced, image, save, series, volume

from brainvq.data import dicom, dicom_guard, dicom_header, dicom_pixels
from brainvq.data.scan import Scan, Storage
from brainvq.data.scan import read as read_any
from brainvq.errors import InputError

EXACT = (*NATIVE, RLELossless, JPEG2000Lossless, JPEGLSLossless)
REAL = ("siemens_anatomical", "hitachi_anatomical", "siemens_multiframe", "compressed_j2k", "compressed_rle")


def read(files: list[Path], path: Path | None = None) -> Scan:
    """The scan, after a look whether the header has told all of it."""
    path = path or files[0].parent
    scan = dicom.read(files, path=path, name="a", subject="7")
    header = dicom.header(files, path=path)
    assert (header.shape, header.dtype, header.storage) == (scan.voxels.shape, scan.voxels.dtype.name, scan.storage)
    np.testing.assert_array_equal(header.affine, scan.affine)
    assert (scan.name, scan.subject) == ("a", "7")
    return scan


def refused(files: list[Path], *words: str, path: Path | None = None) -> None:
    """One sentence of what is wrong and one of what to do, after what the series is called."""
    path = path or files[0].parent
    with pytest.raises(InputError) as error:
        dicom.read(files, path=path, name="a", subject=None)
    message = str(error.value)
    reason, _, remedy = message.removeprefix(f"{path}: ").rpartition(". ")
    assert message.startswith(f"{path}: ")
    assert reason
    assert remedy.endswith(".")
    assert all(word in message for word in words), message
    assert SECRET not in message


@pytest.mark.parametrize("name", REAL)
def test_real_series_are_their_ground_truth(shared: Path, name: str) -> None:
    for folder in sorted(path for path in (shared / "inputs" / "dicom" / name).iterdir() if path.is_dir()):
        scan = read_any(folder)
        truth = nib.as_closest_canonical(nib.load(f"{folder}_ground_truth.nii.gz"))
        ours = nib.as_closest_canonical(nib.Nifti1Image(scan.voxels, scan.affine))
        np.testing.assert_array_equal(np.asarray(ours.dataobj), np.asarray(truth.dataobj))
        np.testing.assert_allclose(ours.affine, truth.affine, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("rgb", "colour"), ("failing_slicecount", "2 slices"), ("failing_notavolume", "4, positions: 1")],
)
def test_real_series_that_are_no_volume_are_refused(shared: Path, name: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        read_any(shared / "inputs" / "dicom" / name / "001")


@settings(max_examples=25, deadline=None, phases=[Phase.generate])
@given(
    turn=st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q) > 0.1),
    spacing=st.tuples(st.floats(0.3, 5), st.floats(0.3, 5)),
    gap=st.floats(0.3, 8),
    tilt=st.tuples(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5)),
    order=st.permutations(range(5)),
    dtype=st.sampled_from(["uint8", "uint16", "int16", "int32"]),
    syntax=st.sampled_from(NATIVE),
    in_one_file=st.booleans(),
)
def test_every_voxel_is_where_the_standard_says(
    tmp_path_factory: pytest.TempPathFactory, turn, spacing, gap, tilt, order, dtype, syntax, in_one_file
) -> None:
    """PS3.3 C.7.6.2.1.1, for any orientation, tilt, order of files and number type."""
    if dtype == "uint8" and syntax == NATIVE[2]:
        syntax = NATIVE[0]
    w, x, y, z = np.array(turn) / np.linalg.norm(turn)
    along_row = np.array([1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)])
    down_column = np.array([2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x)])
    step = gap * (np.cross(along_row, down_column) + tilt[0] * along_row + tilt[1] * down_column)
    positions = [(-50, 20, 30) + n * step for n in order]
    values = volume(dtype=dtype)
    facing = {"ImageOrientationPatient": [*along_row, *down_column], "PixelSpacing": list(spacing)}
    folder = tmp_path_factory.mktemp("dicom")
    if in_one_file:
        ds = enhanced(values, positions)
        for keyword, group in (("PlaneOrientation", 0), ("PixelMeasures", 1)):
            element = list(facing)[group]
            setattr(ds.SharedFunctionalGroupsSequence[0][f"{keyword}Sequence"][0], element, facing[element])
        files = [save(ds, folder / "all.dcm", syntax)]
    else:
        files = series(folder, values, positions=positions, syntax=syntax, **facing)
    scan = read(files)
    assert scan.voxels.dtype == np.dtype(dtype)
    assert scan.affine is not None
    assert np.linalg.det(scan.affine) > 0
    for n, position in enumerate(positions):
        k = order[n]
        np.testing.assert_array_equal(scan.voxels[:, :, k], values[n].T)
        for column, row in ((0, 0), (6, 0), (0, 5), (6, 5)):
            lps = position + along_row * spacing[1] * column + down_column * spacing[0] * row
            np.testing.assert_allclose(scan.affine[:3] @ (column, row, k, 1), lps * (-1, -1, 1), atol=1e-6)


def test_positions_decide_and_names_do_not(tmp_path: Path) -> None:
    values = volume()
    files = series(tmp_path, values, names=["b", "d.ima", "a.dcm", "0", "z.dcm"])
    np.testing.assert_array_equal(read([*files[2:], *files[:2]]).voxels, values.T)
    assert dicom.only_series(tmp_path) == tuple(files)
    assert read_any(tmp_path).voxels.tobytes() == read(files).voxels.tobytes()


@pytest.mark.parametrize("syntax", EXACT)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
def test_lossless_files_are_read_exactly(tmp_path: Path, syntax: str, dtype: str) -> None:
    if dtype == "uint8" and syntax == NATIVE[2]:
        refused(series(tmp_path, volume(dtype=dtype), syntax=syntax), "ambiguous")
        return
    values = np.random.default_rng(0).integers(-90 if dtype == "int16" else 0, 200, (4, 41, 37)).astype(dtype)
    scan = read(series(tmp_path / "slices", values, syntax=syntax))
    assert scan.voxels.dtype == values.dtype
    np.testing.assert_array_equal(scan.voxels, values.T)
    whole = save(enhanced(values, [(0, 0, -n) for n in range(4)]), tmp_path / "whole.dcm", syntax)
    np.testing.assert_array_equal(read([whole], whole).voxels, values[::-1].T)


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEGLSNearLossless])
def test_lossy_files_are_read_nearly(tmp_path: Path, syntax: str) -> None:
    values = np.broadcast_to(np.add.outer(np.arange(40), np.arange(32)), (3, 40, 32)).astype(np.uint8)
    scan = read(series(tmp_path, values, syntax=syntax))
    assert np.abs(scan.voxels.astype(int) - values.T).max() <= 3


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless, JPEG2000Lossless, JPEGLSLossless])
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, syntax: str) -> None:
    files = series(tmp_path, volume(3, 32, 32), syntax=syntax)
    data = files[1].read_bytes()
    for length in (*range(0, len(data), 61), *range(len(data) - 20, len(data))):
        files[1].write_bytes(data[:length])
        refused(files, files[1].name)
        with pytest.raises(InputError, match=files[1].name):  # without a look at the pixels
            dicom.header(files, path=tmp_path)


def test_a_file_that_shrinks_while_it_is_read_is_refused(tmp_path: Path) -> None:
    (file,) = series(tmp_path, volume(1))
    pixels = dicom_header.parse(file).pixels
    assert pixels is not None
    file.write_bytes(file.read_bytes()[:-2])
    with pytest.raises(dicom_guard.Refused, match="cut short"):
        list(dicom_pixels.frames(file, pixels))


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_a_frame_cut_within_a_whole_file_is_refused(tmp_path: Path, syntax: str, part: float) -> None:
    files = series(tmp_path, volume(3, 32, 32), syntax=syntax)
    frame = fragment(files[1])
    less = frame[8 : 8 + int(len(frame) * part) // 2 * 2]
    files[1].write_bytes(files[1].read_bytes().replace(frame, frame[:4] + struct.pack("<L", len(less)) + less))
    refused(files, files[1].name)


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless])
def test_a_frame_that_lies_about_its_size_is_refused_before_it_is_decoded(tmp_path: Path, syntax: str) -> None:
    files = series(tmp_path, volume(3, 32, 32), syntax=syntax)
    other = save(image(volume(1, 32, 33)[0]), tmp_path / "other", syntax)
    told = {name: fragment(path) for name, path in (("whole", files[1]), ("other", other))}
    files[1].write_bytes(files[1].read_bytes().replace(told["whole"], told["other"]))
    refused(files, "32 x 33", "32 x 32", files[1].name)
    data = bytearray(told["whole"])
    at = data.index(b"\xff\x51") + 6 if syntax == JPEG2000Lossless else data.index(b"\xff\xf7") + 5
    struct.pack_into(">L" if syntax == JPEG2000Lossless else ">H", data, at, 60_000)
    files[1].write_bytes(files[1].read_bytes().replace(told["other"], bytes(data)))
    refused(files, "60000")


def fragment(path: Path) -> bytes:
    """The one compressed frame of a file, with the length before it."""
    data = path.read_bytes()
    at = data.index(b"\xfe\xff\x00\xe0", data.index(b"\xfe\xff\x00\xe0") + 1)
    return data[at : data.index(b"\xfe\xff\xdd\xe0", at)]


@pytest.mark.parametrize(
    ("elements", "words"),
    [
        ({"Rows": 60_000}, "bytes"),
        ({"Columns": 8}, "bytes"),
        ({"NumberOfFrames": 2_000_000_000}, "larger"),
        ({"NumberOfFrames": 2}, "bytes"),
        ({"Rows": 0}, "no pixels"),
        ({"BitsAllocated": 12}, "bits"),
        ({"BitsStored": 17}, "bits"),
        ({"HighBit": 12}, "bits"),
        ({"PixelSpacing": [0, 1]}, "no size"),
        ({"PixelSpacing": [-1, 1]}, "no size"),
        ({"PixelSpacing": [1]}, "number"),
        ({"RescaleSlope": 0}, "no scale"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "right angles"),
        ({"ImageOrientationPatient": [2, 0, 0, 0, 1, 0]}, "right angles"),
        ({"ImagePositionPatient": None}, "where it lies"),
        ({"PixelSpacing": None}, "where it lies"),
        ({"PixelData": None}, "pixels"),
        ({"Rows": None}, "broken"),
        ({"SamplesPerPixel": 3}, "colour"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "colour"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]}, "mosaic"),
        ({"ModalityLUTSequence": []}, "table"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.11"}, "report"),
    ],
)
def test_a_header_that_cannot_be_is_refused(tmp_path: Path, elements: dict[str, Any], words: str) -> None:
    refused(series(tmp_path, volume(), **elements), words, "IM0000.dcm")


@pytest.mark.parametrize(
    ("syntax", "words"),
    [
        ("1.2.840.10008.1.2.1.99", "deflated"),
        ("1.2.840.10008.1.2.4.70", "JPEG Lossless"),
        ("1.2.3.4.5", "unknown"),
        (RLELossless, "compressed"),
    ],
)
def test_an_encoding_that_is_not_read_is_named(tmp_path: Path, syntax: str, words: str) -> None:
    files = series(tmp_path, volume())
    for file in files:  # the same length, so that nothing else changes
        old, new = ExplicitVRLittleEndian.encode(), syntax.encode()
        data, length = file.read_bytes(), len(new) + len(new) % 2
        at = data.index(old) - 8
        meta = struct.pack("<HH2sH", 2, 0x10, b"UI", length) + new.ljust(length, b"\0")
        file.write_bytes(data[:at] + meta + data[at + 8 + len(old) + len(old) % 2 :])
    refused(files, words)


@pytest.mark.parametrize(
    ("positions", "words"),
    [
        ([0, 2, 4, 8, 10], ["1 slice is missing", "3. and the 4.", "4.00"]),
        ([0, 6, 8, 10, 12], ["2 slices are missing", "1. and the 2."]),
        ([0, 2, 4, 4, 6], ["5, positions: 4"]),
        ([0, 2, 4, 6.5, 8.5], ["2.00 to 2.50"]),
        ([3, 3, 3, 3, 3], ["5, positions: 1"]),
        ([(0, 0, 0), (0, 0, 1), (3, 0, 2), (0, 0, 3), (0, 0, 4)], ["3.00 mm off"]),
        ([(0, 9 * n, n) for n in range(5)], ["tilted"]),
        ([(0, 0, n) if n else (0, 0, float("nan")) for n in range(5)], ["IM0000.dcm", "not finite"]),
        ([(0, 0, 1e300 * n) for n in range(5)], ["not finite"]),
    ],
)
def test_slices_that_make_no_even_stack_are_refused(tmp_path: Path, positions: list[Any], words: list[str]) -> None:
    where = [one if isinstance(one, tuple) else (0, 0, one) for one in positions]
    refused(series(tmp_path, volume(), positions=where), *words)


def test_rounded_positions_are_an_even_stack(tmp_path: Path) -> None:
    files = series(tmp_path, volume(), positions=[(0, 0, round(1.234 * n, 1)) for n in range(5)])
    np.testing.assert_allclose(read(files).affine, np.diag([-1, -1, 1.225, 1]))


def test_slices_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    oblique = [[1, 0, 0, 0, 0.8, 0.6] if n == 2 else list(AXIAL) for n in range(5)]
    for n, (keyword, values, words) in enumerate(
        [
            ("ImageOrientationPatient", oblique, "angles"),
            ("PixelSpacing", [[1, 1], [1, 1], [1, 1.1], [1, 1], [1, 1]], "pixels of different size"),
            ("PhotometricInterpretation", ["MONOCHROME1"] + ["MONOCHROME2"] * 4, "store values"),
        ]
    ):
        refused(series(tmp_path / str(n), volume(), **{keyword: ("each", values)}), words)
    files = series(tmp_path / "a", volume(4)) + series(tmp_path / "b", volume(1, 8), positions=[(0, 0, 8)])
    refused(files, "2 sizes", "6 x 7 and 8 x 7 (rows x columns)")
    refused(files[:2], "2 slices")
    refused(files[:1], "Give the folder", path=files[0])
    refused([tmp_path / "none.dcm"], "No such file")
    refused([], "no files", path=tmp_path)


def test_scaling_that_all_slices_share_is_kept_beside_the_values(tmp_path: Path) -> None:
    scan = read(series(tmp_path, volume(), RescaleSlope=2.5, RescaleIntercept=-10))
    assert scan.storage == Storage(format="dicom", slope=2.5, intercept=-10)
    np.testing.assert_array_equal(scan.voxels, volume().T)
    assert scan.voxels.dtype == np.uint16


@pytest.mark.parametrize(("dtype", "scaled"), [("uint16", "float32"), ("int32", "float64")])
def test_scaling_that_differs_or_turns_values_over_is_applied(tmp_path: Path, dtype: str, scaled: str) -> None:
    values = volume(dtype=dtype)
    for name, slopes in (("own", [1, 2, 3, 4, 5]), ("negative", [-2] * 5)):
        scan = read(series(tmp_path / name, values, RescaleSlope=("each", slopes), RescaleIntercept=7))
        assert scan.voxels.dtype == np.dtype(scaled)
        np.testing.assert_array_equal(scan.voxels, (values * np.reshape(slopes, (5, 1, 1)) + 7.0).T)
        assert scan.storage == Storage(format="dicom")


@pytest.mark.parametrize("dtype", ["uint8", "int16"])
def test_white_as_low_is_the_mirror_image_within_the_stored_bits(tmp_path: Path, dtype: str) -> None:
    values, bits = volume(dtype=dtype), 8 if dtype == "uint8" else 12
    stored = {"BitsStored": bits, "HighBit": bits - 1}
    scan = read(series(tmp_path, values, PhotometricInterpretation="MONOCHROME1", **stored))
    assert (scan.voxels.astype(int) + values.T == (255 if dtype == "uint8" else -1)).all()


def test_stored_bits_give_the_sign_and_other_bits_are_not_dropped(tmp_path: Path) -> None:
    values = volume(dtype="int16")
    bits = {"BitsStored": 12, "HighBit": 11}
    bare = (values & 0xFFF).astype(np.int16)  # 12 bits without copies of the sign above
    np.testing.assert_array_equal(read(series(tmp_path / "bare", bare, **bits)).voxels, values.T)
    np.testing.assert_array_equal(read(series(tmp_path / "copied", values, **bits)).voxels, values.T)
    refused(series(tmp_path / "overlay", volume() | 0x1000, **bits), "12 bits", "overlay")


def test_frames_need_a_position_each(tmp_path: Path) -> None:
    values, positions = volume(), [(0, 0, n) for n in range(5)]
    refused([save(image(values), tmp_path / "old.dcm")], "5 frames")
    refused([save(enhanced(values, positions[:4]), tmp_path / "few.dcm")], "4 frames", "5")
    refused([save(enhanced(values, positions[:4] + positions[:1]), tmp_path / "times.dcm")], "5, positions: 4")


def test_no_word_of_a_patient_comes_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    files = series(tmp_path, volume())
    odd = series(tmp_path / "odd", volume(), SpecificCharacterSet="ISO_IR 100")
    odd[0].write_bytes(odd[0].read_bytes().replace(b"ISO_IR 100", b"DOE^JANE  "))  # of which pydicom warns
    compressed = series(tmp_path / "j2k", volume(3, 32, 32), syntax=JPEG2000Lossless)
    (found,) = dicom.find_series(files).series
    data, codestream = files[1].read_bytes(), compressed[1].read_bytes()
    caplog.set_level(logging.DEBUG)
    caplog.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert SECRET not in f"{read(files)}{found}{read(odd)}{dicom.header(files, path=tmp_path)}"
        files[1].write_bytes(data.replace(b"0.0\\0.0\\2.0", b"DOE^JANE\\0 "))  # where numbers are expected
        refused(files, files[1].name)
        compressed[1].write_bytes(codestream.replace(b"\xff\x52", b"\xff\x50"))  # no coding style
        refused(compressed, compressed[1].name)
    assert not caplog.records
    assert capfd.readouterr() == ("", "")


def test_deep_nesting_ends_in_time(tmp_path: Path) -> None:
    files = series(tmp_path, volume())
    data = files[1].read_bytes()
    at = data.index(struct.pack("<HH2s", 0x10, 0x10, b"PN"))
    opened = struct.pack("<HH2sHL", 0x9, 0x10, b"SQ", 0, 0xFFFFFFFF) + struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
    files[1].write_bytes(data[:at] + opened * 20_000 + data[at:])
    refused(files, "RecursionError")


@pytest.fixture(scope="module", params=[ExplicitVRLittleEndian, RLELossless, JPEG2000Lossless, JPEGLSLossless])
def spoiled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], bytes]:
    """A series, and what its second file holds before it is spoiled."""
    files = series(tmp_path_factory.mktemp("spoiled"), volume(3, 32, 32), syntax=request.param)
    return files, files[1].read_bytes()


@settings(max_examples=30, deadline=None)
@given(flips=st.lists(st.tuples(st.floats(0, 1), st.integers(1, 255)), max_size=6))
def test_damage_ends_in_a_scan_or_a_refusal(spoiled: tuple[list[Path], bytes], flips: list[tuple[float, int]]) -> None:
    files, whole = spoiled
    data = bytearray(whole)
    for where, change in flips:
        data[min(int(132 + where * (len(data) - 132)), len(data) - 1)] ^= change
    files[1].write_bytes(data)
    try:
        scan = read(files)
    except InputError:
        refused(files)
    else:
        assert scan.voxels.shape == (32, 32, 3)
        assert scan.affine is not None
        assert np.isfinite(scan.affine).all()
