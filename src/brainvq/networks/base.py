"""The contract of a network file: a mirrored encoder and decoder that know no quantizer."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from brainvq.config import PartConfig


@dataclass(frozen=True)
class Autoencoder:
    """`encoder`: x (B, 1, *S) in [-1, 1] -> z (B, dim, *S / stride); `decoder`: z -> x_hat (B, 1, *S)."""

    encoder: nn.Module
    decoder: nn.Module
    dim: int
    stride: tuple[int, ...]


class NetworkConfig(PartConfig):
    """Derive `Config` of a network file from this."""

    def build(self) -> Autoencoder:
        raise NotImplementedError
