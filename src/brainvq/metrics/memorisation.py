"""How many samples come nearer to a training slice than slices of unseen subjects do, and how surely copies are found.

The score is that of `slice_search.py`. What is too near is told by held-out slices as the tokenizer reconstructs them,
since its blur moves every score: the threshold is exceeded by a stated share of them. Whether it is by no more of other
subjects is seen by cross-fitting: the held-out subjects are dealt into two parts, each part's threshold is tried on the
other, and the rate that both reach is the rate that is told. Samples then meet the threshold of all held-out subjects.
A finding of nothing is worth what copies made on purpose (`copies.py`) say: the share of them that the same threshold
flags stands in the same sentence.

Sources: the false-alarm rate at which a membership test is read, N. Carlini et al., "Membership inference attacks from
first principles", 2022; intervals, `statistics.py`; where a bootstrap would find no doubt because none or all of the
images are flagged, C. J. Clopper, E. S. Pearson, "The use of confidence or fiducial limits", 1934, with a draw for each
subject.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta

from brainvq.errors import InputError
from brainvq.metrics.copies import COPIES
from brainvq.metrics.statistics import DRAWS, by_subject, intervals

FALSE_ALARMS = 0.01
"""The share of held-out slices above the threshold that is asked for."""
ROC_RATES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Rate:
    """`flagged` of `images` images, as a share, with a 95 % interval over subjects."""

    share: float
    low: float
    high: float
    flagged: int
    images: int
    subjects: int

    def text(self, digits: int) -> str:
        return f"{self.share:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


@dataclass(frozen=True)
class Roc:
    """How well scores part copies from held-out slices: the area under the curve, and for some false-alarm rates the
    share of copies above that quantile of the held-out scores; 95 % intervals over subjects of both sides."""

    area: float
    low: float
    high: float
    false_alarms: tuple[float, ...]
    sensitivity: tuple[Rate, ...]


@dataclass(frozen=True, eq=False)
class Scored:
    """Scores (n,) of images, and whose each is: what belongs together is one draw."""

    scores: Scores
    subjects: Sequence[str]


@dataclass(frozen=True, eq=False)
class Calibration:
    """What an audit is read by: held-out slices through the tokenizer, and kinds of copies made on purpose, each with
    the subject whose training slice was copied."""

    held_out: Scored
    planted: Mapping[str, Scored]

    def __post_init__(self) -> None:
        refuse_one_subject(self.held_out.subjects)

    def threshold(self) -> float:
        return threshold(self.held_out.scores)

    def false_alarms(self) -> Rate:
        """Cross-fitted: of each part of the held-out subjects by the threshold of the other."""
        return rate(cross_fitted(self.held_out.scores, self.held_out.subjects), self.held_out.subjects)

    def sensitivity(self, kinds: Sequence[str]) -> Rate:
        """Share of the copies of these kinds together that the threshold flags."""
        copies = self._of(kinds)
        return rate(copies.scores > self.threshold(), copies.subjects)

    @property
    def counted(self) -> list[str]:
        """The kinds that make the sensitivity."""
        return [kind for kind in self.planted if kind in COPIES]

    def roc(self, kinds: Sequence[str]) -> Roc:
        """Of these kinds together."""
        copies = self._of(kinds)
        above = [threshold(self.held_out.scores, allowed) for allowed in ROC_RATES]
        return Roc(
            _area(copies.scores, self.held_out.scores),
            *_area_interval(copies, self.held_out),
            ROC_RATES,
            tuple(rate(copies.scores > each, copies.subjects) for each in above),
        )

    def _of(self, kinds: Sequence[str]) -> Scored:
        found = [self.planted[kind] for kind in kinds]
        return Scored(np.concatenate([one.scores for one in found]), [s for one in found for s in one.subjects])


@dataclass(frozen=True, eq=False)
class Audit:
    """Of samples: `scores` (n,), which are above the `threshold`, and what that means."""

    scores: Scores
    threshold: float
    flagged: Rate
    false_alarms: Rate
    sensitivity: Rate
    kinds: Mapping[str, Rate]
    roc: Roc
    roc_of_kinds: Mapping[str, Roc]
    highest_held_out: float

    @property
    def found(self) -> bool:
        """More samples are flagged than by chance, beyond doubt: the interval of their share lies above the rate of the
        held-out slices, and above the one that was asked for."""
        return self.flagged.low > max(FALSE_ALARMS, self.false_alarms.share)

    @property
    def by_chance(self) -> float:
        """So many samples would be flagged if they were held-out slices."""
        return self.false_alarms.share * self.flagged.images

    def sentence(self) -> str:
        """What may be said, and no more."""
        count, samples, chance = self.flagged.flagged, self.flagged.images, f"{self.by_chance:.1f} by chance"
        if self.found:
            return (
                f"{count:,} of {samples:,} samples are closer to a training slice than held-out slices are ({chance}): "
                "look at pairs.png."
            )
        counted = [kind for kind in self.kinds if kind in COPIES]
        least = min(counted, key=lambda kind: self.kinds[kind].share)
        worst = f"; the least {self.kinds[least].share:.3f}, {least}" if self.kinds[least].share < 1 else ""
        pairs = "look at those flagged, in pairs.png" if count else "the closest are in pairs.png"
        return (
            f"No copy detected at sensitivity {self.sensitivity.text(3)} (training slices through the tokenizer, "
            f"{', '.join(counted)}{worst}) and a false-alarm rate of {self.false_alarms.text(3)} (held-out slices of "
            f"other subjects): {count:,} of {samples:,} samples flagged, {chance}; {pairs}."
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "sentence": self.sentence(),
            "found": self.found,
            "threshold": self.threshold,
            "highest_held_out": self.highest_held_out,
            "flagged": asdict(self.flagged),
            "false_alarms": {"asked": FALSE_ALARMS, **asdict(self.false_alarms)},
            "sensitivity": asdict(self.sensitivity),
            "kinds": {kind: {**asdict(found), "area": self._area(kind)} for kind, found in self.kinds.items()},
            "counted_kinds": [kind for kind in self.kinds if kind in COPIES],
            "roc": asdict(self.roc),
            "scores": [round(float(score), 5) for score in self.scores],
        }

    def _area(self, kind: str) -> dict[str, float]:
        """Under the ROC of one kind."""
        found = self.roc_of_kinds[kind]
        return {"area": found.area, "low": found.low, "high": found.high}


def audit(scores: Scores, calibration: Calibration, *, subjects: Sequence[str] | None = None) -> Audit:
    """Samples with these scores (n,), held against the calibration.

    Args:
        subjects: which samples belong together (the slices of one head); where None, each is a draw of its own.

    Raises:
        InputError: no samples.
    """
    if not len(scores):
        raise InputError("there are no samples to audit")
    above = calibration.threshold()
    return Audit(
        scores=scores,
        threshold=above,
        flagged=rate(scores > above, subjects or [str(i) for i in range(len(scores))]),
        false_alarms=calibration.false_alarms(),
        sensitivity=calibration.sensitivity(calibration.counted),
        kinds={kind: calibration.sensitivity([kind]) for kind in calibration.planted},
        roc=calibration.roc(calibration.counted),
        roc_of_kinds={kind: calibration.roc([kind]) for kind in calibration.planted},
        highest_held_out=float(calibration.held_out.scores.max()),
    )


def refuse_one_subject(held_out: Sequence[str]) -> None:
    """Raises InputError unless the held-out slices are of two subjects at least."""
    if len(set(held_out)) < 2:
        raise InputError(
            f"the held-out slices are of {len(set(held_out))} subjects; an audit needs two at least: what is too near "
            "is learned from one part and checked on the other."
        )


def threshold(scores: Scores, allowed: float = FALSE_ALARMS) -> float:
    """Exceeded by at most this share of the scores."""
    return float(np.quantile(scores, 1 - allowed, method="higher"))


def cross_fitted(scores: Scores, subjects: Sequence[str], *, seed: int = 0) -> NDArray[np.bool_]:
    """Which images (N,) are above the threshold of the part of the subjects that theirs is not in."""
    first = part(subjects, seed=seed)
    return np.where(first, scores > threshold(scores[~first]), scores > threshold(scores[first]))


def part(subjects: Sequence[str], *, seed: int = 0) -> NDArray[np.bool_]:
    """Which images (N,) are of the first half of the subjects, in an order that the seed draws."""
    names, index = np.unique(np.array(subjects, dtype=str), return_inverse=True)
    return np.isin(index, np.random.default_rng(seed).permutation(len(names))[: len(names) // 2])


def rate(flags: ArrayLike, subjects: Sequence[str]) -> Rate:
    """Share of the flags (N,) that are set, with its interval."""
    flags = np.asarray(flags, dtype=bool)
    found = intervals({"flags": flags.astype(np.float64)}, subjects)["flags"]
    low, high = found.low, found.high
    if low is None or high is None or found.mean in (0, 1):
        low = float(beta.ppf(0.025, found.subjects, 1)) if found.mean == 1 else 0.0
        high = float(beta.ppf(0.975, 1, found.subjects)) if found.mean == 0 else 1.0
    return Rate(found.mean, low, high, int(flags.sum()), len(flags), found.subjects)


def _area(copies: Scores, held_out: Scores) -> float:
    """Share of pairs in which the copy scores higher; ties count half (Mann and Whitney 1947)."""
    return float(_wins(copies, held_out).mean() / len(held_out))


def _wins(copies: Scores, held_out: Scores) -> Scores:
    """Of each copy: how many of the held-out slices it outscores, (copies,)."""
    ordered = np.sort(held_out)
    return (np.searchsorted(ordered, copies, "left") + np.searchsorted(ordered, copies, "right")) / 2


def _area_interval(copies: Scored, held_out: Scored, *, seed: int = 0) -> tuple[float, float]:
    """By bootstrap over the subjects of both sides at once, from the wins of each pair of subjects."""
    names, index = np.unique(np.array(held_out.subjects, dtype=str), return_inverse=True)
    parts = [held_out.scores[index == n] for n in range(len(names))]
    wins = np.stack([by_subject(_wins(copies.scores, own), copies.subjects)[1] for own in parts], axis=1)
    of_copies = by_subject(copies.scores, copies.subjects)[2]
    of_held_out = np.array([len(own) for own in parts], dtype=np.float64)
    generator = np.random.default_rng(seed)
    mine, theirs = (generator.multinomial(n, np.full(n, 1 / n), size=DRAWS) for n in wins.shape)
    areas = np.einsum("dm,mt,dt->d", mine, wins, theirs, optimize=True) / ((mine @ of_copies) * (theirs @ of_held_out))
    low, high = np.quantile(areas, (0.025, 0.975))
    return float(low), float(high)
