"""One volume from a NIfTI-1, NIfTI-2 or Analyze 7.5 file, whole or refused, and NIfTI files that name nobody.

Voxels come out as they are stored, (X, Y, Z), with the scaling beside them in `Storage`; a file without compression
may have bytes after its voxels, one with compression is inflated as far as its header says and a little further, to its
checksum. A header is read with `nifti_header.py`, bytes with `nifti_stream.py`.

What is written holds geometry and intensities only: the free text of a header (`descrip`, `db_name`, `aux_file`,
`intent_name`), extensions, and the name and the date that gzip keeps, stay empty.
"""

# mypy: allow-untyped-calls

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from nibabel.nifti1 import Nifti1Header
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from brainvq.data.nifti_header import (
    LONGEST,
    PER_MILLIMETRE,
    UNITS,
    Layout,
    Nifti2,
    check_affine,
    parse,
    qform_agrees,
)
from brainvq.data.nifti_stream import MOST_INFLATED, Stream
from brainvq.data.planes import spacing_of
from brainvq.data.scan import EXACT_INTEGERS, Header, Scan, Storage, suffix_of
from brainvq.errors import InputError
from brainvq.writing import atomic

SINGLE = (".nii", ".nii.gz")
SURPLUS = 1 << 16  # bytes after the voxels of a compressed file, inflated to reach its checksum
LONGEST_SIDE = (1 << 15) - 1  # of NIfTI-1
WRITTEN = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64")


def read(path: Path, *, name: str, subject: str | None) -> Scan:
    """(X, Y, Z), first axis fastest in memory. A constant volume is a scan like any other.

    Raises InputError, naming the file, for what cannot be read in full or is not one finite grey volume.
    """
    with _named(path):
        layout, source = _layout(path)
        voxels = _scaled(_stored_voxels(layout, source, path), layout)
        _check_values(voxels, path)
        return Scan(voxels, layout.header.affine, subject, name, layout.header.storage)


def header(path: Path) -> Header:
    """What `read` would give, from the first bytes alone. Raises InputError as `read`, but for what voxels tell."""
    with _named(path):
        return _layout(path)[0].header


def write(scan: Scan, path: Path) -> None:
    """NIfTI-1 or, where `storage` says so or NIfTI-1 cannot hold it, NIfTI-2, with the stored voxels bit by bit.

    The same scan gives the same bytes. Atomic; the folder must exist.
    """
    suffix = suffix_of(path)
    if suffix not in SINGLE:
        raise InputError(f"{path}: {suffix} is read, never written. Name it .nii.gz instead.")
    fields = _new_header(scan, path)
    with atomic(path) as file:
        if suffix == ".nii":
            _put(fields, scan.voxels, file)
        else:
            with gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0) as stream:
                _put(fields, scan.voxels, stream)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Whatever a broken file makes others raise becomes an InputError with the file's name."""
    try:
        with np.errstate(all="ignore"):  # what overflows is found not finite afterwards
            yield
    except InputError:
        raise
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}). Check the path and its permissions.") from error
    except (OSError, EOFError, zlib.error, HeaderDataError, WrapStructError, ValueError, LookupError) as error:
        raise InputError(f"{path}: broken or cut short ({error}). Replace it or remove it.") from error
    except (MemoryError, ArithmeticError, TypeError, RuntimeError) as error:
        raise InputError(f"{path}: cannot be decoded ({type(error).__name__}). Replace it or remove it.") from error


def _files(path: Path) -> tuple[Path, Path]:
    """The file of the header and that of the voxels; of a pair, either may be given."""
    if suffix_of(path) in SINGLE:
        return path, path
    return _of_pair(path, ".hdr"), _of_pair(path, ".img")


def _of_pair(path: Path, suffix: str) -> Path:
    if path.suffix.lower() == suffix:
        return path
    for beside in (path.with_suffix(suffix), path.with_suffix(suffix.upper())):
        if beside.is_file():
            return beside
    raise InputError(f"{path}: the {suffix} file that belongs to it is missing. Put it beside this one.")


def _layout(path: Path) -> tuple[Layout, Path]:
    """What the header says, compared with the size of the file that holds the voxels, which is named too."""
    where, source = _files(path)
    zipped = suffix_of(path) == ".nii.gz"
    with where.open("rb") as file:
        block = bytearray(LONGEST)
        had = Stream(file, inflate=zipped).fill(memoryview(block))
    layout = parse(bytes(block[:had]), path, single=where == source)
    if layout.header.storage and layout.header.storage.format == "analyze" and path.with_suffix(".mat").exists():
        raise InputError(
            f"{path}: the .mat file beside it may turn it (SPM), and is not read. Convert both to .nii.gz, or move it."
        )
    size, needed = source.stat().st_size, layout.offset + layout.nbytes
    if needed > (size * MOST_INFLATED if zipped else size):
        raise _cut_short(path, f"{size:,} bytes of {source.name} cannot hold the {needed:,} that its header declares")
    return layout, source


