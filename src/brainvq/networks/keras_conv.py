"""The convolutional encoder and decoder of reference system A, layer by layer.

Source: the Keras example "Vector-Quantized Variational Autoencoders" (S. Paul, 2021), after A. van den Oord et al.,
Neural Discrete Representation Learning, 2017, with the widths of the OASIS system.

TensorFlow's "same" padding of a 3 x 3 convolution with stride 2 pads an even image at its end only, and crops the
transposed convolution at its end only. PyTorch pads both sides alike, but drops what the stride does not reach, which
is the end. So in a mirrored image `padding=1` *is* TensorFlow's padding, for even sizes and odd ones, and no padded or
cropped copy of a feature map is ever made: this network mirrors the image and the latent grid at its borders and stores
its kernels mirrored. `tests/test_keras_conv.py` holds it against the definition.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, PositiveInt
from torch import Tensor, nn

from brainvq.networks.base import Autoencoder, NetworkConfig
from brainvq.networks.layers import Upsample, glorot


class Config(NetworkConfig):
    """Widths of the strided convolutions, and the channels `dim` of the latent grid."""

    kind: Literal["networks.keras_conv"] = "networks.keras_conv"
    widths: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (32, 64, 128)
    dim: PositiveInt = 30

    def build(self) -> Autoencoder:
        return Autoencoder(Encoder(self), Decoder(self), self.dim, (2 ** len(self.widths),) * 2)


class Encoder(nn.Module):
    """x (B, 1, H, W) in [-1, 1] -> z (B, dim, H/8, W/8), with three widths."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for narrow, wide in pairwise((1, *config.widths)):
            layers += [nn.Conv2d(narrow, wide, 3, stride=2, padding=1), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(config.widths[-1], config.dim, 1))
        self.layers.apply(glorot)

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.layers(mirror(x) / 2)  # described on [-0.5, 0.5]
        return mirror(z)


class Decoder(nn.Module):
    """z (B, dim, H/8, W/8) -> x_hat (B, 1, H, W), linear, not clipped to [-1, 1]."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        widths = (config.dim, *reversed(config.widths))
        layers: list[nn.Module] = []
        for wide, narrow in pairwise(widths):
            layers += [Upsample(wide, narrow), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.ConvTranspose2d(widths[-1], 1, 3, padding=1))
        self.layers.apply(glorot)

    def forward(self, z: Tensor) -> Tensor:
        x_hat: Tensor = self.layers(mirror(z))
        return mirror(x_hat) * 2


def mirror(x: Tensor) -> Tensor:
    """Both image axes reversed."""
    return x.flip(-2, -1)
