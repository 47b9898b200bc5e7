"""Seconds to draw the codes of an image: our priors, the whole network for each code, and MONAI's inferer.

    python -m benchmarks.sampling

A grid of 32 x 32 codes of 128 entries; PixelCNN and the transformers, MONAI's too, of width 128 and 6 layers, 4 heads
where there are heads, with random weights: they do not change the work. The DCGAN is its preset. The naive loops are
the shortest correct ones, in float32 and without gradients. All take turns in one run on the same seeds, decoding left
out. At batch 1 every sampler runs to its end. At batch 16 those that run the whole network for each code are timed on
evenly spread positions, and the rest is reckoned: a position costs the same anywhere, and MONAI's, whose row grows, as
much as its length says.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from brainvq.codes import CodeSpec
from brainvq.config import to_json
from brainvq.priors import autoregressive, dcgan, maskgit, pixelcnn
from brainvq.priors.autoregressive import Autoregressive
from brainvq.priors.base import Prior
from brainvq.priors.pixelcnn import PixelCNN
from brainvq.run import hardware, write_json
from brainvq.training.devices import keep_freed_memory

SPEC, SIZE = CodeSpec((128,), ((8, 8),)), (256, 256)
WIDTH, LAYERS, HEADS = 128, 6, 4
BATCHES = (1, 16)
POSITIONS = 32
"""Timed at batch 16, about, over all rounds."""

Sampler = Callable[[int, Sequence[int] | None], object]
"""Draws a batch of so many; where positions are given, does the work of these alone."""


@torch.inference_mode()
def naive(prior: PixelCNN, generators: Sequence[torch.Generator], positions: Sequence[int] | None = None) -> Tensor:
    """Codes (B, H, W) by the whole network for each; with `positions`, only those, the others staying 0."""
    return _one_by_one(prior, generators, positions, prior.logits)


def _one_by_one(
    prior: PixelCNN | Autoregressive,
    generators: Sequence[torch.Generator],
    positions: Sequence[int] | None,
    logits: Callable[[Tensor], Tensor],
) -> Tensor:
    """`logits`: codes (B, H, W) -> (B, H, W, entries)."""
    (height, width), weight = prior.grids[0], prior.position
    uniform = torch.stack([torch.rand(prior.length, generator=generator) for generator in generators]).to(weight)
    code = torch.zeros(len(generators), height, width, dtype=torch.long, device=weight.device)
    for n in range(prior.length) if positions is None else positions:
        i, j = divmod(n, width)
        below = logits(code)[:, i, j].softmax(1).cumsum(1)
        code[:, i, j] = torch.searchsorted(below, uniform[:, n, None] * below[:, -1:], right=True)[:, 0]
    return code


@torch.inference_mode()
def whole(prior: Autoregressive, generators: Sequence[torch.Generator], positions: Sequence[int] | None) -> Tensor:
    """As `naive`, of a transformer."""

    def logits(code: Tensor) -> Tensor:
        x = prior.shown(prior.shown.ids((code,)), prior.near) + prior.ground(len(code), None)
        return prior.logits_of(prior.trunk(x, causal=True))[0].view(*code.shape, -1)

    return _one_by_one(prior, generators, positions, logits)


class Monai:
    """MONAI's inferer over its transformer, without its decoder."""

    def __init__(self) -> None:
        # in no environment but that of the benchmarks
        inferers, nets, utils = (
            cast("Any", importlib.import_module(f"monai.{name}")) for name in ("inferers", "networks.nets", "utils")
        )

        grid = SPEC.grids(SIZE)[0]
        self.length = grid[0] * grid[1]
        self.network = nets.DecoderOnlyTransformer(
            num_tokens=SPEC.entries[0] + 1,
            max_seq_len=self.length + 1,
            attn_layers_dim=WIDTH,
            attn_layers_depth=LAYERS,
            attn_layers_heads=HEADS,
        ).eval()
        self.inferer = inferers.VQVAETransformerInferer()
        self.ordering = utils.Ordering(utils.OrderingType.RASTER_SCAN.value, 2, (1, *grid))
        self.grid = grid

    @property
    def num_embeddings(self) -> int:
        return SPEC.entries[0]

    def decode_samples(self, codes: Tensor) -> Tensor:
        """In the place of a decoder."""
        return codes

    @torch.inference_mode()
    def __call__(self, batch: int, positions: Sequence[int] | None) -> object:
        start = torch.full((batch, 1), SPEC.entries[0])
        if positions is None:
            with contextlib.redirect_stderr(io.StringIO()):  # it draws a bar
                return self.inferer.sample(self.grid, start, self, self.network, self.ordering, verbose=False)
        return [self.network(x=start.expand(batch, n + 1), context=None) for n in positions]


