"""One training step of a tokenizer: reconstruction plus the quantizer's own losses.

Source: A. van den Oord et al., Neural Discrete Representation Learning, 2017, equation 3; the division of the squared
error by the variance of the training pixels is theirs too (section 4.1 of their released code). Beyond it, all off
unless asked for: absolute error and structural dissimilarity beside the squared error, a patch discriminator, crops and
mirror images.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Literal

import torch
from accelerate import Accelerator
from pydantic import Field, NonNegativeFloat
from torch import Tensor
from torch.nn import functional as F

from brainvq.config import PartConfig
from brainvq.metrics.distortion import ssim
from brainvq.metrics.usage import UsageCounter
from brainvq.tokenizers.base import Reconstruction, Tokenizer
from brainvq.training.losses import dissimilarity, forgiven
from brainvq.training.optimise import OptimiserConfig, Updates
from brainvq.training.patches import PatchConfig, Patches

PATCHES = "patches/"  # before the names of a discriminator's tensors in a checkpoint


class Config(PartConfig):
    """Args:
    divide_by_variance: of the training pixels; the squared error is then the share of variance that is lost.
    absolute, structural: weights of the mean absolute error and of 1 - SSIM, beside the squared error.
    forgive: where the original is black or white, what lies beyond is no error: clipping removes it.
    crop: share of each edge that a training image keeps, at random places; 1 is the whole image.
    patches: a discriminator of patches, which makes reconstructions sharper and less exact; null for none.
    mirror: half of the training images are mirrored, left to right.
    lying: heads lie on their side, as in OASIS' slices, so that left and right are above and below.
    optimiser: and its schedule.
    """

    kind: Literal["training.tokenizer"] = "training.tokenizer"
    divide_by_variance: bool = True
    absolute: NonNegativeFloat = 0.0
    structural: NonNegativeFloat = 0.0
    forgive: bool = False
    patches: PatchConfig | None = None
    crop: Annotated[float, Field(gt=0, le=1)] = 1.0
    mirror: bool = False
    lying: bool = False
    optimiser: OptimiserConfig = OptimiserConfig()

    def refuse_size(self, size: Sequence[int], multiple: Sequence[int]) -> None:
        """Raises InputError where images of `size` pixels cannot be trained on so."""
        if self.patches is not None:
            self.patches.refuse_size(trained_size(self.crop, size, multiple))


class TokenizerTask:
    """Trains `tokenizer` on batches x (B, 1, *S) in [-1, 1] whose training set has pixels of `variance`."""

    def __init__(
        self, config: Config, tokenizer: Tokenizer, accelerator: Accelerator, *, learning_rate: float, variance: float
    ) -> None:
        self.config, self.multiple = config, tokenizer.spec.multiple
        self.scale = 1 / max(variance, 1e-12) if config.divide_by_variance else 1.0
        self.updates = Updates(config.optimiser, tokenizer, accelerator, learning_rate)
        self.patches = Patches(config.patches, accelerator) if config.patches else None

    def step(self, x: Tensor, /, step: int, total: int) -> dict[str, Tensor]:
        x = self._varied(x)
        output = self.updates.model.train()(x)
        losses = self._losses(x, output)
        loss = torch.stack([*losses.values()]).sum()
        seen = {"loss": loss.detach(), **{name: value.detach() for name, value in losses.items()}}
        if self.patches:
            term, seen["patches"] = self.patches.term(output.x_hat, loss, step)
            seen["discriminator"] = self.patches.learn(x, output.x_hat, step, total)
            loss = loss + term
        self.updates.step(loss, step, total)
        return seen

    def _varied(self, x: Tensor) -> Tensor:
        """Crops at places of each image's own, and mirror images; the loop seeds the random numbers by the step."""
        if self.config.crop < 1:
            x = crops(x, trained_size(self.config.crop, x.shape[2:], self.multiple))
        if self.config.mirror:
            flipped = torch.rand(len(x), 1, 1, 1) < 0.5
            x = torch.where(flipped.to(x.device, non_blocking=True), x.flip(-2 if self.config.lying else -1), x)
        return x

    def _losses(self, x: Tensor, output: Reconstruction) -> dict[str, Tensor]:
        x_hat = forgiven(x, output.x_hat) if self.config.forgive else output.x_hat
        losses = {"reconstruction": F.mse_loss(x_hat, x) * self.scale}
        if self.config.absolute:
            losses["absolute"] = self.config.absolute * F.l1_loss(x_hat, x)
        if self.config.structural:
            losses["structural"] = self.config.structural * dissimilarity(x, x_hat)
        return {**losses, **output.losses}

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
            losses = self._losses(x, output)
            found = {"loss": torch.stack([*losses.values()]).sum(), **losses, "ssim": ssim(x, output.x_hat).mean()}
            for name, value in found.items():
                sums[name] = sums.get(name, 0.0) + len(x) * float(value)
            usage.add(output.codes)
            images, size = images + len(x), tuple(x.shape[2:])
        level = usage.usage(size).levels[0]
        means = {name: value / images for name, value in sums.items()}
        return {**means, "live_entries": level.live_entries, "perplexity": level.perplexity, "score": means["ssim"]}

    def state(self) -> dict[str, Tensor]:
        others = self.patches.state() if self.patches else {}
        return self.updates.state() | {f"{PATCHES}{name}": value for name, value in others.items()}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        self.updates.load_state({name: value for name, value in tensors.items() if not name.startswith(PATCHES)})
        if self.patches:
            self.patches.load_state(
                {name.removeprefix(PATCHES): value for name, value in tensors.items() if name.startswith(PATCHES)}
            )

    def weights(self) -> dict[str, Tensor]:
        return self.updates.weights()


def trained_size(share: float, size: Sequence[int], multiple: Sequence[int]) -> tuple[int, ...]:
    """Pixels of each edge that a crop keeps: a legal size of an image."""
    pairs = zip(size, multiple, strict=True)
    return tuple(min(length, max(1, round(share * length / step)) * step) for length, step in pairs)


def crops(x: Tensor, size: Sequence[int]) -> Tensor:
    """x (B, 1, H, W) -> (B, 1, *size), each cut out at a random place."""
    pairs = zip(x.shape[2:], size, strict=True)
    tops, lefts = (torch.randint(length - edge + 1, (len(x),)).tolist() for length, edge in pairs)
    places = zip(x, tops, lefts, strict=True)
    return torch.stack([image[:, i : i + size[0], j : j + size[1]] for image, i, j in places])
