"""Milliseconds of a training step of `autoregressive`, by our attention and dropout and by the library's, turn by turn.

    python -m benchmarks.transformer

The preset's prior on 16 images of 16 x 16 codes of 1,024 entries, in the precision that training takes on this machine,
freed memory kept as in all our training. "Library": `scaled_dot_product_attention` and `dropout` of PyTorch in the
place of `attend` and `dropped` of `networks/transformer.py`; all else is the same code.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor
from torch.nn import functional as F

from brainvq.codes import CodeSpec
from brainvq.config import to_json
from brainvq.networks import transformer
from brainvq.presets import preset
from brainvq.run import hardware, write_json
from brainvq.training.devices import accelerator, keep_freed_memory, resolve
from brainvq.training.labelled import Labelled
from brainvq.training.prior_experiment import PriorExperiment

SPEC, SIZE = CodeSpec((1024,), ((16, 16),)), (256, 256)
BATCH, ROUNDS, STEPS = 16, 7, 4


def library_attention(q: Tensor, k: Tensor, v: Tensor, *, causal: bool) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal)


def library_dropout(x: Tensor, share: float) -> Tensor:
    return F.dropout(x, share, training=True)


SIDES: dict[str, dict[str, Callable[..., Tensor]]] = {
    "library": {"attend": library_attention, "dropped": library_dropout},
    "our attention": {"dropped": library_dropout},
    "our dropout": {"attend": library_attention},
    "both": {},
}


def main() -> None:
    keep_freed_memory()
    experiment = preset("autoregressive")
    assert isinstance(experiment, PriorExperiment)
    prior = experiment.prior.build(SPEC, SIZE, ())
    task = experiment.task.build(prior, accelerator("auto"), learning_rate=experiment.train.learning_rate)
    batch = Labelled((torch.randint(SPEC.entries[0], (BATCH, *SPEC.grids(SIZE)[0])),), None)
    taken: dict[str, list[float]] = {name: [] for name in SIDES}
    for each in range(ROUNDS):
        for name, parts in SIDES.items():
            with ExitStack() as replaced:
                for part, other in parts.items():
                    replaced.enter_context(mock.patch.object(transformer, part, other))
                started = time.perf_counter()
                for step in range(STEPS):
                    task.step(batch, step, ROUNDS * STEPS)
                if each:  # the first round warms up
                    taken[name].append(1000 * (time.perf_counter() - started) / STEPS)
    found = {name: round(statistics.median(times), 1) for name, times in taken.items()}
    for name, milliseconds in found.items():
        print(f"{name:14} {milliseconds:7.1f} ms a step, {found['library'] / milliseconds:.2f} times as fast")
    result = {
        "prior": to_json(experiment.prior),
        "batch": BATCH,
        "grid": list(SPEC.grids(SIZE)[0]),
        "entries": SPEC.entries[0],
        "precision": resolve("auto"),
        "hardware": hardware(),
        "milliseconds_a_step": found,
        "all": taken,
    }
    write_json(Path(__file__).resolve().parents[1] / "results" / "benchmark_transformer.json", result)


if __name__ == "__main__":
    main()
