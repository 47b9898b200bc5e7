"""Sound files of every format, small enough to be broken thousands of times: what fuzzing begins with.

They are made here. Where a folder of real data is at hand, its files are added: NIfTI volumes as a corner of their
voxels under their own header, DICOM series and pictures as they are.
"""

# mypy: allow-untyped-calls

from __future__ import annotations

import gzip
import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin
from pydicom import Dataset, FileMetaDataset, Sequence, dcmwrite
from pydicom.encaps import encapsulate
from pydicom.uid import UID, MRImageStorage

FORMATS = ("nifti", "dicom", "png", "picture")
CORNER = 24  # voxels a side of what is kept of a real volume
LARGEST = 300_000  # bytes of a real file that is taken whole
NATIVE = {"implicit": "1.2.840.10008.1.2", "explicit": "1.2.840.10008.1.2.1", "deflated": "1.2.840.10008.1.2.1.99"}
ENCODED = {"rle": "1.2.840.10008.1.2.5", "jpeg_ls": "1.2.840.10008.1.2.4.80", "jpeg_2000": "1.2.840.10008.1.2.4.90"}
BASELINE, ENHANCED_MR = "1.2.840.10008.1.2.4.50", "1.2.840.10008.5.1.4.1.1.4.1"


@dataclass(frozen=True)
class Seed:
    """`files` by name; `path` is the one that is read, "." the folder that holds them all."""

    name: str
    files: dict[str, bytes]
    path: str


@cache
def seeds(format: str, shared: Path | None = None) -> tuple[Seed, ...]:
    """Of one of `FORMATS`; with what `shared` holds of it besides, if anything."""
    made = {"nifti": _nifti, "dicom": _dicom, "png": _png, "picture": _pictures}[format]
    real = {"nifti": _real_nifti, "dicom": _real_dicom, "png": _real_png}.get(format)
    return (*made(), *(real(shared) if shared and real else ()))


def _grey(shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """Smooth, with a little noise, as images are."""
    ramp = np.indices(shape).sum(axis=0) * 7.0
    grey: NDArray[Any] = (ramp + np.random.default_rng(0).integers(0, 9, shape)).astype(dtype)
    return grey


def _single(name: str, data: bytes) -> Seed:
    return Seed(name, {name: data}, name)


def _nifti() -> Iterator[Seed]:
    affine = np.array([[-1.2, 0.1, 0, 40], [0, 1.1, 0, -50], [0.05, 0, 2, 3], [0, 0, 0, 1]])
    voxels = _grey((7, 6, 5), "int16")
    first, second = nib.Nifti1Image(voxels, affine), nib.Nifti2Image(voxels.astype("float64"), affine)
    first.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"a remark"))
    swapped = nib.Nifti1Image(voxels, affine, nib.Nifti1Header(endianness=">"), dtype="int16")
    scaled = nib.Nifti1Image(voxels.astype("uint8"), affine)
    scaled.header.set_slope_inter(-0.5, 9)
    for name, image in [("first", first), ("second", second), ("swapped", swapped), ("scaled", scaled)]:
        yield _single(f"{name}.nii", image.to_bytes())
        yield _single(f"{name}.nii.gz", gzip.compress(image.to_bytes(), 1, mtime=0))
    for name, pair in [("pair", nib.Nifti1Pair(voxels, affine)), ("spm", nib.Spm2AnalyzeImage(voxels, None))]:
        streams = {part: io.BytesIO() for part, _ in type(pair).files_types}  # SPM2 keeps a third, of MATLAB
        pair.to_file_map(type(pair).make_file_map(streams))
        contents = {f"{name}.hdr": streams["header"].getvalue(), f"{name}.img": streams["image"].getvalue()}
        yield Seed(name, contents, f"{name}.hdr")


