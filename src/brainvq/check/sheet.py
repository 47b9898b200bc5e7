"""A contact sheet: a few subjects, a few slices of each, so that an eye can see what a table cannot.

Of pictures the files as they are. Of volumes the middle axial, coronal and sagittal slices and more axial ones of the
head, upright: the front or the top of the head is up, its right side, or in a sagittal slice its front, is on the
right, if the file says correctly which is which.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from numpy.typing import NDArray

from brainvq.check.roll import Items, call_roll, folder_of
from brainvq.data.labels import label_maps
from brainvq.data.layouts import Layout, find_layout, natural
from brainvq.data.look_cache import known_labels
from brainvq.data.planes import AXES, Plane, as_slices, spacing_along, spacing_of
from brainvq.data.scan import atomic, read
from brainvq.data.slicing import Slicing
from brainvq.data.subjects import Item
from brainvq.data.windows import fraction, volume_window, window_of
from brainvq.errors import InputError, counted, printable
from brainvq.head import head_in_volume

ROWS, COLUMNS = 6, 8
AXIAL = 4  # slices of a volume beside the middle ones; an even number spreads around the middle
CELL = 1.4  # inches
DOTS = 130  # an inch
LEFT, TOP, GAP, EDGE = 1.7, 0.95, 0.07, 0.3  # inches
POINTS = 72  # an inch
LONGEST = 40  # letters of a name that are tried
NAME = FontProperties(size=11)  # of a subject
DARK, LIGHT, DIM, RED = "#0f1216", "#e8eaed", "#8b949e", "#ff7b72"
COLOURS = {"train": "#79c0ff", "validate": "#d2a8ff", "test": "#7ee787", "all": LIGHT}
Row = tuple[str, str, list[Item]]  # split, subject, its scans


@dataclass(frozen=True, eq=False)
class Cell:
    """`image` 0..1, None where the file cannot be read; `aspect`: height of a pixel for a width of one."""

    image: NDArray[Any] | None
    label: str
    aspect: float = 1.0


def contact_sheet(data: str, path: Path, *, subject_pattern: str | None = None, suffix: str = "T1w") -> None:
    """Draw up to 6 subjects of all splits by 8 slices into a PNG file; a file that cannot be read has its place too.

    Raises:
        InputError: the folder cannot be opened, or `path` cannot be written; and what `refuse_sheet` raises.
    """
    refuse_sheet(data, path)
    folder = folder_of(data)
    layout = find_layout(folder, suffix)
    items = call_roll(folder, layout, _labels(layout), subject_pattern).items
    figure = _draw(Path(data).name or data, items, _rows(items), layout.volumes)
    with atomic(path) as file:
        figure.savefig(file, format="png", dpi=DOTS, facecolor=DARK)


def refuse_sheet(data: str, path: Path) -> None:
    """Raises InputError where `path` is not a .png, exists already, or lies inside the data."""
    if path.suffix.lower() != ".png":
        raise InputError(f"{path}: a contact sheet is a PNG file. Name it .png.")
    if path.exists():
        raise InputError(f"{path} exists; nothing was changed. Give another name, or remove it.")
    if path.resolve().is_relative_to(folder_of(data).resolve()):
        raise InputError(f"{path}: would lie inside the data {data}, and be read with them. Name a file elsewhere.")


def _labels(layout: Layout) -> set[Path]:
    paths = [path for own in layout.images.values() for path in own]
    return label_maps(paths, layout.files, known_labels(paths))


def _rows(items: Items) -> list[Row]:
    """The subjects to show: evenly from each split, by its size, one at least."""
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


def _draw(title: str, items: Items, rows: Sequence[Row], volumes: bool) -> Figure:
    columns = len(AXES) + AXIAL if volumes else min(COLUMNS, max((len(own) for _, _, own in rows), default=1))
    width = LEFT + columns * (CELL + GAP) + EDGE
    height = TOP + max(1, len(rows)) * (CELL + GAP + 0.16) + EDGE / 2
    figure = Figure(figsize=(width, height), facecolor=DARK)
    FigureCanvasAgg(figure)
    what = "volume" if volumes else "image"
    name = printable(title)
    figure.text(
        EDGE / width, 1 - 0.42 / height, name, color=LIGHT, size=17, weight="bold", va="center", parse_math=False
    )
    told = [
        f"{split} {counted(len({item.subject for item in own}), 'subject')}, {counted(len(own), what)}"
        for split, own in items.items()
    ]
    text = "   ·   ".join([_part(items, rows, volumes), *told])
    figure.text(EDGE / width, 1 - 0.72 / height, text, color=DIM, size=9.5)
    for row, (split, subject, own) in enumerate(rows):
        bottom = height - TOP - (row + 1) * (CELL + GAP + 0.16) + GAP + 0.16
        middle = (bottom + CELL / 2) / height
        name = _short(printable(subject))
        at = EDGE / width, middle + 0.09 / height
        figure.text(*at, name, color=LIGHT, fontproperties=NAME, va="bottom", parse_math=False)
        figure.text(EDGE / width, middle + 0.02 / height, split, color=COLOURS[split], size=9, va="top")
        for column, cell in enumerate(cells_of_volume(own[0]) if volumes else _cells_of_pictures(own, columns)):
            _show(figure, (LEFT + column * (CELL + GAP), bottom, CELL, CELL), cell)
    return figure


def _part(items: Items, rows: Sequence[Row], volumes: bool) -> str:
    """How much of it all is shown."""
    members = [item for own in items.values() for item in own]
    if volumes:
        return f"{len(rows):,} of {counted(len(members), 'volume')} shown"
    subjects = len({(split, item.subject) for split, own in items.items() for item in own})
    return f"{len(rows):,} of {counted(subjects, 'subject')} shown, of {counted(len(members), 'image')}"


def _cells_of_pictures(own: list[Item], columns: int) -> Iterator[Cell]:
    for index in _spread(len(own), columns):
        label = f"{index + 1} of {len(own)}"
        try:
            voxels = read(own[index].path).voxels
        except InputError:
            yield Cell(None, label)
        else:
            yield Cell(fraction(voxels, window_of(voxels)), label)


def cells_of_volume(item: Item) -> Iterator[Cell]:
    """The row of one volume, from left to right."""
    try:
        scan = read(item.path, files=item.files)
    except InputError:
        yield Cell(None, "")
        return
    assert scan.affine is not None
    window, reach = volume_window(scan.voxels, spacing_of(scan.affine))
    stacks = {plane: as_slices(scan.voxels, scan.affine, plane) for plane in AXES}
    middles: list[tuple[Plane, int]] = [(plane, len(stacks[plane]) // 2) for plane in reversed(AXES)]
    head = as_slices(head_in_volume(scan.voxels, spacing_of(scan.affine)), scan.affine, "axial")
    shown = Slicing().indices(head)
    others: list[tuple[Plane, int]] = [("axial", shown[k]) for k in _spread(len(shown), AXIAL)]
    for plane, index in middles + others:
        across, up = (mm for axis, mm in enumerate(spacing_along(scan.affine)) if axis != AXES[plane])
        upright = np.rot90(fraction(stacks[plane][index], window, reach))
        yield Cell(upright, f"{plane} {index + 1} of {len(stacks[plane])}", up / across)


def _show(figure: Figure, place: tuple[float, float, float, float], cell: Cell) -> None:
    width, height = figure.get_size_inches()
    left, bottom, wide, high = place
    axes = figure.add_axes((left / width, bottom / height, wide / width, high / height), facecolor="#161b22")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.set_xlabel(cell.label, color=DIM, size=7, labelpad=2)
    if cell.image is None:
        axes.text(0.5, 0.5, "cannot be\nread", color=RED, size=9, ha="center", va="center", transform=axes.transAxes)
        return
    axes.imshow(cell.image, cmap="gray", vmin=0, vmax=1, interpolation="lanczos", aspect=cell.aspect)


def _short(subject: str) -> str:
    """Cut in the middle, for names often differ in their ends, until it keeps clear of the first picture."""
    shown, kept = subject, min(len(subject), LONGEST)
    while _width(shown) > LEFT - EDGE - 2 * GAP or len(shown) > LONGEST:
        kept -= 1
        shown = f"{subject[: (kept + 1) // 2]}…{subject[len(subject) - kept // 2 :]}"
    return shown


def _width(text: str) -> float:
    """Inches."""
    width, _, _ = text_to_path.get_text_width_height_descent(text, NAME, ismath=False)
    return float(width) / POINTS