def _cut_short(path: Path, why: str) -> InputError:
    return InputError(f"{path}: cut short: {why}. Replace it or remove it.")


def _stored_voxels(layout: Layout, source: Path, path: Path) -> NDArray[Any]:
    """(X, Y, Z) in native byte order."""
    zipped = suffix_of(source) == ".nii.gz"
    buffer = np.empty(layout.nbytes, dtype=np.uint8)
    with source.open("rb") as file:
        stream = Stream(file, inflate=zipped)
        stream.skip(layout.offset)
        had = stream.fill(buffer.data)
        if had < layout.nbytes:
            raise _cut_short(path, f"holds {had:,} bytes of voxels; its header declares {layout.nbytes:,}")
        if zipped and stream.fill(memoryview(bytearray(SURPLUS + 1))) > SURPLUS:
            raise InputError(f"{path}: holds far more than its header declares. Replace it or remove it.")
    voxels = buffer.view(layout.stored).reshape(layout.header.shape, order="F")
    return voxels if voxels.dtype.isnative else voxels.byteswap(inplace=True).view(voxels.dtype.newbyteorder("="))


def _scaled(voxels: NDArray[Any], layout: Layout) -> NDArray[Any]:
    """A slope below zero, which turns dark and bright, is applied at once; plane by plane, for memory's sake."""
    if layout.scaling is None:
        return voxels
    slope, intercept = layout.scaling
    scaled = np.empty(voxels.shape, layout.header.dtype, order="F")
    for z in range(voxels.shape[2]):
        scaled[:, :, z] = voxels[:, :, z].astype(np.float64) * slope + intercept
    return scaled


def _check_values(voxels: NDArray[Any], path: Path) -> None:
    if voxels.dtype.kind == "f":
        bad = voxels.size - int(np.count_nonzero(np.isfinite(voxels)))
        if bad:
            raise InputError(f"{path}: {bad:,} of {voxels.size:,} voxels are NaN or infinite. Repair or remove it.")
    elif voxels.dtype.itemsize == 8 and max(abs(int(voxels.min())), int(voxels.max())) > EXACT_INTEGERS:
        raise InputError(f"{path}: holds values beyond 2^53, which cannot be scaled exactly. Rescale it.")


def _new_header(scan: Scan, path: Path) -> Nifti1Header:
    """Little endian; no field but those of the voxels and of space is set."""
    storage = scan.storage or Storage("nifti1")
    if scan.affine is None or scan.voxels.ndim != 3:
        raise InputError(f"{path}: a volume with an affine is expected, not a picture. Name it .png instead.")
    if scan.voxels.dtype.name not in WRITTEN:
        raise InputError(f"{path}: NIfTI holds no {scan.voxels.dtype}. Convert the voxels to float32.")
    check_affine(scan.affine, path)
    affine = np.array(scan.affine, dtype=np.float64)
    affine[:3] *= PER_MILLIMETRE[storage.units]
    fields: Nifti1Header = (Nifti2 if _needs_nifti2(scan, storage) else Nifti1Header)(endianness="<")
    fields.set_data_dtype(scan.voxels.dtype.newbyteorder("="))
    fields.set_data_shape(_sides(scan.voxels.shape, storage.axes))
    fields.set_slope_inter(storage.slope, storage.intercept)
    fields["xyzt_units"] = UNITS.index(storage.units)
    _set_space(fields, affine, storage)
    return fields


def _needs_nifti2(scan: Scan, storage: Storage) -> bool:
    """NIfTI-1 counts sides with 16 bit, and a slope that 32 bit round to 0 or to infinity would be lost in it."""
    with np.errstate(all="ignore"):
        slope, intercept = np.float32(storage.slope), np.float32(storage.intercept)
    fits = max(scan.voxels.shape) <= LONGEST_SIDE and slope != 0 and np.isfinite([slope, intercept]).all()
    return storage.format == "nifti2" or not fits


def _sides(shape: tuple[int, ...], axes: int) -> tuple[int, ...]:
    """`shape` with as many axes as the file had."""
    return shape[:2] if axes == 2 and shape[2] == 1 else shape + (1,) * (axes - 3)


def _set_space(fields: Nifti1Header, affine: NDArray[np.float64], storage: Storage) -> None:
    """The affine always stands in the sform, and its code says so wherever no other field leads to the same place."""
    fields.set_qform(affine, storage.qform)  # the nearest that has right angles
    if not qform_agrees(fields, affine):
        fields["qform_code"] = 0
    fields.set_sform(affine, storage.sform if storage.format.startswith("nifti") else 1)
    if not np.allclose(fields.get_best_affine(), affine, rtol=1e-6, atol=1e-5 * min(spacing_of(affine))):
        fields["sform_code"] = storage.qform or 1


def _put(fields: Nifti1Header, voxels: NDArray[Any], file: IO[bytes] | gzip.GzipFile) -> None:
    fields.write_to(file)
    for z in range(voxels.shape[2]):
        file.write(voxels[:, :, z].astype(voxels.dtype.newbyteorder("<"), copy=False).tobytes(order="F"))
