"""One image file at a time: read in full, reduced to a few numbers, forgotten."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from brainvq.data.cache import to_levels
from brainvq.data.scan import read
from brainvq.data.windows import LEVELS_8, LEVELS_16
from brainvq.errors import InputError
from brainvq.head import head_mask

AHEAD = 64  # files handed to the threads at once: what an interrupt has to wait for
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Image:
    """What is kept of a file. `shape` (H, W); `low`, `high`: its grey values; `total`, `squares`: sums of its `levels`,
    0..255 or 0..65535, as a model sees it, and of their squares; `digest`: of type, shape and pixels; `brightness`:
    mean inside the head mask, 0..1, 0 where there is no head; `head`: pixels of that mask."""

    shape: tuple[int, ...]
    dtype: str
    low: float
    high: float
    levels: int
    total: int
    squares: int
    digest: bytes
    brightness: float
    head: int

    @property
    def size(self) -> str:
        """Width x height."""
        return " x ".join(str(n) for n in reversed(self.shape))


def read_all(paths: Sequence[Path], progress: Progress) -> dict[Path, Image | InputError]:
    """Each path with what was read, or with why it was not. A few images are in memory at a time."""
    found: dict[Path, Image | InputError] = {}
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(paths), AHEAD):
            block = paths[start : start + AHEAD]
            for path, image in zip(block, pool.map(_look, block), strict=True):
                found[path] = image
                progress(len(found), len(paths))
    return found


def _look(path: Path) -> Image | InputError:
    try:
        voxels = read(path).voxels
    except InputError as error:
        return error
    most = LEVELS_8 if voxels.dtype == np.uint8 else LEVELS_16
    levels = to_levels(voxels, most)
    head = head_mask((levels >> (most.bit_length() - 8)).astype(np.uint8)[None])[0]
    wide = levels.astype(np.int64)
    return Image(
        shape=voxels.shape,
        dtype=voxels.dtype.name,
        low=float(voxels.min()),
        high=float(voxels.max()),
        levels=most,
        total=int(wide.sum()),
        squares=int((wide * wide).sum()),
        digest=hashlib.sha256(f"{voxels.dtype} {voxels.shape} ".encode() + voxels.tobytes()).digest(),
        brightness=float(wide[head].mean()) / most if head.any() else 0.0,
        head=int(head.sum()),
    )


def moments(images: Sequence[Image]) -> tuple[float, float] | None:
    """Mean and variance of all pixels in [-1, 1], exact sums; None without images."""
    if not images:
        return None
    most = max(image.levels for image in images)
    count = sum(image.shape[0] * image.shape[1] for image in images)
    total = sum(image.total * (most // image.levels) for image in images)
    squares = sum(image.squares * (most // image.levels) ** 2 for image in images)
    return (2 * total - count * most) / (count * most), 4 * (count * squares - total**2) / (count * most) ** 2
