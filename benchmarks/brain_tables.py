"""Tables of our own tokenizers: beside the picture codecs at the same bits, and over seeds."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from benchmarks.stored import results_of

PRESETS = ("brain_f16", "brain_f8", "brain_f4")
SHORT = "brain_f8_short"  # one run for each seed
MEASURES = ("ssim", "ssim_foreground", "psnr")


def brain(results: Path) -> str:
    """Each preset, and beneath it every picture codec at its nominal bits."""
    found = results_of(results, PRESETS)
    if not found:
        return ""
    path = results / "benchmark_rate_distortion.json"
    codecs = json.loads(path.read_text()) if path.exists() else {"comparisons": [], "codecs": []}
    labels = {codec["name"]: codec["label"] for codec in codecs["codecs"]}
    beside = {each["name"]: each["at_the_same_bits"]["nominal"] for each in codecs["comparisons"]}
    lines = [
        "| | bits a pixel: nominal, held out | SSIM | SSIM, foreground | PSNR dB | live entries | minutes, on |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, result in found.items():
        lines.append(_ours(name, result))
        bits = result["evaluation"]["usage"]["nominal_bits_per_pixel"]
        for codec, measures in beside.get(name, {}).items():
            lines.append(_theirs(labels[codec], bits, measures))
    data = next(iter(found.values()))["evaluation"]["data"]
    lines.append(
        f"\n{data['images']:,} validate slices of {data['subjects']} subjects; 95 % intervals by bootstrap over "
        "subjects."
    )
    if beside:
        lines.append("Codecs: without headers, interpolated between their settings; - is outside of these.")
    return "\n".join(lines) + "\n"


def _ours(name: str, result: dict[str, Any]) -> str:
    run, evaluation = result["run"], result["evaluation"]
    usage, measures = evaluation["usage"], evaluation["measures"]
    minutes = f"{run['wall_time_s'] / 60:.0f}, {run['hardware']['gpu'] or str(run['hardware']['threads']) + ' threads'}"
    cells = [
        f"**`{name}`**",
        f"{usage['nominal_bits_per_pixel']:.3f}, {usage['held_out_bits_per_pixel']:.3f}",
        *(_interval(measures[of]) for of in ("ssim", "ssim_foreground")),
        f"{measures['psnr']['mean']:.1f} [{measures['psnr']['low']:.1f}, {measures['psnr']['high']:.1f}]",
        f"{usage['live_entries']} of {usage['live_entries'] + usage['dead_entries']}",
        minutes,
    ]
    return "| " + " | ".join(cells) + " |"


def _theirs(label: str, bits: float, measures: dict[str, float | None]) -> str:
    ssim, foreground, psnr = (measures[of] for of in MEASURES)
    cells = [
        label,
        f"{bits:.3f}",
        *("-" if value is None else f"{value:.4f}" for value in (ssim, foreground)),
        "-" if psnr is None else f"{psnr:.1f}",
        *("-", "-"),
    ]
    return "| " + " | ".join(cells) + " |"


def seeds(results: Path) -> str:
    """The spread of a short training over seeds."""
    found = results_of(results, tuple(f"{SHORT}_{seed}" for seed in range(3)))
    if len(found) < 2:
        return ""
    lines = [
        "| `brain_f8`, a short training | SSIM | SSIM, foreground | PSNR dB | live entries |",
        "|---|---|---|---|---|",
    ]
    for result in found.values():
        measures, usage = result["evaluation"]["measures"], result["evaluation"]["usage"]
        values = [f"{measures[of]['mean']:.{2 if of == 'psnr' else 4}f}" for of in MEASURES]
        entries = f"{usage['live_entries']} of {usage['live_entries'] + usage['dead_entries']}"
        lines.append("| " + " | ".join([f"seed {result['run']['seed']}", *values, entries]) + " |")
    means = {of: [each["evaluation"]["measures"][of]["mean"] for each in found.values()] for of in MEASURES}
    spread = [
        f"{statistics.mean(values):.{digits}f} ± {statistics.stdev(values):.{digits}f}"
        for values, digits in zip(means.values(), (4, 4, 2), strict=True)
    ]
    lines.append("| " + " | ".join(["mean ± standard deviation", *spread, "-"]) + " |")
    minutes = statistics.mean(each["run"]["wall_time_s"] for each in found.values()) / 60
    lines.append(f"\n{len(found)} trainings of {minutes:.0f} minutes each, alike but for the seed.")
    return "\n".join(lines) + "\n"


def _interval(measure: dict[str, Any]) -> str:
    return f"{measure['mean']:.4f} [{measure['low']:.4f}, {measure['high']:.4f}]"
