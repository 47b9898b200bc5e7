"""Seconds to sample a 32 x 32 grid by PixelCNN: with what each layer keeps, against the whole network for each code.

    python -m benchmarks.sampling

Width and depth are the preset's, the weights random: they do not change the work. The naive loop is the shortest
correct one, in float32 and without gradients. Both take turns in one run on the same seeds. At batch 1 the naive loop
runs to its end; at batch 16 it is timed on evenly spread positions, each of which costs the same, and the rest is
reckoned.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from brainvq.codes import CodeSpec
from brainvq.config import to_json
from brainvq.priors.pixelcnn import Config, PixelCNN
from brainvq.run import hardware, write_json
from brainvq.training.devices import keep_freed_memory

SPEC, SIZE = CodeSpec((128,), ((8, 8),)), (256, 256)
POSITIONS = 32
"""Timed at batch 16, about, over all rounds."""


@torch.inference_mode()
def naive(prior: PixelCNN, generators: Sequence[torch.Generator], positions: Sequence[int] | None = None) -> Tensor:
    """Codes (B, H, W) by the whole network for each; with `positions`, only those, the others staying 0."""
    (height, width), weight = prior.grids[0], prior.position
    uniform = torch.stack([torch.rand(prior.length, generator=generator) for generator in generators]).to(weight)
    code = torch.zeros(len(generators), height, width, dtype=torch.long, device=weight.device)
    for n in range(prior.length) if positions is None else positions:
        i, j = divmod(n, width)
        below = prior.logits(code)[:, i, j].softmax(1).cumsum(1)
        code[:, i, j] = torch.searchsorted(below, uniform[:, n, None] * below[:, -1:], right=True)[:, 0]
    return code


def measure(rounds: int = 3) -> dict[str, Any]:
    """Both samplers, turn by turn."""
    keep_freed_memory()
    torch.manual_seed(0)
    prior = Config().build(SPEC, SIZE).eval()
    torch.nn.init.normal_(prior.head[-1].weight, std=0.1)  # type: ignore[arg-type]
    prior.sample(_generators(1))
    prior.logits(prior.sample(_generators(1))[0])
    return {
        "benchmark": "sampling",
        "command": f"python -m benchmarks.sampling --rounds {rounds}",
        "prior": to_json(prior.config),
        "parameters": sum(weight.numel() for weight in prior.parameters()),
        "grid": list(prior.grids[0]),
        "batches": [_whole(prior), _spread(prior, 16, rounds)],
        "hardware": hardware(),
        "torch": torch.__version__,
    }


def _whole(prior: PixelCNN) -> dict[str, Any]:
    """One image: the naive loop to its end, between two runs of ours."""
    ours = [_seconds(lambda: prior.sample(_generators(1)))]
    plain = _seconds(lambda: naive(prior, _generators(1)))
    ours.append(_seconds(lambda: prior.sample(_generators(1))))
    return _row(1, prior.length, ours, [plain])


def _spread(prior: PixelCNN, batch: int, rounds: int) -> dict[str, Any]:
    """Each round: ours to the end, and a share of the positions of the naive loop."""
    ours, plain, count = [], [], 0
    for turn in range(rounds):
        ours.append(_seconds(lambda: prior.sample(_generators(batch))))
        positions = range(turn, prior.length, prior.length * rounds // POSITIONS)
        timed = _seconds(lambda positions=positions: naive(prior, _generators(batch), positions))  # type: ignore[misc]
        plain.append(timed / len(positions) * prior.length)
        count += len(positions)
    return _row(batch, count, ours, plain)


def _row(batch: int, timed: int, ours: list[float], plain: list[float]) -> dict[str, Any]:
    seconds = {"naive": statistics.median(plain), "brainvq": statistics.median(ours)}
    return {
        "batch": batch,
        "naive_positions_timed": timed,
        "seconds": seconds,
        "seconds_an_image": {name: value / batch for name, value in seconds.items()},
        "rounds": {"naive": plain, "brainvq": ours},
        "times_faster": seconds["naive"] / seconds["brainvq"],
    }


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _generators(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("results/benchmark_sampling.json"))
    arguments = parser.parse_args()
    result = measure(arguments.rounds)
    write_json(arguments.out, result)
    for row in result["batches"]:
        seconds = row["seconds"]
        print(
            f"batch {row['batch']:2}: {seconds['brainvq']:7.2f} s, naive {seconds['naive']:7.1f} s, "
            f"{row['times_faster']:.0f} times faster"
        )
    print(f"written: {arguments.out}")


if __name__ == "__main__":
    main()
