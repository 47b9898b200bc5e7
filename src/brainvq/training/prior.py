"""One training step of a prior that has a likelihood: fewer bits a code."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Literal

import torch
from accelerate import Accelerator
from torch import Tensor

from brainvq.codes import Codes
from brainvq.priors.base import Prior
from brainvq.training.base import PriorTaskConfig
from brainvq.training.optimise import OptimiserConfig, Updates


class Config(PriorTaskConfig):
    """Maximum likelihood, by this optimiser and its schedule."""

    kind: Literal["training.prior"] = "training.prior"
    optimiser: OptimiserConfig = OptimiserConfig()

    def build(self, prior: Prior, accelerator: Accelerator, *, learning_rate: float) -> LikelihoodTask:
        return LikelihoodTask(self, prior, accelerator, learning_rate=learning_rate)


class LikelihoodTask:
    """Trains `prior` on batches of codes."""

    def __init__(self, config: Config, prior: Prior, accelerator: Accelerator, *, learning_rate: float) -> None:
        self.updates = Updates(config.optimiser, prior, accelerator, learning_rate)

    def step(self, codes: Codes, /, step: int, total: int) -> dict[str, Tensor]:
        loss = self.updates.model.train()(codes)
        self.updates.step(loss, step, total)
        return {"loss": loss.detach()}

    @torch.no_grad()
    def validate(self, batches: Iterable[Codes], /) -> dict[str, float]:
        """Bits a code of the weights to hand out, in float32."""
        prior = self.updates.handed_out.eval()
        losses = torch.cat([prior.log_probs(codes).mean(1) for codes in batches])
        bits = -float(losses.cpu().double().mean()) / math.log(2)
        return {"bits_per_code": bits, "score": -bits}

    def state(self) -> dict[str, Tensor]:
        return self.updates.state()

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        self.updates.load_state(tensors)

    def weights(self) -> dict[str, Tensor]:
        return self.updates.weights()
