"""The diagrams of a report: losses and validation over training, measures by subject, use of the codebook; and one
sheet of the pictures, as a PNG file for slides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from brainvq.errors import printable
from brainvq.report.examples import Examples
from brainvq.report.ink import FIRST, INK, MUTED, SECOND, Drawing, finish, legend, panel, style, to_png
from brainvq.report.markup import Html
from brainvq.report.pictures import code_colours, error_colours
from brainvq.report.record import Line, Record
from brainvq.report.stored import Evaluation, Level

POINTS = 300  # of a curve; more are averaged

LOSSES = {
    "loss": ("Total loss", ("loss",)),
    "reconstruction": ("Reconstruction loss", ("reconstruction",)),
    "quantization": ("Quantization loss", ("codebook", "commitment")),
}
VALIDATION = {"ssim": "SSIM", "live_entries": "Live entries", "perplexity": "Perplexity"}


def draw(record: Record) -> dict[str, Drawing]:
    """All diagrams that the run has numbers for, by name."""
    found = []
    for name, (title, terms) in LOSSES.items():
        found.append(_loss(name, title, total(record.train, terms), total(record.validate, terms)))
    for name, title in VALIDATION.items():
        found.append(_validation(name, title, total(record.validate, (name,)), sum(record.facts.spec.entries)))
    if (result := record.headline) is not None:
        found += [_subjects(result), _codebook(result)]
        if result.split in record.examples:
            found.append(_sheet(record.examples[result.split], record.facts.spec.strides[-1]))
    return {drawing.name: drawing for drawing in found if drawing is not None}


Curve = tuple[np.ndarray, np.ndarray]


def total(lines: Sequence[Line], terms: Sequence[str]) -> Curve:
    """Steps, and the sum of those terms that a line has."""
    kept = [(line["step"], sum(line.get(term, 0) for term in terms)) for line in lines if set(terms) & set(line)]
    steps, values = np.array(kept, dtype=float).reshape(-1, 2).T
    return steps, values


def thin(curve: Curve) -> Curve:
    groups = np.array_split(np.arange(len(curve[0])), min(POINTS, max(1, len(curve[0]))))
    return tuple(np.array([axis[group].mean() for group in groups if len(group)]) for axis in curve)  # type: ignore[return-value]


def _loss(name: str, title: str, train: Curve, validate: Curve) -> Drawing | None:
    if not len(train[0]):
        return None
    with style(name):
        figure, axes = panel(title, "step")
        axes.plot(*thin(train), color=FIRST, label="train", linewidth=1.2)
        if len(validate[0]):
            axes.plot(*validate, color=SECOND, label="validate", **marks(validate))
        low, high = np.quantile(train[1], (0.02, 0.98))  # the first steps may lie far outside
        least = float(max(np.concatenate([train[1], validate[1]]).min(), low / 1.5))
        axes.set_ylim(top=min(axes.get_ylim()[1], 1.5 * float(high)))
        logarithmic(axes, least)
        legend(axes)
        alt = f"{title} over {train[0][-1]:.0f} training steps, from {train[1][0]:.3g} to {train[1][-1]:.3g}."
        return finish(f"{name}_curve", alt, figure)


def marks(curve: Curve) -> dict[str, Any]:
    """A dot at each value where there are few."""
    return {"marker": "o", "markersize": 3} if len(curve[0]) <= 20 else {}


def logarithmic(axes: Axes, least: float, unit: str = "") -> None:
    """A logarithmic axis from just below `least`, with more labels where it spans little."""
    if least <= 0:
        return
    top = axes.get_ylim()[1]
    axes.set_yscale("log")
    axes.set_ylim(0.9 * least, top)
    span = top / least
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if span < 50 else (1, 3) if span < 1000 else (1,)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}{unit}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _validation(name: str, title: str, curve: Curve, entries: int) -> Drawing | None:
    if not len(curve[0]):
        return None
    with style(name):
        figure, axes = panel(f"{title}, validate", "step")
        axes.plot(*curve, color=SECOND, **marks(curve))
        if name != "ssim":
            axes.set_ylim(0, entries * 1.08)
            axes.axhline(entries, color=MUTED, linewidth=1, linestyle=(0, (3, 3)))
            across = axes.get_yaxis_transform()
            axes.text(0.99, entries * 0.97, "all entries", color=MUTED, ha="right", va="top", transform=across)
        digits = ".4f" if name == "ssim" else ".0f"
        alt = f"{title} on validate during training, from {curve[1][0]:{digits}} to {curve[1][-1]:{digits}}."
        return finish(f"{name}_curve", alt, figure)


def _subjects(result: Evaluation) -> Drawing:
    ranked = sorted(result.per_subject.values(), key=lambda row: row["ssim"])
    places = np.arange(1, len(ranked) + 1)
    with style("subjects"):
        figure, axes = panel("SSIM by subject", "subjects, from worst to best")
        for measure, label, colour in (("ssim", "whole image", FIRST), ("ssim_foreground", "foreground", SECOND)):
            shown = [(n, row[measure]) for n, row in zip(places, ranked, strict=True) if measure in row]
            x, y = np.array(shown).reshape(-1, 2).T
            axes.scatter(x, y, s=18, color=colour, linewidth=0, label=label)
        legend(axes)
        alt = (
            f"Mean SSIM of {len(ranked)} subjects of the {result.split} split, "
            f"from {ranked[0]['ssim']:.4f} to {ranked[-1]['ssim']:.4f}."
        )
        return finish("subjects", alt, figure)


def _codebook(result: Evaluation) -> Drawing:
    with style("codebook"):
        figure, axes = panel("Use of the codebook", "entries, most used first")
        shares = [_shares(level) for level in result.usage.levels]
        least = min(share[share > 0].min(initial=100) for share in shares) / 2
        for share in shares:
            x, y = thin((np.arange(1, len(share) + 1) - 0.5, np.maximum(share, least)))
            axes.fill_between(x, y, least, step="mid", color=FIRST, alpha=0.2, linewidth=0)
            axes.step(x, y, where="mid", color=FIRST, linewidth=1.4)
        even = 100 / result.usage.levels[0].entries
        axes.axhline(even, color=MUTED, linewidth=1, linestyle=(0, (3, 3)))
        axes.text(0.99, even * 1.15, "even use", ha="right", color=MUTED, transform=axes.get_yaxis_transform())
        axes.set_xlim(0)
        logarithmic(axes, least, " %")
        usage = result.usage
        alt = (
            f"Share of codes that each entry takes, sorted: {usage.live_entries} live, {usage.dead_entries} dead, "
            f"perplexity {usage.perplexity:.1f}."
        )
        return finish("codebook", alt, figure)


def _shares(level: Level) -> np.ndarray:
    """Percent of all codes that each entry takes, most used first."""
    counts = np.sort(np.array(level.counts, dtype=float))[::-1]
    return np.asarray(100 * counts / max(1.0, counts.sum()))


def _sheet(examples: Examples, stride: Sequence[int]) -> Drawing:
    """Rows of original, reconstruction, error and codes; only as a file, the page lays the pictures out itself."""
    tallest = max(item.original.shape[0] / item.original.shape[1] for item in examples.items)
    figure = Figure((8, (min(1.9 * tallest, 2.6) + 0.6) * len(examples.items)), dpi=72, layout="constrained")
    rows = figure.subfigures(len(examples.items), 1, squeeze=False)[:, 0]
    for row, example in zip(rows, examples.items, strict=True):
        about = example.about
        title = f"{about.role}: {printable(about.subject)[:60]}, SSIM {about.ssim:.4f}"
        row.suptitle(title, fontsize=9, color=INK, x=0.005, horizontalalignment="left", parse_math=False)
        shown = (
            ("original", example.original),
            ("reconstruction", example.reconstruction),
            ("error", error_colours(example.original, example.reconstruction)),
        )
        *pictures, last = row.subplots(1, 4)
        for axes, (name, pixels) in zip(pictures, shown, strict=True):
            axes.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="antialiased")
            _bare(axes, name)
        _codes(last, code_colours(about.codes[-1], examples.about.grey[-1]), stride, example.original.shape)
        _bare(last, "codes")
    return Drawing("examples", "", Html(""), to_png(figure))


def _codes(axes: Axes, colours: np.ndarray, stride: Sequence[int], size: tuple[int, ...]) -> None:
    """As large as the image (H, W), of which they may stand for some padding too."""
    height, width = size
    extent = (0, colours.shape[1] * stride[1], colours.shape[0] * stride[0], 0)
    axes.imshow(colours, extent=extent, interpolation="nearest")
    axes.set(xlim=(0, width), ylim=(height, 0))


def _bare(axes: Axes, name: str) -> None:
    axes.set_axis_off()
    axes.set_anchor("NW")
    axes.set_title(name, fontsize=9, color=MUTED, loc="left")
