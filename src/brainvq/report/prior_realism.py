"""The rows of a prior's report that tell how real samples look, and how whole heads hold together."""

from __future__ import annotations

from brainvq.metrics.definitions import WHOLE_HEADS
from brainvq.metrics.realism import FAMILY_LABELS, REALISM
from brainvq.report.markup import Html, join, tag
from brainvq.report.prior_stored import Estimate, FamilyOf, PriorEvaluation
from brainvq.report.rows import Row, interval

SHOWN = ("frechet", "kernel", "precision", "recall", "coverage")
WORDS = {
    "neighbour_ssim": "Far below real heads, slices do not belong together; far above, they stand still.",
    "flicker": "Far above real heads, brightness jumps from slice to slice.",
}


def realism_rows(result: PriorEvaluation) -> list[Row]:
    """In both families; beside training images through the tokenizer, and the floor that no copier beats."""
    if result.realism is None:
        return []
    return [
        _row(FAMILY_LABELS.get(name, name), family, measure)
        for name, family in result.realism.families.items()
        for measure in SHOWN
        if measure in family.floor
    ]


def _row(label: str, family: FamilyOf, measure: str) -> Row:
    samples, through = (family.sets[name] for name in ("samples", "tokenizer"))
    words = REALISM[measure].definition
    if measure in samples.better_than_floor:
        words = f"Better than real images by more than chance: something is wrong. {words}"
    beside = join(_told(through.measures[measure]), Html("; floor "), _told(family.floor[measure]))
    value = tag("b", _told(samples.measures[measure]))
    return Row(f"{label}: {REALISM[measure].label}", value, "train images through the tokenizer", beside, words)


def _told(found: Estimate) -> Html:
    return Html(f"{found.value:.3g} [{found.low:.3g}, {found.high:.3g}]")


def head_rows(result: PriorEvaluation) -> list[Row]:
    """Of heads that were made slice after slice."""
    heads = result.heads
    if heads is None:
        return []
    return [
        Row(
            WHOLE_HEADS[name].label,
            interval(getattr(heads.samples, name)),
            f"{heads.n if heads.real_n is None else heads.real_n} real heads",
            interval(getattr(heads.real, name)) if heads.real is not None else None,
            words,
        )
        for name, words in WORDS.items()
    ]
