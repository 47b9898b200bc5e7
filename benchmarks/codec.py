"""Whole files: bits a pixel and slices a second, ours beside AVIF, JPEG XL and JPEG 2000 at like quality.

    python -m benchmarks.codec MODEL... [--lossless-subjects 5]

MODEL as `brainvq compress` takes it: runs of priors (`histogram`, `context`, `context_previous`), tokenizers, names of
shipped models. A validate subject's slices are one file of ours, one file a slice of a picture codec's, one sequence of
AV1's; bits are those of the files, with all that is in them. Quality is SSIM foreground; the bits that a codec needs
for ours are interpolated between its settings, which `benchmarks/rate_distortion.py` has measured on the same slices;
its speed is that of its setting nearest to ours. Then the same without loss, on some of the subjects, by the last model
of each tokenizer.

What is timed is bytes <-> 8-bit slices in memory, on all cores: ours runs its networks on them, and picture codecs code
as many slices at a time as there are cores; an AV1 sequence has one. All take turns in each round, and the best round
counts. That what comes back is what the tokenizer reconstructs, to the bit, is checked on the way.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.rate_distortion import OASIS, RESULTS, ROOT, bits_for, measures_of
from benchmarks.rate_distortion import STORED as RATES
from brainvq.archive.codec import Codec, load_codec
from brainvq.data.loader import Cache, open_cache
from brainvq.data.scan import Scan
from brainvq.data.sources import open_splits
from brainvq.errors import InputError
from brainvq.metrics.statistics import DRAWS, intervals, subject_means
from brainvq.run import hardware, write_json

if TYPE_CHECKING:
    from benchmarks.codecs import Slices

STORED = "benchmark_codec.json"
COMPARED = ("avif", "jpeg_xl", "jpeg_2000", "av1_sequence")
ALONE = ", a file a slice"
CORES = os.cpu_count() or 1


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


def ours(codec: Codec, name: str, *, lossless: bool = False, alone: bool = False) -> Way:
    """`alone`: a file a slice, as picture codecs have it."""

    def write(head: Head) -> list[bytes]:
        return [codec.compress(scans, lossless=lossless) for scans in (head.scans if alone else [head.scans])]

    def read(files: list[bytes]) -> Slices:
        return np.stack([scan.voxels for data in files for scan in codec.decompress(data)])

    return Way(name, None, write, read)


def picture_way(name: str, setting: float) -> Way:
    """A picture codec at one of its settings, on all cores."""
    from benchmarks import codecs

    single: dict[str, tuple[Callable[[Slices, float], bytes], Callable[[bytes], Slices]]] = {
        "avif": (lambda one, at: codecs.avif_file(one[None], at), lambda data: codecs.avif_slices(data)[0]),
        "jpeg_xl": (codecs.jpeg_xl_file, codecs.jpeg_xl_slice),
        "jpeg_2000": (codecs.jpeg_2000_file, codecs.jpeg_2000_slice),
    }
    if name == "av1_sequence":
        return Way(
            name,
            setting,
            lambda head: [codecs.avif_file(head.slices, setting, codecs.SEQUENCE_TUNE)],
            lambda files: codecs.avif_slices(files[0]),
        )
    file, picture = single[name]
    return single_slices(name, setting, lambda one: file(one, setting), picture)


def single_slices(
    name: str, setting: float | None, file: Callable[[Slices], bytes], picture: Callable[[bytes], Slices]
) -> Way:
    """A file a slice, as many at a time as there are cores."""
    pool = ThreadPoolExecutor(CORES)
    return Way(
        name,
        setting,
        lambda head: list(pool.map(file, list(head.slices))),
        lambda files: np.stack(list(pool.map(picture, files))),
    )


Likeness = dict[str, NDArray[np.float64]]
"""Of every slice each measure."""


def quality(way: Way, found: Sequence[Head], known: dict[str, Likeness] | None = None) -> dict[str, Any]:
    """Bits a pixel of the files and likeness, with intervals over subjects.

    `known`: likeness by subject, which grows; it is that of the tokenizer, whatever the entropy model.
    """
    known = {} if known is None else known
    columns: dict[str, list[NDArray[np.float64]]] = {}
    for head in found:
        files, slices = way.write(head), head.slices
        if head.subject not in known:
            known[head.subject] = measures_of(slices, way.read(files))
        bits = 8 * sum(map(len, files)) / slices.size
        for name, values in {"file_bits": np.full(len(slices), bits), **known[head.subject]}.items():
            columns.setdefault(name, []).append(values)
    subjects = [head.subject for head in found for _ in head.scans]
    whole = {name: np.concatenate(parts) for name, parts in columns.items()}
    told = intervals(whole, subjects)
    return {
        "name": way.name,
        "setting": way.setting,
        "measures": {name: asdict(interval) for name, interval in told.items()},
        "per_subject": subject_means(whole, subjects),
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
    codec: Codec,
    name: str,
    found: Sequence[Head],
    pictures: Mapping[str, Mapping[str, Any]],
    known: dict[str, Likeness],
    rounds: int,
) -> dict[str, Any]:
    """One of ours, and what each picture codec needs for the same likeness. `known`: as of `quality`."""
    refuse_other_pictures(codec, found[0])
    way = ours(codec, name)
    row = quality(way, found, known)
    wanted = row["measures"]["ssim_foreground"]["mean"]
    like = {other: nearest(pictures[other]["settings"], wanted) for other in COMPARED}
    rates = speeds([way, *(picture_way(other, each["setting"]) for other, each in like.items())], found[0], rounds)
    size = codec.pipeline.spec.bits(codec.pipeline.spec.multiple)
    return {
        **row,
        **rates[0],
        "tokenizer": codec.pipeline.weights_sha256,
        "entropy": {"kind": codec.entropy.kind, "previous": codec.entropy.takes_previous},
        "nominal_bits": size / float(np.prod(codec.pipeline.spec.multiple)),
        "like": {
            other: {
                "setting": each["setting"],
                "measures": each["measures"],
                "for_the_same": needed(pictures[other]["settings"], wanted),
                "saved": saved(row["per_subject"], pictures[other]["settings"], "file_bits"),
                "saved_of_payload": saved(row["per_subject"], pictures[other]["settings"], "payload_bits"),
                **rate,
            }
            for (other, each), rate in zip(like.items(), rates[1:], strict=True)
        },
    }


def saved(
    mine: Mapping[str, Mapping[str, float]], settings: Sequence[Mapping[str, Any]], of: str
) -> dict[str, float | None] | None:
    """The share of a codec's bits that our files do without at the same SSIM foreground; below zero if ours are more.

    `of`: the codec's "file_bits", or its "payload_bits", which leave out its headers but not ours. 95 % by bootstrap
    over subjects, drawn for both sides alike; None where a draw leaves what was measured, and nothing at all where the
    whole does.
    """
    names = sorted(mine)
    images = np.array([mine[name]["images"] for name in names], float)
    weights = np.random.default_rng(0).multinomial(len(names), np.full(len(names), 1 / len(names)), size=DRAWS)
    weights = np.concatenate([np.ones((1, len(names))), weights]) * images
    weights = weights / weights.sum(1, keepdims=True)

    def drawn(rows: Sequence[Mapping[str, Mapping[str, float]]], measure: str) -> NDArray[np.float64]:
        found: NDArray[np.float64] = weights @ np.array([[row[name][measure] for name in names] for row in rows]).T
        return found

    theirs = [row["per_subject"] for row in settings]
    bits, likeness = drawn(theirs, of), drawn(theirs, "ssim_foreground")
    own, wanted = drawn([mine], "file_bits")[:, 0], drawn([mine], "ssim_foreground")[:, 0]
    each = [bits_for(*row) for row in zip(bits, likeness, wanted, strict=True)]
    if each[0].told != "measured":
        return None
    shares = 1 - own / np.array([np.nan if one.bits is None else one.bits for one in each], float)
    known = all(one.told == "measured" for one in each)
    low, high = map(float, np.quantile(shares[1:], (0.025, 0.975))) if known else (None, None)
    return {"share": float(shares[0]), "low": low, "high": high}


def stored_pictures(fingerprint: str) -> dict[str, dict[str, Any]]:
    """Every setting of every picture codec on the same slices, as `benchmarks/rate_distortion.py` has measured them.

    Raises:
        InputError: it has not, or on others.
    """
    path = RESULTS / RATES
    found = json.loads(path.read_text()) if path.exists() else None
    if found is None or found["data"]["fingerprint"] != fingerprint:
        raise InputError(f"{path} does not tell of these slices. First: python -m benchmarks.rate_distortion")
    return {codec["name"]: codec for codec in found["codecs"]}


def without_loss(models: Mapping[str, Codec], found: Sequence[Head], rounds: int) -> dict[str, Any]:
    """Files that give back the very pixels: ours, and those of picture codecs."""
    from benchmarks import codecs

    ways = [ours(codec, name, lossless=True) for name, codec in models.items()]
    ways += [ours(codec, f"{name}{ALONE}", lossless=True, alone=True) for name, codec in models.items()]
    ways += [single_slices(each.name, None, each.file, each.slice) for each in codecs.LOSSLESS]
    ways.append(
        Way(
            "av1_sequence",
            None,
            lambda head: [codecs.avif_file(head.slices, codecs.EXACT, codecs.SEQUENCE_TUNE)],
            lambda files: codecs.avif_slices(files[0]),
        )
    )
    about = {
        each.name: {"label": each.label, "options": each.options, "version": each.version} for each in codecs.LOSSLESS
    }
    about["av1_sequence"] = {"label": "AV1 sequence", "options": f"quality {codecs.EXACT}"}
    rows: list[dict[str, Any]] = []
    for way in ways:
        columns = []
        for head in found:
            files = way.write(head)
            if not np.array_equal(way.read(files), head.slices):
                raise InputError(f"{way.name} does not give back the pixels of {head.subject}.")
            columns.append(np.full(len(head.scans), 8 * sum(map(len, files)) / head.slices.size))
        subjects = [head.subject for head in found for _ in head.scans]
        column = {"file_bits": np.concatenate(columns)}
        told = {"file_bits": asdict(intervals(column, subjects)["file_bits"])}
        of = about.get(way.name, {})
        rows.append({"name": way.name, **of, **told, "per_subject": subject_means(column, subjects)})
        print(f"{way.name:24} lossless: {rows[-1]['file_bits']['mean']:.4f} bits a pixel", flush=True)
    rates = speeds(ways, found[0], rounds)
    return {
        "subjects": [head.subject for head in found],
        "rows": [{**row, **rate} for row, rate in zip(rows, rates, strict=True)],
    }


def run(models: Sequence[str], lossless_subjects: int, rounds: int) -> dict[str, Any]:
    torch.set_num_threads(CORES)
    cache = open_cache(open_splits(str(OASIS))["validate"])
    pictures = stored_pictures(cache.fingerprint)
    found = heads(cache, len(cache))
    codecs = {Path(model).name: load_codec(model, _tokenizer(model)) for model in models}
    if len(codecs) < len(models):
        raise InputError(f"two of {', '.join(models)} have one name, and would be one row. Rename a run.")
    rows, known = [], defaultdict[str, dict[str, Likeness]](dict)
    for name, codec in codecs.items():
        rows.append(compare(codec, name, found, pictures, known[codec.pipeline.weights_sha256], rounds))
        print(_told(rows[-1]), flush=True)
    return {
        "benchmark": "codec",
        "command": f"python -m benchmarks.codec {' '.join(codecs)} "
        f"--lossless-subjects {lossless_subjects} --rounds {rounds}",
        "data": {
            "name": "oasis",
            "split": "validate",
            "fingerprint": cache.fingerprint,
            "subjects": len(found),
            "images": sum(len(head.scans) for head in found),
        },
        "ours": rows,
        "lossless": without_loss(_last(codecs), heads(cache, lossless_subjects), rounds),
        "hardware": hardware(),
        "torch": torch.__version__,
    }


def _tokenizer(model: str) -> Path | None:
    """That of a prior, where it lies among this project's weights and not where the run looks for it."""
    config = Path(model) / "config.json"
    told = json.loads(config.read_text()).get("tokenizer") if config.exists() else None
    found = ROOT / "weights" / Path(told["path"]).name if told else None
    return found if found is not None and found.is_dir() else None


