"""The page as a whole: head, headline, notes, and the sections in their order."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files

from brainvq.report import sections
from brainvq.report.ink import Drawing
from brainvq.report.markup import Html, join, tag
from brainvq.report.record import Record
from brainvq.report.stored import Evaluation
from brainvq.tables import BASELINES

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
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
        ("methods", "Methods", sections.methods_section(record)),
        ("provenance", "Settings and provenance", sections.provenance(record)),
    ]
    links = [tag("a", title, href=f"#{name}") for name, title, _ in found]
    body = [
        tag("section", tag("h2", title, id=f"{name}-title"), content, id=name, aria_labelledby=f"{name}-title")
        for name, title, content in found
    ]
    header = tag("header", *_title(record), tag("nav", *links, aria_label="Sections"))
    main = tag("main", _headline(record), _notices(record), *body)
    return (
        "<!doctype html>\n" + tag("html", _head(record), tag("body", header, main, _footer(record)), lang="en") + "\n"
    )


def _head(record: Record) -> Html:
    style = (files("brainvq.report") / "page.css").read_text()
    return tag(
        "head",
        Html('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'),
        Html('<meta name="referrer" content="no-referrer">'),
        tag("title", f"{record.folder}, a brainvq report"),
        tag("style", Html(style)),
    )


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
        _tile("Live entries", live, f"perplexity {usage.perplexity:.1f}"),
        _tile("Bits a pixel", f"{usage.nominal_bits_per_pixel:.4f}", *_rates(result)),
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
    return _tile(label, f"{found.mean:.4f}", *interval, *beside)


def _tile(label: str, value: str, *beside: str) -> Html:
    lines = [tag("dd", line, class_="beside") for line in beside]
    return tag("div", tag("dt", label), tag("dd", value, class_="value"), *lines)


def _notices(record: Record) -> Html | None:
    """What is not there yet, and what the reader has to know."""
    shown = []
    if not record.finished:
        shown.append(
            tag(
                "p",
                f"Training has not ended: step {record.step:,} of {record.facts.planned_steps:,} is logged. If it was "
                "stopped, go on with",
                tag("code", record.command("resume"), class_="command"),
            )
        )
    if record.headline is None:
        shown.append(
            tag(
                "p",
                "The model is not evaluated yet. Measure it (DATA is the folder of the images), then report again:",
                tag("code", record.command("evaluate"), class_="command"),
                tag("code", record.command("report"), class_="command"),
            )
        )
    if record.notes:
        shown.append(tag("ul", *(tag("li", note) for note in record.notes)))
    return tag("div", *shown, class_="notice", role="note") if shown else None


def _footer(record: Record) -> Html:
    pictures = " Pictures on this page were made from the images of the data: share it as you may share them."
    text = f"{DISCLAIMER}{pictures if record.examples else ''} Made by brainvq {record.facts.version}."
    return tag("footer", tag("p", text))
