"""Every training and measurement behind the README's tables, in order; skips what is done, resumes what was cut off.

    make results        (or: python -m benchmarks.results; with names of runs after it, these trainings alone)

Long runs lie outside the checkout, in $BRAINVQ_RUNS (default ../runs); the data in $BRAINVQ_OASIS (default
../shared/oasis). Each run's config and evaluation become one JSON under results/, and the tables in README.md are
written anew from them.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks import tables
from benchmarks.halve import halve
from benchmarks.prior_results import real, sampled
from benchmarks.runs import evaluated, sharpened, trained
from benchmarks.ship import ship, ship_entropy
from brainvq.config import override
from brainvq.demo import run_demo
from brainvq.graining import measure_grain
from brainvq.presets import preset
from brainvq.report import write_report
from brainvq.run import read_config, write_json

ROOT = Path(__file__).resolve().parents[1]
RUNS = Path(os.environ.get("BRAINVQ_RUNS", ROOT.parent / "runs"))
OASIS = Path(os.environ.get("BRAINVQ_OASIS", ROOT.parent / "shared" / "oasis"))
RESULTS = ROOT / "results"
FIGURES = ROOT / "docs" / "figures"


@dataclass(frozen=True)
class Training:
    """One run: its preset, the run of its tokenizer if it is a prior, and what differs from the preset.

    `sharpens`: the run whose decoder is trained further, if any; the settings are then those of fine-tuning.
    `decoder`: of a prior, the tokenizer of the same codes whose decoder draws its samples, where it is another one.
    """

    run: str
    preset: str
    tokenizer: str | None = None
    settings: tuple[str, ...] = ()
    sharpens: str | None = None
    decoder: str | None = None


GENERATED_ON, DRAWN_BY = "brain_f16", "brain_f16_sharp"
"""The tokenizer whose priors are compared in full, and the one of the same codes that draws their samples."""
SHORTER, SHORTEST = ("variants=8", "train.epochs=12.0"), ("variants=8", "train.epochs=8.0")
"""Of transformers over its codes: less than their presets, to fit the time of two cores."""
FIRST_SLICES = ("prior.previous=true", "prior.forget=0.2")
"""Of whole heads: what is drawn of the first slice stays, so that drawing it from nothing is trained more often."""
SHARPENING = ("train.epochs=6.0", "task.optimiser.average=0.99")
BOLD = (*SHARPENING, "train.learning_rate=5e-4", 'task.patches={"weight": 4.0}')
GENTLE = (*SHARPENING, "train.learning_rate=3e-4", 'task.patches={"weight": 2.0}')
ENTROPY = {"f8": ("train.epochs=5.0",), "f4": ("train.epochs=1.5", "variants=2")}
"""Of contexts: as much as two cores do in some ten minutes. At f4 a slice has four times the codes."""
TRAININGS = (
    Training("keras_f8", "keras_f8"),
    Training("keras_f8_ema", "keras_f8_ema"),
    Training("resnet_f4_narrow", "resnet_f4_narrow"),
    Training("resnet_f4_narrow_ema", "resnet_f4_narrow_ema"),
    Training("brain_f8", "brain_f8"),
    Training("brain_f4", "brain_f4"),
    Training("brain_f16", "brain_f16"),
    *(
        Training(f"brain_f8_short_{seed}", "brain_f8", None, ("train.epochs=18.0", f"train.seed={seed}"))
        for seed in range(3)
    ),
    Training("brain_f16_bold", "brain_f16", None, BOLD, sharpens="brain_f16"),
    Training("brain_f16_sharp", "brain_f16", None, GENTLE, sharpens="brain_f16_bold"),
    *(Training(f"f16_{name}", name, GENERATED_ON, decoder=DRAWN_BY) for name in ("histogram", "pixelcnn", "dcgan")),
    *(
        Training(f"f16_{name}_{seed}", name, GENERATED_ON, (*fewer, f"train.seed={seed}"), decoder=DRAWN_BY)
        for name, fewer in (("autoregressive", SHORTER), ("maskgit", SHORTEST))
        for seed in range(3)
    ),
    *(
        Training(
            f"f16_heads_{seed}",
            "autoregressive",
            GENERATED_ON,
            (*SHORTER, *FIRST_SLICES, f"train.seed={seed}"),
            decoder=DRAWN_BY,
        )
        for seed in range(3)
    ),
    Training("histogram", "histogram", "keras_f8_ema"),
    Training("pixelcnn", "pixelcnn", "keras_f8_ema"),
    Training("dcgan", "dcgan", "keras_f8_ema"),
    Training("dcgan_f4", "dcgan", "resnet_f4_narrow", ("train.epochs=12",)),
    *(
        Training(f"{name}_{size}", name, f"brain_{size}", () if name == "histogram" else ENTROPY[size])
        for size in ("f8", "f4")
        for name in ("histogram", "context", "context_previous")
    ),
    Training("dcgan_described", "dcgan", "resnet_f4_narrow", ("prior.greys=raw_indices", "train.epochs=12")),
)
SHIPPED = {
    "brain_f8": "src/brainvq/weights/brain_f8",
    **{name: f"weights/{name}" for name in ("brain_f4", "brain_f16", "brain_f16_sharp")},
    **{name: f"weights/{name}" for name in ("keras_f8_ema", "resnet_f4_narrow_ema")},
}
ENTROPIES = {"context_previous_f8": SHIPPED["brain_f8"], "context_previous_f4": SHIPPED["brain_f4"]}
"""Priors whose entropy models are shipped beside their tokenizers."""
BENCHMARKS = {
    "sampling": ("sampling",),
    "training": ("training", "--data", str(OASIS)),
    "time_to_quality": ("time_to_quality", "--data", str(OASIS)),
    "quantizer_speed": ("quantizer_speed", "--data", str(OASIS)),
    "quantizers": ("quantizers", "--data", str(OASIS)),
    "ablations": ("ablations", "--data", str(OASIS)),
    f"utilisation_{'cuda' if torch.cuda.is_available() else 'cpu'}": ("gpu", "--data", str(OASIS)),
    "rate_distortion": ("rate_distortion",),
    "codec": (
        "codec",
        *(
            str(RUNS / f"{name}_{size}")
            for size in ("f8", "f4")
            for name in ("histogram", "context", "context_previous")
        ),
    ),
}
"""Each result and the module that makes it, in a process of its own."""
HALVED = ("brain_f8", "brain_f4", "brain_f16", "brain_f16_sharp")  # measured as they are shipped
FURTHER_SEEDS = {each.run for each in TRAININGS if each.decoder and each.run.endswith(("_1", "_2"))}
"""Of priors whose first seed is drawn in the documentation."""
FEW, MANY = 64, 1000  # samples that are measured
ABLATION = Training(
    "resnet_f4_default_init", "resnet_f4_narrow", None, ("tokenizer.network.initialisation=default", "train.steps=400")
)


def main() -> None:
    if not OASIS.is_dir():
        raise SystemExit(f"{OASIS}: no OASIS slices there. Set BRAINVQ_OASIS to their folder.")
    RUNS.mkdir(parents=True, exist_ok=True)
    RESULTS.mkdir(exist_ok=True)
    names = sys.argv[1:] or [each.run for each in TRAININGS]
    if unknown := set(names) - {each.run for each in TRAININGS}:
        raise SystemExit(f"no such run: {', '.join(sorted(unknown))}")
    for each in TRAININGS:
        if each.run in names:
            _result(each)
    if not sys.argv[1:]:
        _others()
    for page in tables.PAGES:
        tables.write(page, RESULTS)


def _result(training: Training) -> None:
    """One training with its measures, its report, its samples, and its weights where they are shipped."""
    run = _train(training)
    if training.run in HALVED:
        run = halve(run, RUNS / f"{training.run}_half")
    tokenizer = _folder(training.decoder or training.tokenizer) if training.tokenizer else None
    result = evaluated(run, OASIS, tokenizer, MANY if training.decoder else FEW)
    write_json(RESULTS / f"{training.run}.json", {"run": read_config(run), "evaluation": result})
    write_report(run)
    if tokenizer and training.run not in FURTHER_SEEDS:
        sampled(run, tokenizer, 36 if training.decoder else 16, FIGURES)
    if training.run in HALVED:
        measure_grain(run, str(OASIS), force=True)
    if training.run in SHIPPED:
        ship(run, ROOT / SHIPPED[training.run])
    if training.run in ENTROPIES:
        ship_entropy(run, ROOT / ENTROPIES[training.run])


def _others() -> None:
    """What is no single training: the demo, an ablation, the benchmarks."""
    ablation = {"glorot": RUNS / "resnet_f4_narrow", "default": _train(ABLATION)}
    write_json(RESULTS / "ablation_initialisation.json", {name: _curve(run) for name, run in ablation.items()})
    if not (RESULTS / "demo_prior.json").exists():
        found = run_demo(RUNS / "demo", force=True)
        for name, result in (("demo", found.tokenizer), ("demo_prior", found.prior)):
            run = RUNS / "demo" / ("prior" if name == "demo_prior" else "tokenizer")
            write_json(RESULTS / f"{name}.json", {"run": read_config(run), "evaluation": result})
    for name, words in BENCHMARKS.items():
        if not (RESULTS / f"benchmark_{name}.json").exists():
            _run(*words)
    _run("rate_distortion", "--presets")
    _run("brain_figure")
    real(OASIS, 36, FIGURES)


def _run(module: str, *words: str) -> None:
    subprocess.run([sys.executable, "-m", f"benchmarks.{module}", *words], check=True, cwd=ROOT)


def _train(training: Training) -> Path:
    words = ["brainvq finetune" if training.sharpens else "brainvq train", training.sharpens or training.preset]
    words += ["--decoder"] if training.sharpens else []
    words += [*(f"--set {shlex.quote(setting)}" for setting in training.settings), "--data oasis"]
    words += [f"--tokenizer {training.tokenizer}"] if training.tokenizer else []
    words += [f"--out {training.run}"]
    run, settings = RUNS / training.run, list(training.settings)
    if training.sharpens:
        return sharpened(run, _folder(training.sharpens), settings, OASIS, words)
    tokenizer = _folder(training.tokenizer) if training.tokenizer else None
    return trained(run, override(preset(training.preset), settings), OASIS, words, tokenizer)


def _folder(name: str) -> Path:
    """Of a tokenizer: as it is shipped, or its run."""
    shipped = ROOT / SHIPPED.get(name, name)
    return shipped if (shipped / "config.json").exists() else RUNS / name


def _curve(run: Path) -> dict[str, Any]:
    """The validations during a training, on the same 256 images for every run."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    config = read_config(run)
    kept = ("command", "preset", "experiment", "data", "hardware", "seed")
    return {
        **{name: config[name] for name in kept},
        "validate": [line for line in lines if line["event"] == "validate"],
    }


if __name__ == "__main__":
    main()
