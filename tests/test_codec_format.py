"""The file format: the golden files of this version, the reference decoder, and every kind of damage."""

import re
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.fuzz import bvq
from benchmarks.fuzz.bvq_seeds import Example, example_of, examples
from brainvq.codec import header, reference
from brainvq.codec.bitstream import Bitstream, Fault
from brainvq.codec.entropy import KINDS, EntropyModel
from brainvq.codec.fields import START, Fields, chunk, number, numbers, text, texts
from brainvq.codec.header import DENSEST, LARGEST_TABLE, MOST_CODES, Header, Item, pack_items, unpack_items
from brainvq.codec.lossless import reference as pixels
from brainvq.codec.uniform import Uniform
from brainvq.codec.writer import Writer
from brainvq.codes import CodeSpec
from brainvq.data.frame_bytes import frame_to_bytes
from brainvq.data.transforms import Frame
from brainvq.errors import InputError

GOLDEN = Path(__file__).parent / "golden"
NAMES = sorted(examples())
COMMENT = 50  # the column of the comments in the document's dump
SPEC = CodeSpec((128,), ((8, 8),))


def read(data: bytes, model: EntropyModel) -> list[np.ndarray]:
    file = Bitstream(data, "a.bvq")
    file.refuse_damage()
    found = [codes for _, codes in file.decoded(model)]
    assert not any(isinstance(codes, Fault) for codes in found)
    return found


def holds(example: Example, data: bytes) -> bool:
    file = Bitstream(data, "a.bvq")
    assert (file.items, file.header) == (example.items, example.writer().header)
    if file.lossless:
        found = [values for _, values in file.each(lambda group: example.values(file, group))]
        expected = [example.pixels(item, codes) for item, codes in zip(example.items, example.codes, strict=True)]
        assert all(np.array_equal(a, b.values) for a, b in zip(found, expected, strict=True))
    return all(np.array_equal(a, b) for a, b in zip(read(data, example.model), example.codes, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_golden_files_of_this_version_are_read(name: str) -> None:
    data = (GOLDEN / f"{name}.bvq").read_bytes()
    assert holds(examples()[name], data)
    assert len(data) < 1500


@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_is_read_by_both_decoders(name: str) -> None:
    example = examples()[name]
    data = example.to_bytes()
    assert holds(example, data)
    for told, item, codes in zip(reference.decode(data, example.model), example.items, example.codes, strict=True):
        assert np.array_equal(told.codes, codes)
        assert (told.name, told.size, told.frame) == (item.name.encode(), item.size, item.frame)
        assert told.subject == (b"" if item.subject is None else b"+" + item.subject.encode())
    file = Bitstream(data, "a.bvq")
    for payload, group in zip(reference.pixels(data), file.groups if file.lossless else [], strict=True):
        assert np.array_equal(pixels.decode(payload, example.shown(file, group)), example.values(file, group))


@pytest.mark.parametrize("name", NAMES)
def test_the_same_scans_give_the_same_bytes(name: str) -> None:
    """But for what is deflated, whose bytes are zlib's, and fitted to pixels, by the machine's floating point."""
    old, new = (bvq.chunks(data) for data in ((GOLDEN / f"{name}.bvq").read_bytes(), examples()[name].to_bytes()))
    same = (b"HEAD", b"GRUP") if name == "lossless" else (b"HEAD", b"GRUP", b"INDX")
    assert [one for one in old if one[0] in same] == [one for one in new if one[0] in same]


@pytest.mark.parametrize("name", NAMES)
def test_every_changed_byte_is_seen_and_costs_no_more_than_a_group(name: str) -> None:
    example = examples()[name]
    data = example.to_bytes()
    for at in range(len(data)):
        for bit in (0, 7):
            changed = data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]
            with pytest.raises(InputError, match=r"^a\.bvq: .+\. .+\.$"):
                Bitstream(changed, "a.bvq").refuse_damage()
    groups = Bitstream(data, "a.bvq").groups
    first = data.index(b"GRUP")
    for at in range(first, len(data)):
        file = Bitstream(data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :], "a.bvq")
        assert len(file.groups) >= len(groups) - 1
        for group in file.groups:
            assert group in groups


