"""Codes one after another: each from those above it and those to its left, by masked convolutions.

Source: A. van den Oord et al., Conditional Image Generation with PixelCNN Decoders, 2016 (gated PixelCNN: section 2.1
and figure 2, a vertical and a horizontal stack, so that no earlier code is in a blind spot). Where we differ:

- Kernels have the shape of what may be seen, instead of a mask over a larger one; grids are shifted once, at the start.
- Codes are labels, not grey levels: their entries are embedded.
- The first layer is linear; all after it are alike, but for the last, which feeds the head alone.
- A learned vector for each position enters the vertical stack, since heads lie at the same place in all slices. This
  stack has residual connections too.
- The network adds to the log-frequencies of the entries at each position (`histogram.py`), at first nothing: training
  starts from the baseline.
- Against overfitting, training drops whole channels (J. Tompson et al., 2015) and the embeddings of single codes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveInt, field_validator
from torch import Tensor, nn
from torch.nn import functional as F

from brainvq.codes import Codes, CodeSpec
from brainvq.errors import InputError
from brainvq.priors import histogram
from brainvq.priors.base import Prior, PriorConfig, check_wish, refuse_conditions
from brainvq.priors.conditions import Conditions, Given
from brainvq.priors.drawing import PLAIN, Drawing

LARGEST_TABLE = 1 << 24
"""Logits of an image: 64 MiB, and training holds several for each image of a batch."""
MOST_LAYERS = 256
"""All that is built before the weights of a stranger's run are looked at."""

Share = Annotated[float, Field(ge=0, lt=1)]


class Config(PriorConfig):
    """Args:
    width: channels of both stacks.
    layers: gated layers after the first, linear one.
    kernel: odd. One layer sees kernel // 2 codes far, all together (layers + 1) * (kernel // 2).
    head: channels between the layers and the logits.
    dropout: share of the channels of a gate that training drops.
    forget: share of the codes that training hides from those after them.
    """

    kind: Literal["priors.pixelcnn"] = "priors.pixelcnn"
    width: PositiveInt = 64
    layers: Annotated[int, Field(ge=1, le=MOST_LAYERS)] = 10
    kernel: Annotated[int, Field(ge=3)] = 3
    head: PositiveInt = 128
    dropout: Share = 0.1
    forget: Share = 0.0

    @field_validator("kernel")
    @classmethod
    def _odd(cls, kernel: int) -> int:
        if kernel % 2 == 0:
            raise ValueError("an odd number belongs here")
        return kernel

    def build(self, spec: CodeSpec, size: Sequence[int], conditions: Conditions = ()) -> PixelCNN:
        refuse_conditions(self, conditions)
        grids = spec.grids(size)
        if len(grids) != 1 or len(grids[0]) != 2:
            raise InputError(
                f"these codes have grids {grids}; pixelcnn models one level of two axes. "
                "Use histogram, or a tokenizer with one codebook for slices."
            )
        if math.prod(grids[0]) * spec.entries[0] > LARGEST_TABLE:
            raise InputError(
                f"a grid {grids[0]} of {spec.entries[0]:,} entries has more than {LARGEST_TABLE:,} logits, too many "
                "for pixelcnn. Use a tokenizer of larger strides, or smaller images."
            )
        return PixelCNN(self, spec, size)


