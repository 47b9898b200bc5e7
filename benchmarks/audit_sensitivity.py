"""Does the audit see a prior that remembers? One is overfitted on purpose on a few subjects, and audited.

    python -m benchmarks.audit_sensitivity --data DATA --tokenizer weights/brain_f16

A PixelCNN learns the codes of a few training subjects for so many steps that it repeats them; the same network learns
all training subjects for as many steps and should not. Both are sampled and audited against all training slices. What
an overfitted prior draws is not all memory: a draw that leaves the remembered path becomes a picture of nobody. So the
share of codes that a sample has in common with its likest training slice, which no audit looks at, says which samples
are copies: `COPY` of them and more.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.runs import trained
from brainvq import screen
from brainvq.audit import audit_samples
from brainvq.config import override
from brainvq.data.loader import open_cache
from brainvq.data.sources import open_splits
from brainvq.models import open_model
from brainvq.presets import preset
from brainvq.run import hardware, write_json
from brainvq.sampling import sample_files
from brainvq.training.encoded import encode_split

COPY = 0.9
PART = 0.5
KEPT_AWAY = 4  # subjects of validate beside the few, which training asks for


def measure(data: str, tokenizer: Path, runs: Path, *, subjects: int, steps: int, n: int) -> dict[str, Any]:
    """Train, sample and audit what is not done yet."""
    few = _few(data, runs / "few", subjects)
    overfitted = _drawn(runs / "overfitted", few, tokenizer, steps, n)
    control = _drawn(runs / "control", Path(data), tokenizer, steps, n)
    common = _common_codes(overfitted, few, tokenizer)
    subsets = {
        f"  with {COPY:.0%} of the codes of a slice": _subset(overfitted, "copies", common >= COPY),
        f"  with {PART:.0%} to {COPY:.0%}": _subset(overfitted, "parts", (common >= PART) & (common < COPY)),
        f"  with less than {PART:.0%}": _subset(overfitted, "others", common < PART),
    }
    planted = {"overfitted prior": overfitted, **{kind: each for kind, each in subsets.items() if any(each.iterdir())}}
    with screen.bar("auditing") as progress:
        found = audit_samples(control, data, tokenizer=tokenizer, planted=planted, progress=progress)
    return {
        "benchmark": "audit",
        "command": f"python -m benchmarks.audit_sensitivity --data DATA --tokenizer {tokenizer.name} "
        f"--subjects {subjects} --steps {steps} -n {n}",
        "prior": {"preset": "pixelcnn", "subjects": subjects, "steps": steps, "samples": n},
        "common_codes": [round(float(share), 4) for share in common],
        "audit_of_control": {key: value for key, value in found.items() if key not in ("closest", "scores")},
        "hardware": hardware(),
    }


def _few(data: str, folder: Path, count: int) -> Path:
    """A data folder of links to the files of `count` training subjects and of a few held-out ones."""
    for split, wanted in (("train", count), ("validate", KEPT_AWAY)):
        source = open_splits(data)[split]  # type: ignore[index]
        order = np.random.default_rng(0).permutation(len(source.subjects))[:wanted]
        names = {source.subjects[i] for i in order}
        (folder / split).mkdir(parents=True, exist_ok=True)
        for item in source.items:
            link = folder / split / item.path.name
            if item.subject in names and not link.exists():
                link.symlink_to(item.path.resolve())
    return folder


def _drawn(run: Path, data: Path, tokenizer: Path, steps: int, n: int) -> Path:
    """The images that a prior draws after so many steps on `data`, beside its run."""
    settings = [f"train.steps={steps}", f"train.validate_every={steps}", f"train.checkpoint_every={steps}"]
    experiment = override(preset("pixelcnn"), [*settings, "train.keep=last", "prior.dropout=0"])
    words = ["brainvq", "train", "pixelcnn", "--data", data.name, "--out", run.name, "--tokenizer", tokenizer.name]
    trained(run, experiment, data, words, tokenizer)
    out = run.with_name(f"{run.name}-samples")
    with screen.bar(f"sampling {run.name}") as progress:
        sample_files(run, n, out, tokenizer=tokenizer, progress=progress)
    return out


def _common_codes(samples: Path, data: Path, tokenizer: Path) -> NDArray[np.float64]:
    """Of each sample: the largest share of its codes that stand in a training slice of `data` too, (n,)."""
    model = open_model(tokenizer)
    multiple = model.tokenizer.spec.multiple
    cache = open_cache(open_splits(data)["train"], multiple=(multiple[0], multiple[1]))
    known = np.concatenate([level.flatten(1).numpy() for level in encode_split(model, cache).codes], axis=1)
    with np.load(samples / "codes.npz", allow_pickle=False) as file:
        levels = [file[f"codes_{level}"] for level in range(len(file.files) - 1)]
    mine = np.concatenate([level.reshape(len(level), -1) for level in levels], axis=1)
    return np.array([(each == known).mean(axis=1).max() for each in mine])


def _subset(samples: Path, name: str, which: NDArray[np.bool_]) -> Path:
    """A folder of some of the images alone."""
    folder = samples.with_name(f"{samples.name}-{name}")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for i in np.flatnonzero(which):
        shutil.copy(samples / "images" / f"{i:04}.png", folder)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--data", required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs/audit"))
    parser.add_argument("--subjects", type=int, default=4)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("-n", type=int, default=128)
    parser.add_argument("--out", type=Path, default=Path("results/benchmark_audit.json"))
    asked = parser.parse_args()
    result = measure(asked.data, asked.tokenizer, asked.runs, subjects=asked.subjects, steps=asked.steps, n=asked.n)
    write_json(asked.out, result)
    audit = result["audit_of_control"]
    for kind, found in audit["kinds"].items():
        print(f"{kind:42} {found['flagged']:4} of {found['images']:4} flagged")
    print(f"control: {audit['sentence']}\nwritten: {asked.out}")


if __name__ == "__main__":
    main()
