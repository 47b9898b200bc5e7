"""The sections of a prior's page, one function each: a run in, markup out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from brainvq.report.blocks import beside, figure, missing, picture, pictures_of, scale
from brainvq.report.ink import Drawing
from brainvq.report.kept import Pixels
from brainvq.report.markup import Html, join, tag
from brainvq.report.pictures import code_colours, code_scale, data_uri
from brainvq.report.prior_drawings import CURVES
from brainvq.report.prior_examples import Grids, PriorExamples
from brainvq.report.prior_record import PriorRecord
from brainvq.report.prior_stored import PriorEvaluation

NOT_AUDITED = (
    "Not audited for copies of training subjects: the nearest images are found by whole-image similarity, which misses "
    "copies of parts, and shifted or mirrored ones."
)


def audited(result: PriorEvaluation | None) -> str:
    """What the audit found, or that there was none."""
    if result is None or result.audit is None:
        return NOT_AUDITED
    sentence = result.audit.sentence.replace("pairs.png", f"evaluation/{result.split}-pairs.png of the run")
    return f"Audited for copies of training subjects. {sentence}"


def samples(record: PriorRecord) -> Html:
    found = pictures_of(record)
    if isinstance(found, Html):
        return found if record.headline else join(found, missing("Samples alone, as files:", record.command("sample")))
    result, examples = found
    about, n = examples.about, len(examples.samples)
    first = f"samples 0 to {n - 1}" if n > 1 else "sample 0"
    grain = ", and noise in the place of what it lacks" if result.tokenizer.grain_sha256 else ""
    intro = (
        f"Generated: {first} of the sequence of seed {about.seed}, the first ones, none picked by eye. Real: images of "
        f"{result.split}, of every subject in turn, through the same tokenizer; so both have its blur{grain}."
    )
    images = _facing(
        [picture(data_uri(pixels), f"Generated image, sample {i}") for i, pixels in enumerate(examples.samples)],
        [
            picture(data_uri(pixels), f"Real image {i} of {result.split}, through the tokenizer")
            for i, pixels in enumerate(examples.real)
        ],
    )
    parts: list[Html] = [tag("p", intro, class_="prose"), images]
    for level in range(len(about.orders)):
        of_level = "" if len(about.orders) == 1 else f" of level {level + 1}"
        parts.append(tag("h3", f"Their codes{of_level}", class_="after"))
        told = "bright: each code has the colour of its entry's rank, by the pixels that the entry covers in train"
        parts.append(scale("dark", code_scale(), told))
        parts.append(_facing(_maps(examples, level, "sample"), _maps(examples, level, "real image")))
    return join(*parts)


def _maps(examples: PriorExamples, level: int, what: str) -> list[Html]:
    """The index images of one level."""
    ranks = examples.ranks(level)
    images: Sequence[Grids] = examples.about.samples if what == "sample" else examples.about.real
    found = []
    for i, grids in enumerate(images):
        rows = grids[level]
        used = len({code for row in rows for code in row})
        alt = f"Index image of {what} {i}: {len(rows)} × {len(rows[0])} codes, {used} different entries"
        found.append(picture(data_uri(code_colours(rows, ranks)), alt, class_="codes"))
    return found


def _facing(generated: list[Html], real: list[Html]) -> Html:
    sides = (("Generated", generated), ("Real", real))
    walls = [tag("div", tag("h4", name), tag("div", *pictures, class_="wall")) for name, pictures in sides]
    return tag("div", *walls, class_="facing")


def neighbours(record: PriorRecord, drawings: Mapping[str, Drawing]) -> Html:
    found, drawn = pictures_of(record), drawings.get("nearest")
    if isinstance(found, Html):
        return beside(found, drawn)
    result, examples = found
    intro = (
        f"Beside each of these samples, the most similar of the {result.data.train_images:,} training images: the "
        "eight of the highest correlation at 64 × 64 are compared by SSIM. A sample that shows its neighbour's very "
        "folds is a copy. "
    )
    pairs = [
        _pair(i, sample, nearest, examples)
        for i, (sample, nearest) in enumerate(zip(examples.samples, examples.nearest, strict=True))
    ]
    told = tag("p", intro, tag("b", audited(result)), class_="prose")
    return join(beside(told, drawn), tag("div", *pairs, class_="pairs"))


def _pair(i: int, sample: Pixels, nearest: Pixels, examples: PriorExamples) -> Html:
    about = examples.about.nearest[i]
    return tag(
        "div",
        picture(data_uri(sample), f"Generated image, sample {i}", f"sample {i}"),
        picture(
            data_uri(nearest),
            f"Training image nearest to sample {i}, of subject {about.subject}",
            join(tag("b", f"SSIM {about.ssim:.3f}"), f", correlation {about.correlation:.3f}, subject {about.subject}"),
        ),
        class_="pair",
    )


def training(record: PriorRecord, drawings: Mapping[str, Drawing]) -> Html:
    panels = [figure(drawings[name]) for name in (*CURVES, "bits_subjects") if name in drawings]
    if not panels and not record.counted:
        return missing("The log holds no training steps yet.", record.command("resume"))
    if record.counted:
        told = "Nothing was trained by steps: the codes of the train split were counted once."
    elif "losses_curve" in drawings:
        told = (
            "Both losses are cross entropies in nats. They tell whether one network has outplayed the other (a mean "
            "probability near 0 or 1), not how good the samples are."
        )
    else:
        told = (
            "The loss is the mean number of bits a code. Where validate rises, the prior overfits; train lies lower "
            "from the start, because the frequencies that the prior starts from contain the training images."
        )
    return join(tag("p", told, class_="prose"), tag("div", *panels, class_="panels"))
