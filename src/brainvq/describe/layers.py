"""What is said of a model: its layers in the order of their calls, and repeated blocks once. `watch.py` finds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from brainvq.codes import CodeSpec


@dataclass(frozen=True)
class Layer:
    """`part`: encoder, quantizer ...; `name`: path inside it; `kinds`: the layer and its activations; `shape`
    (channels, *S), empty for parameters that no call was seen of; `parameters` count codebooks of any kind; `flops`:
    of its convolutions and matrix products, a multiply-add as two; `block`: path and kind of the numbered block that
    it belongs to, if any."""

    part: str
    name: str
    kinds: tuple[str, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    shape: tuple[int, ...]
    parameters: int
    flops: int = 0
    is_quantizer: bool = False
    block: tuple[str, str] = ("", "")

    @property
    def inside(self) -> str:
        """Its path inside its block; empty for what belongs to the block itself."""
        return self.name.removeprefix(self.block[0]).removeprefix(".") if self.block[0] else self.name


@dataclass(frozen=True)
class Outline:
    """`size`: pixels of the image; `layers` in the order of their calls; `parameters` of each part, in that order."""

    size: tuple[int, ...]
    layers: tuple[Layer, ...]
    parameters: dict[str, int]
    spec: CodeSpec

    def of(self, part: str) -> tuple[Layer, ...]:
        return tuple(layer for layer in self.layers if layer.part == part)

    @property
    def grids(self) -> tuple[tuple[int, ...], ...]:
        """Of the codes, level by level."""
        return self.spec.grids(self.size)

    @property
    def waist(self) -> int:
        """Index of the first quantizer among the layers."""
        return next(n for n, layer in enumerate(self.layers) if layer.is_quantizer)

    @property
    def sides(self) -> tuple[int, int]:
        """Parameters of the parts before the first quantizer's, and after it."""
        totals, waist = list(self.parameters.values()), list(self.parameters).index(self.layers[self.waist].part)
        return sum(totals[:waist]), sum(totals[waist + 1 :])

    @property
    def flops(self) -> dict[str, int]:
        """Of each part that multiplies."""
        totals = {part: sum(layer.flops for layer in self.of(part)) for part in self.parameters}
        return {part: total for part, total in totals.items() if total}


@dataclass(frozen=True)
class Group:
    """A layer outside any block (`kind` is empty), or blocks in a row that are alike: the layers of the first."""

    kind: str
    paths: tuple[str, ...]
    layers: tuple[Layer, ...]


def folded(layers: Sequence[Layer]) -> list[Group]:
    """Repeated blocks once."""
    groups: list[Group] = []
    for (path, kind), run in groupby(layers, key=lambda layer: layer.block):
        block = tuple(run)
        last = groups[-1] if groups else None
        if not path:
            groups += [Group("", (), (layer,)) for layer in block]
        elif last and last.paths and _plan(last.layers) == _plan(block):
            groups[-1] = replace(last, paths=(*last.paths, path))
        else:
            groups.append(Group(kind, (path,), block))
    return groups


def _plan(block: Sequence[Layer]) -> list[Layer]:
    """What has to be the same in two blocks: all but where they stand."""
    parent = block[0].block[0].rpartition(".")[0]
    return [replace(layer, name=layer.inside, block=(parent, layer.block[1])) for layer in block]
