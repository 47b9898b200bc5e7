"""Training steps to be timed: ours, a plain PyTorch loop's, and that of MONAI's VQVAE.

The plain loop is what a careful reader of the paper would write: system A's layers by nn.Conv2d and nn.ConvTranspose2d
(with the symmetrical padding that PyTorch offers, which is quicker than cropping), distances and one-hot, Adam, images
already in memory as floats. MONAI's step is that of its tutorial (generation/2d_vqvae): L1 and the quantization loss,
Adam 1e-4, the loss read after every step; its network keeps MONAI's proportions, three stages that halve the image with
three residual units each, and is as wide as gives it as many parameters as a preset of ours. Ours is one step of
`TokenizerTask`, batch loading included, as `brainvq train` does it.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from brainvq.config import override
from brainvq.data.loader import Cache, order
from brainvq.describe import outline
from brainvq.presets import preset
from brainvq.run import parameters
from brainvq.training.devices import accelerator, keep_freed_memory, resolve
from brainvq.training.experiment import TokenizerExperiment
from brainvq.training.tokenizer import TokenizerTask, trained_size

SIZE = (256, 256)
ALIKE = 0.1  # largest difference in parameters, of those of ours
FOREVER = 10**6  # steps, of a learning-rate schedule that is not to end here
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")

Step = Callable[[int], object]


@dataclass(frozen=True)
class Side:
    """Something to time.

    Args:
        kind: "brainvq", "plain" or "monai".
        batch: images a step; null takes the preset's own.
        preset: what "brainvq" trains, with `settings`; for "monai" the preset whose size and codes it shall have.
        tuned: our settings for the others too: freed memory kept, for "monai" also bf16 where we use it.
    """

    name: str
    kind: str
    batch: int
    preset: str = "keras_f8"
    settings: tuple[str, ...] = ()
    tuned: bool = False

    @property
    def experiment(self) -> TokenizerExperiment:
        found = override(preset(self.preset), list(self.settings))
        assert isinstance(found, TokenizerExperiment)
        return found

    @property
    def precision(self) -> str:
        if self.kind == "brainvq":
            return resolve(self.experiment.train.precision)
        return resolve("auto") if self.kind == "monai" and self.tuned else "fp32"

    def start(self, cache: Cache) -> Step:
        """The step, for a process that does nothing else."""
        if self.kind == "brainvq":
            return our_step(self.experiment, cache, self.batch)
        if self.tuned:
            keep_freed_memory()
        return plain_step(cache, self.batch) if self.kind == "plain" else monai_step(self, cache)

    def parameters(self) -> int:
        if self.kind == "brainvq":
            return sum(parameters(self.experiment.tokenizer.build()).values())
        return _count(Plain() if self.kind == "plain" else monai_like(self.experiment))

    def gflop(self) -> float:
        """Forward, an image as it is trained on, so a crop where the preset trains on crops; a multiply-add is two."""
        if self.kind == "brainvq":
            return gflop(self.experiment)
        module, x = (Plain() if self.kind == "plain" else monai_like(self.experiment)), torch.zeros(1, 1, *SIZE)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            module(x)
        return float(counter.get_total_flops()) / 1e9


def gflop(experiment: TokenizerExperiment) -> float:
    """Forward, one image as it is trained on."""
    size = trained_size(experiment.task.crop, SIZE, experiment.tokenizer.build().spec.multiple)
    return sum(outline(experiment, size).flops.values()) / 1e9


def task_of(experiment: TokenizerExperiment, images: Cache) -> TokenizerTask:
    """What trains the experiment's tokenizer, at its start."""
    devices = accelerator(experiment.train.precision)
    torch.manual_seed(experiment.train.seed)
    rate, variance = experiment.train.learning_rate, images.variance
    return TokenizerTask(experiment.task, experiment.tokenizer.build(), devices, learning_rate=rate, variance=variance)


def our_step(experiment: TokenizerExperiment, cache: Cache, batch: int) -> Step:
    task = task_of(experiment, cache)

    def step(number: int) -> object:
        torch.manual_seed(number)
        return task.step(cache.batch(order(len(cache), batch, 0, number)), number, FOREVER)

    return step


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

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x_hat, and the quantizer's loss."""
        z = self.encoder(x)
        rows = z.permute(0, 2, 3, 1).reshape(-1, 30)
        distances = rows.square().sum(1, keepdim=True) - 2 * rows @ self.codebook.T + self.codebook.square().sum(1)
        one_hot = F.one_hot(distances.argmin(1), 128).float()
        z_q = (one_hot @ self.codebook).reshape(len(z), *z.shape[2:], 30).permute(0, 3, 1, 2)
        loss = F.mse_loss(z_q, z.detach()) + 0.5 * F.mse_loss(z, z_q.detach())
        return self.decoder(z + (z_q - z).detach()), loss


def plain_step(cache: Cache, batch: int) -> Step:
    model = Plain().to(DEVICE)
    optimiser = torch.optim.Adam(model.parameters(), 1e-3, eps=1e-7)
    images, variance = cache.batch(range(4 * batch)) / 2, cache.variance / 4  # decoded, floating, in memory

    def step(number: int) -> object:
        x = _part(images, number, batch)
        optimiser.zero_grad()
        x_hat, loss = model(x)
        loss = F.mse_loss(x_hat, x) / variance + loss
        loss.backward()
        optimiser.step()
        return float(loss.detach())

    return step


def monai_step(side: Side, cache: Cache) -> Step:
    model = monai_like(side.experiment).to(DEVICE).train()
    optimiser = torch.optim.Adam(model.parameters(), 1e-4)
    images = (cache.batch(range(4 * side.batch)) + 1) / 2  # in [0, 1], as the tutorial has them

    def step(number: int) -> object:
        x = _part(images, number, side.batch)
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(DEVICE.type, torch.bfloat16) if side.precision == "bf16" else nullcontext():
            x_hat, quantization = model(x)
        loss = F.l1_loss(x_hat.float(), x) + quantization
        loss.backward()
        optimiser.step()
        return float(loss.detach())

    return step


def monai_like(experiment: TokenizerExperiment) -> nn.Module:
    """MONAI's VQVAE with the entries and the dimension of a preset of stride 8, and nearly as many parameters."""
    ours = experiment.tokenizer.build()
    wanted, entries = sum(parameters(ours).values()), ours.spec.entries[0]
    dim = experiment.tokenizer.network.dim  # type: ignore[attr-defined]
    with torch.device("meta"):
        counts = {width: _count(_monai(width, entries, dim)) for width in range(8, 160, 4)}
    width = min(counts, key=lambda width: abs(counts[width] - wanted))
    if abs(counts[width] - wanted) > ALIKE * wanted:
        raise SystemExit(f"no width gives MONAI's VQVAE {wanted:,} parameters; the nearest: {width}, {counts[width]:,}")
    return _monai(width, entries, dim)


def _monai(width: int, entries: int, dim: int) -> nn.Module:
    """Its default proportions: 96, 96, 192 channels, as many in the residual units."""
    nets: Any = importlib.import_module("monai.networks.nets")  # in no environment but that of the benchmarks
    channels = (width, width, 2 * width)
    model: nn.Module = nets.VQVAE(
        2, 1, 1, channels=channels, num_res_channels=channels, num_embeddings=entries, embedding_dim=dim
    )
    return model


def _count(module: nn.Module) -> int:
    return sum(math.prod(parameter.shape) for parameter in module.parameters())


def _part(images: Tensor, number: int, batch: int) -> Tensor:
    parts = len(images) // batch
    return images[(number % parts) * batch :][:batch]
