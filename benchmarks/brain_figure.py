"""Unseen slices as each preset reconstructs them, at one pixel a pixel: docs/figures/reconstructions.png.

    python -m benchmarks.brain_figure

The slices are those a third and two thirds into validate; none was picked. The originals are not shown: they are not
ours to pass on. With `--originals PATH` they are drawn beside, into a file of your own.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from brainvq.data.loader import open_cache
from brainvq.data.sources import open_splits
from brainvq.pipeline import load

ROOT = Path(__file__).resolve().parents[1]
RUNS = Path(os.environ.get("BRAINVQ_RUNS", ROOT.parent / "runs"))
OASIS = Path(os.environ.get("BRAINVQ_OASIS", ROOT.parent / "shared" / "oasis"))
FIGURE = ROOT / "docs" / "figures" / "reconstructions.png"
PRESETS = ("keras_f8", "brain_f16", "brain_f8", "brain_f4")
DPI, TITLE = 100, 24  # pixels above each column


def draw(path: Path, *, originals: bool = False) -> None:
    """A row for each slice, a column for each preset that is trained."""
    cache = open_cache(open_splits(str(OASIS))["validate"])
    picks = [len(cache) // 3, 2 * len(cache) // 3]
    x = cache.batch(picks)
    columns: dict[str, NDArray[np.uint8]] = {"original": cache.images[picks]} if originals else {}
    for name in PRESETS:
        run = RUNS / (name if name.startswith("keras") else f"{name}_half")
        if (run / "model.safetensors").exists():
            pipeline = load(run, "cpu")
            bits = pipeline.spec.bits(x.shape[2:]) / (x.shape[2] * x.shape[3])
            columns[f"{name}, {bits:.3f} bit a pixel"] = pipeline.images(pipeline.tokenizer.encode(x))
    height, width = x.shape[2:]
    size = (len(columns) * width, len(picks) * height + TITLE)
    figure = Figure((size[0] / DPI, size[1] / DPI), dpi=DPI, facecolor="black")
    for column, (title, images) in enumerate(columns.items()):
        for row, image in enumerate(images):
            figure.figimage(image, column * width, size[1] - TITLE - (row + 1) * height, cmap="gray", vmin=0, vmax=255)
        figure.text(
            (column + 0.5) / len(columns),
            1 - TITLE / 2 / size[1],
            title,
            color="white",
            ha="center",
            va="center",
            fontsize=9,
        )
    figure.savefig(path, dpi=DPI, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--originals", type=Path, help="with the originals, into this file instead")
    arguments = parser.parse_args()
    draw(arguments.originals or FIGURE, originals=arguments.originals is not None)


if __name__ == "__main__":
    main()
