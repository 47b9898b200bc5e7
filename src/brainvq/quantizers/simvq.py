"""A random codebook that is never learned, times a linear map that is: every vector moves all entries at once.

Source: Y. Zhu, B. Li, Y. Xin, Z. Xia, L. Xu, Addressing Representation Collapse in Vector Quantized Models with One
Linear Layer, 2024. Entries are C W + b: C normal with deviation D^(-1/2), frozen; W and b learned, by the codebook
loss alone, since gradients of the decoder pass straight through to the encoder. In an ordinary codebook only the
entries that were chosen move, and the others fall out of use. Where we differ: the weight is on the commitment loss, as
in equation 3 of van den Oord et al. (2017); the default of their released code puts it on the codebook loss.
"""

from __future__ import annotations

from typing import Literal

import torch
from einops import rearrange
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from brainvq.codes import Codes
from brainvq.quantizers.base import Quantized, Quantizer, QuantizerConfig
from brainvq.quantizers.search import nearest


class Config(QuantizerConfig):
    """`entries`: K. `commitment`: weight of the loss that pulls vectors to their entries."""

    kind: Literal["quantizers.simvq"] = "quantizers.simvq"
    entries: PositiveInt = 512
    commitment: NonNegativeFloat = 0.25

    def build(self, dim: int) -> SimVQ:
        return SimVQ(self, dim)


class SimVQ(Quantizer):
    frozen: Tensor

    def __init__(self, config: Config, dim: int) -> None:
        super().__init__()
        self.config, self.entries = config, (config.entries,)
        self.register_buffer("frozen", torch.randn(config.entries, dim) * dim**-0.5)
        self.map = nn.Linear(dim, dim)

    def encode(self, z: Tensor) -> Codes:
        with torch.autocast(z.device.type, enabled=False):
            return self._encode(z, self.codebook())

    def decode(self, codes: Codes) -> Tensor:
        with torch.autocast(codes[0].device.type, enabled=False):
            return _decode(codes, self.codebook())

    def forward(self, z: Tensor) -> Quantized:
        with torch.autocast(z.device.type, enabled=False):
            z, codebook = z.float(), self.codebook()
            codes = self._encode(z, codebook)
            z_q = _decode(codes, codebook)
            losses = {
                "commitment": self.config.commitment * F.mse_loss(z, z_q.detach()),
                "codebook": F.mse_loss(z_q, z.detach()),
            }
            return Quantized(z_q.detach() + (z - z.detach()), codes, losses)  # to the bit what decode gives

    def codebook(self) -> Tensor:
        """(K, D)"""
        entries: Tensor = self.map(self.frozen)
        return entries

    def _encode(self, z: Tensor, codebook: Tensor) -> Codes:
        codes = nearest(rearrange(z, "b d ... -> (b ...) d"), codebook)
        return (codes.reshape(len(z), *z.shape[2:]),)


def _decode(codes: Codes, codebook: Tensor) -> Tensor:
    return rearrange(F.embedding(codes[0], codebook), "b ... d -> b d ...")
