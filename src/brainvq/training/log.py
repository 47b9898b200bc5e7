"""The log of a run: one JSON object a line, append-only, cut back to the checkpoint on resume."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from brainvq.errors import InputError
from brainvq.writing import atomic


class Log:
    """Writes to `path` if `enabled` (in one process of several)."""

    def __init__(self, path: Path, *, enabled: bool = True) -> None:
        self.path, self.enabled = path, enabled

    def write(self, line: dict[str, Any]) -> None:
        if self.enabled:
            try:
                with self.path.open("a") as file:
                    file.write(json.dumps(line) + "\n")
            except OSError as error:
                raise InputError(
                    f"{self.path}: cannot be written ({error.strerror}). Free some space and continue with --resume."
                ) from error

    def flush(self) -> None:
        """To the disk, so that a checkpoint never knows more than the log."""
        if self.enabled and self.path.exists():
            with self.path.open("a") as file:
                os.fsync(file.fileno())

    def truncate(self, step: int) -> None:
        """Drop what was logged after `step`."""
        if self.enabled and self.path.exists():
            kept = [line for line in read(self.path) if line["step"] <= step]
            with atomic(self.path) as file:
                file.write("".join(json.dumps(line) + "\n" for line in kept).encode())


def read(path: Path) -> list[dict[str, Any]]:
    """All whole lines; a last one that was cut off is left out."""
    lines = []
    for text in path.read_text().splitlines() if path.exists() else ():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines
