"""Lossless files: the very pixels come back, on any machine, or an error says that they do not."""

import zlib
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from brainvq.archive.codec import Codec
from brainvq.archive.files import decompress_files
from brainvq.archive.lossless import pixels_of
from brainvq.codec.bitstream import Bitstream, Fault
from brainvq.codec.fields import number, numbers
from brainvq.codec.header import Item
from brainvq.codec.lossless import reference
from brainvq.codec.lossless.board import AROUND, EARLIER, Board
from brainvq.codec.lossless.coder import pack, unpack
from brainvq.codec.lossless.rounding import as_rounded, rounded
from brainvq.codec.lossless.tokens import count, errors_of, tokens_of
from brainvq.codec.writer import Pixels, Writer
from brainvq.data.frame_bytes import frame_to_bytes
from brainvq.data.scan import Scan, read
from brainvq.errors import InputError
from brainvq.pipeline import load

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec(load("brain_f8"), None, "brain_f8")


def head() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 900, (16, 24, 20)).astype(np.int16)


def picture(rng: np.random.Generator, slices: int, height: int, width: int, span: int) -> tuple[np.ndarray, np.ndarray]:
    """Values and a reconstruction that misses them by some hundredth of their span; halves among it."""
    ramp = np.add.outer(np.arange(height), np.arange(width)) / (height + width)
    predicted = np.round(2 * span * (ramp + rng.normal(0, 0.02, (slices, height, width)))) / 2
    values = np.clip(np.rint(predicted + rng.normal(0, 0.5 + span / 100, predicted.shape)), 0, span)
    return values.astype(np.int64), predicted


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.integers(0, 1 << 30),
    st.lists(st.integers(1, 3), min_size=1, max_size=3),
    st.tuples(st.integers(1, 14), st.integers(1, 14)),
    st.sampled_from([0, 1, 7, 8, 255, 4095, 65535]),
    st.sampled_from([0, -40000, 1 << 40]),
)
def test_both_decoders_give_the_pixels_back(
    seed: int, runs: list[int], size: tuple[int, int], span: int, low: int
) -> None:
    values, predicted = picture(np.random.default_rng(seed), sum(runs), *size, span)
    data = pack(values + low, predicted + low, runs)
    assert np.array_equal(unpack(data, predicted + low), values + low)
    assert np.array_equal(reference.decode(data, predicted + low), values + low)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(0, 1 << 30))
def test_a_machine_that_computes_other_last_digits_gives_the_same_pixels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values, predicted = picture(rng, 2, 12, 17, 255)
    assert (predicted % 1 == 0.5).any(), "ties, which another machine may round otherwise"
    other = predicted + rng.normal(0, 1e-8, predicted.shape)
    assert (np.rint(other) != np.rint(predicted)).any()
    assert np.array_equal(as_rounded(other, rounded(predicted)[1]), rounded(predicted)[0])
    assert np.array_equal(unpack(pack(values, predicted, [2]), other), values)


def test_another_reconstruction_is_refused_and_so_is_every_other_change() -> None:
    values, predicted = picture(np.random.default_rng(0), 1, 12, 12, 255)
    data = pack(values, predicted, [1])
    with pytest.raises(InputError, match="another picture"):
        unpack(data, predicted + 1)
    for at in range(len(data)):
        changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        try:
            assert np.array_equal(unpack(changed, predicted), values)
        except InputError:
            continue


def crafted(*, ties: bytes = b"\0", runs: bytes = b"\1", about: bytes | None = None, words: bytes = b"") -> bytes:
    """A payload of one slice of 4 x 4 zeros, but for what is given."""
    raw = numbers([0, 0, 0, 0, *[0] * 60, *[0] * 18, 1, *[1] * 15])
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    told = packer.compress(raw) + packer.flush() if about is None else about
    return ties + runs + sha256(bytes(8 * 16)).digest()[:16] + number(len(told)) + told + words


