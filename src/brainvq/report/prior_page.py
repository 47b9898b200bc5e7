"""The page of a prior: headline, notes, and the sections in their order."""

from __future__ import annotations

from collections.abc import Mapping

from brainvq.report import prior_measures, prior_sections
from brainvq.report.closing import methods_section, provenance
from brainvq.report.document import document, headline, tile
from brainvq.report.ink import Drawing
from brainvq.report.markup import Html, join, tag
from brainvq.report.prior_measures import seconds
from brainvq.report.prior_methods import prior_methods
from brainvq.report.prior_record import PriorRecord
from brainvq.report.prior_stored import Beside, Bits, PriorEvaluation
from brainvq.report.sections import grids, times
from brainvq.report.stored import Interval

DISCLAIMER = (
    "Not a medical device. For research only: generated images show nobody's anatomy and must not serve diagnosis."
)


def prior_page(record: PriorRecord, drawings: Mapping[str, Drawing]) -> str:
    """The whole document."""
    tokenizer = record.facts.tokenizer
    origin = join(f"{tokenizer.preset or 'unnamed'}, SHA-256 of its weights ", tag("code", tokenizer.weights_sha256))
    found = [
        ("samples", "Samples", prior_sections.samples(record)),
        ("nearest", "Nearest training images", prior_sections.neighbours(record, drawings)),
        ("measures", "Measures", prior_measures.table(record)),
        ("training", "Training", prior_sections.training(record, drawings)),
        ("methods", "Methods", methods_section(prior_methods(record))),
        ("provenance", "Settings and provenance", provenance(record, [("Tokenizer", origin)])),
    ]
    facts = record.facts
    trained = facts.data.splits.get("train")
    on = f"the codes of {trained.images:,} slices of {trained.subjects:,} subjects" if trained else "codes"
    lead = (
        f"A prior, trained on {on} of {facts.data.name} as a tokenizer of the preset {tokenizer.preset or 'unnamed'} "
        f"writes them: {grids(facts.spec, facts.size)} for an image of {times(facts.size)} pixels. Sampled codes, "
        "decoded, are new images."
    )
    return document(
        record,
        "prior",
        lead,
        found,
        tiles=None if record.headline is None else _tiles(record, record.headline),
        unmeasured="The prior is not evaluated yet. Draw and measure samples (DATA is the folder of the images), then "
        "report again:",
        disclaimer=f"{DISCLAIMER} {prior_sections.audited(record.headline)}",
    )


def _tiles(record: PriorRecord, result: PriorEvaluation) -> Html:
    found, data = result.measures, result.data
    first = _entries(found.live_entries) if result.bits is None else _bits(result.bits)
    tiles = [first, _nearest(found.nearest_train, found.real_nearest_train), _diversity(found.diversity), _time(result)]
    chosen = ", by whose bits the weights were chosen" if record.chosen_on(result.split) else ""
    told = (
        f"Bits are measured on {result.split}: {data.images:,} images of {data.subjects:,} subjects "
        f"{record.told(result)}{chosen}. All else is"
        if result.bits
        else "This prior has no likelihood, so there are no bits to tell. All is"
    )
    told += (
        f" measured on {result.samples.n:,} samples, beside {result.real.n:,} real images that went through the "
        "tokenizer. Brackets are 95 % intervals."
    )
    return headline(tiles, told)


def _bits(bits: Bits) -> Html:
    saved, baseline = bits.saved, bits.histogram_per_code.mean
    beside = f"histogram {baseline:.3f}: {100 * saved.mean:.1f} % saved"
    return tile("Bits a code", f"{bits.per_code.mean:.3f}", beside, saved.bracket(1, 100, " %"))


def _entries(found: Beside | None) -> Html | None:
    if found is None or found.samples is None:
        return None
    return tile("Live entries in samples", f"{100 * found.samples:.0f} %", _real(found.real, 0, 100, " %"))


def _nearest(found: Interval | None, real: Interval | None) -> Html | None:
    if found is None:
        return None
    beside = _real(None if real is None else real.mean)
    return tile("SSIM to nearest in train", f"{found.mean:.4f}", found.bracket(), beside)


def _diversity(found: Beside | None) -> Html | None:
    if found is None or found.samples is None:
        return None
    return tile("SSIM among samples", f"{found.samples:.4f}", _real(found.real))


def _time(result: PriorEvaluation) -> Html | None:
    each = result.samples.seconds_each
    return None if each is None else tile("Seconds a sample", seconds(each), f"mean of {result.samples.n:,}")


def _real(value: float | None, digits: int = 4, scale: float = 1, unit: str = "") -> str | None:
    return None if value is None else f"real images {scale * value:.{digits}f}{unit}"
