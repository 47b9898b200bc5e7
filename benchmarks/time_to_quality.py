"""Minutes of training until the reconstructions of unseen subjects are good: `brain_f8` against `keras_f8`.

    python -m benchmarks.time_to_quality --data DATA

Good is a mean SSIM of 0.80 and a foreground SSIM of 0.75 at once, on validate slices spread over all subjects, of the
weights that the training would hand out, in float32. Each preset trains as it is, in turn, on the same cores; the clock
counts training steps alone (batch loading included), not validation, and not the time that the process is suspended.
A training goes on for some minutes after it is good, which shows whether it stays so. One that its description leaves
running at a constant learning rate runs to the cap, another to the end of its schedule if that comes sooner;
`--planned-minutes` ends the schedules of falling rates at that time instead, by the speed of a rehearsal of some steps.
Finished sides are kept in the output file, and a second start goes on with the next.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.quality_curve import GOALS, OURS, THEIRS, Point, draw, held_since, reached, sooner, table
from benchmarks.steps import DEVICE, task_of
from brainvq.data.loader import Cache, order
from brainvq.head import head_mask
from brainvq.metrics.distortion import distortion, to_uint8
from brainvq.presets import preset
from brainvq.run import hardware, write_json
from brainvq.tokenizers.base import Tokenizer
from brainvq.training.devices import resolve
from brainvq.training.experiment import TokenizerExperiment, open_data
from brainvq.training.interrupt import listening
from brainvq.training.tokenizer import TokenizerTask

IMAGES, BATCH = 224, 16  # that are looked at
EARLY, OFTEN, LATER = 300.0, 15.0, 30.0  # so long, look after each 15 s of training; later after each 30 s
REHEARSAL = 20  # steps
FIGURE = Path("docs/figures/time-to-quality.svg")

Score = Callable[[Tokenizer], Point]


class Clock:
    """Seconds of training. Call `lap` after every step, and `start` before the first one and after any break."""

    def __init__(self) -> None:
        self.seconds, self.started = 0.0, 0.0

    def start(self) -> None:
        self.started = time.perf_counter()

    def lap(self) -> None:
        now = time.perf_counter()
        self.seconds += now - self.started
        self.started = now


def scorer(cache: Cache, images: int) -> Score:
    """Mean measures on images spread evenly over the cache; their head masks are found once."""
    picks = np.unique(np.linspace(0, len(cache) - 1, min(images, len(cache))).round().astype(np.int64))
    batches = [picks[start : start + BATCH] for start in range(0, len(picks), BATCH)]
    heads = [head_mask(to_uint8(cache.batch(batch))[:, 0].to(torch.uint8).cpu().numpy()) for batch in batches]

    @torch.no_grad()
    def score(tokenizer: Tokenizer) -> Point:
        found: dict[str, list[float]] = {name: [] for name in GOALS}
        for batch, head in zip(batches, heads, strict=True):
            x = cache.batch(batch)
            measured = distortion(x, tokenizer.decode(tokenizer.encode(x)), head=head)
            for name, values in found.items():
                values += getattr(measured, name).tolist()
        return {name: float(np.nanmean(values)) for name, values in found.items()}

    return score


def train(
    experiment: TokenizerExperiment,
    train_images: Cache,
    score: Score,
    *,
    minutes: float,
    beyond: float,
    planned_minutes: float | None,
) -> dict[str, Any]:
    """The curve of one training, from its first step until it is good and `beyond` minutes more, or to the cap."""
    falls = experiment.task.optimiser.schedule != "constant"
    total = experiment.train.total(len(train_images))
    if planned_minutes and falls:
        total = int(planned_minutes * 60 * _steps_per_second(experiment, train_images))
    task, clock, curve, step = task_of(experiment, train_images), Clock(), list[Point](), 0
    cap = minutes * 60
    with listening(lambda: print("stopping; this side begins anew at the next start"), clock.start) as stop:
        while not _over(curve, cap, beyond * 60) and (step < total or not falls):
            until = min(clock.seconds + (OFTEN if clock.seconds < EARLY else LATER), cap)
            clock.start()
            while clock.seconds < until and (step < total or not falls):
                _advance(task, experiment, train_images, step, total)
                step += 1
                clock.lap()
                if stop[0]:
                    raise SystemExit(128 + stop[0])
            if DEVICE.type == "cuda":
                torch.cuda.synchronize()
                clock.lap()
            curve.append({"seconds": clock.seconds, "step": step, **score(task.updates.handed_out)})
            print(experiment.preset, " ".join(f"{name} {value:.4g}" for name, value in curve[-1].items()), flush=True)
    return {
        "curve": curve,
        "reached_s": reached(curve),
        "held_since_s": held_since(curve),
        "trained_s": clock.seconds,
        "steps": step,
        "planned_steps": total,
        "batch": experiment.train.batch_size,
        "precision": resolve(experiment.train.precision),
    }


def _advance(task: TokenizerTask, experiment: TokenizerExperiment, images: Cache, step: int, total: int) -> None:
    """What the training loop does in a step."""
    seed = experiment.train.seed
    torch.manual_seed(hash((seed, step, 0)) % 2**63)
    terms = task.step(images.batch(order(len(images), experiment.train.batch_size, seed, step)), step, total)
    if step % 10 == 9 and not terms["loss"].isfinite():
        raise SystemExit(f"{experiment.preset}: the loss is not finite at step {step}")


def _steps_per_second(experiment: TokenizerExperiment, images: Cache) -> float:
    task, clock = task_of(experiment, images), Clock()
    for step in range(REHEARSAL + 1):
        _advance(task, experiment, images, step, 10**6)
        clock.start() if step == 0 else clock.lap()
    return REHEARSAL / clock.seconds


def _over(curve: Sequence[Point], cap: float, beyond: float) -> bool:
    good, now = reached(curve), curve[-1]["seconds"] if curve else 0.0
    return now >= cap or (good is not None and now >= good + beyond)


def measure(
    data: str,
    out: Path,
    *,
    minutes: float = 60.0,
    beyond: float = 3.0,
    planned_minutes: float | None = None,
    images: int = IMAGES,
) -> dict[str, Any]:
    """Both sides in turn; what is done already is read from `out`, and what comes is written there."""
    ours, theirs = (preset(name) for name in (OURS, THEIRS))
    assert isinstance(ours, TokenizerExperiment)
    assert isinstance(theirs, TokenizerExperiment)
    caches = open_data(data, ours.data, (16, 16), DEVICE, lambda event: None)
    score = scorer(caches["validate"], images)
    told = f" --planned-minutes {planned_minutes:g}" if planned_minutes else ""
    told += f" --images {images}" if images != IMAGES else ""
    result: dict[str, Any] = {
        "benchmark": "time_to_quality",
        "command": f"python -m benchmarks.time_to_quality --data DATA --minutes {minutes:g} --beyond {beyond:g}{told}",
        "data": {name: {"fingerprint": cache.fingerprint, "images": len(cache)} for name, cache in caches.items()},
        "validate_images": min(images, len(caches["validate"])),
        "goals": GOALS,
        "hardware": hardware(),
        "torch": torch.__version__,
        "sides": {},
    }
    result["sides"] = _done(out, result)
    for experiment in (ours, theirs):
        if experiment.preset not in result["sides"]:
            result["sides"][experiment.preset] = train(
                experiment,
                caches["train"],
                score,
                minutes=minutes,
                beyond=beyond,
                planned_minutes=planned_minutes,
            )
            write_json(out, result)
    result["times_sooner"] = sooner(result["sides"])
    write_json(out, result)
    return result


def _done(out: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """The finished sides of an earlier start with the same settings that did not come to its end."""
    if not out.exists():
        return {}
    found: dict[str, Any] = json.loads(out.read_text())
    same = all(found.get(name) == value for name, value in asked.items() if name != "sides")
    sides: dict[str, Any] = found["sides"] if same and "times_sooner" not in found else {}
    return sides


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--data", default="cohort")
    parser.add_argument("--minutes", type=float, default=60.0, help="of training, at most, for each side")
    parser.add_argument("--beyond", type=float, default=3.0, help="minutes of training after a side is good")
    parser.add_argument("--planned-minutes", type=float, help="end of a falling learning rate; default: the preset's")
    parser.add_argument("--images", type=int, default=IMAGES, help="validate images")
    parser.add_argument("--out", type=Path, default=Path("results/benchmark_time_to_quality.json"))
    parser.add_argument("--figure", type=Path, default=FIGURE)
    arguments = parser.parse_args()
    result = measure(
        arguments.data,
        arguments.out,
        minutes=arguments.minutes,
        beyond=arguments.beyond,
        planned_minutes=arguments.planned_minutes,
        images=arguments.images,
    )
    draw(result, arguments.figure)
    print(table(result) + f"written: {arguments.out}, {arguments.figure}")


if __name__ == "__main__":
    main()
