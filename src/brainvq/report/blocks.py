"""What sections of a page are made of: pictures with words, pairs of name and value, a command for what is missing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from brainvq.report.ink import Drawing
from brainvq.report.markup import Html, image, join, tag
from brainvq.report.record import E, R, Run
from brainvq.report.stored import Result


def pairs(told: Iterable[tuple[str, object]]) -> Html:
    return tag("dl", *(join(tag("dt", name), tag("dd", value)) for name, value in told), class_="facts")


def figure(drawing: Drawing) -> Html:
    return tag("figure", drawing.svg)


def picture(source: str, alt: str, caption: object = None, class_: str | None = None) -> Html:
    below = None if caption is None else tag("figcaption", caption)
    return tag("figure", image(source, alt, class_=class_), below)


def scale(low: str, style: str, high: str) -> Html:
    return tag("p", tag("span", low), tag("i", style=style, aria_hidden="true"), tag("span", high), class_="scale")


def missing(what: str, *commands: str) -> Html:
    return tag("p", what, *(tag("code", command, class_="command") for command in commands), class_="prose")


def pictures_of(run: Run[R, E]) -> tuple[R, E] | Html:
    """The first evaluation with its pictures, or the words and the command for what is not there."""
    result = run.headline
    if result is None:
        return missing("No pictures yet: they come with an evaluation.", run.command("evaluate"))
    examples = run.examples.get(result.split)
    if examples is None:
        return missing("The pictures of this evaluation are not in the run.", run.evaluate(result))
    return result, examples


def beside(told: Html, drawing: Drawing | None) -> Html:
    """Words, and a diagram to their right where there is one."""
    return told if drawing is None else tag("div", told, figure(drawing), class_="beside-panel")


def measured(result: Result, caption: str, heads: Sequence[str], lines: Sequence[Html], **attributes: str) -> Html:
    """A table of measures, which a narrow screen moves sideways."""
    head = tag("thead", tag("tr", *(tag("th", text, scope="col") for text in heads)))
    table = tag("table", head, tag("tbody", *lines), **attributes)
    region = {"role": "region", "tabindex": "0", "aria_label": f"Measures on {result.split}"}
    return join(tag("p", caption, class_="muted prose"), tag("div", table, class_="scroll", **region))


def definitions(named: Iterable[tuple[str, str]]) -> Html:
    return tag("details", tag("summary", "How each measure is defined"), pairs(named))
