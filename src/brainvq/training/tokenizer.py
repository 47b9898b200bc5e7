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
from brainvq.training.optimise import OptimiserConfig, Updates


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
        self.scale = 1 / max(variance, 1e-12) if config.divide_by_variance else 1.0
        self.updates = Updates(config.optimiser, tokenizer, accelerator, learning_rate)

    def step(self, x: Tensor, /, step: int, total: int) -> dict[str, Tensor]:
        output = self.updates.model.train()(x)
        losses = {"reconstruction": F.mse_loss(output.x_hat, x) * self.scale, **output.losses}
        loss = torch.stack([*losses.values()]).sum()
        self.updates.step(loss, step, total)
        return {"loss": loss.detach(), **{name: value.detach() for name, value in losses.items()}}

    @torch.no_grad()
    def validate(self, batches: Iterable[Tensor], /) -> dict[str, float]:
        """Losses, SSIM (8 bit), and code use, of the weights to hand out, in float32."""
        model = self.updates.handed_out.eval()
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
        return self.updates.state()

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        self.updates.load_state(tensors)

    def weights(self) -> dict[str, Tensor]:
        return self.updates.weights()
