"""What all sentences are made with: lists in words, and a part told by its settings."""

from __future__ import annotations

from typing import Any

from brainvq.config import paths


def listed(items: list[str]) -> str:
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1] if items else "none"


def settings(part: dict[str, Any]) -> str:
    """A part that has no sentence of its own."""
    kind = part["kind"]
    rest = {name: value for name, value in part.items() if name != "kind"}
    told = [f"{path} = {_at(rest, path)}" for path in paths(rest)]
    return f"Part {kind}" + (f": {', '.join(told)}." if told else ".")


def _at(values: dict[str, Any], path: str) -> Any:
    for name in path.split("."):
        values = values[name]
    return values
