"""What all pages share: the HTML around the sections, and the boxes on top of them."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

from brainvq.report.markup import Html, tag
from brainvq.report.record import Run

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"

Section = tuple[str, str, Html]
"""Its identifier, title and content."""


def document(
    run: Run, title: list[Html], sections: Sequence[Section], *, before: list[Html | None], after: Html, style: str = ""
) -> str:
    """The whole HTML: `title` on top, then `before`, the sections and `after`; `style` is CSS beyond page.css."""
    links = [tag("a", title, href=f"#{name}") for name, title, _ in sections]
    body = [
        tag("section", tag("h2", title, id=f"{name}-title"), content, id=name, aria_labelledby=f"{name}-title")
        for name, title, content in sections
    ]
    header = tag("header", *title, tag("nav", *links, aria_label="Sections"))
    page = tag("body", header, tag("main", *before, *body), after)
    return "<!doctype html>\n" + tag("html", _head(run, css("page") + style), page, lang="en") + "\n"


def css(name: str) -> str:
    return (files("brainvq.report") / f"{name}.css").read_text()


def _head(run: Run, style: str) -> Html:
    return tag(
        "head",
        Html('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'),
        Html('<meta name="referrer" content="no-referrer">'),
        tag("title", f"{run.folder}, a brainvq report"),
        tag("style", Html(style)),
    )


def tile(label: str, value: str, *beside: str) -> Html:
    lines = [tag("dd", line, class_="beside") for line in beside]
    return tag("div", tag("dt", label), tag("dd", value, class_="value"), *lines)


def notices(run: Run, unmeasured: Sequence[str] | None) -> Html | None:
    """What is not there yet, and what the reader has to know. `unmeasured`: a sentence, and the commands it names."""
    shown = []
    if not run.finished:
        shown.append(
            tag(
                "p",
                f"Training has not ended: step {run.step:,} of {run.facts.planned_steps:,} is logged. If it was "
                "stopped, go on with",
                tag("code", run.command("resume"), class_="command"),
            )
        )
    if unmeasured is not None:
        what, *commands = unmeasured
        shown.append(tag("p", what, *(tag("code", command, class_="command") for command in commands)))
    if run.notes:
        shown.append(tag("ul", *(tag("li", note) for note in run.notes)))
    return tag("div", *shown, class_="notice", role="note") if shown else None


def footer(run: Run, disclaimer: str, *, pictures: bool) -> Html:
    about = " Pictures on this page were made from the images of the data: share it as you may share them."
    return tag("footer", tag("p", f"{disclaimer}{about if pictures else ''} Made by brainvq {run.facts.version}."))
