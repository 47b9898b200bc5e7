"""The sections that close every page: methods for a paper, settings and provenance."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from brainvq.config import paths
from brainvq.report.blocks import pairs
from brainvq.report.markup import Html, join, tag
from brainvq.report.methods import duration
from brainvq.report.record import AnyRun
from brainvq.report.stored import Split


def methods_section(told: Sequence[tuple[str, str]]) -> Html:
    """Headings and their paragraphs, as one block to copy."""
    if not told:
        return tag("p", "The run's settings cannot be read by this version, so no methods can be written.")
    hint = (
        "Ready to paste: one click selects all of it. Add what the run cannot know: the source of the images and its "
        "citation, how they were acquired, and the approval of their use."
    )
    blocks = []
    for title, text in told:
        if title == "References":
            lines = [tag("p", line) for line in text.splitlines()]
            blocks.append(tag("div", tag("p", tag("b", title)), *lines, class_="references"))
        else:
            blocks.append(tag("p", tag("b", f"{title}."), " ", text))
    return join(tag("p", hint, class_="prose muted"), tag("div", *blocks, class_="copy", tabindex="0"))


def provenance(run: AnyRun, more: Iterable[tuple[str, object]] = ()) -> Html:
    """Where the run comes from; `more` stands before the weights."""
    facts, hardware = run.facts, run.facts.hardware
    memory = f", {hardware.memory_gib:g} GiB" if hardware.memory_gib else ""
    machine = f"{hardware.cpu}, {hardware.cores} cores ({hardware.threads} threads used){memory}, {hardware.system}"
    images = facts.images_seen
    rate = f" ({images / facts.wall_time_s:.1f} images a second)" if images and facts.wall_time_s else ""
    told = [
        ("Command", tag("code", facts.command or "called from Python")),
        ("Preset", facts.preset),
        ("Steps", f"{run.step:,} of {facts.planned_steps:,}"),
        ("Images seen", "known when training ends" if images is None else f"{images:,}{rate}"),
        ("Wall time", "known when training ends" if facts.wall_time_s is None else duration(facts.wall_time_s)),
        ("Seed", facts.seed),
        ("Hardware", f"{hardware.gpu or 'no GPU'}; {machine}"),
        ("Versions", ", ".join(f"{name} {version}" for name, version in facts.versions.items())),
        ("Parameters", ", ".join(f"{name} {count:,}" for name, count in facts.parameters.items())),
        ("Data", f"{facts.data.name}, {' × '.join(map(str, facts.data.size))} pixels, height × width"),
        *((f"Data, {name}", _split(split)) for name, split in facts.data.splits.items()),
        *more,
        ("Weights", tag("code", facts.weights_sha256 or "known when training ends")),
    ]
    settings = "\n".join(f"{path} = {_setting(run.settings, path)}" for path in paths(run.settings))
    region = {"role": "region", "tabindex": "0", "aria_label": "Settings"}
    return join(
        pairs(told),
        tag("details", tag("summary", "All settings, as --set takes them"), tag("pre", settings, **region)),
    )


def _split(split: Split) -> Html:
    return join(f"{split.images:,} images of {split.subjects:,} subjects, SHA-256 ", tag("code", split.fingerprint))


def _setting(values: dict[str, object], path: str) -> object:
    found: object = values
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return "null" if found is None else str(found).lower() if isinstance(found, bool) else found