@pytest.mark.parametrize("name", NAMES)
def test_every_truncation_is_seen(name: str) -> None:
    data = examples()[name].to_bytes()
    for end in range(len(data)):
        with pytest.raises(InputError, match=r"^a\.bvq: "):
            Bitstream(data[:end], "a.bvq").refuse_damage()
    for more in (b"\0", data[-20:], data):
        with pytest.raises(InputError, match=r"^a\.bvq: "):
            Bitstream(data + more, "a.bvq").refuse_damage()


def test_a_damaged_group_is_named_and_the_others_are_read() -> None:
    example = examples()["position"]
    data = example.to_bytes()
    at = [at for at in range(len(data)) if data[at : at + 4] == b"GRUP"][1] + 20
    file = Bitstream(data[:at] + b"\xff\xff" + data[at + 2 :], "a.bvq")
    with pytest.raises(InputError, match=r"slices 2 to 4 \(case_1_slice_1.png to case_1_slice_3.png\) is damaged"):
        file.refuse_damage()
    found = list(file.decoded(example.model))
    assert [isinstance(codes, Fault) for _, codes in found] == [False, True, True, True, False, False]
    for (item, codes), whole in zip(found, example.codes, strict=True):
        if isinstance(codes, Fault):
            assert item.name in str(file.lost(item, codes))
        else:
            assert np.array_equal(codes, whole)


