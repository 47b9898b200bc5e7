"""What the header of a volume says, believed only where it can be true: before anything is allocated.

Sources: R. W. Cox et al., "A (sort of) new image data format standard: NIfTI-1" (2004) and `nifti1.h`; `nifti2.h`
(2011); Analyze 7.5 as in Mayo's `dbh.h`, with the fields that SPM99 and SPM2 put into it. nibabel knows the fields and
what they say of space. We differ from it: a voxel size of zero or an offset into the header is refused, not mended; two
numbers that FreeSurfer uses for long vectors are taken as they stand; the code of a qform is kept only where that leads
to the same place as the sform, which is the affine.
"""

# mypy: allow-untyped-calls

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from nibabel.nifti1 import Nifti1Header, Nifti1PairHeader
from nibabel.nifti2 import Nifti2Header
from nibabel.spatialimages import HeaderDataError
from nibabel.spm2analyze import Spm2AnalyzeHeader
from numpy.typing import NDArray

from brainvq.data.planes import spacing_of
from brainvq.data.scan import LARGEST_VOLUME, Header, Storage, Units
from brainvq.errors import InputError

LONGEST = 540  # bytes of the longest header, NIfTI-2's; the others have 348
LAST_OFFSET = 1 << 26  # bytes before the voxels: more than any extension that was met
SMALLEST_VOXEL, FARTHEST = 1e-6, 1e9  # mm
FLAT = 1e-3  # volume of three unit vectors along the axes of the grid, below which they lie in a plane
AGREE = 2e-3  # of a voxel: quaternions of 32 bit are so coarse near half a turn

UNITS: tuple[Units, ...] = ("unknown", "meter", "mm", "micron")  # by their code in NIfTI
PER_MILLIMETRE: dict[Units, float] = {"unknown": 1.0, "mm": 1.0, "meter": 1e-3, "micron": 1e3}
QUIET = logging.Logger("nibabel, unheard", logging.CRITICAL + 1)  # nibabel's own writes on the screen


class Nifti2(Nifti2Header):
    """nibabel's own takes the quaternion of half a turn, rounded to 64 bit, for no rotation."""

    quaternion_threshold = np.float64(1e-14)


class Nifti2Pair(Nifti2):
    is_single = False


Fields = Nifti1Header | Spm2AnalyzeHeader  # of NIfTI-2 too
KINDS: dict[bytes, type[Fields]] = {
    b"n+1\0": Nifti1Header,
    b"ni1\0": Nifti1PairHeader,
    b"n+2\0": Nifti2,
    b"ni2\0": Nifti2Pair,
}


@dataclass(frozen=True, eq=False)
class Layout:
    """`header`: of the scan. In the file: voxels of `stored`, byte order included, after `offset` bytes, first axis
    fastest. `scaling`: slope and intercept that are to be applied, because a `Storage` cannot hold them."""

    header: Header
    stored: np.dtype[Any]
    offset: int
    scaling: tuple[float, float] | None

    @property
    def nbytes(self) -> int:
        """Of all voxels as stored."""
        return math.prod(self.header.shape) * self.stored.itemsize


def parse(block: bytes, path: Path, *, single: bool) -> Layout:
    """The layout that a header describes. `block`: the first LONGEST bytes of its file, or all that there are;
    `single`: voxels follow in the same file.

    Raises InputError for one that is not of one finite grey volume; what else nibabel raises passes through.
    """
    fields = _fields(block, path, single)
    shape, stored, offset = _shape(fields, path), _stored(fields, path), _offset(fields, path, single)
    slope, intercept = _slope_and_intercept(fields, path)
    dtype = stored.newbyteorder("=")
    scaling = (slope, intercept) if slope < 0 else None
    if scaling:
        dtype = np.dtype(np.float32 if dtype.itemsize < 4 or dtype == np.float32 else np.float64)
        slope, intercept = 1.0, 0.0
    _check_size(shape, max(dtype, stored, key=lambda one: one.itemsize), path)
    affine, storage = _geometry(fields, slope, intercept, path)
    return Layout(Header(shape, dtype.name, affine, storage), stored, offset, scaling)


def check_affine(affine: NDArray[np.float64], path: Path) -> None:
    """Raises InputError for one that no volume of real space has."""
    if not (np.abs(affine) < FARTHEST).all():  # NaN compares as False
        raise InputError(f"{path}: its affine has entries that are not finite or beyond {FARTHEST:g} mm. Repair it.")
    sizes = spacing_of(affine)
    if min(sizes) < SMALLEST_VOXEL:
        raise InputError(f"{path}: has voxels of {_times(sizes)} mm, by its affine. Repair its header.")
    if abs(np.linalg.det(affine[:3, :3] / sizes)) < FLAT:
        raise InputError(f"{path}: its affine is singular: the axes lie in one plane. Repair its header.")


def qform_agrees(fields: Nifti1Header, affine: NDArray[np.float64]) -> bool:
    """Whether the header's quaternion leads where `affine`, in the file's units, does."""
    try:
        qform = fields.get_qform()
    except (HeaderDataError, ValueError):  # no rotation at all
        return False
    sizes = spacing_of(affine)
    return bool((np.abs(qform - affine)[:3] / (*sizes, min(sizes)) < AGREE).all())


