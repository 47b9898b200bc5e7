"""Trains the small network whose features measure realism (`metrics/look_features.py`), and says how well it does.

    python -m benchmarks.realism_network

It learns, on one half of the OASIS train subjects, where in the head a slice lies, how much dark, middle and bright
tissue each of 4 x 4 cells holds, and how much of each tissue is too fine to survive smoothing. Train subjects have no
label maps, so tissue is what three means of the grey levels inside a subject's head masks part (S. Lloyd, "Least
squares quantization in PCM", 1982); on the validate subjects, which have them, the classes are held against the label
maps once. Images are turned, moved, stretched, mirrored, brightened and bent in contrast at random, so that the marks
of a person or a session help little. They are smoothed and sharpened at random too, and tissue is counted afterwards: a
network that was taught to see through a blur would forgive it. The other half of the train subjects and all validate
subjects are only looked at at the end.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional as F

from benchmarks.card import NOTICE
from brainvq.data.loader import Cache, open_cache, order
from brainvq.data.sources import Source, open_splits
from brainvq.head import head_mask
from brainvq.metrics.look_features import CELLS, FINE, TISSUES, WEIGHTS, Look, seen
from brainvq.run import hardware, write_json
from brainvq.writing import atomic

OASIS = Path(os.environ.get("BRAINVQ_OASIS", Path(__file__).resolve().parents[2] / "shared" / "oasis"))
SLICES = 32
EPOCHS, BATCH, RATE, SEED = 40, 64, 2e-3, 0
LABELS = (85, 170, 255)
TURN, STRETCH, MOVE, GAIN, BEND = 0.15, 0.08, 0.06, 0.2, 0.25
"""Largest angle (radians), change of size, shift (of half the image), change of brightness, and logarithm of gamma."""


@dataclass(frozen=True, eq=False)
class Slices:
    """x (N, 1, 128, 128) in [0, 1]; the share of each pixel that is head, alike; the borders between tissues in x,
    (N, 2); position (N,) from 0 to 1."""

    x: Tensor
    head: Tensor
    borders: Tensor
    position: Tensor

    def targets(self) -> Tensor:
        parts = zip(*(torch.split(each, BATCH) for each in (self.x, self.head, self.borders)), strict=True)
        return torch.cat([self.position[:, None], torch.cat([tissue(*part) for part in parts])], dim=1)

    def some(self, picks: Tensor | slice) -> Slices:
        return Slices(self.x[picks], self.head[picks], self.borders[picks], self.position[picks])


def first_half(subjects: Sequence[str]) -> set[str]:
    """Half of them, by the order of the SHA-256 of their names: the same on every machine, today and later."""
    names = sorted(set(subjects), key=lambda name: hashlib.sha256(name.encode()).digest())
    return set(names[: len(names) // 2])


def tissue(x: Tensor, head: Tensor, levels: Tensor) -> Tensor:
    """(N, 51): the share of each tissue in each cell, then of the head what is of each and is not when smoothed."""
    plain, smooth = (_tissues(each, levels) * head for each in (x, smoothed(x)))
    fine = (plain - smooth).clamp(min=0).mean((2, 3)) / head.mean((2, 3)).clamp(min=0.01)
    return torch.cat([F.adaptive_avg_pool2d(plain, CELLS).flatten(1), fine], dim=1)


def _tissues(x: Tensor, levels: Tensor) -> Tensor:
    """(N, 3, 128, 128), 0 or 1."""
    low, high = (levels[:, n, None, None, None] for n in range(2))
    return torch.cat([x < low, (x >= low) & (x < high), x >= high], dim=1).float()


def smoothed(x: Tensor) -> Tensor:
    """By the binomials 1 4 6 4 1, a Gaussian of one pixel; what it takes away is fine."""
    for axis in (2, 3):
        parts = [torch.roll(x, shift, axis) for shift in (-2, -1, 1, 2)]
        x = (6 * x + 4 * (parts[1] + parts[2]) + parts[0] + parts[3]) / 16
    return x


def borders(images: NDArray[np.uint8], heads: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The two grey levels that part three classes inside the heads of a subject: Lloyd's three means."""
    counts, levels = np.bincount(images[heads], minlength=256), np.arange(256)
    centres = np.interp((1 / 6, 3 / 6, 5 / 6), counts.cumsum() / counts.sum(), levels)
    for _ in range(100):
        nearest = np.abs(levels[:, None] - centres).argmin(1)
        members = np.bincount(nearest, counts, 3)
        moved = np.where(members > 0, np.bincount(nearest, counts * levels, 3) / members.clip(1), centres)
        if np.allclose(moved, centres, atol=1e-3):
            break
        centres = moved
    return np.asarray((centres[:-1] + centres[1:]) / 2)


