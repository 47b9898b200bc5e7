"""The README's tables, from the JSON files under results/, between the marks `<!-- NAME -->` and `<!-- /NAME -->`.

python -m benchmarks.tables
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import (
    brain_tables,
    codec_tables,
    gpu,
    input_tables,
    prior_tables,
    quality_curve,
    quantizer_speed,
    training,
    variants,
)
from benchmarks.stored import results_of
from brainvq.tables import prior_table, table

WRITTEN = ("system-b", "brain", "quantizers", "data", "priors", "realism", "grain", "audit", "codec")
PAGES = tuple(
    Path(__file__).resolve().parents[1] / name for name in ("README.md", *(f"docs/{page}.md" for page in WRITTEN))
)

DESCRIBED = 0.8575  # mean SSIM, shifted, as system A's description reports it
DESCRIBED_B = 0.8462  # of system B's: the largest over epochs, on one batch of 16 test images
DESCRIBED_GENERATION = 0.63  # SSIM of 16 generated images and the best of 604 batches of training images
BASELINES = {"black": "all black", "mean_train_image": "mean train image", "previous_slice": "previous slice"}


def write(page: Path, results: Path) -> None:
    """Fill every table of a page whose results are there."""
    text = page.read_text()
    tables = {
        "DEMO": demo(results),
        "RECONSTRUCTION": reconstruction(results),
        "SYSTEM_B": system_b(results),
        "ABLATION": ablation(results),
        "GENERATION": generation(results),
        "SPEED": _table(results / "benchmark_training.json", _speed),
        "SAMPLING": prior_tables.sampling(results),
        "PRIORS": prior_tables.priors(results),
        "PRIOR_SEEDS": prior_tables.prior_seeds(results),
        "HEADS": prior_tables.heads(results),
        "REALISM": prior_tables.realism(results),
        "GRAIN": prior_tables.grain(results),
        "AUDIT": prior_tables.audit(results),
        "BRAIN": brain_tables.brain(results),
        "SEEDS": brain_tables.seeds(results),
        "TIME_TO_QUALITY": _table(results / "benchmark_time_to_quality.json", quality_curve.table),
        "QUANTIZERS": _table(results / "benchmark_quantizers.json", variants.table),
        "QUANTIZER_SPEED": _table(results / "benchmark_quantizer_speed.json", quantizer_speed.table),
        "ABLATIONS": _table(results / "benchmark_ablations.json", variants.table),
        "CODEC": _table(results / "benchmark_codec.json", codec_tables.table),
        "LOSSLESS": _table(results / "benchmark_codec.json", codec_tables.lossless),
        "FUZZ": _table(results / "benchmark_fuzz.json", input_tables.fuzz),
        "SCALE": _table(results / "benchmark_scale.json", input_tables.scale),
        "UTILISATION": "\n".join(
            _table(path, gpu.table) for path in sorted(results.glob("benchmark_utilisation_*.json"))
        ),
    }
    for name, content in tables.items():
        if content:
            pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
            text = re.sub(pattern, lambda found, content=content: found[1] + content + found[2], text, flags=re.DOTALL)  # type: ignore[misc]
    page.write_text(text)


def _table(path: Path, made: Callable[[dict[str, Any]], str]) -> str:
    return made(_read(path)) if path.exists() else ""


def _speed(found: dict[str, Any]) -> str:
    return training.table(found) if "sides" in found else ""  # an earlier benchmark had other sides


def demo(results: Path) -> str:
    """What `make demo` prints at its end."""
    paths = [results / f"{name}.json" for name in ("demo", "demo_prior")]
    if not all(path.exists() for path in paths):
        return ""
    console = Console(width=80, file=io.StringIO(), record=True)
    evaluations = [_read(path)["evaluation"] for path in paths]
    console.print(table(evaluations[0]))
    console.print(prior_table(evaluations[1]))
    lines = [line.rstrip() for line in console.export_text().splitlines()]
    ends = [
        "tokenizer: demo/tokenizer, report demo/tokenizer/report.html",
        "prior:     demo/prior, report demo/prior/report.html",
        "new heads: demo/samples/grid.png",
    ]
    return "\n".join(["```", *lines, *ends, "```"]) + "\n"


def reconstruction(results: Path) -> str:
    """System A, exact and cured, beside what its description reports and the trivial baselines."""
    found = [*results_of(results, ("keras_f8", "keras_f8_ema")).values()]
    described = f"| system A as described | 50 epochs | - | - | {DESCRIBED} | - | not told | 0.109, - |"
    return _reconstructions(found, described)


def system_b(results: Path) -> str:
    """System B's tokenizer, narrow, exact and cured."""
    found = [*results_of(results, ("resnet_f4_narrow", "resnet_f4_narrow_ema")).values()]
    note = "best of all epochs, one batch of 16"
    described = f"| system B as described | 20 epochs | - | - | {DESCRIBED_B} ({note}) | - | about 6 | 0.563, - |"
    return _reconstructions(found, described)


