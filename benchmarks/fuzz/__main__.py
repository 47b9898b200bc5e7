"""Thousands of broken files of each format: how many became scans, how many were refused, and none did anything else.

    python -m benchmarks.fuzz --mutants 5000

Files of the folder of real data are broken too, if there is one (--shared). A mutant is made again from its number:

    python -m benchmarks.fuzz --again nifti 3141 --keep FOLDER

Seconds are those of a processor, which other programs on the machine do not stretch; on the clock they are told beside.
The peak of memory is of the whole process that reads, with its interpreter and its libraries.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.fuzz.mutants import mutant
from benchmarks.fuzz.seeds import FORMATS, Seed, seeds
from benchmarks.fuzz.trial import trial
from brainvq.data.workers import Workers
from brainvq.run import hardware, write_json

MEMORY, SECONDS = 1 << 30, 10.0
SHARED = Path(os.environ.get("BRAINVQ_SHARED") or "../shared")
LIBRARIES = ("nibabel", "pydicom", "pillow", "numpy", "pylibjpeg-openjpeg", "pyjpegls")


def numbered(format: str, number: int, shared: Path | None) -> Seed:
    """Always the same from the same seeds."""
    return mutant(format, seeds(format, shared), Random(f"{format} {number}"))


def measure(format: str, count: int, shared: Path | None) -> dict[str, Any]:
    """All mutants of a format, one after the other in one worker. `crashes`: faults of any kind that `trial` sees."""
    kinds, reasons, faults, longest, began = Counter[str](), Counter[str](), [], 0.0, time.perf_counter()
    with Workers(memory=MEMORY, seconds=SECONDS) as pool, tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            broken = numbered(format, number, shared)
            found = trial(broken, pool, Path(folder))
            kinds[found.kind] += 1
            longest = max(longest, found.seconds)
            if found.kind == "refusal":
                reasons[found.reason] += 1
            elif found.kind == "fault":
                faults.append({"mutant": number, "seed": broken.name, "fault": found.reason})
                print(f"{format} {number} ({broken.name}): {found.reason}", flush=True)
        return {
            "mutants": count,
            "seeds": [seed.name for seed in seeds(format, shared)],
            "scans": kinds["scan"],
            "refusals": kinds["refusal"],
            "crashes": kinds["fault"],
            "peak_mib": pool.peak / 2**20,
            "longest_s": pool.longest,
            "longest_on_the_clock_s": longest,
            "wall_s": time.perf_counter() - began,
            "reasons": dict(reasons.most_common()),
            "faults": faults,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--mutants", type=int, default=5000, help="of each format")
    parser.add_argument("--shared", type=Path, default=SHARED, help="a folder of real data")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=FORMATS)
    parser.add_argument("--again", nargs=2, metavar=("FORMAT", "NUMBER"), help="write this mutant, and no more")
    parser.add_argument("--keep", type=Path, default=Path("mutant"), help="the folder for that")
    parser.add_argument("--out", type=Path, default=Path("results/benchmark_fuzz.json"))
    arguments = parser.parse_args()
    shared = arguments.shared if arguments.shared.is_dir() else None
    if arguments.again:
        broken = numbered(arguments.again[0], int(arguments.again[1]), shared)
        arguments.keep.mkdir(parents=True, exist_ok=True)
        for name, data in broken.files.items():
            (arguments.keep / name).write_bytes(data)
        print(f"written: {arguments.keep / broken.path}")
        return
    result: dict[str, Any] = {
        "benchmark": "fuzz",
        "command": f"python -m benchmarks.fuzz --mutants {arguments.mutants}",
        "limits": {"memory_mib": MEMORY >> 20, "seconds": SECONDS},
        "formats": {},
    }
    for format in arguments.formats:
        found = result["formats"][format] = measure(format, arguments.mutants, shared)
        print(
            f"{format:8} {found['mutants']:6,} mutants: {found['scans']:5,} scans, {found['refusals']:5,} refusals, "
            f"{found['crashes']} crashes; at most {found['peak_mib']:.0f} MiB, {found['longest_s']:.2f} s",
            flush=True,
        )
    result |= {"hardware": hardware(), "versions": {name: version(name) for name in LIBRARIES}}
    write_json(arguments.out, result)
    print(f"written: {arguments.out}")


if __name__ == "__main__":
    main()
