"""Distances of sets of points, held to what is known of Gaussians, of equal sets, and of near copies by one subject."""

import numpy as np
import pytest
from numpy.typing import NDArray

from brainvq.errors import InputError
from brainvq.metrics.set_distances import MEASURES, Measured, Points, frechet, measure, points

N, D = 300, 6
Array = NDArray[np.float64]


def gaussian(seed: int, n: int = N, d: int = D) -> Array:
    return np.random.default_rng(seed).normal(size=(n, d))


def exact(mean: Array, covariance: Array) -> Array:
    """Points that have this mean and this covariance to the last digit."""
    x = gaussian(0, d=len(mean))
    x = (x - x.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T))).T
    return x @ np.linalg.cholesky(covariance).T + mean


def value(found: Measured, name: str) -> float:
    return found.estimates()[name].value


def families_of(subjects: int, each: int, spread: float, seed: int, d: int = D) -> tuple[Array, list[str]]:
    """Each subject's points lie `spread` around its own place."""
    generator = np.random.default_rng(seed)
    places = generator.normal(size=(subjects, 1, d))
    x = places * np.sqrt(1 - spread**2) + spread * generator.normal(size=(subjects, each, d))
    return x.reshape(-1, d), [f"{seed} {n // each}" for n in range(subjects * each)]


def test_frechet_distance_in_closed_form() -> None:
    means, covariances = ([0.0, 1.0, 2.0], [2.0, 1.0, -1.0]), ([1.0, 4.0, 9.0], [4.0, 4.0, 1.0])
    a, b = (exact(np.array(m), np.diag(c)) for m, c in zip(means, covariances, strict=True))
    assert frechet(a, b) == pytest.approx((4 + 0 + 9) + (1 + 0 + 4))
    turned = np.linalg.qr(gaussian(3, 3, 3))[0]
    assert frechet(a @ turned, b @ turned) == pytest.approx(frechet(a, b))
    assert frechet(a, b) == pytest.approx(frechet(b, a))
    assert frechet(a, a) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_of_points_in_fewer_dimensions_than_they_have() -> None:
    flat = exact(np.zeros(3), np.eye(3)) @ np.array([[1.0, 0, 0, 1], [0, 1, 0, 1], [0, 0, 1, 1]])
    assert frechet(flat, flat + np.array([1, 0, 0, 0])) == pytest.approx(1)


def test_a_set_is_not_far_from_itself_or_its_like() -> None:
    reference = points(gaussian(0))
    same = measure(reference, reference)
    assert value(same, "frechet") == pytest.approx(0, abs=1e-9)
    assert value(same, "precision") == value(same, "recall") == value(same, "coverage") == 1
    like = measure(points(gaussian(1)), reference)
    assert value(like, "density") == pytest.approx(1, abs=0.15)
    assert value(like, "coverage") == pytest.approx(1 - 2**-5, abs=0.03), "Naeem 2020, lemma 2"
    assert abs(value(like, "kernel")) < 0.1


def test_the_kernel_distance_is_unbiased_where_subjects_repeat_themselves() -> None:
    kept, pooled = [], []
    for seed in range(40):
        (a, of_a), (b, of_b) = (families_of(12, 6, 0.1, 2 * seed + side) for side in (0, 1))
        kept.append(value(measure(points(a, of_a), points(b, of_b)), "kernel"))
        pooled.append(value(measure(points(a), points(b)), "kernel"))
    error = np.std(kept) / np.sqrt(len(kept))
    assert abs(np.mean(kept)) < 3 * error
    assert np.mean(pooled) > 6 * error, "near copies pull up the mean kernel inside a set"


def test_near_copies_do_not_shrink_the_balls() -> None:
    x, subjects = families_of(60, 5, 0.02, 0)
    y, others = families_of(60, 5, 0.02, 1)
    kept, pooled = measure(points(y, others), points(x, subjects)), measure(points(y, others), points(x))
    assert value(kept, "precision") > 0.7
    assert value(pooled, "precision") < 0.1


