"""An experiment on one page: its layers, its hourglass, its settings; and the hourglass as a figure for a paper.

Files: `layers.py` finds the layers and their shapes, `hourglass.py` draws them in the terminal, `diagram.py` in a file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from rich import box
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from brainvq.codes import CodeSpec
from brainvq.config import paths, to_json
from brainvq.describe.diagram import draw
from brainvq.describe.hourglass import hourglass, size_of
from brainvq.describe.layers import Layer, Outline, outline
from brainvq.presets import PRESETS
from brainvq.training.experiment import TokenizerExperiment

__all__ = ["describe", "draw", "outline", "settings"]

EXACT = "keras_f8"  # what settings are compared with


def describe(experiment: TokenizerExperiment, size: tuple[int, int]) -> list[RenderableType]:
    """The layer table, the rate of the codes, the hourglass, and the settings, for images of `size` pixels.

    Raises:
        InputError: the size does not fit the tokenizer's strides.
    """
    found = outline(experiment, size)
    return [_layers(found), _rate(found.spec, size), Text(), hourglass(found), Text(), _settings(experiment)]


def _layers(found: Outline) -> Table:
    """A heading with its subtotal for each part, and a row for each layer."""
    shown = Table(
        title=f"layers, for 1 x {size_of(found.size)}", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    for label in ("layer", "kind"):
        shown.add_column(label)
    for label in ("kernel", "stride", "output", "parameters"):
        shown.add_column(label, justify="right")
    for part, total in found.parameters.items():
        shown.add_row(f"[bold]{escape(part)}[/]", "", "", "", "", f"[bold]{total:,}[/]")
        for layer in found.of(part):
            shown.add_row(*_cells(layer, found.spec, found.size))
        shown.add_section()
    shown.add_row("[bold]in all[/]", "", "", "", "", f"[bold]{sum(found.parameters.values()):,}[/]")
    return shown


def _cells(layer: Layer, spec: CodeSpec, size: Sequence[int]) -> tuple[str, ...]:
    output = " + ".join(size_of(grid) for grid in spec.grids(size)) if layer.is_quantizer else size_of(layer.shape)
    return (
        "  " + escape(layer.name or "-"),
        escape(", ".join(layer.kinds)),
        size_of(layer.kernel),
        size_of(layer.stride[:1] if len(set(layer.stride)) == 1 else layer.stride),
        output or "-",
        f"{layer.parameters:,}" if layer.parameters else "",
    )


def _rate(spec: CodeSpec, size: Sequence[int]) -> Text:
    """The codes of an image, and what they cost when each has a fixed length."""
    bits, pixels = spec.bits(size), math.prod(size)
    levels = " + ".join(
        f"{size_of(grid)} of {entries:,} entries" for grid, entries in zip(spec.grids(size), spec.entries, strict=True)
    )
    return Text.assemble(
        ("codes: ", "bold"),
        f"{levels}; {bits:,} bits an image = {bits / 8:,.0f} bytes; ",
        f"{bits / pixels:.4f} bits a pixel, 1/{8 * pixels / bits:.0f} of 8-bit pixels",
    )


def settings(experiment: TokenizerExperiment) -> list[tuple[str, str]]:
    """Every setting as (path, value), as `--set path=value` takes it."""
    values = to_json(experiment)
    return [(path, _text(_at(values, path))) for path in paths(values)]


def _settings(experiment: TokenizerExperiment) -> Text:
    """A line each, the ones that differ from the exact reference system highlighted."""
    exact = dict(settings(PRESETS[EXACT]()))
    shown = Text.assemble(("settings", "bold"), f" (--set path=value); coloured: other than in {EXACT}")
    for path, value in settings(experiment):
        same = exact.get(path) == value
        shown.append(f"\n{path}={value}", "" if same else "yellow")
        if not same and path in exact:
            shown.append(f"  # {exact[path]}", "dim")
    return shown


def _at(values: object, path: str) -> object:
    for name in path.split("."):
        assert isinstance(values, dict)
        values = values[name]
    return values


def _text(value: object) -> str:
    """Without quotes where text cannot be mistaken for JSON, and without blanks."""
    text = json.dumps(value, separators=(",", ":"))
    return value if isinstance(value, str) and value and _is_plain(value) else text


def _is_plain(value: str) -> bool:
    try:
        json.loads(value)
    except json.JSONDecodeError:
        return value == value.strip()
    return False
