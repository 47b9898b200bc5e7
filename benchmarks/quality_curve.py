"""When a training became good: of the curve that time_to_quality.py measures, its table and its figure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from benchmarks.stored import device_of
from brainvq.report.ink import FIRST, MUTED, SECOND, SETTINGS

OURS, THEIRS = "brain_f8", "keras_f8"
GOALS = {"ssim": 0.80, "ssim_foreground": 0.75}
LABELS = {"ssim": "SSIM", "ssim_foreground": "SSIM, foreground"}

Point = dict[str, float]
"""Of a curve: seconds of training, step, and each measure."""


def reached(curve: Sequence[Point]) -> float | None:
    """Seconds until all goals were first met at once."""
    return next((point["seconds"] for point in curve if _good(point)), None)


def held_since(curve: Sequence[Point]) -> float | None:
    """Seconds from which on all goals were met to the end of the curve."""
    since = None
    for point in reversed(curve):
        if not _good(point):
            break
        since = point["seconds"]
    return since


def _good(point: Point) -> bool:
    return all(point[name] >= goal for name, goal in GOALS.items())


def sooner(sides: dict[str, Any]) -> dict[str, Any] | None:
    """How many times sooner ours is good, `over` where the other never was; None where ours is not good itself."""
    ours, theirs = sides[OURS]["reached_s"], sides[THEIRS]["reached_s"]
    if ours is None:
        return None
    return {"times": (theirs or sides[THEIRS]["trained_s"]) / ours, "over": theirs is None}


def table(result: dict[str, Any]) -> str:
    """The rows of the documentation, and how many times sooner."""
    goals = " and ".join(f"{LABELS[name]} {goal:.2f}" for name, goal in result["goals"].items())
    lines = [
        f"| | minutes of training until {goals} | stays so from minute "
        "| SSIM and SSIM, foreground at the end | trained |",
        "|---|---|---|---|---|",
    ]
    for name, side in result["sides"].items():
        last = side["curve"][-1]
        cells = [
            f"`{name}`",
            _minutes(side["reached_s"]) or f"not within {side['trained_s'] / 60:.0f}",
            _minutes(side["held_since_s"]) or "-",
            f"{last['ssim']:.3f}, {last['ssim_foreground']:.3f}",
            f"{side['trained_s'] / 60:.1f} min",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    facts = result["hardware"]
    device = device_of(facts)
    lines.append(
        f"\n{told(result['times_sooner'])} One run of each in turn on {device}; {result['validate_images']} validate "
        "slices spread over all subjects, looked at every 15 s of training for five minutes and every 30 s later."
    )
    return "\n".join(lines) + "\n"


def told(found: dict[str, Any] | None) -> str:
    if found is None:
        return f"`{OURS}` did not get there."
    if found["over"]:
        return f"`{OURS}` is there over {math.floor(found['times'])} times sooner: `{THEIRS}` never was."
    return f"`{OURS}` is there {found['times']:.1f} times sooner."


def _minutes(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds / 60:.1f}"


def draw(result: dict[str, Any], path: Path) -> None:
    """Both measures over minutes, with their goals."""
    with matplotlib.rc_context({**SETTINGS, "svg.hashsalt": "time-to-quality"}):
        figure = Figure((9.4, 3.2), layout="constrained")
        for axes, (name, goal) in zip(figure.subplots(1, 2), result["goals"].items(), strict=True):
            for (side, found), colour in zip(result["sides"].items(), (FIRST, SECOND), strict=True):
                minutes = [point["seconds"] / 60 for point in found["curve"]]
                axes.plot(minutes, [point[name] for point in found["curve"]], color=colour, label=side)
            axes.axhline(goal, color=MUTED, linewidth=1, linestyle=(0, (3, 3)))
            axes.set(xlabel="minutes of training", xscale="log", ylim=(0.4, 1))
            axes.set_title(LABELS[name], loc="left")
            axes.xaxis.set_major_formatter("{x:g}")
            axes.legend(loc="upper left")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, facecolor="white", metadata={"Date": None})
