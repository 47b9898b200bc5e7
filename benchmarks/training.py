"""Images a second in training, system A's network: ours against a plain float32 PyTorch loop, turn by turn in one run.

    python -m benchmarks.training --data DATA

The plain loop is what a careful reader of the paper would write: the same layers by nn.Conv2d and nn.ConvTranspose2d
(with the symmetrical padding that PyTorch offers, which is quicker than cropping), distances and one-hot, Adam, images
already in memory as floats. Ours is one step of `TokenizerTask`, batch loading included, as `brainvq train` does it.
Each has a process of its own, since one of our habits (`keep_freed_memory`) is a setting of the whole process; the
middle row is the plain loop with that setting alone.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from brainvq.data.loader import Cache, open_cache, order
from brainvq.data.sources import open_splits
from brainvq.presets import keras_f8
from brainvq.run import hardware, write_json
from brainvq.training.devices import accelerator, keep_freed_memory, resolve
from brainvq.training.tokenizer import TokenizerTask


class Plain(nn.Module):
    """Encoder, one-hot quantizer and decoder of system A, as one writes them first."""

    def __init__(self) -> None:
        super().__init__()
        down = [(1, 32), (32, 64), (64, 128)]
        up = [(30, 128), (128, 64), (64, 32)]
        self.encoder = nn.Sequential(
            *(layer for a, b in down for layer in (nn.Conv2d(a, b, 3, 2, 1), nn.ReLU())), nn.Conv2d(128, 30, 1)
        )
        self.codebook = nn.Parameter(torch.empty(128, 30).uniform_(-0.05, 0.05))
        self.decoder = nn.Sequential(
            *(layer for a, b in up for layer in (nn.ConvTranspose2d(a, b, 3, 2, 1, 1), nn.ReLU())),
            nn.ConvTranspose2d(32, 1, 3, 1, 1),
        )

    def loss(self, x: Tensor, variance: float) -> Tensor:
        z = self.encoder(x)
        rows = z.permute(0, 2, 3, 1).reshape(-1, 30)
        distances = rows.square().sum(1, keepdim=True) - 2 * rows @ self.codebook.T + self.codebook.square().sum(1)
        one_hot = F.one_hot(distances.argmin(1), 128).float()
        z_q = (one_hot @ self.codebook).reshape(len(z), *z.shape[2:], 30).permute(0, 3, 1, 2)
        quantization = F.mse_loss(z_q, z.detach()) + 0.5 * F.mse_loss(z, z_q.detach())
        x_hat = self.decoder(z + (z_q - z).detach())
        return F.mse_loss(x_hat, x) / variance + quantization


def plain_step(cache: Cache, batch: int) -> Callable[[int], object]:
    model = Plain()
    optimiser = torch.optim.Adam(model.parameters(), 1e-3, eps=1e-7)
    images = cache.batch(range(4 * batch)) / 2  # decoded, floating, in memory

    def step(number: int) -> object:
        optimiser.zero_grad()
        loss = model.loss(images[(number % 4) * batch : (number % 4 + 1) * batch], cache.variance / 4)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        return float(loss.detach())

    return step


def our_step(cache: Cache, batch: int) -> Callable[[int], object]:
    experiment = keras_f8()
    task = TokenizerTask(
        experiment.task,
        experiment.tokenizer.build(),
        accelerator("auto"),
        learning_rate=1e-3,
        variance=cache.variance,
    )

    def step(number: int) -> object:
        x = cache.batch(order(len(cache), batch, 0, number))
        return float(task.step(x, number, 10**6)["loss"])

    return step


def serve(connection: Connection, name: str, data: str, batch: int) -> None:
    """In a process of its own: seconds of a step, for each number that comes."""
    cache = open_cache(open_splits(data)["train"])
    if name == "plain, freed memory kept":
        keep_freed_memory()
    step = our_step(cache, batch) if name == "brainvq" else plain_step(cache, batch)
    while (number := connection.recv()) is not None:
        started = time.perf_counter()
        step(number)
        connection.send(time.perf_counter() - started)


def measure(data: str, batch: int, rounds: int) -> dict[str, Any]:
    """Take turns, after one step of each to warm up; the median of the rounds counts."""
    cache = open_cache(open_splits(data)["train"])
    context = multiprocessing.get_context("spawn")
    pipes, workers = {}, []
    for name in ("plain", "plain, freed memory kept", "brainvq"):
        pipes[name], end = context.Pipe()
        workers.append(context.Process(target=serve, args=(end, name, data, batch), daemon=True))
        workers[-1].start()
    rates: dict[str, list[float]] = {name: [] for name in pipes}
    for number in range(rounds + 1):
        for name, pipe in pipes.items():
            pipe.send(number)
            seconds = pipe.recv()
            if number:
                rates[name].append(batch / seconds)
    for pipe, worker in zip(pipes.values(), workers, strict=True):
        pipe.send(None)
        worker.join()
    medians = {name: statistics.median(values) for name, values in rates.items()}
    return {
        "benchmark": "training",
        "command": f"python -m benchmarks.training --data DATA --batch {batch} --rounds {rounds}",
        "data": {"fingerprint": cache.fingerprint, "images": len(cache), "size": list(cache.size)},
        "batch": batch,
        "precision": {"plain": "fp32", "brainvq": resolve("auto")},
        "images_per_second": medians,
        "rounds": rates,
        "times_faster": medians["brainvq"] / medians["plain"],
        "hardware": hardware(),
        "torch": torch.__version__,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--data", default="cohort")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("results/benchmark_training.json"))
    arguments = parser.parse_args()
    result = measure(arguments.data, arguments.batch, arguments.rounds)
    write_json(arguments.out, result)
    for name, rate in result["images_per_second"].items():
        print(f"{name:24} {rate:6.1f} images/s")
    print(f"{result['times_faster']:.2f} times the plain loop; written: {arguments.out}")


if __name__ == "__main__":
    main()
