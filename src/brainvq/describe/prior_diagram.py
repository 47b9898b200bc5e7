"""Priors as figures: the two networks of a GAN, the stacks of a PixelCNN, the table of a histogram.

The codes and the counts in them are drawn, not measured.
"""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from brainvq.describe.layers import Outline
from brainvq.describe.prior import described_spec
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
from brainvq.describe.watch import prior_outline
from brainvq.priors import dcgan, histogram, pixelcnn
from brainvq.training.prior_experiment import PriorExperiment

Point = tuple[float, float]
COUNTS = (0.05, 0.1, 0.15, 0.2, 0.5, 1.2, 2.4, 1.4, 0.35, 0.05)  # of the entries at one position
UP, LOW = 1.55, -1.55  # of the vertical and of the horizontal stack of a PixelCNN


def prior_figure(experiment: PriorExperiment, size: tuple[int, int]) -> Figure:
    """Over the codes of system B for images of `size` pixels."""
    found, config = prior_outline(experiment, described_spec(), size), experiment.prior
    if isinstance(config, dcgan.Config):
        return _two_networks(found, config)
    if isinstance(config, pixelcnn.Config):
        return _stacks(found, config)
    if isinstance(config, histogram.Config):
        return _table(found)
    figure, axes = canvas()
    slabs = list(runs(found.layers, BLUE))
    scale = Scale(max((math.prod(slab.shape[1:]) for slab in slabs), default=1), len(found.size))
    right = row(axes, slabs, 0.0, scale)
    return fit(figure, axes, -0.35, right + 0.35, -TALL, TALL)


def _two_networks(found: Outline, config: dcgan.Config) -> Figure:
    """The generator to the left of the image of indices, the discriminator to the right, the codes below it."""
    figure, axes = canvas()
    grid = found.grids[0]
    up = list(runs(found.of("generator"), RUST))
    up = [Slab((config.latent, 1, 1), "", "$z$", RUST), *up]
    down = list(runs(found.of("discriminator"), BLUE))
    scale = Scale(math.prod(grid), len(grid))
    left = row(axes, up[:-1], 0.0, scale)
    arrow(axes, left + 0.06, left + GAP - 0.06)
    middle = Slab(up[-1].shape, up[-1].words, "", GREY)
    end = row(axes, [middle], left + GAP, scale)
    arrow(axes, end + 0.06, end + GAP - 0.06)
    right = row(axes, down, end + GAP, scale)
    centre, low = (left + GAP + end) / 2, -TALL * (1 + DEPTH[1]) / 2
    _codes_below(axes, centre, low - 0.85, found, config)
    for start, stop, name, colour in ((0.0, left, "generator", RUST), (end + GAP, right, "discriminator", BLUE)):
        bracket(axes, start, stop, low - 1.35, f"{name}   {found.parameters[name]:,} parameters", colour)
    axes.text(right + 0.12, 0, "real or\ngenerated?", size=8, color=INK, ha="left", va="center")
    return fit(figure, axes, -0.35, right + 2.1, low - 4.0, TALL / 2 + DEPTH[1] * TALL + 0.75)


def _codes_below(axes: Axes, centre: float, top: float, found: Outline, config: dcgan.Config) -> None:
    side, grid = 1.6, found.grids[0]
    _line(axes, (centre, top - 0.05), (centre, top - 0.55), "<->")
    beside = (centre + side / 2 + 0.15, top - 0.6 - side / 2)
    told = "entries ordered\nfrom dark to bright" if config.greys == "ordered" else "the index taken\nas a brightness"
    axes.text(*beside, told, size=6.8, color=GREY, va="center")
    codes(axes, centre - side / 2, top - 0.6 - side, side, min(32, grid[0]))
    told = f"codes   {' × '.join(map(str, grid))}, each of {found.spec.entries[0]:,}"
    axes.text(centre, top - 0.7 - side, told, size=6.8, color=INK, ha="center", va="top")


