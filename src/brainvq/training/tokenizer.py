"""One training step of a tokenizer: reconstruction plus the quantizer's own losses.

Source: A. van den Oord et al., Neural Discrete Representation Learning, 2017, equation 3; the division of the squared
error by the variance of the training pixels is theirs too (section 4.1 of their released code).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn import functional as F

from brainvq.config import PartConfig
from brainvq.metrics.distortion import ssim
from brainvq.metrics.usage import UsageCounter
from brainvq.tokenizers.base import Tokenizer
from brainvq.training.optimise import Average, OptimiserConfig, load_optimiser_state, optimiser_state


class Config(PartConfig):
    """Args:
    divide_by_variance: of the training pixels; the squared error is then the share of variance that is lost.
    optimiser: and its schedule.
    """

    kind: Literal["training.tokenizer"] = "training.tokenizer"
    divide_by_variance: bool = True
    optimiser: OptimiserConfig = OptimiserConfig()


class TokenizerTask:
    """Trains `tokenizer` on batches x (B, 1, *S) in [-1, 1] whose training set has pixels of `variance`."""

    def __init__(
        self, config: Config, tokenizer: Tokenizer, accelerator: Accelerator, *, learning_rate: float, variance: float
    ) -> None:
        self.config, self.accelerator, self.learning_rate = config, accelerator, learning_rate
        self.scale = 1 / max(variance, 1e-12) if config.divide_by_variance else 1.0
        tokenizer.to(accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.tokenizer = tokenizer
        self.average = Average(self.tokenizer, config.optimiser.average) if config.optimiser.average else None
        optimiser = config.optimiser.build(self.tokenizer, learning_rate)
        self.model, self.optimiser = accelerator.prepare(self.tokenizer, optimiser)

    def step(self, x: Tensor, step: int, total: int) -> dict[str, Tensor]:
        self.model.train()
        rate = self.config.optimiser.learning_rate(self.learning_rate, step, total)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad()
        output = self.model(x)
        losses = {"reconstruction": F.mse_loss(output.x_hat, x) * self.scale, **output.losses}
        loss = torch.stack([*losses.values()]).sum()
        self.accelerator.backward(loss)
        if self.config.optimiser.clip is not None:
            self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.optimiser.clip)
        self.optimiser.step()
        if self.average:
            self.average.update(self.tokenizer, step)
        return {"loss": loss.detach(), **{name: value.detach() for name, value in losses.items()}}

    @torch.no_grad()
    def validate(self, batches: Iterable[Tensor]) -> dict[str, float]:
        """Losses, SSIM (8 bit), and code use, of the weights to hand out, in float32."""
        model = self._handed_out().eval()
        usage, images = UsageCounter(model.spec), 0
        size: tuple[int, ...] = ()
        sums: dict[str, float] = {}
        for x in batches:
            # past Accelerate's wrapper, whose autocast would change codes
            output = type(model).forward(model, x)
            losses = {"reconstruction": F.mse_loss(output.x_hat, x) * self.scale, **output.losses}
            found = {"loss": torch.stack([*losses.values()]).sum(), **losses, "ssim": ssim(x, output.x_hat).mean()}
            for name, value in found.items():
                sums[name] = sums.get(name, 0.0) + len(x) * float(value)
            usage.add(output.codes)
            images, size = images + len(x), tuple(x.shape[2:])
        level = usage.usage(size).levels[0]
        means = {name: value / images for name, value in sums.items()}
        return {**means, "live_entries": level.live_entries, "perplexity": level.perplexity, "score": means["ssim"]}

    def state(self) -> dict[str, Tensor]:
        tensors = {f"model/{name}": value for name, value in self.tokenizer.state_dict().items()}
        tensors |= {f"optimiser/{name}": value for name, value in optimiser_state(self.optimiser).items()}
        if self.average:
            tensors |= {f"average/{name}": value for name, value in self.average.module.state_dict().items()}
        return tensors

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        groups: dict[str, dict[str, Tensor]] = {"model": {}, "optimiser": {}, "average": {}}
        for name, value in tensors.items():
            group, _, rest = name.partition("/")
            groups[group][rest] = value
        self.tokenizer.load_state_dict(groups["model"])
        load_optimiser_state(self.optimiser, groups["optimiser"])
        if self.average:
            self.average.module.load_state_dict(groups["average"])

    def weights(self) -> dict[str, Tensor]:
        return {name: value.contiguous() for name, value in self._handed_out().state_dict().items()}

    def _handed_out(self) -> Tokenizer:
        return self.average.module if self.average else self.tokenizer
