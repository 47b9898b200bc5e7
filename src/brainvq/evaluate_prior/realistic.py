"""How real samples look, beside training images that went through the same tokenizer, and the floor of both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainvq.codes import Codes
from brainvq.evaluate_prior.neighbours import Pools
from brainvq.metrics.generation import Advance, of_subjects, spread_over_subjects
from brainvq.metrics.image_statistics import SMALLEST
from brainvq.metrics.realism import LEAST, ImageSet, realism
from brainvq.metrics.set_distances import LEAST_SUBJECTS
from brainvq.training.encoded import EncodedSplit

WORK = 2 * 4
"""Images that pass a family, for each sample: samples, tokenizer, floor and reference, in two families."""
PLAIN = "_without_grain"
"""Ends the name of a set as it was before grain was added."""
OF_HEADS = "tokenizer_heads"
"""Beside whole heads: slices of as many training subjects through the tokenizer, the bar for so few heads."""


def can_measure(samples: int, pools: Pools, heads: int | None = None) -> bool:
    """Whether there are enough samples, images, subjects and, of whole ones, `heads`, and images are large enough."""
    images = min(samples, len(pools.train), len(pools.held_out))
    subjects = min(len(set(pools.train_subjects)), len(set(pools.held_out_subjects)))
    if heads is not None:
        subjects = min(subjects, heads)
    return images >= LEAST and subjects >= LEAST_SUBJECTS and min(pools.held_out.shape) >= SMALLEST


def as_few_heads(subjects: Sequence[str], n: int, heads: int, seed: int) -> NDArray[np.int64]:
    """Indices of `n` images of so many subjects, as many of each as can be; of more where these have fewer images."""
    while len(found := of_subjects(subjects, heads, seed=seed)) < n:
        heads += 1
    return found[spread_over_subjects([subjects[i] for i in found], n, seed=seed)]


def realism_of(
    images: NDArray[np.uint8],
    heads: Sequence[str] | None,
    codes: Codes,
    decode: Callable[[Codes, bool], NDArray[np.uint8]],
    grain: bool,
    train: EncodedSplit,
    pools: Pools,
    seed: int,
    advance: Advance,
) -> dict[str, Any]:
    """`images`: the samples, of these `codes`; `heads`: whose slice each is, where whole heads were drawn. `decode`:
    codes to images of the same size, with grain or without. `grain`: whether there is any, and so two of each set."""
    picks = spread_over_subjects(train.subjects, min(len(images), len(train.subjects)), seed=seed)
    real, own = train.batch(picks), [train.subjects[i] for i in picks]
    sets = {"samples": ImageSet(images, heads), "tokenizer": ImageSet(decode(real, True), own)}
    if heads is not None:
        few = as_few_heads(train.subjects, len(picks), len(set(heads)), seed)
        sets[OF_HEADS] = ImageSet(decode(train.batch(few), True), [train.subjects[i] for i in few])
    if grain:
        sets |= {
            "samples" + PLAIN: ImageSet(decode(codes, False), heads),
            "tokenizer" + PLAIN: ImageSet(decode(real, False), own),
        }
    found = realism(
        sets,
        held_out=ImageSet(pools.held_out, pools.held_out_subjects),
        train=ImageSet(pools.train, pools.train_subjects),
        seed=seed,
        advance=advance,
    )
    return found.to_json()