def classes(images: NDArray[np.uint8], heads: NDArray[np.bool_]) -> NDArray[np.int64]:
    """0, 1, 2 for dark, middle and bright, (N, H, W); 3 outside the head."""
    return np.where(heads, np.digitize(images, borders(images, heads)), len(TISSUES))


def prepared(cache: Cache, subjects: Sequence[str]) -> Slices:
    """All images of these subjects."""
    parts = []
    for name in track(subjects, "reading"):
        own = np.flatnonzero(np.array(cache.subjects) == name)
        images = np.asarray(cache.images[own])
        heads = head_mask(images)
        levels = torch.from_numpy(borders(images, heads)).float().expand(len(own), 2) / 255
        place = torch.tensor([int(re.findall(r"_slice_(\d+)", cache.names[i])[0]) / (SLICES - 1) for i in own])
        parts.append((seen(images), seen(heads.astype(np.uint8) * 255), levels, place))
    return Slices(*(torch.cat(each) for each in zip(*parts, strict=True)))


def augmented(slices: Slices, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """What the network sees, and its targets: tissue is counted in the moved and smoothed or sharpened image, before it
    is brightened and bent."""

    def draw(most: float) -> Tensor:
        return (torch.rand(len(slices.x), generator=generator) * 2 - 1) * most

    angle, mirror = draw(TURN), draw(1).sign()
    size = 1 + draw(STRETCH), 1 + draw(STRETCH)
    cos, sin = angle.cos(), angle.sin()
    rows = [torch.stack([size[0] * mirror * cos, -size[0] * sin, draw(MOVE)], 1)]
    rows += [torch.stack([size[1] * mirror * sin, size[1] * cos, draw(MOVE)], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), list(slices.x.shape), align_corners=False)
    x, head = torch.split(F.grid_sample(torch.cat([slices.x, slices.head], 1), grid, align_corners=False), 1, 1)
    x = (x + draw(1)[:, None, None, None] * (x - smoothed(x))).clamp(0, 1)
    wanted = torch.cat([slices.position[:, None], tissue(x, head, slices.borders)], dim=1)
    bent = x ** draw(BEND).exp()[:, None, None, None]
    return (bent * (1 + draw(GAIN))[:, None, None, None]).clamp(0, 1), wanted


def trained(slices: Slices) -> tuple[Look, Tensor, Tensor]:
    """The network, and the mean and deviation of the targets that it tells in units of."""
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    network = Look().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    everything = range(0, len(slices.x), BATCH)
    every = torch.cat([augmented(slices.some(slice(n, n + BATCH)), generator)[1] for n in everything])
    mean, deviation = every.mean(0), every.std(0).clamp(min=0.01)
    steps = EPOCHS * len(slices.x) // BATCH
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps, pct_start=0.1)
    for step in track(range(steps), "training"):
        picks = torch.from_numpy(order(len(slices.x), BATCH, SEED, step))
        x, wanted = augmented(slices.some(picks), generator)
        error = (network(x) - (wanted - mean) / deviation) ** 2
        loss = error[:, 0].mean() + error[:, 1:FINE].mean() + error[:, FINE:].mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        schedule.step()
    _turn(network.eval().requires_grad_(False), slices)
    return network, mean, deviation


@torch.no_grad()
def _turn(network: Look, slices: Slices) -> None:
    """So that its features are uncorrelated, and of deviation 1, over these images."""
    found = torch.cat([network.narrowed(x) for x in torch.split(slices.x, BATCH)]).double()
    variance, directions = torch.linalg.eigh(torch.cov(found.T))
    network.centre.copy_(found.mean(0))
    network.turn.copy_(directions / variance.clamp(min=float(variance[-1]) * 1e-8).sqrt())


