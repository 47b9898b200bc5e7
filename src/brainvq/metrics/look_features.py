"""Thirty-two numbers of an image that a small network learned: the second of two families of features for `realism.py`.

Networks that tell photographs apart are the custom (M. Heusel et al., "GANs trained by a two time-scale update rule
converge to a local Nash equilibrium", 2017), but they saw no head, come from elsewhere, and what they call alike is not
ours to say (T. Kynkaanniemi et al., "The role of ImageNet classes in Frechet inception distance", 2023). This one was
trained here, on one half of the OASIS train subjects, to tell where in the head a slice lies, how much dark, middle and
bright tissue is where, and how much of it is fine; never to tell subjects apart. `look.json` beside its weights says by
which command, on which data, and how well it does on subjects that it never saw. Features are what its last layer is
given.

It has no normalisation layer: what is far from all that it saw stays far.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load
from torch import Tensor, nn
from torch.nn import functional as F

from brainvq.errors import InputError
from brainvq.metrics.image_statistics import refuse_unfit

WEIGHTS = Path(__file__).parent / "weights" / "look.safetensors"
FEATURES = 32
SIDE = 128
"""Pixels of what the network sees."""
CELLS = 4
"""Tissue is told in 4 x 4 cells."""
TISSUES = ("dark", "middle", "bright")
FINE = 1 + len(TISSUES) * CELLS**2
OUTPUTS = FINE + len(TISSUES)
"""Position, the tissues of each cell, and from `FINE` on how much of each tissue is fine."""
WIDTHS = (24, 48, 64, 64)
AT_ONCE = 32


class Look(nn.Module):
    """x (B, 1, 128, 128) in [0, 1] -> position and tissue shares (B, 52), standardised over the images of training."""

    centre: Tensor
    turn: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv2d(before, after, kernel, stride=2, padding=kernel // 2)
            for before, after, kernel in zip((1, *WIDTHS), WIDTHS, (5, 3, 3, 3), strict=False)
        )
        self.narrow = nn.Linear(sum(WIDTHS[:-1]) + WIDTHS[-1] * CELLS**2, FEATURES)
        self.tell = nn.Sequential(nn.SiLU(), nn.Linear(FEATURES, OUTPUTS))
        self.register_buffer("centre", torch.zeros(FEATURES))
        self.register_buffer("turn", torch.eye(FEATURES))

    def features(self, x: Tensor) -> Tensor:
        """(B, 32), uncorrelated and of deviation 1 over the images of training: what takes little of the network's
        variance, such as how sharp an image is, counts as much as where in the head it lies."""
        return (self.narrowed(x) - self.centre) @ self.turn

    def narrowed(self, x: Tensor) -> Tensor:
        """(B, 32), from each layer's means over the image (the first tell what is fine), and the last's by cell."""
        means = []
        for layer in self.layers:
            x = F.silu(layer(x))
            means.append(x.mean((2, 3)))
        means[-1] = F.adaptive_avg_pool2d(x, CELLS).flatten(1)
        narrowed: Tensor = self.narrow(torch.cat(means, dim=1))
        return narrowed

    def forward(self, x: Tensor) -> Tensor:
        told: Tensor = self.tell(self.narrowed(x))
        return told


def look_features(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """8-bit images (N, H, W) of at least 64 x 64 -> (N, 32). Each image by itself.

    Raises:
        InputError: images of another type, or smaller; or the weights are not those of the package.
    """
    refuse_unfit(images)
    network = shipped_look()
    found = np.empty((len(images), FEATURES))
    with torch.inference_mode():
        for start in range(0, len(images), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            found[part] = network.features(seen(images[part])).double().numpy()
    return found


def seen(images: NDArray[np.uint8]) -> Tensor:
    """As the network sees them: in the middle of a black square, 128 x 128 by means of areas, x (N, 1, 128, 128)."""
    x = torch.from_numpy(np.ascontiguousarray(images))[:, None].float() / 255
    down, right = (max(x.shape[2:]) - side for side in x.shape[2:])
    x = F.pad(x, (right // 2, right - right // 2, down // 2, down - down // 2))
    if x.shape[2] < SIDE:
        return F.interpolate(x, (SIDE, SIDE), mode="bilinear")
    return F.adaptive_avg_pool2d(x, (SIDE, SIDE))


def facts() -> dict[str, Any]:
    """look.json: the hash of the weights, the command that made them, their data, how well they do."""
    found: dict[str, Any] = json.loads(WEIGHTS.with_suffix(".json").read_text())
    return found


@cache
def shipped_look() -> Look:
    """The network of the package, in eval mode.

    Raises:
        InputError: its weights are not those that `look.json` names.
    """
    content = WEIGHTS.read_bytes()
    if hashlib.sha256(content).hexdigest() != facts()["weights_sha256"]:
        raise InputError(
            f"{WEIGHTS} is damaged or was replaced: its hash is not the one in {WEIGHTS.stem}.json. "
            "Install brainvq again; realism by other weights cannot be compared."
        )
    network = Look()
    network.load_state_dict(load(content))
    return network.eval().requires_grad_(False)