def deflated(values: list[int]) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(numbers(values)) + packer.flush()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (crafted(ties=b"\x11" + bytes(17)), "possible"),
        (crafted(ties=b"\1\x20"), "beyond the last"),
        (crafted(runs=b"\2"), "possible"),
        (crafted(runs=b"\0"), "possible"),
        (crafted(words=b"\1\0\0"), "not whole"),
        (crafted(about=b"\xff\xff"), "inflated"),
        (crafted(about=zlib.compress(bytes(1 << 19), wbits=-15)), "one deflated stream"),
        (crafted(about=deflated([0, 1 << 16])), "possible"),
        (crafted(about=deflated([2 << 53, 1])), "possible"),
        (crafted(about=deflated([0, 0, 17])), "possible"),
        (crafted(about=deflated([0, 0, 0, 33])), "possible"),
        (crafted(about=deflated([0, 0, 1, 0, 0])), "possible"),
        (crafted(about=deflated([0, 0, 0, 0, 1 << 17])), "ends early"),
        (crafted(about=deflated([0, 0, 0, 0, *[0] * 60, *[0] * 19, *[0] * 15])), "without entries"),
        (crafted(about=deflated([0, 0, 0, 0, *[0] * 60, *[0] * 19, *[1] * 15, 1])), "should end"),
        (crafted(words=b"\1\0\0\0\1\0\0\0"), "another picture"),
        (crafted()[:-2], "ends early|inflated"),
    ],
)
def test_what_a_strangers_file_claims_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(InputError, match=said):
        unpack(data, np.zeros((1, 4, 4)))


def test_words_of_zero_at_the_end_are_padding() -> None:
    values, predicted = picture(np.random.default_rng(0), 1, 12, 12, 255)
    data = pack(values, predicted, [1]) + bytes(8)
    assert np.array_equal(unpack(data, predicted), values)
    assert np.array_equal(reference.decode(data, predicted), values)


@pytest.mark.parametrize("shape", [(1, 1 << 11, 8), (1 << 9, 8, 8), (2, 300, 300)])
def test_the_work_that_a_file_asks_for_is_bounded_by_its_size(shape: tuple[int, int, int]) -> None:
    values = np.zeros(shape, np.int64)
    data = pack(values, values.astype(np.float64), [len(values)])
    assert len(data) >= values.size / 4096
    assert len(data) >= (shape[2] + 3 * (shape[1] - 1) + 5 * (shape[0] - 1)) / 64
    assert np.array_equal(unpack(data, values.astype(np.float64)), values)
    with pytest.raises(InputError, match="cannot hold"):
        unpack(data[:-4], values.astype(np.float64))


def test_large_slices_are_looked_at_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    values, predicted = picture(np.random.default_rng(0), 2, 20, 30, 255)
    whole = pack(values, predicted, [2])
    monkeypatch.setattr("brainvq.codec.lossless.board.BLOCK", 100)
    assert unpack(pack(values, predicted, [2]), predicted).tolist() == values.tolist()
    assert len(pack(values, predicted, [2])) == pytest.approx(len(whole), abs=20)


@given(st.lists(st.integers(-65535, 65535), min_size=1))
def test_errors_come_back_from_tokens(errors: list[int]) -> None:
    found = tokens_of(np.array(errors))
    assert errors_of(found.token, found.extra).tolist() == errors
    assert found.token.max() < count(max(map(abs, errors)))
    assert (found.extra < 1 << found.width).all()
    assert (found.extra >= 0).all()


def test_every_neighbour_is_decoded_earlier_and_every_pixel_once() -> None:
    board = Board(np.zeros((5, 6, 7), np.int32), [3, 2])
    times = board.times()
    found = np.concatenate(list(board.waves()))
    assert sorted(found) == sorted(np.concatenate([board.slice_places(s) for s in range(5)]))
    when = np.concatenate([np.full(len(places), n) for n, places in enumerate(board.waves())])
    assert np.array_equal(np.sort(when), np.sort(times.ravel()) - times.min()), "no time is empty here"
    for s in range(5):
        for i in range(6):
            for j in range(7):
                near = [(s, i + a, j + b) for a, b in EARLIER]
                near += [(s - 1, i + a, j + b) for a, b in AROUND if board.follows[s]]
                inside = [one for one in near if 0 <= one[1] < 6 and 0 <= one[2] < 7]
                assert all(times[one] < times[s, i, j] for one in inside)


