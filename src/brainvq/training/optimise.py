"""Optimiser, learning-rate schedule and weight average: what any task does with its gradients.

The learning rate is a function of the step, and the average is updated after every step, so that nothing but tensors
has to be saved to resume.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Annotated, Generic, Literal, TypeVar

import torch
from accelerate import Accelerator
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat
from torch import Tensor, nn

from brainvq.config import Config
from brainvq.training.muon import MuonWithAdamW

Module = TypeVar("Module", bound=nn.Module)
MATRIX_DECAY = 0.1
"""Weight decay of Muon's matrices, as both its papers have it: their steps do not shrink with the gradient."""
Decay = Annotated[float, Field(ge=0, lt=1)]


class OptimiserConfig(Config):
    """Adam (D. Kingma and J. Ba, 2015), AdamW (I. Loshchilov and F. Hutter, 2019), or Muon with AdamW (`muon.py`).

    Args:
        name: "adam", "adamw", or "muon", which is for transformers.
        betas, epsilon, weight_decay: of the optimiser.
        schedule: of the learning rate after `warmup` steps: constant, or falling to zero as half a cosine or linearly.
        clip: largest norm of the gradient; null for none.
        average: decay of the moving average of the weights; 0 for none.
    """

    name: Literal["adam", "adamw", "muon"] = "adam"
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    epsilon: PositiveFloat = 1e-8
    weight_decay: NonNegativeFloat = 0.0
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    warmup: NonNegativeInt = 0
    clip: PositiveFloat | None = None
    average: Decay = 0.0

    def build(self, module: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        settings = {"lr": learning_rate, "betas": self.betas, "eps": self.epsilon, "weight_decay": self.weight_decay}
        if self.name == "muon":
            return MuonWithAdamW(module, MATRIX_DECAY, **settings)
        kind = torch.optim.Adam if self.name == "adam" else torch.optim.AdamW
        return kind(module.parameters(), fused=True, **settings)  # type: ignore[arg-type]

    def learning_rate(self, base: float, step: int, total: int) -> float:
        """At step 0 .. total - 1."""
        if step < self.warmup:
            return base * (step + 1) / self.warmup
        progress = (step - self.warmup) / max(1, total - self.warmup)
        shape = {"constant": 1.0, "linear": 1 - progress, "cosine": (1 + math.cos(math.pi * progress)) / 2}
        return base * shape[self.schedule]


class Average(Generic[Module]):
    """A moving average of a module's weights and statistics, started at the weights, debiased by a growing decay.

    The decay at step t is min(decay, (1 + t) / (10 + t)), so that the first steps are soon forgotten.
    """

    def __init__(self, module: Module, decay: float) -> None:
        self.decay = decay
        self.module: Module = copy.deepcopy(module).requires_grad_(False).eval()

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        pairs = [*zip(self.module.state_dict().values(), module.state_dict().values(), strict=True)]
        learned = [(mine, theirs) for mine, theirs in pairs if mine.is_floating_point()]
        if learned:
            torch._foreach_lerp_([mine for mine, _ in learned], [theirs for _, theirs in learned], weight)
        for mine, theirs in pairs:
            if not mine.is_floating_point():
                mine.copy_(theirs)


class Updates(Generic[Module]):
    """A module that learns: with its optimiser, its learning rate as a function of the step, and its average.

    `model` is the module as Accelerate wraps it, for the forward pass of training; `module` the bare one.
    """

    def __init__(self, config: OptimiserConfig, module: Module, accelerator: Accelerator, learning_rate: float) -> None:
        self.config, self.accelerator, self.learning_rate = config, accelerator, learning_rate
        module.to(accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.module = module
        self.average = Average(module, config.average) if config.average else None
        self.model: nn.Module = module
        self.optimiser: torch.optim.Optimizer | None = None
        if any(True for _ in module.parameters()):  # a table of counts has none
            self.model, self.optimiser = accelerator.prepare(module, config.build(module, learning_rate))

    def step(self, loss: Tensor, step: int, total: int) -> None:
        """One update along the gradient of `loss`; nothing without parameters."""
        if self.optimiser is None:
            return
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.learning_rate(self.learning_rate, step, total)
        self.optimiser.zero_grad()
        self.accelerator.backward(loss)
        if self.config.clip is not None:
            self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.clip)
        self.optimiser.step()
        if self.average:
            self.average.update(self.module, step)

    @property
    def handed_out(self) -> Module:
        """The module that everything uses: the averaged one, if any."""
        return self.average.module if self.average else self.module

    def weights(self) -> dict[str, Tensor]:
        return {name: value.contiguous() for name, value in self.handed_out.state_dict().items()}

    def state(self) -> dict[str, Tensor]:
        """All that is needed to go on."""
        tensors = {f"model/{name}": value for name, value in self.module.state_dict().items()}
        if self.optimiser:
            tensors |= {f"optimiser/{name}": value for name, value in optimiser_state(self.optimiser).items()}
        if self.average:
            tensors |= {f"average/{name}": value for name, value in self.average.module.state_dict().items()}
        return tensors

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        groups: dict[str, dict[str, Tensor]] = {"model": {}, "optimiser": {}, "average": {}}
        for name, value in tensors.items():
            group, _, rest = name.partition("/")
            groups[group][rest] = value
        self.module.load_state_dict(groups["model"])
        if self.optimiser:
            load_optimiser_state(self.optimiser, groups["optimiser"])
        if self.average:
            self.average.module.load_state_dict(groups["average"])


def optimiser_state(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's tensors as `<index of the parameter>.<name>`."""
    states = optimiser.state_dict()["state"]
    return {f"{index}.{name}": value for index, state in states.items() for name, value in state.items()}


def load_optimiser_state(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """The inverse of `optimiser_state`; the settings stay the optimiser's own."""
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    states: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        like = parameters[int(index)]
        if value.shape == like.shape:  # fused kernels take parameter and state to lie alike in memory
            value = torch.empty_like(like, dtype=value.dtype).copy_(value)
        states.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({"state": states, "param_groups": optimiser.state_dict()["param_groups"]})