def samplers() -> dict[str, tuple[nn.Module, Sampler, bool]]:
    """By name: the network, what draws by it, and whether it runs the whole network for each code."""
    gated = _ready(pixelcnn.Config(width=WIDTH, layers=LAYERS).build(SPEC, SIZE))
    alike: dict[str, Any] = {"width": WIDTH, "layers": LAYERS, "heads": HEADS, "likeness": True}  # as their presets
    ordered = _ready(autoregressive.Config(**alike).build(SPEC, SIZE))
    parallel = _ready(maskgit.Config(**alike).build(SPEC, SIZE))
    adversarial = _ready(dcgan.Config().build(SPEC, SIZE))
    monai = Monai()
    assert isinstance(gated, PixelCNN)
    assert isinstance(ordered, Autoregressive)
    return {
        "monai": (monai.network, monai, True),
        "pixelcnn, whole network": (gated, lambda n, positions: naive(gated, _generators(n), positions), True),
        "pixelcnn": (gated, lambda n, _: gated.sample(_generators(n)), False),
        "autoregressive, whole network": (
            ordered,
            lambda n, positions: whole(ordered, _generators(n), positions),
            True,
        ),
        "autoregressive": (ordered, lambda n, _: ordered.sample(_generators(n)), False),
        "maskgit": (parallel, lambda n, _: parallel.sample(_generators(n)), False),
        "dcgan": (adversarial, lambda n, _: adversarial.sample(_generators(n)), False),
    }


def _ready(prior: Prior) -> Prior:
    """With logits that differ: the last layers are nothing at first."""
    last = prior.head[-1] if isinstance(prior, PixelCNN) else prior.heads[-1] if hasattr(prior, "heads") else None  # type: ignore[index]
    if last is not None:
        nn.init.normal_(last.weight, std=0.1)  # type: ignore[arg-type, union-attr]
    return prior.eval()


def measure(rounds: int = 3) -> dict[str, Any]:
    """All samplers, turn by turn."""
    keep_freed_memory()
    torch.manual_seed(0)
    found = samplers()
    length = SPEC.grids(SIZE)[0][0] * SPEC.grids(SIZE)[0][1]
    for _, draw, slow in found.values():  # warm
        draw(1, range(2) if slow else None)
    rows = [row for batch in BATCHES for row in _rows(found, batch, length, rounds)]
    monai = {row["batch"]: row["seconds"] for row in rows if row["name"] == "monai"}
    for row in rows:
        row["times_faster_than_monai"] = monai[row["batch"]] / row["seconds"]
    return {
        "benchmark": "sampling",
        "command": f"python -m benchmarks.sampling --rounds {rounds}",
        "grid": list(SPEC.grids(SIZE)[0]),
        "entries": SPEC.entries[0],
        "priors": {
            name: to_json(network.config)  # type: ignore[arg-type]
            for name, (network, _, _) in found.items()
            if isinstance(network, Prior)
        },
        "rows": rows,
        "hardware": hardware(),
        "torch": torch.__version__,
    }


def _rows(
    found: dict[str, tuple[nn.Module, Sampler, bool]], batch: int, length: int, rounds: int
) -> Iterator[dict[str, Any]]:
    """The slow ones once at batch 1 and a share of the positions at more; the others in every round."""
    timed: dict[str, list[float]] = {name: [] for name in found}
    for turn in range(rounds):
        for name, (_, draw, slow) in found.items():
            if not slow:
                timed[name].append(_seconds(lambda draw=draw: draw(batch, None)))  # type: ignore[misc]
            elif batch > 1:
                positions = range(turn + length * rounds // POSITIONS // 2, length, length * rounds // POSITIONS)
                spent = _seconds(lambda draw=draw, positions=positions: draw(batch, positions))  # type: ignore[misc]
                timed[name].append(spent / len(positions) * length)
            elif not turn:
                timed[name].append(_seconds(lambda draw=draw: draw(batch, None)))  # type: ignore[misc]
    for name, (network, _, slow) in found.items():
        seconds = statistics.median(timed[name])
        yield {
            "name": name,
            "parameters": sum(weight.numel() for weight in network.parameters()),
            "batch": batch,
            "seconds": seconds,
            "seconds_an_image": seconds / batch,
            "reckoned": slow and batch > 1,
            "rounds": timed[name],
        }


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _generators(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("results/benchmark_sampling.json"))
    arguments = parser.parse_args()
    result = measure(arguments.rounds)
    write_json(arguments.out, result)
    for row in result["rows"]:
        print(
            f"batch {row['batch']:2}  {row['name']:30} {row['seconds_an_image']:8.3f} s an image, "
            f"{row['times_faster_than_monai']:6.1f} times MONAI"
        )
    print(f"written: {arguments.out}")


if __name__ == "__main__":
    main()
