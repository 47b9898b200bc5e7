"""The methods paragraph of a prior, written from the run's own settings and its evaluation."""

from __future__ import annotations

from typing import Any

from brainvq.metrics.generation import CANDIDATES, PAIRS, THUMB
from brainvq.metrics.statistics import DRAWS
from brainvq.report.methods import codes, data, machine, software, took
from brainvq.report.prior_record import PriorRecord
from brainvq.report.prior_stored import PriorEvaluation
from brainvq.report.prose import SENTENCES, listed, loss, optimiser, precision, settings
from brainvq.report.references import references
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


def tokenizer(record: PriorRecord) -> str:
    origin = record.facts.tokenizer
    return (
        f"Images were encoded once by a trained tokenizer of the preset {origin.preset or 'unnamed'} (the SHA-256 of "
        f"its weights is {origin.weights_sha256}), which was not changed. {codes(record.facts)}"
    )


def model(record: PriorRecord, prior: dict[str, Any]) -> str:
    counts = [f"{count:,} ({name})" for name, count in record.facts.parameters.items()]
    return f"{SENTENCES.get(prior['kind'], settings)(prior)} Parameters: {listed(counts)}."


def training(record: PriorRecord, experiment: PriorExperiment, values: dict[str, Any]) -> str:
    if values["prior"]["kind"] == "priors.histogram":
        return f"Nothing is trained by steps: the codes of the training split were counted once. {machine(record)}"
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
    text = (
        f"{drawn.n:,} samples were drawn with seed {drawn.seed}, decoded by the tokenizer and compared as 8-bit images "
        f"with the {measured.train_images:,} training images of {measured.train_subjects:,} subjects and with the "
        f"{measured.images:,} images of {measured.subjects:,} subjects of the {result.split} split, {told}. Beside "
        "them stand as many real images of that split, one of each subject in turn, as the tokenizer reconstructs them."
    )
    if result.bits is not None:
        text += (
            f" Bits are means over all images of the {result.split} split in float32; the baseline is a histogram of "
            "independent codes by position that learned from the same training split."
        )
    if result.split == "validate" and told == "not seen in training":
        text += " The same split served to watch the training."
    return text + (
        f" 95 % intervals are percentiles of {DRAWS:,} bootstrap draws (Davison and Hinkley 1997), of bits over "
        "subjects."
    )


def measures(result: PriorEvaluation) -> str:
    found = result.measures
    told = []
    if result.bits is not None:
        told.append(
            "Bits a code: the negative base-2 logarithm of the probability of an image's codes, by their number."
        )
    if found.nearest_train is not None:
        told.append(
            f"Nearest image: the {CANDIDATES} images of the highest correlation at {THUMB} x {THUMB} pixels are "
            "compared by SSIM (Wang 2004) of the full images, and the highest counts; also among only as many "
            f"training subjects, drawn by seed, as the {result.split} split has, and for real images without those of "
            "the same subject."
        )
    if found.diversity is not None and found.diversity.samples is not None:
        told.append(
            f"Diversity: mean SSIM of at most {PAIRS:,} pairs of samples, and of real images of different subjects."
        )
    if found.live_entries is not None and found.live_entries.samples is not None:
        told.append("Live entries: the share of the entries in use on the training split that occur in the samples.")
    if found.described_ssim is not None:
        told.append(
            "Described SSIM: mean SSIM on the shifted scale ([-0.5, 0.5], L 1) of 16 samples and 16 training images in "
            f"file order, the best of {found.described_ssim.batches:,} batches; reported only to stand beside numbers "
            "published so."
        )
    told.append("Generated images were not audited for copies of training subjects.")
    return " ".join(told)
