"""Means with 95 % intervals, by bootstrap over subjects, and paired differences between two models.

Slices of a subject are strongly alike, so images are not independent draws; subjects are. A draw of the bootstrap takes
as many subjects as there are, with replacement, and averages over all of their images (B. Efron, "Bootstrap methods:
another look at the jackknife", 1979, percentile intervals; over clusters: A. C. Davison, D. V. Hinkley, "Bootstrap
methods and their application", 1997, section 3.8).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainvq.errors import InputError

DRAWS = 2000


@dataclass(frozen=True)
class Interval:
    """A mean over images; 95 % from `low` to `high`, both None with fewer than two subjects.

    `images`, `subjects`: how many had a value (NaN marks none, for example an empty head mask); `missing`: images
    that had none.
    """

    mean: float
    low: float | None
    high: float | None
    images: int
    subjects: int
    missing: int


def intervals(
    values: Mapping[str, NDArray[np.float64]], subjects: Sequence[str], *, seed: int = 0
) -> dict[str, Interval]:
    """Per measure, of values (N,) one an image. A measure without any value is left out."""
    found = {}
    for name, column in values.items():
        _, sums, counts = by_subject(column, subjects)
        if counts.sum():
            found[name] = _interval(sums, counts, missing=len(column) - int(counts.sum()), seed=seed)
    return found


def subject_means(
    values: Mapping[str, NDArray[np.float64]], subjects: Sequence[str]
) -> dict[str, dict[str, float | int]]:
    """By subject: how many images it has under "images", and its mean of each measure that has any value."""
    names, _, counts = by_subject(np.zeros(len(subjects)), subjects)
    found: dict[str, dict[str, float | int]] = {
        str(name): {"images": int(n)} for name, n in zip(names, counts, strict=True)
    }
    for measure, column in values.items():
        for name, total, count in zip(*by_subject(column, subjects), strict=True):
            if count:
                found[str(name)][measure] = float(total / count)
    return found


def by_subject(
    column: ArrayLike, subjects: Sequence[str]
) -> tuple[NDArray[np.str_], NDArray[np.float64], NDArray[np.float64]]:
    """Names of the subjects, sorted; the sum of each one's values and how many there are. NaN counts as no value.

    Raises:
        ValueError: an infinite value, or not one subject an image.
    """
    column = np.asarray(column, dtype=np.float64)
    if np.isinf(column).any() or column.shape != (len(subjects),):
        raise ValueError(f"values have shape {column.shape} for {len(subjects)} images, and must all be finite or NaN")
    names, index = np.unique(np.array(subjects, dtype=str), return_inverse=True)
    there = ~np.isnan(column)
    sums = np.bincount(index, weights=np.where(there, column, 0), minlength=len(names)).astype(np.float64)
    return names, sums, np.bincount(index, weights=there, minlength=len(names)).astype(np.float64)


def paired(
    first: Mapping[str, float], second: Mapping[str, float], images: Mapping[str, int], *, seed: int = 0
) -> Interval:
    """Mean of second - first over images, from means by subject; only subjects that both have, `missing` the others.

    Raises:
        InputError: no subject in common.
    """
    both = sorted(first.keys() & second.keys())
    if not both:
        raise InputError("the two evaluations have no subject in common; evaluate both on the same data and split")
    counts = np.array([images[name] for name in both], dtype=np.float64)
    sums = np.array([second[name] - first[name] for name in both]) * counts
    missing = sum(images[name] for name in images.keys() - set(both))
    return _interval(sums, counts, missing=missing, seed=seed)


def _interval(sums: NDArray[np.float64], counts: NDArray[np.float64], *, missing: int, seed: int) -> Interval:
    sums, counts = sums[counts > 0], counts[counts > 0]
    low = high = None
    if len(sums) > 1:
        generator = np.random.default_rng(seed)
        drawn = generator.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=DRAWS)
        low, high = (float(edge) for edge in np.quantile((drawn @ sums) / (drawn @ counts), (0.025, 0.975)))
    return Interval(float(sums.sum() / counts.sum()), low, high, int(counts.sum()), len(sums), missing)
