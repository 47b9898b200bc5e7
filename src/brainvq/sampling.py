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

import json
import re
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import brainvq
from brainvq import run as runs
from brainvq.codes import Codes
from brainvq.data.scan import Scan, read, write
from brainvq.errors import InputError
from brainvq.pipeline import DAMAGE, Generator, load_generator
from brainvq.priors.base import Prior
from brainvq.training.interrupt import Interrupted, listening
from brainvq.writing import atomic

FORMAT = 1
LARGEST = 10_000  # images a folder: names of four digits, and a file of codes that fits in memory
BATCH = 16  # an interruption waits for one batch
BUDGET = 1 << 30  # bytes of a batch while its codes are drawn
FEATURES = 4096  # float32 numbers that a prior keeps for each code, beside one for each entry
SHOWN, COLUMNS, GAP = 32, 8, 4  # images in the grid picture, a row, and pixels between
NOTICE = "Synthetic images, not audited for copies of training subjects. Not a medical device."

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Samples:
    """`folder` holds the first `done` images of its seed; `new` of them were drawn now."""

    folder: Path
    done: int
    new: int


def sample_files(
    model: Path,
    n: int,
    out: Path,
    *,
    seed: int = 0,
    tokenizer: Path | None = None,
    force: bool = False,
    progress: Progress = lambda done, count: None,
    note: Callable[[str], None] = lambda text: None,
) -> Samples:
    """Images 0 .. n-1 of `seed`, drawn by the prior of the run `model`, into the folder `out`.

    A folder that holds samples of the same model and seed is gone on with; `force` draws anew where any samples lie.

    Args:
        tokenizer: run folder of the prior's tokenizer, where it is not where it was.
        progress: called with (done, n) after each batch.
        note: called with a line of text when a signal came, which is heeded after the batch; a second stops at once.

    Raises:
        InputError: a number out of range, a model that cannot be opened, or a folder that holds something else: then
            nothing is changed. Or the disk or the memory is full: then what is done is kept.
        Interrupted: a signal came; what is done is kept.
    """
    _check_numbers(n, seed)
    before = _earlier(out)
    generator = load_generator(model, tokenizer)
    folder = _Folder(out, generator, seed, _command(model, n, out, seed, tokenizer))
    if before and not force:
        folder.resume(before)
    first = folder.done
    if first >= n:
        return Samples(out, first, 0)
    batch = _batch(generator.prior)
    folder.begin(n)
    with folder.kept(), listening(lambda: note("stopping after this batch."), folder.start_clock) as stop:
        while folder.done < n:
            progress(folder.done, n)
            folder.start_clock()
            folder.add(generator.codes(min(batch, n - folder.done), seed=seed, first=folder.done))
            if stop[0] and folder.done < n:
                raise Interrupted(stop[0], folder.so_far)
    progress(n, n)
    return Samples(out, n, n - first)


