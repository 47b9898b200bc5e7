"""Images a second in training: each preset of ours against a plain PyTorch loop and MONAI's VQVAE, turn by turn.

    python -m benchmarks.training --data DATA

What is timed is in steps.py. Each turn has a process of its own, since one of our habits (`keep_freed_memory`) is a
setting of the whole process; for the plain loop and MONAI there is a row with it as well, for MONAI also in the
precision that ours has. In each round a side makes as many steps as come to some seconds, at least one. A preset that
trains on crops has a second row on whole images, since a crop is less work.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.steps import DEVICE, Side
from benchmarks.stored import device_of
from brainvq.data.loader import Cache, open_cache
from brainvq.data.sources import open_splits
from brainvq.presets import preset
from brainvq.run import hardware, write_json

PRESETS = ("keras_f8", "keras_f8_ema", "resnet_f4_narrow", "brain_f8", "brain_f4", "brain_f16")
OURS = "brain_f8"
WHOLE = "task.crop=1"
TURN = 3.0  # seconds, about
WARM = 1  # step
MULTIPLE = (16, 16)  # that every side's strides divide


def sides(presets: Sequence[str] = PRESETS, batch: int | None = None) -> list[Side]:
    """All that is timed, with `batch` images a step instead of each one's own number."""
    plain = replace(side_of("keras_f8"), name="plain", kind="plain")
    monai = replace(side_of(OURS), name="monai", kind="monai")
    found = [plain, replace(plain, name="plain, freed memory kept", tuned=True)]
    found += [monai, replace(monai, name="monai, tuned", tuned=True)]
    for name in presets:
        side = side_of(name)
        found.append(side)
        if side.experiment.task.crop < 1:
            found.append(replace(side, name=f"{name}, whole images", settings=(WHOLE,)))
    return [replace(side, batch=batch or side.batch) for side in found]


def side_of(name: str, batch: int | None = None) -> Side:
    """A preset of ours, with `batch` images a step or its own number."""
    return Side(name, "brainvq", batch or preset(name).train.batch_size, name)


def seconds_of(side: Side, data: str, first: int, count: int) -> float:
    """In a process of its own: the seconds of `count` steps from step `first`, after one to warm up."""
    step = side.start(_images(data))
    for number in range(WARM):
        step(number)
    _wait()
    started = time.perf_counter()
    for number in range(first, first + count):
        step(number)
    _wait()
    return time.perf_counter() - started


def measure(
    data: str, *, rounds: int = 5, presets: Sequence[str] = PRESETS, batch: int | None = None
) -> dict[str, Any]:
    """Take turns, each in a new process, since together they take too much memory; the median of the rounds counts."""
    cache, all_sides = _images(data), sides(presets, batch)
    counts = {side.name: max(1, round(TURN / _turn(side, data, WARM, 1))) for side in all_sides}
    rates: dict[str, list[float]] = {side.name: [] for side in all_sides}
    for turn in range(rounds):
        for side in all_sides:
            count = counts[side.name]
            rates[side.name].append(count * side.batch / _turn(side, data, WARM + turn * count, count))
    told = f" --presets {' '.join(presets)}" if tuple(presets) != PRESETS else ""
    told += f" --batch {batch}" if batch else ""
    return {
        "benchmark": "training",
        "command": f"python -m benchmarks.training --data DATA --rounds {rounds}{told}",
        "data": {"fingerprint": cache.fingerprint, "images": len(cache), "size": list(cache.size)},
        "sides": {side.name: _facts(side, rates[side.name]) for side in all_sides},
        "times_faster": times_faster({name: statistics.median(values) for name, values in rates.items()}),
        "hardware": hardware(),
        "torch": torch.__version__,
    }


def _turn(side: Side, data: str, first: int, count: int) -> float:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(seconds_of, side, data, first, count).result()


def _wait() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def times_faster(rates: dict[str, float]) -> dict[str, dict[str, float]]:
    """Each row of our preset against each of the others'."""
    ours = [name for name in rates if name.partition(",")[0] == OURS]
    others = [name for name in rates if name.partition(",")[0] in ("plain", "monai")]
    return {name: {other: rates[name] / rates[other] for other in others} for name in ours}


def _facts(side: Side, rates: list[float]) -> dict[str, Any]:
    return {
        "batch": side.batch,
        "precision": side.precision,
        "parameters": side.parameters(),
        "gflop_forward": side.gflop(),
        "images_per_second": statistics.median(rates),
        "rounds": rates,
    }


def _images(data: str) -> Cache:
    return open_cache(open_splits(data)["train"], multiple=MULTIPLE, device=DEVICE)


def table(result: dict[str, Any]) -> str:
    """The rows of the README, and what they come to."""
    labels = {
        "plain": "system A, plain PyTorch loop",
        "plain, freed memory kept": "the same, freed memory kept",
        "monai": f"MONAI's VQVAE, as large as `{OURS}`, its tutorial's step",
        "monai, tuned": "the same, freed memory kept, our precision",
    }
    lines = [
        "| training at 256 x 256 | images/s | batch | precision | parameters | GFLOP forward an image |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in result["sides"].items():
        known, _, rest = name.partition(",")
        cells = [
            labels.get(name) or f"`{known}`" + (f",{rest}" if rest else ""),
            f"{row['images_per_second']:.1f}",
            f"{row['batch']}",
            row["precision"],
            f"{row['parameters']:,}",
            f"{row['gflop_forward']:.2f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", *(told(name, row) for name, row in result["times_faster"].items())]
    device = device_of(result["hardware"])
    lines.append(f"Each turn in a process of its own, turn by turn in one run, on {device}.")
    return "\n".join(lines) + "\n"


def told(name: str, times: dict[str, float]) -> str:
    """`brain_f8`: 9.0 times the plain loop ..."""
    others = {
        "plain": "the plain loop",
        "plain, freed memory kept": "the plain loop with freed memory kept",
        "monai": "MONAI",
        "monai, tuned": "MONAI in our precision with freed memory kept",
    }
    known, _, rest = name.partition(",")
    listed = ", ".join(f"{value:.1f} times {others[other]}" for other, value in times.items())
    return f"`{known}`{' on' + rest if rest else ''}: {listed}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--data", default="cohort")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--presets", nargs="+", default=PRESETS)
    parser.add_argument("--batch", type=int, help="images a step of every side instead of its own: to try it out")
    parser.add_argument("--out", type=Path, default=Path("results/benchmark_training.json"))
    arguments = parser.parse_args()
    result = measure(arguments.data, rounds=arguments.rounds, presets=tuple(arguments.presets), batch=arguments.batch)
    write_json(arguments.out, result)
    print(table(result) + f"written: {arguments.out}")


if __name__ == "__main__":
    main()
