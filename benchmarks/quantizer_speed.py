"""Milliseconds of a quantizer's step: ours against vector-quantize-pytorch and MONAI, turn by turn in one run.

    python -m benchmarks.quantizer_speed --data DATA

A step is forward, backward and the update of the codebook for 16 x 1,024 vectors of 64 numbers, float32, drawn anew
from a normal distribution each time, on two threads. All three learn the codebook by moving averages (decay 0.99),
weigh the commitment by 0.25 and pass the gradient straight through; ours revives unused entries besides, as by default,
and has started by k-means. The gradient of what comes out has the memory layout of what comes out, as from a decoder.
Vectors lie in memory in rows (channels_last, as our encoders make them) or in planes (PyTorch's default).

Each side has a process of its own, because that freed memory is kept (`keep_freed_memory`, as in all our training) is a
setting of the whole process; the libraries run with it and as they come.

Besides: the peak memory of such steps over inputs and codebook with 65,536 entries, in a fresh process; and the share
of the quantizer in a training step of our presets.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from copy import deepcopy
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.steps import task_of
from brainvq.data.loader import open_cache, order
from brainvq.data.sources import open_splits
from brainvq.presets import preset
from brainvq.quantizers.vq import Config
from brainvq.run import hardware, write_json
from brainvq.training.devices import keep_freed_memory
from brainvq.training.experiment import TokenizerExperiment

SHAPE = (16, 64, 32, 32)
THREADS = 2
DECAY, COMMITMENT = 0.99, 0.25
CASES = {"512, rows": (512, "rows"), "512, planes": (512, "planes"), "8192, rows": (8192, "rows")}
LAYOUTS = {"rows": torch.channels_last, "planes": torch.contiguous_format}
SIDES = {
    "brainvq": ("brainvq", True),
    "vector-quantize-pytorch": ("vector-quantize-pytorch", False),
    "vector-quantize-pytorch, freed memory kept": ("vector-quantize-pytorch", True),
    "MONAI": ("monai", False),
    "MONAI, freed memory kept": ("monai", True),
}
LARGE = 65_536
PRESETS = ("brain_f8", "brain_f4", "brain_f16")
FOREVER = 10**6  # steps, of a learning-rate schedule that is not to end here

Quantize = Callable[[Tensor], tuple[Tensor, Tensor]]


def quantizer(library: str, entries: int, **settings: Any) -> Quantize:
    """z -> z_q and the loss; in training, so that each call updates the codebook."""
    dim = SHAPE[1]
    if library == "brainvq":
        ours = Config(entries=entries, decay=DECAY, commitment=COMMITMENT, **settings).build(dim).train()

        def run(z: Tensor) -> tuple[Tensor, Tensor]:
            found = ours(z)
            return found.z_q, found.losses["commitment"]

    elif library == "monai":
        from monai.networks.layers.vector_quantizer import EMAQuantizer

        theirs = EMAQuantizer(2, entries, dim, commitment_cost=COMMITMENT, decay=DECAY).train()

        def run(z: Tensor) -> tuple[Tensor, Tensor]:
            z_q, loss, _ = theirs(z)
            return z_q, loss

    else:
        from vector_quantize_pytorch import VectorQuantize

        straight = {"accept_image_fmap": True, "rotation_trick": False}  # its default gradient takes longer
        other = VectorQuantize(dim, entries, decay=DECAY, commitment_weight=COMMITMENT, **straight).train()

        def run(z: Tensor) -> tuple[Tensor, Tensor]:
            z_q, _, loss = other(z)
            return z_q, loss.sum()

    return run


def seconds(quantize: Quantize, layout: str) -> float:
    """Of a step, the making of its inputs left out."""
    z = torch.randn(SHAPE).to(memory_format=LAYOUTS[layout]).requires_grad_()
    started = time.perf_counter()
    z_q, loss = quantize(z)
    taken = time.perf_counter() - started
    gradients = [torch.randn_like(z_q), torch.ones_like(loss)]
    started = time.perf_counter()
    torch.autograd.grad([z_q, loss], z, gradients)
    return taken + time.perf_counter() - started


def serve(connection: Connection, side: str) -> None:
    """In a process of its own: the seconds of a step of each case that is asked for."""
    library, kept = SIDES[side]
    if kept:
        keep_freed_memory()
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    quantizers: dict[int, Quantize] = {}
    while (case := connection.recv()) is not None:
        entries, layout = CASES[case]
        if entries not in quantizers:
            quantizers[entries] = quantizer(library, entries)
        connection.send(seconds(quantizers[entries], layout))


def speeds(rounds: int) -> dict[str, Any]:
    """Take turns, after a step of each to warm up; the median counts. A large codebook gets a third of the rounds."""
    context = multiprocessing.get_context("spawn")
    pipes, workers = {}, []
    for side in SIDES:
        pipes[side], end = context.Pipe()
        workers.append(context.Process(target=serve, args=(end, side), daemon=True))
        workers[-1].start()
    taken: dict[str, dict[str, list[float]]] = {case: {side: [] for side in SIDES} for case in CASES}
    for case, side in itertools.product(CASES, SIDES):
        _ask(pipes[side], case)
    for turn in range(rounds):
        for case, sides in taken.items():
            if CASES[case][0] < 1000 or turn % 3 == 0:
                for side, found in sides.items():
                    found.append(_ask(pipes[side], case))
    for pipe, worker in zip(pipes.values(), workers, strict=True):
        pipe.send(None)
        worker.join()
    return {case: _compared(sides) for case, sides in taken.items()}


def _ask(pipe: Connection, case: str) -> float:
    pipe.send(case)
    return float(pipe.recv())


def _compared(sides: dict[str, list[float]]) -> dict[str, Any]:
    medians = {side: statistics.median(values) for side, values in sides.items()}
    return {
        "seconds": medians,
        "times_faster": {side: value / medians["brainvq"] for side, value in medians.items() if side != "brainvq"},
        "rounds": sides,
    }


def peak(entries: int) -> dict[str, Any]:
    """Bytes at most in use over inputs and codebook, in two steps after a random start. For a fresh process."""
    torch.set_num_threads(THREADS)
    seconds(quantizer("brainvq", 512), "rows")  # what PyTorch loads and compiles when first asked
    z, gradient = (torch.randn(SHAPE).to(memory_format=torch.channels_last) for _ in range(2))
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    quantize = quantizer("brainvq", entries, initial_range=1.0)
    for _ in range(2):
        z_q, loss = quantize(z.requires_grad_())
        torch.autograd.grad([z_q, loss], z, [gradient, torch.ones_like(loss)])
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    codebook = 4 * entries * SHAPE[1]
    return {"entries": entries, "bytes": most - before - codebook, "codebook": codebook, "inputs": 8 * z.numel()}


def share(name: str, data: str, steps: int) -> dict[str, Any]:
    """Of the quantizer (forward, backward, update) in a step of that preset, on the vectors that the step had."""
    cache = open_cache(open_splits(data)["train"])
    experiment = preset(name)
    assert isinstance(experiment, TokenizerExperiment)
    task = task_of(experiment, cache)
    module: nn.Module = task.updates.model.quantizer  # type: ignore[assignment]
    seen: list[Tensor] = []
    module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    whole, part = [], []
    for number in range(steps + 2):
        x = cache.batch(order(len(cache), experiment.train.batch_size, 0, number))
        started = time.perf_counter()
        task.step(x, number, FOREVER)
        whole.append(time.perf_counter() - started)
        part.append(_alone(deepcopy(module), seen[-1]))
        seen.clear()
    step, alone = (statistics.median(values[2:]) for values in (whole, part))
    return {"step": step, "quantizer": alone, "share": alone / step, "rounds": {"step": whole[2:], "alone": part[2:]}}


def _alone(module: nn.Module, z: Tensor) -> float:
    z.requires_grad_()
    started = time.perf_counter()
    found = module(z)
    taken = time.perf_counter() - started
    gradients = [torch.randn_like(found.z_q), *map(torch.ones_like, found.losses.values())]
    started = time.perf_counter()
    torch.autograd.grad([found.z_q, *found.losses.values()], z, gradients)
    return taken + time.perf_counter() - started


def table(result: dict[str, Any]) -> str:
    """Markdown for the docs."""
    heads = [f"{int(case.partition(',')[0]):,} entries,{case.partition(',')[2]}" for case in result["cases"]]
    lines = ["| milliseconds a step | " + " | ".join(heads) + " |", "|---|" + "---:|" * len(heads)]
    for side in SIDES:
        cells = []
        for found in result["cases"].values():
            ratio = "" if side == "brainvq" else f" ({found['times_faster'][side]:.1f} times ours)"
            cells.append(f"{1000 * found['seconds'][side]:.1f}{ratio}")
        lines.append(f"| {side} | " + " | ".join(cells) + " |")
    most = result["memory"]
    lines += ["", f"{most['entries']:,} entries need {most['bytes'] / 2**20:.0f} MiB over inputs and codebook."]
    shares = ", ".join(f"{100 * found['share']:.1f} % (`{name}`)" for name, found in result["share"].items())
    lines.append(f"The quantizer's share of a training step: {shares}.")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--data", default="cohort", help="for the share in a training step")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--part", choices=("cases", "memory", "share"), help="measure this alone, keep the rest")
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)  # how the fresh process is asked
    parser.add_argument("--out", type=Path, default=Path("results/benchmark_quantizer_speed.json"))
    arguments = parser.parse_args()
    if arguments.peak:
        print(json.dumps(peak(arguments.peak)))
        return
    result: dict[str, Any] = {"benchmark": "quantizer_speed"}
    if arguments.part and arguments.out.exists():
        result = json.loads(arguments.out.read_text())
    if arguments.part in (None, "cases"):
        result["cases"] = speeds(arguments.rounds)
    if arguments.part in (None, "memory"):
        command = [sys.executable, "-m", "benchmarks.quantizer_speed", "--peak", str(LARGE)]
        result["memory"] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    if arguments.part in (None, "share"):
        result["share"] = {name: share(name, arguments.data, arguments.rounds) for name in PRESETS}
    result |= {
        "command": f"python -m benchmarks.quantizer_speed --data DATA --rounds {arguments.rounds}",
        "shape": list(SHAPE),
        "threads": THREADS,
        "hardware": hardware(),
        "versions": {name: version(name) for name in ("torch", "vector-quantize-pytorch", "monai")},
    }
    write_json(arguments.out, result)
    if {"cases", "memory", "share"} <= result.keys():
        print(table(result))
    print(f"written: {arguments.out}")


if __name__ == "__main__":
    main()