def test_what_neighbours_tell_makes_smaller_files() -> None:
    """Beside deflate, of noise on a ramp; and a slice before that is nearly the same tells more."""
    rng = np.random.default_rng(0)
    ramp = 400 * np.add.outer(np.arange(64), np.arange(64)) / 128
    one = np.rint(ramp + rng.normal(0, 20, (64, 64)).cumsum(1).cumsum(0) / 40).astype(np.int64)
    heads = np.stack([one, one + rng.integers(-1, 2, one.shape)] * 2)
    predicted = np.full(heads.shape, heads.mean())
    together, apart = (len(pack(heads, predicted, runs)) for runs in ([4], [1] * 4))
    assert together < 0.8 * apart
    assert apart < heads.size * np.log2(np.ptp(heads)) / 8 / 2


def test_all_kinds_of_scans_come_back_in_one_file(codec: Codec) -> None:
    rng = np.random.default_rng(0)
    affine = np.array([[0, 0, 1.5, -20], [-0.9, 0.1, 0, 30], [0.1, 0.9, 0, 5], [0, 0, 0, 1]])
    scans = [
        *(Scan(rng.integers(0, 255, (32, 24)).astype(np.uint8), None, "7", f"case_7_slice_{n}.png") for n in range(3)),
        Scan(rng.integers(0, 255, (30, 24)).astype(np.uint8), None, "7", "as_large_with_padding.png"),
        Scan(rng.integers(-9, 9, (19, 30)).astype(np.float32) + 1000, None, None, "odd/whole.npy"),
        Scan(rng.integers(-900, 900, (18, 21, 40)).astype(np.int16), affine, "8", "head.nii.gz"),
        Scan(rng.integers(0, 65535, (16, 16)).astype(np.uint16), None, None, "sixteen.png"),
        Scan(np.full((16, 16), 7, np.uint8), None, None, "flat.png"),
    ]
    data = codec.compress(scans, lossless=True, group=16)
    file = Bitstream(data, "a.bvq")
    assert (file.version, file.lossless, len(file.groups)) == (2, True, 6)
    for scan, back in zip(scans, codec.decompress(data), strict=True):
        assert (scan.name, scan.subject, scan.voxels.dtype) == (back.name, back.subject, back.voxels.dtype)
        assert scan.voxels.tobytes() == back.voxels.tobytes()
    ((item, alone),) = codec.scans(file, [5])
    assert item.name == "head.nii.gz"
    assert np.array_equal(alone.voxels, scans[5].voxels)


def test_scans_that_span_much_together_lie_in_groups_of_their_own(codec: Codec) -> None:
    rng = np.random.default_rng(0)
    scans = [
        Scan(rng.integers(0, 60000, (16, 16)).astype(np.uint16), None, None, "a.png"),
        Scan(rng.integers(-32000, 0, (16, 16)).astype(np.int16), None, None, "b.npy"),
        Scan(np.full((16, 16), 1 << 53, np.int64), None, None, "c.npy"),
        Scan(rng.integers(0, 255, (16, 16)).astype(np.uint8), None, None, "d.png"),
    ]
    data = codec.compress(scans, lossless=True)
    assert len(Bitstream(data, "a").groups) == 4
    for one in (2, 0, 3, 1, 0):
        ((_, found),) = codec.scans(Bitstream(data, "a"), [one])
        assert not isinstance(found, Fault)
        assert np.array_equal(found.voxels, scans[one].voxels)


def test_what_is_predicted_is_float64_whatever_is_decoded_together(codec: Codec) -> None:
    encoded = codec.pipeline.encode(Scan(head(), np.eye(4), None, "head.nii.gz"))
    whole = codec.pipeline.unrounded(encoded.codes, encoded.frame, "head")
    apart = [
        codec.pipeline.unrounded(tuple(level[n : n + 1] for level in encoded.codes), encoded.frame, "head")
        for n in range(len(whole))
    ]
    assert whole.dtype == np.float64
    assert np.abs(np.concatenate(apart) - whole).max() < 1e-9 * np.ptp(head())
    assert np.abs(whole - whole.astype(np.float32)).max() > 0
    stored = encoded.frame.cut(codec.pipeline.decode(encoded).voxels)
    assert np.abs(whole - stored).max() <= 0.51, "what is decoded, before rounding"


