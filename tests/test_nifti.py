"""A volume is read in full and exactly, or refused by name; what is written is what was read, and names nobody."""

import gzip
import math
import tracemalloc
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from nibabel.nifti1 import Nifti1Extension, Nifti1Header, Nifti1PairHeader
from nibabel.nifti2 import Nifti2Header, Nifti2PairHeader
from nibabel.quaternions import quat2mat
from nibabel.spm2analyze import Spm2AnalyzeHeader

from brainvq.data import nifti, nifti_header, nifti_stream
from brainvq.data.planes import orientation_of, spacing_of
from brainvq.data.scan import Scan, Storage, header_of, read, write
from brainvq.errors import InputError

pytestmark = pytest.mark.filterwarnings("error")

INTEGERS = tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))
SHAPE = (5, 4, 3)
VOXELS = np.arange(-30, 30, dtype=np.int16).reshape(SHAPE) * 7
AFFINE = np.array([[-1.5, 0, 0, 90], [0, 2, 0.25, -110], [0, -0.125, 3, -70], [0, 0, 0, 1]])
PER_MILLIMETRE = {"mm": 1, "unknown": 1, "meter": 1e-3, "micron": 1e3}
quickly = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def made(voxels: np.ndarray = VOXELS, kind: type = Nifti1Header, order: str = "<", **fields: Any) -> bytes:
    """A header of any kind with `fields` as they are given, however wrong, and what follows it in a single file."""
    header = kind(endianness=order)
    header.set_data_shape(voxels.shape)
    header.set_data_dtype(voxels.dtype)
    if hasattr(header, "set_sform"):
        header.set_sform(AFFINE, 1)
        header.set_slope_inter(1, 0)
        header["xyzt_units"] = 2
    if getattr(header, "is_single", False):
        header["vox_offset"] = header.single_vox_offset
    for name, value in fields.items():
        header[name] = value
    return header.binaryblock + bytes(4) + voxels.astype(voxels.dtype.newbyteorder(order)).tobytes("F")


def saved(path: Path, data: bytes) -> Path:
    """`data` of a single file, or of a pair split in two, with or without compression as the suffix says."""
    if path.suffix == ".hdr":
        length = int.from_bytes(data[:4], "little" if data[1] == 1 or data[1] == 2 else "big")
        path.with_suffix(".img").write_bytes(data[length + 4 :])
        data = data[:length]
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def lengths(data: bytes) -> list[int]:
    """Shorter than `data`: all from nothing to a few bytes missing, in steps, and each of the last."""
    return [*range(0, len(data) - 12, 5), *range(len(data) - 12, len(data))]


def refused(path: Path, *words: str) -> str:
    """The one message for a file that is refused: its name, a reason with `words`, and last a remedy."""
    with pytest.raises(InputError) as error:
        read(path)
    message = str(error.value)
    reason, _, remedy = message.removeprefix(f"{path}: ").rpartition(". ")
    assert message.startswith(f"{path}: ")
    assert all(word in reason for word in words), message
    assert remedy[:1].isupper()
    assert remedy.endswith(".")
    return message


def assert_same(one: Scan, other: Scan) -> None:
    assert one.voxels.dtype == other.voxels.dtype
    assert one.voxels.dtype.isnative
    assert one.voxels.shape == other.voxels.shape
    assert one.voxels.tobytes() == other.voxels.tobytes()
    np.testing.assert_array_equal(one.affine, other.affine)
    assert one.storage == other.storage


@st.composite
def affines(draw: st.DrawFn, units: str = "mm", shear: bool = False) -> np.ndarray:
    """Rotation, flip and sizes of any kind, such as a NIfTI-1 of these units holds them exactly."""
    q = np.array(draw(st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: np.linalg.norm(q) > 0.1)))
    sizes = draw(st.tuples(*[st.floats(0.1, 9)] * 3))
    affine = np.eye(4)
    affine[:3, :3] = quat2mat(q) @ np.diag([1, 1, draw(st.sampled_from([1, -1]))]) @ np.diag(sizes)
    affine[:3, 1] += affine[:3, 0] * (0.3 * shear)
    affine[:3, 3] = draw(st.tuples(*[st.floats(-300, 300)] * 3))
    affine[:3] *= PER_MILLIMETRE[units]
    affine = affine.astype(np.float32).astype(np.float64)
    affine[:3] /= PER_MILLIMETRE[units]
    return affine