@pytest.mark.parametrize("name", NAMES)
def test_a_scan_is_read_without_the_groups_of_the_others(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    example = examples()[name]
    file, read = Bitstream(example.to_bytes(), "a.bvq"), []
    codes = file.codes
    monkeypatch.setattr(file, "codes", lambda group, model: read.append(group) or codes(group, model))
    for place in reversed(range(len(example.items))):
        read.clear()
        ((item, found),) = file.decoded(example.model, [place])
        assert item == example.items[place]
        assert np.array_equal(found, example.codes[place])
        first, end = file.starts[place : place + 2]
        assert read == [group for group in file.groups if group.first < end and group.first + group.count > first]
    again = [found for _, found in file.decoded(example.model, [2, 0, 5, 0])]
    assert all(np.array_equal(found, example.codes[number]) for found, number in zip(again, [2, 0, 5, 0], strict=True))


def test_a_file_that_was_cut_off_keeps_the_groups_before() -> None:
    example = examples()["uniform"]
    data = example.to_bytes()
    file = Bitstream(data[: data.rindex(b"GRUP") + 5], "a.bvq")
    found = [codes for _, codes in file.decoded(example.model)]
    assert [isinstance(codes, Fault) for codes in found] == [False] * 5 + [True]
    assert all(np.array_equal(*both) for both in zip(found[:5], example.codes, strict=False))


def test_words_of_another_model_end_elsewhere() -> None:
    example, other = examples()["uniform"], Uniform((6,))
    found = dict(Bitstream(example.to_bytes(), "a.bvq").decoded(other))
    assert all(isinstance(codes, Fault) for codes in found.values())


def test_many_slices_cost_little_beside_their_codes() -> None:
    """32 slices of 256 x 256 at 13 KB: less than 2 %."""
    example = example_of(Uniform(SPEC.entries), SPEC, [(1, 256, 256)] * 32, 32)
    file = Bitstream(example.to_bytes(), "a.bvq")
    assert len(file.data) - sum(len(group.words) for group in file.groups) < 230


def test_codes_that_take_no_bits_are_bounded_by_padding() -> None:
    spec = CodeSpec((1,), ((1, 1),))
    example = example_of(Uniform((1,)), spec, [(1, 256, 256)] * 3, 2)
    data = example.to_bytes()
    assert holds(example, data)
    assert 3 * 256 * 256 / DENSEST <= len(data) < 3 * 256 * 256 / DENSEST + 300
    reference.decode(data, example.model)


def test_padding_after_words_is_none_of_them() -> None:
    """One level takes no bits and asks for padding, the other takes some."""
    spec = CodeSpec((1, 3), ((1, 1), (64, 64)))
    example = example_of(Uniform(spec.entries), spec, [(1, 256, 256)], 1)
    data = example.to_bytes()
    words = Bitstream(data, "a.bvq").groups[0].words
    assert 0 < len(words.rstrip(b"\0")) < len(words) - 7, "words, and padding after them"
    assert holds(example, data)
    assert np.array_equal(reference.decode(data, example.model)[0].codes, example.codes[0])


def rebuilt(data: bytes, kind: bytes, payload: bytes) -> bytes:
    """With another payload and the right checksum."""
    return data[:START] + b"".join(chunk(*((kind, payload) if one[0] == kind else one)) for one in bvq.chunks(data))


def deflated(raw: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(raw) + packer.flush()


def table(slices: int = 1, size: tuple[int, ...] = (8, 8), scans: int = 1, names: bytes = b"") -> bytes:
    shared = number(1) + numbers([slices, *size]) + text(b"f")
    return deflated(shared + number(scans) + bytes(scans) + (names or texts([b"a"] * scans) + texts([b""] * scans)))


@pytest.mark.parametrize(
    ("items", "said"),
    [
        (table(slices=1 << 25), "possible"),
        (table(slices=1 << 24, scans=2), "slices"),
        (table(size=(1 << 24, 1 << 24)), "codes"),
        (table(size=(1 << 40, 8)), "possible"),
        (table(size=(8, 9)), "multiples"),
        (table(scans=1 << 17), "possible"),
        (table(names=b"\x05\0\0"), "cannot be"),
        (table(names=b"\0\0\x81"), "ends early"),
        (table(names=texts([b"a"]) + texts([b"1"])), "mark"),
        (table()[:-3], "table"),
        (table() + b"more", "table"),
        (deflated(bytes(LARGEST_TABLE + 1)), "table"),
        (deflated(number(0) + number(1) + bytes(7)), "no scan"),
        (deflated(b"\xff" * 20), "without end"),
    ],
)
def test_a_table_that_claims_too_much_is_refused(items: bytes, said: str) -> None:
    data = example_of(Uniform(SPEC.entries), SPEC, [(1, 8, 8)], 1).to_bytes()
    with pytest.raises(InputError, match=f"its header is damaged: .*{said}"):
        Bitstream(rebuilt(data, b"SCAN", items), "a.bvq")


def test_groups_that_claim_too_much_are_refused() -> None:
    example = example_of(Uniform(SPEC.entries), SPEC, [(1, 64, 64)], 1)
    data = example.to_bytes()
    words = bvq.chunks(data)[2][1][2:]
    for payload, said in [
        (b"\1\1" + words, "not the group that stands here"),
        (b"\0\2" + words, "as many slices"),
        (b"\0\0" + words, "possible"),
        (b"\0\1", "cannot hold 64 codes"),
        (b"\0\1" + words + b"\0", "not whole"),
    ]:
        changed = rebuilt(data, b"GRUP", payload)
        sizes = number(1) + number(len(payload))
        changed = rebuilt(changed, b"INDX", sizes + struct.pack("<I", len(sizes) + 4))
        with pytest.raises(InputError, match=said):
            Bitstream(changed, "a.bvq").refuse_damage()


def test_other_versions_and_other_files_are_refused() -> None:
    data = examples()["uniform"].to_bytes()
    with pytest.raises(InputError, match="version 3, and 1 and 2 are known"):
        Bitstream(data[: START - 1] + b"\3" + data[START:], "a.bvq")
    for other in (b"", b"BVQ", b"\x89PNG\r\n\x1a\n" + data[8:], data.replace(b"\r\n", b"\n")):
        with pytest.raises(InputError, match="does not begin"):
            Bitstream(other, "a.bvq")


def test_names_of_any_bytes_come_back_and_long_ones_are_refused() -> None:
    items = [Item(name, None, 1, (8, 8), b"") for name in ("a", "", "ab/é", "ab/\udcff", "x" * 1024, "ab")]
    items.append(Item("a", "", 2, (16, 8), b"frame"))
    assert unpack_items(pack_items(items), SPEC) == tuple(items)
    for name in ("x" * 1025, "\ud800"):
        with pytest.raises(InputError, match="Rename"):
            pack_items([Item(name, None, 1, (8, 8), b"")])
    with pytest.raises(InputError, match="too many"):
        pack_items([items[0]] * ((1 << 16) + 1))


def test_too_many_scans_are_refused_when_the_first_of_them_is_added(monkeypatch: pytest.MonkeyPatch) -> None:
    example = examples()["uniform"]
    writer = example.writer()
    with pytest.raises(InputError, match="Rename"):
        writer.add(replace(example.items[0], name="x" * 1025), example.codes[0])
    monkeypatch.setattr(header, "MOST_SCANS", 1)
    writer.add(example.items[0], example.codes[0])
    with pytest.raises(InputError, match="too many for one file"):
        writer.add(example.items[0], example.codes[0])


def test_a_file_that_would_be_too_large_to_read_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(examples()["uniform"].to_bytes())
    monkeypatch.setattr("brainvq.codec.writer.LARGEST_FILE", size)
    examples()["uniform"].to_bytes()
    for largest in (size - 1, 50):
        monkeypatch.setattr("brainvq.codec.writer.LARGEST_FILE", largest)
        with pytest.raises(InputError, match=f"more than {largest:,} bytes"):
            examples()["uniform"].to_bytes()


def test_the_document_names_every_entropy_model() -> None:
    page = (Path(__file__).parents[1] / "docs" / "format.md").read_text()
    (row,) = re.findall(r"^\| text \| the kind of the entropy model: (.*) \|$", page, re.MULTILINE)
    for kind in KINDS:
        assert f"`{kind}`" in row
        assert f"\n**{kind}**. " in page


def test_an_image_of_too_many_codes_is_refused() -> None:
    spec, side = CodeSpec((2,), ((1, 1),)), 1 << 11
    head = Header("0" * 32, "0" * 32, "uniform", "", spec, False)
    with pytest.raises(InputError, match="smaller images"):
        Writer(head, Uniform((2,))).add(
            Item("a", None, 1, (side, side + 1), b""), np.zeros((1, MOST_CODES + side), np.int64)
        )


@given(st.lists(st.integers(0, (1 << 63) - 1)), st.lists(st.binary(max_size=20)))
def test_numbers_and_texts_come_back(values: list[int], each: list[bytes]) -> None:
    part = Fields(numbers(values) + texts(each))
    assert part.numbers(len(values)) == values
    assert part.texts(len(each), 20) == each
    part.end()


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=False))
def test_broken_files_become_codes_or_errors_that_name_them(chance: Random) -> None:
    found = bvq.trial(*bvq.mutant(chance))
    assert found.kind in ("scan", "refusal"), found.reason
    assert found.seconds < bvq.SECONDS


def test_fuzzing_reaches_behind_checksums() -> None:
    found = [bvq.trial(*bvq.mutant(Random(f"bvq {n}"))) for n in range(150)]
    reasons = {one.reason for one in found if one.kind == "refusal"}
    assert len(reasons) > 8
    assert any(one.kind == "scan" for one in found)


def test_the_document_shows_a_file() -> None:
    page = (Path(__file__).parents[1] / "docs" / "format.md").read_text()
    blocks = re.findall(r"^```\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    whole, inflated = (bytes.fromhex("".join(line[:COMMENT] for line in block.splitlines())) for block in blocks)
    frame = Frame((8, 8), ((0, 0), (0, 0)), (0.0, 255.0), "uint8", None)
    items = (Item("a.png", None, 1, (8, 8), frame_to_bytes(frame)),)
    example = Example(Uniform((5,)), CodeSpec((5,), ((4, 4),)), items, (np.array([[0, 1, 2, 4]]),), 32)
    assert holds(example, whole)
    assert zlib.decompress(bvq.chunks(whole)[1][1], wbits=-15) == inflated
    assert reference.decode(whole, example.model)[0].codes.tolist() == [[0, 1, 2, 4]]
