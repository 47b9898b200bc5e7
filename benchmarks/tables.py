"""The README's tables, from the JSON files under results/, between the marks `<!-- NAME -->` and `<!-- /NAME -->`.

python -m benchmarks.tables
"""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

from rich.console import Console

from brainvq.tables import table

DESCRIBED = 0.8575  # mean SSIM, shifted, as system A's description reports it
BASELINES = {"black": "all black", "mean_train_image": "mean train image", "previous_slice": "previous slice"}


def write(readme: Path, results: Path) -> None:
    """Fill every table whose results are there."""
    text = readme.read_text()
    tables = {"DEMO": demo(results), "RECONSTRUCTION": reconstruction(results), "SPEED": speed(results)}
    for name, content in tables.items():
        if content:
            pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
            text = re.sub(pattern, lambda found, content=content: found[1] + content + found[2], text, flags=re.DOTALL)  # type: ignore[misc]
    readme.write_text(text)


def demo(results: Path) -> str:
    """What `make demo` prints at its end."""
    path = results / "demo.json"
    if not path.exists():
        return ""
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(table(json.loads(path.read_text())["evaluation"]))
    lines = [line.rstrip() for line in console.export_text().splitlines()]
    return "\n".join(["```", *lines, "", "report: demo/tokenizer/report.html", "model:  demo/tokenizer", "```"]) + "\n"


def reconstruction(results: Path) -> str:
    """System A, exact and cured, beside what its description reports and the trivial baselines."""
    found = [
        json.loads(path.read_text())
        for name in ("keras_f8", "keras_f8_ema")
        if (path := results / f"{name}.json").exists()
    ]
    if not found:
        return ""
    lines = [
        "| | images seen (minutes) | SSIM | SSIM, foreground | SSIM, shifted | PSNR dB | live entries "
        "| bits a pixel: nominal, entropy |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [_model(each["run"], each["evaluation"]) for each in found]
    lines.append(f"| system A as described | 50 epochs | - | - | {DESCRIBED} | - | not told | 0.109, - |")
    baselines = found[0]["evaluation"]["baselines"]
    lines += [_baseline(label, baselines[name]) for name, label in BASELINES.items() if name in baselines]
    data = found[0]["evaluation"]["data"]
    lines.append(
        f"\n{data['images']:,} validate slices of {data['subjects']} subjects; "
        "95 % intervals by bootstrap over subjects."
    )
    return "\n".join(lines) + "\n"


def _model(run: dict[str, Any], evaluation: dict[str, Any]) -> str:
    usage = evaluation["usage"]
    entries = usage["live_entries"] + usage["dead_entries"]
    cells = [
        f"`{run['preset']}`",
        f"{run['images_seen']:,} ({run['wall_time_s'] / 60:.0f})",
        *(_interval(evaluation["measures"][name]) for name in ("ssim", "ssim_foreground", "ssim_shifted")),
        f"{evaluation['measures']['psnr']['mean']:.1f}",
        f"{usage['live_entries']} of {entries}",
        f"{usage['nominal_bits_per_pixel']:.3f}, {usage['entropy_bits_per_pixel']:.3f}",
    ]
    return "| " + " | ".join(cells) + " |"


def _baseline(label: str, measures: dict[str, Any]) -> str:
    values = [f"{measures[name]['mean']:.4f}" for name in ("ssim", "ssim_foreground", "ssim_shifted")]
    return "| " + " | ".join([label, "-", *values, f"{measures['psnr']['mean']:.1f}", "-", "-"]) + " |"


def _interval(measure: dict[str, Any]) -> str:
    return f"{measure['mean']:.4f} [{measure['low']:.4f}, {measure['high']:.4f}]"


def speed(results: Path) -> str:
    """Training speed against the plain loop."""
    path = results / "benchmark_training.json"
    if not path.exists():
        return ""
    found = json.loads(path.read_text())
    rates, hardware = found["images_per_second"], found["hardware"]
    return (
        "| `keras_f8` at 256 x 256 | images/s |\n|---|---|\n"
        f"| plain float32 PyTorch loop | {rates['plain']:.1f} |\n"
        f"| the same, freed memory kept | {rates['plain, freed memory kept']:.1f} |\n"
        f"| brainvq ({found['precision']['brainvq']}) | {rates['brainvq']:.1f} |\n\n"
        f"{found['times_faster']:.1f} times the plain loop, and "
        f"{rates['brainvq'] / rates['plain, freed memory kept']:.1f} times one to which the system's allocator returns "
        f"no memory between steps. Batch {found['batch']}, turn by turn in one run, "
        f"{hardware['threads']} threads of an {hardware['cpu']}.\n"
    )


if __name__ == "__main__":
    root = Path(__file__).resolve().parents[1]
    write(root / "README.md", root / "results")
