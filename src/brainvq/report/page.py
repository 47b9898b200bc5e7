"""The page of a tokenizer: headline, notes, and the sections in their order."""

from __future__ import annotations

from collections.abc import Mapping

from brainvq.report import sections
from brainvq.report.closing import methods_section, provenance
from brainvq.report.document import document, headline, tile
from brainvq.report.ink import Drawing
from brainvq.report.markup import Html, join, tag
from brainvq.report.methods import methods
from brainvq.report.record import Record
from brainvq.report.sections import grids, times
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
    facts = record.facts
    trained = facts.data.splits.get("train")
    on = f"trained on {trained.images:,} slices of {trained.subjects:,} subjects" if trained else "trained"
    coded = f"It turns an image of {times(facts.data.size)} pixels into {grids(facts.spec, facts.data.size)}."
    return document(
        record,
        "tokenizer",
        f"A tokenizer {on} of {facts.data.name}. {coded}",
        found,
        tiles=None if record.headline is None else _tiles(record, record.headline),
        unmeasured="The model is not evaluated yet. Measure it (DATA is the folder of the images), then report again:",
        disclaimer=DISCLAIMER,
    )


def _tiles(record: Record, result: Evaluation) -> Html:
    usage = result.usage
    entries, held_out = usage.live_entries + usage.dead_entries, usage.held_out_bits_per_pixel
    tiles = [
        *(_measure(result, name, label) for name, label in (("ssim", "SSIM"), ("ssim_foreground", "SSIM foreground"))),
        tile(
            "Live entries",
            join(f"{usage.live_entries:,} ", tag("small", f"of {entries:,}")),
            f"perplexity {usage.perplexity:.1f}",
        ),
        tile(
            "Bits a pixel",
            f"{usage.nominal_bits_per_pixel:.4f}",
            f"entropy {usage.entropy_bits_per_pixel:.4f}",
            None if held_out is None else f"held out {held_out:.4f}",
        ),
    ]
    told = (
        f"Measured on {result.split}: {result.data.images:,} images of {result.data.subjects:,} subjects "
        f"{record.told(result)}. Brackets are 95 % intervals over subjects."
    )
    return headline(tiles, told)


def _measure(result: Evaluation, name: str, label: str) -> Html | None:
    found = result.measures.get(name)
    if found is None:
        return None
    baseline = result.baselines.get("mean_train_image", {}).get(name)
    beside = f"{BASELINES['mean_train_image']} {baseline.mean:.4f}" if baseline else None
    return tile(label, f"{found.mean:.4f}", found.bracket(), beside)
