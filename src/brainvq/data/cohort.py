"""The embedded cohort as files: synthetic heads in the layout of the OASIS slices, with tissue and lesion masks.

It is the data of the demo and the tests, and a stand-in for whoever may not share scans. `anatomy.py` makes one head;
here are subjects, splits, folders and the cache. A subject is a function of (seed, subject): how many others there
are and how many workers write changes no picture. Noise: Rician, of one frozen level, `anatomy.NOISE` (7.5 % of the
white-matter signal in each of three averaged acquisitions), which leaves about 11 +- 2 of 255 grey levels in the air.

    out/keras_png_slices_data/keras_png_slices_{train,validate,test}/case_001_slice_0.nii.png      8 bit
                              keras_png_slices_seg_{...}/seg_001_slice_0.nii.png                   0, 85, 170, 255
                              keras_png_slices_lesions_{...}/lesions_001_slice_0.nii.png           0, 255; if asked for
    out/subjects.csv     one row a subject
    out/cohort.json      how it was made
"""

import csv
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from brainvq.data.anatomy import ACQUISITIONS, NOISE, Traits, draw_traits, make_head, scan
from brainvq.data.cache import cache_folder, make_cache_folder
from brainvq.data.template import Template, load_template
from brainvq.errors import InputError

VERSION = 1  # raise it when the same parameters give other pixels: it is part of the cache key
LAYOUT = "keras_png_slices_data"
COLUMNS = (
    "subject",
    "split",
    "age",
    "sex",
    "ventricle_widening_mm",
    "sulcus_half_width_mm",
    "lesion_count",
    "lesion_mm3",
)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class _Request:
    """Checked parameters of a cohort."""

    subjects: int
    slices: int
    size: int
    seed: int
    lesions: float

    def __post_init__(self) -> None:
        for name, low, high in (("subjects", 1, 9999), ("slices", 1, 60), ("size", 32, 512), ("seed", 0, 2**63 - 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise InputError(f"cohort: {name} is {value!r}; expected a whole number from {low} to {high}.")
        if not 0 <= self.lesions <= 1:
            raise InputError(
                f"cohort: lesions is {self.lesions!r}; expected the share of subjects that have any, 0 to 1."
            )

    @property
    def key(self) -> str:
        text = json.dumps({**asdict(self), "lesions": float(self.lesions), "version": VERSION}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def split_of(subjects: int) -> list[str]:
    """Split of each subject in order: about 70 / 15 / 15, two each to validate and test from 8 subjects on.

    With 3 to 7 subjects they get one each; with 2, validate gets one; a single subject is for training.
    """
    held_out = max(2, round(0.15 * subjects)) if subjects >= 8 else 1
    test = held_out if subjects >= 3 else 0
    validate = held_out if subjects >= 2 else 0
    return ["train"] * (subjects - validate - test) + ["validate"] * validate + ["test"] * test


def _save(slices: NDArray[np.uint8], folder: Path, kind: str, subject: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, pixels in enumerate(slices):
        Image.fromarray(pixels).save(folder / f"{kind}_{subject:03d}_slice_{number}.nii.png", compress_level=1)


def _framed(slab: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """(K, R, C) of the field of view in the middle of (K, size, size) zeros."""
    rows, columns = slab.shape[1:]
    top, left = (size - rows) // 2, (size - columns) // 2
    return np.pad(slab, ((0, 0), (top, size - rows - top), (left, size - columns - left)))


def _write_subject(job: tuple[int, str], request: _Request, template: Template, root: Path) -> dict[str, object]:
    """Makes one subject's files and returns its row of subjects.csv."""
    subject, split = job
    rng = np.random.default_rng([request.seed, subject])
    traits = draw_traits(rng, request.lesions)
    head = make_head(template, traits, rng, request.slices, request.size)
    pixels = scan(head.signal, traits, rng, request.size)
    folder = root / LAYOUT
    _save(_framed(pixels, request.size), folder / f"keras_png_slices_{split}", "case", subject)
    _save(_framed(head.labels, request.size), folder / f"keras_png_slices_seg_{split}", "seg", subject)
    if request.lesions:
        mask = _framed(head.lesions.astype(np.uint8) * 255, request.size)
        _save(mask, folder / f"keras_png_slices_lesions_{split}", "lesions", subject)
    return _row(subject, split, traits, head.lesions, (256 / request.size) ** 2)


def _row(subject: int, split: str, traits: Traits, lesions: NDArray[np.bool_], voxel: float) -> dict[str, object]:
    values = (
        f"{subject:03d}",
        split,
        traits.age,
        traits.sex,
        f"{traits.widening:.2f}",
        f"{traits.sulcus:.2f}",
        ndimage.label(lesions)[1],
        f"{lesions.sum() * voxel:.0f}",
    )
    return dict(zip(COLUMNS, values, strict=True))


def _write(request: _Request, root: Path, progress: Progress | None) -> None:
    """Two threads: nearly all time is spent in NumPy, SciPy and zlib, which let other threads run meanwhile."""
    jobs = list(enumerate(split_of(request.subjects), start=1))
    work = partial(_write_subject, request=request, template=load_template(), root=root)
    rows = []
    with ThreadPoolExecutor(max_workers=min(2, os.cpu_count() or 1)) as pool:
        for row in pool.map(work, jobs):
            rows.append(row)
            if progress is not None:
                progress(len(rows), len(jobs))
    with (root / "subjects.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        table.writerows(rows)
    about = {
        "made_by": "brainvq cohort",
        "version": VERSION,
        **asdict(request),
        "noise": NOISE,
        "acquisitions": ACQUISITIONS,
    }
    (root / "cohort.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A temporary folder next to the target, gone afterwards."""
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _make_room(out: Path, force: bool) -> None:
    """Refuses what is not ours to replace."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; the cohort needs a folder. Give another --out.")
    if not out.is_dir() or not any(out.iterdir()):
        return
    if not force:
        raise InputError(
            f"{out} is not empty. Give a new folder, or force=True (--force) to replace an earlier cohort."
        )
    if not (out / "cohort.json").is_file():
        raise InputError(f"{out} holds no cohort.json, so its files are not an earlier cohort. Give a new folder.")


def write_cohort(
    out: Path | str,
    *,
    subjects: int = 40,
    slices: int = 32,
    size: int = 256,
    seed: int = 0,
    lesions: float = 0.0,
    force: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Writes a cohort into a new or empty folder and returns that folder.

    `slices` lie 1 mm apart around the lateral ventricles, `size` pixels cover 256 mm, `lesions` is the share of
    subjects with white-matter lesions. `force` replaces an earlier cohort, never anything else. `progress` is called
    with (done, subjects) after every subject. The folder appears when it is complete. Raises InputError for parameters
    out of range and for a folder that must not be written to.
    """
    out, request = Path(out), _Request(subjects, slices, size, seed, lesions)
    _make_room(out, force)
    with _beside(out.absolute()) as folder:
        made = folder / "new"
        made.mkdir()
        _write(request, made, progress)
        if out.is_dir() and any(out.iterdir()):
            out.rename(folder / "old")
        made.rename(out)
    return out


def cached_cohort(
    *,
    subjects: int = 40,
    slices: int = 32,
    size: int = 256,
    seed: int = 0,
    lesions: float = 0.0,
    progress: Progress | None = None,
) -> Path:
    """The folder of that cohort in the cache, made on first use; of two processes at once the first to finish wins."""
    request = _Request(subjects, slices, size, seed, lesions)
    target = cache_folder() / "cohorts" / request.key / "cohort"  # data are named by their folder
    if (target / "cohort.json").is_file():
        return target
    make_cache_folder()
    with _beside(target) as folder:
        made = folder / "new"
        made.mkdir()
        _write(request, made, progress)
        try:
            made.rename(target)
        except OSError:
            if not (target / "cohort.json").is_file():
                raise
    return target
