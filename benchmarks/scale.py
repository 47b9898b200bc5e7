"""A study of a thousand volumes: seconds and memory to check and decode all, stopped on the way and gone on with.

    python -m benchmarks.scale

Synthetic NIfTI volumes (a noisy ellipsoid each, int16, gzip) are written to a temporary folder. `brainvq check` is
interrupted after a fraction of the time (SIGINT), started again, and run a third time, when everything is remembered;
then the training cache is built from what the first pass left. Memory is that of the largest of all processes, this
one's own among them: a bound for those that are measured.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from brainvq.run import hardware, write_json

SHAPE = (128, 160, 96)
CHECK = ("-m", "brainvq", "check", "--json")
CACHE = "from brainvq.data.sources import open_splits; from brainvq.data.loader import open_cache; import sys; "
CACHE += "from brainvq.data.slicing import Slicing; from brainvq.data.volume_cache import with_size; "
CACHE += "splits = open_splits(sys.argv[1]); slicing = with_size(Slicing(), splits.values()); "
CACHE += "print(sum(len(open_cache(each, slicing=slicing)) for each in splits.values()))"


def write_volume(folder: Path, subject: int) -> None:
    """One head of its own size, in an orientation of its own."""
    rng = np.random.default_rng(subject)
    axes = np.ogrid[tuple(slice(-1.3, 1.3, n * 1j) for n in SHAPE)]
    inside = sum((axis / rng.uniform(0.85, 1)) ** 2 for axis in axes) < 1
    voxels = np.where(inside, 700 + 40 * rng.standard_normal(SHAPE, np.float32), 4).astype(np.int16)
    affine = np.diag([rng.choice([-1.0, 1.0]), 1.0, 1.5, 1.0])
    nib.save(nib.Nifti1Image(voxels, affine), folder / f"sub-{subject:04}_T1w.nii.gz")  # type: ignore[no-untyped-call]


def _run(words: tuple[str, ...], env: dict[str, str], *, stop_after: float | None = None) -> dict[str, Any]:
    """Seconds of a command with its children, and how it ended; interrupted after some seconds if asked."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with subprocess.Popen(
        [sys.executable, *words], env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as child:
        try:
            out, _ = child.communicate(timeout=stop_after)
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGINT)
            out, _ = child.communicate()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "wall_time_s": round(time.perf_counter() - started, 1),
        "processor_s": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        "exit_code": child.returncode,
        "printed": len(out),
    }


def measure(volumes: int, stop_after: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as place:
        data, cache = Path(place, "data"), Path(place, "cache")
        data.mkdir()
        with ProcessPoolExecutor() as pool:
            list(pool.map(write_volume, [data] * volumes, range(volumes)))
        env = {**os.environ, "BRAINVQ_CACHE": str(cache)}
        check = (*CHECK, str(data))
        runs = {
            "interrupted": _run(check, env, stop_after=stop_after),
            "resumed": _run(check, env),
            "remembered": _run(check, env),
            "training cache": _run(("-c", CACHE, str(data)), env),
        }
        megabytes = sum(path.stat().st_size for path in data.iterdir()) / 1e6
        images = sum(np.load(path, mmap_mode="r").shape[0] for path in cache.rglob("images.npy"))
    return {
        "benchmark": "scale",
        "command": f"python -m benchmarks.scale --volumes {volumes} --stop-after {stop_after:g}",
        "volumes": volumes,
        "shape": list(SHAPE),
        "megabytes": round(megabytes),
        "images": images,
        "peak_memory_mib": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024),
        "hardware": hardware(),
        "runs": runs,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--volumes", type=int, default=1000)
    parser.add_argument("--stop-after", type=float, default=60.0, help="seconds until the first check is interrupted")
    parser.add_argument("--out", type=Path, default=Path("results/benchmark_scale.json"))
    given = parser.parse_args()
    result = measure(given.volumes, given.stop_after)
    write_json(given.out, result)
    for name, run in result["runs"].items():
        print(f"{name:15} {run['wall_time_s']:8.1f} s   exit code {run['exit_code']}")
    print(
        f"{result['volumes']:,} volumes, {result['images']:,} slices; no process beyond {result['peak_memory_mib']} MiB"
    )


if __name__ == "__main__":
    main()