class PixelCNN(Prior):
    def __init__(self, config: Config, spec: CodeSpec, size: Sequence[int]) -> None:
        super().__init__(spec, size)
        self.config = config
        width, reach, entries = config.width, config.kernel // 2, spec.entries[0]
        self.frequencies = histogram.Config().build(spec, size)
        self.embedding = nn.Embedding(entries, width)
        self.position = nn.Parameter(0.02 * torch.randn(*self.grids[0], width))
        self.above = nn.Conv2d(width, width, (reach + 1, config.kernel), bias=False)
        self.before = nn.Conv2d(width, width, (1, reach + 1), bias=False)
        self.layers = nn.ModuleList(Layer(config, last=n == config.layers - 1) for n in range(config.layers))
        self.head = nn.Sequential(
            nn.ReLU(), nn.Conv2d(config.head, config.head, 1), nn.ReLU(), nn.Conv2d(config.head, entries, 1)
        )
        nn.init.zeros_(self.head[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.head[-1].bias)  # type: ignore[arg-type]

    @torch.no_grad()
    def learn_statistics(self, batches: Iterable[Codes]) -> None:
        self.frequencies.learn_statistics(batches)

    def log_probs(self, codes: Codes, given: Given | None = None) -> Tensor:
        self.check(codes)
        logits = self.logits(codes[0])
        return -F.cross_entropy(logits.flatten(0, 2), codes[0].flatten(), reduction="none").view(len(logits), -1)

    def logits(self, code: Tensor) -> Tensor:
        """(B, H, W) -> (B, H, W, entries), never less than float32: each position's from the codes before it."""
        e = self.embedding(code).movedim(-1, 1)  # (B, width, H, W), channels last in memory
        if self.training and self.config.forget:
            e = e * (torch.rand_like(e[:, :1]) >= self.config.forget)
        reach = self.config.kernel // 2
        v = self.above(F.pad(e[:, :, :-1], (reach, reach, reach + 1, 0)))
        v = v + self.position.movedim(-1, 0).to(v.dtype)
        h = self.before(F.pad(e[..., :-1], (reach + 1, 0)))
        skips = None
        for layer in self.layers:
            v, h, skip = layer(v, h)
            skips = skip if skips is None else skips + skip
        y: Tensor = self.head(skips).movedim(1, -1)
        return y + self.frequencies.tables[0].view(y.shape[1:])

    def sample(
        self, generators: Sequence[torch.Generator], given: Given | None = None, drawing: Drawing = PLAIN
    ) -> Codes:
        check_wish(self, given, drawing, len(generators))
        uniform = torch.stack([torch.rand(self.length, generator=generator) for generator in generators])
        with torch.inference_mode():
            code = Sampling(self, len(generators)).draw(uniform, drawing)
        return (code.clone(),)  # outside inference mode: a tensor like any other


class Layer(nn.Module):
    """One gated layer of both stacks (figure 2 of the paper).

    The vertical stack `v` of a position has seen the rows above it, the horizontal one `h` also its own row, up to it.
    """

    def __init__(self, config: Config, *, last: bool) -> None:
        super().__init__()
        width, self.reach, self.dropout = config.width, config.kernel // 2, config.dropout
        self.vertical = nn.Conv2d(width, 2 * width, (self.reach + 1, config.kernel))
        self.down = nn.Conv2d(2 * width, 2 * width, 1)
        self.horizontal = nn.Conv2d(width, 2 * width, (1, self.reach + 1), bias=False)
        self.skip = nn.Conv2d(width, config.head, 1)
        self.residual = None if last else nn.Conv2d(width, width, 1, bias=False)

    def forward(self, v: Tensor, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """v, h (B, width, H, W) -> the next v and h, and what goes to the head (B, head, H, W)."""
        seen = self.vertical(F.pad(v, (self.reach, self.reach, self.reach, 0)))
        gated = self._gate(self.horizontal(F.pad(h, (self.reach, 0))) + self.down(seen))
        if self.residual is None:
            return v, h, self.skip(gated)
        return v + self._gate(seen), h + self.residual(gated), self.skip(gated)

    def _gate(self, x: Tensor) -> Tensor:
        """Equation 2: (B, 2 width, H, W) -> (B, width, H, W)."""
        a, b = x.chunk(2, dim=1)
        return F.dropout2d(a.tanh() * b.sigmoid(), self.dropout, self.training)


class Sampling:
    """Draws a batch of codes in order, at each position only the work of that position.

    The vertical stack is computed a row at a time, the horizontal one a code at a time, each from what was kept of the
    rows above and of the codes before. All in float64: the last bits of a float32 product depend on the size of the
    batch, and one code that falls differently changes all after it.

    Steps so small cost calls, not arithmetic: a layer is five of them, on views that are made once.
    """

    def __init__(self, prior: PixelCNN, batch: int) -> None:
        self.grid, self.layers = (batch, *prior.grids[0]), len(prior.layers)
        _, height, width = self.grid
        device = "cpu" if prior.position.device.type == "mps" else prior.position.device  # which has no float64
        self.weights = {name: _matrix(value.to(device).to(torch.float64)) for name, value in prior.state_dict().items()}
        self.table = self["frequencies.log_table_0"].view(height, width, -1) + self["head.3.bias"]
        self.skip = torch.cat([self[f"layers.{n}.skip.weight"] for n in range(self.layers)])
        self.skip_bias = torch.stack([self[f"layers.{n}.skip.bias"] for n in range(self.layers)]).sum(0)
        channels, reach = prior.config.width, prior.config.kernel // 2
        self.rows = [Rows(self.table, batch, reach, width, channels) for _ in range(self.layers + 1)]
        self.drawn = Strip(self.table, batch, reach + 1, width, channels, reach + 1)
        self.strips = [Strip(self.table, batch, reach, width, channels, reach + 1) for _ in range(self.layers)]
        self.gates = self.table.new_zeros(batch, self.layers * channels)
        self.gate = self.gates.tensor_split(self.layers, 1)
        self.pair = self.table.new_zeros(batch, 2 * channels)
        self.halves = self.pair.chunk(2, 1)

    def __getitem__(self, name: str) -> Tensor:
        return self.weights[name]

    def draw(self, uniform: Tensor, drawing: Drawing) -> Tensor:
        """(B, H W) in [0, 1) -> codes (B, H, W)."""
        uniform = uniform.to(self.table).view(self.grid)
        code = torch.empty(self.grid, dtype=torch.long, device=uniform.device)
        for i in range(self.grid[1]):
            above = self._row(i)
            for j in range(self.grid[2]):
                found = drawing.draw(self._logits(i, j, above), uniform[:, i, j])
                self.drawn.own[j].copy_(self["embedding.weight"][found])
                code[:, i, j] = found
        return code

    def _row(self, i: int) -> list[tuple[Tensor, ...]]:
        """What row `i` of the vertical stack gives the horizontal one, for each layer and position (B, 2 channels)."""
        found = []
        v = self.rows[0].push(self.drawn.all) @ self["above.weight"] + self["position"][i]
        for n in range(self.layers):
            seen = self.rows[n + 1].push(v) @ self[f"layers.{n}.vertical.weight"] + self[f"layers.{n}.vertical.bias"]
            down = seen @ self[f"layers.{n}.down.weight"] + self[f"layers.{n}.down.bias"]
            found.append(down.unbind(1))
            a, b = seen.chunk(2, 2)
            v = v + a.tanh() * b.sigmoid()
        return found

    def _logits(self, i: int, j: int, above: list[tuple[Tensor, ...]]) -> Tensor:
        """(B, entries) of position (i, j), once all codes before it are in `drawn`."""
        torch.mm(self.drawn.seen[j], self["before.weight"], out=self.strips[0].own[j])
        for n, strip in enumerate(self.strips):
            torch.addmm(above[n][j], strip.seen[j], self[f"layers.{n}.horizontal.weight"], out=self.pair)
            torch.mul(self.halves[0].tanh_(), self.halves[1].sigmoid_(), out=self.gate[n])
            if n + 1 < self.layers:
                residual = self[f"layers.{n}.residual.weight"]
                torch.addmm(strip.own[j], self.gate[n], residual, out=self.strips[n + 1].own[j])
        y = torch.addmm(self.skip_bias, self.gates, self.skip).relu_()
        y = torch.addmm(self["head.1.bias"], y, self["head.1.weight"]).relu_()
        return torch.addmm(self.table[i, j], y, self["head.3.weight"])


class Rows:
    """The last rows that a vertical convolution sees, between columns of zeros."""

    def __init__(self, like: Tensor, batch: int, reach: int, width: int, channels: int) -> None:
        self.reach, self.column = reach, (reach + 1) * channels
        self.kept = like.new_zeros(batch, width + 2 * reach, reach + 1, channels)

    def push(self, row: Tensor) -> Tensor:
        """A new last row (B, W, channels) -> what each of its positions sees (B, W, columns rows channels)."""
        self.kept[:, :, :-1] = self.kept[:, :, 1:].clone()
        self.kept[:, self.reach : -self.reach, -1] = row
        return self.kept.flatten(1).unfold(1, (2 * self.reach + 1) * self.column, self.column)


class Strip:
    """A row of a horizontal stack after `padding` zeros, with views made once: for each position its `own` part
    (B, channels), and the `taps` parts that it sees of this row (B, taps channels).
    """

    def __init__(self, like: Tensor, batch: int, padding: int, width: int, channels: int, taps: int) -> None:
        kept = like.new_zeros(batch, padding + width, channels)
        self.all = kept[:, padding:]
        self.own = self.all.unbind(1)
        self.seen = kept.flatten(1).unfold(1, taps * channels, channels).unbind(1)


def _matrix(weight: Tensor) -> Tensor:
    """A kernel (out, in, rows, columns) as (columns rows in, out); all else as it is."""
    return weight.permute(3, 2, 1, 0).flatten(0, 2) if weight.ndim == 4 else weight