@st.composite
def voxels(draw: st.DrawFn, types: tuple[str, ...] = (*INTEGERS, "float32", "float64")) -> np.ndarray:
    dtype = np.dtype(draw(st.sampled_from(types)))
    shape = draw(st.tuples(*[st.integers(1, 6)] * 3))
    if dtype.kind == "f":
        elements: Any = st.floats(-(2.0**100), 2.0**100, width=dtype.itemsize * 8)
    else:
        edges = np.iinfo(dtype)
        elements = st.integers(max(edges.min, -(2**53)), min(edges.max, 2**53))
    return draw(arrays(dtype, shape, elements=elements))


@st.composite
def scans(draw: st.DrawFn) -> Scan:
    """Of every type, in every storage that a NIfTI file holds exactly."""
    values, units = draw(voxels()), draw(st.sampled_from(list(PER_MILLIMETRE)))
    shear, number = draw(st.booleans()), st.floats(2**-20, 2**20, width=32)
    storage = Storage(
        draw(st.sampled_from(["nifti1", "nifti2"])),
        units,
        slope=draw(number),
        intercept=draw(number) * draw(st.sampled_from([0, 1, -1])),
        qform=0 if shear else draw(st.integers(0, 5)),
        sform=draw(st.integers(1, 5)),
        axes=draw(st.integers(2 if values.shape[2] == 1 else 3, 7)),
    )
    return Scan(values, draw(affines(units, shear)), "s", "n", storage)


