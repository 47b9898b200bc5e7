"""The measures of a prior in one table: each beside what it is to be compared with, and what it can and cannot say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from brainvq.report.blocks import missing, scroll
from brainvq.report.markup import Html, join, tag
from brainvq.report.prior_record import PriorRecord
from brainvq.report.prior_stored import PriorEvaluation
from brainvq.report.stored import Interval

DESCRIBED = 0.63
"""Reported by the described system of VQ-VAE and DCGAN on OASIS slices, the best of 604 batches."""


@dataclass(frozen=True)
class Row:
    """`value`, and `beside` it what it is compared with, which `against` names."""

    label: str
    value: Html | None
    against: str
    beside: Html | None
    words: str


def table(record: PriorRecord) -> Html:
    if not record.evaluations:
        return missing("Nothing is measured yet.", record.command("evaluate"))
    return join(*(_table(record, result) for result in record.evaluations.values()))


def _table(record: PriorRecord, result: PriorEvaluation) -> Html:
    data = result.data
    caption = (
        f"{result.split}: {data.images:,} images of {data.subjects:,} subjects {record.told(result)}; "
        f"{result.samples.n:,} samples of seed {result.samples.seed}, beside as many real images of {result.split}, each "
        "through the tokenizer. Brackets are 95 % intervals: of bits over subjects, of similarities over images."
    )
    lines = [
        tag(
            "tr",
            tag("th", tag("span", row.label), tag("small", row.words), scope="row"),
            tag("td", row.value),
            tag("td", row.beside, tag("small", row.against) if row.beside is not None else None),
        )
        for row in rows(result)
        if row.value is not None
    ]
    heads = ("measure", str(result.model.get("preset") or "prior"), "to compare with")
    head = tag("thead", tag("tr", *(tag("th", text, scope="col") for text in heads)))
    inside = tag("table", head, tag("tbody", *lines), class_="worded")
    return join(tag("p", caption, class_="muted prose"), scroll(inside, f"Measures on {result.split}"))


def rows(result: PriorEvaluation) -> list[Row]:
    return [*_bits(result), *_similarities(result), *_others(result)]


def _bits(result: PriorEvaluation) -> list[Row]:
    bits = result.bits
    if bits is None:
        return []
    pixels = bits.nominal_per_code * bits.per_pixel.mean / bits.per_code.mean if bits.per_code.mean else None
    return [
        Row(
            "Bits a code",
            interval(bits.per_code, 3),
            "histogram",
            interval(bits.histogram_per_code, 3),
            "What the prior pays to write down a code of held-out images; fewer is better. It says how well codes are "
            "foretold, not how samples look.",
        ),
        Row(
            "Saved against the histogram",
            interval(bits.saved, 1, 100, " %"),
            "",
            None,
            "Share of the histogram's bits that the prior does without, paired by subject.",
        ),
        Row(
            "Bits a pixel",
            interval(bits.per_pixel, 4),
            "codes of fixed length",
            None if pixels is None else Html(f"{pixels:.4f}"),
            "The same bits over the pixels of an image. What the tokenizer loses is not in it.",
        ),
    ]


def _similarities(result: PriorEvaluation) -> list[Row]:
    found, data = result.measures, result.data
    return [
        Row(
            "Nearest training image, SSIM",
            interval(found.nearest_train),
            "real images",
            interval(found.real_nearest_train),
            f"The most similar of all {data.train_images:,} training images. Well above real images: copies. Well "
            "below: they resemble nothing in train. It cannot find copies of parts.",
        ),
        Row(
            f"The same among {data.subjects:,} training subjects",
            interval(found.nearest_train_as_many),
            "real images",
            interval(found.real_nearest_train_as_many),
            f"As many as {result.split} has, so that it can be held against the next line: more images hold nearer "
            "ones.",
        ),
        Row(
            f"Nearest image of {result.split}, SSIM",
            interval(found.nearest_validate),
            "real images, other subjects",
            interval(found.real_nearest_validate),
            "Where it lies well below the line above, the samples lean on training images.",
        ),
    ]


def _others(result: PriorEvaluation) -> list[Row]:
    found, drawn = result.measures, result.samples
    described = found.described_ssim
    best = None if described is None else join(tag("b", f"{described.best_batch:.4f}"))
    mean = (
        "" if described is None else f" The mean over the {described.batches:,} batches is {described.mean_batch:.4f}."
    )
    return [
        _beside(
            "Diversity",
            found.diversity,
            lambda value: f"{value:.4f}",
            "Mean SSIM of pairs of samples. Above real images of different subjects the samples are more alike than "
            "people are. Noise would score low, too.",
        ),
        _beside(
            "Live entries in samples",
            found.live_entries,
            lambda value: f"{100 * value:.1f} %",
            "Share of the entries that occur in train which samples use. It says nothing of where they stand.",
        ),
        Row(
            "Seconds a sample",
            None if drawn.seconds_each is None else join(tag("b", seconds(drawn.seconds_each))),
            "",
            None,
            "Wall time from seed to image, divided by the number of samples, on the machine of the evaluation.",
        ),
        Row(
            "Described SSIM, best batch",
            best,
            "described system",
            Html(f"{DESCRIBED}"),
            "16 samples against 16 training images in file order, shifted scale, best of all batches. It pairs heads "
            f"that have nothing to do with each other; here only because it was published.{mean}",
        ),
    ]


def _beside(label: str, found: object, told: Callable[[float], str], words: str) -> Row:
    samples, real = getattr(found, "samples", None), getattr(found, "real", None)
    value = None if samples is None else join(tag("b", told(samples)))
    return Row(label, value, "real images", None if real is None else Html(told(real)), words)


def interval(found: Interval | None, digits: int = 4, scale: float = 1, unit: str = "") -> Html | None:
    """The mean, and its bracket small beside it."""
    if found is None:
        return None
    mean = tag("b", f"{scale * found.mean:.{digits}f}{unit}")
    if found.low is None or found.high is None:
        return mean
    return join(mean, tag("small", f"[{scale * found.low:.{digits}f}, {scale * found.high:.{digits}f}]"))


def seconds(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.2g}"
