"""All quantizers at equal bits and equal time: one network, 7 bits a code, the same minutes of training for each.

    python -m benchmarks.quantizers --data DATA --minutes 6

The network, the losses and the training are those of `brain_f8`; what differs from it is in `QUANTIZERS`. Each trains
for as many steps as fill the time by the speed of a rehearsal, and its learning rate falls to zero with them. Time is
that of training steps (batch loading included), not of validation, checkpoints or a suspended process. The runs lie in
a folder of their own, under a name that tells the minutes: a finished one is not trained again, one that was cut off
goes on. All of validate is measured; differences to `vq` are paired by subject.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch

from brainvq import screen
from brainvq.codes import CodeSpec
from brainvq.config import override
from brainvq.errors import InputError
from brainvq.evaluate import compare
from brainvq.presets import preset
from brainvq.run import hardware, read_config, write_json
from brainvq.session import evaluate_run, stored_evaluation
from brainvq.training.experiment import TokenizerExperiment, train
from brainvq.training.interrupt import Interrupted

PRESET = "brain_f8"
QUANTIZERS: dict[str, tuple[str, ...]] = {
    "vq": (),
    "normalized": (
        'tokenizer.quantizer={"kind": "quantizers.normalized", "entries": 128, "code_dim": 8, "decay": 0.9}',
        "tokenizer.network.dim=8",
    ),
    "fsq": ('tokenizer.quantizer={"kind": "quantizers.fsq", "levels": [8, 4, 4]}', "tokenizer.network.dim=3"),
    "simvq": ('tokenizer.quantizer={"kind": "quantizers.simvq", "entries": 128}',),
    "residual": (
        'tokenizer.quantizer={"kind": "quantizers.residual", "stages": ['
        '{"kind": "quantizers.vq", "entries": 16, "decay": 0.9}, '
        '{"kind": "quantizers.vq", "entries": 8, "decay": 0.9}]}',
    ),
}
"""What differs from the preset. Vectors have as many numbers as the quantizer asks for, and else the preset's; moving
averages are as quick as the preset's."""
MEASURES = ("ssim", "ssim_foreground", "psnr")
WARM_UP, REHEARSAL = 10, 40  # steps, multiples of those that are logged together


def experiment_of(name: str, steps: int | None = None) -> TokenizerExperiment:
    """`steps`: in all; validated at the end alone, and the last weights are kept."""
    found = override(preset(PRESET), list(QUANTIZERS[name]))
    assert isinstance(found, TokenizerExperiment)
    update = {"steps": steps, "validate_every": steps or 1, "keep": "last"}
    return found.model_copy(update={"train": found.train.model_copy(update=update)})


def bits(spec: CodeSpec) -> int:
    """Of one cell of the grid, all levels together."""
    return spec.bits(spec.multiple)


def measure(data: str, runs: Path, minutes: float) -> dict[str, Any]:
    """Train and evaluate what is not done yet."""
    evaluations, sides = {}, []
    for name in QUANTIZERS:
        run = _train(name, data, runs, minutes)
        evaluations[name] = _evaluate(run, data)
        sides.append(_side(name, run, evaluations[name], evaluations["vq"]))
    first = evaluations["vq"]
    return {
        "benchmark": "quantizers",
        "command": f"python -m benchmarks.quantizers --data DATA --minutes {minutes:g}",
        "preset": PRESET,
        "minutes": minutes,
        "bits_a_code": bits(experiment_of("vq").tokenizer.build().spec),
        "data": {"split": first["split"], **first["data"]},
        "quantizers": sides,
        "hardware": hardware(),
        "torch": torch.__version__,
    }


def _train(name: str, data: str, runs: Path, minutes: float) -> Path:
    run = runs / f"{name}-{minutes:g}min"
    started = (run / "config.json").exists()
    if started and read_config(run)["weights_sha256"]:
        print(f"{name}: trained, {run}")
        return run
    steps: int = read_config(run)["planned_steps"] if started else _steps(name, data, minutes)
    settings = [f"--set '{setting}'" for setting in (*QUANTIZERS[name], f"train.steps={steps}")]
    words = ["brainvq train", PRESET, *settings, f"--data oasis --out {name}"]
    with screen.training(name) as watch:
        return train(experiment_of(name, steps), data, run, resume=True, command=" ".join(words), watch=watch)


