"""The head in a slice and in a volume: one definition, so that "foreground" means one thing in data and metrics.

Smooth with a Gaussian of sigma 2 pixels, keep what is above half of Otsu's threshold of the raw image, then the largest
connected component with its holes filled: skull and ventricles are inside, faint background noise is out (about 40 % of
an OASIS slice). Threshold: N. Otsu, "A threshold selection method from gray-level histograms", 1979.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

COARSE = 2.0  # millimetres at which the head in a volume is found
MOST = 1 << 22  # voxels that it is found on, 33 litres of 2 mm: what follows takes fifty bytes for each


def head_mask(images: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """8-bit images (B, H, W) -> bool (B, H, W). An image of one grey level has no head: its mask is empty."""
    if images.dtype != np.uint8 or images.ndim != 3:
        raise ValueError(f"images are {images.dtype} {images.shape}; the head mask is found in uint8 (B, H, W)")
    return np.stack([_mask(image) for image in images]) if len(images) else np.zeros(images.shape, bool)


def otsu(image: NDArray[np.uint8]) -> float:
    """The grey level that best parts an 8-bit image: pixels above it are the bright class (Otsu 1979, eq. 12). Where
    several part it alike (no pixel lies between the classes), the middle of them; most programs take the lowest."""
    counts = np.bincount(image.ravel(), minlength=256).astype(np.float64)
    levels = np.arange(256)
    below, sum_below = np.cumsum(counts), np.cumsum(counts * levels)
    above, sum_above = below[-1] - below, sum_below[-1] - sum_below
    between = np.zeros(256)
    two = (below > 0) & (above > 0)
    between[two] = (below * above)[two] * (sum_below[two] / below[two] - sum_above[two] / above[two]) ** 2
    return float(np.flatnonzero(between == between.max())[[0, -1]].mean())


def _mask(image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    if image.min() == image.max():
        return np.zeros(image.shape, bool)
    bright = ndimage.gaussian_filter(image.astype(np.float32), 2) > otsu(image) / 2
    return _fill_holes(_largest(bright))


def head_in_volume(voxels: NDArray[Any], spacing: tuple[float, float, float]) -> NDArray[np.bool_]:
    """(X, Y, Z) of any real type, millimetres between voxels -> bool (X, Y, Z), empty where all values are equal.

    The same rule in three axes: a Gaussian of 4 mm (2 pixels of 2 mm), Otsu's threshold of the values from 0 (or the
    least) to their 99.9 percentile as 8 bit, one component, holes filled. Found at about 2 mm, which is ample for it.
    """
    steps = _steps(voxels.shape, spacing)
    return _fine(_coarse_head(voxels, spacing, steps), steps, voxels.shape)


def head_and_core(
    voxels: NDArray[Any], spacing: tuple[float, float, float], depth: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The head, and of it what lies deeper than `depth` mm below its surface, or the picture's; to about 2 mm."""
    steps = _steps(voxels.shape, spacing)
    head = _coarse_head(voxels, spacing, steps)
    lengths = [mm * step for mm, step in zip(spacing, steps, strict=True)]
    core = ndimage.distance_transform_edt(np.pad(head, 1), sampling=lengths)[1:-1, 1:-1, 1:-1] > depth
    return _fine(head, steps, voxels.shape), _fine(core, steps, voxels.shape)


def _steps(shape: tuple[int, ...], spacing: tuple[float, float, float]) -> list[int]:
    """Voxels to go by along each axis: some 2 mm, more where that were too many."""
    steps = [max(1, round(COARSE / mm)) for mm in spacing]
    while math.prod(-(-n // step) for n, step in zip(shape, steps, strict=True)) > MOST:
        steps = [step + 1 for step in steps]
    return steps


def _coarse_head(voxels: NDArray[Any], spacing: tuple[float, float, float], steps: list[int]) -> NDArray[np.bool_]:
    coarse = voxels[tuple(slice(None, None, step) for step in steps)].astype(np.float32)
    if coarse.min() == coarse.max():
        return np.zeros(coarse.shape, bool)
    low = min(0.0, float(coarse.min()))
    above = coarse[coarse > low]
    levels = np.clip((coarse - low) / (np.percentile(above, 99.9) - low) * 255, 0, 255)
    sigma = [2 * COARSE / (mm * step) for mm, step in zip(spacing, steps, strict=True)]
    bright = ndimage.gaussian_filter(levels, sigma) > otsu(np.rint(levels).astype(np.uint8)) / 2
    return _fill_holes(_largest(bright))


def _fine(mask: NDArray[np.bool_], steps: list[int], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    for axis, (step, n) in enumerate(zip(steps, shape, strict=True)):
        mask = np.repeat(mask, min(step, n), axis=axis)
    return mask[tuple(slice(n) for n in shape)]


def _largest(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Its largest connected component; an empty mask has none."""
    labels, found = ndimage.label(mask)
    if found == 0:
        return np.zeros(mask.shape, bool)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(labels == sizes.argmax())


def _fill_holes(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """All but the outside that reaches the border; labelling is some ten times faster than binary_fill_holes."""
    labels, _ = ndimage.label(~np.pad(mask, 1))
    inside = (slice(1, -1),) * mask.ndim
    return np.asarray(labels != labels[(0,) * mask.ndim])[inside]
