"""How far a set of points lies from a reference set, six ways, with intervals clustered by subject.

- Frechet distance of two Gaussians: D. Dowson, B. Landau, "The Frechet distance between multivariate normal
  distributions", 1982; of features of images: M. Heusel et al., "GANs trained by a two time-scale update rule converge
  to a local Nash equilibrium", 2017.
- Kernel distance: unbiased squared maximum mean discrepancy under the kernel (x.y / D + 1)^3 (M. Binkowski et al.,
  "Demystifying MMD GANs", 2018).
- Precision and recall within balls to the third neighbour: T. Kynkaanniemi et al., "Improved precision and recall
  metric for assessing generative models", 2019.
- Density and coverage within balls to the fifth neighbour: M. Naeem et al., "Reliable fidelity and diversity metrics
  for generative models", 2020.

Where we differ: slices of one subject are near copies of each other. They would shrink the balls around each other, and
pull up the mean kernel inside a set, so neighbours and pairs are taken across subjects only; a sample of a prior is a
subject of its own.

Intervals: the jackknife that leaves out one of ten groups of subjects at a time, of each side in turn (P. Kott, "The
delete-a-group jackknife", 2001). Not the bootstrap of `statistics.py`: its draws hold subjects twice and lack a third
of them, which moves covariances and neighbours more than chance does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from brainvq.errors import InputError

NEAR = 3
"""Neighbour at the border of a ball of precision and recall."""
WIDE = 5
"""The same of density and coverage."""
GROUPS = 10
LEAST_SUBJECTS = 5
LEVEL = 0.95
BOUNDS = {
    "frechet": (0, np.inf),
    "kernel": (-np.inf, np.inf),
    "precision": (0, 1),
    "recall": (0, 1),
    "density": (0, np.inf),
    "coverage": (0, 1),
}
MEASURES = tuple(BOUNDS)
LOWER = ("frechet", "kernel")
"""Measures of which less is better."""
TYPICAL = ("precision", "density")
"""Measures that rise above those of real images where a set keeps to what is typical: more is then no better."""

Matrix = NDArray[np.float64]
Picks = NDArray[np.bool_]


@dataclass(frozen=True)
class Estimate:
    """A measure, and 95 % from `low` to `high`."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Points:
    """Features (N, D) of a set, and whom each is of: int (N,). Build with `points`."""

    x: Matrix
    subject: NDArray[np.int64]

    @cached_property
    def across(self) -> Picks:
        """Which pairs are of two subjects, (N, N)."""
        return np.asarray(self.subject[:, None] != self.subject[None])

    @cached_property
    def distances(self) -> Matrix:
        """Squared, (N, N); infinite inside a subject."""
        return np.where(self.across, _distances(self.x, self.x), np.inf)

    @cached_property
    def kernel(self) -> Matrix:
        return _kernel(self.x, self.x)

    def without(self, seed: int) -> list[Picks]:
        """For each group of subjects all but that one, (N,)."""
        found = int(self.subject.max()) + 1
        group = np.random.default_rng(seed).permutation(found) % min(GROUPS, found)
        return [group[self.subject] != one for one in range(min(GROUPS, found))]


@dataclass(frozen=True, eq=False)
class Measured:
    """The six measures of a set, (6,), and their values with a group of either side left out, (groups, 6)."""

    values: Matrix
    without_reference: Matrix
    without_set: Matrix

    def estimates(self) -> dict[str, Estimate]:
        """Each measure with its interval, which stays within what the measure can be."""
        found = _told(self.values, [self.without_reference, self.without_set], LEVEL)
        return {
            name: Estimate(each.value, *(float(np.clip(edge, *BOUNDS[name])) for edge in (each.low, each.high)))
            for name, each in found.items()
        }

    def above(self, floor: Measured, level: float = LEVEL) -> dict[str, Estimate]:
        """Each measure less that of the floor, from the same reference: what both owe to it cancels."""
        shared = self.without_reference - floor.without_reference
        return _told(self.values - floor.values, [shared, self.without_set, floor.without_set], level)

    def beyond(self, floor: Measured) -> tuple[str, ...]:
        """Measures that lie beyond those of the floor by more than chance, six chances reckoned: distances below, the
        others above."""
        found = self.above(floor, 1 - (1 - LEVEL) / len(MEASURES))
        return tuple(name for name, each in found.items() if (each.high < 0 if name in LOWER else each.low > 0))


