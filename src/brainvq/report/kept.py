"""Pictures that an evaluation keeps in its run, in evaluation/examples/SPLIT: 8-bit PNG, and examples.json about them.

They are made from the user's images: a run that was evaluated holds these few slices.
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from brainvq.data.scan import Scan, read, write
from brainvq.errors import InputError

Pixels = NDArray[np.uint8]
FILE = "examples.json"


class Kept(BaseModel):
    """examples.json, whatever the model: which images and weights it is of."""

    format: Literal[1]
    split: str
    fingerprint: str
    weights_sha256: str | None


K = TypeVar("K", bound=Kept)


def keep(run: Path, about: Kept, pictures: Mapping[str, Pixels]) -> Path:
    """Write `pictures` (H, W), by name, and what is `about` them into the folder `run`; where they lie.

    Raises:
        InputError: it cannot be written; what was there before is untouched.
    """
    target = run / "evaluation" / "examples" / about.split
    building = target.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        building.mkdir(parents=True)
        for name, pixels in pictures.items():
            write(Scan(pixels, None, None, name), building / f"{name}.png")
        (building / FILE).write_text(json.dumps(about.model_dump()) + "\n")
        shutil.rmtree(target, ignore_errors=True)
        building.rename(target)
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror}).") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return target


def load_about(kind: type[K], folder: Path) -> K:
    """Raises InputError where the file is missing or damaged."""
    try:
        return kind.model_validate_json((folder / FILE).read_bytes())
    except (OSError, ValidationError) as error:
        raise InputError(f"{folder / FILE} cannot be read.") from error


def load_picture(path: Path) -> Pixels:
    """Raises InputError unless it is an 8-bit image."""
    pixels = read(path).voxels
    if pixels.dtype != np.uint8:
        raise InputError(f"{path} is not an 8-bit image.")
    return pixels


def is_grid(rows: Sequence[Sequence[int]]) -> bool:
    return bool(rows) and bool(rows[0]) and len({len(row) for row in rows}) == 1
