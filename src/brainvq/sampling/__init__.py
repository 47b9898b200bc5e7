"""New images into a folder: a prior draws codes, its tokenizer decodes them.

    images/0000.png ...     8-bit images
    indices/0000.png ...    their codes, a pixel a code, from entries that stand for dark pixels to bright ones
    grid.png                the first of both, images above their codes
    codes.npz               codes_0 ... (done, *grid) of each level, and `about` as the bytes of a JSON text
    samples.json            seed, models, what is done, which files

Image i of a seed is the same however many are drawn at once, so a folder is gone on with where it ends: after an
interruption, or to get more. After each batch everything that is done is on the disk and listed.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from brainvq.errors import InputError
from brainvq.pipeline import load_generator
from brainvq.priors.base import Prior
from brainvq.sampling.drawer import ANYTHING, Drawer, Wish
from brainvq.sampling.folder import NOTICE, SampleFolder, earlier
from brainvq.training.interrupt import Interrupted, listening

__all__ = ["NOTICE", "Samples", "Wish", "sample_files"]

LARGEST = 10_000  # images a folder: names of four digits, and a file of codes that fits in memory
BATCH = 16  # an interruption waits for one batch
BUDGET = 1 << 30  # bytes of a batch while its codes are drawn
FEATURES = 4096  # float32 numbers that a prior keeps for each code, beside one for each entry


@dataclass(frozen=True)
class Samples:
    """The folder holds the first `done` images of its seed; `new` of them were drawn now."""

    done: int
    new: int


def sample_files(
    model: Path,
    n: int,
    out: Path,
    *,
    seed: int = 0,
    wish: Wish = ANYTHING,
    tokenizer: Path | None = None,
    force: bool = False,
    progress: Callable[[int, int], None] = lambda done, count: None,
    note: Callable[[str], None] = lambda text: None,
) -> Samples:
    """Images 0 .. n-1 of `seed`, drawn by the prior of the run `model`, into the folder `out`.

    A folder that holds samples of the same model and seed is gone on with; `force` draws anew where any samples lie.

    Args:
        wish: conditions, how codes are drawn, whole heads, and a part of an image to keep.
        tokenizer: run folder of the prior's tokenizer, where it is not where it was.
        progress: called with (done, n) after each batch.
        note: called with a line of text when a signal came, which is heeded after the batch; a second stops at once.

    Raises:
        InputError: a number out of range, a model that cannot be opened, or a folder that holds something else: then
            nothing is changed. Or the disk or the memory is full: then what is done is kept.
        Interrupted: a signal came; what is done is kept.
    """
    _check_numbers(n, seed)
    before = earlier(out, force=force)
    generator = load_generator(model, tokenizer)
    drawer = Drawer(generator, seed, wish)
    folder = SampleFolder(out, drawer, shlex.join([*_command(model, n, out, seed, tokenizer), *wish.options()]))
    n *= drawer.images
    _refuse_too_many(n)
    if before and not force:
        folder.resume(before)
    first = folder.done
    if first >= n:
        return Samples(first, 0)
    batch = drawer.images if wish.heads else _batch(generator.prior)
    folder.begin(n)
    with folder.kept(), listening(lambda: note("stopping after this batch."), folder.start_clock) as stop:
        while folder.done < n:
            progress(folder.done, n)
            folder.start_clock()
            folder.add(drawer.codes(folder.done, min(batch, n - folder.done)))
            if stop[0] and folder.done < n:
                raise Interrupted(stop[0], folder.so_far)
    progress(n, n)
    return Samples(n, n - first)


def _check_numbers(n: int, seed: int) -> None:
    if n < 1:
        raise InputError(f"-n is {n}; at least 1 image must be asked for.")
    _refuse_too_many(n)
    if not 0 <= seed < 1 << 32:
        raise InputError(f"--seed is {seed}; a number from 0 to {(1 << 32) - 1} is expected.")


def _refuse_too_many(n: int) -> None:
    if n > LARGEST:
        raise InputError(
            f"{n:,} images were asked for; a folder takes at most {LARGEST:,}. Draw more into other folders with other "
            "seeds: --seed 1, --seed 2 and so on."
        )


def _batch(prior: Prior) -> int:
    """Images drawn at once."""
    each = 4 * prior.length * (max(prior.spec.entries) + FEATURES)
    return max(1, min(BATCH, BUDGET // each))


def _command(model: Path, n: int, out: Path, seed: int, tokenizer: Path | None) -> list[str]:
    """The command that draws these samples, for the record; of paths only the last part."""
    words = ["brainvq", "sample", model.resolve().name, "-n", str(n), "--out", out.resolve().name, "--seed", str(seed)]
    return [*words, *(["--tokenizer", tokenizer.resolve().name] if tokenizer else [])]
