"""One PNG, JPEG, TIFF or NPY slice: read in full or refused, and written with its dtype kept.

PNG chunks are checked against their CRC, Pillow's tolerance for truncated files stays off, a NumPy header is compared
with the file before anything is allocated. Grey values come out as they lie in the file (8 and 16 bit, 32-bit float);
colour is accepted only where its channels are equal, because a coloured picture is a figure or a label map and its
brightness is not a measurement.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from brainvq.data.scan import EXACT_INTEGERS, LARGEST, SMALLEST, Header, Scan, suffix_of
from brainvq.errors import InputError
from brainvq.writing import atomic

warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # an error says what matters
SAMPLE_FORMAT, BITS_PER_SAMPLE, PHOTOMETRIC = 339, 258, 262  # TIFF 6.0, sections 19 and 8
DAMAGE = (OSError, ValueError, SyntaxError, EOFError, TypeError, KeyError, IndexError, OverflowError, TokenError)
TIFF_DTYPES = ("uint8", "uint16", "int16", "int32", "float32")


def read(path: Path, *, name: str, subject: str | None) -> Scan:
    """(H, W). A constant (say, all black) slice is a scan like any other.

    Raises InputError, naming the file, for what cannot be read in full or is not one finite grey image.
    """
    voxels = _read_npy(path) if suffix_of(path) == ".npy" else _read_picture(path)
    _check_shape(voxels.shape, path)
    _check_values(voxels, path)
    return Scan(np.ascontiguousarray(voxels), None, subject, name)


def header(path: Path) -> Header:
    """(H, W) and dtype from the header alone. Pillow tells no finer than 8 bit or more: `dtype` is then "uint16"."""
    if suffix_of(path) == ".npy":
        array = _map_npy(path)
        return Header(tuple(array.shape), array.dtype.newbyteorder("=").name, None, None)
    with _named(path), _open_picture(path) as picture:
        eight = not picture.mode.startswith(("I", "F"))
        return Header((picture.height, picture.width), "uint8" if eight else "uint16", None, None)


def write(scan: Scan, path: Path) -> None:
    """PNG (uint8, uint16), TIFF (also int16, int32, float32) or NPY (any). Atomic; the folder must exist."""
    suffix, dtype = suffix_of(path), scan.voxels.dtype.name
    allowed = {".png": ("uint8", "uint16"), ".tif": TIFF_DTYPES, ".tiff": TIFF_DTYPES, ".npy": (dtype,)}.get(suffix)
    if scan.voxels.ndim != 2:
        raise InputError(f"{path}: {suffix} holds one slice, not {scan.voxels.ndim} axes. Name it .nii.gz instead.")
    if allowed is None:
        raise InputError(f"{path}: {suffix} loses detail and is not written. Name it .png instead.")
    if dtype not in allowed:
        raise InputError(f"{path}: {suffix} holds {', '.join(allowed)}, not {dtype}. Name it .npy instead.")
    with atomic(path) as file:
        if suffix == ".npy":
            np.save(file, scan.voxels, allow_pickle=False)
        else:
            _save_picture(scan.voxels, file, "PNG" if suffix == ".png" else "TIFF")


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Whatever a decoder raises on a broken file becomes an InputError with the file's name."""
    try:
        yield
    except InputError:
        raise
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}). Check the path and its permissions.") from error
    except (UnidentifiedImageError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(
            f"{path}: not a PNG, JPEG or TIFF image that can be opened. Replace it or remove it."
        ) from error
    except (
        OSError,
        ValueError,
        SyntaxError,
        EOFError,
        TypeError,
        KeyError,
        IndexError,
        OverflowError,
        TokenError,
    ) as error:
        raise InputError(f"{path}: broken or cut short ({error}). Replace it or remove it.") from error
    except (MemoryError, ArithmeticError, AttributeError, AssertionError, RuntimeError) as error:
        raise InputError(f"{path}: cannot be decoded ({type(error).__name__}). Replace it or remove it.") from error


def _open_picture(source: Path | io.BytesIO) -> Image.Image:
    return Image.open(source, formats=("PNG", "JPEG", "TIFF"))


def _read_picture(path: Path) -> NDArray[Any]:
    with _named(path):
        data = path.read_bytes()
        if not data:
            raise InputError(f"{path}: the file is empty. Replace it or remove it.")
        with _open_picture(io.BytesIO(data)) as picture:
            _check_shape((picture.height, picture.width), path)
            if picture.format == "PNG":
                picture.verify()  # the CRC of every chunk, which decoding alone does not check; uses the picture up
        with _open_picture(io.BytesIO(data)) as picture:
            frames = getattr(picture, "n_frames", 1)
            if frames != 1:
                raise InputError(f"{path}: holds {frames} frames; one a file is expected. Save each by itself.")
            return _grey(picture, path)


def _grey(picture: Image.Image, path: Path) -> NDArray[Any]:
    """Decoded grey values (H, W); colour with equal channels and full opacity is grey."""
    tiles = getattr(picture, "tile", ())
    rawmode = str(tiles[0][3]) if tiles else ""
    if picture.mode == "L":
        return np.array(picture)
    if picture.mode.startswith(("I", "F")):
        values = np.array(picture)
        return _tiff_type(values.astype(values.dtype.newbyteorder("=")), picture, path)
    if picture.mode == "1":
        return np.array(picture.convert("L"))
    if picture.mode not in ("P", "PA", "LA", "RGB", "RGBA"):
        raise InputError(f"{path}: a {picture.mode} image; grey is expected. Convert it to 8 or 16 bit grey.")
    if ";16" in rawmode:  # Pillow would drop the low byte in silence
        raise InputError(f"{path}: 16-bit colour, which cannot be read without loss. Save it as 16-bit grey.")
    channels = np.array(picture.convert("RGBA"))  # (H, W, 4)
    if (channels[..., 3] != 255).any():
        raise InputError(
            f"{path}: has transparent pixels, whose grey value is undefined. Save it without transparency."
        )
    if (channels[..., :1] != channels[..., 1:3]).any():
        raise InputError(
            f"{path}: a colour image; grey, or colour with equal channels, is expected. Convert or remove it."
        )
    return channels[..., 0]


def _tiff_type(values: NDArray[Any], picture: Image.Image, path: Path) -> NDArray[Any]:
    """Pillow gives signed 16-bit as 32-bit, unsigned 32-bit as signed, and ignores "white is zero" above 8 bits."""
    tags = getattr(picture, "tag_v2", {})
    format, bits = np.ravel(tags.get(SAMPLE_FORMAT, 1))[0], np.ravel(tags.get(BITS_PER_SAMPLE, 0))[0]
    if tags.get(PHOTOMETRIC) == 0:
        raise InputError(f"{path}: {bits}-bit TIFF with white as zero. Save it with black as zero.")
    if (format, bits) == (2, 16):
        return values.astype(np.int16)
    return values.view(np.uint32) if (format, bits) == (1, 32) else values


def _map_npy(path: Path) -> NDArray[Any]:
    """The array as a map onto the file: NumPy compares header and file here, and nothing is allocated."""
    with _named(path):
        if path.stat().st_size == 0:
            raise InputError(f"{path}: the file is empty. Replace it or remove it.")
        with np.errstate(over="ignore"):  # a header may promise more bytes than an integer holds
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(array, np.ndarray):
            raise InputError(f"{path}: an archive of arrays; one array is expected. Save it with numpy.save.")
        return array


def _read_npy(path: Path) -> NDArray[Any]:
    array = _map_npy(path)
    _check_shape(array.shape, path)
    if array.dtype.kind not in "iuf" or array.dtype.itemsize > 8:
        raise InputError(f"{path}: holds {array.dtype}; integers or real numbers are expected. Convert it.")
    return np.array(array, dtype=array.dtype.newbyteorder("="))


def _check_shape(shape: tuple[int, ...], path: Path) -> None:
    if len(shape) != 2:
        raise InputError(f"{path}: has {len(shape)} axes {tuple(shape)}; one slice (height, width) is expected a file.")
    told = f"{shape[0]} x {shape[1]} pixels (height x width)"
    if min(shape) < SMALLEST:
        raise InputError(f"{path}: is {told}; {SMALLEST} x {SMALLEST} is the least. Remove it.")
    if shape[0] * shape[1] > LARGEST:
        raise InputError(f"{path}: is {told}; at most {LARGEST:,} are read. Make it smaller.")


def _check_values(voxels: NDArray[Any], path: Path) -> None:
    if voxels.dtype.kind == "f":
        bad = voxels.size - int(np.isfinite(voxels).sum())
        if bad:
            raise InputError(f"{path}: {bad:,} of {voxels.size:,} pixels are NaN or infinite. Repair or remove it.")
    if voxels.dtype.itemsize == 8 and max(abs(float(voxels.min())), abs(float(voxels.max()))) > EXACT_INTEGERS:
        raise InputError(f"{path}: holds values beyond 2^53, which cannot be scaled exactly. Rescale it.")


def _save_picture(voxels: NDArray[Any], file: IO[bytes], format: str) -> None:
    if voxels.dtype == np.int16:  # Pillow has no such mode: the same bits, and the tag that says they are signed
        Image.fromarray(voxels.view(np.uint16)).save(file, format=format, tiffinfo={SAMPLE_FORMAT: 2})
    else:
        Image.fromarray(voxels).save(file, format=format)
