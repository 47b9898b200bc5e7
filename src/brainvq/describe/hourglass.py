"""A model in box-drawing characters: a tokenizer is an hourglass, wide where the image is and narrow at the codes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from rich.text import Text

from brainvq.describe.layers import Outline

STEP, INSET = 4, 2  # columns by which each halving narrows a side; margin
STYLES = {
    **{"encoder": "cyan", "codes": "bold yellow", "decoder": "magenta"},
    **{"generator": "magenta", "image": "bold yellow", "discriminator": "cyan"},
}


@dataclass(frozen=True)
class Stage:
    """A stretch of one resolution: the words inside it, one a line, and the colour of its side of the waist."""

    pixels: int
    lines: tuple[str, ...]
    side: str


def hourglass(outline: Outline) -> Text:
    """The diagram of a tokenizer, about 60 columns wide for three halvings.

    Image, feature maps, latent grid, codes, and the way back; maps of one resolution together, each shape once.
    """
    image, waist = (1, *outline.size), outline.waist
    latent = outline.layers[waist].shape
    down = [layer.shape for layer in outline.layers[:waist] if layer.shape not in ((), latent)]
    up = [layer.shape for layer in outline.layers[waist:] if layer.shape not in ((), latent, image)]
    named = [(image, f"x  {size_of(image)}"), *((shape, size_of(shape)) for shape in down)]
    levels = zip(outline.grids, outline.spec.entries, strict=True)
    codes = tuple(f"codes  {size_of(grid)}, each of {entries:,}" for grid, entries in levels)
    named_up = [(latent, f"z_q  {size_of(latent)}"), *((shape, size_of(shape)) for shape in up)]
    return boxes(
        [
            *merged([*named, (latent, f"z  {size_of(latent)}")], "encoder"),
            Stage(math.prod(latent[1:]), codes, "codes"),
            *merged([*named_up, (image, f"x_hat  {size_of(image)}")], "decoder"),
        ]
    )


def merged(named: Sequence[tuple[tuple[int, ...], str]], side: str) -> list[Stage]:
    """A stage for each run of named shapes of one resolution."""
    found: list[Stage] = []
    for pixels, group in groupby(named, key=lambda entry: math.prod(entry[0][1:])):
        found.append(Stage(pixels, tuple(dict.fromkeys(line for _, line in group)), side))
    return found


def boxes(drawn: Sequence[Stage]) -> Text:
    """One above the other, each as wide as its resolution is large among them."""
    ranks = {pixels: rank for rank, pixels in enumerate(sorted({stage.pixels for stage in drawn}))}
    narrow = max(len(line) for stage in drawn for line in stage.lines) + 4
    widths = [narrow + 2 * STEP * ranks[stage.pixels] for stage in drawn]
    indents = [INSET + (max(widths) - width) // 2 for width in widths]
    shown = Text()
    shown.append(" " * indents[0] + "╭" + "─" * (widths[0] - 2) + "╮\n", STYLES[drawn[0].side])
    for n, stage in enumerate(drawn):
        style = STYLES[stage.side]
        for line in stage.lines:
            shown.append(" " * indents[n] + "│" + line.center(widths[n] - 2) + "│\n", style)
        if n + 1 < len(drawn):
            shown.append(_border(indents[n], widths[n], indents[n + 1], widths[n + 1]) + "\n", style)
    shown.append(" " * indents[-1] + "╰" + "─" * (widths[-1] - 2) + "╯", STYLES[drawn[-1].side])
    return shown


def _border(indent: int, width: int, next_indent: int, next_width: int) -> str:
    """The line between two boxes of any widths."""
    above, below = {indent, indent + width - 1}, {next_indent, next_indent + next_width - 1}
    ends = sorted(above | below)
    line = [" "] * ends[0]
    for place in range(ends[0], ends[-1] + 1):
        up, down = place in above, place in below
        left, right = place > ends[0], place < ends[-1]
        line.append(_CORNERS[up, down, left, right])
    return "".join(line)


_CORNERS = {
    (True, True, False, True): "├",
    (True, True, True, False): "┤",
    (True, False, False, True): "╰",
    (True, False, True, False): "╯",
    (False, True, False, True): "╭",
    (False, True, True, False): "╮",
    (True, False, True, True): "┴",
    (False, True, True, True): "┬",
    (False, False, True, True): "─",
}


def size_of(shape: Sequence[int]) -> str:
    """30 x 32 x 32."""
    return " x ".join(str(n) for n in shape)
