"""One training step of a generator and its discriminator.

Source: I. Goodfellow et al., Generative Adversarial Nets, 2014: algorithm 1 with one step of the discriminator for each
of the generator, which maximises log D(G(z)) (section 3). Real and fake images pass the discriminator in batches of
their own, each normalised by its own statistics, as in A. Radford, L. Metz, S. Chintala, 2016.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn import functional as F

from brainvq.errors import InputError
from brainvq.priors.base import Prior
from brainvq.priors.dcgan import DCGAN
from brainvq.training.base import PriorTaskConfig
from brainvq.training.labelled import Labelled
from brainvq.training.optimise import OptimiserConfig, Updates

SAMPLES = 64
"""Drawn to see how many entries the generator uses."""


class Config(PriorTaskConfig):
    """Args:
    optimiser: of each of the two networks, and its schedule; an average is kept of the generator alone.
    """

    kind: Literal["training.adversarial"] = "training.adversarial"
    optimiser: OptimiserConfig = OptimiserConfig(betas=(0.5, 0.999))

    def build(self, prior: Prior, accelerator: Accelerator, *, learning_rate: float) -> AdversarialTask:
        if not isinstance(prior, DCGAN):
            raise InputError(
                f"training.adversarial trains a generator with its discriminator, and {type(prior).__name__} has none. "
                "Set task.kind to training.prior, or choose the prior priors.dcgan."
            )
        return AdversarialTask(self, prior, accelerator, learning_rate=learning_rate)


class AdversarialTask:
    """Trains `prior` on batches of codes."""

    def __init__(self, config: Config, prior: DCGAN, accelerator: Accelerator, *, learning_rate: float) -> None:
        self.prior = prior.to(accelerator.device)
        self.generator = Updates(config.optimiser, prior.generator, accelerator, learning_rate)
        plain = config.optimiser.model_copy(update={"average": 0.0})
        self.discriminator = Updates(plain, prior.discriminator, accelerator, learning_rate)

    def step(self, batch: Labelled, /, step: int, total: int) -> dict[str, Tensor]:
        self.prior.train()
        image = self.prior.to_image(batch.codes)  # (B, levels, *grid)
        z = torch.randn(len(image), self.prior.config.latent, device=image.device)
        made = self.generator.model(z)

        real, fake = self.discriminator.model(image), self.discriminator.model(made.detach())  # logits (B,)
        seen_through = _against(real, 1) + _against(fake, 0)
        self.discriminator.step(seen_through, step, total)

        judge = self.discriminator.module.requires_grad_(False)  # past the wrapper that waits for other processes
        taken_for_real = _against(judge(made), 1)
        self.generator.step(taken_for_real, step, total)
        judge.requires_grad_(True)
        losses = {"generator": taken_for_real.detach(), "discriminator": seen_through.detach()}
        probabilities = {"real": real.detach().sigmoid().mean(), "fake": fake.detach().sigmoid().mean()}
        return {"loss": losses["generator"] + losses["discriminator"], **losses, **probabilities}

    @torch.no_grad()
    def validate(self, batches: Iterable[Labelled], /) -> dict[str, float]:
        """Share of the live entries that samples use, and mean probabilities of being real by the discriminator.

        None of them says how good samples are, so that the score never changes: no checkpoint is better than another.
        """
        prior, painter = self.prior.eval(), self.generator.handed_out.eval()
        made = painter.paint(prior.noise([torch.Generator().manual_seed(seed) for seed in range(SAMPLES)]))
        logits = [prior.discriminator.judge(prior.to_image(batch.codes)) for batch in batches]
        return {
            "live_share": prior.live_share(prior.to_codes(made)),
            "discriminator_real": float(torch.cat(logits).sigmoid().mean()),
            "discriminator_fake": float(prior.discriminator.judge(made).sigmoid().mean()),
            "score": 0.0,
        }

    def state(self) -> dict[str, Tensor]:
        networks = {"generator": self.generator.state(), "discriminator": self.discriminator.state()}
        tensors = {f"{name}/{key}": value for name, state in networks.items() for key, value in state.items()}
        return tensors | {f"statistics/{name}": value for name, value in self._statistics().items()}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        groups: dict[str, dict[str, Tensor]] = {"generator": {}, "discriminator": {}, "statistics": {}}
        for name, value in tensors.items():
            group, _, rest = name.partition("/")
            groups[group][rest] = value
        self.generator.load_state(groups["generator"])
        self.discriminator.load_state(groups["discriminator"])
        for name, value in self._statistics().items():
            value.copy_(groups["statistics"][name])

    def _statistics(self) -> dict[str, Tensor]:
        """What the prior keeps of the train split beside its networks."""
        networks = ("generator.", "discriminator.")
        return {name: value for name, value in self.prior.state_dict().items() if not name.startswith(networks)}

    def weights(self) -> dict[str, Tensor]:
        """All of the prior's, its generator averaged if that is asked for."""
        own = {name: value.contiguous() for name, value in self.prior.state_dict().items()}
        return own | {f"generator.{name}": value for name, value in self.generator.weights().items()}


def _against(logits: Tensor, truth: int) -> Tensor:
    """Cross entropy of the discriminator's answer in nats, in float32."""
    return F.binary_cross_entropy_with_logits(logits.float(), torch.full_like(logits, truth, dtype=torch.float32))
