"""A part of a given image that samples keep, so that a prior fills in the rest."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from brainvq.codes import Codes
from brainvq.data.scan import read
from brainvq.errors import InputError
from brainvq.pipeline import Generator

GREY = 0.05
"""Share of a mask that may lie between black and white: edges that were smoothed, but no labels."""


@dataclass(frozen=True, eq=False)
class Kept:
    """`codes`: of the image, each level (1, *grid); `which`: of them, flat (N,) bool, lie whole in what is kept.

    `pixels` (H, W) uint8 of the image, `mask` (H, W) bool where they are kept. `digest`: of both.
    """

    codes: Codes
    which: Tensor
    pixels: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    digest: str

    def onto(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A sample (H, W) with the pixels that are kept."""
        return np.where(self.mask, self.pixels, image)


def kept(generator: Generator, mask: Path, image: Path) -> Kept:
    """What of `image` lies where the picture `mask` is white: brighter than half of its brightest pixel.

    Raises:
        InputError: a prior that cannot fill in, a file that is no 8-bit picture of the prior's size, or a mask that
            keeps or leaves nothing, or is grey.
    """
    if not generator.prior.can_fill:
        kind = generator.config["experiment"]["prior"]["kind"]
        raise InputError(f"{kind} cannot fill in a part of an image. --keep needs a prior of the kind priors.maskgit.")
    size = tuple(generator.size)
    pixels, where = read(image), read(mask)
    for scan, path in ((pixels, image), (where, mask)):
        if scan.voxels.shape != size:
            raise InputError(
                f"{path}: has shape {scan.voxels.shape}; this prior makes images of {size}. Crop or pad it to that."
            )
    if pixels.voxels.dtype != np.uint8:
        raise InputError(f"{image}: is {pixels.voxels.dtype}; samples are 8 bit. Save it as an 8-bit picture.")
    bright = where.voxels.astype(np.float64) / max(float(where.voxels.max()), 1e-300)
    grey = float(np.mean((bright > 0.25) & (bright < 0.75)))
    if grey > GREY:
        raise InputError(f"{mask}: {grey:.0%} of it are neither black nor white. Give a mask of black and white.")
    chosen = bright > 0.5
    if chosen.all() or not chosen.any():
        what = "everything" if chosen.all() else "nothing"
        raise InputError(f"{mask}: keeps {what}. White is kept and black is filled in: give a mask of both.")
    digest = hashlib.sha256(pixels.voxels.tobytes() + chosen.tobytes()).hexdigest()
    codes = generator.pipeline.encode(pixels).codes
    return Kept(codes, _whole_cells(chosen, generator), pixels.voxels, chosen, digest)


def _whole_cells(chosen: NDArray[np.bool_], generator: Generator) -> Tensor:
    """Which codes have all their pixels in `chosen`; padding counts as kept, (N,) bool."""
    prior = generator.prior
    padded = torch.ones(1, 1, *prior.size)
    padded[0, 0, : chosen.shape[0], : chosen.shape[1]] = torch.from_numpy(chosen)
    cells = [-F.max_pool2d(-padded, stride, stride) for stride in prior.spec.strides]
    return torch.cat([cell.flatten() for cell in cells]) > 0
