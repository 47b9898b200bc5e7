"""A file is read in full and exactly, or refused by name; what is written is what was given."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from brainvq.data.scan import Scan, header_of, read, write
from brainvq.errors import InputError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (12, 10), dtype=np.uint8)


def refused(path: Path, *words: str) -> str:
    """The one message for a file that is refused: it names the file, and says `words`."""
    with pytest.raises(InputError) as error:
        read(path)
    message = str(error.value)
    assert str(path) in message
    assert all(word in message for word in words), message
    return message


def save(path: Path, array: np.ndarray, **options: object) -> Path:
    Image.fromarray(array).save(path, **options)
    return path


@pytest.mark.parametrize(
    ("suffix", "dtype"),
    [
        *((".png", d) for d in ("uint8", "uint16")),
        *((".tif", d) for d in ("uint8", "uint16", "int16", "int32", "float32")),
        *((".npy", d) for d in ("uint8", "int8", "uint16", "int16", "uint32", "float16", "float32", "int64")),
    ],
)
def test_what_is_written_is_read_back(tmp_path: Path, suffix: str, dtype: str) -> None:
    voxels = (RNG.normal(size=(9, 14)) * 99).astype(dtype)
    path = tmp_path / f"a{suffix}"
    write(Scan(voxels, None, None, "a"), path)
    scan = read(path, name="sub/a", subject="7")
    assert scan.voxels.dtype == voxels.dtype
    np.testing.assert_array_equal(scan.voxels, voxels)
    assert (scan.name, scan.subject, scan.affine) == ("sub/a", "7", None)
    assert header_of(path).shape == (9, 14)
    assert (header_of(path).dtype == "uint8") == (dtype == "uint8")
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@settings(max_examples=30, deadline=None)
@given(voxels=arrays(np.uint8, st.tuples(st.integers(8, 40), st.integers(8, 40))))
def test_png_round_trip_of_any_8_bit_image(tmp_path_factory: pytest.TempPathFactory, voxels: np.ndarray) -> None:
    path = tmp_path_factory.mktemp("png") / "a.png"
    write(Scan(voxels, None, None, "a"), path)
    np.testing.assert_array_equal(read(path).voxels, voxels)


def test_name_defaults_to_the_file_name(tmp_path: Path) -> None:
    assert read(save(tmp_path / "case_1.nii.png", GREY)).name == "case_1.nii.png"


def test_16_bit_values_are_those_of_the_file(tmp_path: Path) -> None:
    voxels = np.array([[0, 1, 4095, 65535] * 4] * 8, dtype=np.uint16)
    np.testing.assert_array_equal(read(save(tmp_path / "a.png", voxels)).voxels, voxels)
    np.save(tmp_path / "b.npy", voxels.astype(">u2"))
    big_endian = read(tmp_path / "b.npy").voxels
    assert big_endian.dtype == np.uint16
    assert big_endian.dtype.isnative
    np.testing.assert_array_equal(big_endian, voxels)


def test_fortran_order_is_not_transposed(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.asfortranarray(GREY))
    np.testing.assert_array_equal(read(tmp_path / "a.npy").voxels, GREY)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P"])
def test_colour_with_equal_channels_is_grey(tmp_path: Path, suffix: str, mode: str) -> None:
    Image.fromarray(GREY).convert(mode).save(tmp_path / f"a{suffix}")
    voxels = read(tmp_path / f"a{suffix}").voxels
    assert voxels.dtype == np.uint8
    np.testing.assert_array_equal(voxels, GREY)


def test_jpeg_is_read_as_pillow_decodes_it(tmp_path: Path) -> None:
    smooth = np.add.outer(np.arange(40), np.arange(32)).astype(np.uint8)
    path = save(tmp_path / "a.jpg", smooth, quality=95)
    assert np.abs(read(path).voxels.astype(int) - smooth).max() < 8
    Image.fromarray(smooth).convert("RGB").save(tmp_path / "b.jpeg", quality=95)
    assert np.abs(read(tmp_path / "b.jpeg").voxels.astype(int) - smooth).max() < 8


def test_an_all_black_slice_is_a_scan(tmp_path: Path) -> None:
    assert not read(save(tmp_path / "a.png", np.zeros((8, 8), np.uint8))).voxels.any()


def test_colour_is_refused(tmp_path: Path) -> None:
    colour = np.repeat(GREY[..., None], 3, axis=2)
    colour[5, 5, 1] ^= 1  # one pixel, by one level
    refused(save(tmp_path / "a.png", colour), "colour", "equal channels")
    palette = Image.fromarray(GREY).convert("P")
    palette.putpalette([*range(256), *range(256), *reversed(range(256))])
    palette.save(tmp_path / "p.png")
    refused(tmp_path / "p.png", "colour")
    Image.fromarray(GREY).convert("CMYK").save(tmp_path / "c.jpg")
    refused(tmp_path / "c.jpg", "CMYK")


def test_transparent_pixels_are_refused(tmp_path: Path) -> None:
    pixels = np.dstack([GREY, GREY, GREY, np.full_like(GREY, 255)])
    pixels[0, 0, 3] = 254
    refused(save(tmp_path / "a.png", pixels), "transparent")


def test_16_bit_colour_is_not_cut_to_8_bit(tmp_path: Path) -> None:
    rows = b"".join(b"\0" + b"\x12\x34" * 3 * 8 for _ in range(8))

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(data)
    refused(tmp_path / "a.png", "16-bit colour")


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".npy"])
def test_any_truncation_is_refused(tmp_path: Path, suffix: str) -> None:
    whole = tmp_path / f"whole{suffix}"
    np.save(whole, GREY) if suffix == ".npy" else save(whole, GREY)
    data = whole.read_bytes()
    last = len(data) - (9 if suffix == ".png" else 1)  # a PNG has its pixels and their CRC before its end marker
    for length in {*range(0, last, 3), last}:
        path = tmp_path / f"cut{suffix}"
        path.write_bytes(data[:length])
        refused(path)


def test_a_flipped_bit_in_a_png_is_refused(tmp_path: Path) -> None:
    data = bytearray(save(tmp_path / "a.png", GREY).read_bytes())
    data[len(data) // 2] ^= 0x10
    (tmp_path / "b.png").write_bytes(data)
    refused(tmp_path / "b.png")


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("this is not a picture\n" * 40)
    refused(tmp_path / "text.png", "not a PNG, JPEG or TIFF")
    (tmp_path / "empty.png").touch()
    refused(tmp_path / "empty.png", "empty")
    (tmp_path / "empty.npy").touch()
    refused(tmp_path / "empty.npy", "empty")
    (tmp_path / "text.npy").write_text("numbers")
    refused(tmp_path / "text.npy")
    (tmp_path / "folder.png").mkdir()
    refused(tmp_path / "folder.png", "holds no DICOM series")
    refused(tmp_path / "missing.png", "No such file")
    refused(tmp_path / "scan.gif", ".gif", ".png")


def test_size_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(save(tmp_path / "one.png", np.zeros((1, 1), np.uint8)), "1 x 1", "8 x 8")
    refused(save(tmp_path / "thin.png", np.zeros((40, 7), np.uint8)), "40 x 7 pixels (height x width)")
    monkeypatch.setattr("brainvq.data.pictures.LARGEST", 99)
    refused(save(tmp_path / "big.png", np.zeros((10, 10), np.uint8)), "at most 99")


def test_a_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "bomb.png", np.zeros((64, 64), np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    refused(path)


def test_several_frames_are_refused(tmp_path: Path) -> None:
    frames = [Image.fromarray(GREY) for _ in range(3)]
    frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:])
    refused(tmp_path / "a.tif", "3 frames")


def test_white_is_zero_is_not_read_inverted(tmp_path: Path) -> None:
    save(tmp_path / "a.tif", GREY.astype(np.uint16) * 200, tiffinfo={262: 0})
    with Image.open(tmp_path / "a.tif") as written:
        assert written.tag_v2[262] == 0
    refused(tmp_path / "a.tif", "white as zero")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_values_are_counted(tmp_path: Path, bad: float) -> None:
    voxels = np.ones((10, 10), np.float32)
    voxels[3, 4:6] = bad
    np.save(tmp_path / "a.npy", voxels)
    refused(tmp_path / "a.npy", "2 of 100")
    save(tmp_path / "a.tif", voxels)
    refused(tmp_path / "a.tif", "2 of 100")


def test_arrays_that_are_no_slice_are_refused(tmp_path: Path) -> None:
    def stored(array: np.ndarray) -> Path:
        np.save(tmp_path / "a.npy", array, allow_pickle=True)
        return tmp_path / "a.npy"

    refused(stored(np.zeros((3, 10, 10))), "3 axes", "one slice")
    refused(stored(np.zeros(100)), "1 axes")
    refused(stored(np.zeros((10, 10), complex)), "complex128")
    refused(stored(np.zeros((10, 10), bool)), "bool")
    refused(stored(np.full((10, 10), 2**60)), "2^53")
    refused(stored(np.full((10, 10), {"a": 1}, dtype=object)))
    np.savez(tmp_path / "b.npz", GREY)
    (tmp_path / "b.npz").rename(tmp_path / "b.npy")
    refused(tmp_path / "b.npy", "archive")


def test_a_header_that_lies_about_its_size_allocates_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    for shape in [(8000, 8000), (10**9, 10**9), (2**32, 2**32), (-5, 20), (2**62, 2**62)]:
        with path.open("wb") as file:
            np.lib.format.write_array_header_2_0(file, {"descr": "<f8", "fortran_order": False, "shape": shape})
            file.write(bytes(100))
        refused(path)


def test_writing_refuses_what_it_would_change(tmp_path: Path) -> None:
    scan = Scan(GREY.astype(np.float32), None, None, "a")
    for name, words in [("a.png", "float32"), ("a.jpg", "loses detail"), ("a.gif", ".gif")]:
        with pytest.raises(InputError, match=words):
            write(scan, tmp_path / name)
    with pytest.raises(InputError, match="cannot be written"):
        write(scan, tmp_path / "no folder" / "a.npy")
    volume = Scan(np.zeros((4, 10, 10), np.uint8), np.eye(4), None, "a")
    for name in ("a.png", "a.tif", "a.npy"):
        with pytest.raises(InputError, match=r"3 axes. Name it .nii.gz"):
            write(volume, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.png", GREY)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(InputError, match="No space left"):
        write(Scan(255 - GREY, None, None, "a"), path)
    np.testing.assert_array_equal(read(path).voxels, GREY)
    assert list(tmp_path.iterdir()) == [path]
