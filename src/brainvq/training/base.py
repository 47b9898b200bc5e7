"""The contract of a task that trains a prior: one file of this folder with its `Config` and its step."""

from __future__ import annotations

from accelerate import Accelerator

from brainvq.config import PartConfig
from brainvq.priors.base import Prior
from brainvq.training.labelled import Labelled
from brainvq.training.loop import Task


class PriorTaskConfig(PartConfig):
    """Derive `Config` of a task's file from this."""

    def build(self, prior: Prior, accelerator: Accelerator, *, learning_rate: float) -> Task[Labelled]:
        """A task that trains `prior` on batches of codes with what is known of their images."""
        raise NotImplementedError
