"""Every scan of a data set read in full once, and what was seen of it remembered in the cache.

Pictures are read by threads, volumes by processes that cut them into slices on the same occasion (`volume_cache.py`),
so that a check and the training after it read a volume once between them. A look is kept under a hash of where its file
lies, with the file's size and time: what has changed is read anew. The store is a convenience: where it is damaged it
is begun anew, and where it cannot be written nothing is remembered.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from brainvq.data.cache import cache_folder, make_cache_folder
from brainvq.data.entries import Entry
from brainvq.data.labels import Evidence
from brainvq.data.looks import Look, look
from brainvq.data.replies import Reply
from brainvq.data.scan import read
from brainvq.data.slicing import Slicing
from brainvq.data.volume_cache import (
    MEMORY,
    SECONDS,
    part_path,
    read_asked,
    request_for,
    stamps,
    store_part,
    sweep,
)
from brainvq.data.workers import Workers
from brainvq.errors import InputError

FORMAT = 2
AHEAD = 64  # pictures handed to the threads at once: what an interrupt has to wait for
PATIENCE = 10.0  # seconds to wait for another process that writes
LOOK = TypeAdapter(Look)
Seen = Look | InputError
Progress = Callable[[int, int], None]


def look_at_all(entries: Sequence[Entry], slicing: Slicing, progress: Progress) -> dict[Path, Seen]:
    """Each scan's path with what was seen of it, or with why it could not be read.

    `progress` is called with scans done and in all, for those that are read now.
    """
    found: dict[Path, Seen] = {}
    missing: dict[Entry, str] = {}
    with closing(Store(_place())) as store:
        for entry in entries:
            try:
                stamp = _stamp(entry)
            except InputError as error:
                found[entry.path] = error
                continue
            known = store.find(entry, stamp)
            if known is None:
                missing[entry] = stamp
            else:
                found[entry.path] = known
        for block in _read(list(missing), slicing):
            store.keep([(entry, missing[entry], seen) for entry, seen in block if isinstance(seen, Look)])
            for entry, seen in block:
                found[entry.path] = seen
                progress(len(found), len(entries))
    return {entry.path: found[entry.path] for entry in entries}


def known_labels(paths: Sequence[Path]) -> dict[Path, Evidence]:
    """What is remembered of these files, for `label_maps`; nothing is read or written."""
    found: dict[Path, Evidence] = {}
    if not _place().is_file():
        return found
    with closing(Store(_place())) as store:
        for entry in map(Entry, paths):
            with suppress(InputError):  # the reader tells
                seen = store.find(entry, _stamp(entry))
                if seen is not None:
                    found[entry.path] = seen.labels
    return found


def _place() -> Path:
    return cache_folder() / f"looks-{FORMAT}.sqlite"


def _read(entries: Sequence[Entry], slicing: Slicing) -> Iterator[list[tuple[Entry, Seen]]]:
    """In order, some at a time."""
    pictures, volumes = ([entry for entry in entries if entry.volume == kind] for kind in (False, True))
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(pictures), AHEAD):
            block = pictures[start : start + AHEAD]
            yield list(zip(block, pool.map(_picture, block), strict=True))
    if volumes:
        folder = cache_folder() / "volumes"
        with suppress(OSError):
            sweep(folder)
        with Workers(os.cpu_count() or 1, MEMORY, SECONDS) as workers:
            requests = (_request(entry, slicing, folder) for entry in volumes)
            for entry, reply in zip(volumes, workers.map("brainvq.data.look_cache:look_task", requests), strict=True):
                yield [(entry, LOOK.validate_python(reply.facts["look"]) if isinstance(reply, Reply) else reply)]


def _picture(entry: Entry) -> Seen:
    try:
        return look(read(entry.path))
    except InputError as error:
        return error


def _request(entry: Entry, slicing: Slicing, folder: Path) -> dict[str, Any]:
    target = part_path(entry.path, entry.files, slicing, folder)
    return request_for(entry.path, entry.files, entry.path.name, slicing, target)


def look_task(request: dict[str, Any]) -> Reply:
    """In a worker: one volume is looked at, and cut if it was not before; training tells where that cannot be."""
    scan = read_asked(request)
    found = look(scan)
    if not (found.labels.of_labels or Path(request["to"]).exists()):
        with suppress(InputError):
            store_part(scan, request)
    return Reply({"look": asdict(found)})


class Store:
    """Looks on the disk. Several processes may use one; whatever goes wrong with it, nothing is remembered."""

    def __init__(self, path: Path) -> None:
        self._connection = _opened(path)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def find(self, entry: Entry, stamp: str) -> Look | None:
        """What was seen of these files, if they bore the same stamp."""
        if self._connection is None:
            return None
        with suppress(sqlite3.Error, ValidationError):
            query = "SELECT look FROM looks WHERE file = ? AND stamp = ?"
            row = self._connection.execute(query, (_key(entry), stamp)).fetchone()
            return None if row is None else LOOK.validate_json(row[0])
        return None

    def keep(self, seen: Sequence[tuple[Entry, str, Look]]) -> None:
        """Looks, and the stamps that their files bore before they were read."""
        if self._connection is None:
            return
        rows = [(_key(entry), stamp, LOOK.dump_json(found)) for entry, stamp, found in seen]
        with suppress(sqlite3.Error), self._connection:
            self._connection.executemany("INSERT OR REPLACE INTO looks VALUES (?, ?, ?)", rows)


def _opened(path: Path) -> sqlite3.Connection | None:
    """A damaged store is removed; one that is locked or out of reach is left alone."""
    for _ in range(2):
        connection = None
        try:
            make_cache_folder()
            connection = sqlite3.connect(path, timeout=PATIENCE)
            connection.execute("CREATE TABLE IF NOT EXISTS looks (file TEXT PRIMARY KEY, stamp TEXT, look TEXT)")
            if connection.execute("PRAGMA quick_check").fetchone() == ("ok",):
                return connection
        except (OSError, sqlite3.OperationalError):
            return None
        except sqlite3.DatabaseError:
            pass
        if connection is not None:
            connection.close()
        with suppress(OSError):
            path.unlink()
    return None


def _key(entry: Entry) -> str:
    """The path itself may name somebody."""
    return hashlib.sha256(str(entry.path.absolute()).encode("utf-8", "surrogateescape")).hexdigest()[:40]


def _stamp(entry: Entry) -> str:
    """Changes with the files, without their names."""
    return hashlib.sha256(json.dumps(stamps(entry.path, entry.files)).encode()).hexdigest()[:40]