def _reconstructions(found: list[dict[str, Any]], described: str) -> str:
    if not found:
        return ""
    lines = [
        "| | images seen (minutes) | SSIM | SSIM, foreground | SSIM, shifted | PSNR dB | live entries "
        "| bits a pixel: nominal, entropy |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [_model(each["run"], each["evaluation"]) for each in found]
    lines.append(described)
    baselines = found[0]["evaluation"]["baselines"]
    lines += [_baseline(label, baselines[name]) for name, label in BASELINES.items() if name in baselines]
    data = found[0]["evaluation"]["data"]
    lines.append(
        f"\n{data['images']:,} validate slices of {data['subjects']} subjects; "
        "95 % intervals by bootstrap over subjects."
    )
    return "\n".join(lines) + "\n"


def ablation(results: Path) -> str:
    """Glorot against default initialisation, at the last step that both were validated at."""
    path = results / "ablation_initialisation.json"
    if not path.exists():
        return ""
    runs = _read(path)
    curves = {name: {line["step"]: line for line in run["validate"]} for name, run in runs.items()}
    step = max(curves["glorot"].keys() & curves["default"].keys())
    lines = [
        f"| initialisation of `resnet_f4_narrow`, after {step} steps | SSIM | squared error | live entries |",
        "|---|---|---|---|",
    ]
    for name, label in (("glorot", "Glorot uniform, as described"), ("default", "PyTorch's default")):
        line = curves[name][step]
        lines.append(f"| {label} | {line['ssim']:.4f} | {line['reconstruction']:.5f} | {line['live_entries']} of 512 |")
    lines.append("\nOne run of each, the same seed and data order; 256 validate slices.")
    return "\n".join(lines) + "\n"


def generation(results: Path) -> str:
    """All priors on the measures of generation, beside real images and the described number."""
    found = [*results_of(results, ("histogram", "dcgan", "pixelcnn", "dcgan_f4", "dcgan_described")).values()]
    if not found:
        return ""
    lines = [
        "| | bits a code | SSIM as described: best batch (mean) | nearest train image | the same, as many subjects as "
        "validate | nearest validate image | diversity: pairwise SSIM | live entries that occur | s an image |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [_prior(each["run"], each["evaluation"]) for each in found]
    tokenizers = {each["run"]["tokenizer"]["preset"]: each["evaluation"]["measures"] for each in reversed(found)}
    lines += [_real(name, measures) for name, measures in reversed(tokenizers.items())]
    lines.append(f"| system B as described | - | {DESCRIBED_GENERATION} | - | - | - | - | - | - |")
    return "\n".join(lines) + "\n"


def _real(tokenizer: str, measures: dict[str, Any]) -> str:
    """Real validate images, as the tokenizer reconstructs them, by the same measures."""
    described = measures["real_described_ssim"]
    names = ("real_nearest_train", "real_nearest_train_as_many", "real_nearest_validate")
    cells = [
        f"real validate images through `{tokenizer}`",
        "-",
        f"{described['best_batch']:.3f} ({described['mean_batch']:.3f})",
        *(f"{measures[name]['mean']:.3f}" for name in names),
        f"{measures['diversity']['real']:.3f}",
        f"{measures['live_entries']['real']:.0%}",
        "-",
    ]
    return "| " + " | ".join(cells) + " |"


def _prior(run: dict[str, Any], evaluation: dict[str, Any]) -> str:
    measures, bits = evaluation["measures"], evaluation["bits"]
    described = measures["described_ssim"]
    label = f"`{run['preset']}` on `{run['tokenizer']['preset']}`"
    if run["experiment"]["prior"].get("greys") == "raw_indices":
        label += ", raw indices as described"
    saved = f" ({-bits['saved']['mean']:+.1%})" if bits and run["preset"] != "histogram" else ""
    cells = [
        label,
        f"{bits['per_code']['mean']:.3f}{saved}" if bits else "none",
        f"{described['best_batch']:.3f} ({described['mean_batch']:.3f})",
        *(f"{measures[name]['mean']:.3f}" for name in ("nearest_train", "nearest_train_as_many", "nearest_validate")),
        f"{measures['diversity']['samples']:.3f}",
        f"{measures['live_entries']['samples']:.0%}",
        f"{evaluation['samples']['seconds_each']:.2f}",
    ]
    return "| " + " | ".join(cells) + " |"


def _read(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(path.read_text())
    return values


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


if __name__ == "__main__":
    for each in PAGES:
        write(each, Path(__file__).resolve().parents[1] / "results")
