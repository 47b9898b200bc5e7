"""Sets of images whose realism is known beforehand: worse and worse ones, and copies of training images."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from heads import blurred

Pixels = NDArray[np.uint8]
PATCHES = 8
"""A shuffled image is cut into 8 x 8 of them."""


def shuffled(images: Pixels, seed: int = 0) -> Pixels:
    generator = np.random.default_rng(seed)
    n, side = len(images), images.shape[1] // PATCHES
    tiles = images.reshape(n, PATCHES, side, PATCHES, side).swapaxes(2, 3).reshape(n, -1, side, side)
    tiles = np.stack([own[generator.permutation(PATCHES**2)] for own in tiles])
    return tiles.reshape(n, PATCHES, PATCHES, side, side).swapaxes(2, 3).reshape(images.shape)


def noise(images: Pixels, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, images.shape, dtype=np.uint8)


def jittered(images: Pixels, seed: int = 0) -> Pixels:
    """Moved by up to two pixels, a little brighter or darker."""
    generator = np.random.default_rng(seed)
    moved = [np.roll(image, generator.integers(-2, 3, 2), axis=(0, 1)) for image in images]
    gain = generator.uniform(0.95, 1.05, (len(images), 1, 1))
    return (np.stack(moved) * gain).round().clip(0, 255).astype(np.uint8)


WORSE: dict[str, Callable[[Pixels], Pixels]] = {
    "real": lambda images: images,
    "light blur": lambda images: blurred(images, 1),
    "heavy blur": lambda images: blurred(images, 3),
    "patch shuffle": shuffled,
    "noise": noise,
}
"""From best to worst."""


def memorisers(train: Pixels, subjects: list[str], n: int, seed: int = 0) -> dict[str, Pixels]:
    """Sets of n that a prior would draw that had learned training images by heart, in several ways."""
    generator = np.random.default_rng(seed)
    picks = generator.integers(0, len(train), n)
    few = np.flatnonzero(np.isin(subjects, sorted(set(subjects))[:5]))
    return {
        "copies": train[picks],
        "copies, each once": train[generator.permutation(len(train))[:n]],
        "copies of five subjects": train[generator.choice(few, n)],
        "jittered copies": jittered(train[picks]),
        "smoothed copies": blurred(train[picks], 0.7),
        "one image": np.repeat(train[:1], n, axis=0),
    }
