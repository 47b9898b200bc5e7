"""Bits a pixel against likeness: our presets beside picture codecs, on the same validate slices of OASIS.

    python -m benchmarks.rate_distortion                 all slices; resumed setting by setting
    python -m benchmarks.rate_distortion --images 24     a quick look, printed and drawn, nothing stored; too few slices
                                                         a subject for a sequence
    python -m benchmarks.rate_distortion --presets       codecs as stored; only our presets, figure and table anew

The codecs (`benchmarks/codecs.py`, needs `pip install brainvq[bench]`) are measured here, each at several quality
settings; our presets' numbers are those of their evaluations in results/*.json, which must be of the same slices. For
each of ours: the bits that a codec needs for the same SSIM foreground, by interpolation between its settings, linear in
log bits. Nothing is extrapolated. Intervals: bootstrap over subjects, of both sides together.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from benchmarks.rate_figure import draw, table, write
from brainvq.data.loader import Cache, open_cache
from brainvq.data.sources import open_splits
from brainvq.errors import InputError
from brainvq.head import head_mask
from brainvq.metrics.distortion import distortion
from brainvq.metrics.statistics import DRAWS, intervals, subject_means
from brainvq.run import hardware, write_json

if TYPE_CHECKING:
    from benchmarks.codecs import Codec

ROOT = Path(__file__).resolve().parents[1]
RUNS = Path(os.environ.get("BRAINVQ_RUNS", ROOT.parent / "runs"))
OASIS = Path(os.environ.get("BRAINVQ_OASIS", ROOT.parent / "shared" / "oasis"))
RESULTS, PAGE = ROOT / "results", ROOT / "docs" / "rate-distortion.md"
FIGURE = ROOT / "docs" / "figures" / "rate-distortion.svg"
STORED = "benchmark_rate_distortion.json"

PRESETS = ("keras_f8", "keras_f8_ema", "resnet_f4_narrow", "resnet_f4_narrow_ema", "brain_f16", "brain_f8", "brain_f4")
MEASURES = ("ssim", "ssim_foreground", "psnr")
RATES = ("nominal", "entropy", "held_out", "file")
"""`file`: whole files of a subject's slices, with the best entropy model that `benchmarks/codec.py` has measured."""
BATCH = 16
"""Of slices that are measured at once."""


@dataclass(frozen=True)
class Needed:
    """Bits a pixel for a quality. `told`: "measured" between two settings; "below its lowest" where its lowest setting
    is as good or better, `bits` being that one's; "never" where its highest is worse, `bits` None."""

    bits: float | None
    told: str


def bits_for(bits: ArrayLike, quality: ArrayLike, wanted: float) -> Needed:
    """Of settings with these bits and this quality, the fewest bits for a quality: linear in log bits between the first
    two settings that enclose it."""
    order = np.argsort(np.asarray(bits))
    x, y = np.log(np.asarray(bits, dtype=float)[order]), np.asarray(quality, dtype=float)[order]
    if wanted <= y[0]:
        return Needed(float(np.exp(x[0])), "below its lowest")
    for low, high in zip(range(len(y) - 1), range(1, len(y)), strict=True):
        if y[low] <= wanted <= y[high]:
            share = (wanted - y[low]) / (y[high] - y[low]) if y[high] > y[low] else 0.0
            return Needed(float(np.exp(x[low] + share * (x[high] - x[low]))), "measured")
    return Needed(None, "never")


def quality_at(bits: ArrayLike, quality: ArrayLike, wanted: float) -> float | None:
    """The quality at `wanted` bits, linear in log bits; None outside of what was measured."""
    order = np.argsort(np.asarray(bits))
    x, y = np.log(np.asarray(bits, dtype=float)[order]), np.asarray(quality, dtype=float)[order]
    inside = x[0] <= np.log(wanted) <= x[-1]
    return float(np.interp(np.log(wanted), x, y)) if inside else None


def best(needed: Mapping[str, Needed]) -> str | None:
    """The codec that needs the fewest bits; None where none reaches the quality."""
    reached = {name: each.bits for name, each in needed.items() if each.bits is not None}
    return min(reached, key=lambda name: reached[name]) if reached else None


def measure(codec: Codec, slices: Cache, indices: Sequence[int], kept: Path | None = None) -> dict[str, Any]:
    """A codec at each of its settings. `kept`: a file that grows setting by setting, and from which is resumed."""
    about = {
        "name": codec.name,
        "label": codec.label,
        "quality": codec.quality,
        "options": codec.options,
        "library": codec.version,
        "sequence": codec.sequence,
        "fingerprint": slices.fingerprint,
        "images": len(indices),
    }
    found: dict[str, Any] = {**about, "settings": []}
    if kept is not None and kept.exists():
        stored = json.loads(kept.read_text())
        if {name: stored.get(name) for name in about} == about:
            found = stored
    done = {row["setting"]: row for row in found["settings"]}
    for setting in codec.settings:
        if setting not in done:
            done[setting] = _measure(codec, setting, slices, indices)
            measures = done[setting]["measures"]
            print(
                f"{codec.name:14} {codec.quality} {setting:4}: {measures['payload_bits']['mean']:.4f} bits a pixel "
                f"({measures['file_bits']['mean']:.4f} with its file), SSIM {measures['ssim']['mean']:.4f}, "
                f"foreground {measures['ssim_foreground']['mean']:.4f}, PSNR {measures['psnr']['mean']:.2f}",
                flush=True,
            )
        found["settings"] = [done[each] for each in codec.settings if each in done]
        if kept is not None:
            write_json(kept, found)
    return found


