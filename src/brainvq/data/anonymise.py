"""Subjects under names that say nothing: keyed hashes, for results to be shared and traced by who has the key alone.

HMAC-SHA256 (Krawczyk, Bellare, Canetti, RFC 2104, 1997). A hash without a key would be no protection: whoever has a
list of names could hash them all and compare. The key lies where the user says, outside of every run.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from dataclasses import replace
from pathlib import Path

from brainvq.data.sources import Source
from brainvq.errors import InputError

LENGTH = 12  # hexadecimal digits: two of a million subjects share one with a chance of 0.2 %
LEAST = 16  # bytes of a key


def key_of(path: Path) -> bytes:
    """The key in a file, which is made, readable by its owner alone, where there is none.

    Raises:
        InputError: it is too short to be a key, or cannot be read or made.
    """
    try:
        if not path.exists():
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_hex(32) + "\n")
        key = path.read_bytes().strip()
    except OSError as error:
        raise InputError(f"{path}: cannot be read or made as a key ({error.strerror}). Give another file.") from error
    if len(key) < LEAST:
        raise InputError(f"{path}: holds {len(key)} bytes; a key has at least {LEAST}. Name a new file to make one.")
    return key


def alias(subject: str, key: bytes) -> str:
    """The same for the same subject and key; without the key it says nothing."""
    return hmac.new(key, subject.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()[:LENGTH]


def anonymised(source: Source, key: bytes) -> Source:
    """The same scans in the same order, of subjects under other names."""
    return replace(source, items=tuple(replace(item, subject=alias(item.subject, key)) for item in source.items))
