"""The hourglass as a figure for a paper: feature maps as slabs, the codes and their codebook at the waist.

A slab's height is its resolution (to the power 0.6, or the waist would vanish), its thickness the logarithm of its
channels. The head and its codes are drawn, not measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Polygon, Rectangle
from matplotlib.transforms import Affine2D

from brainvq.data.scan import atomic
from brainvq.describe.layers import Layer, Outline, outline
from brainvq.describe.phantom import head
from brainvq.errors import InputError
from brainvq.training.experiment import TokenizerExperiment

SUFFIXES = (".png", ".svg", ".pdf")
TALL, FLATTEN = 4.2, 0.6  # height of the image's slab; exponent of resolution
DEPTH = (0.36, 0.2)  # of a slab, in heights, to the right and upwards
GAP, INCH = 0.42, 0.5  # between slabs; inches a unit
BLUE, RUST, INK, GREY = "#4f81b0", "#c8744f", "#1f2328", "#6e7781"
PALETTE = ("#2b3a55", "#4f81b0", "#86b6d9", "#5aa69b", "#a3c586", "#e6c765", "#df9a57", "#c8744f", "#a4566b", "#6d5a92")


@dataclass(frozen=True)
class Slab:
    """A feature map of `shape` (channels, *S), the `words` above it (what made it), and its side's colour."""

    shape: tuple[int, ...]
    words: str
    symbol: str
    colour: str