def _steps(name: str, data: str, minutes: float) -> int:
    """That fill the time, by a rehearsal."""
    with tempfile.TemporaryDirectory() as folder:
        run = train(experiment_of(name, WARM_UP + REHEARSAL), data, Path(folder) / name)
        lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    seconds = {line["step"]: line["seconds"] for line in lines if line["event"] == "train"}
    step = (seconds[WARM_UP + REHEARSAL] - seconds[WARM_UP]) / REHEARSAL
    return max(1, int(minutes * 60 / step))


def _evaluate(run: Path, data: str) -> dict[str, Any]:
    if (run / "evaluation" / "validate.json").exists():
        found = stored_evaluation(run, "validate")
        if found["model"]["weights_sha256"] == read_config(run)["weights_sha256"]:
            return found
    with screen.bar(f"evaluating {run.name}") as progress:
        return evaluate_run(run, data, "validate", progress=progress)


def _side(name: str, run: Path, evaluation: dict[str, Any], against: dict[str, Any]) -> dict[str, Any]:
    config = read_config(run)
    kept = ("command", "steps", "images_seen", "wall_time_s", "parameters", "seed", "weights_sha256")
    differences = compare(evaluation, against)["differences"]
    return {
        "name": name,
        "tokenizer": config["experiment"]["tokenizer"],
        "run": {key: config[key] for key in kept},
        "images_per_second": config["images_seen"] / config["wall_time_s"],
        "measures": {measure: evaluation["measures"][measure] for measure in MEASURES},
        "against_vq": {measure: differences[measure] for measure in MEASURES},
        "usage": evaluation["usage"],
        "per_subject": {
            subject: {"images": row["images"], **{measure: row[measure] for measure in MEASURES}}
            for subject, row in evaluation["per_subject"].items()
        },
    }


def table(result: dict[str, Any]) -> str:
    """For `docs/quantizers.md`, the best foreground SSIM first."""
    lines = [
        "| | images/s | images seen | SSIM | SSIM, foreground | the same, against `vq` | PSNR dB | live entries "
        "| perplexity | bits a pixel, entropy |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    best_first = sorted(result["quantizers"], key=lambda side: -side["measures"]["ssim_foreground"]["mean"])
    lines += [_row(side) for side in best_first]
    machine = result["hardware"]
    device = machine["gpu"] or f"{machine['threads']} threads of an {machine['cpu']}"
    lines.append(
        f"\n`{result['preset']}`, {result['bits_a_code']} bits a code, {result['minutes']:g} minutes of training each, "
        f"one seed, {device}. {result['data']['images']:,} {result['data']['split']} slices of "
        f"{result['data']['subjects']} subjects; 95 % intervals by bootstrap over subjects."
    )
    return "\n".join(lines) + "\n"


def _row(side: dict[str, Any]) -> str:
    measures, usage, difference = side["measures"], side["usage"], side["against_vq"]["ssim_foreground"]
    levels = usage["levels"]
    cells = [
        f"`{side['name']}`",
        f"{side['images_per_second']:.1f}",
        f"{side['run']['images_seen']:,}",
        _interval(measures["ssim"]),
        _interval(measures["ssim_foreground"]),
        "-" if side["name"] == "vq" else _interval(difference, sign="+"),
        f"{measures['psnr']['mean']:.2f}",
        " + ".join(f"{level['live_entries']} of {level['entries']}" for level in levels),
        " x ".join(f"{level['perplexity']:.1f}" for level in levels),
        f"{usage['entropy_bits_per_pixel']:.3f}",
    ]
    return "| " + " | ".join(cells) + " |"


def _interval(measure: dict[str, Any], sign: str = "") -> str:
    return f"{measure['mean']:{sign}.4f} [{measure['low']:{sign}.4f}, {measure['high']:{sign}.4f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--data", default=os.environ.get("BRAINVQ_OASIS", "../shared/oasis"))
    parser.add_argument("--minutes", type=float, default=6.0, help="of training, for each quantizer")
    parser.add_argument("--runs", type=Path, default=Path(os.environ.get("BRAINVQ_RUNS", "../runs")) / "quantizers")
    parser.add_argument("--out", type=Path, default=Path("results/benchmark_quantizers.json"))
    arguments = parser.parse_args()
    try:
        result = measure(arguments.data, arguments.runs, arguments.minutes)
    except InputError as error:
        raise SystemExit(str(error)) from error
    except Interrupted as stopped:
        raise SystemExit(128 + stopped.signum) from stopped
    write_json(arguments.out, result)
    print(table(result) + f"written: {arguments.out}")


if __name__ == "__main__":
    main()
