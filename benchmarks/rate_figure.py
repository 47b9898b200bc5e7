"""The figure and the tables of `benchmarks/rate_distortion.py`, from its JSON."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from brainvq.report.ink import INK, LINE, MUTED, SETTINGS
from brainvq.writing import atomic

OURS = "#d55e00"
LINES: dict[str, tuple[str, str, str | tuple[int, tuple[int, int]]]] = {
    "avif": ("#0072b2", "o", "-"),
    "jpeg_xl": ("#009e73", "s", "-"),
    "jpeg_2000": ("#b07a00", "^", "-"),
    "webp": ("#56b4e9", "v", "-"),
    "av1_sequence": ("#0072b2", "o", (0, (4, 2))),
}
"""Colour, mark and dash of each codec: of M. Okabe and K. Ito's colours, which the colour-blind can tell apart too."""
MARKS = {
    "nominal": ("ours, fixed length", "D", OURS),
    "held_out": ("ours, entropy held out", "D", "white"),
    "entropy": ("ours, entropy by position", "|", OURS),
    "file": ("ours, whole .bvq files of a subject", "*", OURS),
}
RATE_TICKS = (0.02, 0.05, 0.1, 0.2, 0.5)
SSIM_TICKS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
PANELS = {"ssim_foreground": "SSIM, foreground", "ssim": "SSIM", "psnr": "PSNR, dB"}
NOTHING = "-"


def draw(result: Mapping[str, Any], path: Path) -> None:
    """Three panels against bits a pixel, as SVG; on white, so that it can be read on a dark page."""
    with matplotlib.rc_context({**SETTINGS, "svg.fonttype": "path", "svg.hashsalt": "rate", "axes.grid.axis": "both"}):
        figure = Figure((11, 6.6), dpi=72, layout="constrained", facecolor="white")
        grid = figure.add_gridspec(2, 2, width_ratios=(1.6, 1))
        places = (grid[:, 0], grid[0, 1], grid[1, 1])
        for place, (measure, title) in zip(places, PANELS.items(), strict=True):
            axes = figure.add_subplot(place)
            _panel(axes, result, measure)
            axes.set_title(title, loc="left", fontsize=12, fontweight="bold", color=INK)
            if measure == "ssim_foreground":
                _names(axes, result, measure)
                handles = axes.get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower center", ncols=4, columnspacing=1.6, handlelength=2.2)
        with atomic(path) as file:
            figure.savefig(file, format="svg", metadata={"Date": None})


def _panel(axes: Axes, result: Mapping[str, Any], measure: str) -> None:
    axes.set_axisbelow(True)
    height = _height(measure)
    for codec in result["codecs"]:
        colour, mark, dash = LINES[codec["name"]]
        bits, quality = (
            np.array([row["measures"][of]["mean"] for row in codec["settings"]]) for of in ("payload_bits", measure)
        )
        filled = "white" if codec["sequence"] else colour
        label = codec["label"]
        axes.plot(
            bits, height(quality), color=colour, marker=mark, linestyle=dash, label=label, markersize=4.5, mfc=filled
        )
    for n, each in enumerate(result["presets"]):
        bits, at = each["bits"], float(height(np.array(each["measures"][measure]["mean"])))
        rates = [rate for rate in bits.values() if rate is not None]
        axes.plot([min(rates), max(rates)], [at, at], color=OURS, linewidth=1.2, zorder=4)
        for rate, (label, mark, fill) in MARKS.items():
            if bits.get(rate) is not None:
                first = next(i for i, one in enumerate(result["presets"]) if one["bits"].get(rate) is not None)
                told = label if n == first else None
                axes.plot(bits[rate], at, mark, color=OURS, mfc=fill, mew=1.3, markersize=6, label=told, zorder=5)
    axes.set_xscale("log")
    axes.set_xlabel("bits a pixel")
    axes.xaxis.set_major_locator(FixedLocator(RATE_TICKS))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    if measure != "psnr":
        axes.yaxis.set_major_locator(FixedLocator([float(height(np.array(tick))) for tick in SSIM_TICKS]))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{1 - 10**-value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())


