"""The measures of a prior in one table: each beside what it is to be compared with, and what it can and cannot say."""

from __future__ import annotations

from collections.abc import Callable

from brainvq.metrics.definitions import GENERATION
from brainvq.report import blocks
from brainvq.report.markup import Html, join, tag
from brainvq.report.prior_realism import head_rows, realism_rows
from brainvq.report.prior_record import PriorRecord
from brainvq.report.prior_stored import Beside, Bits, Described, PriorEvaluation
from brainvq.report.rows import Row, interval

DESCRIBED = 0.63
"""Reported by the described system of VQ-VAE and DCGAN on OASIS slices, the best of 604 batches."""


def table(record: PriorRecord) -> Html:
    if not record.evaluations:
        return blocks.missing("Nothing is measured yet.", record.command("evaluate"))
    return join(*(_table(record, result) for result in record.evaluations.values()))


def _table(record: PriorRecord, result: PriorEvaluation) -> Html:
    data = result.data
    caption = (
        f"{record.facts.data.name}, {result.split}: {data.images:,} images of {data.subjects:,} subjects "
        f"{record.told(result)}; {result.samples.n:,} samples of seed {result.samples.seed}, beside {result.real.n:,} "
        f"real images of {result.split} that went through the tokenizer. Brackets are 95 % intervals: over samples; "
        "of bits and real images over subjects."
    )
    lines = [
        tag(
            "tr",
            tag("th", tag("span", row.label), tag("small", row.words), scope="row"),
            tag("td", row.value),
            tag("td", row.beside, tag("small", row.against) if row.beside is not None else None),
        )
        for row in (
            *_bits(result),
            *realism_rows(result),
            *head_rows(result),
            *_copies(result),
            *_similarities(result),
            *_others(result),
        )
        if row.value is not None
    ]
    heads = ("measure", str(result.model.get("preset") or "prior"), "to compare with")
    named = [(GENERATION[name].label, text) for name, text in defined(result).items()]
    told = blocks.measured(result, caption, heads, lines, class_="worded")
    return join(told, blocks.definitions(named) if named else None)


def _copies(result: PriorEvaluation) -> list[Row]:
    if result.audit is None:
        return []
    found, unseen, seen = result.audit.flagged, result.audit.false_alarms, result.audit.sensitivity
    words = (
        "Samples nearer to one training subject than unseen slices are. It matters above the share of unseen slices; "
        "where the share of copies made on purpose is low, finding nothing means nothing."
    )
    beside = f"unseen {100 * unseen.share:.1f} %; copies {100 * seen.share:.1f} %"
    value = join(tag("b", f"{100 * found.share:.1f} %"), tag("small", f"{found.flagged:,} of {found.images:,}"))
    return [Row("Flagged as copies", value, "made on purpose of training slices", tag("span", beside), words)]


def defined(result: PriorEvaluation) -> dict[str, str]:
    """The definitions of what was measured, in the words of the evaluation."""
    return {name: text for name, text in result.definitions.items() if name in GENERATION and _has(result, name)}


def _has(result: PriorEvaluation, name: str) -> bool:
    if name in ("bits_per_code", "bits_per_pixel", "saved"):
        return result.bits is not None
    found = getattr(result.measures, name, None)
    return found is not None and getattr(found, "samples", 0) is not None


def _bits(result: PriorEvaluation) -> list[Row]:
    bits = result.bits
    if bits is None:
        return []
    return [
        Row(
            GENERATION["bits_per_code"].label + ("" if bits.exact else ", at most"),
            interval(bits.per_code, 3),
            "histogram",
            interval(bits.histogram_per_code, 3),
            "What the prior pays to write down a code of held-out images; fewer is better. It says how well codes are "
            "foretold, not how samples look.",
        ),
        *_told(bits),
        Row(
            GENERATION["saved"].label,
            interval(bits.saved, 1, 100, " %"),
            "",
            None,
            "Share of the histogram's bits that the prior does without.",
        ),
        Row(
            GENERATION["bits_per_pixel"].label,
            interval(bits.per_pixel, 4),
            "codes of fixed length",
            Html(f"{bits.nominal_per_pixel:.4f}"),
            "The same bits over the pixels of an image. What the tokenizer loses is not in it.",
        ),
    ]


def _told(bits: Bits) -> list[Row]:
    if not (bits.told and bits.told_per_code):
        return []
    label, meaning = (
        f"The same, told {', '.join(bits.told)}",
        "What the prior pays when it knows that much.",
    )
    return [Row(label, interval(bits.told_per_code, 3), "", None, meaning)]


def _similarities(result: PriorEvaluation) -> list[Row]:
    words = {
        "nearest_train": f"Of all {result.data.train_images:,} training images. Well above real images: look for "
        "copies. Well below: the samples resemble nothing in train. It cannot find copies of parts.",
        "nearest_train_as_many": f"Among {result.data.subjects:,} training subjects, to be held against the next line: "
        "more images hold nearer ones.",
        "nearest_validate": f"Of {result.split}. Where samples lie well below the line above, they lean on training "
        "images.",
    }
    return [
        Row(
            GENERATION[name].label,
            interval(getattr(result.measures, name)),
            "real images, other subjects" if name == "nearest_validate" else "real images",
            interval(getattr(result.measures, f"real_{name}")),
            text,
        )
        for name, text in words.items()
    ]


def _others(result: PriorEvaluation) -> list[Row]:
    found, drawn = result.measures, result.samples
    return [
        _beside(
            GENERATION["diversity"].label,
            found.diversity,
            lambda value: f"{value:.4f}",
            "Above real images of different subjects, samples are more alike than people are. Noise would score low, "
            "too.",
        ),
        _beside(
            GENERATION["live_entries"].label,
            found.live_entries,
            lambda value: f"{100 * value:.1f} %",
            "Share of the entries in use in train which samples use. It says nothing of where they stand.",
        ),
        Row(
            "Seconds a sample",
            None if drawn.seconds_each is None else tag("b", seconds(drawn.seconds_each)),
            "",
            None,
            f"Wall time from seed to image, mean of {drawn.n:,}, on the machine of the evaluation.",
        ),
        _described(found.described_ssim, found.real_described_ssim),
    ]


def _described(found: Described | None, real: Described | None) -> Row:
    beside = f"{DESCRIBED}" if real is None else f"{real.best_batch:.4f}"
    against = "described system" if real is None else f"real images; described system {DESCRIBED}"
    mean = "" if found is None else f" Best of {found.batches:,} batches, whose mean is {found.mean_batch:.4f}."
    return Row(
        GENERATION["described_ssim"].label,
        None if found is None else tag("b", f"{found.best_batch:.4f}"),
        against,
        Html(beside),
        "Here only because it was published: it pairs heads that have nothing to do with each other, and takes the "
        f"best of many batches.{mean}",
    )


def _beside(label: str, found: Beside | None, told: Callable[[float], str], words: str) -> Row:
    samples, real = (None, None) if found is None else (found.samples, found.real)
    value = None if samples is None else tag("b", told(samples))
    return Row(label, value, "real images", None if real is None else Html(told(real)), words)


def seconds(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.2g}"
