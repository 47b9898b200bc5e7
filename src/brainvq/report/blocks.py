"""What sections of a page are made of: pictures with words, pairs of name and value, a command for what is missing."""

from __future__ import annotations

from collections.abc import Iterable

from brainvq.report.ink import Drawing
from brainvq.report.markup import Html, image, join, tag


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


def scroll(table: Html, label: str) -> Html:
    """A table that a narrow screen moves sideways."""
    return tag("div", table, class_="scroll", role="region", tabindex="0", aria_label=label)