def test_a_file_that_would_not_come_back_is_never_given(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is decoded before it is given: here by a decoder that has become another one."""
    exact, calls = codec.pipeline.unrounded, []

    def drifting(*given: Any) -> np.ndarray:
        calls.append(given)
        return exact(*given) + (len(calls) > 1)

    monkeypatch.setattr(codec.pipeline, "unrounded", drifting)
    with pytest.raises(InputError, match=r"a\.png is lost: .*another picture"):
        codec.compress(Scan(np.arange(256, dtype=np.uint8).reshape(16, 16), None, None, "a.png"), lossless=True)


def test_pixels_beyond_their_dtype_cost_their_scan_alone(codec: Codec, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scans = [Scan(rng.integers(0, 255, (16, 16)).astype(np.uint8), None, None, f"{n}.png") for n in range(3)]
    writer = Writer(codec.header, codec.entropy, group=1, lossless=True)
    for n, scan in enumerate(scans):
        encoded = codec.pipeline.encode(scan)
        pixels = pixels_of(scan, encoded, codec.pipeline)
        item = Item(scan.name, None, 1, (16, 16), frame_to_bytes(encoded.frame))
        values = pixels.values + 300 * (n == 1)
        writer.add(item, codec.pipeline.spec.flatten(encoded.codes).numpy(), Pixels(values, pixels.predicted))
    (tmp_path / "a.bvq").write_bytes(writer.finish())
    notes: list[str] = []
    found = decompress_files([tmp_path / "a.bvq"], tmp_path / "out", skip_broken=True, note=notes.append)
    assert [path.name for path in found] == ["0.png", "2.png"]
    assert "1.png" in notes[0]
    assert "beyond uint8" in notes[0]


@pytest.mark.parametrize(
    ("voxels", "said"),
    [
        (np.full((16, 16), -(1 << 63), np.int64), r"within 2\^53"),
        (np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16), "no whole numbers"),
        (-np.zeros((16, 16), np.float32), "no whole numbers"),
        (np.arange(256, dtype=np.int32).reshape(16, 16) * 300, "span less than 65,536"),
    ],
)
def test_what_cannot_be_lossless_is_refused(codec: Codec, voxels: np.ndarray, said: str) -> None:
    with pytest.raises(InputError, match=rf"a\.npy: .*{said}.*without --lossless"):
        codec.compress(Scan(voxels, None, None, "a.npy"), lossless=True)


def test_the_commands(call: Call, tmp_path: Path) -> None:
    rng, folder = np.random.default_rng(0), tmp_path / "scans"
    folder.mkdir()
    Image.fromarray(rng.integers(0, 255, (32, 40), dtype=np.uint8)).save(folder / "1.png")
    volume = nib.Nifti1Image(rng.integers(-500, 500, (24, 20, 12)).astype(np.int16), np.diag([1.0, 2, 3, 1]))
    volume.header.set_slope_inter(0.5, 3)
    nib.save(volume, folder / "head.nii.gz")
    code, said, err = call("compress", "brain_f8", folder, "--out", tmp_path / "packed", "--lossless")
    assert code == 0, err
    assert "2 files of " in said
    code, said, _ = call("info", tmp_path / "packed" / "1.png.bvq")
    assert (code, "2, lossless" in said, "for what the codes miss" in said) == (0, True, True)
    assert call("decompress", tmp_path / "packed", "--out", tmp_path / "out")[0] == 0
    for name in ("1.png", "head.nii.gz"):
        one, other = read(folder / name), read(tmp_path / "out" / name)
        assert np.array_equal(one.voxels, other.voxels)
        assert one.storage == other.storage
    np.save(folder / "real.npy", rng.normal(0, 1, (16, 16)))
    code, _, err = call("compress", "brain_f8", folder, "--out", tmp_path / "more", "--lossless")
    assert (code, "real.npy" in err, (tmp_path / "more").exists()) == (2, True, False)