def points(x: Matrix, subjects: Sequence[str] | None = None) -> Points:
    """Features (N, D) of a set. `subjects`: one each; None where each is a draw by itself.

    Raises:
        InputError: too few of different subjects, or features that are not finite.
    """
    if not np.isfinite(x).all():
        raise InputError("features are not finite: there is nothing to compare.")
    names = np.arange(len(x)).astype(str) if subjects is None else np.array(subjects, dtype=str)
    if x.ndim != 2 or len(names) != len(x):
        raise ValueError(f"features have shape {x.shape} for {len(names)} subjects")
    known, subject = np.unique(names, return_inverse=True)
    if len(known) < LEAST_SUBJECTS:
        raise InputError(f"images of {len(known)} subjects; at least {LEAST_SUBJECTS} are needed to measure realism.")
    return Points(x.astype(np.float64), subject.astype(np.int64))


def measure(found: Points, reference: Points, *, seed: int = 0) -> Measured:
    """Both of one size, and standardised alike."""
    if found.x.shape != reference.x.shape:
        raise ValueError(f"sets of {found.x.shape} and {reference.x.shape}; they are compared at one size")
    pair = _Pair(found, reference)
    every = np.ones(len(found.x), bool)
    return Measured(
        pair.measures(every, every),
        np.array([pair.measures(every, some) for some in reference.without(seed)]),
        np.array([pair.measures(some, every) for some in found.without(seed)]),
    )


def frechet(a: Matrix, b: Matrix) -> float:
    """Squared distance of the Gaussians of mean and covariance of (N, D) and (M, D).

    The trace of the root of S_a S_b is that of R S_b R with R the root of S_a, which is symmetric: real and stable,
    where the root of the product itself (as in most programs) needs its imaginary part thrown away.
    """
    covariance_a, covariance_b = (np.cov(each, rowvar=False) for each in (a, b))
    values, vectors = np.linalg.eigh(covariance_a)
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    shared = np.sqrt(np.linalg.eigvalsh(root @ covariance_b @ root).clip(0)).sum()
    means = ((a.mean(0) - b.mean(0)) ** 2).sum()
    return float(means + np.trace(covariance_a) + np.trace(covariance_b) - 2 * shared)


class _Pair:
    """A set and a reference, with all that does not change when a group of them is left out."""

    def __init__(self, found: Points, reference: Points) -> None:
        self.found, self.reference = found, reference
        self.distances = _distances(reference.x, found.x)  # (reference, found)
        self.kernel = _kernel(reference.x, found.x)

    def measures(self, some: Picks, real: Picks) -> Matrix:
        """(6,), of the points that are picked."""
        distances = self.distances[np.ix_(real, some)]
        near, wide = _radii(self.reference, real)
        own, _ = _radii(self.found, some)
        inside = distances <= wide[:, None]
        return np.array(
            [
                frechet(self.found.x[some], self.reference.x[real]),
                _mean_kernel(self.found, some)
                + _mean_kernel(self.reference, real)
                - 2 * self.kernel[np.ix_(real, some)].mean(),
                (distances <= near[:, None]).any(0).mean(),
                (distances <= own[None]).any(1).mean(),
                inside.sum(0).mean() / WIDE,
                inside.any(1).mean(),
            ]
        )


def _distances(a: Matrix, b: Matrix) -> Matrix:
    """Squared, (N, M)."""
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1)[None]
    return np.asarray((squares - 2 * a @ b.T).clip(0))


def _kernel(a: Matrix, b: Matrix) -> Matrix:
    return np.asarray((a @ b.T / a.shape[1] + 1) ** 3)


def _mean_kernel(of: Points, some: Picks) -> float:
    """Over pairs of two subjects."""
    pick = np.ix_(some, some)
    return float(of.kernel[pick].mean(where=of.across[pick]))


def _radii(of: Points, some: Picks) -> tuple[Matrix, Matrix]:
    """Squared distance to the third and the fifth neighbour of another subject."""
    ordered = np.partition(of.distances[np.ix_(some, some)], (NEAR - 1, WIDE - 1), axis=1)
    return ordered[:, NEAR - 1], ordered[:, WIDE - 1]


def _told(values: Matrix, without: Sequence[Matrix], level: float) -> dict[str, Estimate]:
    """Intervals from values (groups, 6) with one group left out, for each source of chance."""
    variance = sum((len(each) - 1) * each.var(0) for each in without)
    half = t.ppf((1 + level) / 2, min(map(len, without)) - 1) * np.sqrt(variance)
    return {
        name: Estimate(float(value), float(value - by), float(value + by))
        for name, value, by in zip(MEASURES, values, half, strict=True)
    }
