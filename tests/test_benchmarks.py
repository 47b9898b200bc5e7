"""The arithmetic of the benchmarks: no timing, and nothing of the libraries that they are held against."""

import time

import pytest

from benchmarks import gpu, quality_curve, time_to_quality, training
from benchmarks.quality_curve import held_since, reached, sooner, told
from benchmarks.time_to_quality import Clock

POOR, SSIM_ALONE, GOOD = (0.7, 0.6), (0.9, 0.7), (0.81, 0.76)


def curve(*measures):
    return [
        {"seconds": 15.0 * n, "step": n, "ssim": ssim, "ssim_foreground": foreground}
        for n, (ssim, foreground) in enumerate(measures, start=1)
    ]


def test_both_goals_must_be_met_at_once():
    assert reached(curve(POOR, SSIM_ALONE, (0.7, 0.9))) is None
    assert reached(curve(POOR, SSIM_ALONE, GOOD, POOR)) == 45.0


def test_what_is_lost_again_is_not_held():
    assert held_since(curve(GOOD, POOR, GOOD, GOOD)) == 45.0
    assert held_since(curve(GOOD, POOR)) is None
    assert held_since([]) is None


def side(*measures):
    points = curve(*measures)
    return {
        "curve": points,
        "reached_s": reached(points),
        "held_since_s": held_since(points),
        "trained_s": points[-1]["seconds"],
    }


@pytest.mark.parametrize(
    ("ours", "theirs", "text"),
    [
        ([GOOD], [POOR] * 5 + [GOOD], "there 6.0 times sooner"),
        ([GOOD], [POOR] * 5, "there over 5 times sooner: `keras_f8` never was"),
        ([POOR], [GOOD], "did not get there"),
    ],
)
def test_times_sooner(ours, theirs, text):
    sides = {"brain_f8": side(*ours), "keras_f8": side(*theirs)}
    found = {
        "sides": sides,
        "goals": quality_curve.GOALS,
        "validate_images": 8,
        "times_sooner": sooner(sides),
        "hardware": {"gpu": None, "threads": 2, "cpu": "processor"},
    }
    assert text in told(found["times_sooner"])
    assert text in quality_curve.table(found)


def test_a_training_that_is_good_goes_on_for_a_while_and_ends_at_the_cap():
    assert not time_to_quality._over([], 60.0, 30.0)
    assert not time_to_quality._over(curve(GOOD, GOOD), 60.0, 30.0)
    assert time_to_quality._over(curve(GOOD, POOR, POOR), 60.0, 30.0)
    assert time_to_quality._over(curve(POOR, POOR, POOR, POOR), 60.0, 30.0)


def test_the_clock_leaves_out_breaks():
    clock = Clock()
    clock.start()
    clock.lap()
    before = clock.seconds
    time.sleep(0.05)
    clock.start()
    clock.lap()
    assert clock.seconds - before < 0.05


def test_sides_of_a_finished_or_another_measurement_are_made_anew(tmp_path):
    from brainvq.run import write_json

    asked, out = {"command": "a", "sides": {}}, tmp_path / "result.json"
    assert time_to_quality._done(out, asked) == {}
    write_json(out, {"command": "a", "sides": {"brain_f8": {}}})
    assert time_to_quality._done(out, asked) == {"brain_f8": {}}
    assert time_to_quality._done(out, {**asked, "command": "b"}) == {}
    write_json(out, {"command": "a", "sides": {"brain_f8": {}}, "times_sooner": None})
    assert time_to_quality._done(out, asked) == {}


def test_speed_is_told_against_each_of_the_others():
    rates = {"plain": 5.0, "monai, tuned": 10.0, "keras_f8": 7.0, "brain_f8": 30.0, "brain_f8, whole images": 20.0}
    times = training.times_faster(rates)
    assert times == {
        "brain_f8": {"plain": 6.0, "monai, tuned": 3.0},
        "brain_f8, whole images": {"plain": 4.0, "monai, tuned": 2.0},
    }
    row = {"batch": 16, "precision": "fp32", "parameters": 1234, "gflop_forward": 0.5}
    found = {
        "sides": {name: {**row, "images_per_second": rate} for name, rate in rates.items()},
        "times_faster": times,
        "hardware": {"gpu": None, "threads": 2, "cpu": "processor"},
    }
    told = training.table(found)
    assert "| `brain_f8`, whole images | 20.0 | 16 | fp32 | 1,234 | 0.50 |" in told
    assert "`brain_f8` on whole images: 4.0 times the plain loop" in told


def test_utilisation_is_three_passes_over_the_matrix_rate():
    rates = {"bf16": 1.0, "fp32": 0.25}
    assert gpu.utilisation(2.0, 50.0, rates, "bf16") == pytest.approx({"tflops": 0.3, "utilisation": 0.3})
    assert gpu.utilisation(2.0, 50.0, rates, "fp32")["utilisation"] == pytest.approx(1.2)
    assert gpu.utilisation(2.0, 50.0, {**rates, "tf32": 0.5}, "fp32")["utilisation"] == pytest.approx(0.6)
