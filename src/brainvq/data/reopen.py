"""Cached images once more, when only their fingerprint is known: those of a run's data, wherever the files lie by now.

The cache of slices knows no subjects. They are kept beside it as numbers, in the order in which they first come, so
that no name is written.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch

from brainvq.data.cache import FORMAT, cache_folder, make_cache_folder, open_images
from brainvq.data.loader import Cache
from brainvq.data.sources import Source
from brainvq.data.subjects import Item
from brainvq.errors import InputError
from brainvq.writing import atomic


def remember(cache: Cache) -> None:
    """Keep which images of `cache` are of one subject.

    Raises:
        InputError: the cache cannot be written.
    """
    path = _path(cache.fingerprint, len(cache))
    if not path.exists():
        make_cache_folder()
        path.parent.mkdir(exist_ok=True)
        with atomic(path) as file:
            file.write(json.dumps(numbered(cache.subjects)).encode())


def numbered(subjects: Sequence[str]) -> list[int]:
    """Each subject as a number, counted as they first come."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(subjects))}
    return [numbers[name] for name in subjects]


def reopen(
    fingerprint: str, images: int, *, multiple: tuple[int, int] = (1, 1), device: str | torch.device = "cpu"
) -> Cache | None:
    """The cached pictures of that fingerprint, their subjects as numbers. None where they are not there any more, not
    whole, never remembered, or slices of volumes."""
    folder = cache_folder() / "slices"
    try:
        numbers = json.loads(_path(fingerprint, images).read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(numbers, list) or not (folder / f"{fingerprint[:40]}-{FORMAT}").is_dir():
        return None
    items = tuple(Item(Path(f"{n}.png"), str(n), str(subject)) for n, subject in enumerate(numbers))
    source = Source(str(folder), None, items, 0)
    source.__dict__["fingerprint"] = fingerprint  # else it would be found by reading the files
    try:
        opened = open_images(source)
    except InputError:  # damaged, and the files to build it anew are not known
        return None
    if len(opened.array) != len(items):
        return None
    return Cache(source, opened, multiple, torch.device(device))


def _path(fingerprint: str, images: int) -> Path:
    return cache_folder() / "subjects" / f"{fingerprint[:40]}-{images}.json"
