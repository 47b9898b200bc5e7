"""Finite scalar quantization: each of a few numbers is rounded to one of its levels; there is no codebook to learn.

Source: F. Mentzer, D. Minnen, E. Agustsson, M. Tschannen, Finite Scalar Quantization: VQ-VAE Made Simple, 2023. The
bound is that of their appendix A.1: with L levels, h = (L - 1) (1 - 0.001) / 2, and o = 1/2 for even L, else 0,

    bound(z) = h tanh(z + tan(o / h)) - o,

rounded to an integer within -(L // 2) .. (L - 1) // 2 and divided by L // 2. Where we differ:

- Where vectors have another size than there are levels, a learned linear map comes before and another one after.
- Vectors are looked up in the table of all products of levels, which the last map is applied to once: so a code stands
  for the same numbers, to the bit, in every batch. Gradients pass by the map itself.

As tanh bends, encoding what a code stands for need not give that code again.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from einops import rearrange
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from brainvq.codes import Codes
from brainvq.quantizers.base import Quantized, Quantizer, QuantizerConfig

MOST = 2**20  # entries
EPSILON = 1e-3  # keeps the ends within the outermost levels


class Config(QuantizerConfig):
    """`levels`: of each scalar; their product is the number of entries, the first one counting fastest."""

    kind: Literal["quantizers.fsq"] = "quantizers.fsq"
    levels: Annotated[tuple[Annotated[int, Field(ge=2)], ...], Field(min_length=1)] = (8, 5, 5, 5)

    @model_validator(mode="after")
    def _few_enough(self) -> Config:
        if (entries := math.prod(self.levels)) > MOST:
            raise ValueError(f"{entries:,} entries; at most {MOST:,} are looked up in a table")
        return self

    def build(self, dim: int) -> FiniteScalarQuantizer:
        return FiniteScalarQuantizer(self, dim)


class FiniteScalarQuantizer(Quantizer):
    levels: Tensor
    basis: Tensor
    middle: Tensor

    def __init__(self, config: Config, dim: int) -> None:
        super().__init__()
        self.config, self.entries = config, (math.prod(config.levels),)
        count = len(config.levels)
        self.project_in = nn.Linear(dim, count) if dim != count else nn.Identity()
        self.project_out = nn.Linear(count, dim) if dim != count else nn.Identity()
        levels = torch.tensor(config.levels)
        self.register_buffer("levels", levels, persistent=False)
        self.register_buffer("basis", levels.cumprod(0) // levels, persistent=False)
        self.register_buffer("middle", (levels // 2).float(), persistent=False)  # in the precision that is computed in

    def encode(self, z: Tensor) -> Codes:
        with torch.autocast(z.device.type, enabled=False):
            return (self._codes(self.bounded(z).round()),)

    def decode(self, codes: Codes) -> Tensor:
        with torch.autocast(codes[0].device.type, enabled=False):
            vectors = F.embedding(codes[0], self.project_out(self.scalars()))
        return rearrange(vectors, "b ... d -> b d ...")

    def forward(self, z: Tensor) -> Quantized:
        with torch.autocast(z.device.type, enabled=False):
            bounded = self.bounded(z)
            rounded = bounded.round()
            codes = (self._codes(rounded),)
            straight = rounded.detach() + (bounded - bounded.detach())
            path = rearrange(self.project_out(straight / (self.levels // 2)), "b ... d -> b d ...")
            z_q = self.decode(codes).detach() + (path - path.detach())  # to the bit what decode gives
            return Quantized(z_q, codes)

    def bounded(self, z: Tensor) -> Tensor:
        """z (B, D, *grid) -> (B, *grid, scalars), within half a step of the outermost levels."""
        half = (self.levels - 1) * (1 - EPSILON) / 2
        offset = (1 - self.levels % 2) / 2
        scalars = self.project_in(rearrange(z.float(), "b d ... -> b ... d"))
        return torch.tanh(scalars + torch.tan(offset / half)) * half - offset

    def scalars(self) -> Tensor:
        """What each code stands for before the last map, (K, scalars) in [-1, 1]."""
        digits = torch.arange(self.entries[0], device=self.levels.device)[:, None] // self.basis % self.levels
        return (digits - self.levels // 2) / self.middle

    def _codes(self, rounded: Tensor) -> Tensor:
        """(B, *grid, scalars) -> (B, *grid); NaN is told by the loss, and has a code as any other."""
        digits = rounded.nan_to_num().long() + self.levels // 2
        return (digits * self.basis).sum(-1)
