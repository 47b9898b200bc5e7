"""What all pages share: the HTML around the sections, the headline, and what is said of a run above and below."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.resources import files

from brainvq.report.markup import Html, join, tag
from brainvq.report.record import AnyRun

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"

Section = tuple[str, str, Html]
"""Its identifier, title and content."""


def document(
    run: AnyRun,
    kind: str,
    lead: str,
    sections: Sequence[Section],
    *,
    tiles: Html | None,
    unmeasured: str,
    disclaimer: str,
) -> str:
    """The whole HTML: `lead` below the name of the run, `tiles` from `headline`, and the sections.

    `unmeasured` is said where there is no evaluation yet, above the commands that make one.
    """
    links = [tag("a", title, href=f"#{name}") for name, title, _ in sections]
    body = [
        tag("section", tag("h2", title, id=f"{name}-title"), content, id=name, aria_labelledby=f"{name}-title")
        for name, title, content in sections
    ]
    header = tag(
        "header",
        tag("p", f"brainvq report · {kind}, preset {run.facts.preset}", class_="eyebrow"),
        tag("h1", run.folder),
        tag("p", lead, class_="lead"),
        tag("nav", *links, aria_label="Sections"),
    )
    notices = _notices(run, None if run.headline else unmeasured)
    page = tag("body", header, tag("main", tiles, notices, *body), _footer(run, disclaimer))
    return "<!doctype html>\n" + tag("html", _head(run), page, lang="en") + "\n"


def _head(run: AnyRun) -> Html:
    return tag(
        "head",
        Html('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'),
        Html('<meta name="referrer" content="no-referrer">'),
        tag("title", f"{run.folder}, a brainvq report"),
        tag("style", Html((files("brainvq.report") / "page.css").read_text())),
    )


def headline(tiles: Iterable[Html | None], told: str) -> Html:
    """The first numbers, and below them what they were measured on."""
    small = tag("p", told, class_="muted", style="margin-top:16px;font-size:.9375rem")
    return join(tag("dl", *tiles, class_="tiles"), small)


def tile(label: str, value: str, *beside: str | None) -> Html:
    lines = [tag("dd", line, class_="beside") for line in beside if line is not None]
    return tag("div", tag("dt", label), tag("dd", value, class_="value"), *lines)


def _notices(run: AnyRun, unmeasured: str | None) -> Html | None:
    """What is not there yet, and what the reader has to know."""
    shown = []
    if not run.finished:
        told = f"Training has not ended: step {run.step:,} of {run.facts.planned_steps:,} is logged. If it was stopped"
        shown.append(tag("p", f"{told}, go on with", _typed(run, "resume")))
    if unmeasured is not None:
        shown.append(tag("p", unmeasured, _typed(run, "evaluate"), _typed(run, "report")))
    if run.notes:
        shown.append(tag("ul", *(tag("li", note) for note in run.notes)))
    return tag("div", *shown, class_="notice", role="note") if shown else None


def _typed(run: AnyRun, verb: str) -> Html:
    return tag("code", run.command(verb), class_="command")


def _footer(run: AnyRun, disclaimer: str) -> Html:
    about = " Pictures on this page were made from the images of the data: share it as you may share them."
    return tag("footer", tag("p", f"{disclaimer}{about if run.examples else ''} Made by brainvq {run.facts.version}."))
