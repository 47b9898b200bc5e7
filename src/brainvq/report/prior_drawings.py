"""The diagrams of a prior's report: what training did, bits by subject, how near samples come to training images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from brainvq.report.drawings import Curve, marks, thin, total
from brainvq.report.ink import FIRST, MUTED, SECOND, Drawing, finish, legend, panel, style, to_png
from brainvq.report.markup import Html
from brainvq.report.pictures import code_colours
from brainvq.report.prior_examples import PriorExamples
from brainvq.report.prior_record import PriorRecord
from brainvq.report.prior_stored import Bits, PriorEvaluation

CURVES = ("bits_curve", "losses_curve", "probabilities_curve", "live_share_curve")


def draw_prior(record: PriorRecord) -> dict[str, Drawing]:
    """All diagrams that the run has numbers for, by name."""
    result = record.headline
    bits = None if result is None else result.bits
    found = []
    if not record.counted and not any("generator" in line for line in record.train):
        found.append(_bits_curve(_of(record.train, "loss"), _of(record.validate, "bits_per_code"), bits))
    found.append(_losses(_of(record.train, "generator"), _of(record.train, "discriminator")))
    found.append(_probabilities(_of(record.train, "real"), _of(record.train, "fake")))
    found.append(_live_share(_of(record.validate, "live_share")))
    if result is not None:
        found += [_nearest(result), None if bits is None else _subjects(result.split, bits)]
        if result.split in record.examples:
            found.append(_sheet(record.examples[result.split]))
    return {drawing.name: drawing for drawing in found if drawing is not None}


def _of(lines: Sequence[dict[str, float]], name: str) -> Curve:
    return total(lines, (name,))


def _bits_curve(train: Curve, validate: Curve, bits: Bits | None) -> Drawing | None:
    if not len(train[0]) and not len(validate[0]):
        return None
    with style("bits"):
        figure, axes = panel("Bits a code", "step")
        for curve, label, colour in ((train, "train", FIRST), (validate, "validate", SECOND)):
            if len(curve[0]):
                axes.plot(*thin(curve), color=colour, label=label, linewidth=1.2, **marks(curve))
        seen = np.concatenate([train[1], validate[1]])
        low, high = np.quantile(seen, (0, 0.98))
        if bits is not None:
            _level(axes, bits.histogram_per_code.mean, "histogram")
            low, high = min(low, bits.histogram_per_code.mean), max(high, bits.histogram_per_code.mean)
        room = 0.08 * (high - low) or 0.1
        axes.set_ylim(low - room, high + room)
        legend(axes)
        last = f", {validate[1][-1]:.3f} on validate at the end" if len(validate[0]) else ""
        end = (train if len(train[0]) else validate)[1][-1]
        return finish("bits_curve", f"Bits a code over training, from {seen[0]:.3f} to {end:.3f}{last}.", figure)


def _losses(generator: Curve, discriminator: Curve) -> Drawing | None:
    if not len(generator[0]):
        return None
    with style("losses"):
        figure, axes = _two("Losses of both networks", {"generator": generator, "discriminator": discriminator})
        axes.set_ylim(0, 1.2 * float(np.quantile(np.concatenate([generator[1], discriminator[1]]), 0.98)))
        ends = f"generator {generator[1][-1]:.3g}, discriminator {discriminator[1][-1]:.3g}"
        return finish("losses_curve", f"Losses over {generator[0][-1]:.0f} training steps, at the end {ends}.", figure)


def _probabilities(real: Curve, fake: Curve) -> Drawing | None:
    if not len(real[0]) or not len(fake[0]):
        return None
    with style("probabilities"):
        figure, axes = _two("Taken for real by the discriminator", {"real images": real, "generated": fake})
        axes.set_ylim(0, 1)
        _level(axes, 0.5, "undecided")
        ends = f"{real[1][-1]:.2f} for real and {fake[1][-1]:.2f} for generated images"
        return finish("probabilities_curve", f"Mean probability of being real, at the end {ends}.", figure)


def _two(title: str, curves: Mapping[str, Curve]) -> tuple[Figure, Axes]:
    figure, axes = panel(title, "step")
    for (label, curve), colour in zip(curves.items(), (FIRST, SECOND), strict=True):
        axes.plot(*thin(curve), color=colour, label=label, linewidth=1.2)
    legend(axes)
    return figure, axes


def _live_share(curve: Curve) -> Drawing | None:
    if not len(curve[0]):
        return None
    with style("live_share"):
        figure, axes = panel("Live entries in samples", "step")
        axes.plot(*curve, color=SECOND, **marks(curve))
        axes.set_ylim(0, 1.05)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
        alt = f"Share of the live entries that samples use, from {curve[1][0]:.0%} to {curve[1][-1]:.0%} at the end."
        return finish("live_share_curve", alt, figure)


def _nearest(result: PriorEvaluation) -> Drawing:
    ranked = sorted(found.nearest_train.ssim for found in result.per_sample)
    floor = result.measures.real_nearest_train
    with style("nearest"):
        figure, axes = _ranked("SSIM to the nearest training image", "samples, from lowest to highest", ranked)
        if floor is not None:
            _level(axes, floor.mean, "real images", side="left")
        real = "" if floor is None else f"; real images {floor.mean:.4f} on average"
        seen = f"{ranked[0]:.4f} to {ranked[-1]:.4f}{real}"
        return finish("nearest", f"SSIM of {len(ranked)} samples to their nearest training image, {seen}.", figure)


def _subjects(split: str, bits: Bits) -> Drawing:
    ranked = sorted(bits.per_subject.values())
    with style("bits_subjects"):
        figure, axes = _ranked("Bits a code by subject", "subjects, from fewest bits to most", ranked)
        _level(axes, bits.histogram_per_code.mean, "histogram, all subjects", side="left")
        alt = f"Mean bits a code of {len(ranked)} subjects of {split}, from {min(ranked, default=0):.3f}"
        return finish("bits_subjects", f"{alt} to {max(ranked, default=0):.3f}.", figure)


def _ranked(title: str, xlabel: str, values: Sequence[float]) -> tuple[Figure, Axes]:
    figure, axes = panel(title, xlabel)
    axes.scatter(np.arange(1, len(values) + 1), values, s=18, color=FIRST, linewidth=0)
    axes.margins(y=0.12)
    return figure, axes


def _level(axes: Axes, value: float, label: str, side: Literal["left", "right"] = "right") -> None:
    """A dashed line, its label just above it at one side."""
    axes.axhline(value, color=MUTED, linewidth=1, linestyle=(0, (3, 3)))
    axes.annotate(
        label,
        (0.99 if side == "right" else 0.01, value),
        (0, 3),
        xycoords=axes.get_yaxis_transform(),
        textcoords="offset points",
        color=MUTED,
        ha=side,
        va="bottom",
    )


def _sheet(examples: PriorExamples) -> Drawing:
    """Rows of samples, their nearest training images, real images, and the codes of samples; only as a file."""
    shown = examples.samples[:6]
    codes = [code_colours(grids[-1], examples.ranks(-1)) for grids in examples.about.samples]
    rows = {"generated": examples.samples, "codes": codes, "nearest in train": examples.nearest, "real": examples.real}
    figure = Figure((1.5 * len(shown), 6.6), dpi=72, layout="constrained")
    grid = figure.subplots(len(rows), len(shown), squeeze=False)
    for line, (title, pictures) in zip(grid, rows.items(), strict=True):
        for axes, pixels in zip(line, pictures, strict=False):
            axes.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="nearest" if title == "codes" else None)
        for axes in line:
            axes.set_axis_off()
        line[0].set_title(title, fontsize=9, color=MUTED, loc="left")
    return Drawing("samples", "", Html(""), to_png(figure))