def draw(experiment: TokenizerExperiment, size: tuple[int, int], path: Path) -> None:
    """Write the diagram for images of `size` pixels to a PNG, SVG or PDF file.

    Raises:
        InputError: another suffix, a file that exists, a size that does not fit the tokenizer's strides.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: a diagram is one of {', '.join(SUFFIXES)}. Name it .png.")
    if path.exists():
        raise InputError(f"{path} exists; nothing was changed. Give another name, or remove it.")
    figure = _figure(outline(experiment, size))
    kind = path.suffix.lower()[1:]
    dated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    with matplotlib.rc_context({"svg.hashsalt": "brainvq"}), atomic(path) as file:
        figure.savefig(file, format=kind, dpi=300, metadata=dated)


def _figure(found: Outline) -> Figure:
    down, up = _slabs(found)
    figure = Figure(facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    scale = _Scale(max(math.prod(slab.shape[1:]) for slab in (*down, *up)), len(found.size))
    end = _row(axes, down, 0.0, scale)
    waist = _waist(axes, found, end + GAP)
    right = _row(axes, up, waist + GAP, scale)
    floor = -TALL * (1 + DEPTH[1]) / 2 - 1.35
    before, after = found.sides
    _bracket(axes, 0.0, end, floor, f"encoder   {before:,} parameters", BLUE)
    _bracket(axes, waist + GAP, right, floor, f"decoder   {after:,} parameters", RUST)
    box = (-0.35, right + 0.35, floor - 0.6, TALL / 2 + DEPTH[1] * TALL + 0.75)
    axes.set(xlim=box[:2], ylim=box[2:], aspect="equal")
    figure.set_size_inches((box[1] - box[0]) * INCH, (box[3] - box[2]) * INCH)
    return figure


def _slabs(found: Outline) -> tuple[list[Slab], list[Slab]]:
    """Before the quantizer and after it: a slab for each run of layers of one shape."""
    waist, image = found.waist, (1, *found.size)
    latent = found.layers[waist].shape
    down = [Slab(image, "", "$x$", BLUE), *_runs(found.layers[:waist], BLUE)]
    up = [Slab(latent, "", "$z_q$", RUST), *_runs(found.layers[waist + 1 :], RUST)]
    down[-1] = Slab(latent, down[-1].words, "$z$", BLUE)
    up[-1] = Slab(image, up[-1].words, r"$\hat{x}$", RUST)
    return down, up


def _runs(layers: Sequence[Layer], colour: str) -> Iterator[Slab]:
    for shape, run in groupby((layer for layer in layers if layer.shape), key=lambda layer: layer.shape):
        words = [_words(layer) for layer in run]
        shown = words if len(words) < 3 else [words[0], f"+ {len(words) - 1} layers"]
        yield Slab(shape, "\n".join(shown), "", colour)


def _words(layer: Layer) -> str:
    """conv 3 x 3, stride 2"""
    kind = layer.kinds[0]
    name = "conv" if kind.startswith("Conv") else kind
    name = "transposed\nconv" if kind.startswith("ConvTranspose") else name
    kernel = f" {' × '.join(map(str, layer.kernel))}" if layer.kernel else ""
    stride = f"\nstride {layer.stride[0]}" if set(layer.stride) - {1} else ""
    after = f"\n{', '.join(layer.kinds[1:])}" if layer.kinds[1:] else ""
    return f"{name}{kernel}{stride}{after}"


@dataclass(frozen=True)
class _Scale:
    """Drawing units of a feature map."""

    largest: int
    axes: int

    def height(self, shape: Sequence[int]) -> float:
        return TALL * math.pow(math.prod(shape[1:]) / self.largest, FLATTEN / self.axes)

    def thickness(self, shape: Sequence[int]) -> float:
        return 0.1 + 0.075 * math.log2(shape[0])


def _row(axes: Axes, slabs: Sequence[Slab], left: float, scale: _Scale) -> float:
    """Slabs from `left` on, with arrows between them; the right end of the last."""
    for n, slab in enumerate(slabs):
        if n:
            _arrow(axes, left - GAP + 0.06, left - 0.06)
        height, thick = scale.height(slab.shape), scale.thickness(slab.shape)
        width = thick + DEPTH[0] * height
        _slab(axes, left, thick, height, slab)
        middle, top = left + width / 2, height * (1 + DEPTH[1]) / 2
        axes.text(middle, top + 0.14, slab.words, size=6.2, color=GREY, ha="center", va="bottom", linespacing=1.15)
        if slab.symbol:
            axes.text(middle, -top - 0.72, slab.symbol, size=13, color=INK, ha="center", va="top", math_fontfamily="cm")
        channels, *pixels = slab.shape
        axes.text(middle, -top - 0.12, f"{channels}", size=8.5, weight="bold", color=slab.colour, ha="center", va="top")
        axes.text(middle, -top - 0.42, " × ".join(map(str, pixels)), size=6.8, color=INK, ha="center", va="top")
        left += width + GAP
    return left - GAP


def _slab(axes: Axes, left: float, thick: float, height: float, slab: Slab) -> None:
    """An oblique cuboid centred on y = 0; where it is an image, the image is on its side."""
    right, up = DEPTH[0] * height, DEPTH[1] * height
    low = -(height + up) / 2
    front = [(left, low), (left + thick, low), (left + thick, low + height), (left, low + height)]
    side = [front[1], (front[1][0] + right, low + up), (front[1][0] + right, low + up + height), front[2]]
    top = [front[3], front[2], side[2], (left + right, low + up + height)]
    for face, light in ((front, 0.0), (side, 0.28), (top, 0.55)):
        axes.add_patch(Polygon(face, facecolor=_lighter(slab.colour, light), edgecolor="white", linewidth=0.6))
    if slab.shape[0] == 1:
        skew = Affine2D(np.array([[right, 0, side[0][0]], [up, height, low], [0, 0, 1]])) + axes.transData
        picture = axes.imshow(
            head(128)[::-1],
            extent=(0, 1, 0, 1),
            origin="lower",
            cmap="gray",
            vmin=0,
            vmax=1.15,
            transform=skew,
            zorder=3,
        )
        picture.set_clip_path(Polygon(side, transform=axes.transData))


def _waist(axes: Axes, found: Outline, left: float) -> float:
    """Codes with the codebook below them; the right end."""
    spec, side = found.spec, 1.75
    start = left + 0.75
    _arrow(axes, left - GAP + 0.06, start - 0.1)
    axes.text((left - GAP + start) / 2, 0.12, "nearest\nentry", size=6.2, color=GREY, ha="center", va="bottom")
    levels = len(spec.entries)
    for level in reversed(range(levels)):
        shift = 0.12 * level
        _codes(axes, start + shift, -side / 2 + shift, side, min(32, spec.grids(found.size)[level][0]))
    end = start + side + 0.12 * (levels - 1)
    _arrow(axes, end + 0.1, end + 0.75 + GAP - 0.06)
    axes.text(end + 0.1 + (0.65 + GAP) / 2, 0.12, "look\nup", size=6.2, color=GREY, ha="center", va="bottom")
    middle, bits = start + side / 2, spec.bits(found.size)
    grids = " + ".join(" × ".join(map(str, grid)) for grid in spec.grids(found.size))
    axes.text(middle, side / 2 + 0.62, "codes", size=11, weight="bold", color=INK, ha="center", va="bottom")
    told = f"{grids}, {bits:,} bits\n{bits / math.prod(found.size):.3f} bits a pixel"
    axes.text(middle, side / 2 + 0.14, told, size=6.8, color=INK, ha="center", va="bottom", linespacing=1.2)
    _codebook(axes, middle, -side / 2 - 0.55, found)
    return end + 0.75


def _codes(axes: Axes, left: float, low: float, side: float, cells: int) -> None:
    """A grid of entries, coloured by their index as labels are: the phantom's grey levels with some play."""
    play = np.random.default_rng(3).uniform(0, 0.16, (cells, cells))
    levels = np.clip((head(cells * 8).reshape(cells, 8, cells, 8).mean((1, 3)) * 0.84 + play) * 10, 0, 9).astype(int)
    colours = np.array([to_rgb(colour) for colour in PALETTE])[levels]
    axes.imshow(colours[::-1], extent=(left, left + side, low, low + side), origin="lower", interpolation="nearest")
    lines: Any = np.linspace(0, side, cells + 1)
    axes.vlines(left + lines, low, low + side, color="white", linewidth=0.35)
    axes.hlines(low + lines, left, left + side, color="white", linewidth=0.35)


