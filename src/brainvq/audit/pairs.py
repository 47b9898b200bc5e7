"""The closest pairs as a picture: each sample beside the training slice that it comes nearest to."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from brainvq.writing import atomic

ACROSS = 5  # pairs in a row
CELL, TEXT, GAP = 1.7, 0.52, 0.14  # inches
TITLE, NOTE = (13, 0.27, 9), (8.5, 0.18, 15)  # points, inches a line, and letters that fit in an inch
DOTS = 120  # an inch
DARK, LIGHT, DIM, RED = "#0f1216", "#e8eaed", "#8b949e", "#ff7b72"


@dataclass(frozen=True, eq=False)
class Pair:
    """Two images (H, W) uint8, what stands below each, and whether the score is above the threshold."""

    sample: NDArray[np.uint8]
    nearest: NDArray[np.uint8]
    below_sample: str
    below_nearest: str
    flagged: bool


def draw_pairs(pairs: Sequence[Pair], title: str, note: str, path: Path) -> None:
    """Write a PNG file, atomically."""
    columns, rows = min(ACROSS, len(pairs)), -(-len(pairs) // ACROSS)
    wide, high = 2 * CELL + GAP, CELL + TEXT
    width = max(columns * wide + GAP, 4 * CELL)
    words = [
        (line, points, inches, weight, colour)
        for text, (points, inches, letters), weight, colour in ((title, TITLE, "bold", LIGHT), (note, NOTE, None, DIM))
        for line in textwrap.wrap(text, int((width - 2 * GAP) * letters))
    ]
    top = 1.5 * GAP + sum(inches for _, _, inches, _, _ in words) + GAP
    height = top + rows * high + GAP / 2
    figure = Figure(figsize=(width, height), facecolor=DARK)
    FigureCanvasAgg(figure)
    down = 1.5 * GAP
    for line, points, inches, weight, colour in words:
        where = (GAP / width, 1 - (down + inches / 2) / height)
        figure.text(*where, line, color=colour, size=points, weight=weight, va="center")
        down += inches
    for n, pair in enumerate(pairs):
        left, bottom = GAP + n % ACROSS * wide, height - top - (n // ACROSS + 1) * high + TEXT
        for k, (image, text) in enumerate(((pair.sample, pair.below_sample), (pair.nearest, pair.below_nearest))):
            axes = figure.add_axes(((left + k * CELL) / width, bottom / height, CELL / width, CELL / height))
            axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="antialiased")
            axes.set_axis_off()
            colour = RED if pair.flagged and not k else LIGHT if not k else DIM
            where = ((left + k * CELL + 0.03) / width, (bottom - 0.05) / height)
            figure.text(*where, text, color=colour, size=7.5, va="top", linespacing=1.3)
    with atomic(path) as file:
        figure.savefig(file, format="png", dpi=DOTS, facecolor=DARK)
