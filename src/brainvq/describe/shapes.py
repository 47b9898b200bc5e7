"""What figures are made of: feature maps as slabs, grids of codes, arrows, brackets.

A slab's height is its resolution (to the power 0.6, or small ones would vanish), its thickness the logarithm of its
channels. The head and its codes are drawn, not measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Polygon
from matplotlib.transforms import Affine2D

from brainvq.describe.layers import Group, Layer, folded
from brainvq.describe.phantom import head

TALL, FLATTEN = 4.2, 0.6  # height of the image's slab; exponent of resolution
DEPTH = (0.36, 0.2)  # of a slab, in heights, to the right and upwards
GAP, INCH = 0.42, 0.5  # between slabs; inches a unit
BLUE, RUST, INK, GREY = "#4f81b0", "#c8744f", "#1f2328", "#6e7781"
PALETTE = ("#2b3a55", "#4f81b0", "#86b6d9", "#5aa69b", "#a3c586", "#e6c765", "#df9a57", "#c8744f", "#a4566b", "#6d5a92")
SMALLEST = 8  # pixels a side of an image that a head can be seen in


@dataclass(frozen=True)
class Slab:
    """A feature map of `shape` (channels, *S), the `words` above it (what made it), and its side's colour."""

    shape: tuple[int, ...]
    words: str
    symbol: str
    colour: str


def canvas() -> tuple[Figure, Axes]:
    """An empty figure; `fit` gives it its size."""
    figure = Figure(facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    return figure, axes


def fit(figure: Figure, axes: Axes, left: float, right: float, low: float, high: float) -> Figure:
    """Show this part of the drawing, at `INCH` a unit."""
    axes.set(xlim=(left, right), ylim=(low, high), aspect="equal")
    figure.set_size_inches((right - left) * INCH, (high - low) * INCH)
    return figure


def runs(layers: Sequence[Layer], colour: str) -> Iterator[Slab]:
    """A slab for each run of layers of one shape; repeated blocks are named, not drawn."""
    for shape, run in groupby((layer for layer in layers if layer.shape), key=lambda layer: layer.shape):
        words = [_block(group) if group.kind else _words(group.layers[0]) for group in folded(tuple(run))]
        shown = words if len(words) < 4 else [words[0], f"+ {len(words) - 1} layers"]
        yield Slab(shape, "\n".join(shown), "", colour)


def _block(group: Group) -> str:
    return f"{len(group.paths)} × {group.kind}"


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
class Scale:
    """Drawing units of a feature map."""

    largest: int
    axes: int

    def height(self, shape: Sequence[int]) -> float:
        return TALL * math.pow(math.prod(shape[1:]) / self.largest, FLATTEN / self.axes)

    def thickness(self, shape: Sequence[int]) -> float:
        return 0.1 + 0.075 * math.log2(shape[0])


def row(axes: Axes, slabs: Sequence[Slab], left: float, scale: Scale) -> float:
    """Slabs from `left` on, with arrows between them; the right end of the last."""
    for n, slab in enumerate(slabs):
        if n:
            arrow(axes, left - GAP + 0.06, left - 0.06)
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
        axes.add_patch(Polygon(face, facecolor=lighter(slab.colour, light), edgecolor="white", linewidth=0.6))
    if slab.shape[0] == 1 and min(slab.shape[1:]) >= SMALLEST:
        skew = Affine2D(np.array([[right, 0, side[0][0]], [up, height, low], [0, 0, 1]])) + axes.transData
        picture = axes.imshow(
            head(min(128, slab.shape[1]))[::-1],
            extent=(0, 1, 0, 1),
            origin="lower",
            cmap="gray",
            vmin=0,
            vmax=1.15,
            transform=skew,
            zorder=3,
        )
        picture.set_clip_path(Polygon(side, transform=axes.transData))


def codes(axes: Axes, left: float, low: float, side: float, cells: int) -> None:
    """A grid of entries, coloured by their index as labels are: the phantom's grey levels with some play."""
    play = np.random.default_rng(3).uniform(0, 0.16, (cells, cells))
    levels = np.clip((head(cells * 8).reshape(cells, 8, cells, 8).mean((1, 3)) * 0.84 + play) * 10, 0, 9).astype(int)
    colours = np.array([to_rgb(colour) for colour in PALETTE])[levels]
    axes.imshow(colours[::-1], extent=(left, left + side, low, low + side), origin="lower", interpolation="nearest")
    lines: Any = np.linspace(0, side, cells + 1)
    axes.vlines(left + lines, low, low + side, color="white", linewidth=0.35)
    axes.hlines(low + lines, left, left + side, color="white", linewidth=0.35)


def arrow(axes: Axes, start: float, end: float) -> None:
    axes.add_patch(FancyArrowPatch((start, 0), (end, 0), arrowstyle="-|>", mutation_scale=7, color=GREY, linewidth=0.8))


def bracket(axes: Axes, left: float, right: float, y: float, words: str, colour: str) -> None:
    axes.plot([left, left, right, right], [y + 0.12, y, y, y + 0.12], color=colour, linewidth=0.9)
    axes.text((left + right) / 2, y - 0.12, words, size=8.5, color=colour, ha="center", va="top")


def lighter(colour: str, amount: float) -> tuple[float, ...]:
    return tuple(1 - (1 - channel) * (1 - amount) for channel in to_rgb(colour))
