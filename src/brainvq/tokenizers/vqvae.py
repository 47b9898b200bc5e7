"""The vector-quantised autoencoder: encoder, quantizer, decoder, each a part of its own.

Source: A. van den Oord, O. Vinyals, K. Kavukcuoglu, Neural Discrete Representation Learning, 2017.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, Self

import torch
from torch import Tensor, nn

from brainvq.codes import Codes, CodeSpec
from brainvq.config import PartOf
from brainvq.networks.base import Autoencoder, NetworkConfig
from brainvq.quantizers.base import Quantizer, QuantizerConfig
from brainvq.tokenizers.base import Reconstruction, Tokenizer, TokenizerConfig


class Config(TokenizerConfig):
    """A network and a quantizer for the vectors that its encoder makes."""

    kind: Literal["tokenizers.vqvae"] = "tokenizers.vqvae"
    network: PartOf[NetworkConfig]
    quantizer: PartOf[QuantizerConfig]

    def build(self) -> VQVAE:
        network = self.network.build()
        return VQVAE(network, self.quantizer.build(network.dim))


class VQVAE(Tokenizer):
    def __init__(self, network: Autoencoder, quantizer: Quantizer) -> None:
        super().__init__()
        self.encoder, self.quantizer, self.decoder = network.encoder, quantizer, network.decoder
        self.spec = CodeSpec(quantizer.entries, (network.stride,) * len(quantizer.entries))
        self.held: list[nn.Module] = []

    def encode(self, x: Tensor) -> Codes:
        with _reading(self.encoder):
            return self.quantizer.encode(self._latent(x))

    def decode(self, codes: Codes) -> Tensor:
        with _reading(self.decoder):
            x_hat: Tensor = self.decoder(self.quantizer.decode(codes))
            return x_hat

    @torch.no_grad()
    def vectors(self) -> tuple[Tensor, ...]:
        """Of a level beside entry 0 of all others: to which each vector is a constant nearer."""
        found = []
        for level, entries in enumerate(self.spec.entries):
            grid = (entries, *[1] * self.spec.axes)
            codes = [torch.zeros(grid, dtype=torch.long, device=self.device) for _ in self.spec.entries]
            codes[level] = torch.arange(entries, device=self.device).view(grid)
            found.append(self.quantizer.decode(tuple(codes)).flatten(1))
        return tuple(found)

    def forward(self, x: Tensor) -> Reconstruction:
        quantized = self.quantizer(self._latent(x))
        return Reconstruction(self.decoder(quantized.z_q).float(), quantized.codes, quantized.losses)

    def hold(self, *, encoder: bool) -> None:
        self.held = [self.quantizer, *([self.encoder] if encoder else [])]
        for part in self.held:
            part.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for part in self.held:
            part.eval()  # only in training mode a quantizer, or BatchNorm, may change itself
        return self

    def _latent(self, x: Tensor) -> Tensor:
        """x (B, 1, *S) -> z (B, D, *grid), of a size that comes back out of the decoder as it went in."""
        self.spec.grids(x.shape[2:])
        z: Tensor = self.encoder(x)
        return z


@contextmanager
def _reading(network: nn.Module) -> Iterator[None]:
    """In eval mode, or BatchNorm would look at an image's neighbours and learn from them; then each as it was.

    Convolutions on CUDA in float32 proper: TF32 keeps ten bits, and other devices would find other codes.
    """
    convolutions = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    precision, convolutions.fp32_precision = convolutions.fp32_precision, "ieee"
    training = [module for module in network.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        convolutions.fp32_precision = precision
        for module in training:
            module.training = True