def _height(measure: str) -> Callable[[np.ndarray], np.ndarray]:
    """SSIM by the logarithm of what it lacks, or everything above 0.9 would lie on one line."""
    return (lambda values: values) if measure == "psnr" else (lambda values: -np.log10(1 - values))


def _names(axes: Axes, result: Mapping[str, Any], measure: str) -> None:
    for each in result["presets"]:
        at = float(_height(measure)(np.array(each["measures"][measure]["mean"])))
        axes.annotate(
            each["name"],
            (each["bits"]["nominal"], at),
            xytext=(7, -4),
            textcoords="offset points",
            fontsize=9,
            color=MUTED,
            bbox={"facecolor": "white", "edgecolor": LINE, "alpha": 0.85, "boxstyle": "round,pad=0.15"},
            zorder=6,
        )


def table(result: Mapping[str, Any]) -> str:
    """The figure and the tables, as Markdown."""
    parts = [
        "![SSIM, foreground SSIM and PSNR of our presets and of picture codecs against bits a pixel]"
        "(figures/rate-distortion.svg)\n",
        *_needed(result),
        _verdict(result),
        *_same_bits(result),
        *_settings(result),
        _about(result),
    ]
    return "\n".join(parts) + "\n"


def write(page: Path, result: Mapping[str, Any]) -> None:
    """Between the marks of a page."""
    text = page.read_text()
    filled = re.sub(
        r"(<!-- RATE -->\n).*?(<!-- /RATE -->)",
        lambda found: found[1] + table(result) + found[2],
        text,
        flags=re.DOTALL,
    )
    page.write_text(filled)


