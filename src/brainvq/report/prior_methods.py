"""The methods paragraph of a prior, written from the run's own settings and its evaluation."""

from __future__ import annotations

import re
from typing import Any

from brainvq.metrics.definitions import GENERATION, MEASURES
from brainvq.metrics.statistics import DRAWS
from brainvq.report import prior_measures
from brainvq.report.methods import codes, data, defined, machine, software, took
from brainvq.report.prior_record import PriorRecord
from brainvq.report.prior_stored import PriorEvaluation
from brainvq.report.prose import SENTENCES, loss, optimiser, precision
from brainvq.report.references import references
from brainvq.report.words import listed, settings
from brainvq.training.prior_experiment import PriorExperiment


def prior_methods(record: PriorRecord) -> list[tuple[str, str]]:
    """Headings and their paragraphs, plain text; empty where the run's settings cannot be read."""
    if record.experiment is None:
        return []
    values = record.experiment.model_dump(mode="json")
    parts = [
        ("Data", data(record.facts, values["data"]["subject_pattern"])),
        ("Codes", tokenizer(record)),
        ("Model", model(record, values["prior"])),
        ("Training", training(record, record.experiment, values)),
    ]
    if record.headline is not None:
        parts.append(("Evaluation", evaluation(record, record.headline)))
        parts.append(("Measures", measures(record.headline)))
    parts.append(("Software", software(record.facts)))
    return [*parts, ("References", "\n".join(references(text for _, text in parts)))]


GRAIN = (
    ", given noise in the place of the fine detail that its images lack (measured on training images, in bands, by "
    "brightness and steepness; after Norkin and Birkbeck 2018)"
)


def tokenizer(record: PriorRecord) -> str:
    origin = record.facts.tokenizer
    return (
        f"Images were encoded once by a trained tokenizer of the preset {origin.preset or 'unnamed'} (the SHA-256 of "
        f"its weights is {origin.weights_sha256}), which was not changed. {codes(record.facts)}"
    )


def model(record: PriorRecord, prior: dict[str, Any]) -> str:
    counts = [f"{count:,} ({name})" for name, count in record.facts.parameters.items() if count]
    return f"{SENTENCES.get(prior['kind'], settings)(prior)} Parameters: {listed(counts)}."


def training(record: PriorRecord, experiment: PriorExperiment, values: dict[str, Any]) -> str:
    if record.counted:
        return "Nothing was trained by steps: the codes of the training split were counted once."
    train, task = experiment.train, values["task"]
    sentences = [loss(task), optimiser(task.get("optimiser", {}), train.learning_rate), took(record, train)]
    sentences.append(precision(train.precision, "the loss"))
    best = train.keep == "best" and task["kind"] == "training.prior"
    weights = "the fewest bits a code on validate" if best else "the last step"
    sentences.append(f"The weights are those of {weights}.")
    return " ".join([*sentences, machine(record)])


def evaluation(record: PriorRecord, result: PriorEvaluation) -> str:
    measured, drawn = result.data, result.samples
    told = record.told(result)
    grain = GRAIN if result.tokenizer.grain_sha256 else ""
    text = (
        f"{drawn.n:,} samples were drawn with seed {drawn.seed}, decoded by the tokenizer{grain} and compared as 8-bit "
        "images "
        f"with the {measured.train_images:,} training images of {measured.train_subjects:,} subjects and with the "
        f"{measured.images:,} images of {measured.subjects:,} subjects of the {result.split} split, {told}. Beside "
        f"them stand {result.real.n:,} real images of that split, of every subject in turn, that went through the "
        f"tokenizer{' and were given the same noise' if grain else ''}."
    )
    if result.bits is not None:
        text += (
            f" Bits are means over all images of the {result.split} split in float32; the baseline is a histogram of "
            "independent codes by position that learned from the same training split."
        )
    if result.split == "validate" and told == "not seen in training":
        chosen = " and to choose the weights" if record.chosen_on(result.split) else ""
        text += f" The same split served to watch the training{chosen}."
    return text + (
        f" 95 % intervals are percentiles of {DRAWS:,} bootstrap draws (Davison and Hinkley 1997), over samples or, of "
        "bits and real images, over subjects."
    )


def measures(result: PriorEvaluation) -> str:
    """Every definition, in the words of the evaluation."""
    told = [MEASURES["ssim"].definition]
    if result.measures.described_ssim is not None:
        told.append(defined(MEASURES["ssim_shifted"].label, MEASURES["ssim_shifted"].definition))
    told += [defined(GENERATION[name].label, text) for name, text in prior_measures.defined(result).items()]
    return " ".join([*told, audit(result)])


def audit(result: PriorEvaluation) -> str:
    if result.audit is None:
        return "Generated images were not audited for copies of training subjects."
    sentence = re.sub("[;:] [a-z ,]* pairs.png", "", result.audit.sentence)
    return (
        "Each generated image was compared with all training slices, shifted and mirrored, by local detail. Its score "
        "is how much nearer it comes to one subject than to any other; the threshold is what 1 % of unseen slices that "
        f"went through the tokenizer as samples do, exceed. {sentence}"
    )
