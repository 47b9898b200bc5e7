"""What a reconstruction is trained on: squared and absolute error, and structural dissimilarity.

Source: Z. Wang, A. C. Bovik, H. R. Sheikh, E. P. Simoncelli, "Image quality assessment: from error visibility to
structural similarity", 2004; as a loss: H. Zhao et al., "Loss functions for image restoration with neural networks",
2017. We differ from the measure (metrics/distortion.py): no rounding, which has no gradient; float32; and windows at
every second pixel, a quarter of them, because neighbouring windows say nearly the same.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from brainvq.errors import InputError
from brainvq.metrics.distortion import K1, K2, WINDOW, window_matrix

STEP = 2  # pixels from window to window


def forgiven(x: Tensor, x_hat: Tensor) -> Tensor:
    """x_hat (B, 1, H, W), and where the original x is black (-1) or white (1) not beyond it.

    What is darker than black is black in the picture, so that the background needs no exact hit, and the gradient
    pushes nothing that lies beyond back towards the visible.
    """
    held = torch.where(x <= -1, x_hat.clamp_min(-1), x_hat)
    return torch.where(x >= 1, held.clamp_max(1), held)


def dissimilarity(x: Tensor, x_hat: Tensor) -> Tensor:
    """1 - SSIM of (B, 1, H, W) in [-1, 1], scalar; x_hat is clipped to the range as a saved image would be."""
    with torch.autocast(x.device.type, enabled=False):
        images = [(image.float().clamp(-1, 1)[:, 0] + 1) / 2 for image in (x, x_hat)]
        rows, columns = (_windows(length, x.device) for length in x.shape[2:])
        one, other = images
        mean, mean_hat, power, product = (
            rows @ value @ columns.T for value in (one, other, one * one + other * other, one * other)
        )
        means, squares = mean * mean_hat, mean * mean + mean_hat * mean_hat
        structure = (2 * (product - means) + K2**2) / (power - squares + K2**2)
        return 1 - ((2 * means + K1**2) / (squares + K1**2) * structure).mean()


@lru_cache(maxsize=32)
def _windows(length: int, device: torch.device) -> Tensor:
    if length < WINDOW:
        raise InputError(
            f"an edge of {length} pixels is shorter than SSIM's window of {WINDOW}. Set a larger task.crop, or "
            "task.structural=0."
        )
    # made on the CPU, for not every device has float64
    return window_matrix(length, torch.device("cpu")).float()[::STEP].contiguous().to(device)
