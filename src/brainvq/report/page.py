"""The page of a tokenizer: headline, notes, and the sections in their order."""

from __future__ import annotations

from collections.abc import Mapping

from brainvq.report import sections
from brainvq.report.closing import methods_section, provenance
from brainvq.report.document import document, footer, notices, tile
from brainvq.report.ink import Drawing
from brainvq.report.markup import Html, join, tag
from brainvq.report.methods import methods
from brainvq.report.record import Record
from brainvq.report.stored import Evaluation
from brainvq.tables import BASELINES

DISCLAIMER = (
    "Not a medical device. For research only: reconstructions may lose or invent detail and must not serve diagnosis."
)


def page(record: Record, drawings: Mapping[str, Drawing]) -> str:
    """The whole document."""
    found = [
        ("reconstructions", "Reconstructions", sections.reconstructions(record, drawings)),
        ("measures", "Measures", sections.measures(record)),
        ("training", "Training", sections.training(record, drawings)),
        ("codebook", "Codebook", sections.codebook(record, drawings)),
        ("methods", "Methods", methods_section(methods(record))),
        ("provenance", "Settings and provenance", provenance(record)),
    ]
    return document(record, _title(record), found, before=[_headline(record), _notices(record)], after=_footer(record))


def _title(record: Record) -> list[Html]:
    facts = record.facts
    trained = facts.data.splits.get("train")
    on = f"trained on {trained.images:,} slices of {trained.subjects:,} subjects" if trained else "trained"
    coded = sections.coded(facts)
    return [
        tag("p", f"brainvq report · tokenizer, preset {facts.preset}", class_="eyebrow"),
        tag("h1", record.folder),
        tag("p", f"A tokenizer {on} of {facts.data.name}. {coded}", class_="lead"),
    ]


def _headline(record: Record) -> Html | None:
    result = record.headline
    if result is None:
        return None
    usage = result.usage
    entries = usage.live_entries + usage.dead_entries
    live = join(f"{usage.live_entries:,} ", tag("small", f"of {entries:,}"))
    tiles = [
        *(_tile_of(result, name, label) for name, label in (("ssim", "SSIM"), ("ssim_foreground", "SSIM foreground"))),
        tile("Live entries", live, f"perplexity {usage.perplexity:.1f}"),
        tile("Bits a pixel", f"{usage.nominal_bits_per_pixel:.4f}", *_rates(result)),
    ]
    return join(
        tag("dl", *tiles, class_="tiles"),
        tag(
            "p",
            f"Measured on {result.split}: {result.data.images:,} images of {result.data.subjects:,} subjects "
            f"{record.told(result)}. Brackets are 95 % intervals over subjects.",
            class_="muted",
            style="margin-top:16px;font-size:.9375rem",
        ),
    )


def _rates(result: Evaluation) -> list[str]:
    usage = result.usage
    held_out = usage.held_out_bits_per_pixel
    kept = [f"held out {held_out:.4f}"] if held_out is not None else []
    return [f"entropy {usage.entropy_bits_per_pixel:.4f}", *kept]


def _tile_of(result: Evaluation, name: str, label: str) -> Html | None:
    found = result.measures.get(name)
    if found is None:
        return None
    interval = [] if found.low is None else [f"[{found.low:.4f}, {found.high:.4f}]"]
    baseline = result.baselines.get("mean_train_image", {}).get(name)
    beside = [f"{BASELINES['mean_train_image']} {baseline.mean:.4f}"] if baseline else []
    return tile(label, f"{found.mean:.4f}", *interval, *beside)


def _notices(record: Record) -> Html | None:
    unmeasured = (
        "The model is not evaluated yet. Measure it (DATA is the folder of the images), then report again:",
        record.command("evaluate"),
        record.command("report"),
    )
    return notices(record, None if record.headline else unmeasured)


def _footer(record: Record) -> Html:
    return footer(record, DISCLAIMER, pictures=bool(record.examples))
