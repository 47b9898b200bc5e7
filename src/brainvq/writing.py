"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from brainvq.errors import InputError


def refuse_file(out: Path) -> None:
    """Raises InputError where a file lies that a folder is to be."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; --out needs a folder.")


@contextmanager
def atomic(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes its name only when it is whole and on the disk.

    Raises:
        InputError: it cannot be written (a full disk, say); what was there before is untouched.
    """
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error}).") from error
    finally:
        temporary.unlink(missing_ok=True)
