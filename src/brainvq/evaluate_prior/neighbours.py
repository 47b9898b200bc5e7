"""The real images that samples and other real images are held against, and which of them come nearest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainvq.data.loader import Cache
from brainvq.metrics import generation
from brainvq.metrics.distortion import to_uint8
from brainvq.metrics.generation import Neighbours


class EightBit:
    """The images of a cache as an array (N, H, W) uint8 that is never whole in memory."""

    def __init__(self, cache: Cache) -> None:
        self.cache = cache

    def __len__(self) -> int:
        return len(self.cache)

    @property
    def shape(self) -> tuple[int, ...]:
        """(H, W)."""
        return tuple(self.cache.images.shape[1:])

    def __getitem__(self, indices: NDArray[np.int64], /) -> NDArray[np.uint8]:
        if self.cache.images.dtype == np.uint8:
            return np.asarray(self.cache.images[indices])
        height, width = self.cache.images.shape[1:]
        return to_uint8(self.cache.batch(indices))[:, 0, :height, :width].cpu().numpy().astype(np.uint8)


@dataclass(frozen=True, eq=False)
class Pools:
    """Train and held-out images, with a subject for each."""

    train: EightBit
    held_out: EightBit
    train_subjects: Sequence[str]
    held_out_subjects: Sequence[str]

    def nearest(
        self, images: NDArray[np.uint8], own: Sequence[str], *, seed: int, advance: Callable[[int], None]
    ) -> dict[str, Neighbours]:
        """Neighbours of samples and, after these, of real images of the subjects `own`, which never meet their own.

        Without a second held-out subject there is nothing to compare a real image with: then samples stand alone.
        """
        subjects, samples = len(set(self.held_out_subjects)), len(images) - len(own)
        as_many = generation.of_subjects(self.train_subjects, subjects, seed=seed)
        others = images if subjects > 1 else images[:samples]
        own = [*[""] * samples, *own][: len(others)]  # a sample is of nobody
        return {
            "nearest_train": generation.nearest(images, self.train, advance=advance),
            "nearest_train_as_many": generation.nearest(images, self.train, among=as_many, advance=advance),
            "nearest_validate": generation.nearest(
                others, self.held_out, own=own, subjects=self.held_out_subjects, advance=advance
            ),
        }


def told(found: Neighbours, i: int, subjects: Sequence[str], *, anonymous: bool) -> dict[str, Any]:
    """Without its place among the images where nobody is to be told whose it is: they lie in the order of names."""
    place = {} if anonymous else {"index": int(found.index[i])}
    return {
        **place,
        "subject": subjects[int(found.index[i])],
        "correlation": float(found.correlation[i]),
        "ssim": float(found.ssim[i]),
    }