@quickly
@given(scan=scans(), suffix=st.sampled_from([".nii", ".nii.gz"]))
def test_what_is_written_is_read_back_bit_by_bit(tmp_path: Path, scan: Scan, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    write(scan, path)
    assert [p.name for p in tmp_path.glob("a*")] == [path.name]
    again = read(path, name="sub/a", subject="7")
    assert (again.name, again.subject) == ("sub/a", "7")
    if scan.storage == replace(scan.storage, format="nifti2") and scan.storage.units in ("meter", "micron"):
        np.testing.assert_allclose(again.affine, scan.affine, rtol=1e-15)  # 64 bit times 1000 and back
        again = replace(again, affine=scan.affine)
    assert_same(again, scan)
    header = header_of(path)
    assert (header.shape, header.dtype, header.storage) == (scan.voxels.shape, scan.voxels.dtype.name, scan.storage)
    path.unlink()


@quickly
@given(values=voxels(), affine=affines(), order=st.sampled_from("<>"), data=st.data())
def test_what_nibabel_writes_is_read_as_nibabel_reads_it(
    tmp_path: Path, values: np.ndarray, affine: np.ndarray, order: str, data: st.DataObject
) -> None:
    kind = data.draw(st.sampled_from([nib.Nifti1Image, nib.Nifti2Image, nib.Nifti1Pair, nib.Nifti2Pair]))
    suffix = data.draw(st.sampled_from([".nii", ".nii.gz"])) if kind.header_class.is_single else ".hdr"
    header = kind.header_class(endianness=order)
    header.set_data_dtype(values.dtype)
    image = kind(values, affine, header)
    image.set_sform(affine, data.draw(st.integers(0, 4)))
    image.set_qform(affine, data.draw(st.integers(0, 4)))
    path = tmp_path / f"a{suffix}"
    nib.save(image, path)
    scan = read(path)
    try:
        there = nib.load(path)
    except ValueError:
        reject()  # half a turn in NIfTI-2, which nibabel writes but does not read
    assert there.header.endianness == order
    assert scan.voxels.tobytes() == np.asarray(there.dataobj.get_unscaled(), values.dtype).tobytes() == values.tobytes()
    np.testing.assert_array_equal(scan.affine, there.affine)
    assert (scan.storage.qform, scan.storage.sform) == (there.header["qform_code"], there.header["sform_code"])


@quickly
@given(values=voxels(("uint8", "int16", "int32", "float32", "float64")), order=st.sampled_from("<>"), data=st.data())
def test_analyze_is_read_as_nibabel_reads_it_and_written_as_nifti(
    tmp_path: Path, values: np.ndarray, order: str, data: st.DataObject
) -> None:
    sizes = data.draw(st.tuples(*[st.floats(0.125, 9, width=32)] * 3))
    origin = data.draw(st.tuples(*[st.integers(-9, 9)] * 3))
    slope, intercept = data.draw(st.sampled_from([(0, 0), (0.5, 0), (2, -3), (np.nan, 1)]))
    made_up = {"scl_slope": slope, "scl_inter": intercept, "pixdim": [0, *sizes, 1, 1, 1, 1]}
    content = made(values, Spm2AnalyzeHeader, order, origin=[*origin, 0, 0], **made_up)
    path = saved(tmp_path / "a.hdr", content)
    scan, there = read(path.with_suffix(".img")), nib.load(path)
    assert scan.voxels.tobytes() == values.tobytes()
    np.testing.assert_array_equal(scan.affine, there.affine)
    expected = (slope, intercept) if slope > 0 else (1, 0)
    assert scan.storage == Storage("analyze", "mm", *expected, qform=0, sform=0, axes=3)
    write(scan, tmp_path / "b.nii")
    again = read(tmp_path / "b.nii")
    np.testing.assert_allclose(again.affine, scan.affine, rtol=1e-7, atol=1e-7)  # in NIfTI-1 as 32-bit numbers
    written = replace(scan, affine=again.affine, storage=replace(scan.storage, format="nifti1", sform=1))
    assert_same(again, written)


@quickly
@given(affine=affines(), code=st.integers(1, 5), kind=st.sampled_from([Nifti1Header, Nifti2Header]))
def test_a_qform_alone_keeps_its_code_and_leads_to_the_same_place(
    tmp_path: Path, affine: np.ndarray, code: int, kind: type
) -> None:
    header = kind()
    header.set_data_shape(SHAPE)
    header.set_qform(affine, code)
    space = {name: header[name] for name in header.keys() if name.startswith(("q", "pixdim"))}  # noqa: SIM118
    first = read(saved(tmp_path / "a.nii", made(kind=kind, sform_code=0, **space)))
    assert (first.storage.qform, first.storage.sform) == (code, 0)
    write(first, tmp_path / "b.nii")
    again = read(tmp_path / "b.nii")
    assert again.storage == first.storage
    np.testing.assert_allclose(again.affine, first.affine, rtol=1e-6, atol=1e-5)


def test_half_a_turn_is_a_rotation(tmp_path: Path) -> None:
    for axis in np.random.default_rng(0).normal(size=(12, 3)):
        for kind in (Nifti1Header, Nifti2Header):
            header = kind()
            header.set_qform(nib.affines.from_matvec(quat2mat([0, *axis])), 1)
            space = {name: header[name] for name in ("quatern_b", "quatern_c", "quatern_d")}
            first = read(saved(tmp_path / "a.nii", made(kind=kind, sform_code=0, qform_code=1, **space)))
            np.testing.assert_allclose(first.affine[:3, :3] @ first.affine[:3, :3], np.eye(3), atol=1e-6)
            write(first, tmp_path / "b.nii")
            assert read(tmp_path / "b.nii").storage == first.storage


def test_a_header_without_space_stays_so_until_the_affine_is_another(tmp_path: Path) -> None:
    scan = read(saved(tmp_path / "a.nii", made(sform_code=0, pixdim=[1, 2, 3, 4, 1, 1, 1, 1])))
    np.testing.assert_array_equal(scan.affine, [[-2, 0, 0, 4], [0, 3, 0, -4.5], [0, 0, 4, -4], [0, 0, 0, 1]])
    write(scan, tmp_path / "b.nii")
    assert_same(read(tmp_path / "b.nii"), scan)
    moved = replace(scan, affine=scan.affine + np.eye(4)[:, [3, 2, 1, 0]] * [[0], [0], [0.25], [0]])
    write(moved, tmp_path / "c.nii")
    assert_same(read(tmp_path / "c.nii"), replace(moved, storage=replace(scan.storage, sform=1)))


def test_the_code_of_a_qform_that_leads_elsewhere_is_not_kept(tmp_path: Path) -> None:
    header = Nifti1Header()
    header.set_qform(np.diag([1, 1, 1, 1]), 1)
    fields = {name: header[name] for name in ("qform_code", "quatern_b", "quatern_c", "quatern_d")}
    assert read(saved(tmp_path / "a.nii", made(**fields))).storage == Storage("nifti1", qform=0, sform=1)
    no_rotation = made(qform_code=1, quatern_b=1, quatern_c=1)
    assert read(saved(tmp_path / "b.nii", no_rotation)).storage.qform == 0
    write(Scan(VOXELS, AFFINE, None, "a", Storage("nifti1", qform=1, sform=2)), tmp_path / "c.nii")  # is sheared
    header = nib.load(tmp_path / "c.nii").header
    assert (header["qform_code"], header["sform_code"]) == (0, 2)


@pytest.mark.parametrize("units", ["mm", "unknown", "meter", "micron"])
def test_the_affine_is_in_mm_whatever_the_file_says(tmp_path: Path, units: str) -> None:
    rows = AFFINE * [[PER_MILLIMETRE[units]], [PER_MILLIMETRE[units]], [PER_MILLIMETRE[units]], [1]]
    code = {"unknown": 0, "meter": 1, "mm": 2, "micron": 3}[units]
    fields = {"xyzt_units": code + 8, "srow_x": rows[0], "srow_y": rows[1], "srow_z": rows[2]}
    scan = read(saved(tmp_path / "a.nii", made(**fields)))
    assert scan.storage.units == units
    np.testing.assert_allclose(scan.affine, AFFINE, rtol=1e-6)
    assert spacing_of(scan.affine)[0] == pytest.approx(1.5)


@pytest.mark.parametrize(("shape", "axes"), [((5, 12), 2), ((5, 12, 1), 3), ((5, 4, 3, 1), 4), ((5, 4, 3, 1, 1), 5)])
def test_axes_of_length_one_are_dropped_and_come_back(tmp_path: Path, shape: tuple[int, ...], axes: int) -> None:
    content = made(VOXELS.reshape(shape), pixdim=[1, 1, 1, 0 if axes == 2 else 1, 0, 0, 0, 0])
    scan = read(saved(tmp_path / "a.nii", content))
    assert scan.voxels.shape == (*shape, 1)[:3]
    assert scan.storage.axes == axes
    write(scan, tmp_path / "b.nii")
    assert nib.load(tmp_path / "b.nii").shape == shape


@pytest.mark.parametrize(("dtype", "as_read"), [("int16", "float32"), ("uint8", "float32"), ("int32", "float64")])
def test_a_negative_slope_is_applied(tmp_path: Path, dtype: str, as_read: str) -> None:
    stored = np.abs(VOXELS).astype(dtype)
    path = saved(tmp_path / "a.nii.gz", made(stored, scl_slope=-0.5, scl_inter=1000))
    scan = read(path)
    assert scan.voxels.dtype == header_of(path).dtype == as_read
    np.testing.assert_array_equal(scan.voxels, 1000 - stored / 2)
    assert scan.storage == header_of(path).storage == Storage("nifti1")


@pytest.mark.parametrize("slope", [0, np.nan])
def test_a_slope_of_zero_or_nan_means_none(tmp_path: Path, slope: float) -> None:
    storage = read(saved(tmp_path / "a.nii", made(scl_slope=slope, scl_inter=np.inf))).storage
    assert (storage.slope, storage.intercept) == (1, 0)


def test_either_name_of_a_pair_will_do(tmp_path: Path) -> None:
    for kind in (Nifti1PairHeader, Nifti2PairHeader):
        path = saved(tmp_path / "a.hdr", made(kind=kind))
        assert_same(read(path), read(path.with_suffix(".img")))
        np.testing.assert_array_equal(read(path).voxels, VOXELS)
    path.with_suffix(".img").rename(tmp_path / "a.IMG")
    np.testing.assert_array_equal(read(tmp_path / "a.IMG").voxels, VOXELS)
    np.testing.assert_array_equal(read(path).voxels, VOXELS)
    (tmp_path / "a.IMG").unlink()
    refused(path, ".img", "missing")
    saved(path, made(kind=Nifti1PairHeader))
    path.unlink()
    refused(tmp_path / "a.img", ".hdr", "missing")


def test_spm_s_matrix_beside_an_analyze_file_is_not_passed_over(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.hdr", made(kind=Spm2AnalyzeHeader))
    path.with_suffix(".mat").touch()
    refused(path, ".mat")
    saved(path, made(kind=Nifti1PairHeader))
    assert read(path).storage.format == "nifti1"


@pytest.mark.parametrize("kind", [Nifti1Header, Nifti2Header])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_every_truncation_is_refused(tmp_path: Path, kind: type, suffix: str) -> None:
    data = saved(tmp_path / f"a{suffix}", made(VOXELS[:2, :2, :2], kind)).read_bytes()
    for length in lengths(data):
        (tmp_path / f"b{suffix}").write_bytes(data[:length])
        refused(tmp_path / f"b{suffix}")


def test_a_compressed_file_that_ends_well_but_early_is_refused(tmp_path: Path) -> None:
    refused(saved(tmp_path / "a.nii.gz", made()[:-1]), "cut short", "holds 119 bytes", "declares 120")


@pytest.mark.parametrize("kind", [Nifti1PairHeader, Nifti2PairHeader, Spm2AnalyzeHeader])
def test_every_truncation_of_either_file_of_a_pair_is_refused(tmp_path: Path, kind: type) -> None:
    path = saved(tmp_path / "a.hdr", made(VOXELS[:2, :2, :2], kind))
    for part in (path, path.with_suffix(".img")):
        data = part.read_bytes()
        for length in lengths(data):
            part.write_bytes(data[:length])
            refused(path)
        part.write_bytes(data)
    np.testing.assert_array_equal(read(path).voxels, VOXELS[:2, :2, :2])


@quickly
@given(data=st.data())
def test_no_flipped_bit_of_a_compressed_file_goes_unnoticed(tmp_path: Path, data: st.DataObject) -> None:
    whole = saved(tmp_path / "a.nii.gz", made())
    content = bytearray(whole.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    (tmp_path / "b.nii.gz").write_bytes(content)
    with suppress(InputError):
        assert_same(read(tmp_path / "b.nii.gz"), read(whole))  # gzip's date and system have no checksum


@quickly
@given(
    cuts=st.lists(st.integers(0, 2000), max_size=4),
    rest=st.sampled_from([b"", bytes(999), b"\x1f", b"garbage"]),
    piece=st.integers(1, 99),
)
def test_members_of_a_compressed_file_are_one_stream(tmp_path: Path, cuts: list[int], rest: bytes, piece: int) -> None:
    data, edges = made(), [0, *sorted(cuts), 2000]
    parts = [data[low:high] for low, high in pairwise(edges)]
    path = tmp_path / "a.nii.gz"
    path.write_bytes(b"".join(gzip.compress(part, 1) for part in parts) + rest)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(nifti_stream, "PIECE", piece)
        np.testing.assert_array_equal(read(path).voxels, VOXELS)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_little_after_the_voxels_is_left_alone(tmp_path: Path, suffix: str) -> None:
    path = saved(tmp_path / f"a{suffix}", made() + bytes(nifti.SURPLUS))
    np.testing.assert_array_equal(read(path).voxels, VOXELS)
    saved(path, made(vox_offset=352 + 4096)[:352] + b"\x7f" * 4096 + made()[352:])
    np.testing.assert_array_equal(read(path).voxels, VOXELS)


@pytest.fixture
def inflated(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes of every piece that was inflated."""
    counts: list[int] = []
    real = nifti_stream._inflated

    def counted(file: Any) -> Any:
        for piece in real(file):
            counts.append(len(piece))
            yield piece

    monkeypatch.setattr(nifti_stream, "_inflated", counted)
    return counts


@pytest.mark.parametrize("members", [True, False])
def test_a_bomb_is_not_inflated(tmp_path: Path, inflated: list[int], members: bool) -> None:
    path = saved(tmp_path / "a.nii.gz", made() if members else made() + bytes(1 << 24))
    if members:
        path.write_bytes(path.read_bytes() + gzip.compress(bytes(1 << 20)) * 500)
    refused(path, "more than its header declares")
    assert sum(inflated) < 2 * nifti.SURPLUS + 4 * nifti_stream.PIECE


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".hdr"])
@pytest.mark.parametrize("dim", [(800, 800, 800), (32767, 32767, 32767), (400, 400, 400), (300, 300, 200)])
def test_a_header_that_lies_about_its_size_allocates_nothing(
    tmp_path: Path, inflated: list[int], suffix: str, dim: tuple[int, ...]
) -> None:
    kind = Nifti1PairHeader if suffix == ".hdr" else Nifti1Header
    path = saved(tmp_path / f"a{suffix}", made(kind=kind, dim=[3, *dim, 1, 1, 1, 1]))
    for call in (read, header_of):
        inflated.clear()
        tracemalloc.start()
        with pytest.raises(InputError, match=r"cut short|at most 512 MiB"):
            call(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 23
        tracemalloc.stop()
        assert sum(inflated) < 4096


@quickly
@given(
    kind=st.sampled_from([Nifti1Header, Nifti2Header, Nifti1PairHeader, Nifti2PairHeader, Spm2AnalyzeHeader]),
    zipped=st.booleans(),
    edits=st.lists(
        st.tuples(st.integers(0, 539), st.binary(min_size=1, max_size=8) | st.sampled_from([b"\xff" * 8, bytes(8)])),
        max_size=4,
    ),
)
def test_any_header_gives_a_scan_or_a_refusal(
    tmp_path: Path, kind: type, zipped: bool, edits: list[tuple[int, bytes]]
) -> None:
    content = bytearray(made(kind=kind))
    for place, value in edits:
        content[place : place + len(value)] = value
    single = getattr(kind, "is_single", False)
    path = tmp_path / ("a.nii.gz" if single and zipped else "a.nii" if single else "a.hdr")
    if single:
        saved(path, bytes(content))
    else:
        length = kind.sizeof_hdr
        path.write_bytes(content[:length])
        path.with_suffix(".img").write_bytes(content[length + 4 :])
    scan = None
    tracemalloc.start()
    with suppress(InputError):
        scan = read(path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 23
    tracemalloc.stop()
    if scan is not None:
        header = header_of(path)
        assert (scan.voxels.shape, scan.voxels.dtype, scan.storage) == (header.shape, header.dtype, header.storage)
        assert np.isfinite(scan.affine).all()
        assert np.isfinite(scan.voxels).all()
        assert scan.storage.slope > 0
        write(scan, tmp_path / "again.nii")
        np.testing.assert_allclose(read(tmp_path / "again.nii").affine, scan.affine, rtol=1e-5, atol=1e-4)


FLAT = {"srow_x": [1, 2, 0, 0], "srow_y": [2, 4, 0, 0], "srow_z": [0, 0, 1, 0]}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"magic": b"n+3"}, ["not a NIfTI file", "n+3"]),
        ({"magic": b""}, ["not a NIfTI file", "magic"]),
        ({"magic": b"n+2"}, ["not a NIfTI file", "n+2"]),
        ({"magic": b"ni1"}, ["another file"]),
        ({"sizeof_hdr": 349}, ["neither 348 nor 540"]),
        ({"dim": [4, 5, 4, 1, 3, 1, 1, 1]}, ["3 volumes", "5 x 4 x 1 x 3"]),
        ({"dim": [5, 5, 4, 1, 1, 3, 1, 1]}, ["3 volumes"]),
        ({"dim": [0, 5, 4, 3, 1, 1, 1, 1]}, ["0 axes"]),
        ({"dim": [1, 60, 1, 1, 1, 1, 1, 1]}, ["1 axes"]),
        ({"dim": [8, 5, 4, 3, 1, 1, 1, 1]}, ["8 axes"]),
        ({"dim": [3, 5, 0, 3, 1, 1, 1, 1]}, ["5 x 0 x 3"]),
        ({"dim": [3, -1, 1, 1, 1, 1, 1, 1]}, ["-1 x 1 x 1"]),
        ({"datatype": 128}, ["RGB"]),
        ({"datatype": 2304}, ["RGBA"]),
        ({"datatype": 32}, ["complex64"]),
        ({"datatype": 1536}, ["float128"]),
        ({"datatype": 1}, ["binary"]),
        ({"datatype": 77}, ["77"]),
        ({"vox_offset": 0}, ["after 0 bytes", "352"]),
        ({"vox_offset": 351}, ["351"]),
        ({"vox_offset": 352.5}, ["352.5"]),
        ({"vox_offset": np.nan}, ["nan"]),
        ({"vox_offset": 1e30}, ["1e+30"]),
        ({"vox_offset": -352}, ["-352"]),
        ({"scl_slope": np.inf}, ["scales", "inf"]),
        ({"scl_slope": 2, "scl_inter": np.nan}, ["adds nan"]),
        ({"pixdim": [1, 1, 0, 1, 1, 1, 1, 1]}, ["1 x 0 x 1"]),
        ({"pixdim": [1, 1, 1, np.nan, 1, 1, 1, 1]}, ["1 x 1 x nan"]),
        ({"pixdim": [1, np.inf, 1, 1, 1, 1, 1, 1]}, ["inf x 1 x 1"]),
        ({"srow_x": [np.nan, 0, 0, 0]}, ["affine", "not finite"]),
        ({"srow_y": [0, 1, 0, np.inf]}, ["affine", "not finite"]),
        ({"srow_y": [0, 1, 0, 1e20]}, ["affine", "beyond"]),
        ({"srow_x": [0] * 4, "srow_y": [0] * 4, "srow_z": [0] * 4}, ["voxels of 0 x 0 x 0 mm"]),
        (FLAT, ["singular"]),
        ({"sform_code": 0, "qform_code": 1, "quatern_b": 2}, ["no rotation"]),
        ({"sform_code": 0, "qform_code": 1, "qoffset_x": np.nan}, ["affine", "not finite"]),
    ],
)
def test_what_a_header_tells_is_refused_with_its_reason(tmp_path: Path, fields: Any, words: list[str]) -> None:
    for suffix in (".nii", ".nii.gz"):
        path = saved(tmp_path / f"a{suffix}", made(**fields))
        message = refused(path, *words)
        with pytest.raises(InputError) as error:
            header_of(path)
        assert str(error.value) == message


def test_nifti2_counts_beyond_every_file_are_refused(tmp_path: Path) -> None:
    for dim in ([3, 2**62, 2**62, 4, 1, 1, 1, 1], [2**40, 5, 4, 3, 1, 1, 1, 1], [7, 1, 1, 1, 2**62, 2**62, 1, 1]):
        refused(saved(tmp_path / "a.nii", made(kind=Nifti2Header, dim=dim)))
    refused(saved(tmp_path / "a.nii", made(kind=Nifti2Header, vox_offset=2**62)), "begin after")
    refused(saved(tmp_path / "a.nii", made(kind=Nifti2Header, eol_check=[13, 13, 10, 26])), "EOL")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_voxels_that_are_not_finite_are_counted(tmp_path: Path, bad: float, dtype: str) -> None:
    values = VOXELS.astype(dtype)
    values[2, 1, :2] = bad
    refused(saved(tmp_path / "a.nii.gz", made(values)), "2 of 60", "NaN or infinite")


@pytest.mark.parametrize("value", [1e300, -1e300, 2e38])
def test_values_that_no_window_can_hold_are_refused(tmp_path: Path, value: float) -> None:
    values = VOXELS.astype(np.float64)
    values[2, 1, 0] = value
    refused(saved(tmp_path / "a.nii.gz", made(values)), "beyond 1.5e+38")


@pytest.mark.parametrize("value", [2**53 + 1, -(2**53) - 1, -(2**63)])
def test_integers_that_cannot_be_scaled_exactly_are_refused(tmp_path: Path, value: int) -> None:
    values = VOXELS.astype(np.int64)
    values[0, 0, 0] = value
    refused(saved(tmp_path / "a.nii", made(values)), "2^53")
    refused(saved(tmp_path / "a.nii", made(values.astype(np.uint64))), "2^53")  # what is negative wraps to large


def test_the_limit_on_a_volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "a.nii", made())
    monkeypatch.setattr(nifti_header, "LARGEST_VOLUME", VOXELS.nbytes)
    read(path)
    refused(saved(path, made(scl_slope=-1)), "at most")  # scaled, they take twice the memory
    monkeypatch.setattr(nifti_header, "LARGEST_VOLUME", VOXELS.nbytes - 1)
    refused(saved(path, made()), "5 x 4 x 3", "int16", "at most")


def test_what_is_no_file_of_these_kinds_is_refused(tmp_path: Path) -> None:
    for suffix in (".nii", ".hdr"):
        (tmp_path / f"text{suffix}").write_text("this is not a volume\n" * 40)
        (tmp_path / "text.img").touch()
        refused(tmp_path / f"text{suffix}", "not a NIfTI")
        (tmp_path / f"empty{suffix}").touch()
        (tmp_path / "empty.img").touch()
        refused(tmp_path / f"empty{suffix}", "empty")
    refused(saved(tmp_path / "zipped.nii", gzip.compress(made())), "not a NIfTI")
    (tmp_path / "plain.nii.gz").write_bytes(made())
    refused(tmp_path / "plain.nii.gz", "broken")
    refused(tmp_path / "missing.nii.gz", "No such file")
    (tmp_path / "folder.nii").mkdir()
    with pytest.raises(InputError, match="cannot be read"):
        nifti.read(tmp_path / "folder.nii", name="a", subject=None)


def test_nibabel_says_nothing_of_what_it_mends(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    odd = {"pixdim": [0, -1, 1, 1, 1, 1, 1, 1], "bitpix": 3, "qform_code": 77}
    read(saved(tmp_path / "a.nii", made(**odd)))
    read(saved(tmp_path / "b.nii", made(kind=Nifti2Header, eol_check=0, **odd)))
    refused(saved(tmp_path / "c.nii", made(kind=Nifti2Header, eol_check=1)))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_what_is_written_names_nobody(tmp_path: Path, suffix: str, kind: type) -> None:
    image = kind(VOXELS, AFFINE, dtype=np.int16)
    texts = [name for name in image.header.keys() if image.header[name].dtype.kind == "S" and name != "magic"]  # noqa: SIM118
    for name in texts:
        image.header[name] = b"Jane Doe"
    image.header.extensions.append(Nifti1Extension("comment", b"Jane Doe, born 1970"))
    nib.save(image, tmp_path / "jane.nii")
    assert b"Jane" in (tmp_path / "jane.nii").read_bytes()
    for name in ("jane_doe", "other"):
        write(read(tmp_path / "jane.nii", subject="Jane"), tmp_path / f"{name}{suffix}")
    data = (tmp_path / f"jane_doe{suffix}").read_bytes()
    assert data == (tmp_path / f"other{suffix}").read_bytes()
    if suffix == ".nii.gz":
        assert data[3:8] == bytes(5)  # no flags, hence no name, and no date
        data = gzip.decompress(data)
    assert b"jane" not in data.lower()
    header = nib.load(tmp_path / f"other{suffix}").header
    assert {header[name].item() for name in texts} == {b""}
    assert len(data) == header.single_vox_offset + VOXELS.nbytes


def test_nifti2_is_written_where_nifti1_cannot_hold_it(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    for values, storage in [
        (np.zeros((40000, 1, 1), np.uint8), Storage("nifti1")),
        (np.zeros((1, 1, 32768), np.uint8), Storage("dicom")),
        (VOXELS, Storage("nifti1", slope=1e-60)),
        (VOXELS, Storage("nifti1", slope=1e60)),
    ]:
        scan = Scan(values, AFFINE, None, "a", storage)
        write(scan, path)
        assert_same(read(path), replace(scan, storage=replace(storage, format="nifti2")))
    write(Scan(np.zeros((32767, 1, 1), np.uint8), AFFINE, None, "a", Storage("dicom")), path)
    assert read(path).storage == Storage("nifti1")


def test_any_memory_layout_and_byte_order_is_written(tmp_path: Path) -> None:
    for number, values in enumerate([VOXELS, np.asfortranarray(VOXELS), VOXELS.astype(">i2"), VOXELS[::-1][::-1]]):
        write(Scan(values, AFFINE, None, "a"), tmp_path / f"{number}.nii")
        assert (tmp_path / f"{number}.nii").read_bytes() == (tmp_path / "0.nii").read_bytes()
    np.testing.assert_array_equal(read(tmp_path / "2.nii").voxels, VOXELS)


def test_writing_refuses_what_it_would_change(tmp_path: Path) -> None:
    scan = Scan(VOXELS, AFFINE, None, "a", Storage("nifti1"))
    for name, given_scan, words in [
        ("a.hdr", scan, "never written. Name it .nii.gz"),
        ("a.img", scan, "never written"),
        ("a.dcm", scan, "never written"),
        ("a.nii", replace(scan, affine=None, storage=None), "affine"),
        ("a.nii", replace(scan, affine=None), "affine"),
        ("a.nii", replace(scan, voxels=VOXELS[0]), "volume"),
        *(("a.nii.gz", replace(scan, voxels=VOXELS.astype(t)), t) for t in ("float16", "bool", "complex64")),
        ("a.nii", replace(scan, affine=np.diag([1.0, 1, 0, 1])), "1 x 1 x 0 mm"),
        ("a.nii", replace(scan, affine=AFFINE * np.nan), "not finite"),
        ("no folder/a.nii", scan, "cannot be written"),
    ]:
        with pytest.raises(InputError, match=words):
            write(given_scan, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "a.nii.gz", made())

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(InputError, match="No space left"):
        write(Scan(VOXELS + 1, AFFINE, None, "a"), path)
    np.testing.assert_array_equal(read(path).voxels, VOXELS)
    assert list(tmp_path.iterdir()) == [path]


@given(axes=st.permutations("xyz"), signs=st.tuples(*[st.sampled_from([1, -1])] * 3), tilt=st.floats(-0.5, 0.5))
def test_orientation_names_where_each_axis_leads(axes: list[str], signs: tuple[int, ...], tilt: float) -> None:
    columns = np.stack([np.eye(3)["xyz".index(axis)] * sign for axis, sign in zip(axes, signs, strict=True)], axis=1)
    turn = np.array([[math.cos(tilt), -math.sin(tilt), 0], [math.sin(tilt), math.cos(tilt), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ columns @ np.diag([0.5, 1, 4])
    letters = {("x", 1): "R", ("x", -1): "L", ("y", 1): "A", ("y", -1): "P", ("z", 1): "S", ("z", -1): "I"}
    assert orientation_of(affine) == "".join(letters[pair] for pair in zip(axes, signs, strict=True))
    assert spacing_of(affine) == pytest.approx((0.5, 1, 4))


@pytest.mark.parametrize("name", ["chris_t1.nii.gz", "open_ms_patient20_T1W.nii.gz", "1107_SS.nii.gz"])
def test_real_scans_are_read_as_nibabel_reads_them_and_come_back(shared: Path, tmp_path: Path, name: str) -> None:
    path = shared / "inputs" / "nifti" / name
    if not path.exists():
        pytest.skip(f"no {path}")
    scan, there = read(path), nib.load(path)
    np.testing.assert_array_equal(scan.voxels, there.dataobj.get_unscaled())
    np.testing.assert_array_equal(scan.affine, there.affine)
    assert scan.storage.qform == there.header["qform_code"]
    assert orientation_of(scan.affine) == "".join(nib.aff2axcodes(there.affine))
    write(scan, tmp_path / "a.nii")
    assert_same(read(tmp_path / "a.nii"), scan)
