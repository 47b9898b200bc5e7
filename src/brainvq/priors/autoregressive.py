"""Codes one after another, each from all before it, by a transformer; sampled with what was computed before kept.

Source: as A. van den Oord et al., Neural Discrete Representation Learning, 2017 have PixelCNN, with the network of
A. Vaswani et al., Attention Is All You Need, 2017 as P. Esser et al., Taming Transformers for High-Resolution Image
Synthesis, 2021 use it. Where we differ:

- A position is shown the codes around it that are drawn already (left, above, the level before), not the last one
  alone: what is next to it needs no attention to be found.
- Positions are the image's, in every level, not the row's: see `networks/transformer.py`.
- The network adds to the log-frequencies of the entries at each position.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from brainvq.codes import Codes, CodeSpec
from brainvq.networks.transformer import rotate
from brainvq.priors.base import check_wish
from brainvq.priors.conditions import Conditions, Given
from brainvq.priors.drawing import PLAIN, Drawing
from brainvq.priors.sequence import earlier_around
from brainvq.priors.sequence_model import SequenceConfig, SequenceModel


class Config(SequenceConfig):
    """As every transformer over codes."""

    kind: Literal["priors.autoregressive"] = "priors.autoregressive"

    def build(self, spec: CodeSpec, size: Sequence[int], conditions: Conditions = ()) -> Autoregressive:
        self.refuse(spec, size)
        return Autoregressive(self, spec, size, conditions)


class Autoregressive(SequenceModel):
    def __init__(self, config: Config, spec: CodeSpec, size: Sequence[int], conditions: Conditions = ()) -> None:
        super().__init__(config, spec, size, conditions, earlier_around(spec, size))

    def loss(self, codes: Codes, given: Given | None = None) -> Tensor:
        return super().loss(codes, self.partly(len(codes[0]), given))

    def log_probs(self, codes: Codes, given: Given | None = None) -> Tensor:
        self.check(codes)
        x = self.shown(self.shown.ids(codes), self.near) + self.ground(len(codes[0]), given)
        found = [
            -F.cross_entropy(logits.flatten(0, 1), code.flatten(), reduction="none").view(len(code), -1)
            for logits, code in zip(self.logits_of(self.trunk(x, causal=True)), codes, strict=True)
        ]
        return torch.cat(found, dim=1)

    def sample(
        self, generators: Sequence[torch.Generator], given: Given | None = None, drawing: Drawing = PLAIN
    ) -> Codes:
        check_wish(self, given, drawing, len(generators))
        uniform = torch.stack([torch.rand(self.length, generator=generator) for generator in generators])
        with torch.inference_mode():
            flat = Sampling(self, len(generators), given, drawing).draw(uniform)
        return self.spec.unflatten(flat.clone(), self.size)  # outside inference mode: tensors like any other


class Sampling:
    """Draws a batch of codes in order; of each position keys and values are kept, so that it is computed once.

    All in float64, as `pixelcnn.py` says why. With guidance every image is two rows of the batch: what is known of it,
    and nothing.
    """

    def __init__(self, prior: Autoregressive, batch: int, given: Given | None, drawing: Drawing) -> None:
        self.drawing, self.batch, self.guided = drawing, batch, drawing.guidance != 1 and given is not None
        self.device = torch.device("cpu") if prior.position.device.type == "mps" else prior.position.device
        self.prior = copy.deepcopy(prior).to(self.device, torch.float64).eval()
        self.weights = {**self.prior.state_dict(), **dict(self.prior.named_buffers())}
        self.near = self.prior.near
        self.outward = [self.prior.outward(level) for level in range(len(prior.grids))]
        ground = [self.prior.ground(batch, known) for known in ((given, None) if self.guided else (given,))]
        self.ground = torch.cat(ground)
        rows, config = len(self.ground), prior.config
        each = config.width // config.heads
        self.kept = self.ground.new_zeros(config.layers, 2, rows * config.heads, prior.length, each)

    def __getitem__(self, name: str) -> Tensor:
        found: Tensor = self.weights[name]
        return found

    def draw(self, uniform: Tensor) -> Tensor:
        """(B, N) in [0, 1) -> codes (B, N), as `CodeSpec.flatten` has them."""
        prior, uniform = self.prior, uniform.to(self.ground)
        ids = torch.full((self.batch, prior.length + 1), prior.shown.none, device=self.device)
        code = torch.empty((self.batch, prior.length), dtype=torch.long, device=self.device)
        rows = self["shown.places"], self["shown.shift"]
        done = 0
        for level, length in enumerate(prior.lengths):
            for i in range(done, done + length):
                near = self.near[ids[:, rows[0][i]] + rows[1]].sum(1)
                logits = self._logits(near, i, level) + self[f"frequencies.log_table_{level}"][i - done]
                code[:, i] = self.drawing.draw(logits, uniform[:, i])
                ids[:, i] = code[:, i] + prior.shown.starts[level]
            done += length
        return code

    def _logits(self, near: Tensor, i: int, level: int) -> Tensor:
        """What the network says of position i, (B, entries)."""
        x = (torch.cat([near, near]) if self.guided else near) + self.ground[:, i]
        for n in range(self.prior.config.layers):
            x = self._block(x, n, i)
        width = x.shape[1]
        y = F.layer_norm(x, (width,), self["trunk.norm.weight"])
        weight, bias = self.outward[level]
        y = torch.addmm(bias, y, weight.T)
        if not self.guided:
            return y
        known, unknown = y.chunk(2)
        return unknown + self.drawing.guidance * (known - unknown)

    def _block(self, x: Tensor, n: int, i: int) -> Tensor:
        """`networks.transformer.Block` at one position, (rows, width) -> the same."""
        name, (rows, width) = f"trunk.blocks.{n}.", x.shape
        heads = self.prior.config.heads
        qkv = F.layer_norm(x, (width,), self[name + "before.weight"]) @ self[name + "qkv.weight"].T
        q, k, v = qkv.view(rows, 3, heads, 1, -1).transpose(0, 1).flatten(1, 2)  # each (rows heads, 1, width / heads)
        turn = self["trunk.cos"][i], self["trunk.sin"][i]
        keys, values = self.kept[n]
        keys[:, i : i + 1], values[:, i : i + 1] = rotate(k, *turn), v
        scores = torch.bmm(rotate(q, *turn), keys[:, : i + 1].transpose(1, 2)) * q.shape[2] ** -0.5
        seen = torch.bmm(scores.softmax(-1), values[:, : i + 1]).view(rows, width)
        x = torch.addmm(x, seen, self[name + "out.weight"].T)
        y = F.layer_norm(x, (width,), self[name + "between.weight"])
        y = F.gelu(torch.addmm(self[name + "up.bias"], y, self[name + "up.weight"].T))
        return torch.addmm(torch.add(x, self[name + "down.bias"]), y, self[name + "down.weight"].T)