def _stacks(found: Outline, config: pixelcnn.Config) -> Figure:
    """What is seen from a code; then one of the gated layers between the first convolutions and the head."""
    figure, axes = canvas()
    grid, entries, reach = found.grids[0], found.spec.entries[0], config.kernel // 2
    rows, columns = f"{reach + 1} × {config.kernel}", f"1 × {reach + 1}"
    _context(axes, config)
    embed = _box(axes, (6.6, 0.0), (1.9, 1.0), f"embedding\n{entries:,} → {config.width}", GREY)
    first = _box(axes, (9.3, UP), (2.6, 1.0), f"conv {rows}, rows above\n+ vector of the position", BLUE)
    _box(axes, (9.3, LOW), (2.6, 1.0), f"conv {columns}, codes\nto the left", RUST)
    _line(axes, (4.65, 0.0), (embed[0], 0.0))
    for target in (UP, LOW):
        _line(axes, (embed[1], 0.0), (8.0, target))
    _gated_layer(axes, first[1], config, rows, columns)
    skip = _box(axes, (17.12, 0.1), (1.4, 0.75), "conv 1 × 1", GREY)
    _line(axes, (17.12, LOW), (17.12, -0.28))
    _line(axes, (skip[1], 0.1), (21.45, 0.1))
    axes.text(20.3, 0.2, "skips,\nsummed", size=6.2, color=GREY, ha="left", va="bottom")
    head = _box(
        axes, (22.6, 0.1), (2.3, 1.5), f"ReLU, conv 1 × 1\nto {config.head}\nReLU, conv 1 × 1\nto {entries:,}", GREY
    )
    _line(axes, (head[1], 0.1), (24.4, 0.1))
    _plus(axes, (24.6, 0.1), GREY)
    _line(axes, (24.6, -1.0), (24.6, -0.09))
    axes.text(24.6, -1.1, "log-frequencies\nat the position", size=6.2, color=GREY, ha="center", va="top")
    _line(axes, (24.79, 0.1), (25.4, 0.1))
    axes.text(25.5, 0.1, "p(code | those\nbefore it)", size=8, color=INK, ha="left", va="center")
    size = " × ".join(map(str, grid))
    axes.text(2.25, -3.0, f"{size} codes of {entries:,}", size=8.5, color=INK, ha="center", va="top")
    told = f"{sum(found.parameters.values()):,} parameters"
    bracket(axes, 5.65, 25.6, -3.2, told, INK)
    return fit(figure, axes, -0.35, 27.7, -3.9, 3.75)


def _gated_layer(axes: Axes, start: float, config: pixelcnn.Config, rows: str, columns: str) -> None:
    """Both stacks, from `start` to the next layer; `rows` and `columns`: their kernels."""
    axes.add_patch(
        FancyBboxPatch(
            (10.95, -2.75), 9.2, 5.7, boxstyle="round,pad=0,rounding_size=0.2", fc="#fafbfc", ec=GREY, lw=0.7
        )
    )
    told = f"gated layer   × {config.layers}"
    axes.text(15.55, 3.1, told, size=8.5, weight="bold", color=INK, ha="center", va="bottom")
    above = _box(axes, (12.4, UP), (2.1, 0.9), f"conv {rows}\n{config.width} → {2 * config.width}", BLUE)
    before = _box(axes, (12.4, LOW), (2.1, 0.9), f"conv {columns}\n{config.width} → {2 * config.width}", RUST)
    gates = [_box(axes, (16.0, y), (1.5, 0.9), "tanh · σ", colour) for y, colour in ((UP, BLUE), (LOW, RUST))]
    _box(axes, (14.25, 0.0), (1.4, 0.75), "conv 1 × 1", BLUE)
    out = _box(axes, (18.25, LOW), (1.5, 0.75), "conv 1 × 1", RUST)
    _line(axes, (start, UP), (above[0], UP))
    _line(axes, (start, LOW), (before[0], LOW))
    _line(axes, (above[1], UP), (gates[0][0], UP))
    _line(axes, (14.25, UP), (14.25, 0.38))
    _line(axes, (14.25, -0.38), (14.25, LOW + 0.19))
    _plus(axes, (14.25, LOW), RUST)
    _line(axes, (before[1], LOW), (14.06, LOW))
    _line(axes, (14.44, LOW), (gates[1][0], LOW))
    _line(axes, (gates[1][1], LOW), (out[0], LOW))
    for y, end in ((UP, gates[0][1]), (LOW, out[1])):
        _line(axes, (end, y), (19.45, y))
        _plus(axes, (19.64, y), BLUE if y == UP else RUST)
        _line(axes, (19.83, y), (20.5, y))
        axes.text(20.6, y, "next\nlayer", size=6.2, color=GREY, ha="left", va="center")
    _around(axes, 11.15, 19.64, UP, 2.5, BLUE)
    _around(axes, 11.15, 19.64, LOW, -2.45, RUST)


