"""A codebook of directions in few dimensions: vectors are mapped there and compared by their angle alone.

Source: J. Yu et al., Vector-quantized Image Modeling with Improved VQGAN, 2021 (section 3.2: factorized, l2-normalised
codes). A learned linear map takes D numbers to few, where all entries find vectors near them; both sides are put on the
unit sphere, so that no length decides and none can run away; a second map leads back. Where we differ:

- The codebook follows the data by moving averages, starts at the first batch and moves entries that fall out of use,
  as `vq.py` does, whose averages are put back on the sphere after every update: spherical k-means. They are put there
  when they are read, too, for an average of weights over time is no unit vector.
- The first map has no bias, so that the length of z plays no part at all.
- The second map is applied to the codebook, and the products looked up: a code stands for the same numbers, to the
  bit, in every batch. Gradients pass by the map itself.

As the second map is not the inverse of the first, encoding what a code stands for need not give that code again.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from einops import rearrange
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from brainvq.codes import Codes
from brainvq.quantizers import vq
from brainvq.quantizers.base import Quantized, Quantizer, QuantizerConfig
from brainvq.quantizers.search import nearest


class Config(QuantizerConfig):
    """One codebook on the unit sphere.

    Args:
        entries: K, the size of the codebook.
        code_dim: dimensions that the codebook has.
        commitment: weight of the commitment loss, between unit vectors.
        decay: of the moving averages of use and of vectors.
        revive_below: an entry used less than this share of its fair share (1/K) is moved; 0 never moves one.
    """

    kind: Literal["quantizers.normalized"] = "quantizers.normalized"
    entries: PositiveInt = 512
    code_dim: PositiveInt = 8
    commitment: NonNegativeFloat = 0.25
    decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    revive_below: Annotated[float, Field(ge=0, lt=1)] = 0.05

    def build(self, dim: int) -> NormalizedQuantizer:
        return NormalizedQuantizer(self, dim)


class NormalizedQuantizer(Quantizer):
    def __init__(self, config: Config, dim: int) -> None:
        super().__init__()
        self.config, self.entries = config, (config.entries,)
        self.project_in = nn.Linear(dim, config.code_dim, bias=False)
        self.project_out = nn.Linear(config.code_dim, dim)
        learned = {name: getattr(config, name) for name in ("entries", "commitment", "decay", "revive_below")}
        self.averages = vq.Config(codebook="ema", **learned).build(config.code_dim)

    def encode(self, z: Tensor) -> Codes:
        with torch.autocast(z.device.type, enabled=False):
            return (self._nearest(self.direction(z)),)

    def decode(self, codes: Codes) -> Tensor:
        with torch.autocast(codes[0].device.type, enabled=False):
            vectors = F.embedding(codes[0], self.project_out(self.codebook()))
        return rearrange(vectors, "b ... d -> b d ...")

    def forward(self, z: Tensor) -> Quantized:
        with torch.autocast(z.device.type, enabled=False):
            direction = self.direction(z)
            if self.training:
                found: Quantized = self.averages(rearrange(direction, "b ... c -> b c ..."))
                self._back_on_the_sphere()
                return Quantized(self._mapped(rearrange(found.z_q, "b c ... -> b ... c")), found.codes, found.losses)
            codes = self._nearest(direction)
            entry = F.embedding(codes, self.codebook())
            losses = {"commitment": self.config.commitment * F.mse_loss(direction, entry)}
            path = self._mapped(entry + (direction - direction.detach()))
            return Quantized(self.decode((codes,)).detach() + (path - path.detach()), (codes,), losses)

    def direction(self, z: Tensor) -> Tensor:
        """z (B, D, *grid) -> unit vectors (B, *grid, code_dim)."""
        return F.normalize(self.project_in(rearrange(z.float(), "b d ... -> b ... d")), dim=-1)

    def codebook(self) -> Tensor:
        """Unit vectors (K, code_dim)."""
        return F.normalize(self.averages.codebook, dim=1)

    @torch.no_grad()
    def _back_on_the_sphere(self) -> None:
        """After an update, which takes means; there the nearest is the nearest by angle."""
        self.averages.codebook.copy_(self.codebook())

    def _nearest(self, direction: Tensor) -> Tensor:
        return nearest(direction.flatten(0, -2), self.codebook()).reshape(direction.shape[:-1])

    def _mapped(self, vectors: Tensor) -> Tensor:
        """(B, *grid, code_dim) -> (B, D, *grid)"""
        mapped: Tensor = self.project_out(vectors)
        return rearrange(mapped, "b ... d -> b d ...")
