"""Copies made on purpose, to see which of them an audit finds: a sensitivity that is not measured is a wish.

Each kind changes images as a generator that remembers them might: `COPIES` count towards the sensitivity, and each is
still the same picture to the eye. `HARDER` are told beside them and do not count: they show where the audit ends.
Lengths are for images of 256 pixels and grow with the image.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

SHIFT, WARP, SMOOTH, NOISE = 4, 3.0, 16.0, 10.0
"""At most so many pixels; root mean square of a displacement; sigma that smooths it; grey levels."""

Image = NDArray[np.uint8]
Change = Callable[[Image, np.random.Generator], Image]


def shifted(image: Image, generator: np.random.Generator) -> Image:
    down, right = np.rint(generator.uniform(-SHIFT, SHIFT, 2) * _scale(image)).astype(int)
    return np.roll(image, (down, right), (0, 1))


def mirrored(image: Image, generator: np.random.Generator) -> Image:
    return np.flip(image, int(generator.integers(2)))


def brightened(image: Image, generator: np.random.Generator) -> Image:
    gain, power, offset = generator.uniform(0.7, 1.3), generator.uniform(0.8, 1.25), generator.uniform(-10, 20)
    return _rounded(255 * gain * (image / 255) ** power + offset)


def noised(image: Image, generator: np.random.Generator) -> Image:
    return _rounded(image + generator.normal(0, NOISE, image.shape))


def warped(image: Image, generator: np.random.Generator, strength: float = WARP) -> Image:
    fields = [ndimage.gaussian_filter(generator.normal(size=image.shape), SMOOTH * _scale(image)) for _ in range(2)]
    moves = [field / field.std() * strength * _scale(image) / np.sqrt(2) for field in fields]
    places = [axis + move for axis, move in zip(np.indices(image.shape), moves, strict=True)]
    return _rounded(ndimage.map_coordinates(image.astype(np.float64), places, order=1, mode="nearest"))


def all_of_these(image: Image, generator: np.random.Generator) -> Image:
    for change in (warped, shifted, mirrored, brightened, noised):
        image = change(image, generator)
    return image


COPIES: dict[str, Change] = {
    "as they are": lambda image, generator: image,
    "shifted": shifted,
    "mirrored": mirrored,
    "brightened": brightened,
    "noised": noised,
    "warped": warped,
    "all of these": all_of_these,
}
HARDER: dict[str, Change] = {
    "warped twice as much": lambda image, generator: warped(image, generator, 2 * WARP),
    "warped four times as much": lambda image, generator: warped(image, generator, 4 * WARP),
}
HALF = "half of it, half of another subject"


def planted(images: Image, *, seed: int = 0) -> dict[str, Image]:
    """Each kind of copy of images (n, H, W), which must be of different subjects: kind -> (n, H, W)."""
    generator = np.random.default_rng(seed)
    made = {
        kind: np.stack([change(image, generator) for image in images]) for kind, change in (COPIES | HARDER).items()
    }
    halves = images.copy()
    halves[..., images.shape[2] // 2 :] = np.roll(images, 1, axis=0)[..., images.shape[2] // 2 :]
    return {**made, HALF: halves}


def _scale(image: Image) -> float:
    return float(max(image.shape)) / 256


def _rounded(values: NDArray[np.float64]) -> Image:
    return np.rint(values).clip(0, 255).astype(np.uint8)
