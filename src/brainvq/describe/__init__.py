"""An experiment on one page: its layers, its diagram, its settings; and the diagram as a figure for a paper.

Files: `watch.py` finds the layers and their shapes, `layers.py` says what is known of them; `hourglass.py` draws a
tokenizer in the terminal, `prior.py` a prior; `diagram.py` and `prior_diagram.py` draw them in a file, of `shapes.py`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator

from rich import box
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from brainvq.config import paths, to_json
from brainvq.describe.diagram import draw
from brainvq.describe.hourglass import hourglass, size_of
from brainvq.describe.layers import Group, Layer, Outline, folded
from brainvq.describe.prior import described_spec, picture, told_of
from brainvq.describe.watch import outline, prior_outline
from brainvq.presets import PRESETS
from brainvq.training.experiment import Experiment
from brainvq.training.prior_experiment import PriorExperiment

__all__ = ["describe", "draw", "outline", "settings"]


def describe(experiment: Experiment, size: tuple[int, int]) -> list[RenderableType]:
    """The layer table, the rate of the codes, the cost, the diagram, and the settings, for images of `size` pixels.

    A prior is described on the codes of system B.

    Raises:
        InputError: the size does not fit the tokenizer's strides, or the prior cannot model such codes.
    """
    told: list[RenderableType]
    if isinstance(experiment, PriorExperiment):
        found = prior_outline(experiment, described_spec(), size)
        layers = _layers(found, f"layers, for {' + '.join(map(size_of, found.grids))} codes")
        told = [told_of(found), Text(), layers, *_cost(found), Text(), *picture(experiment, found)]
    else:
        found = outline(experiment, size)
        layers = _layers(found, f"layers, for 1 x {size_of(found.size)}")
        told = [layers, _rate(found), *_cost(found), Text(), hourglass(found), Text()]
    return [*told, _settings(experiment)]


def _layers(found: Outline, title: str) -> Table:
    """A heading with its subtotal for each part, and a row for each layer; blocks that repeat once."""
    shown = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for label in ("layer", "kind"):
        shown.add_column(label)
    for label in ("kernel", "stride", "output", "parameters"):
        shown.add_column(label, justify="right")
    for part, total in found.parameters.items():
        layers = found.of(part)
        if len(layers) == 1 and not layers[0].name:
            _, *cells = _cells(layers[0], found)
            shown.add_row(f"[bold]{escape(part)}[/]", *cells[:-1], f"[bold]{cells[-1]}[/]")
        else:
            shown.add_row(f"[bold]{escape(part)}[/]", "", "", "", "", f"[bold]{total:,}[/]" if total else "")
            for group in folded(layers):
                for row in _rows(group, found):
                    shown.add_row(*row)
        shown.add_section()
    shown.add_row("[bold]in all[/]", "", "", "", "", f"[bold]{sum(found.parameters.values()):,}[/]")
    return shown


def _rows(group: Group, found: Outline) -> Iterator[tuple[str, ...]]:
    """A layer; or a heading for blocks that are alike, and the layers of one."""
    indent = "  "
    if group.kind:
        count, total = len(group.paths), sum(layer.parameters for layer in group.layers)
        last = group.paths[-1].rpartition(".")[2]
        name = group.paths[0] if count == 1 else f"{group.paths[0]} to {last}"
        times = "" if count == 1 else f"{count} × "
        yield (f"  {escape(name)}", f"{times}{escape(group.kind)}", "", "", "", f"{times}{total:,}")
        indent = "    "
    for layer in group.layers:
        name, *cells = _cells(layer, found)
        yield (indent + name, *cells)


def _cells(layer: Layer, found: Outline) -> tuple[str, ...]:
    grids = " + ".join(map(size_of, found.grids))
    output = grids if layer.is_quantizer else size_of(layer.shape)
    return (
        escape(layer.inside or "-"),
        escape(", ".join(layer.kinds)),
        size_of(layer.kernel),
        size_of(layer.stride[:1] if len(set(layer.stride)) == 1 else layer.stride),
        output or "-",
        f"{layer.parameters:,}" if layer.parameters else "",
    )


def _cost(found: Outline) -> list[Text]:
    """Of one pass through all networks; nothing where nothing multiplies."""
    if not found.flops:
        return []
    parts = ", ".join(f"{part} {total / 1e9:,.2f}" for part, total in found.flops.items())
    return [
        Text.assemble(
            ("cost: ", "bold"),
            f"{sum(found.flops.values()) / 1e9:,.2f} GFLOP forward an image ({parts});\n",
            "convolutions and matrix products alone, a multiply-add as two",
        )
    ]


def _rate(found: Outline) -> Text:
    """The codes of an image, and what they cost when each has a fixed length."""
    bits, pixels = found.spec.bits(found.size), math.prod(found.size)
    levels = " + ".join(
        f"{size_of(grid)} of {entries:,} entries" for grid, entries in zip(found.grids, found.spec.entries, strict=True)
    )
    return Text.assemble(
        ("codes: ", "bold"),
        f"{levels}; {bits:,} bits an image = {bits / 8:,.0f} bytes; ",
        f"{bits / pixels:.4f} bits a pixel, 1/{8 * pixels / bits:.0f} of 8-bit pixels",
    )


def settings(experiment: Experiment) -> list[tuple[str, str]]:
    """Every setting as (path, value), as `--set path=value` takes it."""
    values = to_json(experiment)
    return [(path, _text(_at(values, path))) for path in paths(values)]


def _settings(experiment: Experiment) -> Text:
    """A line each, the ones that differ from the first preset of the same design highlighted."""
    alike = [name for name in PRESETS if _design(PRESETS[name]()) == _design(experiment)]
    reference = [*alike, *PRESETS][0]
    exact = dict(settings(PRESETS[reference]()))
    shown = Text.assemble(("settings", "bold"), f" (--set path=value); coloured: other than in {reference}")
    for path, value in settings(experiment):
        same = exact.get(path) == value
        shown.append(f"\n{path}={value}", "" if same else "yellow")
        if not same and path in exact:
            shown.append(f"  # {exact[path]}", "dim")
    return shown


def _design(experiment: Experiment) -> list[object]:
    """The kinds of the network or of the prior."""
    values = to_json(experiment)
    return [_at(values, path) for path in paths(values) if path in ("tokenizer.network.kind", "prior.kind")]


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
