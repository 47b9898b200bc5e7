"""How close a training step comes to what the device can do: a GPU's, or the processor's where there is none.

    python -m benchmarks.gpu

The device is measured first: matrix products of two large square matrices in each precision, and a copy of a large
tensor (read and written once each). A training step does about three times the arithmetic of the forward pass
(convolutions and matrix products; the backward pass has two products for each of the forward one's), so that its
achieved rate is 3 x GFLOP forward x images/s. Utilisation is that over the matrix rate in the precision of training,
the model FLOPs utilisation of Chowdhery et al., PaLM, 2022. How many bytes a step moves is not known, so that the
bandwidth stands for itself. On CUDA also: how often the host waits for the device within a step.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.steps import DEVICE, Side, Step
from benchmarks.stored import device_of
from benchmarks.training import PRESETS, side_of
from brainvq.data.loader import Cache, open_cache
from brainvq.data.sources import open_splits
from brainvq.run import hardware, write_json

CUDA = DEVICE.type == "cuda"
EDGE = 8192 if CUDA else 2048  # of the matrices
BYTES = 2**30 if CUDA else 2**27  # of the tensor that is copied
REPEATS, WARM_UP = 10, 3
BACKWARD = 3  # arithmetic of a step, in forward passes


def matrix_rates() -> dict[str, float]:
    """TFLOP/s of a square matrix product, by precision; tf32 on CUDA alone."""
    found = {"bf16": _matrix_rate(torch.bfloat16)}
    before = torch.get_float32_matmul_precision()
    try:
        for name, precision in (("fp32", "highest"), ("tf32", "high")) if CUDA else (("fp32", "highest"),):
            torch.set_float32_matmul_precision(precision)
            found[name] = _matrix_rate(torch.float32)
    finally:
        torch.set_float32_matmul_precision(before)
    return found


def _matrix_rate(dtype: torch.dtype) -> float:
    one, other = (torch.randn(EDGE, EDGE, device=DEVICE, dtype=dtype) for _ in range(2))
    out = torch.empty_like(one)
    return 2 * EDGE**3 / _seconds(lambda: torch.mm(one, other, out=out)) / 1e12


def bandwidth() -> float:
    """GB/s of a copy, bytes read and bytes written together."""
    source = torch.zeros(BYTES, dtype=torch.uint8, device=DEVICE)
    target = torch.empty_like(source)
    return 2 * BYTES / _seconds(lambda: target.copy_(source)) / 1e9


def _seconds(work: Callable[[], object]) -> float:
    """Median of `REPEATS`, after some to warm up."""
    found = []
    for _ in range(WARM_UP + REPEATS):
        wait()
        started = time.perf_counter()
        work()
        wait()
        found.append(time.perf_counter() - started)
    return statistics.median(found[WARM_UP:])


def wait() -> None:
    if CUDA:
        torch.cuda.synchronize()


def step_facts(side: Side, cache: Cache, steps: int, rates: dict[str, float]) -> dict[str, Any]:
    """The speed of a preset's training step, and its share of the device's matrix rate."""
    step = side.start(cache)
    for number in range(WARM_UP):
        step(number)
    wait()
    started = time.perf_counter()
    for number in range(WARM_UP, WARM_UP + steps):  # the host may run ahead, as it does in training
        step(number)
    wait()
    seconds = (time.perf_counter() - started) / steps
    return {
        "batch": side.batch,
        "precision": side.precision,
        "step_ms": 1000 * seconds,
        "images_per_second": side.batch / seconds,
        "gflop_forward": (forward := side.gflop()),
        **utilisation(forward, side.batch / seconds, rates, side.precision),
        "host_waits_a_step": _host_waits(step, WARM_UP + steps),
    }


def utilisation(gflop_forward: float, images_per_second: float, rates: dict[str, float], precision: str) -> Any:
    """TFLOP/s of a training step, and their share of the matrix rate; float32 convolutions take tf32 on CUDA."""
    achieved = BACKWARD * gflop_forward * images_per_second / 1000
    peak = rates["bf16"] if precision == "bf16" else rates.get("tf32", rates["fp32"])
    return {"tflops": achieved, "utilisation": achieved / peak}


def _host_waits(step: Step, number: int) -> int | None:
    """As PyTorch itself reports them."""
    if not CUDA:
        return None
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            step(number)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing" in str(each.message) for each in caught)


def measure(data: str, *, presets: Sequence[str], steps: int, batch: int | None = None) -> dict[str, Any]:
    cache = open_cache(open_splits(data)["train"], multiple=(16, 16), device=DEVICE)
    rates = matrix_rates()
    told = f" --presets {' '.join(presets)}" if tuple(presets) != tuple(PRESETS) else ""
    told += f" --batch {batch}" if batch else ""
    return {
        "benchmark": "utilisation",
        "command": f"python -m benchmarks.gpu --data DATA --steps {steps}{told}",
        "data": {"fingerprint": cache.fingerprint, "images": len(cache), "size": list(cache.size)},
        "device": DEVICE.type,
        "matrix_tflops": rates,
        "copy_gb_per_second": bandwidth(),
        "steps": {name: step_facts(side_of(name, batch), cache, steps, rates) for name in presets},
        "hardware": hardware(),
        "torch": torch.__version__,
    }


def table(result: dict[str, Any]) -> str:
    """The device, then a row for each preset."""
    facts, rates = result["hardware"], result["matrix_tflops"]
    device = device_of(facts)
    told = ", ".join(f"{rate:.3g} TFLOP/s in {name}" for name, rate in rates.items())
    lines = [
        f"Measured on {device}: matrix products {told}; copies {result['copy_gb_per_second']:.3g} GB/s.\n",
        "| a training step | batch | precision | ms | images/s | TFLOP/s | of the matrix rate | the host waits |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in result["steps"].items():
        waits = row["host_waits_a_step"]
        cells = [
            f"`{name}`",
            f"{row['batch']}",
            row["precision"],
            f"{row['step_ms']:.1f}",
            f"{row['images_per_second']:.1f}",
            f"{row['tflops']:.3g}",
            f"{row['utilisation']:.1%}",
            "-" if waits is None else f"{waits} times",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--data", default="cohort")
    parser.add_argument("--steps", type=int, default=100 if CUDA else 5)
    parser.add_argument("--presets", nargs="+", default=PRESETS)
    parser.add_argument("--batch", type=int, help="images a step of every preset instead of its own number")
    parser.add_argument("--out", type=Path, default=Path(f"results/benchmark_utilisation_{DEVICE.type}.json"))
    arguments = parser.parse_args()
    result = measure(arguments.data, presets=tuple(arguments.presets), steps=arguments.steps, batch=arguments.batch)
    write_json(arguments.out, result)
    print(table(result) + f"written: {arguments.out}")


if __name__ == "__main__":
    main()
