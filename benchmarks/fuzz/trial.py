"""One broken file, read as any user's file is read: what came of it, and whether that is right."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from benchmarks.fuzz.seeds import Seed
from brainvq.data.scan import Header, Scan, header_of
from brainvq.data.workers import DecoderFailed, Workers, scan_of
from brainvq.errors import InputError


@dataclass(frozen=True)
class Outcome:
    """`reason`: of a refusal, without names and numbers; of a fault, in full. `seconds`: on the clock, of reading."""

    kind: Literal["scan", "refusal", "fault"]
    reason: str
    seconds: float


def trial(seed: Seed, pool: Workers, folder: Path) -> Outcome:
    """`folder` is for this alone; it is emptied."""
    for old in folder.iterdir():
        old.unlink()
    for name, data in seed.files.items():
        (folder / name).write_bytes(data)
    path, began = folder / seed.path, time.perf_counter()
    found = _read(path, pool)
    seconds = time.perf_counter() - began
    fault = found if isinstance(found, str) else fault_of(found, _header(path), path)
    if fault:
        return Outcome("fault", fault, seconds)
    return Outcome("refusal", reason(found), seconds) if isinstance(found, InputError) else Outcome("scan", "", seconds)


def _read(path: Path, pool: Workers) -> Scan | InputError | str:
    """A text where it is neither a scan nor a reader's own error."""
    try:
        return scan_of(pool.one("brainvq.data.workers:scan_task", {"path": str(path)}))
    except DecoderFailed as error:
        return str(error)
    except InputError as error:
        return error
    except RuntimeError as error:  # a traceback: its last line and where it was raised
        return " ".join(str(error).strip().splitlines()[-4:])


def _header(path: Path) -> Header | InputError | Exception:
    try:
        return header_of(path)
    except Exception as error:
        return error


def fault_of(found: Scan | InputError, header: Header | Exception, path: Path) -> str | None:
    """What is wrong with what came of a file; None where all is well."""
    if isinstance(header, Exception) and not isinstance(header, InputError):
        return f"header_of raised {header!r}"
    for error in (found, header):
        if isinstance(error, InputError) and not _is_told(error, path):
            return f"an error that does not name the file, the reason and the remedy: {error}"
    if isinstance(found, InputError):
        return None
    if isinstance(header, Exception):
        return f"header_of refused what was read: {header}"
    return _unsound(found) or _differs(found, header)


def _is_told(error: InputError, path: Path) -> bool:
    """PATH: what is wrong. What to do."""
    return re.fullmatch(rf"{re.escape(str(path))}(/[^/:]+)?: .+\. .+\.", str(error), re.DOTALL) is not None


def _unsound(scan: Scan) -> str | None:
    voxels, affine = scan.voxels, scan.affine
    if voxels.size == 0 or voxels.dtype.kind not in "iuf" or not voxels.dtype.isnative:
        return f"a scan of {voxels.shape} {voxels.dtype}"
    if not np.isfinite(voxels).all():
        return "a scan with voxels that are not finite"
    if voxels.ndim != (2 if affine is None else 3):
        return f"a scan of {voxels.ndim} axes"
    if affine is not None and not (np.isfinite(affine).all() and np.linalg.matrix_rank(affine) == 4):
        return f"a scan with the affine {affine.tolist()}"
    storage = scan.storage
    if storage and not (0 < storage.slope < np.inf and np.isfinite(storage.intercept)):
        return f"a scan with the slope {storage.slope}, intercept {storage.intercept}"
    return None


def _differs(scan: Scan, header: Header) -> str | None:
    if header.shape != scan.voxels.shape:
        return f"a header of {header.shape}, a scan of {scan.voxels.shape}"
    if scan.affine is None:  # a picture's header knows 8 bit or more, no finer
        return None
    if header.dtype != scan.voxels.dtype.name or header.storage != scan.storage:
        return f"a header of {header.dtype}, {header.storage}; a scan of {scan.voxels.dtype}, {scan.storage}"
    return None if np.array_equal(header.affine, scan.affine) else "a header and a scan with different affines"  # type: ignore[arg-type]


def reason(error: InputError) -> str:
    """What was wrong in few words, without names and numbers: "N of N voxels are NaN"."""
    text = str(error).partition(": ")[2].rpartition(". ")[0]
    text = re.sub(r"^\S+\.\w+: ", "", text)  # of the file within a series
    text = re.split(r": | \(", text)[0]
    return re.sub(r"-?\b\d[\d,.]*(e[+-]?\d+)?\b|\b(nan|inf)\b", "N", text)
