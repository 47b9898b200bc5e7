"""Bits of the codes of unseen images, beside those of a histogram by position that has seen the same train codes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from brainvq.codes import Codes
from brainvq.errors import InputError
from brainvq.metrics.statistics import Interval, by_subject, intervals, paired
from brainvq.priors import histogram
from brainvq.priors.base import Prior
from brainvq.priors.conditions import Given
from brainvq.training.encoded import EncodedSplit
from brainvq.training.labelled import LabelledSplit

CODES_AT_ONCE = 1 << 15
Advance = Callable[[int], None]
Range = dict[str, float | None]
"""mean, low and high: 95 % intervals by bootstrap."""


@torch.no_grad()
def bits_of(
    prior: Prior, train: EncodedSplit, held_out: LabelledSplit, pixels: int, advance: Advance
) -> dict[str, Any]:
    """Bits of the held-out codes by the prior and by the histogram of train codes, as the result tells them.

    Those that count are of codes alone, as the histogram's are; where the prior takes conditions, `told_per_code` are
    those of codes whose conditions it was told.
    """
    baseline = histogram.Config().build(prior.spec, prior.size).to(held_out.batch([0]).codes[0].device)
    baseline.start((train.batch(part) for part in parts(len(train), prior)), train.orders)
    mine, told, theirs = (np.empty(len(held_out)) for _ in range(3))
    for part in parts(len(held_out), prior):
        batch = held_out.batch(part)
        mine[part] = _each(prior, batch.codes, None)
        told[part] = mine[part] if batch.given is None else _each(prior, batch.codes, batch.given)
        theirs[part] = _each(baseline, batch.codes, None)
        advance(len(part))
    if not (np.isfinite(mine).all() and np.isfinite(told).all()):
        raise InputError("the prior gives bits that are not finite. Has its training diverged?")
    columns = {
        "per_code": mine / prior.length,
        "told_per_code": told / prior.length,
        "per_pixel": mine / pixels,
        "histogram_per_code": theirs / prior.length,
    }
    subjects = held_out.encoded.subjects
    names, sums, counts = by_subject(columns["per_code"], subjects)
    return {
        **ranges(columns, subjects),
        "exact": prior.has_likelihood,
        "told": [*(one.name for one in prior.conditions), *(["previous slice"] if prior.takes_previous else [])],
        "saved": _saved(mine, theirs, subjects),
        "nominal_per_code": prior.spec.bits(prior.size) / prior.length,
        "nominal_per_pixel": prior.spec.bits(prior.size) / pixels,
        "per_subject": {str(s): total / count for s, total, count in zip(names, sums.tolist(), counts, strict=True)},
    }


def _each(prior: Prior, codes: Codes, given: Given | None) -> NDArray[np.float64]:
    """Bits of each image's codes, (B,)."""
    return prior.bound(codes, given).cpu().double().numpy() * prior.length


def _saved(mine: NDArray[np.float64], theirs: NDArray[np.float64], subjects: Sequence[str]) -> Range:
    """1 - mine / theirs of all bits together: a mean over subjects in which each weighs the bits of `theirs`."""
    names, sums, _ = by_subject(mine, subjects)
    _, weights, _ = by_subject(theirs, subjects)
    each = {str(s): float(1 - m / t) for s, m, t in zip(names, sums, weights, strict=True)}
    return _range(paired(dict.fromkeys(each, 0.0), each, dict(zip(each, weights.round().astype(int), strict=True))))


def ranges(columns: Mapping[str, NDArray[np.float64]], subjects: Sequence[str]) -> dict[str, Range]:
    return {name: _range(found) for name, found in intervals(columns, subjects).items()}


def _range(found: Interval) -> Range:
    return {"mean": found.mean, "low": found.low, "high": found.high}


def parts(count: int, prior: Prior) -> Iterator[NDArray[np.int64]]:
    """Indices 0 .. count - 1, at most 16 at once and fewer where grids are large."""
    step = max(1, min(16, CODES_AT_ONCE // prior.length))
    return (np.arange(start, min(start + step, count)) for start in range(0, count, step))
