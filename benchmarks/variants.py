"""Variants of a preset at equal time: the same minutes of training for each, and all of validate measured.

A variant is what differs from the preset, as `--set` takes it. Each trains for as many steps as fill the time by the
speed of a rehearsal, and its learning rate falls to zero with them. Time is that of training steps (batch loading
included), not of validation, checkpoints or a suspended process. The runs lie in a folder of their own, under a name
that tells the minutes: a finished one is not trained again, one that was cut off goes on. Differences to the first
variant are paired by subject.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.runs import evaluated, trained
from benchmarks.stored import device_of
from brainvq.codes import CodeSpec
from brainvq.config import override
from brainvq.errors import InputError
from brainvq.evaluate import compare
from brainvq.presets import preset
from brainvq.run import hardware, read_config, write_json
from brainvq.training.experiment import TokenizerExperiment, train
from brainvq.training.interrupt import Interrupted

MEASURES = ("ssim", "ssim_foreground", "psnr")
WARM_UP, REHEARSAL = 10, 40  # steps, multiples of those that are logged together


@dataclass(frozen=True)
class Comparison:
    """`variants`: name -> settings that differ from `preset`; the first one is what the others are held against."""

    benchmark: str
    preset: str
    variants: Mapping[str, tuple[str, ...]]

    @property
    def first(self) -> str:
        return next(iter(self.variants))

    def experiment(self, name: str, steps: int | None = None) -> TokenizerExperiment:
        """`steps`: in all; validated at the end alone, and the last weights are kept."""
        found = override(preset(self.preset), list(self.variants[name]))
        assert isinstance(found, TokenizerExperiment)
        update = {"steps": steps, "validate_every": steps or 1, "keep": "last"}
        return found.model_copy(update={"train": found.train.model_copy(update=update)})


def bits(spec: CodeSpec) -> int:
    """Of one cell of the grid, all levels together."""
    return spec.bits(spec.multiple)


def measure(comparison: Comparison, data: str, runs: Path, minutes: float) -> dict[str, Any]:
    """Train and evaluate what is not done yet."""
    evaluations: dict[str, dict[str, Any]] = {}
    variants = []
    for name in comparison.variants:
        run = _train(comparison, name, data, runs, minutes)
        evaluations[name] = evaluated(run, data)
        variants.append(_variant(name, run, evaluations[name], evaluations[comparison.first]))
    first = evaluations[comparison.first]
    return {
        "benchmark": comparison.benchmark,
        "command": f"python -m benchmarks.{comparison.benchmark} --data DATA --minutes {minutes:g}",
        "preset": comparison.preset,
        "minutes": minutes,
        "bits_a_code": bits(comparison.experiment(comparison.first).tokenizer.build().spec),
        "data": {"split": first["split"], **first["data"]},
        "variants": variants,
        "hardware": hardware(),
        "torch": torch.__version__,
    }


def _train(comparison: Comparison, name: str, data: str, runs: Path, minutes: float) -> Path:
    run = runs / f"{name.replace(' ', '-')}-{minutes:g}min"
    started = (run / "config.json").exists()
    steps: int = read_config(run)["planned_steps"] if started else _steps(comparison, name, data, minutes)
    settings = [f"--set '{setting}'" for setting in (*comparison.variants[name], f"train.steps={steps}")]
    words = ["brainvq train", comparison.preset, *settings, f"--data oasis --out '{name}'"]
    return trained(run, comparison.experiment(name, steps), data, words)


def _steps(comparison: Comparison, name: str, data: str, minutes: float) -> int:
    """That fill the time, by a rehearsal."""
    with tempfile.TemporaryDirectory() as folder:
        run = train(comparison.experiment(name, WARM_UP + REHEARSAL), data, Path(folder) / name)
        lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    seconds = {line["step"]: line["seconds"] for line in lines if line["event"] == "train"}
    step = (seconds[WARM_UP + REHEARSAL] - seconds[WARM_UP]) / REHEARSAL
    return max(1, int(minutes * 60 / step))


def _variant(name: str, run: Path, evaluation: dict[str, Any], against: dict[str, Any]) -> dict[str, Any]:
    config = read_config(run)
    kept = ("command", "steps", "images_seen", "wall_time_s", "parameters", "seed", "weights_sha256")
    differences = compare(evaluation, against)["differences"]
    return {
        "name": name,
        "tokenizer": config["experiment"]["tokenizer"],
        "run": {key: config[key] for key in kept},
        "images_per_second": config["images_seen"] / config["wall_time_s"],
        "measures": {measure: evaluation["measures"][measure] for measure in MEASURES},
        "against_first": {measure: differences[measure] for measure in MEASURES},
        "usage": evaluation["usage"],
        "per_subject": {
            subject: {"images": row["images"], **{measure: row[measure] for measure in MEASURES}}
            for subject, row in evaluation["per_subject"].items()
        },
    }


def table(result: dict[str, Any]) -> str:
    """The best foreground SSIM first."""
    first = result["variants"][0]["name"]
    lines = [
        f"| | minutes | images/s | images seen | SSIM | SSIM, foreground | the same, against {first} | PSNR dB "
        "| live entries | perplexity | bits a pixel, entropy |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    best_first = sorted(result["variants"], key=lambda each: -each["measures"]["ssim_foreground"]["mean"])
    lines += [_row(each, first) for each in best_first]
    machine = result["hardware"]
    device = device_of(machine)
    lines.append(
        f"\n`{result['preset']}`, {result['bits_a_code']} bits a code, {result['minutes']:g} minutes of training meant "
        f"for each, one seed, {device}. {result['data']['images']:,} {result['data']['split']} slices of "
        f"{result['data']['subjects']} subjects; 95 % intervals by bootstrap over subjects."
    )
    return "\n".join(lines) + "\n"


def _row(variant: dict[str, Any], first: str) -> str:
    measures, usage = variant["measures"], variant["usage"]
    difference = variant["against_first"]["ssim_foreground"]
    levels = usage["levels"]
    cells = [
        variant["name"],
        f"{variant['run']['wall_time_s'] / 60:.1f}",
        f"{variant['images_per_second']:.1f}",
        f"{variant['run']['images_seen']:,}",
        _interval(measures["ssim"]),
        _interval(measures["ssim_foreground"]),
        "-" if variant["name"] == first else _interval(difference, sign="+"),
        f"{measures['psnr']['mean']:.2f}",
        " + ".join(f"{level['live_entries']} of {level['entries']}" for level in levels),
        " x ".join(f"{level['perplexity']:.1f}" for level in levels),
        f"{usage['entropy_bits_per_pixel']:.3f}",
    ]
    return "| " + " | ".join(cells) + " |"


def _interval(measure: dict[str, Any], sign: str = "") -> str:
    return f"{measure['mean']:{sign}.4f} [{measure['low']:{sign}.4f}, {measure['high']:{sign}.4f}]"


def main(comparison: Comparison, about: str | None, minutes: float) -> None:
    parser = argparse.ArgumentParser(description=about.partition("\n")[0] if about else None)
    parser.add_argument("--data", default=os.environ.get("BRAINVQ_OASIS", "../shared/oasis"))
    parser.add_argument("--minutes", type=float, default=minutes, help="of training, for each")
    runs = Path(os.environ.get("BRAINVQ_RUNS", "../runs")) / comparison.benchmark
    parser.add_argument("--runs", type=Path, default=runs)
    parser.add_argument("--out", type=Path, default=Path(f"results/benchmark_{comparison.benchmark}.json"))
    arguments = parser.parse_args()
    try:
        result = measure(comparison, arguments.data, arguments.runs, arguments.minutes)
    except InputError as error:
        raise SystemExit(str(error)) from error
    except Interrupted as stopped:
        raise SystemExit(128 + stopped.signum) from stopped
    write_json(arguments.out, result)
    print(table(result) + f"written: {arguments.out}")
