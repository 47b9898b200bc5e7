"""Pixels of a report: errors and codes as colours, and pictures as data URIs."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.image import imsave
from numpy.typing import NDArray

ERROR_RANGE = 48  # grey levels of full colour; the same in every report, so that reports compare
TOO_DARK, TOO_BRIGHT = (64, 150, 255), (255, 146, 32)
CODES = "viridis"
MEAN_SHARE = 0.6  # of the brightness of the mean image below a use map
MEAN_STEP, USE_STEPS = 16, 5  # few colours make a small file
COLUMNS = 16  # of a mosaic


def error_colours(
    original: NDArray[np.uint8], reconstruction: NDArray[np.uint8], full: float = ERROR_RANGE
) -> NDArray[np.uint8]:
    """8-bit images (..., H, W) -> (..., H, W, 3): black where they agree, blue where the copy is too dark, orange too
    bright; `full`: grey levels of full colour."""
    error = (reconstruction.astype(float) - original) / full
    strength = np.clip(np.abs(error), 0, 1)[..., None]
    hue = np.where(error[..., None] < 0, TOO_DARK, TOO_BRIGHT)
    return np.asarray(np.rint(strength * hue), dtype=np.uint8)


def code_colours(codes: Sequence[Sequence[int]], grey: Sequence[float | None]) -> NDArray[np.uint8]:
    """A grid of codes -> (rows, columns, 3). An index is a label: entries are coloured by rank of grey level."""
    levels = np.array([np.inf if level is None else level for level in grey])
    rank = np.empty(len(levels))
    rank[np.argsort(levels, kind="stable")] = np.arange(len(levels))
    used = max(1, int(np.isfinite(levels).sum()) - 1)
    index = np.clip(np.array(codes), 0, len(levels) - 1)
    colours = matplotlib.colormaps[CODES](np.clip(rank[index] / used, 0, 1))[..., :3]
    return np.asarray(np.rint(colours * 255), dtype=np.uint8)


def use_colours(maps: NDArray[np.uint8], mean: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Maps (N, y, x), 255 where an entry stands most often -> (N, y, x, 3): orange over the mean image, darkened."""
    use = np.rint(maps / 255 * USE_STEPS)[..., None] / USE_STEPS
    below = MEAN_SHARE * (mean // MEAN_STEP * MEAN_STEP)[..., None]
    return np.asarray(np.rint(use * TOO_BRIGHT + (1 - use) * below), dtype=np.uint8)


def mosaic(tiles: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Tiles (N, h, w) or (N, h, w, 3) as one picture of `COLUMNS` columns, row by row."""
    missing = -len(tiles) % COLUMNS
    tiles = np.concatenate([tiles, np.zeros((missing, *tiles.shape[1:]), np.uint8)])
    rows = [np.concatenate(list(row), axis=1) for row in tiles.reshape(-1, COLUMNS, *tiles.shape[1:])]
    return np.concatenate(rows)


def gradient(colours: Sequence[Sequence[float]]) -> str:
    """A CSS background that runs through `colours` (0..255)."""
    stops = ", ".join(f"rgb({', '.join(str(round(c)) for c in colour[:3])})" for colour in colours)
    return f"background: linear-gradient(to right, {stops})"


def error_scale() -> str:
    return gradient((TOO_DARK, (0, 0, 0), TOO_BRIGHT))


def code_scale() -> str:
    return gradient((255 * matplotlib.colormaps[CODES](np.linspace(0, 1, 9))).tolist())


def data_uri(pixels: NDArray[np.uint8]) -> str:
    """An 8-bit image (H, W) or (H, W, 3) as a PNG in a data URI."""
    file = io.BytesIO()
    imsave(file, pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2), format="png")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
