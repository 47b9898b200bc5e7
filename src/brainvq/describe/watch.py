"""A model's layers with the shapes that an image or its codes take in them, found by running one and watching.

Hooks see every module that is called, whatever the network looks like inside; nothing has to be declared by the parts,
and nothing in them changes: the model is built for the purpose, evaluated on one black image (a prior on codes that are
all 0), and dropped. Activations and other layers without parameters join the layer before them where they leave its
shape as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from brainvq.codes import CodeSpec
from brainvq.describe.layers import Layer, Outline
from brainvq.priors.base import Prior
from brainvq.priors.dcgan import DCGAN
from brainvq.priors.histogram import Histogram
from brainvq.quantizers import search
from brainvq.quantizers.base import Quantizer
from brainvq.tokenizers.base import Tokenizer
from brainvq.training.experiment import Experiment


def outline(experiment: Experiment, size: Sequence[int]) -> Outline:
    """The layers of an experiment's tokenizer for an image of `size` pixels.

    Raises:
        InputError: the size does not fit the tokenizer's strides.
    """
    with torch.random.fork_rng(devices=[]):
        tokenizer: Tokenizer = experiment.tokenizer.build().eval()  # type: ignore[attr-defined]
        tokenizer.spec.grids(size)
        return _observed(tokenizer, tokenizer.spec, size, lambda: tokenizer(torch.full((1, 1, *size), -1.0)))


def prior_outline(experiment: Experiment, spec: CodeSpec, size: Sequence[int]) -> Outline:
    """The layers of an experiment's prior over the codes `spec` of an image of `size` pixels.

    Raises:
        InputError: the size does not fit the strides, or this kind of prior cannot model such codes.
    """
    with torch.random.fork_rng(devices=[]):
        prior: Prior = experiment.prior.build(spec, size).eval()  # type: ignore[attr-defined]
        return _observed(prior, spec, size, lambda: _use(prior))


def _use(prior: Prior) -> None:
    """Every network once."""
    if prior.has_likelihood:
        prior.log_probs(tuple(torch.zeros(1, *grid, dtype=torch.long) for grid in prior.grids))
        return
    codes = prior.sample([torch.Generator().manual_seed(0)])
    if isinstance(prior, DCGAN):
        prior.discriminator(prior.to_image(codes))


def _observed(model: nn.Module, spec: CodeSpec, size: Sequence[int], use: Callable[[], object]) -> Outline:
    """The outline of `model` as `use` uses it."""
    watched, calls, counter = _watched(model), list[Layer](), FlopCounterMode(display=False)
    recorder = _Recorder({name: type(module).__name__ for name, module in model.named_modules()}, calls, counter)
    handles = [module.register_forward_hook(recorder.hook(name)) for name, module in watched.items()]
    with torch.inference_mode(), search.plain(), counter:
        use()
    for handle in handles:
        handle.remove()
    seen = {f"{layer.part}.{layer.name}" for layer in calls}
    silent = [recorder.layer(name, module, ()) for name, module in watched.items()]
    calls += [layer for layer in silent if layer.parameters and f"{layer.part}.{layer.name}" not in seen]
    calls += [*_bare(model), *_tables(model)]
    totals = {part: _parameters(_part(model, part)) for part in dict.fromkeys(layer.part for layer in calls)}
    return Outline(tuple(size), tuple(_once(_joined(calls))), totals, spec)


def _bare(model: nn.Module) -> Iterator[Layer]:
    """Parameters of the model itself, outside its modules."""
    for name, value in model.named_parameters(recurse=False):
        shape = tuple(value.shape)
        yield Layer(name, "", ("Parameter",), (), (), shape[shape[:1] == (1,) :], value.numel())


def _tables(model: nn.Module) -> Iterator[Layer]:
    """What is counted and not trained."""
    for path, module in model.named_modules():
        if isinstance(module, Histogram):
            for level, table in enumerate(module.tables):
                part, _, inside = f"{path}.log_table_{level}".lstrip(".").partition(".")
                yield Layer(part, inside, ("table of counts",), (), (), tuple(table.shape), 0)


def _part(model: nn.Module, name: str) -> nn.Module | Tensor:
    """The child or the tensor of that name; the model itself where the part has none."""
    found = getattr(model, name, model)
    return found if isinstance(found, nn.Module | Tensor) else model


def _watched(model: nn.Module) -> dict[str, nn.Module]:
    """Leaf modules, modules with parameters of their own, and each quantizer as a whole."""
    found: dict[str, nn.Module] = {}
    quantizers: tuple[str, ...] = ()
    for name, module in model.named_modules():
        if name.startswith(quantizers):
            continue
        if isinstance(module, Quantizer):
            quantizers += (name + ".",)
        leaf = not any(module.children())
        if name and (leaf or isinstance(module, Quantizer) or any(True for _ in module.parameters(recurse=False))):
            found[name] = module
    return found


@dataclass
class _Recorder:
    """Turns calls into layers. `kinds`: the class of every module of the model by its path."""

    kinds: dict[str, str]
    calls: list[Layer]
    counter: FlopCounterMode
    counted: int = 0

    def hook(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def record(module: nn.Module, _: Any, output: Any) -> None:
            total = self.counter.get_total_flops()
            layer = self.layer(name, module, _shape(module, output))
            self.calls.append(replace(layer, flops=total - self.counted))
            self.counted = total

        return record

    def layer(self, name: str, module: nn.Module, shape: tuple[int, ...]) -> Layer:
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
            block=self.block(part, inside, leaf=not any(module.children())),
        )

    def block(self, part: str, inside: str, *, leaf: bool) -> tuple[str, str]:
        """The outermost module around a layer that has a number for a name, as the members of a list have."""
        steps = inside.split(".")
        for n, step in enumerate(steps[: len(steps) - leaf], start=1):
            if step.isdecimal():
                path = ".".join(steps[:n])
                return path, self.kinds[f"{part}.{path}"]
        return "", ""


def _kind(module: nn.Module) -> str:
    """The library's name of a layer, also where it was derived from; ours for a part of our own."""
    classes = [cls for cls in type(module).__mro__ if cls.__module__.startswith("torch.nn") and cls is not nn.Module]
    return classes[0].__name__ if classes else type(module).__name__


def _per_axis(module: nn.Module, name: str, axes: int) -> tuple[int, ...]:
    value = getattr(module, name, ())
    return (value,) * axes if isinstance(value, int) else tuple(value) if isinstance(value, tuple) else ()


def _parameters(module: nn.Module | Tensor, *, recurse: bool = True) -> int:
    """Parameters, and codebooks that are averages instead; each tensor once."""
    if isinstance(module, Tensor):
        return module.numel() if isinstance(module, nn.Parameter) else 0
    buffers = module.named_buffers(recurse=recurse)
    books = (buffer.numel() for name, buffer in buffers if name.rpartition(".")[2] == "codebook")
    return sum(parameter.numel() for parameter in module.parameters(recurse=recurse)) + sum(books)


def _shape(module: nn.Module, output: Any) -> tuple[int, ...]:
    """Of the first tensor in what a module returned, without the batch; channels first."""
    found = next(_tensors(output), None)
    if isinstance(module, nn.Embedding) and found is not None:
        found = found.movedim(-1, 1)
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
