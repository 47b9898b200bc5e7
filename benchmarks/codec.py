"""Whole files: bits a pixel and slices a second, ours beside AVIF, JPEG XL and JPEG 2000 at like quality.

    python -m benchmarks.codec MODEL... [--subjects 5]

MODEL as `brainvq compress` takes it: runs of priors (`histogram`, `context`, `context_previous`), tokenizers, names of
shipped models. A validate subject's slices are one file of ours, one file a slice of a picture codec's, one sequence of
AV1's; bits are those of the files, with all that is in them. Quality is SSIM foreground; the bits that a codec needs
for ours are interpolated as `benchmarks/rate_distortion.py` does; its speed is that of its setting nearest to ours.

What is timed is bytes <-> 8-bit slices in memory, on all cores: ours runs its networks on them, and picture codecs code
as many slices at a time as there are cores. All take turns in each round, and the best round counts. That what comes
back is what the tokenizer reconstructs, to the bit, is checked on the way.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.rate_distortion import OASIS, RESULTS, bits_for, measures_of
from brainvq.archive.codec import Codec, load_codec
from brainvq.data.loader import Cache, open_cache
from brainvq.data.scan import Scan
from brainvq.data.sources import open_splits
from brainvq.errors import InputError
from brainvq.metrics.statistics import intervals
from brainvq.run import hardware, write_json

if TYPE_CHECKING:
    from benchmarks.codecs import Slices

STORED = "benchmark_codec.json"
COMPARED = ("avif", "jpeg_xl", "jpeg_2000", "av1_sequence")
CORES = os.cpu_count() or 1
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, eq=False)
class Head:
    """The slices of a subject, in their order."""

    subject: str
    scans: list[Scan]

    @property
    def slices(self) -> Slices:
        return np.stack([scan.voxels for scan in self.scans])


@dataclass(frozen=True)
class Way:
    """From a head to files and back."""

    name: str
    setting: float | None
    write: Callable[[Head], list[bytes]]
    read: Callable[[list[bytes]], Slices]


def heads(cache: Cache, count: int) -> list[Head]:
    """So many subjects, spread evenly over the split."""
    subjects = list(dict.fromkeys(cache.subjects))
    chosen = [subjects[round(n)] for n in np.linspace(0, len(subjects) - 1, min(count, len(subjects)))]
    return [
        Head(
            subject,
            [
                Scan(np.asarray(cache.images[n]), None, subject, cache.names[n])
                for n, other in enumerate(cache.subjects)
                if other == subject
            ],
        )
        for subject in chosen
    ]


def ours(codec: Codec, name: str) -> Way:
    def read(files: list[bytes]) -> Slices:
        return np.stack([scan.voxels for data in files for scan in codec.decompress(data)])

    return Way(name, None, lambda head: [codec.compress(head.scans)], read)


def pictures() -> Iterator[Way]:
    """Every setting of every picture codec that we are held against, on all cores."""
    from benchmarks import codecs

    pool = ThreadPoolExecutor(CORES)

    def each(work: Callable[[T], R], parts: Sequence[T]) -> list[R]:
        return list(pool.map(work, parts))

    single: dict[str, tuple[Callable[[Slices, float], bytes], Callable[[bytes], Slices]]] = {
        "avif": (lambda one, at: codecs.avif_file(one[None], at), lambda data: codecs.avif_slices(data)[0]),
        "jpeg_xl": (codecs.jpeg_xl_file, codecs.jpeg_xl_slice),
        "jpeg_2000": (codecs.jpeg_2000_file, codecs.jpeg_2000_slice),
    }

    def way(name: str, setting: float) -> Way:
        if name == "av1_sequence":
            return Way(
                name,
                setting,
                lambda head: [codecs.avif_file(head.slices, setting, codecs.SEQUENCE_TUNE)],
                lambda files: codecs.avif_slices(files[0]),
            )
        file, picture = single[name]
        return Way(
            name,
            setting,
            lambda head: each(lambda one: file(one, setting), list(head.slices)),
            lambda files: np.stack(each(picture, files)),
        )

    for codec in codecs.CODECS:
        if codec.name in COMPARED:
            yield from (way(codec.name, setting) for setting in codec.settings)


def quality(way: Way, found: Sequence[Head]) -> dict[str, Any]:
    """Bits a pixel of the files and likeness, with intervals over subjects."""
    columns: dict[str, list[NDArray[np.float64]]] = {}
    for head in found:
        files, slices = way.write(head), head.slices
        bits = 8 * sum(map(len, files)) / slices.size
        measured = {"file_bits": np.full(len(slices), bits), **measures_of(slices, way.read(files))}
        for name, values in measured.items():
            columns.setdefault(name, []).append(values)
    subjects = [head.subject for head in found for _ in head.scans]
    told = intervals({name: np.concatenate(parts) for name, parts in columns.items()}, subjects)
    return {
        "name": way.name,
        "setting": way.setting,
        "measures": {name: asdict(interval) for name, interval in told.items()},
    }


def speeds(ways: Sequence[Way], head: Head, rounds: int) -> list[dict[str, float]]:
    """Slices a second each way, the best of the rounds; all take turns."""
    spent = np.full((len(ways), 2, rounds), np.inf)
    for turn in range(rounds):
        for n, way in enumerate(ways):
            started = time.perf_counter()
            files = way.write(head)
            written = time.perf_counter()
            way.read(files)
            spent[n, :, turn] = written - started, time.perf_counter() - written
    rates = len(head.scans) / spent.min(2)
    return [
        {"compress_slices_a_second": float(write), "decompress_slices_a_second": float(read)} for write, read in rates
    ]


def refuse_other_pictures(codec: Codec, head: Head) -> None:
    """Raises InputError unless a file gives back what the tokenizer alone does, to the bit."""
    found = codec.decompress(codec.compress(head.scans))
    expected = [codec.pipeline.reconstruct(scan) for scan in head.scans]
    if not all(np.array_equal(one.voxels, other.voxels) for one, other in zip(found, expected, strict=True)):
        raise InputError(f"the file of {head.subject} does not give back what the tokenizer reconstructs")


def nearest(rows: Sequence[dict[str, Any]], wanted: float) -> dict[str, Any]:
    """Of a codec's settings the one whose SSIM foreground is nearest."""
    return min(rows, key=lambda row: abs(row["measures"]["ssim_foreground"]["mean"] - wanted))


