"""A contact sheet: a few subjects, a few slices of each, so that an eye can see what a table cannot."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from brainvq.check.roll import Items, call_roll, folder_of
from brainvq.data.labels import label_maps
from brainvq.data.layouts import Layout, find_layout, natural
from brainvq.data.scan import atomic, read
from brainvq.data.subjects import Item
from brainvq.data.windows import fraction, window_of
from brainvq.errors import InputError

ROWS, COLUMNS = 6, 8
CELL = 1.4  # inches
DOTS = 130  # an inch
LEFT, TOP, GAP, EDGE = 1.25, 0.95, 0.07, 0.3  # inches
DARK, LIGHT, DIM, RED = "#0f1216", "#e8eaed", "#8b949e", "#ff7b72"
COLOURS = {"train": "#79c0ff", "validate": "#d2a8ff", "test": "#7ee787", "all": LIGHT}


def contact_sheet(data: str, path: Path, *, subject_pattern: str | None = None) -> None:
    """Draw up to 6 subjects of all splits by 8 slices into a PNG file; a file that cannot be read has its place too.

    Raises:
        InputError: the folder cannot be opened, `path` is not a .png, exists already or cannot be written.
    """
    if path.suffix.lower() != ".png":
        raise InputError(f"{path}: a contact sheet is a PNG file. Name it .png.")
    if path.exists():
        raise InputError(f"{path} exists; nothing was changed. Give another name, or remove it.")
    folder = folder_of(data)
    layout = find_layout(folder)
    items = call_roll(folder, layout, _labels(layout), subject_pattern).items
    figure = _draw(Path(data).name or data, items, _rows(items))
    with atomic(path) as file:
        figure.savefig(file, format="png", dpi=DOTS, facecolor=DARK)


def _labels(layout: Layout) -> set[Path]:
    """Label maps; none where a file that cannot be read is among the samples, since the sheet only shows."""
    try:
        return label_maps([path for paths in layout.images.values() for path in paths], layout.files)
    except InputError:
        return set()


def _rows(items: Items) -> list[tuple[str, str, list[Item]]]:
    """Split, subject and slices of the subjects to show: evenly from each split, by its size, one at least."""
    rows = []
    whole = sum(len({item.subject for item in members}) for members in items.values())
    for split, members in items.items():
        ordered = sorted(members, key=lambda item: (natural(item.subject), natural(item.name)))
        subjects = [(name, list(own)) for name, own in groupby(ordered, key=lambda item: item.subject)]
        wanted = max(1, round(min(ROWS, whole) * len(subjects) / whole))
        rows += [(split, *subjects[index]) for index in _spread(len(subjects), wanted)]
    return rows


def _spread(count: int, wanted: int) -> list[int]:
    """Up to `wanted` of `count` places, even, the ends left a little aside."""
    wanted = min(count, wanted)
    return [int((2 * place + 1) * count / (2 * wanted)) for place in range(wanted)]


def _draw(title: str, items: Items, rows: Sequence[tuple[str, str, list[Item]]]) -> Figure:
    columns = min(COLUMNS, max((len(own) for _, _, own in rows), default=1))
    width = LEFT + columns * (CELL + GAP) + EDGE
    height = TOP + max(1, len(rows)) * (CELL + GAP + 0.16) + EDGE / 2
    figure = Figure(figsize=(width, height), facecolor=DARK)
    FigureCanvasAgg(figure)
    images = sum(map(len, items.values()))
    figure.text(EDGE / width, 1 - 0.42 / height, title, color=LIGHT, size=17, weight="bold", va="center")
    told = [f"{split} {len({i.subject for i in own}):,} subjects, {len(own):,} images" for split, own in items.items()]
    figure.text(
        EDGE / width, 1 - 0.72 / height, f"{images:,} images   ·   " + "   ·   ".join(told), color=DIM, size=9.5
    )
    for row, (split, subject, own) in enumerate(rows):
        bottom = height - TOP - (row + 1) * (CELL + GAP + 0.16) + GAP + 0.16
        middle = (bottom + CELL / 2) / height
        figure.text(EDGE / width, middle + 0.09 / height, _short(subject), color=LIGHT, size=11, va="bottom")
        figure.text(EDGE / width, middle + 0.02 / height, split, color=COLOURS[split], size=9, va="top")
        for column, index in enumerate(_spread(len(own), columns)):
            place = (LEFT + column * (CELL + GAP), bottom, CELL, CELL)
            _cell(figure, place, own[index], f"{index + 1} of {len(own)}")
    return figure


def _cell(figure: Figure, place: tuple[float, float, float, float], item: Item, label: str) -> None:
    width, height = figure.get_size_inches()
    left, bottom, wide, high = place
    axes = figure.add_axes((left / width, bottom / height, wide / width, high / height), facecolor="#161b22")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.set_xlabel(label, color=DIM, size=7, labelpad=2)
    try:
        voxels = read(item.path).voxels
    except InputError:
        axes.text(0.5, 0.5, "cannot be\nread", color=RED, size=9, ha="center", va="center", transform=axes.transAxes)
        return
    axes.imshow(np.asarray(fraction(voxels, window_of(voxels))), cmap="gray", vmin=0, vmax=1, interpolation="lanczos")


def _short(subject: str) -> str:
    return subject if len(subject) <= 10 else subject[:9] + "…"
