"""Thousands of broken .bvq files: each becomes codes, as the reference decoder reads them, or an error that names it.

    python -m benchmarks.fuzz.bvq --mutants 10000

Half of the damage is blind; the other half knows the format and gives every chunk its right checksum again, because a
reader looks no further where that is wrong. No network runs: what is tried is all that stands before one. A mutant is
made again from its number (--again NUMBER --keep FILE).
"""

from __future__ import annotations

import argparse
import re
import resource
import struct
import sys
import time
import zlib
from collections import Counter
from functools import cache
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from benchmarks.fuzz import blind
from benchmarks.fuzz.bvq_seeds import Example, examples
from benchmarks.fuzz.trial import Outcome, reason
from brainvq.archive.codec import frames_of
from brainvq.codec import reference
from brainvq.codec.bitstream import Bitstream, Fault
from brainvq.codec.fields import START, chunk, number
from brainvq.codec.lossless import reference as pixels
from brainvq.errors import InputError
from brainvq.run import hardware, write_json

PATH = "folder/a file.bvq"
MEMORY, SECONDS = 1 << 30, 10.0
COMPARED = 1 << 14  # codes: the reference decoder is slow
SMALL = (0, 1, 2, 3, 4, 5, 8, 16, 127, 128, 255, 1 << 12, 1 << 16, 1 << 22, 1 << 24, 1 << 32, (1 << 63) - 1)

Chunk = tuple[bytes, bytes]


@cache
def sound() -> tuple[tuple[Example, bytes], ...]:
    return tuple((example, example.to_bytes()) for example in examples().values())


def mutant(chance: Random) -> tuple[Example, bytes]:
    """A seed, and its bytes broken in one to three ways."""
    (example, data), (_, other) = chance.choice(sound()), chance.choice(sound())
    for _ in range(chance.randint(1, 3)):
        data = damage(data, other, chance)
    return example, data


def damage(data: bytes, other: bytes, chance: Random) -> bytes:
    parts = chunks(data)
    if not parts or chance.random() < 0.5:
        return chance.choice(blind.ALL)(data, other, chance)
    changed = chance.choice((_contents, _contents, _table, _numbers, _numbers, _order))(parts, chunks(other), chance)
    if chance.random() < 0.7:
        changed = _with_index(changed)
    return data[:START] + b"".join(chunk(*one) for one in changed)


def chunks(data: bytes) -> list[Chunk]:
    """Kind and payload of each, as far as there are whole ones."""
    found, at = [], START
    while at + 12 <= len(data):
        (size,) = struct.unpack_from("<I", data, at + 4)
        if at + 12 + size > len(data):
            break
        found.append((data[at : at + 4], data[at + 8 : at + 8 + size]))
        at += 12 + size
    return found


def _contents(parts: list[Chunk], other: list[Chunk], chance: Random) -> list[Chunk]:
    at = chance.randrange(len(parts))
    donor = chance.choice(other)[1] if other else b""
    return [*parts[:at], (parts[at][0], chance.choice(blind.ALL)(parts[at][1], donor, chance)), *parts[at + 1 :]]


def _table(parts: list[Chunk], other: list[Chunk], chance: Random) -> list[Chunk]:
    """What the table of scans says, or that it inflates without end."""
    at = next((n for n, (kind, _) in enumerate(parts) if kind == b"SCAN"), 0)
    unpacker = zlib.decompressobj(-15)
    try:
        raw = unpacker.decompress(parts[at][1], 1 << 20)
    except zlib.error:
        raw = b""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    if chance.random() < 0.05:
        packed = blind.bomb()
    else:
        change = chance.choice((_number, *blind.ALL))
        packed = packer.compress(change(raw, raw, chance)) + packer.flush()
    return [*parts[:at], (b"SCAN", packed), *parts[at + 1 :]]


def _numbers(parts: list[Chunk], other: list[Chunk], chance: Random) -> list[Chunk]:
    """A number among the first bytes of a chunk: of slices, of entries, of strides."""
    at = chance.randrange(len(parts))
    return [*parts[:at], (parts[at][0], _number(parts[at][1], b"", chance)), *parts[at + 1 :]]


def _number(data: bytes, other: bytes, chance: Random) -> bytes:
    return blind.put(data, blind.place(data, chance), number(chance.choice(SMALL)), 1)


def _order(parts: list[Chunk], other: list[Chunk], chance: Random) -> list[Chunk]:
    """One chunk less, twice, elsewhere, or of another file."""
    rest = list(parts)
    one = rest.pop(chance.randrange(len(rest)))
    new = chance.choice(([], [one, one], [one], [chance.choice(other)] if other else []))
    at = chance.randrange(len(rest) + 1)
    return rest[:at] + new + rest[at:]


def _with_index(parts: list[Chunk]) -> list[Chunk]:
    """That fits the groups, so that a reader goes on to them."""
    sizes = b"".join(
        (number(max(1, payload[1] if len(payload) > 1 else 1)) if kind == b"GRUP" else b"") + number(len(payload))
        for kind, payload in parts
        if kind in (b"GRUP", b"PIXL")
    )
    rest = [one for one in parts if one[0] != b"INDX"]
    return [*rest, (b"INDX", sizes + struct.pack("<I", len(sizes) + 4))]