def _fields(block: bytes, path: Path, single: bool) -> Fields:
    """The header of the kind that its length and its magic word say; its first number tells the byte order too."""
    if not block:
        raise InputError(f"{path}: the file is empty. Replace it or remove it.")
    orders: tuple[Literal["little", "big"], ...] = ("little", "big")
    found = {int.from_bytes(block[:4], order): order for order in orders}
    length = next((length for length in (348, LONGEST) if length in found), 0)
    if not length:
        raise InputError(f"{path}: not a NIfTI file: it begins with neither 348 nor 540. Replace it or remove it.")
    if len(block) < length:
        raise InputError(f"{path}: cut short within its header. Replace it or remove it.")
    magic = block[4:8] if length == LONGEST else block[344:348]
    kind = KINDS.get(magic, None if single or length == LONGEST else Spm2AnalyzeHeader)
    if kind is None or kind.sizeof_hdr != length:
        raise InputError(f"{path}: not a NIfTI file: its magic word is {magic!r}. Replace it or remove it.")
    if single and not getattr(kind, "is_single", False):
        raise InputError(f"{path}: a header whose voxels lie in another file. Name the two .hdr and .img.")
    return kind(block[:length], found[length], check=False)


def _shape(fields: Fields, path: Path) -> tuple[int, int, int]:
    axes = int(fields["dim"][0])
    if not 2 <= axes <= 7:
        raise InputError(f"{path}: has {axes} axes; one volume of three is expected. Replace it or remove it.")
    sides = [int(side) for side in fields["dim"][1 : axes + 1]]
    if min(sides) < 1:
        raise InputError(f"{path}: is {_times(sides)} voxels; each side must be 1 or more. Replace it or remove it.")
    if (volumes := math.prod(sides[3:])) > 1:
        raise InputError(f"{path}: holds {volumes:,} volumes ({_times(sides)}); one a file is expected. Split it.")
    return sides[0], sides[1], [*sides, 1][2]


def _stored(fields: Fields, path: Path) -> np.dtype[Any]:
    try:
        stored: np.dtype[Any] = fields.get_data_dtype()
    except KeyError:
        stored = np.dtype(np.void)
    if stored.kind not in "iuf" or stored.itemsize > 8:
        kind = fields.get_value_label("datatype")
        raise InputError(f"{path}: holds {kind} voxels; integers or real numbers up to 64 bit are read. Convert it.")
    return stored


def _offset(fields: Fields, path: Path, single: bool) -> int:
    offset = float(fields["vox_offset"])  # a float in NIfTI-1 and Analyze
    least = fields.single_vox_offset if single and isinstance(fields, Nifti1Header) else 0
    if not least <= offset <= LAST_OFFSET or offset != int(offset):
        raise InputError(
            f"{path}: says that voxels begin after {offset:g} bytes; {least} to {LAST_OFFSET} are possible. Repair it."
        )
    return int(offset)


def _slope_and_intercept(fields: Fields, path: Path) -> tuple[float, float]:
    """A slope of zero or NaN means that nothing is scaled."""
    if isinstance(fields, Nifti1Header):
        slope, intercept = float(fields["scl_slope"]), float(fields["scl_inter"])
    else:
        slope, intercept = (float(value or 0) for value in fields.get_slope_inter())
    if slope == 0 or math.isnan(slope):
        return 1.0, 0.0
    if not (math.isfinite(slope) and math.isfinite(intercept)):
        raise InputError(f"{path}: scales its voxels by {slope:g} and adds {intercept:g}. Repair its header.")
    return slope, intercept


def _geometry(fields: Fields, slope: float, intercept: float, path: Path) -> tuple[NDArray[np.float64], Storage]:
    axes = int(fields["dim"][0])
    sizes = fields["pixdim"][1 : min(axes, 3) + 1]
    if not np.isfinite(sizes).all() or (sizes == 0).any():
        raise InputError(f"{path}: has voxels of {_times(sizes)}, by its header. Repair it.")
    fields.check_fix(logger=QUIET, error_level=40)  # as nibabel does: unknown codes to 0, negative sizes to positive
    try:
        found = np.array(fields.get_best_affine(), dtype=np.float64)
    except (HeaderDataError, ValueError) as error:
        raise InputError(f"{path}: its qform is no rotation ({error}). Repair its header.") from error
    if not isinstance(fields, Nifti1Header):
        check_affine(found, path)
        return found, Storage("analyze", "mm", slope, intercept, qform=0, sform=0, axes=axes)
    code = int(fields["xyzt_units"]) & 7
    units = UNITS[code] if code < len(UNITS) else "unknown"
    affine = found.copy()
    affine[:3] /= PER_MILLIMETRE[units]
    check_affine(affine, path)
    sform, qform = int(fields["sform_code"]), int(fields["qform_code"])
    if sform and not qform_agrees(fields, found):
        qform = 0
    format: Literal["nifti1", "nifti2"] = "nifti2" if fields.sizeof_hdr == LONGEST else "nifti1"
    return affine, Storage(format, units, slope, intercept, qform, sform, axes)


def _check_size(shape: tuple[int, int, int], dtype: np.dtype[Any], path: Path) -> None:
    if math.prod(shape) * dtype.itemsize > LARGEST_VOLUME:
        raise InputError(
            f"{path}: is {_times(shape)} voxels of {dtype.name}; at most {LARGEST_VOLUME >> 20} MiB are read. "
            "Make it smaller."
        )


def _times(values: Any) -> str:
    return " x ".join(f"{value:g}" if isinstance(value, float | np.floating) else str(value) for value in values)