@pytest.mark.parametrize("name", ["frechet", "kernel", "precision", "density", "coverage"])
def test_what_is_farther_is_worse(name: str) -> None:
    reference = points(gaussian(0))
    found = [value(measure(points(gaussian(1) + shift), reference), name) for shift in (0, 1, 2)]
    assert found == sorted(found, reverse=name not in ("frechet", "kernel"))
    assert len(set(found)) == 3


def test_a_set_without_spread_is_precise_and_recalls_nothing() -> None:
    reference, collapsed = points(gaussian(0)), points(gaussian(1) * 0.05)
    found, floor = measure(collapsed, reference), measure(points(gaussian(2)), reference)
    assert value(found, "precision") == 1
    assert value(found, "density") > 2
    assert value(found, "recall") == 0
    assert value(found, "coverage") < 0.5
    assert "density" in found.beyond(floor), "which is no praise: it is told as it is"
    assert not {"recall", "coverage", "frechet", "kernel"} & set(found.beyond(floor))


def test_a_set_that_holds_the_reference_is_called_better_than_the_floor() -> None:
    (x, subjects), (y, others) = (families_of(40, 5, 0.5, seed, d=24) for seed in (0, 1))
    reference = points(x, subjects)
    leaked = measure(points(x + gaussian(5, *x.shape) * 0.01), reference)
    assert {"frechet", "precision"} <= set(leaked.beyond(measure(points(y, others), reference)))


def test_intervals_hold_the_value_to_expect() -> None:
    """Of clusters; 95 % of 60 are 57, and ten groups of twenty subjects are few."""
    found = []
    for seed in range(60):
        (a, of_a), (b, of_b) = (families_of(20, 5, 0.5, 2 * seed + side) for side in (0, 1))
        found.append(measure(points(a, of_a), points(b, of_b)).estimates())
    for name in MEASURES:
        expected = np.mean([each[name].value for each in found])
        hit = np.mean([each[name].low <= expected <= each[name].high for each in found])
        assert hit >= 0.85, name


def test_intervals_grow_when_images_are_no_independent_draws() -> None:
    (a, of_a), (b, of_b) = families_of(20, 10, 0.3, 0), families_of(20, 10, 0.3, 1)
    kept = measure(points(a, of_a), points(b, of_b)).estimates()["frechet"]
    pooled = measure(points(a), points(b)).estimates()["frechet"]
    assert kept.high - kept.low > 1.5 * (pooled.high - pooled.low)


def test_intervals_stay_within_what_a_measure_can_be() -> None:
    found = measure(points(gaussian(1)), points(gaussian(0))).estimates()
    assert all(each.low <= each.value <= each.high for each in found.values())
    assert all(0 <= found[name].low <= found[name].high <= 1 for name in ("precision", "recall", "coverage"))
    assert found["frechet"].low >= 0


def test_the_floor_is_as_far_as_the_floor() -> None:
    floor = measure(points(gaussian(1)), points(gaussian(0)))
    assert {each.value for each in floor.above(floor).values()} == {0}
    assert floor.beyond(floor) == ()


def test_order_changes_nothing_but_the_groups_of_intervals() -> None:
    reference, x = points(gaussian(0)), gaussian(1)
    turned = np.random.default_rng(0).permutation(len(x))
    assert measure(points(x[turned]), reference).values == pytest.approx(measure(points(x), reference).values)


def test_bad_input_is_named() -> None:
    broken = gaussian(0)
    broken[3, 2] = np.nan
    with pytest.raises(InputError, match="not finite"):
        points(broken)
    with pytest.raises(InputError, match="4 subjects; at least 5"):
        points(gaussian(0), [str(n % 4) for n in range(N)])
    with pytest.raises(ValueError, match="one size"):
        measure(points(gaussian(0)), points(gaussian(0, n=N + 1)))
    with pytest.raises(ValueError, match="subjects"):
        points(gaussian(0), ["one"])


def test_pairs_of_one_subject_are_infinitely_far() -> None:
    found: Points = points(gaussian(0, 10), [str(n // 2) for n in range(10)])
    assert np.isinf(found.distances).sum() == 20
