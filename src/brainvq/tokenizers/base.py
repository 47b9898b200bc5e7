"""The contract of a tokenizer: images to codes and back."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain

import torch
from torch import Tensor, nn

from brainvq.codes import Codes, CodeSpec
from brainvq.config import PartConfig


@dataclass(frozen=True)
class Reconstruction:
    """`x_hat` (B, 1, *S), `codes`, and the quantizer's `losses` as named scalars."""

    x_hat: Tensor
    codes: Codes
    losses: dict[str, Tensor] = field(default_factory=dict)


class Tokenizer(nn.Module):
    """x (B, 1, *S) float32 in [-1, 1] <-> codes. Outside training, in float32."""

    spec: CodeSpec

    @property
    def device(self) -> torch.device:
        """Where its weights lie; the CPU without any."""
        return next(chain(self.parameters(), self.buffers()), torch.empty(0)).device

    def encode(self, x: Tensor) -> Codes:
        """Changes nothing, in training mode neither.

        Raises:
            InputError: the size is not a multiple of the strides.
        """
        raise NotImplementedError

    def decode(self, codes: Codes) -> Tensor:
        """codes -> x_hat (B, 1, *S); may leave [-1, 1] a little."""
        raise NotImplementedError

    def vectors(self) -> tuple[Tensor, ...]:
        """What each entry of each level stands for, (entries, D): near ones decode to much the same."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Reconstruction:
        raise NotImplementedError

    def hold(self, *, encoder: bool) -> None:
        """From now on training leaves the quantizer as it is: no gradient, no statistics, no moved entry.

        With `encoder` that too, so that every image keeps its codes.
        """
        raise NotImplementedError


class TokenizerConfig(PartConfig):
    """Derive `Config` of a tokenizer file from this."""

    def build(self) -> Tokenizer:
        raise NotImplementedError