def _measure(codec: Codec, setting: float, slices: Cache, indices: Sequence[int]) -> dict[str, Any]:
    """One setting, subject by subject."""
    started, seconds = time.perf_counter(), 0.0
    subjects = [slices.subjects[i] for i in indices]
    pixels = slices.images.shape[1] * slices.images.shape[2]
    columns = {name: np.full(len(indices), np.nan) for name in ("payload_bits", "file_bits", *MEASURES)}
    for subject in dict.fromkeys(subjects):
        places = [n for n, name in enumerate(subjects) if name == subject]
        originals = np.stack([slices.images[indices[n]] for n in places])
        before = time.process_time()
        coded = codec.run(originals, setting)
        seconds += time.process_time() - before
        columns["payload_bits"][places] = 8 * coded.payload / pixels
        columns["file_bits"][places] = 8 * coded.file / pixels
        for name, values in measures_of(originals, coded.slices).items():
            columns[name][places] = values
    return {
        "setting": setting,
        "measures": {name: asdict(found) for name, found in intervals(columns, subjects).items()},
        "per_subject": subject_means(columns, subjects),
        "cpu_seconds_a_slice": seconds / len(indices),
        "wall_time_s": round(time.perf_counter() - started, 2),
    }


def measures_of(originals: NDArray[np.uint8], decoded: NDArray[np.uint8]) -> dict[str, NDArray[np.float64]]:
    """Slices (N, H, W) of 8 bit -> (N,) of each measure."""
    found: dict[str, list[NDArray[np.float64]]] = {name: [] for name in MEASURES}
    for start in range(0, len(originals), BATCH):
        part = slice(start, start + BATCH)
        x, y = (torch.from_numpy(each[part])[:, None].float() / 127.5 - 1 for each in (originals, decoded))
        for name, column in distortion(x, y, head=head_mask(originals[part])).columns().items():
            if name in found:
                found[name].append(column)
    return {name: np.concatenate(parts) for name, parts in found.items()}


def presets(results: Path, fingerprint: str) -> list[dict[str, Any]]:
    """What the evaluations of our presets say, of those that are there.

    Raises:
        InputError: one of other slices than the codecs'.
    """
    found, files = [], _files(results, fingerprint)
    for name in PRESETS:
        path = results / f"{name}.json"
        if not path.exists():
            continue
        evaluation = json.loads(path.read_text())["evaluation"]
        if evaluation["data"]["fingerprint"] != fingerprint:
            raise InputError(
                f"{path} was measured on other slices (SHA-256 {evaluation['data']['fingerprint'][:12]}) than the "
                f"codecs ({fingerprint[:12]}). Evaluate it again on the validate split of the same data."
            )
        usage, weights = evaluation["usage"], evaluation["model"]["weights_sha256"]
        found.append(
            {
                "name": name,
                "weights_sha256": weights,
                "bits": {rate: usage.get(f"{rate}_bits_per_pixel") for rate in RATES} | {"file": files.get(weights)},
                "measures": {of: evaluation["measures"][of] for of in MEASURES},
                "per_subject": {
                    subject: {of: row[of] for of in ("images", *MEASURES) if of in row}
                    for subject, row in evaluation["per_subject"].items()
                },
            }
        )
    return found


def _files(results: Path, fingerprint: str) -> dict[str, float]:
    """Bits a pixel of whole files, by the tokenizer's hash, where they were measured on these slices."""
    path, found = results / "benchmark_codec.json", dict[str, float]()
    stored = json.loads(path.read_text()) if path.exists() else None
    if stored is None or stored["data"]["fingerprint"] != fingerprint:
        return found
    for row in stored["ours"]:
        bits = row["measures"]["file_bits"]["mean"]
        found[row["tokenizer"]] = min(bits, found.get(row["tokenizer"], bits))
    return found


