"""A line of a table of a prior's report."""

from __future__ import annotations

from dataclasses import dataclass

from brainvq.report.markup import Html, join, tag
from brainvq.report.stored import Interval


@dataclass(frozen=True)
class Row:
    """`value`, and `beside` it what it is compared with, which `against` names."""

    label: str
    value: Html | None
    against: str
    beside: Html | None
    words: str


def interval(found: Interval | None, digits: int = 4, scale: float = 1, unit: str = "") -> Html | None:
    """The mean, and its bracket small beside it."""
    if found is None:
        return None
    mean = tag("b", f"{scale * found.mean:.{digits}f}{unit}")
    bracket = found.bracket(digits, scale)
    return mean if bracket is None else join(mean, tag("small", bracket))
