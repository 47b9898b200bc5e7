"""Several processes keep one codebook: start, moving averages and revival are those of the whole batch."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from safetensors.torch import load_file, save_file
from torch import Tensor

from brainvq.quantizers import vq
from brainvq.quantizers.vq import Config, VectorQuantizer

STEPS, DIM = 6, 4
SETTINGS: dict[str, dict[str, Any]] = {
    "ema": {"entries": 32, "decay": 0.7, "revive_below": 0.3},
    "ema-from-random": {"entries": 32, "initial_range": 0.1, "decay": 0.7, "revive_below": 0.3},
    "gradient": {"entries": 32, "codebook": "gradient", "decay": 0.7, "revive_below": 0.3},
}


class Counted(VectorQuantizer):
    """Counts the entries that are moved after the start."""

    revived = 0

    def _place(self, entries: Tensor, vectors: Tensor, usage: Tensor) -> None:
        super()._place(entries, vectors, usage)
        self.revived += len(entries) if self.updates else 0


def learned(settings: dict[str, Any], share: slice) -> dict[str, Tensor]:
    """The state after some steps on this share of the batches, and the gradient of a codebook over all processes."""
    torch.manual_seed(0)
    quantizer = Counted(Config(**settings), DIM).train()
    for step in range(STEPS):
        z = torch.randn(8, DIM, 10, 10, generator=torch.Generator().manual_seed(step)) * (1 + step)
        losses = quantizer(z[share]).losses
    state = {name: value.clone() for name, value in quantizer.state_dict().items()}
    state["revived"] = torch.tensor(quantizer.revived)
    if "codebook" in losses:
        (state["gradient"],) = torch.autograd.grad(losses["codebook"], [quantizer.codebook])  # type: ignore[list-item]
        if dist.is_initialized():
            dist.all_reduce(state["gradient"])
            state["gradient"] /= dist.get_world_size()
    return state


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    share = slice(4 * rank, 4 * rank + 4)
    for name, settings in SETTINGS.items():
        save_file(learned(settings, share), f"{folder}/{name}-{rank}.safetensors")
    vq._total = lambda value: value  # the trap: each process for itself
    save_file(learned(SETTINGS["ema-from-random"], share), f"{folder}/alone-{rank}.safetensors")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        torch.multiprocessing.spawn(work, (name,), nprocs=2)
        yield Path(name)


@pytest.mark.parametrize("name", SETTINGS)
def test_two_processes_keep_the_codebook_of_one(folder: Path, name: str) -> None:
    """Equal to the bit between processes; to one process up to the order of sums, 1e-5 of vectors of about 1 to 6."""
    first, second = (load_file(folder / f"{name}-{rank}.safetensors") for rank in (0, 1))
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    alone = learned(SETTINGS[name], slice(None))
    assert alone["revived"] > 0
    assert alone.keys() == first.keys()
    for key, value in alone.items():
        torch.testing.assert_close(first[key], value, atol=1e-5, rtol=1e-5, msg=lambda text, key=key: f"{key}: {text}")


def test_without_the_reduction_processes_drift_apart(folder: Path) -> None:
    first, second = (load_file(folder / f"alone-{rank}.safetensors") for rank in (0, 1))
    assert not torch.allclose(first["codebook"], second["codebook"], atol=0.1)
