"""Codes as grey pictures, and the grid of generated images above their codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHOWN, COLUMNS, GAP = 32, 8, 4  # images in the grid, in a row of it, and pixels between


def greys_of(order: NDArray[np.int64], entries: int) -> NDArray[Any]:
    """Grey level of each entry by its rank in `order`, evenly from black to white; entries without a rank are black.

    16 bit where 8 bit would merge ranks.
    """
    dtype, most = (np.uint8, 255) if len(order) <= 256 else (np.uint16, 65535)
    greys = np.zeros(entries, dtype)
    greys[order] = np.rint(np.linspace(0, most, len(order)))
    return greys


def grid_picture(images: Sequence[NDArray[np.uint8]], codes: NDArray[Any], greys: NDArray[Any]) -> NDArray[np.uint8]:
    """Rows of images (H, W), each above a row of their codes (N, *grid) as large as they are."""
    visible = np.rint(greys * (255 / np.iinfo(greys.dtype).max)).astype(np.uint8)
    below = [_enlarged(visible[code], image) for image, code in zip(images, codes[: len(images)], strict=True)]
    (height, width), columns = images[0].shape, min(COLUMNS, len(images))
    pairs = -(-len(images) // columns)
    picture = np.zeros((pairs * 2 * (height + GAP) - GAP, columns * (width + GAP) - GAP), np.uint8)
    for i, pair in enumerate(zip(images, below, strict=True)):
        for part, image in enumerate(pair):
            top, left = (2 * (i // columns) + part) * (height + GAP), i % columns * (width + GAP)
            picture[top : top + height, left : left + width] = image
    return picture


def _enlarged(small: NDArray[np.uint8], image: NDArray[Any]) -> NDArray[np.uint8]:
    """Each pixel as a block, so that it is as large as `image`."""
    for axis, side in enumerate(image.shape):
        small = small.repeat(-(-side // small.shape[axis]), axis)
    return small[: image.shape[0], : image.shape[1]]
