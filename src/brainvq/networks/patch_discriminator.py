"""Discriminators that judge each patch of an image, at several scales: is it of a real one?

Source: P. Isola et al., Image-to-Image Translation with Conditional Adversarial Networks, 2017 (patches); T. Miyato et
al., Spectral Normalization for Generative Adversarial Networks, 2018 (in place of their BatchNorm, so that no image is
judged by its neighbours in the batch); T.-C. Wang et al., High-Resolution Image Synthesis and Semantic Manipulation
with Conditional GANs, 2018 (one for each scale). We differ: each sees means of 2 x 2 pixels and the three Haar details
that they leave out, brought to a size of about one. Blur takes next to nothing of an image's variance, so that a
discriminator of pixels under a bound of its slope cannot tell it for thousands of steps; in the details it is plain.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

SLOPE = 0.2  # of the leaky ReLU
DETAIL = 20.0
"""What details are multiplied by: pixels in [-1, 1] have some of 0.05."""


class PatchDiscriminator(nn.Module):
    """x (B, 1, H, W) in [-1, 1] -> logits (B, 1, H / s, W / s), s = 2 ** (1 + len(widths)); positive for real."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for above, width in zip((4, *widths), widths, strict=False):
            layers += [spectral_norm(nn.Conv2d(above, width, 4, stride=2, padding=1)), nn.LeakyReLU(SLOPE)]
        self.layers = nn.Sequential(*layers, spectral_norm(nn.Conv2d(widths[-1], 1, 3, padding=1)))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(bands(x))
        return logits


class PatchDiscriminators(nn.Module):
    """x (B, 1, H, W) in [-1, 1] -> logits of each scale: of the image, of means of 2 x 2 of its pixels, and so on."""

    def __init__(self, widths: Sequence[int], scales: int) -> None:
        super().__init__()
        self.each = nn.ModuleList(PatchDiscriminator(widths) for _ in range(scales))

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.judged(x, scale) for scale in range(len(self.each))]

    def judged(self, x: Tensor, scale: int) -> Tensor:
        """By one of them alone."""
        logits: Tensor = self.each[scale](F.avg_pool2d(x, 2**scale) if scale else x)
        return logits


def bands(x: Tensor) -> Tensor:
    """x (B, 1, H, W) -> means of 2 x 2 pixels and what they leave out, (B, 4, H / 2, W / 2); an odd last row or column
    is cut."""
    x = x[..., : x.shape[2] // 2 * 2, : x.shape[3] // 2 * 2]
    a, b, c, d = x[..., ::2, ::2], x[..., ::2, 1::2], x[..., 1::2, ::2], x[..., 1::2, 1::2]
    details = [DETAIL / 4 * detail for detail in (a + b - c - d, a - b + c - d, a - b - c + d)]
    return torch.cat([(a + b + c + d) / 4, *details], dim=1)