def _context(axes: Axes, config: pixelcnn.Config) -> None:
    """Nine by nine codes as seen from the one in the middle."""
    cells, middle, size = 9, 4, 0.5
    for i in range(cells):
        for j in range(cells):
            before = i < middle or (i == middle and j < middle)
            face = lighter(BLUE if i < middle else RUST, 0.35) if before else lighter(GREY, 0.85)
            face = to_rgb(PALETTE[5]) if (i, j) == (middle, middle) else face
            place = (j * size, 2.25 - (i + 1) * size)
            axes.add_patch(Rectangle(place, size, size, facecolor=face, edgecolor="white", linewidth=0.8))
    axes.text(2.25, 0, "?", size=11, weight="bold", color=INK, ha="center", va="center")
    told = (
        (2.25, 1.25, "rows above:\nvertical stack", lighter(BLUE, 0.35), "white"),
        (1.0, 0.0, "to the left:\nhorizontal stack", lighter(RUST, 0.35), "white"),
        (2.25, -1.25, "not looked at", lighter(GREY, 0.85), GREY),
    )
    for x, y, words, behind, colour in told:
        under = {"facecolor": behind, "edgecolor": "none", "pad": 1}
        size = 5.2 if y == 0 else 7.5
        axes.text(x, y, words, size=size, color=colour, ha="center", va="center", bbox=under)
    far = (config.layers + 1) * (config.kernel // 2)
    seen = f"seen: {far + 1} rows up, {far} codes to either side"
    axes.text(2.25, -2.4, seen, size=6.8, color=GREY, ha="center", va="top")


def _table(found: Outline) -> Figure:
    """One position of the grid, and the counts that stand for it."""
    figure, axes = canvas()
    grid, entries = found.grids[0], found.spec.entries[0]
    side, cells = 4.0, min(32, grid[0])
    codes(axes, 0.0, -side / 2, side, cells)
    cell = side / cells
    place = (cell * (cells * 2 // 3), side / 2 - cell * (cells // 2))
    axes.add_patch(Rectangle(place, cell, cell, facecolor="none", edgecolor=INK, linewidth=1.4, zorder=4))
    _line(axes, (place[0] + cell, place[1] + cell / 2), (5.35, 0.0))
    for n, (colour, height) in enumerate(zip(PALETTE, COUNTS, strict=True)):
        axes.add_patch(Rectangle((5.6 + 0.36 * n, -1.3), 0.3, height, facecolor=colour, edgecolor="none"))
    axes.plot([5.5, 9.3], [-1.3, -1.3], color=INK, linewidth=0.8)
    axes.text(7.4, -1.45, f"{entries:,} entries", size=8, color=INK, ha="center", va="top")
    axes.text(7.4, 1.75, "how often each stood there\nin the train split", size=8, color=INK, ha="center", va="bottom")
    positions = " × ".join(map(str, grid))
    axes.text(2.0, -2.2, f"{positions} positions, each by itself", size=8, color=INK, ha="center", va="top")
    return fit(figure, axes, -0.35, 9.9, -2.9, 2.7)


def _box(axes: Axes, centre: Point, size: Point, words: str, colour: str) -> tuple[float, float]:
    """Words in a rounded box; its left and right end."""
    (x, y), (width, height) = centre, size
    style = "round,pad=0,rounding_size=0.12"
    face = lighter(colour, 0.82)
    axes.add_patch(
        FancyBboxPatch((x - width / 2, y - height / 2), width, height, boxstyle=style, fc=face, ec=colour, lw=0.9)
    )
    axes.text(x, y, words, size=6.6, color=INK, ha="center", va="center", linespacing=1.25)
    return x - width / 2, x + width / 2


def _plus(axes: Axes, centre: Point, colour: str) -> None:
    axes.plot(*centre, marker="o", markersize=8.5, markerfacecolor="white", markeredgecolor=colour)
    axes.text(*centre, "+", size=9, color=INK, ha="center", va="center_baseline")


def _line(axes: Axes, start: Point, end: Point, style: str = "-|>") -> None:
    axes.add_patch(
        FancyArrowPatch(start, end, arrowstyle=style, mutation_scale=6, color=GREY, linewidth=0.8, shrinkA=0, shrinkB=0)
    )


def _around(axes: Axes, start: float, end: float, y: float, by: float, colour: str) -> None:
    """The residual connection, past a row of boxes."""
    axes.plot([start, start, end], [y, by, by], color=colour, linewidth=0.8, linestyle=(0, (3, 2)))
    _line(axes, (end, by), (end, y + math.copysign(0.19, by - y)))
