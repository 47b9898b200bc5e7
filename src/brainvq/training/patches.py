"""A tokenizer's reconstructions against patch discriminators, which see what squared error forgives: blur.

Source: P. Esser, R. Rombach, B. Ommer, Taming Transformers for High-Resolution Image Synthesis, 2021 (hinge losses, and
a weight that follows the gradients). We differ: the gradients are compared at the reconstruction, not at the weights of
the last layer, so that no second pass through the decoder is needed; and those of each scale have a length of their
own, or the finest would drown the others.
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
from brainvq.networks.patch_discriminator import PatchDiscriminators
from brainvq.training.optimise import OptimiserConfig, Updates

OPTIMISER = OptimiserConfig(betas=(0.5, 0.9))
GROWING = 200
"""Steps over which their say grows evenly to `weight`: what has learned nothing yet pushes anywhere."""


class PatchConfig(Config):
    """Args:
    weight: length of the discriminators' gradients at a reconstruction, all of equal length, added up: as a share of
        that of all other terms.
    scales: of the image, each half as fine as the one before, with a discriminator each.
    widths: channels of its stages, each of which halves the image, after the details that halve it first.
    learning_rate: of the discriminators, constant.
    """

    weight: PositiveFloat = 1.5
    scales: Annotated[PositiveInt, Field(le=8)] = 3
    widths: Annotated[tuple[PositiveInt, ...], Field(min_length=1, max_length=8)] = (64, 128)
    learning_rate: PositiveFloat = 5e-4

    def refuse_size(self, size: Sequence[int]) -> None:
        """Raises InputError where images of so many pixels leave no patch, or are volumes."""
        least = 2 ** (len(self.widths) + self.scales)
        if len(size) != 2 or min(size) < least:
            raise InputError(
                f"task.patches judges images of two axes and at least {least} x {least} pixels; training sees "
                f"{' x '.join(map(str, size))}. Give fewer task.patches.widths or task.patches.scales, or leave "
                "task.patches out."
            )


class Patches:
    """The discriminators, and what they want of a reconstruction."""

    def __init__(self, config: PatchConfig, accelerator: Accelerator) -> None:
        self.config, self.accelerator = config, accelerator
        self.updates = Updates(
            OPTIMISER, PatchDiscriminators(config.widths, config.scales), accelerator, config.learning_rate
        )

    def term(self, x_hat: Tensor, others: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """A term of value zero whose gradient makes `x_hat` (B, 1, H, W) more believable, and the loss behind it.

        `others`: the sum of all other terms of the loss of `x_hat`.
        """
        (known,) = torch.autograd.grad(others, x_hat, retain_graph=True)
        weight = self.config.weight * min(1.0, step / GROWING)
        length = weight / self.config.scales * known.norm()
        judge = self.updates.module.requires_grad_(False)  # past the wrapper that waits for other processes
        push, doubts = torch.zeros_like(known), []
        for scale in range(self.config.scales):
            seen = x_hat.detach().requires_grad_()
            with self.accelerator.autocast():
                doubt = -judge.judged(seen.clamp(-1, 1), scale).float().mean()
            (wanted,) = torch.autograd.grad(doubt, seen)
            push += length / wanted.norm().clamp_min(1e-12) * wanted
            doubts.append(doubt.detach())
        judge.requires_grad_(True)
        return (push * (x_hat - x_hat.detach())).sum(), torch.stack(doubts).mean()

    def learn(self, x: Tensor, x_hat: Tensor, step: int, total: int) -> Tensor:
        """One step of the discriminators, and the mean of their hinge losses."""
        judged = zip(self.updates.model(x), self.updates.model(x_hat.detach().clamp(-1, 1)), strict=True)
        losses = [F.relu(1 - real.float()).mean() + F.relu(1 + made.float()).mean() for real, made in judged]
        loss = torch.stack(losses).mean()
        self.updates.step(loss, step, total)
        return loss.detach()

    def state(self) -> dict[str, Tensor]:
        return self.updates.state()

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        self.updates.load_state(tensors)
