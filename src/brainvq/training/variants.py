"""Training images a little otherwise: mirrored, turned, scaled, shifted, so that few heads teach a prior more.

A prior sees codes, and codes cannot be turned: images are, before they are encoded. All slices of a head move alike, so
that neighbours stay neighbours. Variant 0 is the images themselves.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

TURN = 2.0
"""Degrees, and below percent and pixels of an image of 256: standard deviations."""
SCALE = 2.5
SHIFT = 2.0


def varied(x: Tensor, subjects: Sequence[str], variant: int) -> Tensor:
    """x (B, 1, H, W) in [-1, 1], black outside, and the subject of each -> the same of this variant."""
    if not variant:
        return x
    theta = torch.stack([_affine(subject, variant, x.shape[-2:]) for subject in subjects]).to(x)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    # bicubic, since what is blurred is learned; it overshoots at edges
    moved = F.grid_sample(x + 1, grid, mode="bicubic", padding_mode="zeros", align_corners=False)
    return moved.clamp(0, 2) - 1


def _affine(subject: str, variant: int, size: Sequence[int]) -> Tensor:
    """Where each pixel comes from, (2, 3), a function of subject and variant alone."""
    seed = hashlib.sha256(f"{variant}:{subject}".encode("utf-8", "surrogateescape")).digest()
    turn, scale, down, right, side = np.random.default_rng(list(seed)).standard_normal(5).tolist()
    angle, larger = math.radians(TURN * turn), math.exp(SCALE / 100 * scale)
    mirror, (height, width) = math.copysign(1.0, side), size
    cos, sin = math.cos(angle) / larger, math.sin(angle) / larger
    return torch.tensor(
        [
            [mirror * cos, -sin * height / width, SHIFT / 128 * right],
            [mirror * sin * width / height, cos, SHIFT / 128 * down],
        ]
    )
