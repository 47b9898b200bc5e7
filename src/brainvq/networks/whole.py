"""Layers whose numbers are whole: weights of 8 bits, activations of 8 bits, sums below 2^24 in any order.

So float32 holds every sum exactly, and a product of matrices gives the same bits on every machine, with any number of
threads, in float32, float64 or int64: what an entropy coder needs (J. Balle et al., Integer Networks for Data
Compression with Latent-Variable Models, 2019). They learn with their rounding in place, whose gradient is taken to be
that of no rounding (Y. Bengio et al., Estimating or Propagating Gradients Through Stochastic Neurons, 2013).

A number is counted in steps of a power of two: those of a layer's weights, times those of what comes in, are the steps
of its sums, and a shift brings them back.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

LARGEST_WEIGHT = 127
LARGEST_HIDDEN = 255
LARGEST_BIAS = 1 << 16
LIMIT = 1 << 24
"""Above it float32 no longer holds every whole number; as in `codec/context_arrays.py`, which checks the sums."""
WIDEST = 1024, 512
"""Numbers, in -127..127 and in 0..255, of which a weighted sum stays below the limit whatever the weights are."""


class _Round(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


class _Shift(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bits: int) -> Tensor:
        ctx.bits = bits
        return (x * 2.0**-bits).floor()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * 2.0**-ctx.bits, None


def whole(x: Tensor, bits: int, largest: int = LARGEST_WEIGHT, *, rounded: bool = True) -> Tensor:
    """`x` in steps of 2^-bits, no more than `largest` of them."""
    steps = (x.float() * 2.0**bits).clamp(-largest, largest)
    return _Round.apply(steps) if rounded else steps  # type: ignore[no-untyped-call]


def shifted(x: Tensor, bits: int, *, rounded: bool = True) -> Tensor:
    """Sums in steps 2^bits larger, rounded down."""
    return _Shift.apply(x.float(), bits) if rounded else x.float() * 2.0**-bits  # type: ignore[no-untyped-call]


def activated(x: Tensor, bits: int, *, rounded: bool = True) -> Tensor:
    """Sums in steps 2^bits larger, to the nearest, in 0..255."""
    half = 2.0 ** (bits - 1) if rounded else 0.0
    return shifted(x.float() + half, bits, rounded=rounded).clamp(0, LARGEST_HIDDEN)


class Whole(nn.Module):
    """Numbers that are learned, in steps of 2^-bits."""

    def __init__(self, *shape: int, bits: int, std: float = 0.0, largest: int = LARGEST_WEIGHT) -> None:
        super().__init__()
        self.weight = nn.Parameter(std * torch.randn(shape))
        self.bits, self.largest = bits, largest
        self.rounded = True
        """Not so only to see what rounding costs."""

    def forward(self) -> Tensor:
        return whole(self.weight, self.bits, self.largest, rounded=self.rounded)