def _last(codecs: Mapping[str, Codec]) -> dict[str, Codec]:
    """Of each tokenizer the last that was named."""
    last = {codec.pipeline.weights_sha256: name for name, codec in codecs.items()}
    return {name: codecs[name] for name in last.values()}


def _told(row: dict[str, Any]) -> str:
    bits, likeness = (row["measures"][of]["mean"] for of in ("file_bits", "ssim_foreground"))
    lines = [f"{row['name']:24} {bits:.4f} bits a pixel, SSIM foreground {likeness:.4f}; {_rates(row)}"]
    for name, like in row["like"].items():
        needs = like["for_the_same"]
        told = "never" if needs["bits"] is None else f"{needs['bits']:.4f} ({needs['told']})"
        lines.append(f"    {name:20} for the same likeness: {told}; {_rates(like)}")
    return "\n".join(lines)


def _rates(row: dict[str, Any]) -> str:
    each = row["compress_slices_a_second"], row["decompress_slices_a_second"]
    return "slices a second: {:.1f} in, {:.1f} out".format(*each)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("models", nargs="+", help="as brainvq compress takes them")
    parser.add_argument("--lossless-subjects", type=int, default=5, help="so many, spread over the split")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS / STORED)
    arguments = parser.parse_args()
    result = run(arguments.models, arguments.lossless_subjects, arguments.rounds)
    write_json(arguments.out, result)
    print(f"written: {arguments.out}")


if __name__ == "__main__":
    main()
