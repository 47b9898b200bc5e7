"""What a trained prior leaves beside its evaluation: samples as files and a grid of the first; and real ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from brainvq import screen
from brainvq.data.loader import open_cache
from brainvq.data.sources import open_splits
from brainvq.evaluate_prior.neighbours import EightBit
from brainvq.metrics.generation import spread_over_subjects
from brainvq.run import read_config
from brainvq.sampling import Wish, sample_files

REAL = "samples-real.png"
REAL_HEAD = "samples-real-head.png"
ROWS = {16: 2, 32: 4, 36: 4}
"""Images of a grid, and its rows."""


def sampled(run: Path, tokenizer: Path, shown: int, figures: Path) -> None:
    """64 samples of seed 0 beside the run, and the first `shown` as a figure of the documentation.

    Of a prior that knows the slice before, its first head.
    """
    out = run / "samples"
    heads = bool(read_config(run)["experiment"]["prior"].get("previous"))
    with screen.bar(f"sampling {run.name}") as progress:
        wish = Wish(heads=heads)
        count = 1 if heads else 64
        # anew: a grain may have been measured since
        done = sample_files(run, count, out, wish=wish, tokenizer=tokenizer, force=True, progress=progress).done
    images = [np.asarray(Image.open(out / "images" / f"{i:04}.png")) for i in range(done if heads else shown)]
    grid(images, figures / f"samples-{run.name}.png")


def real(data: Path, shown: int, figures: Path) -> None:
    """As many validate slices in a grid like those of the samples, spread over the subjects; and all of one subject."""
    cache = open_cache(open_splits(data)["validate"], multiple=(16, 16))
    picks = np.sort(spread_over_subjects(cache.subjects, shown, seed=0))
    grid([*EightBit(cache)[picks]], figures / REAL)
    first = cache.subjects.index(cache.subjects[picks[0]])
    whole = [i for i in range(first, len(cache)) if cache.subjects[i] == cache.subjects[first]]
    grid([*EightBit(cache)[np.array(whole)]], figures / REAL_HEAD)


def grid(images: list[NDArray[np.uint8]], path: Path) -> None:
    """At half size, row by row."""
    small = [np.asarray(Image.fromarray(image).reduce(2)) for image in images]
    wide = len(small) // ROWS[len(small)]
    rows = [np.concatenate(small[start : start + wide], axis=1) for start in range(0, len(small), wide)]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(rows)).save(path, optimize=True)
