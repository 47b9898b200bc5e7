"""An audit as a table on a screen; the same lines as text for reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from brainvq.tables import framed

SHOWN = (0.002, 0.05, 0.2)  # false-alarm rates of the ROC


def audit_table(result: Mapping[str, Any]) -> Table:
    """What was flagged, how often held-out slices are, and which copies would be."""
    data, samples = result["data"], result["samples"]
    title = (
        f"{samples['n']:,} samples; {data['images']:,} training slices of {data['subjects']} subjects, "
        f"{data['held_out_images']:,} held-out slices of {data['held_out_subjects']}"
    )
    caption = (
        "[...]: 95 % interval, by bootstrap over subjects or samples. Copies are training\n"
        "slices that went through the tokenizer and were then changed; those in brackets\n"
        "do not count towards the sensitivity."
    )
    return framed(title, caption, ("", "flagged", "of", "%"), audit_rows(result))


def audit_rows(result: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Lines of the table: label, flagged, of how many, share with interval."""
    counted = result["counted_kinds"]
    lines = [
        _line("samples", result["flagged"]),
        _line("held-out slices, cross-fitted", result["false_alarms"]),
        _line("copies", result["sensitivity"]),
        *(_line(f"  {kind}" if kind in counted else f"  ({kind})", found) for kind, found in result["kinds"].items()),
    ]
    roc = result["roc"]
    curve = [
        _line(f"copies, if {100 * allowed:g} % of held-out slices were", found)
        for allowed, found in zip(roc["false_alarms"], roc["sensitivity"], strict=True)
        if allowed in SHOWN
    ]
    area = f"{roc['area']:.3f} [{roc['low']:.3f}, {roc['high']:.3f}]"
    return [*lines, *curve, ("area under the ROC", "", "", area)]


def _line(label: str, found: Mapping[str, Any]) -> tuple[str, str, str, str]:
    share, low, high = (100 * found[name] for name in ("share", "low", "high"))
    return label, f"{found['flagged']:,}", f"{found['images']:,}", f"{share:.1f} [{low:.1f}, {high:.1f}]"
