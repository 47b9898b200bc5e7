"""Training images a little otherwise, so that few heads teach a prior more: turned, scaled, shifted, and mirrored where
their tokenizer learned mirror images too.

A prior sees codes, and codes cannot be turned: images are, before they are encoded. All slices of a head move alike, so
that neighbours stay neighbours. Variant 0 is the images themselves.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

TURN = 2.0
"""Degrees, and below percent and pixels of an image of 256: standard deviations."""
SCALE = 2.5
SHIFT = 2.0


def mirrored_axis(config: Mapping[str, Any]) -> int | None:
    """Along which axis left and right lie, from the config of a tokenizer that was trained with mirror images; else
    None."""
    task = config["experiment"].get("task", {})
    return (-2 if task.get("lying") else -1) if task.get("mirror") else None


def varied(x: Tensor, subjects: Sequence[str], variant: int, mirrored: int | None) -> Tensor:
    """x (B, 1, H, W) in [-1, 1], black outside, and the subject of each -> the same of this variant.

    `mirrored`: the axis along which half of the heads are mirrored, -2 or -1.
    """
    if not variant:
        return x
    theta = torch.stack([_affine(subject, variant, x.shape[-2:], mirrored) for subject in subjects]).to(x)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    # bicubic, since what is blurred is learned; it overshoots at edges
    moved = F.grid_sample(x + 1, grid, mode="bicubic", padding_mode="zeros", align_corners=False)
    return moved.clamp(0, 2) - 1


def _affine(subject: str, variant: int, size: Sequence[int], mirrored: int | None) -> Tensor:
    """Where each pixel comes from, (2, 3), a function of subject, variant and axis alone."""
    seed = hashlib.sha256(f"{variant}:{subject}".encode("utf-8", "surrogateescape")).digest()
    turn, scale, down, right, side = np.random.default_rng(list(seed)).standard_normal(5).tolist()
    angle, larger = math.radians(TURN * turn), math.exp(SCALE / 100 * scale)
    height, width = size
    down_side, right_side = (math.copysign(1.0, side) if axis == mirrored else 1.0 for axis in (-2, -1))
    cos, sin = math.cos(angle) / larger, math.sin(angle) / larger
    return torch.tensor(
        [
            [right_side * cos, -down_side * sin * height / width, SHIFT / 128 * right],
            [right_side * sin * width / height, down_side * cos, SHIFT / 128 * down],
        ]
    )
