"""A tokenizer's reconstructions against a patch discriminator, which sees what squared error forgives: blur.

Source: P. Esser, R. Rombach, B. Ommer, Taming Transformers for High-Resolution Image Synthesis, 2021 (hinge losses, and
a weight that follows the gradients). We differ: the gradients are compared at the reconstruction, not at the weights of
the last layer, so that no second pass through the decoder is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from accelerate import Accelerator
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn import functional as F

from brainvq.config import Config
from brainvq.errors import InputError
from brainvq.networks.patch_discriminator import PatchDiscriminator
from brainvq.training.optimise import OptimiserConfig, Updates

OPTIMISER = OptimiserConfig(betas=(0.5, 0.9))


class PatchConfig(Config):
    """Args:
    weight: length of the discriminator's gradient at a reconstruction, as a share of that of all other terms.
    widths: channels of its stages, each of which halves the image.
    learning_rate: of the discriminator, constant.
    """

    weight: PositiveFloat = 0.5
    widths: Annotated[tuple[PositiveInt, ...], Field(min_length=1, max_length=8)] = (32, 64, 128)
    learning_rate: PositiveFloat = 2e-4

    def refuse_size(self, size: Sequence[int]) -> None:
        """Raises InputError where images of so many pixels leave no patch, or are volumes."""
        least = 2 ** len(self.widths)
        if len(size) != 2 or min(size) < least:
            raise InputError(
                f"task.patches judges images of two axes and at least {least} x {least} pixels; training sees "
                f"{' x '.join(map(str, size))}. Give fewer task.patches.widths, or leave task.patches out."
            )


class Patches:
    """The discriminator, and what it wants of a reconstruction."""

    def __init__(self, config: PatchConfig, accelerator: Accelerator) -> None:
        self.config, self.accelerator = config, accelerator
        self.updates = Updates(OPTIMISER, PatchDiscriminator(config.widths), accelerator, config.learning_rate)

    def term(self, x_hat: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
        """A term of value zero whose gradient makes `x_hat` (B, 1, H, W) more believable, and the loss behind it.

        `others`: the sum of all other terms of the loss of `x_hat`.
        """
        seen = x_hat.detach().requires_grad_()
        judge = self.updates.module.requires_grad_(False)  # past the wrapper that waits for other processes
        with self.accelerator.autocast():
            doubt = -judge(seen.clamp(-1, 1)).float().mean()
        judge.requires_grad_(True)
        (wanted,) = torch.autograd.grad(doubt, seen)
        (known,) = torch.autograd.grad(others, x_hat, retain_graph=True)
        push = self.config.weight * known.norm() / wanted.norm().clamp_min(1e-12) * wanted
        return (push * (x_hat - x_hat.detach())).sum(), doubt.detach()

    def learn(self, x: Tensor, x_hat: Tensor, step: int, total: int) -> Tensor:
        """One step of the discriminator, and its hinge loss."""
        real, made = (self.updates.model(images).float() for images in (x, x_hat.detach().clamp(-1, 1)))
        loss = F.relu(1 - real).mean() + F.relu(1 + made).mean()
        self.updates.step(loss, step, total)
        return loss.detach()

    def state(self) -> dict[str, Tensor]:
        return self.updates.state()

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        self.updates.load_state(tensors)
