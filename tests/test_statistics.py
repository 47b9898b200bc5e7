"""Intervals over subjects: clusters widen them, NaN is counted and never averaged."""

import math

import numpy as np
import pytest

from brainvq.errors import InputError
from brainvq.metrics.statistics import by_subject, intervals, paired


def clustered(subjects: int = 20, each: int = 30, within: float = 0.1, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    generator = np.random.default_rng(seed)
    values = generator.normal(size=subjects)[:, None] + within * generator.normal(size=(subjects, each))
    return values.ravel(), [f"s{i}" for i in range(subjects) for _ in range(each)]


def test_intervals_over_subjects_are_wider_than_over_images() -> None:
    values, subjects = clustered()
    over_subjects = intervals({"x": values}, subjects)["x"]
    over_images = intervals({"x": values}, [str(i) for i in range(len(values))])["x"]
    assert over_subjects.mean == over_images.mean == pytest.approx(values.mean())
    assert width(over_subjects) > 3 * width(over_images)


def width(interval) -> float:
    return interval.high - interval.low


def test_the_interval_has_the_width_of_its_law() -> None:
    values, subjects = clustered(subjects=200, each=2, within=0)
    found = intervals({"x": values}, subjects)["x"]
    assert width(found) == pytest.approx(2 * 1.96 * values.std() / math.sqrt(200), rel=0.08)


def test_about_95_of_100_intervals_hold_the_truth() -> None:
    hits = 0
    for seed in range(100):
        found = intervals({"x": clustered(subjects=40, each=3, seed=seed)[0]}, clustered(40, 3)[1])["x"]
        hits += found.low <= 0 <= found.high
    assert 86 <= hits <= 99


def test_subjects_weigh_by_their_images() -> None:
    found = intervals({"x": np.array([0.0, 1, 1, 1])}, ["a", "b", "b", "b"])["x"]
    assert found.mean == 0.75
    assert (found.low, found.high) == (0, 1)


def test_the_same_seed_gives_the_same_interval() -> None:
    values, subjects = clustered()
    assert intervals({"x": values}, subjects, seed=3) == intervals({"x": values}, subjects, seed=3)
    assert intervals({"x": values}, subjects, seed=3) != intervals({"x": values}, subjects, seed=4)


def test_the_order_of_images_does_not_matter() -> None:
    values, subjects = clustered(subjects=5, each=4)
    order = np.random.default_rng(0).permutation(20)
    there, shuffled = (
        intervals({"x": v}, s)["x"] for v, s in ((values, subjects), (values[order], [subjects[i] for i in order]))
    )
    assert there.low == pytest.approx(shuffled.low)
    assert there.mean == pytest.approx(shuffled.mean)


def test_nan_is_left_out_and_counted() -> None:
    values = np.array([1.0, np.nan, 3, np.nan])
    found = intervals({"x": values, "none": np.full(4, np.nan)}, ["a", "a", "b", "c"])
    assert found.keys() == {"x"}
    assert found["x"].mean == 2
    assert (found["x"].images, found["x"].subjects, found["x"].missing) == (2, 2, 2)


def test_infinity_and_wrong_lengths_are_refused() -> None:
    for values in (np.array([1.0, np.inf]), np.array([1.0])):
        with pytest.raises(ValueError, match="finite"):
            by_subject(values, ["a", "b"])


def test_one_subject_has_no_interval() -> None:
    found = intervals({"x": np.array([1.0, 2])}, ["a", "a"])["x"]
    assert (found.mean, found.low, found.high) == (1.5, None, None)


def test_pairing_sees_what_unpaired_intervals_hide() -> None:
    generator = np.random.default_rng(0)
    first = {f"s{i}": float(v) for i, v in enumerate(generator.normal(size=30))}
    second = {name: value + 0.1 + 0.02 * generator.normal() for name, value in first.items()}
    found = paired(first, second, dict.fromkeys(first, 5))
    assert found.low is not None
    assert found.low > 0.08
    unpaired = intervals({"x": np.array(list(first.values()))}, list(first))["x"]
    assert width(unpaired) > 10 * width(found)


def test_pairing_counts_subjects_that_only_one_has() -> None:
    found = paired({"a": 1.0, "b": 2.0}, {"b": 5.0, "c": 1.0}, {"a": 4, "b": 3, "c": 2})
    assert (found.mean, found.subjects, found.images, found.missing) == (3, 1, 3, 6)
    with pytest.raises(InputError, match="no subject in common"):
        paired({"a": 1.0}, {"b": 1.0}, {"a": 1, "b": 1})