def _needed(result: Mapping[str, Any]) -> list[str]:
    """The bits that codecs need for the same SSIM foreground."""
    labels = {codec["name"]: codec["label"] for codec in result["codecs"]}
    lines = [
        "| preset | SSIM, foreground | our bits a pixel: nominal, entropy, held out, whole files "
        "| best picture codec for the same | its bits a pixel "
        "| its bits over ours: nominal, entropy, held out, whole files | AV1 sequence, bits a pixel "
        "| over ours: nominal, entropy, held out, whole files |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for ours, compared in _pairs(result):
        picture = compared["best_picture_codec"]
        cells = [f"`{ours['name']}`", _range(ours["measures"]["ssim_foreground"]), _rates(ours)]
        cells.append(labels[picture] if picture else "none reaches it")
        for name in (picture, "av1_sequence"):
            cells += [_bits(compared, name), _ratios(ours, compared, name)]
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def _pairs(result: Mapping[str, Any]) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    return list(zip(result["presets"], result["comparisons"], strict=True))


def _range(found: Mapping[str, Any]) -> str:
    if found["low"] is None:
        return f"{found['mean']:.4f}"
    return f"{found['mean']:.4f} [{found['low']:.4f}, {found['high']:.4f}]"


def _rates(ours: Mapping[str, Any]) -> str:
    return ", ".join(NOTHING if rate is None else f"{rate:.4f}" for rate in ours["bits"].values())


def _bits(compared: Mapping[str, Any], name: str | None) -> str:
    needed = compared["needed"][name] if name else {"bits": None, "told": "never"}
    if needed["told"] == "never":
        return "never"
    if needed["told"] == "below its lowest":
        return f"below its lowest, {needed['bits']:.4f}"
    edges = compared["intervals"].get(name)
    return f"{needed['bits']:.4f}" + (f" [{edges[0]:.4f}, {edges[1]:.4f}]" if edges else "")


def _ratios(ours: Mapping[str, Any], compared: Mapping[str, Any], name: str | None) -> str:
    needed = compared["needed"][name] if name else {"bits": None, "told": "never"}
    if needed["bits"] is None:
        return NOTHING
    sign = "< " if needed["told"] == "below its lowest" else ""
    return ", ".join(
        NOTHING if rate is None else f"{sign}{needed['bits'] / rate:.2f}" for rate in ours["bits"].values()
    )


def _verdict(result: Mapping[str, Any]) -> str:
    """Wins and losses, counted."""
    told = []
    for rate, words in (
        ("nominal", "at fixed length"),
        ("held_out", "with held-out entropy"),
        ("file", "as whole files"),
    ):
        wins: list[str] = []
        losses: list[str] = []
        for ours, compared in _pairs(result):
            picture = compared["best_picture_codec"]
            bits = compared["needed"][picture]["bits"] if picture else None
            if ours["bits"].get(rate) is not None:
                won = bits is None or (
                    bits > ours["bits"][rate] and compared["needed"][picture]["told"] != "below its lowest"
                )
                (wins if won else losses).append(f"`{ours['name']}`")
        if wins or losses:
            told.append(
                f"{words.capitalize()}, fewer bits than the best picture codec: {', '.join(wins) or 'none'}; "
                f"not fewer: {', '.join(losses) or 'none'}."
            )
    about = "Above 1, the codec needs more bits than we do. Its bits are without headers; our whole files have theirs. "
    return about + " ".join(told) + "\n"


def _same_bits(result: Mapping[str, Any]) -> list[str]:
    """Every codec at our bits, between its settings."""
    codecs = result["codecs"]
    lines = [
        "At the same bits: SSIM, SSIM foreground, PSNR in dB of each codec (`-`: outside of its settings).\n",
        "| preset | bits a pixel | ours | " + " | ".join(codec["label"] for codec in codecs) + " |",
        "|---" * (3 + len(codecs)) + "|",
    ]
    for ours, compared in _pairs(result):
        for rate, words in (("nominal", "nominal"), ("held_out", "held out"), ("file", "whole files")):
            if ours["bits"].get(rate) is None:
                continue
            mine = {of: found["mean"] for of, found in ours["measures"].items()}
            others = [compared["at_the_same_bits"][rate][codec["name"]] for codec in codecs]
            cells = [f"`{ours['name']}`", f"{ours['bits'][rate]:.4f}, {words}", *map(_measures, (mine, *others))]
            lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def _measures(found: Mapping[str, float | None]) -> str:
    if any(value is None for value in found.values()):
        return NOTHING
    return f"{found['ssim']:.3f}, {found['ssim_foreground']:.3f}, {found['psnr']:.1f}"


def _settings(result: Mapping[str, Any]) -> list[str]:
    """All that was measured of the codecs."""
    lines = [
        "<details><summary>Every setting of every codec</summary>\n",
        "| codec | setting | bits a pixel | with all of the file | SSIM | SSIM, foreground | PSNR dB "
        "| CPU ms a slice, there and back |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for codec in result["codecs"]:
        for row in codec["settings"]:
            measures = row["measures"]
            cells = [
                codec["label"],
                f"{codec['quality']} {row['setting']:g}",
                *(f"{measures[name]['mean']:.4f}" for name in ("payload_bits", "file_bits")),
                *(_range(measures[name]) for name in ("ssim", "ssim_foreground")),
                f"{measures['psnr']['mean']:.2f}",
                f"{1000 * row['cpu_seconds_a_slice']:.0f}",
            ]
            lines.append("| " + " | ".join(cells) + " |")
    lines.append("")
    lines += [f"- {codec['label']}: {codec['library']}; {codec['options']}." for codec in result["codecs"]]
    return [*lines, "\n</details>\n"]


def _about(result: Mapping[str, Any]) -> str:
    data, hardware = result["data"], result["hardware"]
    return (
        f"{data['images']:,} {data['split']} slices of {data['subjects']} subjects, the same for all; 95 % intervals "
        f"by bootstrap over subjects. One run, one thread of an {hardware['cpu']}, "
        f"{result['cpu_seconds_coding'] / 60:.0f} minutes of CPU for coding."
    )
