"""The audit's arithmetic, held to copies of synthetic heads, to heads of other subjects, and to known distributions."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy import stats

from brainvq.data.cohort import LAYOUT, write_cohort
from brainvq.errors import InputError
from brainvq.metrics import slice_search
from brainvq.metrics.copies import COPIES, HALF, HARDER, planted
from brainvq.metrics.memorisation import (
    FALSE_ALARMS,
    ROC_RATES,
    Calibration,
    Scored,
    audit,
    cross_fitted,
    part,
    rate,
    threshold,
)
from brainvq.metrics.slice_search import TrainingSlices
from heads import blurred

SLICES = 4


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> tuple[NDArray[np.uint8], list[str], NDArray[np.uint8], list[str]]:
    """Slices and subjects of train, and of all others."""
    folder = write_cohort(tmp_path_factory.mktemp("cohort") / "heads", subjects=30, slices=SLICES, size=64) / LAYOUT

    def read(*splits: str) -> tuple[NDArray[np.uint8], list[str]]:
        paths = [path for split in splits for path in sorted((folder / f"keras_png_slices_{split}").iterdir())]
        return np.stack([np.array(Image.open(path)) for path in paths]), [path.name.split("_")[1] for path in paths]

    return *read("train"), *read("validate", "test")


@pytest.fixture(scope="module")
def train(cohort) -> NDArray[np.uint8]:
    return cohort[0]


@pytest.fixture(scope="module")
def training(cohort) -> TrainingSlices:
    return TrainingSlices(cohort[0], cohort[1])


@pytest.fixture(scope="module")
def held_out(cohort, training) -> NDArray[np.float64]:
    """Scores of slices of other subjects, as blurred as by a tokenizer."""
    return training.nearest(blurred(cohort[2], 0.7)).score


@pytest.fixture(scope="module")
def one_of_each(cohort) -> NDArray[np.int64]:
    """A training slice of each subject."""
    return np.arange(2, len(cohort[0]), SLICES)


@pytest.fixture(scope="module")
def calibration(cohort, training, held_out, one_of_each) -> Calibration:
    copies = planted(blurred(cohort[0][one_of_each], 0.7))
    scores = {kind: training.nearest(images).score for kind, images in copies.items()}
    copied = [cohort[1][i] for i in one_of_each]
    return Calibration(Scored(held_out, cohort[3]), {kind: Scored(each, copied) for kind, each in scores.items()})


def test_a_copy_is_found_at_its_place(training, train, one_of_each):
    found = training.nearest(train[one_of_each])
    assert found.index.tolist() == one_of_each.tolist()
    assert found.similarity == pytest.approx(1, abs=1e-3)
    assert not found.mirrored.any()


def test_copies_are_flagged_and_slices_of_others_are_not(calibration, cohort):
    assert set(calibration.planted) == {*COPIES, *HARDER, HALF}
    for kind in COPIES:
        assert calibration.sensitivity([kind]).share >= 0.9, kind
    assert calibration.false_alarms().share <= 0.1
    assert calibration.roc(calibration.counted).area > 0.99
    assert calibration.sensitivity(calibration.counted).images == len(COPIES) * 22


def test_a_mirrored_copy_is_told_to_be_one(training, train, one_of_each):
    for axis in (1, 2):
        found = training.nearest(np.flip(train[one_of_each], axis))
        assert found.index.tolist() == one_of_each.tolist()
        assert found.mirrored.all()


@pytest.mark.parametrize(("gain", "offset"), [(0.5, 0), (0.6, 40), (1, -0.0), (0.8, 15)])
def test_brightness_and_contrast_do_not_count(training, train, one_of_each, gain, offset):
    images = blurred(train[one_of_each], 0.7)
    changed = np.rint(images * gain + offset).astype(np.uint8)
    before, after = training.nearest(images), training.nearest(changed)
    assert after.index.tolist() == before.index.tolist()
    assert after.score == pytest.approx(before.score, abs=0.01)


def test_the_order_of_the_training_slices_does_not_count(training, cohort):
    order = np.random.default_rng(0).permutation(len(cohort[0]))
    other = TrainingSlices(cohort[0][order], [cohort[1][i] for i in order])
    before, after = training.nearest(cohort[2]), other.nearest(cohort[2])
    assert order[after.index].tolist() == before.index.tolist()
    assert after.score == pytest.approx(before.score, abs=1e-5)


def test_a_few_are_scored_as_among_many(training, cohort, monkeypatch):
    many = training.nearest(cohort[2])
    monkeypatch.setattr(slice_search, "KEPT", 3)
    monkeypatch.setattr(slice_search, "AT_ONCE", 5)
    few = training.nearest(cohort[2][7:14])
    assert few.index.tolist() == many.index[7:14].tolist()
    assert few.score == pytest.approx(many.score[7:14], abs=1e-5)


def test_more_slices_of_the_same_subject_hide_no_copy(training, cohort, held_out):
    """The next slices of a subject are nearly the same picture; only other subjects count beside it."""
    doubled = TrainingSlices(np.concatenate([cohort[0]] * 2), cohort[1] * 2)
    images = blurred(cohort[0][::9], 0.7)
    found = doubled.nearest(images).score
    assert found == pytest.approx(training.nearest(images).score, abs=0.02)
    assert (found > held_out.max()).all()


def test_the_score_is_by_how_much_one_subject_is_nearer_than_another(cohort):
    one, other = cohort[0][:SLICES], cohort[0][SLICES : 2 * SLICES]
    image = blurred(one[:1], 0.7)
    both = TrainingSlices(np.concatenate([one, other]), ["a"] * SLICES + ["b"] * SLICES).nearest(image)
    without = TrainingSlices(np.concatenate([other, 0 * one]), ["b"] * SLICES + ["nobody"] * SLICES).nearest(image)
    assert both.score == pytest.approx(both.similarity - without.similarity, abs=1e-5)


def test_a_person_under_two_names_hides_no_copy(cohort, held_out):
    twice = np.concatenate([cohort[0], blurred(cohort[0], 0.4)])
    training = TrainingSlices(twice, cohort[1] + [f"again {name}" for name in cohort[1]])
    found = training.nearest(blurred(cohort[0][::9], 0.7))
    assert (found.score > held_out.max()).all()


def test_an_image_of_one_grey_level_is_no_copy(training, held_out):
    found = training.nearest(np.full((2, 64, 64), 7, np.uint8))
    assert np.isfinite(found.score).all()
    assert (found.score <= threshold(held_out)).all()


def test_what_cannot_be_compared_is_refused(training, train):
    with pytest.raises(InputError, match=r"48 x 64 pixels .* 64 x 64"):
        training.nearest(np.zeros((1, 48, 64), np.uint8))
    with pytest.raises(InputError, match="1 subject;"):
        TrainingSlices(train[:4], ["a"] * 4)
    with pytest.raises(ValueError, match="uint8"):
        training.nearest(train.astype(np.float32))


def test_copies_are_the_same_for_a_seed_and_leave_the_images_alone(train):
    before = train[::8].copy()
    first, second, other = (planted(train[::8], seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(train[::8], before)
    assert all(np.array_equal(first[kind], second[kind]) for kind in first)
    assert not np.array_equal(first["warped"], other["warped"])
    assert np.array_equal(first["as they are"], before)
    assert np.array_equal(first[HALF][:, :, :32], before[:, :, :32])


scores_of_subjects = st.integers(2, 12).flatmap(
    lambda n: st.lists(st.tuples(st.integers(0, n - 1), st.floats(-1, 1)), min_size=n, max_size=60).map(
        lambda rows: (np.array([s for _, s in rows]), [str(i) for i, _ in rows])
    )
)


@given(scores_of_subjects)
def test_no_subject_is_on_both_sides_and_none_calibrates_itself(drawn):
    scores, subjects = drawn
    if len(set(subjects)) < 2:
        return
    first = part(subjects)
    assert 0 < first.sum() < len(first)
    assert not {s for s, f in zip(subjects, first, strict=True) if f} & {
        s for s, f in zip(subjects, first, strict=True) if not f
    }
    flags = cross_fitted(scores, subjects)
    raised = scores.copy()
    raised[0] += 10  # one image of one subject: nothing else on its side may change
    same_side = first == first[0]
    same_side[0] = False
    assert (cross_fitted(raised, subjects)[same_side] == flags[same_side]).all()
    assert cross_fitted(raised, subjects)[0], "it is above all of the other side"
    assert cross_fitted(np.where(first, scores + 10, scores), subjects).tolist() == first.tolist()


def simulated(seed: int) -> tuple[NDArray[np.float64], list[str]]:
    """Scores of 40 subjects of 32 slices that vary with the subject."""
    generator = np.random.default_rng(seed)
    scores = generator.normal(size=(40, 32)) + 0.5 * generator.normal(size=(40, 1))
    return scores.ravel(), [str(n) for n in np.repeat(np.arange(40), 32)]


def test_the_rate_that_is_told_is_the_rate_of_unseen_subjects():
    told, true = [], []
    for seed in range(40):
        scores, subjects = simulated(seed)
        told.append(rate(cross_fitted(scores, subjects), subjects).share)
        true.append((simulated(1000 + seed)[0] > threshold(scores)).mean())
    assert np.mean(told) == pytest.approx(FALSE_ALARMS, abs=0.006)
    assert np.mean(told) == pytest.approx(np.mean(true), abs=0.006)
    assert np.mean(told) >= np.mean(true), "half of the subjects foresee less than all"


def test_the_threshold_is_exceeded_by_no_more_than_it_allows():
    scores = np.random.default_rng(0).normal(size=1001)
    for allowed in ROC_RATES:
        assert (scores > threshold(scores, allowed)).mean() <= allowed
    assert (scores > threshold(scores, 0.1)).mean() > 0.09


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_none_and_all_are_no_certainty(share):
    found = rate([bool(share)] * 40, [str(n // 4) for n in range(40)])
    assert (found.share, found.subjects, found.images) == (share, 10, 40)
    assert found.high - found.low == pytest.approx(1 - 0.025**0.1), "Clopper and Pearson, ten draws"
    assert found.low <= share <= found.high


def test_an_interval_over_subjects_is_wider_than_over_images():
    flags = np.repeat([True, False, False, False, True, False], 30)
    by_subject = rate(flags, [str(n) for n in np.repeat(np.arange(6), 30)])
    by_image = rate(flags, [str(n) for n in range(180)])
    assert by_subject.high - by_subject.low > 2 * (by_image.high - by_image.low)


def test_the_area_is_that_of_mann_and_whitney():
    generator = np.random.default_rng(0)
    held_out, copies = np.round(generator.normal(size=60), 1), np.round(generator.normal(1, 1, 30), 1)
    one = Scored(copies, [str(n) for n in range(30)])
    found = Calibration(Scored(held_out, [str(n // 5) for n in range(60)]), {"any": one}).roc(["any"])
    assert found.area == pytest.approx(stats.mannwhitneyu(copies, held_out).statistic / 1800)
    assert found.low < found.area < found.high
    assert found.high - found.low < 0.3
    shares = [one.share for one in found.sensitivity]
    assert shares == sorted(shares), "more false alarms, more copies"


def test_what_is_said_when_nothing_is_found(calibration, held_out):
    found = audit(held_out[:20] - 0.05, calibration)
    sentence = found.sentence()
    assert not found.found
    assert sentence.startswith(f"No copy detected at sensitivity {found.sensitivity.share:.3f} [")
    assert f"false-alarm rate of {found.false_alarms.share:.3f}" in sentence
    assert "0 of 20 samples flagged" in sentence
    assert "(training slices through the tokenizer, as they are, shifted," in sentence
    assert sentence.lower().count("no copy") == sentence.count("No copy detected at sensitivity") == 1


def test_what_is_said_when_copies_are_found(calibration, held_out):
    scores = np.concatenate([calibration.planted["as they are"].scores[:12], held_out[:20] - 0.05])
    found = audit(scores, calibration)
    assert found.found
    assert found.sentence().startswith("12 of 32 samples are closer to a training slice than held-out slices are")
    assert "no copy" not in found.sentence().lower()


def test_a_few_false_alarms_are_not_called_copies(calibration):
    scores, subjects = simulated(0)
    known = Calibration(Scored(scores, subjects), calibration.planted)
    unseen = [audit(simulated(seed)[0][::7], known).found for seed in range(1, 21)]
    assert sum(unseen) <= 2


def test_slices_of_one_head_are_one_draw(calibration):
    scores = np.concatenate([np.full(8, 1.0), np.full(24, -1.0)])
    alone = audit(scores, calibration).flagged
    together = audit(scores, calibration, subjects=[str(n // 8) for n in range(32)]).flagged
    assert together.share == alone.share
    assert together.high - together.low > alone.high - alone.low


def test_an_audit_is_plain_json(calibration, held_out):
    found = json.loads(json.dumps(audit(held_out, calibration).to_json(), allow_nan=False))
    assert found["flagged"]["images"] == len(found["scores"]) == len(held_out)
    assert found["false_alarms"]["asked"] == FALSE_ALARMS
    assert set(found["counted_kinds"]) == set(COPIES)
    assert len(found["roc"]["sensitivity"]) == len(found["roc"]["false_alarms"])


def test_too_little_to_tell_is_refused(calibration, held_out):
    with pytest.raises(InputError, match="no samples"):
        audit(np.empty(0), calibration)
    with pytest.raises(InputError, match="two at least"):
        Calibration(Scored(held_out, ["one"] * len(held_out)), {})
