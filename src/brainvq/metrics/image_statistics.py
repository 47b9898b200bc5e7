"""Forty-five numbers of an image that no network learned: the first of two families of features for `realism.py`.

What a smear, a shuffle or a checkerboard gets wrong can be said without training: which grey levels there are, how
power falls with frequency, where edges point, how rough it is at each scale, and whether one half mirrors the other.
Feature sets of this kind are older than networks: J. Portilla, E. Simoncelli, "A parametric texture model based on
joint statistics of complex wavelet coefficients", 2000 (roughness and sparseness of bands); N. Dalal, B. Triggs,
"Histograms of oriented gradients for human detection", 2005. Where we differ: Haar bands, few bins, and three zones
around the centre of brightness (inside, about and outside its root-mean-square radius) in the place of a grid of cells,
so that a head may lie anywhere.

All but one is taken of means of 2 x 2 pixels: real slices agree so well in their finest detail, which interpolation
made, that it would drown all else; its roughness alone is told. Shares and powers enter by their square root, which is
as sure of a small one as of a large one. Frequencies are shares of Nyquist and radii of the head's own, so that values
stay in the same range at any size.
"""

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from brainvq.errors import InputError

SMALLEST = 64  # pixels a side
LEVELS = (0, 8, 32, 64, 96, 128, 160, 192, 256)
RINGS = 6
DIRECTIONS = 4
ZONES = (0.75, 1.25)  # borders, in root-mean-square radii
SCALES = (2, 4, 8)  # pixels
VISIBLE = 1.0  # squared grey levels: where there is less, a ratio says nothing
MIRRORS = {"left and right": (slice(None), slice(None, None, -1)), "top and bottom": (slice(None, None, -1),)}

NAMES = (
    *(f"levels {low} to {high - 1}" for low, high in pairwise(LEVELS)),
    *(f"power, ring {ring}" for ring in range(RINGS)),
    *(f"edges at {180 * n // DIRECTIONS} degrees" for n in range(DIRECTIONS)),
    *(f"edges {way}, zone {zone}" for zone in range(3) for way in ("across the radius", "along it")),
    *(f"{what}, zone {zone}" for what in ("brightness", "spread of brightness") for zone in range(3)),
    *(f"likeness of {sides}" for sides in MIRRORS),
    *(f"roughness at {scale} pixels, zone {zone}" for scale in SCALES for zone in range(3)),
    *(f"sparseness at {scale} pixels" for scale in SCALES),
    "roughness at 1 pixel",
)

Plane = NDArray[np.floating[Any]]
Zones = NDArray[np.int64]


