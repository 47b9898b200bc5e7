"""The sections of the page, one function each: a run in, markup out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from brainvq.errors import counted
from brainvq.metrics.definitions import MEASURES
from brainvq.report.blocks import beside, definitions, figure, measured, missing, pairs, picture, pictures_of, scale
from brainvq.report.codebook_section import single_entries
from brainvq.report.drawings import LOSSES, VALIDATION
from brainvq.report.examples import Example, Examples
from brainvq.report.ink import Drawing
from brainvq.report.markup import Html, join, tag
from brainvq.report.pictures import ERROR_RANGE, code_colours, code_scale, data_uri, error_colours, error_scale
from brainvq.report.record import Record
from brainvq.report.stored import Evaluation, Spec
from brainvq.tables import BASELINES

KEY_MEASURES = ("SSIM", "SSIM foreground")
OTHER_LOSSES = {"absolute": "the absolute error", "structural": "1 - SSIM"}
CURVES = tuple(f"{name}_curve" for name in (*LOSSES, *VALIDATION))


def grids(spec: Spec, size: Sequence[int]) -> str:
    """The codes of an image of `size` pixels."""
    levels = zip(spec.grids(size), spec.entries, strict=True)
    return " and ".join(f"{times(grid)} codes of {entries:,} entries" for grid, entries in levels)


def times(size: Sequence[int]) -> str:
    return "\u00a0×\u00a0".join(map(str, size))


def reconstructions(record: Record, drawings: Mapping[str, Drawing]) -> Html:
    found, drawn = pictures_of(record), drawings.get("subjects")
    if isinstance(found, Html):
        return beside(found, drawn)
    result, examples = found
    intro = tag(
        "div",
        tag(
            "p",
            "The typical subject is the one with the median SSIM of the split; best and worst are the ends of the same "
            "ranking. Of each, the slice with its median SSIM is shown.",
            class_="prose",
        ),
        scale("too dark", error_scale(), f"too bright; full colour at {ERROR_RANGE} grey levels, black is no error"),
        scale("dark", code_scale(), "bright: each code has the colour of the mean grey level that it stands for"),
        class_="stack",
    )
    return join(beside(intro, drawn), *(_example(example, examples, result) for example in examples.items))


def _example(example: Example, examples: Examples, result: Evaluation) -> Html:
    about = example.about
    mean = result.per_subject.get(about.subject, {}).get("ssim")
    of_subject = "" if mean is None else f", mean of the subject {mean:.4f}"
    error = np.abs(example.original.astype(float) - example.reconstruction)
    who = f"slice {about.slice} of subject {about.subject}"
    shown = [
        picture(data_uri(example.original), f"Original, {who}", "original"),
        picture(data_uri(example.reconstruction), f"Reconstruction of {who}", "reconstruction"),
        picture(
            data_uri(error_colours(example.original, example.reconstruction)),
            f"Error of {who}: {error.mean():.1f} grey levels on average, {error.max():.0f} at most",
            f"error, mean {error.mean():.1f} grey levels",
        ),
    ]
    for level, (grid, grey) in enumerate(zip(about.codes, examples.about.grey, strict=True)):
        size = f"{len(grid)} × {len(grid[0])}"
        used = len({code for row in grid for code in row})
        name = "codes" if len(about.codes) == 1 else f"codes, level {level + 1}"
        alt = f"Map of the {size} codes of {who}, {used} different entries"
        shown.append(picture(data_uri(code_colours(grid, grey)), alt, f"{name}, {size}, {used} entries", "codes"))
    title = f"{about.role.capitalize()} subject"
    told = f"{about.subject}, slice {about.slice} of {about.slices}: SSIM {about.ssim:.4f}{of_subject}"
    return tag("div", tag("header", tag("h3", title), tag("p", told)), *shown, class_="example")


def measures(record: Record) -> Html:
    if not record.evaluations:
        return missing("Nothing is measured yet.", record.command("evaluate"))
    return join(
        *(_table(result) for result in record.evaluations.values()),
        _definitions(next(iter(record.evaluations.values()))),
    )


def _table(result: Evaluation) -> Html:
    heads = [
        "measure",
        str(result.model.get("preset") or "model"),
        *(BASELINES.get(name, name) for name in result.baselines),
    ]
    arrows = {_label(name): "↑" if measure.better == "higher" else "↓" for name, measure in MEASURES.items()}
    lines = []
    for label, value, *others in result.table:
        name = f"{label} {arrows[label]}" if label in arrows else label
        mean, bracket, interval = value.partition(" [")
        cell = join(tag("b", mean), tag("small", bracket.strip() + interval) if bracket else None)
        cells = [tag("th", name, scope="row"), tag("td", cell), *(tag("td", text) for text in others)]
        lines.append(tag("tr", *cells, class_="key" if label in KEY_MEASURES else None))
    data = result.data
    caption = (
        f"{data.name}, {result.split}: {counted(data.images, 'image')} of {counted(data.subjects, 'subject')}. Means "
        "over images, with 95 % intervals by bootstrap over subjects. ↑ higher is better, ↓ lower."
    )
    return measured(result, caption, heads, lines)


def _label(name: str) -> str:
    measure = MEASURES[name]
    return f"{measure.label} ({measure.unit})" if measure.unit else measure.label


def _definitions(result: Evaluation) -> Html:
    named = [
        (MEASURES[name].label if name in MEASURES else name.replace("_", " ").capitalize(), text)
        for name, text in result.definitions.items()
        if name in result.measures or name not in MEASURES
    ]
    return definitions(named)


def training(record: Record, drawings: Mapping[str, Drawing]) -> Html:
    names = [name for name in CURVES if name in drawings]
    if not names:
        return missing("The log holds no training steps yet.", record.command("resume"))
    watched = (
        "" if record.validate else " No validation is logged yet: the first comes with train.validate_every steps."
    )
    task = record.experiment.task if record.experiment else None
    others = [label for key, label in OTHER_LOSSES.items() if getattr(task, key, 0)]
    crops = " Losses of train are those of crops, which hold more head." if getattr(task, "crop", 1) < 1 else ""
    intro = (
        f"The total loss is the reconstruction loss (squared error){''.join(f', {label}' for label in others)} plus "
        "the quantization loss, which is codebook and commitment loss together; their scale is logarithmic, and the "
        "first steps may lie outside the frame. Validation during training uses a fixed part of the split."
        f"{crops}{watched}"
    )
    panels = tag("div", *(figure(drawings[name]) for name in names), class_="panels")
    return join(tag("p", intro, class_="prose"), panels)


def codebook(record: Record, drawings: Mapping[str, Drawing]) -> Html:
    result = record.headline
    if result is None:
        return missing(
            "Use of the codebook over a whole split is measured by an evaluation.", record.command("evaluate")
        )
    usage = result.usage
    sentence = (
        f"Over all of {result.split}, {usage.live_entries:,} entries are live and {usage.dead_entries:,} dead. The "
        f"perplexity is {usage.perplexity:.1f}: so many entries, used evenly, would carry as much."
    )
    rates = [
        ("Fixed length", f"{usage.nominal_bits_per_pixel:.4f} bits a pixel"),
        ("Entropy", f"{usage.entropy_bits_per_pixel:.4f} bits a pixel, by position"),
    ]
    if usage.held_out_bits_per_pixel is not None:
        rates.append(
            ("Held out", f"{usage.held_out_bits_per_pixel:.4f} bits a pixel, by a coder that learned from others")
        )
    told = tag("div", tag("p", sentence, class_="prose"), pairs(rates), class_="stack")
    return join(beside(told, drawings["codebook"]), single_entries(record, drawings))
