"""The methods paragraph: what a paper must say of a run, written from the run's own settings.

Parts are told in the words of `prose.py`. Definitions of measures are those of `metrics`, word for word. References are
listed where the text names them.
"""

from __future__ import annotations

import math
from typing import Any

from brainvq.errors import counted
from brainvq.metrics.definitions import MEASURES
from brainvq.metrics.statistics import DRAWS
from brainvq.report.prose import SENTENCES, loss, optimiser, precision
from brainvq.report.record import AnyRun, Record
from brainvq.report.references import references
from brainvq.report.stored import Evaluation, Facts
from brainvq.report.words import listed, settings
from brainvq.tables import BASELINES
from brainvq.training.experiment import TokenizerExperiment
from brainvq.training.loop import TrainConfig

HEAD_MASK = (
    "The head mask is found in the original: smoothed by a Gaussian of sigma 2 pixels, above half of the threshold of "
    "the unsmoothed image (Otsu 1979), largest connected component, holes filled."
)


def methods(record: Record) -> list[tuple[str, str]]:
    """Headings and their paragraphs, plain text; empty where the run's settings cannot be read."""
    if record.experiment is None:
        return []
    values = record.experiment.model_dump(mode="json")
    parts = [
        ("Data", data(record.facts, values["data"]["subject_pattern"])),
        ("Model", model(record.facts, values["tokenizer"])),
        ("Training", training(record, record.experiment, values["task"])),
    ]
    if record.headline is not None:
        parts.append(("Evaluation", evaluation(record, record.headline)))
        parts.append(("Measures", measures(record.headline)))
    parts.append(("Software", software(record.facts)))
    return [*parts, ("References", "\n".join(references(text for _, text in parts)))]


def data(facts: Facts, pattern: str | None) -> str:
    splits = [
        f"{counted(split.images, 'image')} of {counted(split.subjects, 'subject')} for {_purpose(name)}"
        for name, split in facts.data.splits.items()
    ]
    size = " x ".join(str(n) for n in facts.data.size)
    named = "" if pattern is None else f" (subjects are the group of the pattern {pattern} in the file names)"
    prints = ", ".join(f"{name} {split.fingerprint[:16]}" for name, split in facts.data.splits.items())
    return (
        f"We used the data set {facts.data.name}, {listed(splits)}; no subject is in more than one split{named}. "
        f"Images are single-channel slices of {size} pixels (height x width). Grey values 0 to 255 of 8-bit "
        f"images (of others, an intensity window of each image) were mapped linearly to [-1, 1]; on that scale the "
        f"training pixels have mean {facts.data.mean:.4f} and variance {facts.data.variance:.4f}. The "
        f"SHA-256 fingerprints of the splits begin with: {prints}."
    )


def model(facts: Facts, tokenizer: dict[str, Any]) -> str:
    """Parts in the order they are configured, then the codes and the parameters."""
    inner = [value for value in tokenizer.values() if isinstance(value, dict) and "kind" in value]
    sentences = [SENTENCES.get(tokenizer["kind"], settings)({k: v for k, v in tokenizer.items() if v not in inner})]
    sentences += [SENTENCES.get(part["kind"], settings)(part) for part in inner]
    counts = [f"{count:,} ({name})" for name, count in facts.parameters.items()]
    return " ".join([*sentences, codes(facts), f"Parameters: {listed(counts)}."])


def codes(facts: Facts) -> str:
    size, levels = facts.data.size, []
    bits = 0
    for entries, grid in zip(facts.spec.entries, facts.spec.grids(size), strict=True):
        length = max(1, math.ceil(math.log2(entries)))
        bits += length * math.prod(grid)
        levels.append(f"a grid of {' x '.join(map(str, grid))} codes out of {entries:,} entries ({length} bits each)")
    return f"An image becomes {listed(levels)}, {bits:,} bits in all or {bits / math.prod(size):.4f} bits a pixel."