class _Folder:
    """Samples on the disk: the first `done` of a seed."""

    def __init__(self, out: Path, generator: Generator, seed: int, command: str) -> None:
        self.out, self.generator, self.command = out, generator, command
        prior, pipeline = generator.prior, generator.pipeline
        self.about: dict[str, Any] = {
            "format": FORMAT,
            "seed": seed,
            "model": {"preset": generator.config["preset"], "weights_sha256": generator.weights_sha256},
            "tokenizer": {"preset": pipeline.config["preset"], "weights_sha256": pipeline.weights_sha256},
            "size": list(prior.size),
            "version": brainvq.__version__,
        }
        self.asked, self.seconds, self.started = 0, 0.0, time.perf_counter()
        self.codes: list[NDArray[Any]] = [
            np.empty((0, *grid), np.min_scalar_type(entries - 1))
            for grid, entries in zip(prior.grids, prior.spec.entries, strict=True)
        ]
        self.greys = [
            _greys(order.cpu().numpy(), entries)
            for order, entries in zip(prior.orders, prior.spec.entries, strict=True)
        ]

    @property
    def done(self) -> int:
        return len(self.codes[0])

    @property
    def so_far(self) -> str:
        return (
            f"{self.done} of {self.asked} samples are done and kept in {self.out}. The same command goes on from there."
        )

    def resume(self, before: dict[str, Any]) -> None:
        """Take over what `before`, an earlier samples.json, lists.

        Raises:
            InputError: those are samples of another model or seed, or files of them are missing or damaged.
        """
        for key in ("seed", "model", "tokenizer", "size"):
            if before.get(key) != self.about[key]:
                was, now = (json.dumps(values.get(key)) for values in (before, self.about))
                raise InputError(
                    f"{self.out} holds samples whose {key} is {was}; it would be {now} here. Give another --out, or "
                    "--force to replace them; nothing was changed."
                )
        again = "Give another --out, or --force to draw all of them again; nothing was changed."
        try:
            done, self.seconds = int(before["done"]), float(before["seconds"])
            with np.load(self.out / "codes.npz", allow_pickle=False) as file:
                found = [file[f"codes_{level}"][:done] for level in range(len(self.codes))]
        except DAMAGE as error:
            raise InputError(
                f"the samples in {self.out} are damaged ({type(error).__name__} {error}). {again}"
            ) from error
        for mine, theirs, grey in zip(self.codes, found, self.greys, strict=True):
            legal = theirs.dtype == mine.dtype and theirs.shape == (done, *mine.shape[1:])
            if not legal or theirs.max(initial=0) >= len(grey):
                raise InputError(f"{self.out / 'codes.npz'} does not hold the codes of {done} samples. {again}")
        missing = [name for name in _names(done, len(found)) if not (self.out / name).is_file()]
        if missing:
            raise InputError(f"{self.out / missing[0]} is missing ({len(missing)} such files). {again}")
        self.codes = found

    def begin(self, n: int) -> None:
        """Say what is to come, before anything else is written or removed."""
        self.asked = n
        (self.out / "images").mkdir(parents=True, exist_ok=True)
        (self.out / "indices").mkdir(exist_ok=True)
        self._list(self.done)
        self._prune()

    def start_clock(self) -> None:
        """Of the present batch; anew when the process was suspended meanwhile."""
        self.started = time.perf_counter()

    def add(self, codes: Codes) -> None:
        """Decode a batch, write it, and list it when all of it is there."""
        first, levels = self.done, len(codes)
        arrays = [level.cpu().numpy().astype(mine.dtype) for level, mine in zip(codes, self.codes, strict=True)]
        for i in range(len(arrays[0])):  # one by one: what a network rounds can depend on the size of its batch
            image = self.generator.images(tuple(level[i : i + 1] for level in codes))[0]
            indices = [grey[array[i]] for grey, array in zip(self.greys, arrays, strict=True)]
            for name, voxels in zip(_names_of(first + i, levels), (image, *indices), strict=True):
                write(Scan(voxels, None, None, name), self.out / name)
        joined = [np.concatenate(pair) for pair in zip(self.codes, arrays, strict=True)]
        if first < SHOWN:
            self._draw(joined[-1])
        stored: dict[str, Any] = {f"codes_{level}": array for level, array in enumerate(joined)}
        with atomic(self.out / "codes.npz") as file:
            np.savez_compressed(file, about=np.frombuffer(json.dumps(self.about).encode(), np.uint8), **stored)
        self.seconds += time.perf_counter() - self.started
        self._list(len(joined[0]))
        self.codes = joined

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Whatever ends the block, only what is listed stays; an error that a user can mend says how much that is."""
        try:
            yield
        except InputError as error:
            raise InputError(f"{error} {self.so_far}") from error
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "memory" not in str(error):
                raise
            size = " x ".join(str(side) for side in self.about["size"])
            raise InputError(
                f"the memory does not suffice to draw images of {size} pixels. Close other programs, or use a machine "
                f"with more. {self.so_far}"
            ) from error
        finally:
            self._prune()

    def _list(self, done: int) -> None:
        names = list(_names(done, len(self.codes)))
        images = [name for name in names if name.startswith("images")]
        files = {
            "images": images,
            "indices": [name for name in names if name not in set(images)],
            "grid": "grid.png" if done else None,
            "codes": "codes.npz" if done else None,
        }
        more = {
            "asked": self.asked,
            "done": done,
            "seconds": round(self.seconds, 3),
            "command": self.command,
            "hardware": runs.hardware(),
            "audited": False,
            "notice": NOTICE,
            "files": files,
        }
        runs.write_json(self.out / "samples.json", {**self.about, **more})

    def _prune(self) -> None:
        """Remove what is not listed: of a batch that was cut off, or of samples that are replaced."""
        for path in (*self.out.glob("images/*.png"), *self.out.glob("indices/*.png")):
            number = re.fullmatch(r"(\d{4})(_\d+)?", path.stem)
            if number and int(number[1]) >= self.done:
                path.unlink()
        if not self.done:
            for name in ("grid.png", "codes.npz"):
                (self.out / name).unlink(missing_ok=True)

    def _draw(self, codes: NDArray[Any]) -> None:
        """grid.png: rows of images, each above a row of their codes of the finest level."""
        shown = min(SHOWN, len(codes))
        images = [read(self.out / _names_of(i, len(self.codes))[0]).voxels for i in range(shown)]
        grey = self.greys[-1].astype(float) / np.iinfo(self.greys[-1].dtype).max * 255
        greys = np.rint(grey[codes[:shown]]).astype(np.uint8)
        indices = [_enlarged(small, image) for small, image in zip(greys, images, strict=True)]
        write(Scan(_picture(images, indices), None, None, "grid.png"), self.out / "grid.png")


def _check_numbers(n: int, seed: int) -> None:
    if n < 1:
        raise InputError(f"-n is {n}; at least 1 image must be asked for.")
    if n > LARGEST:
        raise InputError(
            f"-n is {n:,}; a folder takes at most {LARGEST:,} images. Draw more into other folders with other seeds: "
            "--seed 1, --seed 2 and so on."
        )
    if not 0 <= seed < 1 << 32:
        raise InputError(f"--seed is {seed}; a number from 0 to {(1 << 32) - 1} is expected.")


def _earlier(out: Path) -> dict[str, Any] | None:
    """samples.json of a folder that holds samples; None if it is new or empty.

    Raises:
        InputError: it holds anything else.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; --out needs a folder.")
    if not out.exists() or not any(out.iterdir()):
        return None
    try:
        values = json.loads((out / "samples.json").read_bytes())
        if values["format"] == FORMAT and "seed" in values:
            return dict(values)
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        pass
    raise InputError(f"{out} exists, is not empty and holds no samples. Give another --out; nothing was changed.")