def _codebook(axes: Axes, middle: float, top: float, found: Outline) -> None:
    """Entries as columns of cells, shades of the colours that the codes have."""
    shades = np.random.default_rng(1).uniform(0, 0.6, (6, len(PALETTE)))
    width, cell = 0.2, 0.13
    left = middle - width * len(PALETTE) / 2
    for column, colour in enumerate(PALETTE):
        for row in range(6):
            place = (left + column * width, top - (row + 1) * cell)
            face = _lighter(colour, shades[row, column])
            axes.add_patch(Rectangle(place, width * 0.84, cell, facecolor=face, edgecolor="white", linewidth=0.3))
    arrow = FancyArrowPatch((middle, top + 0.08), (middle, top + 0.5), arrowstyle="<->", mutation_scale=6, color=GREY)
    axes.add_patch(arrow)
    entries = " + ".join(f"{n:,}" for n in found.spec.entries)
    below = top - 6 * cell - 0.12
    axes.text(middle, below, "codebook", size=8.5, weight="bold", color=INK, ha="center", va="top")
    told = f"{entries} entries of {found.layers[found.waist].shape[0]}"
    axes.text(middle, below - 0.34, told, size=6.8, color=INK, ha="center", va="top")


def _arrow(axes: Axes, start: float, end: float) -> None:
    axes.add_patch(FancyArrowPatch((start, 0), (end, 0), arrowstyle="-|>", mutation_scale=7, color=GREY, linewidth=0.8))


def _bracket(axes: Axes, left: float, right: float, y: float, words: str, colour: str) -> None:
    axes.plot([left, left, right, right], [y + 0.12, y, y, y + 0.12], color=colour, linewidth=0.9)
    axes.text((left + right) / 2, y - 0.12, words, size=8.5, color=colour, ha="center", va="top")


def _lighter(colour: str, amount: float) -> tuple[float, ...]:
    return tuple(1 - (1 - channel) * (1 - amount) for channel in to_rgb(colour))