def trial(example: Example, data: bytes) -> Outcome:
    """What came of a file that a reader of `example`'s model was given."""
    began = time.perf_counter()
    try:
        fault = _read(example, data)
    except InputError as error:
        seconds = time.perf_counter() - began
        if re.fullmatch(rf"{re.escape(PATH)}: .+\. .+\.", str(error), re.DOTALL) is None:
            return Outcome(
                "fault", f"an error that does not name the file, the reason and the remedy: {error}", seconds
            )
        return Outcome("refusal", reason(error), seconds)
    except Exception as error:
        return Outcome("fault", f"{type(error).__name__}: {error}", time.perf_counter() - began)
    seconds = time.perf_counter() - began
    return Outcome("fault", fault, seconds) if fault else Outcome("scan", "", seconds)


def _read(example: Example, data: bytes) -> str | None:
    """What is wrong with the codes that came of a file."""
    file = Bitstream(data, PATH)
    file.refuse_damage()
    head, mine = file.header, example.writer().header
    if (head.tokenizer, head.entropy, head.spec, head.previous) != (
        *(mine.tokenizer, mine.entropy, mine.spec, mine.previous),
    ):
        raise InputError(f"{PATH}: was made by another model. Give that.")
    frames_of(file)
    codes = []
    for item, found in file.decoded(example.model):
        if isinstance(found, Fault):
            raise file.lost(item, found)
        codes.append(found)
    if file.lossless and (fault := _read_pixels(example, file, data)):
        return fault
    if not codes or sum(found.size for found in codes) > COMPARED or head.kind != mine.kind:
        return None
    try:
        told = reference.decode(data, example.model)
    except AssertionError as error:
        return f"the reference decoder refuses what was read: {error}"
    same = all(np.array_equal(one.codes, found) for one, found in zip(told, codes, strict=True))
    return None if same else "the reference decoder reads other codes"


def _read_pixels(example: Example, file: Bitstream, data: bytes) -> str | None:
    """What is wrong with the pixels that came of a lossless file. Those of other models say nothing."""
    if not example.lossless:
        raise InputError(f"{PATH}: is lossless, and this model's decoder is not known. Give that.")
    for item, found in file.each(lambda group: example.values(file, group)):
        if isinstance(found, Fault):
            raise file.lost(item, found)
    for group, payload in zip(file.groups, reference.pixels(data), strict=True):
        predicted = example.shown(file, group)
        if predicted.size > COMPARED // 4:
            continue
        try:
            told = pixels.decode(payload, predicted)
        except AssertionError as error:
            return f"the reference decoder refuses pixels that were read: {error}"
        if not np.array_equal(told, example.values(file, group)):
            return "the reference decoder reads other pixels"
    return None


def measure(count: int) -> dict[str, Any]:
    """All mutants, one after the other."""
    kinds, reasons, faults, longest = Counter[str](), Counter[str](), [], 0.0
    for n in range(count):
        example, data = mutant(Random(f"bvq {n}"))
        found = trial(example, data)
        kinds[found.kind] += 1
        longest = max(longest, found.seconds)
        if found.kind == "refusal":
            reasons[found.reason] += 1
        elif found.kind == "fault" or found.seconds > SECONDS:
            faults.append({"mutant": n, "fault": found.reason or f"{found.seconds:.0f} s"})
            print(f"bvq {n}: {faults[-1]['fault']}", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << (10 if sys.platform == "linux" else 0)
    return {
        "mutants": count,
        "decoded": kinds["scan"],
        "refusals": kinds["refusal"],
        "crashes": kinds["fault"],
        "peak_mib": peak / 2**20,
        "longest_on_the_clock_s": longest,
        "reasons": dict(reasons.most_common()),
        "faults": faults,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--mutants", type=int, default=10000)
    parser.add_argument("--again", type=int, metavar="NUMBER", help="write this mutant, and no more")
    parser.add_argument("--keep", type=Path, default=Path("mutant.bvq"), help="the file for that")
    parser.add_argument("--out", type=Path, default=Path("results/benchmark_fuzz_bvq.json"))
    arguments = parser.parse_args()
    if arguments.again is not None:
        arguments.keep.write_bytes(mutant(Random(f"bvq {arguments.again}"))[1])
        print(f"written: {arguments.keep}")
        return
    held = (
        int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() if sys.platform == "linux" else 0
    )
    if held:
        resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY, resource.RLIM_INFINITY))
    found = measure(arguments.mutants)
    print(
        f"bvq {found['mutants']:,} mutants: {found['decoded']:,} decoded, {found['refusals']:,} refusals, "
        f"{found['crashes']} crashes; at most {found['peak_mib']:.0f} MiB, {found['longest_on_the_clock_s']:.2f} s"
    )
    command = f"python -m benchmarks.fuzz.bvq --mutants {arguments.mutants}"
    versions = {name: version(name) for name in ("numpy", "constriction")}
    limits = {"memory_mib": MEMORY >> 20, "seconds": SECONDS}
    result = {"benchmark": "fuzz_bvq", "command": command, "limits": limits, **found}
    write_json(arguments.out, {**result, "hardware": hardware(), "versions": versions})
    print(f"written: {arguments.out}")


if __name__ == "__main__":
    main()
