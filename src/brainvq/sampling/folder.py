"""The folder that samples lie in: written batch by batch, listed in samples.json, taken up again where it ends."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import brainvq
from brainvq import run as runs
from brainvq.codes import Codes
from brainvq.data.scan import Scan, read, write
from brainvq.errors import InputError, is_lack_of_memory
from brainvq.pipeline import DAMAGE
from brainvq.sampling.drawer import Drawer
from brainvq.sampling.pictures import SHOWN, greys_of, grid_picture
from brainvq.writing import atomic, refuse_file

FORMAT = 1
SAME = ("seed", "model", "tokenizer", "size", "conditions", "drawing", "heads", "kept_sha256", "grain_sha256")
"""What samples of one folder share."""
NOTICE = "Synthetic images, not audited for copies of training subjects. Not a medical device."


class SampleFolder:
    """Samples on the disk: the first `done` of a seed."""

    def __init__(self, out: Path, drawer: Drawer, command: str) -> None:
        self.out, self.drawer, self.command, generator = out, drawer, command, drawer.generator
        prior, pipeline = generator.prior, generator.pipeline
        self.about: dict[str, Any] = {
            "format": FORMAT,
            "seed": drawer.seed,
            **drawer.about(),
            "model": {"preset": generator.config["preset"], "weights_sha256": generator.weights_sha256},
            "tokenizer": {"preset": pipeline.config["preset"], "weights_sha256": pipeline.weights_sha256},
            "trained_on": _train_split(generator.config),
            "size": generator.size,
            "version": brainvq.__version__,
        }
        self.asked, self.seconds, self.started = 0, 0.0, time.perf_counter()
        self.shown: list[NDArray[Any]] = []
        """Images of the grid."""
        self.codes: list[NDArray[Any]] = [
            np.empty((0, *grid), np.min_scalar_type(entries - 1))
            for grid, entries in zip(prior.grids, prior.spec.entries, strict=True)
        ]
        self.greys = [
            greys_of(order.cpu().numpy(), entries)
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
        for key in SAME:
            if before.get(key) != self.about.get(key):
                was, now = (_named(values.get(key)) for values in (before, self.about))
                smooth = "--no-grain to go on with them, " if key == "grain_sha256" and not before.get(key) else ""
                raise InputError(
                    f"{self.out} holds samples whose {key} is {was}; it would be {now} here. Give {smooth}another "
                    "--out, or --force to replace them; nothing was changed."
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
        if (before.get("told") or [{}] * done) != [self.drawer.told(i) for i in range(done)]:
            raise InputError(f"the samples in {self.out} were told otherwise than they would be here. {again}")
        for name in (_names_of(i, len(found))[0] for i in range(min(SHOWN, done))):
            try:
                image = read(self.out / name).voxels
            except InputError as error:
                raise InputError(f"{error} {again}") from error
            if image.shape != tuple(self.about["size"]):
                raise InputError(f"{self.out / name} is no sample: it has shape {image.shape}. {again}")
            self.shown.append(image)
        self.codes = found

    def begin(self, n: int) -> None:
        """Say what is to come, before anything else is written or removed."""
        self.asked = n
        self.out.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self.out / "audit", ignore_errors=True)  # of the samples as they were
        self._list(self.done)
        self._prune()
        for name in ("images", "indices"):
            (self.out / name).mkdir(exist_ok=True)

    def start_clock(self) -> None:
        """Of the present batch; anew when the process was suspended meanwhile."""
        self.started = time.perf_counter()

    def add(self, codes: Codes) -> None:
        """Decode a batch, write it, and list it when all of it is there."""
        first, levels = self.done, len(codes)
        arrays = [level.cpu().numpy().astype(mine.dtype) for level, mine in zip(codes, self.codes, strict=True)]
        for i in range(len(arrays[0])):  # one by one: what a network rounds can depend on the size of its batch
            image = self.drawer.image(tuple(level[i : i + 1] for level in codes))
            indices = [grey[array[i]] for grey, array in zip(self.greys, arrays, strict=True)]
            for name, voxels in zip(_names_of(first + i, levels), (image, *indices), strict=True):
                write(Scan(voxels, None, None, name), self.out / name)
            self.shown += [image] if len(self.shown) < SHOWN else []
        joined = [np.concatenate(pair) for pair in zip(self.codes, arrays, strict=True)]
        if first < SHOWN:
            picture = grid_picture(self.shown, joined[-1], self.greys[-1])
            write(Scan(picture, None, None, "grid.png"), self.out / "grid.png")
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
            if not is_lack_of_memory(error):
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
        files = {
            "images": [name for name in names if name.startswith("images")],
            "indices": [name for name in names if name.startswith("indices")],
            "grid": "grid.png" if done else None,
            "codes": "codes.npz" if done else None,
        }
        more = {
            "asked": self.asked,
            "done": done,
            "seconds": round(self.seconds, 3),
            "command": self.command,
            "hardware": runs.hardware(),
            **({"told": [self.drawer.told(i) for i in range(done)]} if self.drawer.told(0) else {}),
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


def _named(value: Any) -> str:
    """As it stands in samples.json; of a model as much of it as tells it from others."""
    if isinstance(value, dict) and "weights_sha256" in value:
        return f"{value.get('preset')} (weights {str(value['weights_sha256'])[:12]})"
    return json.dumps(value)


def _train_split(config: dict[str, Any]) -> str | None:
    """The fingerprint of what the prior was trained on, against which samples are audited."""
    try:
        return str(config["data"]["splits"]["train"]["fingerprint"])
    except (KeyError, TypeError):
        return None


def earlier(out: Path, *, force: bool = False) -> dict[str, Any] | None:
    """samples.json of a folder that holds samples; None if it is new or empty, or all samples are to be drawn anew.

    Raises:
        InputError: it holds anything else, or a samples.json that is damaged where it is not to be replaced.
    """
    refuse_file(out)
    if not out.exists() or not any(out.iterdir()):
        return None
    try:
        values = json.loads((out / "samples.json").read_bytes())
        if values["format"] == FORMAT and "seed" in values:
            return dict(values)
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        pass
    if not _has_codes(out / "codes.npz"):
        raise InputError(f"{out} exists, is not empty and holds no samples. Give another --out; nothing was changed.")
    if not force:
        raise InputError(
            f"{out / 'samples.json'} is missing or damaged. Give another --out, or --force to draw all samples again; "
            "nothing was changed."
        )
    return None


def _has_codes(path: Path) -> bool:
    """Whether a file is one that samples leave: what else lies in its folder is theirs then."""
    try:
        with np.load(path, allow_pickle=False) as file:
            about = json.loads(file["about"].tobytes())
        return about["format"] == FORMAT and {"seed", "model", "tokenizer"} <= set(about)  # encoded scans have no seed
    except DAMAGE:
        return False


def _names_of(i: int, levels: int) -> tuple[str, ...]:
    """The image of sample i and, level by level, its codes."""
    ends = [""] if levels == 1 else [f"_{level}" for level in range(levels)]
    return (f"images/{i:04}.png", *(f"indices/{i:04}{end}.png" for end in ends))


def _names(n: int, levels: int) -> Iterator[str]:
    return (name for i in range(n) for name in _names_of(i, levels))
