"""A folder as a sequence of scans in a stable order, split so that no subject is on both sides.

Slices of one subject are strongly alike, so everything that counts, splits or bootstraps does so by subject
(`subjects.py`); where the images are is told by `layouts.py`, and which of them are label maps by `labels.py`.
"""

import hashlib
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray

from brainvq.data.labels import label_maps
from brainvq.data.layouts import SPLITS, find_layout, natural
from brainvq.data.scan import Scan, read
from brainvq.data.subjects import Item, divide, refuse_shared, with_subjects
from brainvq.errors import InputError, counted

Split = Literal["train", "validate", "test"]


@dataclass(frozen=True)
class Source:
    """Scans of one split in natural order, slices or volumes. `source[i]` reads a file or a series, every time.

    `root` is the folder that was given; the layout, to which names are relative, may lie deeper.
    """

    root: str
    split: Split | None
    items: tuple[Item, ...]
    labels_left_out: int
    volumes: bool = False

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Scan:
        item = self.items[index]
        return read(item.path, files=item.files, name=item.name, subject=item.subject)

    @property
    def subjects(self) -> tuple[str, ...]:
        """Each subject once, in natural order."""
        return tuple(sorted({item.subject for item in self.items}, key=natural))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over the name, size and content of every file, in order: any change to the data changes it."""
        with ThreadPoolExecutor() as pool:
            digests = pool.map(_digest, self.items)
            return hashlib.sha256(b"".join(digests)).hexdigest()

    def mask(self, index: int) -> NDArray[Any] | None:
        """Tissue mask (H, W) of a slice where one lies with the data (`keras_png_slices_seg_*`), else None."""
        if self.volumes:
            return None
        path = self.items[index].path
        folder = path.parent.name.replace("keras_png_slices_", "keras_png_slices_seg_")
        mask = path.parent.with_name(folder) / re.sub("^case_", "seg_", path.name)
        return read(mask).voxels if mask != path and mask.exists() else None


def open_source(
    data: str | Path,
    *,
    split: Split | None,
    subject_pattern: str | None = None,
    seed: int = 0,
    suffix: str = "T1w",
) -> Source:
    """One split of `data`, or all its images where `split` is None; see `open_splits`."""
    if split is None:
        folder, items, left_out, volumes = _items(data, subject_pattern, suffix)
        every = sorted(chain.from_iterable(items.values()), key=lambda item: natural(item.name))
        return Source(str(folder), None, tuple(every), left_out, volumes)
    if split not in SPLITS:
        raise InputError(f"split {split!r} is unknown; it is one of {', '.join(SPLITS)}.")
    sources = open_splits(data, subject_pattern=subject_pattern, seed=seed, suffix=suffix)
    if split not in sources:
        raise InputError(f"{data}: has no {split} images, only {', '.join(sources)}. Use one of these, or add images.")
    return sources[split]


def open_splits(
    data: str | Path, *, subject_pattern: str | None = None, seed: int = 0, suffix: str = "T1w"
) -> dict[Split, Source]:
    """The splits of a folder (or of `cohort`, the embedded synthetic data), those that have images.

    Split folders are taken as they are; where train has no validate beside it, a tenth of its subjects is held out. A
    flat folder is split 80/10/10. Both by a hash of seed and subject, so that the same folder is always split alike.
    `subject_pattern`: a regular expression searched in the path relative to the folder, with one group: the subject.
    `suffix`: which images of a BIDS data set.
    Raises InputError for anything in the folder that would make a split or its images wrong.
    """
    folder, items, left_out, volumes = _items(data, subject_pattern, suffix)
    if "all" in items:
        items = divide(items["all"], seed, folder)
    elif "train" in items and "validate" not in items:
        items |= divide(items["train"], seed, folder, test=False)
    splits: tuple[Split, ...] = ("train", "validate", "test")
    return {
        split: Source(str(folder), split, tuple(items[split]), left_out, volumes)
        for split in splits
        if items.get(split)
    }


def _items(data: str | Path, pattern: str | None, suffix: str) -> tuple[Path, dict[str, list[Item]], int, bool]:
    """The folder, its scans by split ("all" if its folders say none), how many label maps were left out, and whether
    the scans are volumes."""
    folder = _folder(data)
    layout = find_layout(folder, suffix)
    for error in layout.broken.values():
        raise error
    from brainvq.data.look_cache import known_labels  # which needs Source itself

    paths = [path for own in layout.images.values() for path in own]
    labels = label_maps(paths, layout.files, known_labels(paths))
    kept = {split: [path for path in paths if path not in labels] for split, paths in layout.images.items()}
    kept = {split: paths for split, paths in kept.items() if paths}
    if not kept:
        found = counted(len(labels), "label map")
        raise InputError(f"{folder}: holds nothing but {found} (few values, large areas). Give the scans.")
    items = with_subjects(layout, kept, pattern)
    refuse_shared(items)
    return folder, items, layout.labels + len(labels), layout.volumes


def _folder(data: str | Path) -> Path:
    if data == "cohort":
        from brainvq.data.cohort import cached_cohort  # writes files on its first call

        return cached_cohort()
    return Path(data).expanduser()


def _digest(item: Item) -> bytes:
    """Of the name, and of the size and the content of each file."""
    whole = hashlib.sha256()
    for n, path in enumerate(item.files or _with_partner(item.path)):
        try:
            content = path.read_bytes()
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}).") from error
        head = f"{'' if n else item.name}\0{len(content)}\0".encode("utf-8", "surrogateescape")
        whole.update(head + hashlib.sha256(content).digest())
    return whole.digest()


def _with_partner(path: Path) -> tuple[Path, ...]:
    """The header of an .img file is data too."""
    header = path.with_suffix(".hdr")
    return (path, header) if path.suffix.lower() == ".img" and header.exists() else (path,)
