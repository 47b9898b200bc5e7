"""Matplotlib figures that suit a light and a dark page.

A figure is drawn once, in the light colours. As PNG it is kept so. For the page its SVG is cut out of its document and
each colour becomes the CSS variable of the page that it stands for, and the text takes the font of the page.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from brainvq.report.markup import Html

INK, MUTED, LINE, FIRST, SECOND = "#1b2126", "#5a656f", "#dfe3e6", "#1f62c4", "#b3500c"
VARIABLES = {INK: "--ink", MUTED: "--muted", LINE: "--line", FIRST: "--first", SECOND: "--second"}
WIDTH, HEIGHT = 340, 232  # pixels of a panel on the page

SETTINGS: dict[Any, Any] = {
    "axes.edgecolor": LINE,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.labelcolor": MUTED,
    "axes.labelsize": 11,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.titlesize": 13,
    "figure.titleweight": "bold",
    "font.family": ["DejaVu Sans"],
    "font.size": 11,
    "grid.color": LINE,
    "grid.linewidth": 1,
    "legend.borderaxespad": 0.1,
    "legend.fontsize": 11,
    "legend.frameon": False,
    "legend.handlelength": 1.2,
    "legend.labelcolor": MUTED,
    "lines.linewidth": 1.6,
    "svg.fonttype": "none",
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": MUTED,
    "xtick.labelsize": 11,
    "xtick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.color": MUTED,
    "ytick.labelsize": 11,
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
}


@dataclass(frozen=True)
class Drawing:
    """A figure as it goes into the page, and as a PNG file `name`. `alt` says what is to be seen."""

    name: str
    alt: str
    svg: Html
    png: bytes


@contextmanager
def style(name: str) -> Iterator[None]:
    """Everything is drawn within this. `name` makes the identifiers inside the SVG its own."""
    with matplotlib.rc_context({**SETTINGS, "svg.hashsalt": name}):
        yield


def panel(title: str, xlabel: str) -> tuple[Figure, Axes]:
    """A small diagram; at 72 dots an inch a point is a pixel of the page."""
    figure = Figure((WIDTH / 72, HEIGHT / 72), dpi=72, layout="constrained")
    axes = figure.subplots()
    figure.suptitle(title, x=0.01, horizontalalignment="left")
    axes.set_xlabel(xlabel)
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    return figure, axes


def legend(axes: Axes) -> None:
    """Between title and frame, where no curve runs."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.01), ncols=3, columnspacing=0.9, handletextpad=0.4)


def finish(name: str, alt: str, figure: Figure) -> Drawing:
    svg = io.StringIO()
    figure.savefig(svg, format="svg", transparent=True, metadata={"Date": None})
    return Drawing(name, alt, _inline(svg.getvalue(), alt), to_png(figure))


def to_png(figure: Figure) -> bytes:
    png = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(png, format="png", dpi=200, facecolor="white")
    return png.getvalue()


def _inline(document: str, alt: str) -> Html:
    """The <svg> of a document, for use inside HTML: no prologue, no metadata, no namespaces, themed colours."""
    svg = document[document.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r' id="[\w.]*[a-z]_\d+"', "", svg)  # "axes_1" and the like, to which nothing refers
    svg = re.sub(r"font-family: [^;\"]*;?", "", svg)
    svg = re.sub(r"font: ((?:\d+ )?[\d.]+px) [^;\"]*", r"font: \1 var(--sans)", svg)
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    head = f'<svg role="img" aria-label="{Html.escape(alt)}" viewBox="0 0 {WIDTH} {HEIGHT}"'
    return Html(re.sub(r"<svg[^>]*?(?= version| viewBox|>)[^>]*", head, svg, count=1).strip())
