"""A tokenizer's layers with the shapes that an image takes in them, found by running one and watching.

Hooks see every module that is called, whatever the network looks like inside; nothing has to be declared by the parts,
and nothing in them changes: the model is built for the purpose, evaluated on one black image, and dropped. Activations
and other layers without parameters join the layer before them where they leave its shape as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from brainvq.codes import CodeSpec
from brainvq.quantizers.base import Quantizer
from brainvq.tokenizers.base import Tokenizer
from brainvq.training.experiment import TokenizerExperiment


@dataclass(frozen=True)
class Layer:
    """`part`: encoder, quantizer ...; `name`: path inside it; `kinds`: the layer and its activations; `shape`
    (channels, *S), empty for parameters that no call was seen of; `parameters` count codebooks of any kind."""

    part: str
    name: str
    kinds: tuple[str, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    shape: tuple[int, ...]
    parameters: int
    is_quantizer: bool = False


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
    def waist(self) -> int:
        """Index of the first quantizer among the layers."""
        return next(n for n, layer in enumerate(self.layers) if layer.is_quantizer)

    @property
    def sides(self) -> tuple[int, int]:
        """Parameters of the parts before the first quantizer's, and after it."""
        totals, waist = list(self.parameters.values()), list(self.parameters).index(self.layers[self.waist].part)
        return sum(totals[:waist]), sum(totals[waist + 1 :])


def outline(experiment: TokenizerExperiment, size: Sequence[int]) -> Outline:
    """The layers of an experiment's tokenizer for an image of `size` pixels.

    Raises:
        InputError: the size does not fit the tokenizer's strides.
    """
    with torch.random.fork_rng(devices=[]):
        tokenizer: Tokenizer = experiment.tokenizer.build().eval()
    tokenizer.spec.grids(size)
    watched = _watched(tokenizer)
    calls: list[Layer] = []
    handles = [module.register_forward_hook(_recorder(name, calls)) for name, module in watched.items()]
    with torch.inference_mode():
        tokenizer(torch.full((1, 1, *size), -1.0))
    for handle in handles:
        handle.remove()
    seen = {f"{layer.part}.{layer.name}" for layer in calls}
    silent = [_layer(name, module, ()) for name, module in watched.items()]
    calls += [layer for layer in silent if layer.parameters and f"{layer.part}.{layer.name}" not in seen]
    parts = dict.fromkeys(layer.part for layer in calls)
    totals = {part: _parameters(dict(tokenizer.named_children()).get(part, tokenizer)) for part in parts}
    return Outline(tuple(size), tuple(_once(_joined(calls))), totals, tokenizer.spec)


def _watched(tokenizer: Tokenizer) -> dict[str, nn.Module]:
    """Leaf modules, modules with parameters of their own, and each quantizer as a whole."""
    found: dict[str, nn.Module] = {}
    quantizers: tuple[str, ...] = ()
    for name, module in tokenizer.named_modules():
        if name.startswith(quantizers):
            continue
        if isinstance(module, Quantizer):
            quantizers += (name + ".",)
        leaf = not any(module.children())
        if name and (leaf or isinstance(module, Quantizer) or any(True for _ in module.parameters(recurse=False))):
            found[name] = module
    return found


def _recorder(name: str, calls: list[Layer]) -> Any:
    def record(module: nn.Module, _: Any, output: Any) -> None:
        calls.append(_layer(name, module, _shape(output)))

    return record


def _layer(name: str, module: nn.Module, shape: tuple[int, ...]) -> Layer:
    part, _, inside = name.partition(".")
    whole = isinstance(module, Quantizer) or not any(module.children())
    return Layer(
        part=part,
        name=inside,
        kinds=(_kind(module),),
        kernel=_per_axis(module, "kernel_size", len(shape) - 1),
        stride=_per_axis(module, "stride", len(shape) - 1),
        shape=shape,
        parameters=_parameters(module, recurse=whole),
        is_quantizer=isinstance(module, Quantizer),
    )


def _kind(module: nn.Module) -> str:
    """The library's name of a layer, also where it was derived from; ours for a part of our own."""
    classes = [cls for cls in type(module).__mro__ if cls.__module__.startswith("torch.nn") and cls is not nn.Module]
    return classes[0].__name__ if classes else type(module).__name__


def _per_axis(module: nn.Module, name: str, axes: int) -> tuple[int, ...]:
    value = getattr(module, name, ())
    return (value,) * axes if isinstance(value, int) else tuple(value) if isinstance(value, tuple) else ()


def _parameters(module: nn.Module, *, recurse: bool = True) -> int:
    """Parameters, and codebooks that are averages instead; each tensor once."""
    buffers = module.named_buffers(recurse=recurse)
    books = (buffer.numel() for name, buffer in buffers if name.rpartition(".")[2] == "codebook")
    return sum(parameter.numel() for parameter in module.parameters(recurse=recurse)) + sum(books)


def _shape(output: Any) -> tuple[int, ...]:
    """Of the first tensor in what a module returned, without the batch."""
    found = next(_tensors(output), None)
    return () if found is None else tuple(found.shape[1:])


def _tensors(value: Any) -> Any:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _tensors(tuple(value.values()))
    elif isinstance(value, tuple | list):
        for each in value:
            yield from _tensors(each)
    elif is_dataclass(value):
        yield from _tensors(tuple(getattr(value, field.name) for field in fields(value)))


def _once(calls: Iterable[Layer]) -> list[Layer]:
    """A module that is called again has its parameters counted the first time only."""
    seen: set[tuple[str, str]] = set()
    layers = []
    for layer in calls:
        again = (layer.part, layer.name) in seen
        seen.add((layer.part, layer.name))
        layers.append(replace(layer, parameters=0) if again else layer)
    return layers


def _joined(calls: Iterable[Layer]) -> list[Layer]:
    layers: list[Layer] = []
    for layer in calls:
        last = layers[-1] if layers else None
        plain = not layer.parameters and not layer.kernel and not layer.is_quantizer and bool(layer.shape)
        if last and plain and last.shape == layer.shape and _parent(last) == _parent(layer) and not last.is_quantizer:
            layers[-1] = replace(last, kinds=last.kinds + layer.kinds)
        else:
            layers.append(layer)
    return layers


def _parent(layer: Layer) -> tuple[str, str]:
    return layer.part, layer.name.rpartition(".")[0]
