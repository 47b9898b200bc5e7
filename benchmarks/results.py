"""Every training and measurement behind the README's tables, in order; skips what is done, resumes what was cut off.

    make results        (or: python -m benchmarks.results)

Long runs lie outside the checkout, in $BRAINVQ_RUNS (default ../runs); the data in $BRAINVQ_OASIS (default
../shared/oasis). Each run's config and evaluation become one JSON under results/, and the tables in README.md are
written anew from them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from benchmarks import tables, training
from brainvq import screen
from brainvq.config import override
from brainvq.demo import run_demo
from brainvq.presets import preset
from brainvq.report import write_report
from brainvq.run import read_config, write_json
from brainvq.session import evaluate_run, stored_evaluation
from brainvq.training.experiment import train

ROOT = Path(__file__).resolve().parents[1]
RUNS = Path(os.environ.get("BRAINVQ_RUNS", ROOT.parent / "runs"))
OASIS = Path(os.environ.get("BRAINVQ_OASIS", ROOT.parent / "shared" / "oasis"))
RESULTS = ROOT / "results"
TRAININGS: dict[str, list[str]] = {"keras_f8": [], "keras_f8_ema": [], "resnet_f4_narrow": [], "resnet_f4_narrow_ema": []}
"""Run name (a preset's) -> what differs from the preset."""


def main() -> None:
    if not OASIS.is_dir():
        raise SystemExit(f"{OASIS}: no OASIS slices there. Set BRAINVQ_OASIS to their folder.")
    RUNS.mkdir(parents=True, exist_ok=True)
    RESULTS.mkdir(exist_ok=True)
    for name, settings in TRAININGS.items():
        run = _train(name, settings)
        result = _evaluate(run)
        write_json(RESULTS / f"{name}.json", {"run": read_config(run), "evaluation": result})
        write_report(run)
    if not (RESULTS / "demo.json").exists():
        result, _ = run_demo(RUNS / "demo", force=True)
        write_json(RESULTS / "demo.json", {"run": read_config(RUNS / "demo" / "tokenizer"), "evaluation": result})
    if not (RESULTS / "benchmark_training.json").exists():
        write_json(RESULTS / "benchmark_training.json", training.measure(str(OASIS), batch=128, rounds=5))
    tables.write(ROOT / "README.md", RESULTS)


def _train(name: str, settings: list[str]) -> Path:
    run = RUNS / name
    if (run / "config.json").exists() and read_config(run)["weights_sha256"]:
        print(f"{name}: trained, {run}")
        return run
    command = " ".join(["brainvq train", name, *(f"--set {setting}" for setting in settings), "--data oasis"])
    experiment = override(preset(name), settings)
    with screen.training(name) as watch:
        return train(experiment, OASIS, run, resume=True, command=command, watch=watch)


def _evaluate(run: Path) -> dict[str, Any]:
    if (run / "evaluation" / "validate.json").exists():
        found = stored_evaluation(run, "validate")
        if found["model"]["weights_sha256"] == read_config(run)["weights_sha256"]:
            print(f"{run.name}: evaluated")
            return found
    with screen.bar(f"evaluating {run.name}") as progress:
        return evaluate_run(run, str(OASIS), "validate", progress=progress)


if __name__ == "__main__":
    main()
