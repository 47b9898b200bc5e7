"""A discriminator that judges each patch of an image: is it of a real one?

Source: P. Isola et al., Image-to-Image Translation with Conditional Adversarial Networks, 2017 (patches); T. Miyato et
al., Spectral Normalization for Generative Adversarial Networks, 2018 (in place of their BatchNorm, so that no image is
judged by its neighbours in the batch).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

SLOPE = 0.2  # of the leaky ReLU


class PatchDiscriminator(nn.Module):
    """x (B, 1, H, W) in [-1, 1] -> logits (B, 1, H / s, W / s), s = 2 ** len(widths); positive for real."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for above, width in zip((1, *widths), widths, strict=False):
            layers += [spectral_norm(nn.Conv2d(above, width, 4, stride=2, padding=1)), nn.LeakyReLU(SLOPE)]
        self.layers = nn.Sequential(*layers, spectral_norm(nn.Conv2d(widths[-1], 1, 3, padding=1)))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(x)
        return logits
