"""Whole heads that a prior makes slice after slice, beside as many real ones that went through the same tokenizer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainvq.data.columns import SLICE
from brainvq.evaluate_prior.bits import Advance, ranges
from brainvq.metrics.continuity import continuity
from brainvq.metrics.generation import of_subjects
from brainvq.pipeline import Generator
from brainvq.training.encoded import EncodedSplit

HEADS = 8
FEWEST = 3
"""Slices of a head that can be seen to change."""


def makes_heads(generator: Generator) -> bool:
    """Whether the prior knows slices and those before them."""
    knows_slices = any(one.name == SLICE for one in generator.prior.conditions)
    return generator.prior.takes_previous and knows_slices and len(generator.slices) >= FEWEST


def heads_of(generator: Generator, held_out: EncodedSplit, seed: int, advance: Advance) -> dict[str, Any]:
    """Measures of `HEADS` heads that are made, and of as many held-out ones with at least `FEWEST` slices."""
    made, slices = [], len(generator.slices)
    codes = generator.heads(range(HEADS), seed=seed)
    for number in range(HEADS):
        mine = slice(number * slices, (number + 1) * slices)
        made.append(generator.images(tuple(level[mine] for level in codes)))
        advance(slices)
    counts = Counter(held_out.subjects)
    long = np.array([i for i, subject in enumerate(held_out.subjects) if counts[subject] >= FEWEST], np.int64)
    real = long[of_subjects([held_out.subjects[i] for i in long], HEADS, seed=seed)]
    beside = None if not len(real) else generator.images(held_out.batch(real))
    return {
        "n": HEADS,
        "slices": slices,
        "samples": _told(np.concatenate(made), [str(n // slices) for n in range(HEADS * slices)]),
        "real": None if beside is None else _told(beside, [held_out.subjects[i] for i in real]),
    }


def _told(images: NDArray[np.uint8], subjects: Sequence[str]) -> dict[str, Any]:
    found = continuity(images, subjects)
    names = list(dict.fromkeys(subjects))
    return ranges({"neighbour_ssim": found.ssim, "flicker": found.flicker}, names)
