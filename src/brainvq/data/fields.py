"""Where the voxels of a slab are, and random smooth functions of millimetres over them.

A field is a uniform cubic B-spline with random coefficients: its scale is the spacing of its nodes. Source: Rueckert
et al., "Nonrigid registration using free-form deformations", IEEE Transactions on Medical Imaging 18, 1999.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

Field = NDArray[np.float32]

FRAME = 256.0  # millimetres of a slice: 1 mm pixels at 256 x 256, as OASIS has them
FIELD_OF_VIEW = (176.0, 208.0)  # millimetres of rows (left-right) and columns (back-front) that were scanned
BOX = (92.0, 108.0, 34.0)  # fields live on |x|, |y|, |z| up to these millimetres


def single(values: ArrayLike) -> Field:
    """float32, the precision of every field."""
    return np.asarray(values, dtype=np.float32)


class Space:
    """Voxel coordinates of the field of view of a slab, in millimetres from its centre, 1 mm between slices.

    `size` pixels cover the frame; each is divided into `factor` x `factor` voxels.
    x (1, R, 1) runs along rows, left to right; y (1, 1, C) along columns, back to front; z (K, 1, 1) upwards.
    """

    def __init__(self, slices: int, size: int, factor: int = 1) -> None:
        self.shape = (slices, *(2 * factor * round(extent / FRAME * size / 2) for extent in FIELD_OF_VIEW))
        pixel = np.float32(FRAME / (size * factor))
        z, x, y = (np.arange(n, dtype=np.float32) - np.float32((n - 1) / 2) for n in self.shape)
        self.z, self.x, self.y = z[:, None, None], x[None, :, None] * pixel, y[None, None, :] * pixel

    @property
    def axes(self) -> tuple[Field, Field, Field]:
        return self.x, self.y, self.z


def _random_nodes(rng: np.random.Generator, spacing: float) -> Field:
    """Coefficients (X, Y, Z) whose first node lies one spacing outside the box."""
    return rng.standard_normal([int(2 * half / spacing) + 4 for half in BOX], dtype=np.float32)


def _along(nodes: Field, positions: Field, axis: int) -> Field:
    """The cubic B-spline of one axis, at positions in node units."""
    first = np.floor(positions).astype(np.int64)
    t = positions - first
    weights = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    along = [-1 if a == axis else 1 for a in range(3)]
    value = np.take(nodes, first, axis) * single(weights[0] / 6).reshape(along)
    for i in (1, 2, 3):
        value += np.take(nodes, first + i, axis) * single(weights[i] / 6).reshape(along)
    return single(value)


def smooth_field(rng: np.random.Generator, space: Space, spacing: float) -> Field:
    """(K, R, C), mean 0, standard deviation about 1, features about `spacing` millimetres wide."""
    nodes = _random_nodes(rng, spacing)
    for axis, (line, half) in enumerate(zip(space.axes, BOX, strict=True)):
        nodes = _along(nodes, (line.ravel() + np.float32(half)) / np.float32(spacing), axis)
        if axis == 1:  # slices come first from here on, so that the largest step adds whole planes
            nodes = np.ascontiguousarray(nodes)
    return np.ascontiguousarray(np.moveaxis(nodes, 2, 0)) * np.float32(2.9)


def sampled_field(rng: np.random.Generator, spacing: float, points: list[Field]) -> Field:
    """Like `smooth_field` at arbitrary points: x, y, z in millimetres from the centre, each (K, R, C)."""
    nodes = _random_nodes(rng, spacing)
    at = np.stack([(p + np.float32(half)) / np.float32(spacing) for p, half in zip(points, BOX, strict=True)])
    return single(ndimage.map_coordinates(nodes, at, order=1, mode="mirror", output=np.float32) * np.float32(1.8))


def shrink(volume: Field, factor: int) -> Field:
    """Means over factor x factor pixels of a slice: (K, R, C) -> (K, R / factor, C / factor)."""
    k, r, c = volume.shape
    return single(volume.reshape(k, r // factor, factor, c // factor, factor).mean((2, 4), dtype=np.float32))
