"""Whole heads that a prior makes slice after slice, beside as many real ones that went through the same tokenizer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainvq.codes import Codes
from brainvq.data.columns import SLICE
from brainvq.evaluate_prior.bits import ranges
from brainvq.metrics.continuity import continuity
from brainvq.metrics.generation import of_subjects
from brainvq.pipeline import Generator
from brainvq.training.encoded import EncodedSplit

HEADS = 8
"""At least so many are made."""
FEWEST = 3
"""Slices of a head that can be seen to change."""


def makes_heads(generator: Generator) -> bool:
    """Whether the prior knows slices and those before them."""
    knows_slices = any(one.name == SLICE for one in generator.prior.conditions)
    return generator.prior.takes_previous and knows_slices and len(generator.slices) >= FEWEST


def heads_of(
    made: NDArray[np.uint8], slices: int, held_out: EncodedSplit, shown: Callable[[Codes], NDArray[np.uint8]], seed: int
) -> dict[str, Any]:
    """Measures of heads that were made, so many `slices` of each in turn (heads * slices, H, W); and of as many
    held-out ones, or all that have at least `FEWEST` slices. `shown`: what codes decode to, (n, H, W)."""
    count = len(made) // slices
    counts = Counter(held_out.subjects)
    long = np.array([i for i, subject in enumerate(held_out.subjects) if counts[subject] >= FEWEST], np.int64)
    real = long[of_subjects([held_out.subjects[i] for i in long], count, seed=seed)]
    beside = None if not len(real) else shown(held_out.batch(real))
    return {
        "n": count,
        "real_n": len({held_out.subjects[i] for i in real}),
        "slices": slices,
        "samples": _told(made, [str(n // slices) for n in range(len(made))]),
        "real": None if beside is None else _told(beside, [held_out.subjects[i] for i in real]),
    }


def _told(images: NDArray[np.uint8], subjects: Sequence[str]) -> dict[str, Any]:
    found = continuity(images, subjects)
    names = list(dict.fromkeys(subjects))
    return ranges({"neighbour_ssim": found.ssim, "flicker": found.flicker}, names)
