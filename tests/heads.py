"""Slices enough like heads to measure on: a bright rim, a textured brain, a dark middle, faint noise around."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor


def heads(n: int = 3, size: tuple[int, int] = (96, 80), seed: int = 0) -> NDArray[np.uint8]:
    """(n, H, W) uint8."""
    generator = np.random.default_rng(seed)
    down, across = np.meshgrid(*(np.linspace(-1, 1, length) for length in size), indexing="ij")
    images = []
    for _ in range(n):
        radius = np.hypot(down / generator.uniform(0.7, 0.8), across / generator.uniform(0.6, 0.7))
        texture = ndimage.gaussian_filter(generator.normal(size=size), 1.5) * 90
        image = np.where(radius < 0.85, 120 + texture, np.where(radius < 1, 220, 0)) * (radius > 0.2)
        image = ndimage.gaussian_filter(image, 0.5) + np.abs(generator.normal(0, 2, size))
        images.append(image.round().clip(0, 255).astype(np.uint8))
    return np.stack(images)


def to_x(images: NDArray[np.uint8]) -> Tensor:
    """uint8 (B, H, W) -> x (B, 1, H, W) float32 in [-1, 1]."""
    return torch.from_numpy(images).float()[:, None] / 127.5 - 1


def blurred(images: NDArray[np.uint8], sigma: float) -> NDArray[np.uint8]:
    return ndimage.gaussian_filter(images.astype(np.float64), (0, sigma, sigma)).round().astype(np.uint8)
