"""The residual encoder and decoder of reference system B, layer by layer: codes of 4 x 4 pixels.

Source: the OASIS system "Generative model using VQ-VAE and DCGAN" (PyTorch), after A. van den Oord et al., Neural
Discrete Representation Learning, 2017, section 4.1; residual blocks after K. He et al., Deep Residual Learning for
Image Recognition, 2016; normalisation: S. Ioffe and C. Szegedy, Batch Normalization, 2015. We differ in one point: one
channel in and out instead of three equal ones.
"""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveInt
from torch import Tensor, nn

from brainvq.networks.base import Autoencoder, NetworkConfig
from brainvq.networks.layers import Upsample, glorot


class Config(NetworkConfig):
    """Args:
    width: channels of every layer, and of the latent grid.
    initialisation: "glorot" as described, or "default", PyTorch's own.
    """

    kind: Literal["networks.resnet"] = "networks.resnet"
    width: PositiveInt = 256
    initialisation: Literal["glorot", "default"] = "glorot"

    def build(self) -> Autoencoder:
        encoder, decoder = Encoder(self.width), Decoder(self.width)
        if self.initialisation == "glorot":
            encoder.apply(glorot)
            decoder.apply(glorot)
        return Autoencoder(encoder, decoder, self.width, (4, 4))


class Encoder(nn.Module):
    """x (B, 1, H, W) in [-1, 1] -> z (B, width, H/4, W/4)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, width, 4, stride=2, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 4, stride=2, padding=1),
            Residual(width),
            Residual(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.layers(x)
        return z


class Decoder(nn.Module):
    """z (B, width, H/4, W/4) -> x_hat (B, 1, H, W) in (-1, 1)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            Residual(width),
            Residual(width),
            nn.ReLU(),
            Upsample(width, width, 4),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            Upsample(width, 1, 4),
            nn.Tanh(),
        )

    def forward(self, z: Tensor) -> Tensor:
        x_hat: Tensor = self.layers(z)
        return x_hat


class Residual(nn.Module):
    """(B, width, *grid) -> the same shape. As described its first ReLU works in place: the skip carries ReLU(z)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.branch = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 1),
            nn.BatchNorm2d(width),
        )

    def forward(self, z: Tensor) -> Tensor:
        z = self.relu(z)
        carried: Tensor = z + self.branch(z)
        return carried
