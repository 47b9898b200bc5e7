"""How a head changes from slice to slice: of heads that are made one slice after another, beside real ones.

A head whose slices are drawn each for itself flickers; one whose slices copy each other stands still. Neither is seen
in single images. Both measures are good near the value of real heads with as many slices.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from brainvq.head import head_mask
from brainvq.metrics.distortion import ssim
from brainvq.metrics.generation import Images


@dataclass(frozen=True, eq=False)
class Continuity:
    """Of each head, (heads,): `ssim`: mean 8-bit SSIM of neighbouring slices. `flicker`: mean relative change of the
    mean grey inside the head from a slice to the next but one, less what the slice between explains:
    |m[i] - (m[i-1] + m[i+1]) / 2| over the mean of m."""

    ssim: NDArray[np.float64]
    flicker: NDArray[np.float64]


def continuity(images: Images, subjects: Sequence[str]) -> Continuity:
    """Of slices (N, H, W) uint8 in order, each head's together, at least three of each.

    Raises:
        ValueError: a head of fewer slices.
    """
    names = np.array(subjects, dtype=str)
    starts = np.flatnonzero(np.r_[True, names[1:] != names[:-1], True])
    found = [_of_head(np.asarray(images[first:last])) for first, last in itertools.pairwise(starts)]
    ssims, flickers = (np.array(column) for column in zip(*found, strict=True))
    return Continuity(ssims, flickers)


def _of_head(slices: NDArray[np.uint8]) -> tuple[float, float]:
    if len(slices) < 3:
        raise ValueError(f"a head of {len(slices)} slices; at least 3 are needed to see it change")
    x = torch.from_numpy(slices).float()[:, None] / 127.5 - 1
    alike = torch.cat([ssim(x[i : i + 1], x[i + 1 : i + 2]) for i in range(len(x) - 1)])
    greys = np.array(
        [image[mask].mean() if mask.any() else 0.0 for image, mask in zip(slices, head_mask(slices), strict=True)]
    )
    bends = np.abs(greys[1:-1] - (greys[:-2] + greys[2:]) / 2)
    return float(alike.mean()), float(bends.mean() / max(greys.mean(), 1.0))
