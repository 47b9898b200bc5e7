"""The contract of a task that trains a prior: one file of this folder with its `Config` and its step."""

from __future__ import annotations

from accelerate import Accelerator

from brainvq.codes import Codes
from brainvq.config import PartConfig
from brainvq.priors.base import Prior
from brainvq.training.loop import Task


class PriorTaskConfig(PartConfig):
    """Derive `Config` of a task's file from this."""

    def build(self, prior: Prior, accelerator: Accelerator, *, learning_rate: float) -> Task[Codes]:
        """A task that trains `prior` on batches of codes, each level a LongTensor (B, *grid)."""
        raise NotImplementedError
