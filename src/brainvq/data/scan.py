"""One scan, whatever file it lies in: the types, and the way to the reader and the writer of each format.

A file that cannot be read in full is an error that names it, never zeros; voxels come out as they lie in the file.
Formats: `pictures.py` (PNG, JPEG, TIFF, NPY: a slice a file), `nifti.py` (NIfTI-1 and -2, Analyze: a volume a file),
`dicom.py` (a volume a series of files).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from brainvq.errors import InputError
from brainvq.writing import atomic as atomic

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".npy")
NIFTI = (".nii", ".nii.gz", ".hdr", ".img")
DICOM = (".dcm", ".ima")
SUFFIXES = (*PICTURES, *NIFTI, *DICOM)
NATIVE = (*DICOM, ".jpg", ".jpeg", ".tif", ".tiff")  # decoded by libraries that a broken file may crash
SMALLEST = 8  # pixels a side of a slice
LARGEST = 1 << 26  # pixels a slice; below the limit at which Pillow suspects a decompression bomb
LARGEST_VOLUME = 1 << 29  # bytes of a volume's voxels as stored: 512 x 512 x 512 of 32 bit
EXACT_INTEGERS = 1 << 53  # beyond this float64 skips integers
LARGEST_VALUE = 1.5e38  # of real numbers: float32, in which much is computed, holds the range of no more

Units = Literal["mm", "meter", "micron", "unknown"]


@dataclass(frozen=True)
class Storage:
    """How a volume's file holds it: what a NIfTI needs to be written back alike. Nothing of this names anybody.

    `units`: of the file's own affine ("unknown" is taken as mm). A voxel's value is `slope` x stored + `intercept`, and
    slope > 0. `qform`, `sform`: the codes of NIfTI-1 that say which space the affine leads to; 0 for none. `axes`: of
    the file; those beyond three have length one.
    """

    format: Literal["nifti1", "nifti2", "analyze", "dicom"]
    units: Units = "mm"
    slope: float = 1.0
    intercept: float = 0.0
    qform: int = 0
    sform: int = 1
    axes: int = 3


@dataclass(frozen=True, eq=False)
class Scan:
    """Voxels as in the file, and what is known of them.

    `voxels` (*S), native byte order, dtype of the file; `affine` 4x4 voxel -> mm in RAS+, None for plain pictures;
    `name` is the path relative to the data folder, posix, with suffix. `storage`: of volumes.
    """

    voxels: NDArray[Any]
    affine: NDArray[np.float64] | None
    subject: str | None
    name: str
    storage: Storage | None = None


@dataclass(frozen=True, eq=False)
class Header:
    """What a file says of its scan before any voxel is read; fields as those of `Scan`, `dtype` a NumPy name."""

    shape: tuple[int, ...]
    dtype: str
    affine: NDArray[np.float64] | None
    storage: Storage | None


def suffix_of(path: Path) -> str:
    """In lower case; `.nii.gz` is one suffix. Raises InputError for one that is not known here."""
    name = path.name.lower()
    suffix = ".nii.gz" if name.endswith(".nii.gz") else path.suffix.lower()
    if suffix not in SUFFIXES:
        raise no_image(path)
    return suffix


def no_image(path: Path) -> InputError:
    """Of a file whose suffix is not one of ours."""
    what = f"a {path.suffix.lower()}" if path.suffix else "a file without suffix"
    return InputError(f"{path}: {what} is not an image here. Give {', '.join(SUFFIXES)}.")


def read(path: str | Path, *, files: Sequence[Path] = (), name: str | None = None, subject: str | None = None) -> Scan:
    """One slice (H, W) or one volume (X, Y, Z). `files`: those of a DICOM series, of which `path` is what it is called.

    What decoders of native code read is read in a process of its own (`workers.py`), so that their crash is an error.
    Raises InputError, naming the file, for what cannot be read in full or is not one finite grey image.
    """
    path = Path(path)
    name = path.name if name is None else name
    from brainvq.data import workers

    if not workers.inside() and (files or path.is_dir() or suffix_of(path) in NATIVE):
        return workers.read(path, files=files, name=name, subject=subject)
    scan = _read(path, files, name, subject)
    if scan.voxels.dtype.kind == "f" and max(-float(scan.voxels.min()), float(scan.voxels.max())) > LARGEST_VALUE:
        raise InputError(f"{path}: holds values beyond {LARGEST_VALUE:g}, which no window can hold. Rescale it.")
    return scan


def _read(path: Path, files: Sequence[Path], name: str, subject: str | None) -> Scan:
    if files or path.is_dir() or suffix_of(path) in DICOM:
        from brainvq.data import dicom

        return dicom.read(files or dicom.only_series(path), path=path, name=name, subject=subject)
    if suffix_of(path) in NIFTI:
        from brainvq.data import nifti

        return nifti.read(path, name=name, subject=subject)
    from brainvq.data import pictures

    return pictures.read(path, name=name, subject=subject)


def header_of(path: str | Path, *, files: Sequence[Path] = ()) -> Header:
    """What `read` would give, from the headers alone. Raises InputError as `read`, but for what only voxels tell."""
    path = Path(path)
    if files or path.is_dir() or suffix_of(path) in DICOM:
        from brainvq.data import dicom

        return dicom.header(files or dicom.only_series(path), path=path)
    if suffix_of(path) in NIFTI:
        from brainvq.data import nifti

        return nifti.header(path)
    from brainvq.data import pictures

    return pictures.header(path)


def write(scan: Scan, path: str | Path) -> None:
    """Write `scan` with its dtype kept, as the suffix says: a picture (PNG, TIFF, NPY) or a volume (.nii, .nii.gz).

    Atomic: a reader sees the old file or the whole new one. The folder must exist.
    """
    path = Path(path)
    if suffix_of(path) in (*NIFTI, *DICOM):
        from brainvq.data import nifti

        nifti.write(scan, path)
    else:
        from brainvq.data import pictures

        pictures.write(scan, path)