def _batch(prior: Prior) -> int:
    """Images drawn at once."""
    each = 4 * prior.length * (max(prior.spec.entries) + FEATURES)
    return max(1, min(BATCH, BUDGET // each))


def _greys(order: NDArray[np.int64], entries: int) -> NDArray[Any]:
    """Grey level of each entry by its rank in `order`, evenly from black to white; entries without a rank are black.

    16 bit where 8 bit would merge ranks.
    """
    dtype, most = (np.uint8, 255) if len(order) <= 256 else (np.uint16, 65535)
    greys = np.zeros(entries, dtype)
    greys[order] = np.rint(np.linspace(0, most, len(order)))
    return greys


def _names_of(i: int, levels: int) -> tuple[str, ...]:
    """The image of sample i and, level by level, its codes."""
    ends = [""] if levels == 1 else [f"_{level}" for level in range(levels)]
    return (f"images/{i:04}.png", *(f"indices/{i:04}{end}.png" for end in ends))


def _names(n: int, levels: int) -> Iterator[str]:
    return (name for i in range(n) for name in _names_of(i, levels))


def _enlarged(small: NDArray[np.uint8], image: NDArray[Any]) -> NDArray[np.uint8]:
    """Each pixel as a block, so that it is as large as `image`."""
    for axis, side in enumerate(image.shape):
        small = small.repeat(-(-side // small.shape[axis]), axis)
    return small[: image.shape[0], : image.shape[1]]


def _picture(images: list[NDArray[np.uint8]], below: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Rows of up to `COLUMNS` images, each above a row of what belongs below."""
    (height, width), columns = images[0].shape, min(COLUMNS, len(images))
    pairs = -(-len(images) // columns)
    picture = np.zeros((pairs * 2 * (height + GAP) - GAP, columns * (width + GAP) - GAP), np.uint8)
    for i, pair in enumerate(zip(images, below, strict=True)):
        for part, image in enumerate(pair):
            top, left = (2 * (i // columns) + part) * (height + GAP), i % columns * (width + GAP)
            picture[top : top + height, left : left + width] = image
    return picture


def _command(model: Path, n: int, out: Path, seed: int, tokenizer: Path | None) -> str:
    """The command that draws these samples, for the record; of paths only the last part."""
    words = ["brainvq", "sample", model.resolve().name, "-n", str(n), "--out", out.resolve().name, "--seed", str(seed)]
    return shlex.join([*words, *(["--tokenizer", tokenizer.resolve().name] if tokenizer else [])])
