"""Which slices of a volume a model of slices is trained on and measured by, and what they are made of.

The whole slice is always kept: it is never cropped of content. Volumes of one data set may differ in size; where they
are brought together, slices are padded around the middle, or cut into tiles that overlap where a size was asked for
that is smaller than they are (`tiles`). Spacing stays that of the file unless another one is asked for.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from brainvq.data.planes import Plane, as_slices, spacing_of
from brainvq.data.scan import LARGEST, LARGEST_VOLUME, Scan
from brainvq.data.windows import LEVELS_16, fraction, volume_window
from brainvq.errors import InputError
from brainvq.head import head_in_volume

RESAMPLED = np.dtype(np.float32).itemsize
LEAST_HEAD = 0.1  # of the largest head of any slice of the volume
RANGE = re.compile(r"(?:(?P<all>all|head)|(?P<start>\d*):(?P<stop>\d*))(?::(?P<step>[1-9]\d*))?")


@dataclass(frozen=True)
class Slicing:
    """`plane`; `slices`: "head" (from the first to the last that shows at least a tenth of the largest head), "all", or
    "20:140" counted from 0 upwards, each also with a step, as "head:2" or "20:140:2"; `spacing`: millimetres to
    resample to, to the right, to the front and to the top, or None; `size`: (H, W) of an image, or None for that of the
    largest slice.

    Raises:
        InputError: `slices` is none of these, or a number is not positive, or too large.
    """

    plane: Plane = "axial"
    slices: str = "head"
    spacing: tuple[float, float, float] | None = None
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if not RANGE.fullmatch(self.slices):
            raise InputError(
                f"data.slices is {self.slices!r}; expected all, head or START:STOP, each also with :STEP, such as "
                "20:140:2."
            )
        if not all(math.isfinite(number) and number > 0 for number in (*(self.spacing or ()), *(self.size or ()))):
            raise InputError(f"data.spacing is {self.spacing} and data.size {self.size}; expected numbers above zero.")
        if self.size and math.prod(self.size) > LARGEST:
            raise InputError(f"data.size is {self.size}; at most {LARGEST:,} pixels are expected. Make it smaller.")

    def indices(self, head: NDArray[np.bool_]) -> range:
        """Of the slices to take of a volume whose head mask, as slices, is (slices, H, W)."""
        found = RANGE.fullmatch(self.slices)
        assert found is not None
        start, stop = 0, len(head)
        if found["all"] == "head" and head.any():
            areas = head.sum(axis=(1, 2))
            shown = np.flatnonzero(areas >= LEAST_HEAD * areas.max())
            start, stop = int(shown[0]), int(shown[-1]) + 1
        elif found["all"] is None:
            start, stop = int(found["start"] or 0), min(int(found["stop"] or stop), stop)
        return range(start, stop, int(found["step"] or 1))


AS_IT_IS = Slicing()


@dataclass(frozen=True, eq=False)
class Cut:
    """Slices of one volume: `levels` (n, H, W), uint8 where the file is 8 bit, else uint16 positions in the volume's
    window; `indices`: which slices of the volume they are."""

    levels: NDArray[Any]
    indices: range


def cut(scan: Scan, slicing: Slicing) -> Cut:
    """Raises InputError where no slice is left."""
    assert scan.affine is not None
    voxels, affine = scan.voxels, scan.affine
    if slicing.spacing is not None:
        voxels, affine = resample(voxels, affine, slicing.spacing)
    spacing = spacing_of(affine)
    indices = slicing.indices(as_slices(head_in_volume(voxels, spacing), affine, slicing.plane))
    if not indices:
        count = as_slices(voxels, affine, slicing.plane).shape[0]
        raise InputError(f"{scan.name}: data.slices={slicing.slices} leaves none of {count} slices. Widen the range.")
    taken = as_slices(voxels, affine, slicing.plane)[indices.start : indices.stop : indices.step]
    if voxels.dtype != np.uint8:
        window, reach = volume_window(voxels, spacing)
        taken = np.stack([np.rint(fraction(one, window, reach) * LEVELS_16).astype(np.uint16) for one in taken])
    return Cut(np.ascontiguousarray(taken), indices)


def resample(
    voxels: NDArray[Any], affine: NDArray[np.float64], spacing: tuple[float, float, float]
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """To `spacing` (right, front, top) along the file's own axes, linearly; smoothed before where voxels get fewer.

    The dtype is kept, and the outer faces of the volume stay where they are, within a voxel.
    """
    zoom = np.array(resampled_shape(voxels.shape, affine, spacing)) / np.array(voxels.shape)
    sigma = np.maximum(0, (1 / zoom - 1) / 2)
    smooth = ndimage.gaussian_filter(voxels.astype(np.float32), sigma) if sigma.any() else voxels.astype(np.float32)
    found = ndimage.zoom(smooth, zoom, order=1, mode="nearest", grid_mode=True)
    new = affine.copy()
    new[:3, :3] = affine[:3, :3] / zoom
    new[:3, 3] = affine[:3, :3] @ ((1 / zoom - 1) / 2) + affine[:3, 3]
    if voxels.dtype.kind != "f":
        limits = np.iinfo(voxels.dtype)
        found = np.clip(np.rint(found), limits.min, limits.max)
    return found.astype(voxels.dtype), new


def resampled_shape(
    shape: tuple[int, ...], affine: NDArray[np.float64], spacing: tuple[float, float, float]
) -> tuple[int, int, int]:
    """Of a volume (X, Y, Z) of the file that `resample` brings to `spacing`. Raises InputError if that is too large."""
    along = np.argmax(np.abs(affine[:3, :3] / np.array(spacing_of(affine))), axis=0)  # which way each axis runs
    sides = np.maximum(1, np.rint(np.array(shape) * spacing_of(affine) / np.array(spacing)[along]))
    if math.prod(sides.tolist()) * RESAMPLED > LARGEST_VOLUME:
        told = " x ".join(f"{side:,.10g}" for side in sides)
        raise InputError(
            f"data.spacing={list(spacing)} makes {told} voxels of a volume, more than {LARGEST_VOLUME:,} bytes. "
            "Make the spacing larger."
        )
    x, y, z = sides.astype(int)
    return int(x), int(y), int(z)


def tiles(length: int, size: int) -> list[int]:
    """Where tiles of `size` start along a side of `length`: evenly, from edge to edge, as few as cover it. One that
    starts below 0 is the whole side, padded around the middle."""
    if length <= size:
        return [-((size - length) // 2)]
    count = -(-length // size)
    return [round(n * (length - size) / (count - 1)) for n in range(count)]


def tile(image: NDArray[Any], top: int, left: int, size: tuple[int, int]) -> NDArray[Any]:
    """(H, W) -> `size`, black where there is nothing."""
    found = np.zeros(size, image.dtype)
    rows, columns = (slice(max(0, at), at + n) for at, n in zip((top, left), size, strict=True))
    part = image[rows, columns]
    above, before = max(0, -top), max(0, -left)
    found[above : above + part.shape[0], before : before + part.shape[1]] = part
    return found
