"""The contract of a quantizer: vectors to codes and back, with the losses that training needs.

A quantizer is one file of this folder that holds a `Config` and its module; the contract tests run over every file.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn

from brainvq.codes import Codes
from brainvq.config import PartConfig


@dataclass(frozen=True)
class Quantized:
    """`z_q` (B, D, *grid), gradients straight through to z; `codes`; `losses`: named scalars, already weighted."""

    z_q: Tensor
    codes: Codes
    losses: dict[str, Tensor] = field(default_factory=dict)


class Quantizer(nn.Module):
    """Maps z (B, D, *grid) to the nearest of a finite set of vectors.

    Only `forward` in training mode may change the codebook: `encode` and `decode` are pure.
    """

    entries: tuple[int, ...]
    """Codebook entries of each level, coarse to fine."""

    def forward(self, z: Tensor) -> Quantized:
        raise NotImplementedError

    def encode(self, z: Tensor) -> Codes:
        """z (B, D, *grid) -> codes, a LongTensor (B, *grid) for each level."""
        raise NotImplementedError

    def decode(self, codes: Codes) -> Tensor:
        """codes -> z_q (B, D, *grid), float32."""
        raise NotImplementedError


class QuantizerConfig(PartConfig):
    """Derive `Config` of a quantizer file from this."""

    def build(self, dim: int) -> Quantizer:
        """A quantizer of vectors with `dim` channels."""
        raise NotImplementedError