def compare(ours: Mapping[str, Any], codecs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The bits of each codec, and of the best picture codec and of the sequence with intervals, for the SSIM foreground
    of one of our presets; and every codec's measures at the same bits."""
    wanted = ours["measures"]["ssim_foreground"]["mean"]
    needed = {codec["name"]: bits_for(*_curve(codec, "ssim_foreground"), wanted) for codec in codecs}
    pictures = {codec["name"]: needed[codec["name"]] for codec in codecs if not codec["sequence"]}
    named = {codec["name"]: codec for codec in codecs}
    picture = best(pictures)
    return {
        "name": ours["name"],
        "needed": {name: asdict(each) for name, each in needed.items()},
        "best_picture_codec": picture,
        "intervals": {
            name: _interval(ours, named[name])
            for name, each in needed.items()
            if each.told == "measured" and (name == picture or named[name]["sequence"])
        },
        "at_the_same_bits": {
            rate: {
                name: {of: quality_at(*_curve(codec, of), ours["bits"][rate]) for of in MEASURES}
                for name, codec in named.items()
            }
            for rate, bits in ours["bits"].items()
            if bits is not None
        },
    }


def _curve(codec: Mapping[str, Any], measure_: str) -> tuple[list[float], list[float]]:
    """Payload bits a pixel and the measure, a value for each setting."""
    bits, quality = (
        [row["measures"][name]["mean"] for row in codec["settings"]] for name in ("payload_bits", measure_)
    )
    return bits, quality


def _interval(ours: Mapping[str, Any], codec: Mapping[str, Any], seed: int = 0) -> list[float] | None:
    """95 % of the bits needed, subjects drawn for both sides alike; None where a draw leaves what was measured,
    and in a quick look, which has not all of the subjects."""
    names = sorted(ours["per_subject"])
    if any(sorted(row["per_subject"]) != names for row in codec["settings"]):
        return None
    rows = [[row["per_subject"][name] for name in names] for row in codec["settings"]]
    images = np.array([ours["per_subject"][name]["images"] for name in names], dtype=float)
    weights = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=DRAWS)
    weights = weights * images / (weights @ images)[:, None]
    bits, quality = (
        weights @ np.array([[subject[of] for subject in row] for row in rows]).T
        for of in ("payload_bits", "ssim_foreground")
    )
    wanted = weights @ np.array([ours["per_subject"][name]["ssim_foreground"] for name in names])
    drawn = [bits_for(*each) for each in zip(bits, quality, wanted, strict=True)]
    if any(each.told != "measured" for each in drawn):
        return None
    return [float(edge) for edge in np.quantile([each.bits for each in drawn if each.bits], (0.025, 0.975))]


def gather(codecs: Sequence[Mapping[str, Any]], data: Mapping[str, Any], about: Mapping[str, Any]) -> dict[str, Any]:
    """The whole result: codecs, our presets, comparisons."""
    ours = presets(RESULTS, data["fingerprint"])
    return {
        **about,
        "data": dict(data),
        "codecs": list(codecs),
        "presets": ours,
        "comparisons": [compare(each, codecs) for each in ours],
    }


def spread(total: int, images: int | None) -> list[int]:
    """All slices, or so many spread evenly over them, and so over subjects."""
    if images is None or images >= total:
        return list(range(total))
    return [int(i) for i in np.linspace(0, total - 1, images).round()]


def _measured(number: int, images: int | None) -> dict[str, Any]:
    """One codec, on one core. Only a whole run keeps what it has measured."""
    from benchmarks.codecs import CODECS

    torch.set_num_threads(1)
    slices, codec = open_cache(open_splits(str(OASIS))["validate"]), CODECS[number]
    indices = spread(len(slices), images)
    if len(indices) < len(slices):
        return measure(codec, slices, indices, None)
    (RUNS / "rate_distortion").mkdir(parents=True, exist_ok=True)
    return measure(codec, slices, indices, RUNS / "rate_distortion" / f"{codec.name}.json")


def run(images: int | None) -> dict[str, Any]:
    """Measure every codec, as many at a time as there are cores."""
    from benchmarks.codecs import CODECS

    slices = open_cache(open_splits(str(OASIS))["validate"])
    indices = spread(len(slices), images)
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as processes:
        codecs = [*processes.map(_measured, range(len(CODECS)), repeat(images))]
    data = {
        "name": "oasis",
        "split": "validate",
        "fingerprint": slices.fingerprint,
        "subjects": len({slices.subjects[i] for i in indices}),
        "images": len(indices),
        "size": list(slices.images.shape[1:]),
    }
    about = {
        "benchmark": "rate_distortion",
        "command": "python -m benchmarks.rate_distortion" + (f" --images {images}" if images else ""),
        "hardware": hardware(),
        "torch": torch.__version__,
        "wall_time_s": round(sum(row["wall_time_s"] for codec in codecs for row in codec["settings"]), 1),
        "cpu_seconds_coding": round(
            sum(row["cpu_seconds_a_slice"] * len(indices) for codec in codecs for row in codec["settings"]), 1
        ),
    }
    return gather(codecs, data, about)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--images", type=int, help="so many slices, spread over subjects, for a quick look")
    parser.add_argument("--presets", action="store_true", help="leave the codecs as stored")
    parser.add_argument("--out", type=Path, default=RESULTS / STORED)
    arguments = parser.parse_args()
    if arguments.presets:
        stored = json.loads(arguments.out.read_text())
        about = {name: value for name, value in stored.items() if name not in ("data", "codecs", "presets")}
        result = gather(stored["codecs"], stored["data"], about)
    else:
        result = run(arguments.images)
    if arguments.images:
        draw(result, RUNS / "rate-distortion-quick.svg")
        print(table(result))
        return
    write_json(arguments.out, result)
    draw(result, FIGURE)
    write(PAGE, result)
    print(f"written: {arguments.out}, {FIGURE}, {PAGE}")


if __name__ == "__main__":
    main()
