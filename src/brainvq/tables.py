"""The results of `evaluate.py` as tables on a screen; `rows` gives the same cells as text, for reports and docs."""

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.table import Table

from brainvq.metrics.definitions import MEASURES

BASELINES = {"black": "all black", "mean_train_image": "mean train image", "previous_slice": "previous slice"}
HEADINGS = {"black": "black", "mean_train_image": "mean image", "previous_slice": "previous"}


def table(result: Mapping[str, Any]) -> Table:
    """The measures beside the baselines, for the screen."""
    data = result["data"]
    title = f"{data['name']}, {result['split']}: {data['images']:,} images of {data['subjects']} subjects"
    caption = (
        "[...]: 95 % interval by bootstrap over subjects. Beside the model: a black\n"
        "image, the mean train image, the previous slice of the same subject."
    )
    left = {"title_justify": "left", "caption_justify": "left"}
    shown = Table(title=title, caption=caption, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), **left)  # type: ignore[arg-type]
    shown.add_column("measure", no_wrap=True)
    for label in ("model", *(HEADINGS[name] for name in result["baselines"])):
        shown.add_column(label, justify="right", no_wrap=True)
    for row in rows(result):
        shown.add_row(*row)
    return shown


def rows(result: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Lines of the table as text: label, model with its interval, then each baseline's mean."""
    lines = []
    for name, found in result["measures"].items():
        beside = [_number(b[name]["mean"], name) if name in b else "-" for b in result["baselines"].values()]
        lines.append((_label(name), _with_interval(found, name), *beside))
    usage, blank = result["usage"], ("",) * len(result["baselines"])
    entries = usage["live_entries"] + usage["dead_entries"]
    lines.append(("live entries", f"{usage['live_entries']:,} of {entries:,}", *blank))
    lines.append(("perplexity", f"{usage['perplexity']:.1f}", *blank))
    for kind in ("nominal", "entropy", "held_out"):
        rate = usage[f"{kind}_bits_per_pixel"]
        lines.append((f"bits a pixel, {kind.replace('_', ' ')}", "-" if rate is None else f"{rate:.4f}", *blank))
    return lines


def difference_table(compared: Mapping[str, Any]) -> Table:
    """Paired differences, for the screen."""
    shown = Table(title="Difference, paired by subject", caption="95 % intervals by bootstrap over subjects")
    for label in ("measure", "difference", "subjects better"):
        shown.add_column(label, justify="left" if label == "measure" else "right")
    for name, found in compared["differences"].items():
        shown.add_row(
            _label(name), _with_interval(found, name, sign="+"), f"{found['subjects_better']} of {found['subjects']}"
        )
    return shown


def _label(name: str) -> str:
    measure = MEASURES[name]
    return f"{measure.label} ({measure.unit})" if measure.unit else measure.label


def _number(value: float, name: str, sign: str = "") -> str:
    return f"{value:{sign}.2f}" if MEASURES[name].unit else f"{value:{sign}.4f}"


def _with_interval(found: Mapping[str, Any], name: str, sign: str = "") -> str:
    if found["low"] is None:
        return _number(found["mean"], name, sign)
    low, high = (_number(found[edge], name, sign) for edge in ("low", "high"))
    return f"{_number(found['mean'], name, sign)} [{low}, {high}]"
