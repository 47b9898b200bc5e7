"""A generator of images of code indices, taught by a discriminator: the second half of reference system B.

Sources: A. Radford, L. Metz, S. Chintala, Unsupervised Representation Learning with Deep Convolutional Generative
Adversarial Networks, 2016; its use on code indices: the OASIS system "Generative model using VQ-VAE and DCGAN"
(PyTorch). As described: at 64 x 64 codes transposed convolutions to 512, 256, 128, 64 channels and to the image, and
convolutions back; BatchNorm also on the discriminator's first layer; PyTorch's own initialisation. The description says
nothing of biases: all layers have them, as PyTorch's do. Where we differ:

- An index is a label, no brightness: entries are ordered from those that stand for dark pixels to those that stand for
  bright ones before they make an image (`Greys`). The described handling is there for comparison.
- The number of stages follows the grid: one fewer at 32 x 32, where the layers next to 4 x 4 keep their widths.
- The discriminator gives logits, not probabilities: the same function, safe in float32.
- BatchNorm uses its running statistics whenever nothing trains, so that a sample does not depend on its batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import ClassVar, Literal, cast

import torch
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from brainvq.codes import Codes, CodeSpec
from brainvq.errors import InputError
from brainvq.networks.layers import Upsample
from brainvq.priors.base import Prior, PriorConfig, check_wish, refuse_conditions
from brainvq.priors.conditions import Conditions, Given
from brainvq.priors.drawing import PLAIN, Drawing

Handling = Literal["ordered", "raw_indices"]
SMALLEST = 4  # side of the grid that the generator starts from


class Config(PriorConfig):
    """Args:
    latent: normal numbers that a sample is made from.
    width: channels of the layer next to the image, at least; they double towards the 4 x 4 grid, up to eight times it.
    greys: how indices become an image: "ordered" from dark to bright, exact on the way back, or "raw_indices" as
        described, which is not.
    """

    kind: Literal["priors.dcgan"] = "priors.dcgan"
    latent: PositiveInt = 100
    width: PositiveInt = 64
    greys: Handling = "ordered"

    def build(self, spec: CodeSpec, size: Sequence[int], conditions: Conditions = ()) -> DCGAN:
        refuse_conditions(self, conditions)
        return DCGAN(self, spec, size)


class DCGAN(Prior):
    """Samples codes of one grid, or of several equal ones as the channels of one image."""

    has_likelihood: ClassVar[bool] = False
    sharpens: ClassVar[bool] = False
    has_bound: ClassVar[bool] = False

    def __init__(self, config: Config, spec: CodeSpec, size: Sequence[int]) -> None:
        super().__init__(spec, size)
        self.config = config
        stages = _stages(self.grids)
        widths = [max(config.width, 8 * config.width >> stage) for stage in range(stages)]  # from 4 x 4 on
        height, width = (side >> stages for side in self.grids[0])
        self.generator = Generator(config.latent, widths, len(self.grids), (height, width))
        self.discriminator = Discriminator(widths[::-1], len(self.grids), (height, width))
        self.greys = nn.ModuleList(Greys(entries, config.greys) for entries in spec.entries)

    @torch.no_grad()
    def learn_statistics(self, batches: Iterable[Codes]) -> None:
        counts = [torch.zeros(entries, dtype=torch.int64) for entries in self.spec.entries]
        for codes in batches:
            for count, code in zip(counts, codes, strict=True):
                count += torch.bincount(code.flatten().cpu(), minlength=len(count))
        for greys, count, order in zip(self.levels, counts, self.orders, strict=True):
            greys.learn(count, order.cpu())

    @property
    def levels(self) -> list[Greys]:
        return cast("list[Greys]", list(self.greys))

    def to_image(self, codes: Codes) -> Tensor:
        """Codes as an image in [-1, 1], (B, levels, *grid), float32.

        Raises:
            InputError: the codes are not of this spec and size.
        """
        self.check(codes)
        return torch.stack([greys(code) for greys, code in zip(self.levels, codes, strict=True)], dim=1)

    def to_codes(self, image: Tensor) -> Codes:
        """The codes whose bins hold the greys of an image (B, levels, *grid)."""
        channels = image.float().unbind(1)
        return tuple(greys.back(channel) for greys, channel in zip(self.levels, channels, strict=True))

    def noise(self, generators: Sequence[torch.Generator]) -> Tensor:
        """What the generator starts from, (B, latent), each row drawn by its own generator on the CPU."""
        z = torch.stack([torch.randn(self.config.latent, generator=generator) for generator in generators])
        return z.to(next(self.generator.parameters()).device)

    @torch.no_grad()
    def sample(
        self, generators: Sequence[torch.Generator], given: Given | None = None, drawing: Drawing = PLAIN
    ) -> Codes:
        check_wish(self, given, drawing, len(generators))
        training = self.generator.training
        self.generator.eval()
        # one at a time: libraries add up a batch of another size in another order, which could cross a bin's edge
        images = [self.generator.paint(z) for z in self.noise(generators)[:, None]]
        self.generator.train(training)
        return self.to_codes(torch.cat(images))

    def live_share(self, codes: Codes) -> float:
        """Share of the entries that can be made which occur in `codes`, over all levels."""
        used = [torch.isin(order, code) for order, code in zip(self.orders, codes, strict=True)]
        return float(torch.cat(used).cpu().double().mean())

    def log_probs(self, codes: Codes, given: Given | None = None) -> Tensor:
        """A GAN has none.

        Raises:
            InputError: always.
        """
        raise InputError(
            "priors.dcgan has no likelihood: it cannot say how probable codes are, and is not trained by it. "
            "Train it with the task training.adversarial, or use pixelcnn or histogram."
        )


class Generator(nn.Module):
    """z (B, latent) -> image (B, channels, *grid) in (-1, 1); every layer but the first doubles the grid."""

    def __init__(self, latent: int, widths: Sequence[int], channels: int, smallest: tuple[int, int]) -> None:
        super().__init__()
        first, *rest = [*widths, channels]
        layers: list[nn.Module] = [nn.ConvTranspose2d(latent, first, smallest)]
        for width, out in zip(widths, rest, strict=True):
            layers += [nn.BatchNorm2d(width), nn.ReLU(), Upsample(width, out, 4)]
        self.layers = nn.Sequential(*layers, nn.Tanh())

    def forward(self, z: Tensor) -> Tensor:
        return self.paint(z)

    def paint(self, z: Tensor) -> Tensor:
        """The same in float32, past the autocast that training wraps `forward` in."""
        x = z[:, :, None, None]
        *layers, last, tanh = self.layers
        for layer in layers:
            x = layer(x)
        return _exactly(nn.Sequential(last, tanh), x)


class Discriminator(nn.Module):
    """image (B, channels, *grid) -> logit (B,) of its being real; every layer but the last halves the grid."""

    def __init__(self, widths: Sequence[int], channels: int, smallest: tuple[int, int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, width in pairwise([channels, *widths]):
            layers += [nn.Conv2d(before, width, 4, stride=2, padding=1), nn.BatchNorm2d(width), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Conv2d([channels, *widths][-1], 1, smallest))

    def forward(self, image: Tensor) -> Tensor:
        return self.judge(image)

    def judge(self, image: Tensor) -> Tensor:
        """The same in float32, past the autocast that training wraps `forward` in."""
        first, *layers = self.layers
        logits = _exactly(first, image)
        for layer in layers:
            logits = layer(logits)
        return logits[:, 0, 0, 0]


def _exactly(layer: nn.Module, x: Tensor) -> Tensor:
    """A layer that makes or takes greys, in float32 whatever the rest is trained in: in bf16 the greys of neighbouring
    entries of a large codebook are one."""
    with torch.autocast(x.device.type, enabled=False):
        found: Tensor = layer(x.float())
        return found


class Greys(nn.Module):
    """Entries of one level as greys in [-1, 1] and back, by bins side by side, one for each entry of the train split.

    "ordered": the bins lie from the entry that stands for the darkest pixels to that for the brightest. An entry's grey
    is the middle of its bin, for the two outermost the end of the range, where tanh is flat: so the way back is exact.
    A bin's width is half an equal share and half the entry's share of all codes. With equal shares alone the
    generator's slightest noise in the background, nearly half of a slice and often a single entry, turns into specks;
    by use alone the bin of a rare entry falls below what float32 tells apart. Neighbours are alike in brightness, not
    in the edges that they show: where the generator misses by a bin, a patch of another pattern appears.

    "raw_indices": as described an index is itself the brightness, whatever its entry looks like, and the way back are
    equally wide bins over the entries by index. It is not exact unless every entry occurs.

    An entry that the train split lacks is never made. As nothing is known of it, "ordered" shows it as the middle one.
    """

    grey: Tensor
    edges: Tensor
    entries: Tensor

    def __init__(self, entries: int, handling: Handling) -> None:
        super().__init__()
        self.handling = handling
        self.register_buffer("grey", torch.zeros(entries))
        """Of each entry."""
        self.register_buffer("edges", torch.zeros(entries))
        """The upper end of each bin, infinite from the last one on."""
        self.register_buffer("entries", torch.zeros(entries, dtype=torch.int64))
        """Of each bin."""
        self.learn(torch.ones(entries), torch.arange(entries))

    def learn(self, counts: Tensor, order: Tensor) -> None:
        """From how often each entry occurs, (entries,), and the entries that do, from dark to bright, (live,)."""
        live = len(order)
        width = torch.full((live,), 2 / live, dtype=torch.float64)
        if self.handling == "raw_indices":
            order = order.sort().values
            grey = torch.linspace(-1, 1, len(counts))
        else:
            used = counts[order].double()
            width = (width + 2 * used / used.sum()) / 2
            middle = width.cumsum(0) - width / 2 - 1
            middle[0], middle[-1] = -1, 1
            grey = middle[live // 2].float().repeat(len(counts))
            grey[order] = middle.float()
        self.grey.copy_(grey)
        self.edges.fill_(torch.inf)[: live - 1] = (width.cumsum(0) - 1)[:-1]
        self.entries.fill_(order[-1])[:live] = order

    def forward(self, code: Tensor) -> Tensor:
        return F.embedding(code, self.grey[:, None])[..., 0]

    def back(self, grey: Tensor) -> Tensor:
        return self.entries[torch.bucketize(grey.contiguous(), self.edges)]


def _stages(grids: Sequence[tuple[int, ...]]) -> int:
    """How often the generator's first grid is doubled.

    Raises:
        InputError: the grids are no image, or not reached by doubling.
    """
    if len(set(grids)) > 1 or len(grids[0]) != 2:
        raise InputError(
            f"the grids of the codes are {', '.join(map(str, grids))}; a DCGAN makes one image with a channel for each "
            "level, of equal grids with two axes. Use another prior, such as pixelcnn."
        )
    if any(side < SMALLEST or side & (side - 1) for side in grids[0]):
        raise InputError(
            f"the grid of the codes is {grids[0]}; a DCGAN doubles {SMALLEST} x {SMALLEST} codes until they fill the "
            "grid, so its sides are 4, 8, 16, 32, 64 or so on. Choose images of such a size, or another prior, such as "
            "pixelcnn."
        )
    return min(grids[0]).bit_length() - SMALLEST.bit_length()
