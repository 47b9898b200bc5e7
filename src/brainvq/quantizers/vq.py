"""Vector quantization with one codebook, learned by gradient or by moving averages.

Source: A. van den Oord, O. Vinyals, K. Kavukcuoglu, Neural Discrete Representation Learning, 2017 (equation 3; moving
averages: appendix A.1). Where we differ:

- Moving averages start at one batch's worth of use for every entry, with the entry itself as mean. Started at zero, as
  often done, the first update divides by nearly nothing.
- The first batch may set the codebook (a few rounds of k-means), instead of random numbers. Much of a brain slice is
  black and looks alike to the encoder, so many centres drawn at random coincide: those left without a vector are moved.
- An entry that has fallen out of use is moved to a vector of the batch that is badly served, drawn in proportion to its
  squared distance, and its averages start anew, or the next update would put it back. Without revival it stays where it
  is: the quotient of two averages that decay to nothing would pull it to zero.
- Every decision is a function of the global batch and of the number of updates, so that several processes agree
  without talking about it and a resumed run repeats itself.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
import torch.distributed as dist
from einops import rearrange
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from brainvq.codes import Codes
from brainvq.quantizers.base import Quantized, Quantizer, QuantizerConfig
from brainvq.quantizers.search import nearest

ROUNDS = 10
NOTHING = 1e-20  # use below which an average tells no more


class Config(QuantizerConfig):
    """One codebook.

    Args:
        entries: K, the size of the codebook.
        codebook: learned by "gradient" (codebook loss) or as "ema" of the vectors that chose each entry.
        commitment: weight of the commitment loss.
        initial_range: entries start uniform in +- this; null takes them from the first batch by k-means.
        decay: of the moving averages of use and of vectors.
        revive_below: an entry used less than this share of its fair share (1/K) is moved; 0 never moves one.
    """

    kind: Literal["quantizers.vq"] = "quantizers.vq"
    entries: PositiveInt = 512
    codebook: Literal["gradient", "ema"] = "ema"
    commitment: NonNegativeFloat = 0.25
    initial_range: PositiveFloat | None = None
    decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    revive_below: Annotated[float, Field(ge=0, lt=1)] = 0.05

    def build(self, dim: int) -> VectorQuantizer:
        return VectorQuantizer(self, dim)


class VectorQuantizer(Quantizer):
    codebook: Tensor
    usage: Tensor
    sums: Tensor
    updates: Tensor

    def __init__(self, config: Config, dim: int) -> None:
        super().__init__()
        self.config = config
        self.entries = (config.entries,)
        spread = 1.0 if config.initial_range is None else config.initial_range
        codebook = torch.empty(config.entries, dim).uniform_(-spread, spread)
        if config.codebook == "gradient":
            self.codebook = nn.Parameter(codebook)
        else:
            self.register_buffer("codebook", codebook)
            self.register_buffer("sums", codebook.clone())
        self.register_buffer("usage", torch.ones(config.entries))
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))
        self.started = False

    def _load_from_state_dict(self, *args: Any, **settings: Any) -> None:
        self.started = False
        super()._load_from_state_dict(*args, **settings)

    def encode(self, z: Tensor) -> Codes:
        return (nearest(_rows(z), self.codebook).reshape(z.shape[0], *z.shape[2:]),)

    def decode(self, codes: Codes) -> Tensor:
        return rearrange(F.embedding(codes[0], self.codebook), "b ... d -> b d ...")

    def forward(self, z: Tensor) -> Quantized:
        with torch.autocast(z.device.type, enabled=False):
            z = z.float()
            vectors = _rows(z)  # once: of a z that is laid out otherwise it is a copy
            if self.training and not self.started:  # a flag, because looking at `updates` waits for the device
                if self.config.initial_range is None and not self.updates:
                    self._start(vectors.detach())
                self.started = True
            codes = nearest(vectors, self.codebook).reshape(z.shape[0], *z.shape[2:])
            served = _rows(self.decode((codes,)))
            z_q, error = _StraightThrough.apply(vectors, served.detach())  # type: ignore[no-untyped-call]
            losses = {"commitment": self.config.commitment * error}
            if self.config.codebook == "gradient":
                losses["codebook"] = F.mse_loss(served, vectors.detach())
            if self.training:
                self._update(vectors.detach(), codes.flatten())
            return Quantized(
                rearrange(z_q.reshape(*codes.shape, vectors.shape[1]), "b ... d -> b d ..."), (codes,), losses
            )

    @torch.no_grad()
    def _update(self, vectors: Tensor, codes: Tensor) -> None:
        """Follow the global batch: averages of use, of vectors, and entries that nobody uses."""
        self.updates += 1
        counts = torch.zeros_like(self.usage).index_add_(0, codes, torch.ones_like(codes, dtype=torch.float32))
        self.usage.lerp_(_total(counts), 1 - self.config.decay)
        if self.config.codebook == "ema":
            sums = torch.zeros_like(self.sums).index_add_(0, codes, vectors)
            self.sums.lerp_(_total(sums), 1 - self.config.decay)
            usage = self.usage[:, None]
            self.codebook.copy_(torch.where(usage > NOTHING, self.sums / usage.clamp_min(NOTHING), self.codebook))
        if self.config.revive_below:
            self._revive(vectors, codes)

    def _revive(self, vectors: Tensor, codes: Tensor) -> None:
        fair = self.usage.mean()
        dead = (self.usage < self.config.revive_below * fair).nonzero().flatten()
        if len(dead):
            generator = self._generator()
            served = self.codebook.index_select(0, codes)
            candidates, served = self._candidates(torch.cat([vectors, served], 1), generator).chunk(2, 1)
            self._place(dead, _badly_served(candidates, served, len(dead), generator), fair)

    def _start(self, vectors: Tensor) -> None:
        """A few rounds of k-means over vectors of the first batch."""
        generator = self._generator()
        candidates = self._candidates(vectors, generator)
        pick = torch.randperm(len(candidates), generator=generator)
        pick = pick.repeat(-(-len(self.usage) // len(pick)))[: len(self.usage)]
        centres = candidates[pick.to(candidates.device)]
        for _ in range(ROUNDS):
            codes = nearest(candidates, centres)
            counts = torch.bincount(codes, minlength=len(centres))
            centres = torch.zeros_like(centres).index_add_(0, codes, candidates) / counts.clamp_min(1)[:, None]
            empty = (counts == 0).nonzero().flatten()
            if len(empty):
                centres[empty] = _badly_served(candidates, centres[codes], len(empty), generator)
        fair = torch.tensor(len(vectors) * _processes() / len(self.usage), device=vectors.device)
        self._place(torch.arange(len(self.usage), device=vectors.device), centres, fair)

    @torch.no_grad()
    def _place(self, entries: Tensor, vectors: Tensor, usage: Tensor) -> None:
        """Move entries, and start their averages anew."""
        self.codebook[entries] = vectors
        self.usage[entries] = usage
        if self.config.codebook == "ema":
            self.sums[entries] = vectors * usage

    def _candidates(self, vectors: Tensor, generator: torch.Generator) -> Tensor:
        """The same random vectors of the global batch in every process."""
        total = len(vectors) * _processes()
        wanted = min(total, max(4096, 4 * len(self.usage)))
        chosen = torch.randperm(total, generator=generator)[:wanted].to(vectors.device)
        mine = chosen // len(vectors) == _rank()
        gathered = vectors.new_zeros(wanted, vectors.shape[1])
        gathered[mine] = vectors[chosen[mine] % len(vectors)]
        return _total(gathered)

    def _generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(int(self.updates))


class _StraightThrough(torch.autograd.Function):
    """Vectors z and what serves them, (N, D) each -> the latter to the bit, as if it were z; their mean squared error.

    In one function both need one difference, and its gradient one pass.
    """

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, served: Tensor) -> tuple[Tensor, Tensor]:
        difference = vectors - served
        ctx.save_for_backward(difference)
        ctx.set_materialize_grads(False)
        return served, difference.square().mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, through: Tensor | None, error: Tensor | None) -> tuple[Tensor | None, None]:
        (difference,) = ctx.saved_tensors
        if error is None:
            return through, None
        scale = 2 / difference.numel() * error
        return (difference * scale if through is None else torch.addcmul(through, difference, scale)), None


def _badly_served(vectors: Tensor, served: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` of `vectors` (N, D), drawn in proportion to the squared distance from what serves them now, (N, D).

    Each is drawn once while they last.
    """
    errors = (vectors - served).square().sum(1).nan_to_num(posinf=0.0).cpu()  # a non-finite loss is reported elsewhere
    chosen = torch.multinomial(errors + 1e-12, count, replacement=count > len(vectors), generator=generator)
    return vectors[chosen.to(vectors.device)]


def _rows(z: Tensor) -> Tensor:
    return rearrange(z, "b d ... -> (b ...) d")


def _processes() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _rank() -> int:
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def _total(value: Tensor) -> Tensor:
    """Summed over processes, in place."""
    if _processes() > 1:
        dist.all_reduce(value)
    return value