def needed(rows: Sequence[dict[str, Any]], wanted: float) -> dict[str, Any]:
    """Bits of files for an SSIM foreground, by interpolation between a codec's settings."""
    bits, likeness = ([row["measures"][of]["mean"] for row in rows] for of in ("file_bits", "ssim_foreground"))
    return asdict(bits_for(bits, likeness, wanted))


def compare(
    codec: Codec, name: str, found: Sequence[Head], others: Sequence[tuple[Way, dict[str, Any]]], rounds: int
) -> dict[str, Any]:
    """One of ours, and what each picture codec needs for the same likeness."""
    refuse_other_pictures(codec, found[0])
    way = ours(codec, name)
    row = quality(way, found)
    wanted = row["measures"]["ssim_foreground"]["mean"]
    kinds = {other: [each for each in others if each[0].name == other] for other in COMPARED}
    like = {
        other: next(each for each in ways if each[1] is nearest([row for _, row in ways], wanted))
        for other, ways in kinds.items()
    }
    rates = speeds([way, *(each for each, _ in like.values())], found[0], rounds)
    size = codec.pipeline.spec.bits(codec.pipeline.spec.multiple)
    return {
        **row,
        **rates[0],
        "tokenizer": codec.pipeline.weights_sha256,
        "entropy": {"kind": codec.entropy.kind, "previous": codec.entropy.takes_previous},
        "nominal_bits": size / float(np.prod(codec.pipeline.spec.multiple)),
        "like": {
            other: {
                "setting": each.setting,
                "measures": measured["measures"],
                "for_the_same": needed([row for _, row in kinds[other]], wanted),
                **rate,
            }
            for (other, (each, measured)), rate in zip(like.items(), rates[1:], strict=True)
        },
    }


def run(models: Sequence[str], subjects: int, rounds: int) -> dict[str, Any]:
    torch.set_num_threads(CORES)
    cache = open_cache(open_splits(str(OASIS))["validate"])
    found = heads(cache, subjects)
    ways = list(pictures())
    others = []
    for way in ways:
        others.append((way, quality(way, found)))
        print(_told(others[-1][1]), flush=True)
    rows = []
    for model in models:
        rows.append(compare(load_codec(model), Path(model).name, found, others, rounds))
        print(_told(rows[-1]), flush=True)
    return {
        "benchmark": "codec",
        "command": f"python -m benchmarks.codec {' '.join(Path(model).name for model in models)} --subjects {subjects}",
        "data": {
            "name": "oasis",
            "split": "validate",
            "fingerprint": cache.fingerprint,
            "subjects": [head.subject for head in found],
            "images": sum(len(head.scans) for head in found),
        },
        "ours": rows,
        "pictures": [row for _, row in others],
        "hardware": hardware(),
        "torch": torch.__version__,
    }


def _told(row: dict[str, Any]) -> str:
    measures = row["measures"]
    text = f"{row['name']:24} {'' if row['setting'] is None else row['setting']!s:>5}  "
    text += (
        f"{measures['file_bits']['mean']:.4f} bits a pixel, SSIM foreground {measures['ssim_foreground']['mean']:.4f}"
    )
    if "like" not in row:
        return text
    lines = [f"{text}; {_rates(row)}"]
    for name, like in row["like"].items():
        bits = like["for_the_same"]
        told = "never" if bits["bits"] is None else f"{bits['bits']:.4f} ({bits['told']})"
        lines.append(f"    {name:20} for the same likeness: {told}; {_rates(like)}")
    return "\n".join(lines)


def _rates(row: dict[str, Any]) -> str:
    each = row["compress_slices_a_second"], row["decompress_slices_a_second"]
    return "slices a second: {:.1f} in, {:.1f} out".format(*each)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("models", nargs="+", help="as brainvq compress takes them")
    parser.add_argument("--subjects", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS / STORED)
    arguments = parser.parse_args()
    result = run(arguments.models, arguments.subjects, arguments.rounds)
    write_json(arguments.out, result)
    print(f"written: {arguments.out}")


if __name__ == "__main__":
    main()
