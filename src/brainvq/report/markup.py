"""HTML that cannot be injected into: text is escaped unless it is `Html` already."""

from __future__ import annotations

import html


class Html(str):
    """Text that is markup already."""

    __slots__ = ()

    @staticmethod
    def escape(text: object) -> Html:
        return text if isinstance(text, Html) else Html(html.escape(str(text)))


def tag(name: str, *children: object, **attributes: object) -> Html:
    """`tag("p", text, class_="lead")`; children that are None are left out, so are attributes."""
    named = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{named}>{join(*children)}</{name}>")


def join(*children: object) -> Html:
    return Html("".join(Html.escape(child) for child in children if child is not None))


def image(source: str, alt: str, **attributes: object) -> Html:
    """An <img>, whose source is a data URI."""
    return Html(tag("img", src=source, alt=alt, **attributes).removesuffix("</img>"))
