"""Residual encoder and decoder whose work is at low resolution: pixels go to channels at once, and back at the end.

Pixels are unshuffled by `patch` before the first layer and the grid is halved at each further stage; the decoder is the
mirror image. No layer sees the full picture, where a processor waits for memory instead of multiplying. The last layer
of each block starts at zero, so that the network starts as its skips alone; one normalisation at the start of a block
allows a larger learning rate.

Source: W. Shi et al., Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional
Neural Network, 2016 (the shuffle); K. He et al., Identity Mappings in Deep Residual Networks, 2016 (blocks; ours have
one normalisation instead of two); H. Zhang, Y. Dauphin, T. Ma, Fixup Initialization, 2019 (zero at the end of a block).
"""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeInt, PositiveInt, model_validator
from torch import Tensor, nn

from brainvq.networks.base import Autoencoder, NetworkConfig


class Config(NetworkConfig):
    """Args:
    patch: pixels along an edge that become channels at once.
    widths: channels of each stage; every stage after the first halves the grid.
    encoder_blocks, decoder_blocks: residual blocks of each stage, in the order of `widths`.
    dim: channels of the latent grid.
    """

    kind: Literal["networks.pixel_shuffle"] = "networks.pixel_shuffle"
    patch: PositiveInt = 4
    widths: tuple[PositiveInt, ...] = (48, 128)
    encoder_blocks: tuple[NonNegativeInt, ...] = (1, 2)
    decoder_blocks: tuple[NonNegativeInt, ...] = (1, 2)
    dim: PositiveInt = 8

    @model_validator(mode="after")
    def _as_many_of_each(self) -> Config:
        if not len(self.widths) == len(self.encoder_blocks) == len(self.decoder_blocks) > 0:
            raise ValueError(
                f"{len(self.widths)} widths, {len(self.encoder_blocks)} encoder_blocks and {len(self.decoder_blocks)} "
                "decoder_blocks; expected one of each for every stage, and at least one stage"
            )
        return self

    def build(self) -> Autoencoder:
        stride = self.patch * 2 ** (len(self.widths) - 1)
        return Autoencoder(Encoder(self), Decoder(self), self.dim, (stride, stride))


class Encoder(nn.Module):
    """x (B, 1, H, W) in [-1, 1] -> z (B, dim, H / stride, W / stride)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        first = config.widths[0]
        layers: list[nn.Module] = [nn.PixelUnshuffle(config.patch), nn.Conv2d(config.patch**2, first, 3, padding=1)]
        layers += [Block(first) for _ in range(config.encoder_blocks[0])]
        for above, width, blocks in zip(config.widths, config.widths[1:], config.encoder_blocks[1:], strict=False):
            layers += [nn.PixelUnshuffle(2), nn.Conv2d(4 * above, width, 1), *(Block(width) for _ in range(blocks))]
        self.layers = nn.Sequential(*layers, nn.Conv2d(config.widths[-1], config.dim, 1))

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.layers(x)
        return z


class Decoder(nn.Module):
    """z (B, dim, H / stride, W / stride) -> x_hat (B, 1, H, W) in [-1, 1], in training not bounded."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        widths, blocks = config.widths[::-1], config.decoder_blocks[::-1]
        layers: list[nn.Module] = [nn.Conv2d(config.dim, widths[0], 3, padding=1)]
        layers += [Block(widths[0]) for _ in range(blocks[0])]
        for below, width, count in zip(widths, widths[1:], blocks[1:], strict=False):
            layers += [nn.Conv2d(below, 4 * width, 1), nn.PixelShuffle(2), *(Block(width) for _ in range(count))]
        self.layers = nn.Sequential(
            *layers, nn.Conv2d(widths[-1], config.patch**2, 3, padding=1), nn.PixelShuffle(config.patch)
        )

    def forward(self, z: Tensor) -> Tensor:
        x_hat: Tensor = self.layers(z)
        return x_hat if self.training else x_hat.clamp(-1, 1)


class Block(nn.Module):
    """(B, width, *grid) -> the same shape; at the start the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.BatchNorm2d(width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )
        last = self.branch[-1]
        for parameter in last.parameters():
            nn.init.zeros_(parameter)

    def forward(self, z: Tensor) -> Tensor:
        carried: Tensor = z + self.branch(z)
        return carried