def _real_nifti(shared: Path) -> Iterator[Seed]:
    for path in sorted((shared / "inputs" / "nifti").glob("*.nii.gz")):
        whole = gzip.decompress(path.read_bytes())
        order = "<" if whole[:2] == b"\x5c\x01" else ">"
        header = bytearray(whole[: int(struct.unpack_from(f"{order}f", whole, 108)[0])])
        sides = struct.unpack_from(f"{order}3h", header, 42)
        (bits,) = struct.unpack_from(f"{order}h", header, 72)
        voxels = np.frombuffer(whole, f"V{bits // 8}", np.prod(sides), len(header)).reshape(sides, order="F")
        middle = tuple(slice(side // 2, side // 2 + CORNER) for side in sides)
        struct.pack_into(f"{order}3h", header, 42, *voxels[middle].shape)
        yield _single(path.name, gzip.compress(bytes(header) + voxels[middle].tobytes("F"), 1, mtime=0))
        if path.stat().st_size < LARGEST:
            yield _single(f"whole_{path.name}", path.read_bytes())


def _dicom() -> Iterator[Seed]:
    for name, syntax in {**NATIVE, **ENCODED, "baseline": BASELINE}.items():
        files = {f"{n}.dcm": _written(_slice(n, syntax), syntax) for n in range(3)}
        yield Seed(name, files, ".")
    yield _single("enhanced.dcm", _written(_enhanced(), NATIVE["explicit"]))


def _slice(number: int, syntax: str) -> Dataset:
    one = _image(_grey((34, 36), "uint8" if syntax == BASELINE else "uint16") + np.uint8(number), syntax)
    one.SOPInstanceUID = UID(f"1.2.3.{number + 1}")
    one.ImagePositionPatient, one.ImageOrientationPatient = [0, 1, 2.5 * number], [1, 0, 0, 0, 1, 0]
    one.PixelSpacing, one.RescaleSlope, one.RescaleIntercept = [1.1, 0.9], 2, -5
    if syntax in ENCODED.values():
        one.file_meta.TransferSyntaxUID = UID(NATIVE["explicit"])
        one.compress(UID(syntax), generate_instance_uid=False)
    return one


def _image(pixels: NDArray[Any], syntax: str) -> Dataset:
    one = Dataset()
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = UID(syntax)
    one.SOPClassUID, one.SeriesInstanceUID, one.SeriesNumber = MRImageStorage, UID("1.2.3"), 4
    one.Modality, one.PatientName, one.ImageType = "MR", "Nobody^At All", ["ORIGINAL", "PRIMARY", "M"]
    one.Rows, one.Columns = pixels.shape[-2:]
    bits = 8 * pixels.itemsize
    one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = bits, bits, bits - 1, 0
    one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
    one.PixelData = pixels.tobytes()
    if syntax == BASELINE:
        one.PixelData = encapsulate([_saved(pixels, "JPEG")])
        one["PixelData"].is_undefined_length = True
    return one


def _enhanced() -> Dataset:
    one = _image(_grey((4, 10, 8), "int16"), NATIVE["explicit"])
    one.SOPClassUID, one.NumberOfFrames, one.PixelRepresentation = UID(ENHANCED_MR), 4, 1
    measures = _group(PixelSpacing=[1.1, 0.9], SliceThickness=2)
    turned = _group(ImageOrientationPatient=[1, 0, 0, 0, 0, -1])
    one.SharedFunctionalGroupsSequence = [_group(PixelMeasuresSequence=[measures], PlaneOrientationSequence=[turned])]
    places = (_group(ImagePositionPatient=[0, 2 * n, 0]) for n in range(4))
    one.PerFrameFunctionalGroupsSequence = Sequence([_group(PlanePositionSequence=[place]) for place in places])
    return one


def _group(**elements: object) -> Dataset:
    found = Dataset()
    for name, value in elements.items():
        setattr(found, name, value)
    return found


def _written(one: Dataset, syntax: str) -> bytes:
    one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID
    one.file_meta.MediaStorageSOPInstanceUID = one.get("SOPInstanceUID", UID("1.2.3.9"))
    stream = io.BytesIO()
    dcmwrite(stream, one, enforce_file_format=True)
    return stream.getvalue()


def _real_dicom(shared: Path) -> Iterator[Seed]:
    for folder in sorted(path for path in (shared / "inputs" / "dicom").glob("*/*") if path.is_dir()):
        files = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}
        if files and sum(map(len, files.values())) < 4 * LARGEST:
            yield Seed(f"{folder.parent.name}/{folder.name}", files, "." if len(files) > 1 else next(iter(files)))


def _saved(pixels: NDArray[Any], format: str, mode: str | None = None, **options: Any) -> bytes:
    stream = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(stream, format, **options)
    return stream.getvalue()


def _png() -> Iterator[Seed]:
    eight, sixteen = _grey((14, 12), "uint8"), _grey((14, 12), "uint16") * 200
    said = PngImagePlugin.PngInfo()
    said.add_text("Title", "a slice", zip=True)
    yield _single("grey.png", _saved(eight, "PNG", pnginfo=said))
    yield _single("sixteen.png", _saved(sixteen, "PNG"))
    for mode in ("1", "P", "LA", "RGB", "RGBA"):
        yield _single(f"{mode}.png", _saved(eight, "PNG", mode))


def _real_png(shared: Path) -> Iterator[Seed]:
    folder = shared / "oasis" / "keras_png_slices_data" / "keras_png_slices_validate"
    for path in sorted(folder.glob("*.png"))[::280]:
        yield _single(path.name, path.read_bytes())


def _pictures() -> Iterator[Seed]:
    eight, sixteen = _grey((40, 32), "uint8"), _grey((20, 18), "uint16") * 200
    yield _single("baseline.jpg", _saved(eight, "JPEG"))
    yield _single("progressive.jpg", _saved(eight, "JPEG", progressive=True, optimize=True))
    yield _single("colour.jpg", _saved(eight, "JPEG", "RGB", quality=95))
    for packing in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "group4"):
        mode = "1" if packing == "group4" else None
        yield _single(f"{packing}.tif", _saved(eight, "TIFF", mode, compression=packing))
    yield _single("sixteen.tif", _saved(sixteen, "TIFF", compression="tiff_lzw"))
    yield _single("float.tif", _saved(sixteen.astype("float32"), "TIFF"))
    stream = io.BytesIO()
    np.save(stream, sixteen)
    yield _single("sixteen.npy", stream.getvalue())
