"""A transformer over the positions of grids of codes, for priors: which positions see which is theirs to say.

Source: A. Vaswani et al., Attention Is All You Need, 2017, with the normalisation before each part (R. Xiong et al., On
Layer Normalization in the Transformer Architecture, 2020). Positions are rotations of queries and keys (J. Su et al.,
RoFormer, 2021), a share of each head for every axis of the image, so that "the code above" is one direction wherever
it stands. What is absolute, such as where heads lie, the caller adds to the input.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SLOWEST = 100.0
"""Codes over which the slowest rotation turns by one radian."""
SHORT = 512
"""Positions of which plain products are faster than the fused kernel."""


class Transformer(nn.Module):
    """x (B, N, width) -> (B, N, width), normalised.

    Args:
        coordinates: where each of the N positions lies, (N, axes), in any unit in which neighbours are about 1 apart.
    """

    def __init__(self, width: int, layers: int, heads: int, dropout: float, coordinates: Tensor) -> None:
        super().__init__()
        blocks = [Block(width, heads, dropout) for _ in range(layers)]
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(width, bias=False)
        cos, sin = rotations(coordinates, width // heads)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        for block in blocks:  # the deeper, the smaller at first (A. Radford et al., 2019)
            for last in (block.out, block.down):
                nn.init.normal_(last.weight, std=0.02 / math.sqrt(2 * layers))

    def forward(self, x: Tensor, *, causal: bool) -> Tensor:
        """`causal`: each position sees itself and those before it, else all."""
        for block in self.blocks:
            x = block(x, self.cos, self.sin, causal)
        y: Tensor = self.norm(x)
        return y


class Block(nn.Module):
    """Attention, then two layers at each position, both added to what comes in."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.before = nn.LayerNorm(width, bias=False)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.between = nn.LayerNorm(width, bias=False)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, causal: bool) -> Tensor:
        batch, positions, width = x.shape
        qkv = self.qkv(self.before(x)).view(batch, positions, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, N, width / heads)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        seen = attend(q, k, v, causal=causal)
        x = x + self._dropped(self.out(seen.transpose(1, 2).reshape(batch, positions, width)))
        return x + self._dropped(self.down(F.gelu(self.up(self.between(x)))))

    def _dropped(self, x: Tensor) -> Tensor:
        return dropped(x, self.dropout) if self.training and self.dropout else x


def attend(q: Tensor, k: Tensor, v: Tensor, *, causal: bool) -> Tensor:
    """(B, heads, N, width) each -> the same.

    In bfloat16 on a CPU short rows take two plain products: a step of training is a fifth shorter than by the fused
    kernel (`benchmarks/transformer.py`), for memory of the square of N.
    """
    length = q.shape[2]
    if not (q.device.type == "cpu" and q.dtype == v.dtype == torch.bfloat16 and length <= SHORT):
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    later = q.new_zeros(length, length)
    if causal:
        later = later.masked_fill_(later.new_ones(length, length, dtype=torch.bool).triu(1), -math.inf)
    later = later.expand(q.shape[0] * q.shape[1], length, length)
    scores = torch.baddbmm(later, q.flatten(0, 1), k.flatten(0, 1).transpose(1, 2), alpha=q.shape[3] ** -0.5)
    return torch.bmm(scores.softmax(-1), v.flatten(0, 1)).view_as(v)


def dropped(x: Tensor, share: float) -> Tensor:
    """Dropout of a `share`, on a CPU rounded to 1 / 256: there random numbers take most of its time, and one of them is
    enough for eight draws of a byte."""
    if x.device.type != "cpu":
        return F.dropout(x, share, training=True)
    least = min(255, round(share * 256))
    drawn = torch.empty(x.numel() // 8 + 1, dtype=torch.int64, device=x.device).random_(-(2**63), None)
    kept = drawn.view(torch.uint8)[: x.numel()].view(x.shape) >= least
    return x * kept * (256 / (256 - least))


def rotations(coordinates: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine (N, width // 2) by which pairs of a head's numbers turn; the axes share the pairs equally.

    Numbers that the axes cannot share are not turned.
    """
    axes = coordinates.shape[1]
    each = width // (2 * axes)
    speeds = SLOWEST ** -(torch.arange(each, device=coordinates.device) / each)
    angles = (coordinates[:, :, None] * speeds).flatten(1)
    angles = F.pad(angles, (0, width // 2 - angles.shape[1]))
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x (..., N, width) by angles (N, width // 2)."""
    a, b = x.chunk(2, dim=-1)
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)
