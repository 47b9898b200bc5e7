"""The hourglass as a figure for a paper: feature maps as slabs, the codes and their codebook at the waist.

A prior has a figure of its own (`prior_diagram.py`).
"""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

from brainvq.data.scan import atomic
from brainvq.describe.layers import Outline
from brainvq.describe.prior_diagram import prior_figure
from brainvq.describe.shapes import (
    BLUE,
    DEPTH,
    GAP,
    GREY,
    INK,
    PALETTE,
    RUST,
    TALL,
    Scale,
    Slab,
    arrow,
    bracket,
    canvas,
    codes,
    fit,
    lighter,
    row,
    runs,
)
from brainvq.describe.watch import outline
from brainvq.errors import InputError
from brainvq.training.experiment import Experiment
from brainvq.training.prior_experiment import PriorExperiment

SUFFIXES = (".png", ".svg", ".pdf")


def draw(experiment: Experiment, size: tuple[int, int], path: Path) -> None:
    """Write the diagram for images of `size` pixels to a PNG, SVG or PDF file.

    Raises:
        InputError: another suffix, a file that exists, a size that does not fit the tokenizer's strides or the prior.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: a diagram is one of {', '.join(SUFFIXES)}. Name it .png.")
    if path.exists():
        raise InputError(f"{path} exists; nothing was changed. Give another name, or remove it.")
    if isinstance(experiment, PriorExperiment):
        figure = prior_figure(experiment, size)
    else:
        figure = _figure(outline(experiment, size))
    kind = path.suffix.lower()[1:]
    dated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    with matplotlib.rc_context({"svg.hashsalt": "brainvq"}), atomic(path) as file:
        figure.savefig(file, format=kind, dpi=300, metadata=dated)


def _figure(found: Outline) -> Figure:
    down, up = _slabs(found)
    figure, axes = canvas()
    scale = Scale(max(math.prod(slab.shape[1:]) for slab in (*down, *up)), len(found.size))
    end = row(axes, down, 0.0, scale)
    waist = _waist(axes, found, end + GAP)
    right = row(axes, up, waist + GAP, scale)
    floor = -TALL * (1 + DEPTH[1]) / 2 - 1.35
    before, after = found.sides
    bracket(axes, 0.0, end, floor, f"encoder   {before:,} parameters", BLUE)
    bracket(axes, waist + GAP, right, floor, f"decoder   {after:,} parameters", RUST)
    return fit(figure, axes, -0.35, right + 0.35, floor - 0.6, TALL / 2 + DEPTH[1] * TALL + 0.75)


def _slabs(found: Outline) -> tuple[list[Slab], list[Slab]]:
    """Before the quantizer and after it: a slab for each run of layers of one shape."""
    waist, image = found.waist, (1, *found.size)
    latent = found.layers[waist].shape
    down = [Slab(image, "", "$x$", BLUE), *runs(found.layers[:waist], BLUE)]
    up = [Slab(latent, "", "$z_q$", RUST), *runs(found.layers[waist + 1 :], RUST)]
    down[-1] = Slab(latent, down[-1].words, "$z$", BLUE)
    up[-1] = Slab(image, up[-1].words, r"$\hat{x}$", RUST)
    return down, up


def _waist(axes: Axes, found: Outline, left: float) -> float:
    """Codes with the codebook below them; the right end."""
    spec, side = found.spec, 1.75
    start = left + 0.75
    arrow(axes, left - GAP + 0.06, start - 0.1)
    axes.text((left - GAP + start) / 2, 0.12, "nearest\nentry", size=6.2, color=GREY, ha="center", va="bottom")
    levels = len(spec.entries)
    for level in reversed(range(levels)):
        shift = 0.12 * level
        codes(axes, start + shift, -side / 2 + shift, side, min(32, found.grids[level][0]))
    end = start + side + 0.12 * (levels - 1)
    arrow(axes, end + 0.1, end + 0.75 + GAP - 0.06)
    axes.text(end + 0.1 + (0.65 + GAP) / 2, 0.12, "look\nup", size=6.2, color=GREY, ha="center", va="bottom")
    middle, bits = start + side / 2, spec.bits(found.size)
    grids = " + ".join(" × ".join(map(str, grid)) for grid in found.grids)
    axes.text(middle, side / 2 + 0.62, "codes", size=11, weight="bold", color=INK, ha="center", va="bottom")
    told = f"{grids}, {bits:,} bits\n{bits / math.prod(found.size):.3f} bits a pixel"
    axes.text(middle, side / 2 + 0.14, told, size=6.8, color=INK, ha="center", va="bottom", linespacing=1.2)
    _codebook(axes, middle, -side / 2 - 0.55, found)
    return end + 0.75


def _codebook(axes: Axes, middle: float, top: float, found: Outline) -> None:
    """Entries as columns of cells, shades of the colours that the codes have."""
    shades = np.random.default_rng(1).uniform(0, 0.6, (6, len(PALETTE)))
    width, cell = 0.2, 0.13
    left = middle - width * len(PALETTE) / 2
    for column, colour in enumerate(PALETTE):
        for depth in range(6):
            place = (left + column * width, top - (depth + 1) * cell)
            face = lighter(colour, shades[depth, column])
            axes.add_patch(Rectangle(place, width * 0.84, cell, facecolor=face, edgecolor="white", linewidth=0.3))
    both = FancyArrowPatch((middle, top + 0.08), (middle, top + 0.5), arrowstyle="<->", mutation_scale=6, color=GREY)
    axes.add_patch(both)
    entries = " + ".join(f"{n:,}" for n in found.spec.entries)
    below = top - 6 * cell - 0.12
    axes.text(middle, below, "codebook", size=8.5, weight="bold", color=INK, ha="center", va="top")
    told = f"{entries} entries of {found.layers[found.waist].shape[0]}"
    axes.text(middle, below - 0.34, told, size=6.8, color=INK, ha="center", va="top")