def training(record: Record, experiment: TokenizerExperiment, task: dict[str, Any]) -> str:
    train = experiment.train
    sentences = [*begun(record.facts), loss(task), optimiser(task.get("optimiser", {}), train.learning_rate)]
    sentences += [took(record, train)]
    sentences.append(precision(train.precision))
    sentences.append(
        "The weights are those of the best SSIM on validate."
        if train.keep == "best"
        else "The weights are those of the last step."
    )
    return " ".join([*sentences, machine(record)])


def begun(facts: Facts) -> list[str]:
    """Where fine-tuning began, and what of it was held."""
    origin = facts.finetuned_from
    if origin is None:
        return []
    held = [name for name, state in (("encoder", origin.encoder), ("codebook", origin.codebook)) if state == "frozen"]
    kept = f"; its {listed(held)} did not learn"
    return [
        f"Training began with the weights of {origin.preset or 'another model'} (SHA-256 {origin.weights_sha256[:16]})"
        f"{kept if held else ''}."
    ]


def took(run: AnyRun, train: TrainConfig) -> str:
    """Steps, images and passes."""
    facts, steps = run.facts, run.step
    images = facts.images_seen if facts.images_seen is not None else steps * train.batch_size
    passes = images / max(1, facts.data.splits["train"].images) if "train" in facts.data.splits else math.nan
    state = "" if run.finished else f" of {facts.planned_steps:,} planned; training had not ended when this was written"
    done = f"{steps:,} steps of {train.batch_size} images{state} ({images:,} images, {passes:.1f} passes)"
    return f"Training took {done}."


def machine(run: AnyRun) -> str:
    facts = run.facts
    machine = f"{facts.hardware.gpu}, " if facts.hardware.gpu else ""
    machine += f"{facts.hardware.cpu}, {facts.hardware.threads} threads"
    time = f" in {duration(facts.wall_time_s)}" if facts.wall_time_s is not None else ""
    return f"It ran{time} on {machine}, with seed {facts.seed}."


def evaluation(record: Record, result: Evaluation) -> str:
    told = record.told(result)
    text = (
        f"The model was evaluated on the {result.split} split of {result.data.name}, "
        f"{counted(result.data.images, 'image')} of {counted(result.data.subjects, 'subject')} {told}, in "
        f"float32. Means are over images; 95 % intervals are percentiles of {DRAWS:,} bootstrap "
        "draws over subjects (Davison and Hinkley 1997). Originals and reconstructions were compared as 8-bit "
        "images, rounded and clipped."
    )
    if result.split == "validate" and told == "not seen in training":
        best = record.experiment is not None and record.experiment.train.keep == "best"
        text += f" The same split served to watch the training{' and to choose the weights' if best else ''}."
    beside = [BASELINES.get(name, name) for name in result.baselines]
    return text + (f" Baselines on the same images: {listed(beside)}." if beside else "")


def measures(result: Evaluation) -> str:
    """Every definition, in the words of the evaluation."""
    told = [defined(MEASURES[name].label, result.definitions[name]) for name in MEASURES if name in result.measures]
    rates = [
        defined(name.replace("_", " ").capitalize(), text)
        for name, text in result.definitions.items()
        if name not in MEASURES
    ]
    return " ".join([HEAD_MASK, *told, *rates])


def defined(label: str, definition: str) -> str:
    return definition if definition.startswith(f"{label} ") else f"{label}: {definition}"


def software(facts: Facts) -> str:
    versions = {"brainvq": facts.version, **facts.versions}
    used = [f"{_NAMES.get(name, name)} {version}" for name, version in versions.items()]
    weights = f" The SHA-256 of the weights is {facts.weights_sha256}." if facts.weights_sha256 else ""
    return (
        f"We used {listed(used)} (Paszke et al. 2019), {facts.hardware.system}. "
        f"The run was started by: {facts.command or 'a call from Python'}.{weights}"
    )


def duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


_NAMES = {"python": "Python", "torch": "PyTorch", "brainvq": "brainvq"}


def _purpose(split: str) -> str:
    return {"train": "training", "validate": "validation", "test": "testing"}.get(split, split)