@torch.inference_mode()
def judged(network: Look, slices: Slices, mean: Tensor, deviation: Tensor) -> dict[str, float]:
    """How far the told position is off, in slices; the share that it explains of the variance of each kind."""
    told = torch.cat([network(x) for x in torch.split(slices.x, BATCH)]) * deviation + mean
    wanted = slices.targets()
    explained = 1 - ((told - wanted) ** 2).mean(0) / wanted.var(0).clamp(min=1e-8)
    cells = explained[1:FINE][wanted[:, 1:FINE].std(0) > 0.01]
    return {
        "position_off_by": round(float((told - wanted)[:, 0].abs().mean()) * (SLICES - 1), 3),
        "position_explained": round(float(explained[0]), 4),
        "tissue_explained": round(float(cells.mean()), 4),
        "fine_tissue_explained": round(float(explained[FINE:].mean()), 4),
        "images": len(slices.x),
    }


def held_against_labels(cache: Cache, source: Source) -> dict[str, Any]:
    """Inside the tissue masks that come with the validate images: pixels of the class that the mask says, and the
    correlation over images of each class's share."""
    own, told, right = [], [], []
    for name in sorted(set(cache.subjects)):
        index = np.flatnonzero(np.array(cache.subjects) == name)
        images = np.asarray(cache.images[index])
        masks = [source.mask(int(i)) for i in index]
        found = classes(images, head_mask(images))
        for mask, one in zip(masks, found, strict=True):
            if mask is None or not (inside := mask > 0).any():
                continue
            wanted = np.searchsorted(LABELS, mask[inside])
            right.append(float((one[inside] == wanted).mean()))
            own.append(np.bincount(one[inside], minlength=4)[:3] / inside.sum())
            told.append(np.bincount(wanted, minlength=3) / inside.sum())
    correlation = [float(np.corrcoef(np.array(own)[:, n], np.array(told)[:, n])[0, 1]) for n in range(len(TISSUES))]
    return {
        "images": len(right),
        "pixels_alike": round(math.fsum(right) / len(right), 4),
        "correlation_of_shares": {name: round(value, 3) for name, value in zip(TISSUES, correlation, strict=True)},
    }


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    if not OASIS.is_dir():
        raise SystemExit(f"{OASIS}: no OASIS slices there. Set BRAINVQ_OASIS to their folder.")
    sources = open_splits(OASIS)
    train, validate = open_cache(sources["train"]), open_cache(sources["validate"])
    half = first_half(train.subjects)
    seen_half = prepared(train, sorted(half))
    started = time.perf_counter()
    network, mean, deviation = trained(seen_half)
    seconds = time.perf_counter() - started
    unseen = {
        "other half of the train subjects": prepared(train, sorted(set(train.subjects) - half)),
        "validate subjects": prepared(validate, sorted(set(validate.subjects))),
    }
    content = save({name: tensor.contiguous() for name, tensor in network.state_dict().items()})
    with atomic(WEIGHTS) as file:
        file.write(content)
    write_json(
        WEIGHTS.with_suffix(".json"),
        {
            "format": 1,
            "command": "python -m benchmarks.realism_network",
            "weights_sha256": hashlib.sha256(content).hexdigest(),
            "parameters": sum(weight.numel() for weight in network.parameters()),
            "data": {
                "name": "oasis",
                "split": "train",
                "fingerprint": train.fingerprint,
                "images": len(seen_half.x),
                "subjects": len(half),
                "which": "the first half of the train subjects, by the SHA-256 of their names",
            },
            "training": {"epochs": EPOCHS, "batch_size": BATCH, "rate": RATE, "seed": SEED},
            "reached": {
                "subjects of training": judged(network, seen_half, mean, deviation),
                **{name: judged(network, slices, mean, deviation) for name, slices in unseen.items()},
            },
            "classes_against_label_maps": held_against_labels(validate, sources["validate"]),
            "wall_time_s": round(seconds, 1),
            "hardware": hardware(),
            "torch": torch.__version__,
        },
    )
    notice = NOTICE.replace("model.safetensors", WEIGHTS.name)
    (WEIGHTS.parent / "LICENSE.md").write_text(notice)
    print(WEIGHTS)


if __name__ == "__main__":
    main()