def image_statistics(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """8-bit images (N, H, W) of at least 64 x 64 -> (N, 45), in the order of `NAMES`. Each image by itself.

    Raises:
        InputError: they are of another type, or smaller.
    """
    refuse_unfit(images)
    half = (images.shape[1] // 2, images.shape[2] // 2)
    window, rings = _window(half), _rings(half)
    found = np.empty((len(images), len(NAMES)))
    for n, image in enumerate(images):
        means, details = _halved(image.astype(np.float32))
        finest = np.sqrt(_squares(details).mean())
        found[n] = np.concatenate([_levels(means), _spectrum(means, window, rings), _layout(means), [finest]])
    return found


def refuse_unfit(images: NDArray[np.uint8]) -> None:
    """Raises InputError unless the images are (N, H, W) uint8, at least 64 x 64."""
    if images.dtype != np.uint8 or images.ndim != 3 or min(images.shape[1:]) < SMALLEST:
        raise InputError(
            f"images are {images.dtype} {images.shape}; realism is measured of 8-bit images (N, H, W) of at least "
            f"{SMALLEST} x {SMALLEST} pixels."
        )


def _levels(image: Plane) -> NDArray[np.float64]:
    counts = np.bincount(image.astype(np.uint8).ravel(), minlength=256)
    return np.asarray(np.sqrt(np.add.reduceat(counts, LEVELS[:-1]) / image.size))


def _window(size: tuple[int, int]) -> Plane:
    """Hann, of mean square 1, so that white noise has its variance as power at every frequency."""
    down, across = (np.hanning(n + 2)[1:-1] for n in size)
    window = np.outer(down, across)
    return np.asarray(window / np.sqrt((window**2).mean()), np.float32)


def _rings(size: tuple[int, int]) -> Zones:
    """Ring of each frequency of `rfft2`: half octaves down from Nyquist, then all that is left, and the mean by itself;
    the corners beyond Nyquist belong to the first."""
    down, across = np.fft.fftfreq(size[0]), np.fft.rfftfreq(size[1])
    radius = np.hypot(down[:, None], across[None])
    radius[0, 0] = 1.0
    rings = np.clip(np.floor(-2 * np.log2(2 * radius)), 0, RINGS - 1).astype(np.int64)
    rings[0, 0] = RINGS
    return np.asarray(rings.ravel())


def _spectrum(image: Plane, window: Plane, rings: Zones) -> NDArray[np.float64]:
    transform = fft.rfft2((image - image.mean()) * window)
    power = (transform.real**2 + transform.imag**2).ravel() / image.size
    return np.asarray(np.sqrt(_means(power, rings, RINGS + 1)[:RINGS]))


def _layout(image: Plane) -> NDArray[np.float64]:
    """What is told by zone or by side."""
    middle, radius, down, across = _polar(image)
    found = [_edges(image, radius, down, across), _brightness(image, radius), _likeness(image, middle)]
    sparse = []
    for _ in SCALES:
        image, details = _halved(image)
        radius = _halved(radius)[0]
        squares = _squares(details)
        found.append(np.sqrt(_means(squares, _zones(radius), 3)))
        size = sum(float(np.abs(detail).mean()) for detail in details)
        sparse.append(np.log((squares.mean() + VISIBLE) / (size**2 + VISIBLE)))
    return np.concatenate([*found, np.array(sparse)])


def _polar(image: Plane) -> tuple[tuple[float, float], Plane, Plane, Plane]:
    """The centre of brightness; how far each pixel is from it, in root-mean-square distances of the brightness; and the
    unit vector that points outwards there."""
    height, width = image.shape
    y, x = np.arange(height, dtype=np.float32), np.arange(width, dtype=np.float32)
    rows, columns = image.sum(1) + 1e-3, image.sum(0) + 1e-3  # a black image has its centre in the middle
    middle = float(rows @ y / rows.sum()), float(columns @ x / columns.sum())
    down, across = (y - np.float32(middle[0]))[:, None], (x - np.float32(middle[1]))[None]
    spread = rows @ (down[:, 0] ** 2) / rows.sum() + columns @ (across[0] ** 2) / columns.sum()
    radius = np.sqrt(down**2 + across**2)
    outwards = np.maximum(radius, 1e-3)
    return middle, radius / np.float32(np.sqrt(spread)), down / outwards, across / outwards


def _zones(radius: Plane) -> Zones:
    return np.asarray((radius > ZONES[0]).astype(np.int64) + (radius > ZONES[1]))


def _edges(image: Plane, radius: Plane, down: Plane, across: Plane) -> NDArray[np.float64]:
    """Shares of the gradient's square: by direction of the whole image, across and along the radius by zone."""
    dy = (image[2:] - image[:-2])[:, 1:-1]
    dx = (image[:, 2:] - image[:, :-2])[1:-1]
    strength = dy**2 + dx**2
    inner = (slice(1, -1), slice(1, -1))
    turn = np.arctan2(dy, dx) * (DIRECTIONS / np.pi) + 0.5  # bins are centred on their direction
    direction = np.floor(turn).astype(np.int64) % DIRECTIONS
    outwards = (dy * down[inner] + dx * across[inner]) ** 2
    zones = _zones(radius[inner]).ravel()
    by_zone = [np.bincount(zones, part.ravel(), 3) for part in (outwards, strength - outwards)]
    shares = [np.bincount(direction.ravel(), strength.ravel(), DIRECTIONS), np.stack(by_zone, 1).ravel()]
    total = strength.sum(dtype=np.float64) + image.size * VISIBLE
    return np.asarray(np.sqrt(np.concatenate(shares).clip(0) / total))


def _brightness(image: Plane, radius: Plane) -> NDArray[np.float64]:
    """Mean and standard deviation by zone, in grey levels."""
    zones = _zones(radius)
    mean = _means(image, zones, 3)
    return np.concatenate([mean, np.sqrt((_means(image**2, zones, 3) - mean**2).clip(0))])


def _likeness(image: Plane, middle: tuple[float, float]) -> list[float]:
    """Of the two sides around the centre of brightness: 1 for mirror images, about 0 for what has nothing in common."""
    turned = [round(2 * at) for at in middle]  # pixel i has its mirror image at this less i
    first = [max(0, at - side + 1) for at, side in zip(turned, image.shape, strict=True)]
    part = image[tuple(slice(low, at - low + 1) for low, at in zip(first, turned, strict=True))]
    part = part - part.mean()
    whole = float((part**2).sum()) + image.size * VISIBLE
    return [float((part * part[mirror]).sum()) / whole for mirror in MIRRORS.values()]


def _squares(details: tuple[Plane, ...]) -> Plane:
    return np.asarray(np.square(details).sum(0))


def _halved(image: Plane) -> tuple[Plane, tuple[Plane, ...]]:
    """Means of 2 x 2 pixels, and the three Haar details that the means leave out; an odd last row or column is cut."""
    image = image[: len(image) // 2 * 2, : image.shape[1] // 2 * 2]
    a, b, c, d = image[::2, ::2], image[::2, 1::2], image[1::2, ::2], image[1::2, 1::2]
    return (a + b + c + d) / 4, ((a + b - c - d) / 4, (a - b + c - d) / 4, (a - b - c + d) / 4)


def _means(values: Plane, index: Zones, count: int) -> NDArray[np.float64]:
    """Mean of the values of each index, 0 where there are none."""
    index = index.ravel()
    return np.asarray(np.bincount(index, values.ravel(), count) / np.maximum(np.bincount(index, minlength=count), 1))
