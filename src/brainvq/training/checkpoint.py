"""Checkpoints that survive a crash at any moment.

A checkpoint is a folder `step-00000100` with safetensors and a `state.json` that holds the digest of every file. It is
written under a temporary name, flushed to the disk and renamed, so that it is there whole or not at all; one that was
damaged later is recognised by its digests, and the one before it is used.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as save_tensors
from torch import Tensor

from brainvq.errors import InputError

KEPT = 2


@dataclass(frozen=True)
class Checkpoint:
    """`tensors` of the task by name, and `state`: JSON values of the loop."""

    path: Path
    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]


def save(folder: Path, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> Path:
    """Write `folder/step-XXXXXXXX`, then drop all but the newest few and step 0.

    Raises:
        InputError: the disk is full or cannot be written; earlier checkpoints are untouched.
    """
    final, unfinished = folder / f"step-{step:08d}", folder / f"unfinished-{step:08d}"
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        (unfinished / "task.safetensors").write_bytes(save_tensors({n: t.contiguous() for n, t in tensors.items()}))
        digests = {"task.safetensors": _digest(unfinished / "task.safetensors")}
        text = json.dumps({"step": step, "digests": digests, **state}, indent=1)
        (unfinished / "state.json").write_text(text)
        for path in (*unfinished.iterdir(), unfinished):
            _flush(path)
        if final.exists():
            shutil.rmtree(final)
        unfinished.rename(final)
        _flush(folder)
    except OSError as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise InputError(
            f"cannot write the checkpoint {final}: {error}. Free some space and continue with --resume; "
            "the earlier checkpoints are untouched."
        ) from error
    for old in _folders(folder)[:-KEPT]:
        if old.name != "step-00000000":
            shutil.rmtree(old)
    return final


def newest(folder: Path, notify: Callable[[str], None]) -> Checkpoint | None:
    """The newest checkpoint that is whole; `notify` is told of each damaged one that was passed over."""
    for path in reversed(_folders(folder)):
        try:
            return _load(path)
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            notify(f"checkpoint {path.name} is damaged ({error}) and passed over.")
    return None


def _load(path: Path) -> Checkpoint:
    state = json.loads((path / "state.json").read_text())
    for name, digest in state.pop("digests").items():
        if _digest(path / name) != digest:
            raise ValueError(f"{name} is not what was written")
    return Checkpoint(path, state.pop("step"), load_file(path / "task.safetensors"), state)


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("step-*") if path.is_dir())


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
