"""One training step of a prior that tells bits, or bounds them: fewer bits a code."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import torch
from accelerate import Accelerator
from torch import Tensor

from brainvq.priors.base import Prior
from brainvq.training.base import PriorTaskConfig
from brainvq.training.labelled import Labelled
from brainvq.training.optimise import OptimiserConfig, Updates


class Config(PriorTaskConfig):
    """Maximum likelihood, by this optimiser and its schedule."""

    kind: Literal["training.prior"] = "training.prior"
    optimiser: OptimiserConfig = OptimiserConfig()

    def build(self, prior: Prior, accelerator: Accelerator, *, learning_rate: float) -> LikelihoodTask:
        return LikelihoodTask(self, prior, accelerator, learning_rate=learning_rate)


class LikelihoodTask:
    """Trains `prior` on batches of codes with their conditions."""

    def __init__(self, config: Config, prior: Prior, accelerator: Accelerator, *, learning_rate: float) -> None:
        self.updates = Updates(config.optimiser, prior, accelerator, learning_rate)

    def step(self, batch: Labelled, /, step: int, total: int) -> dict[str, Tensor]:
        loss = self.updates.model.train()(batch.codes, batch.given)
        self.updates.step(loss, step, total)
        return {"loss": loss.detach()}

    @torch.no_grad()
    def validate(self, batches: Iterable[Labelled], /) -> dict[str, float]:
        """Bits a code of the weights to hand out, in float32, told what there is to tell."""
        prior = self.updates.handed_out.eval()
        bits = float(torch.cat([prior.bound(batch.codes, batch.given) for batch in batches]).cpu().double().mean())
        return {"bits_per_code": bits, "score": -bits}

    def state(self) -> dict[str, Tensor]:
        return self.updates.state()

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        self.updates.load_state(tensors)

    def weights(self) -> dict[str, Tensor]:
        return self.updates.weights()
