"""DICOM series made up for tests, written with pydicom: what a scanner writes, patient's name included."""

import warnings
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    MRImageStorage,
)

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
SECRET = "DOE^JANE"
NATIVE = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian)


def volume(slices: int = 5, rows: int = 6, columns: int = 7, dtype: str = "uint16") -> NDArray[Any]:
    """(slices, rows, columns), no two voxels alike where the type holds enough values."""
    values = np.arange(slices * rows * columns) - (100 if dtype.startswith("i") else 0)
    return values.astype(dtype).reshape(slices, rows, columns)


def image(values: NDArray[Any], *, position: Sequence[float] = (0, 0, 0), **elements: Any) -> Dataset:
    """One slice (rows, columns), or several frames without geometry. An element that is None is left out."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.SeriesInstanceUID = MRImageStorage, "1.2.3.9", "1.2.3.4"
    ds.PatientName, ds.PatientID, ds.SeriesDescription, ds.StudyDate = SECRET, SECRET, SECRET, "19700101"
    ds.Modality, ds.SeriesNumber, ds.ImageType = "MR", 3, ["ORIGINAL", "PRIMARY", "M"]
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [float(x) for x in position], list(AXIAL)
    ds.PixelSpacing = [1.0, 1.0]
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    bits = values.dtype.itemsize * 8
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.PixelRepresentation = int(values.dtype.kind == "i")
    ds.Rows, ds.Columns, ds.BitsAllocated, ds.BitsStored, ds.HighBit = *values.shape[-2:], bits, bits, bits - 1
    if values.ndim == 3:
        ds.NumberOfFrames = len(values)
    ds.PixelData = values.astype(values.dtype.newbyteorder("<")).tobytes() + b"\0" * (values.nbytes % 2)
    ds["PixelData"].VR = "OB" if bits == 8 else "OW"
    for keyword, value in elements.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    return ds


def enhanced(values: NDArray[Any], positions: Sequence[Sequence[float]], **elements: Any) -> Dataset:
    """All slices in one file, with the position of each frame and one orientation and spacing for all."""
    ds = image(values, SOPClassUID=EnhancedMRImageStorage)
    shared, orientation, measures = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = ds.ImageOrientationPatient
    measures.PixelSpacing = ds.PixelSpacing
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    ds.SharedFunctionalGroupsSequence, groups = [shared], []
    for position in positions:
        group, plane = Dataset(), Dataset()
        plane.ImagePositionPatient = [float(x) for x in position]
        group.PlanePositionSequence = [plane]
        groups.append(group)
    ds.PerFrameFunctionalGroupsSequence = groups
    del ds.ImagePositionPatient, ds.ImageOrientationPatient, ds.PixelSpacing
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    return ds


def save(ds: Dataset, path: Path, syntax: str = ExplicitVRLittleEndian) -> Path:
    """Write it in that transfer syntax; the pixels of `ds` are native and little endian."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if syntax == JPEGBaseline8Bit:
            buffer = BytesIO()
            Image.fromarray(ds.pixel_array).save(buffer, "JPEG", quality=100)
            ds.PixelData = encapsulate([buffer.getvalue()])
            ds["PixelData"].is_undefined_length = True
        elif syntax == ExplicitVRBigEndian and ds.BitsAllocated > 8:
            ds.PixelData = np.frombuffer(ds.PixelData, f"u{ds.BitsAllocated // 8}").byteswap().tobytes()
        elif syntax not in NATIVE:
            ds.compress(syntax, generate_instance_uid=False)
        ds.file_meta.TransferSyntaxUID = syntax
        for name in ("_is_implicit_VR", "_is_little_endian"):
            setattr(ds, name, None)
        dcmwrite(path, ds, enforce_file_format=True)
    return path


def series(
    folder: Path,
    values: NDArray[Any],
    *,
    positions: Sequence[Sequence[float]] | None = None,
    names: Sequence[str] | None = None,
    syntax: str = ExplicitVRLittleEndian,
    **elements: Any,
) -> list[Path]:
    """A file a slice, 2 mm apart along z where no positions are given. An element that is a list of one value a slice
    in a tuple `("each", values)` differs from slice to slice."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for n, one in enumerate(values):
        position = (0, 0, 2 * n) if positions is None else positions[n]
        own = {k: v[1][n] if isinstance(v, tuple) and v[0] == "each" else v for k, v in elements.items()}
        name = f"IM{n:04d}.dcm" if names is None else names[n]
        files.append(save(image(one, position=position, **own), folder / name, syntax))
    return files
