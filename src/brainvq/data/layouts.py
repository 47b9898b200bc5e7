"""Where the images of a folder are, and which split their folders say.

Recognised without a flag: the OASIS `keras_png_slices_{train,validate,test}` folders, `train/ validate|val/ test/`,
either with class folders inside or inside a class folder (`Train_images/keras_png_slices_train`), one flat folder, and
BIDS (Gorgolewski et al., "The brain imaging data structure", Scientific Data 3, 2016), of which the T1w images are
taken unless others are asked for. They may lie any few levels down. Two folders that claim the same split are two data
sets, and refused rather than mixed, as slices beside volumes are. Label maps are left out by name here, and by their
pixels in `labels.py`.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from brainvq.data.entries import entries, is_image
from brainvq.data.scan import SUFFIXES
from brainvq.errors import InputError

SPLITS = ("train", "validate", "test")
DEEPEST = 8  # folders below DATA
SPLIT_FOLDER = re.compile(
    r"(?:keras_png_slices_)?(train|val|test)(?:ing|id|idate|idation)?(?:_(?:images|imgs|set|data))?", re.IGNORECASE
)
LABEL_FOLDER = re.compile(r"(?:^|.*_)(?:seg(?:_|$)|lesions_)|.*_tissues", re.IGNORECASE)
LABEL_FILE = re.compile(
    r"(?:^|.*_)(?:(?:d|prob)?seg|aseg|aparc|(?:brain)?mask|labels?)(?:[+_.]|$)|.*_tissues", re.IGNORECASE
)
IGNORED = ("thumbs.db", "desktop.ini", "__macosx")
BIDS_ROOT = "dataset_description.json"
BIDS_BESIDE = ("derivatives", "sourcedata", "rawdata", "code", "stimuli", "phenotype")  # folders of a BIDS data set


@dataclass(frozen=True)
class Layout:
    """Scans by split, in natural order, and what was left out.

    A flat folder has one entry, "all". `root` is the folder that names are relative to. A DICOM series goes by the name
    that `entries.py` gives it, and `files` has its files. `volumes`: whether the scans are volumes. `broken`: why
    some files make no scan.
    """

    root: Path
    images: dict[str, list[Path]]
    labels: int
    files: Mapping[Path, tuple[Path, ...]]
    volumes: bool
    broken: tuple[InputError, ...]


@dataclass
class Folder:
    path: Path
    images: list[Path] = field(default_factory=list)
    folders: list["Folder"] = field(default_factory=list)

    def all_images(self) -> list[Path]:
        return self.images + [image for folder in self.folders for image in folder.all_images()]


def natural(text: str) -> list[tuple[int, int, str]]:
    """Sort key in which slice 2 comes before slice 10."""
    parts = re.split(r"([0-9]+)", text)
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts]


def split_name(folder: str) -> str | None:
    """train, validate or test if the folder's name says so."""
    match = SPLIT_FOLDER.fullmatch(folder)
    return {"train": "train", "val": "validate", "test": "test"}[match[1].lower()] if match else None


def find_layout(root: Path, suffix: str = "T1w") -> Layout:
    """The one layout in `root` or below it; of a BIDS data set the images of this suffix.

    Raises:
        InputError: there is none, or more than one.
    """
    if not root.exists():
        raise InputError(f"{root}: there is no such folder.")
    if not root.is_dir():
        raise InputError(f"{root}: a file; a folder of images is expected.")
    seen: Counter[str] = Counter()
    tree = _walk(root, _Walk(seen, re.compile(rf"(?:^|_){re.escape(suffix)}\.nii(?:\.gz)?$")), set(), 0)
    if not tree.all_images():
        raise InputError(f"{root}: no images found. {_what_was_seen(seen)} Give a folder of {', '.join(SUFFIXES)}.")
    folders = _split_folders(tree) or _itself(tree)
    top = Path(os.path.commonpath([folder.path.parent for folder in folders.values()])) if folders else root
    return _layout(top, folders or {"all": tree}, seen["label maps"])


def _layout(root: Path, folders: dict[str, "Folder"], labels: int) -> Layout:
    """The scans that the files of these folders make. Folders above a scan may name its subject: `root` keeps them."""
    images, files, broken = dict[str, list[Path]](), dict[Path, tuple[Path, ...]](), list[InputError]()
    kinds: dict[bool, Path] = {}
    for split, folder in folders.items():
        found, refused = entries(folder.all_images())
        images[split] = sorted((entry.path for entry in found), key=lambda path: natural(path.as_posix()))
        files |= {entry.path: entry.files for entry in found if entry.files}
        broken += refused
        for entry in found:
            kinds.setdefault(entry.volume, entry.path)
    if len(kinds) > 1:
        raise InputError(
            f"{root}: holds slices, such as {kinds[False]}, and volumes, such as {kinds[True]}. "
            "Give a folder of one kind."
        )
    if not kinds:
        raise broken[0]
    return Layout(root, images, labels, files, True in kinds, tuple(broken))


@dataclass(frozen=True)
class _Walk:
    """What a walk counts, and which files of a BIDS data set it takes."""

    seen: Counter[str]
    bids: re.Pattern[str]
    inside: bool = False  # a BIDS data set

    def takes(self, name: str) -> bool:
        return not self.inside or bool(self.bids.search(name))


def _walk(path: Path, walk: _Walk, above: set[str], depth: int) -> Folder:
    folder, real = Folder(path), os.path.realpath(path)
    if real in above or depth > DEEPEST:  # a link to a folder above
        return folder
    try:
        found = sorted(os.scandir(path), key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(f"{path}: the folder cannot be read ({error.strerror}).") from error
    found = [entry for entry in found if not entry.name.startswith(".") and entry.name.lower() not in IGNORED]
    if any(entry.name == BIDS_ROOT for entry in found):
        walk = replace(walk, inside=True)
    for entry in found:
        if not entry.is_dir():
            _see(entry, folder, walk)
        elif LABEL_FOLDER.match(entry.name):
            walk.seen["label maps"] += sum(1 for _ in os.scandir(entry.path))
        elif not (walk.inside and entry.name in BIDS_BESIDE):
            folder.folders.append(_walk(Path(entry.path), walk, above | {real}, depth + 1))
    return folder


def _see(entry: os.DirEntry[str], folder: Folder, walk: _Walk) -> None:
    """One file: an image of the folder, or counted."""
    path = Path(entry.path)
    known = entry.name.lower().endswith(SUFFIXES)
    if not (entry.is_file() or (known and entry.is_symlink())):
        walk.seen["special files"] += 1  # opening a pipe would wait for ever; a broken link is reported when it is read
    elif not (known or is_image(path)):
        walk.seen[path.suffix.lower() or "files without suffix"] += 1
    elif LABEL_FILE.match(entry.name):
        walk.seen["label maps"] += 1
    elif not walk.takes(entry.name):
        walk.seen["other files of the BIDS data set"] += 1
    else:
        folder.images.append(path)


def _split_folders(tree: Folder) -> dict[str, Folder]:
    found: dict[str, Folder] = {}
    for split, folder in _named_folders(tree):
        if split in found and not found[split].path.samefile(folder.path):
            raise InputError(
                f"{found[split].path} and {folder.path} both hold {split} images: two data sets. Give one of them."
            )
        found.setdefault(split, folder)
    return {split: found[split] for split in SPLITS if split in found}


def _named_folders(tree: Folder) -> Iterator[tuple[str, Folder]]:
    for folder in tree.folders:
        if not folder.all_images():
            continue
        split = split_name(folder.path.name)
        if split is None:
            yield from _named_folders(folder)
            continue
        for inner, other in _named_folders(folder):
            if inner != split:
                raise InputError(f"{other.path}: a {inner} folder inside a {split} folder. Put them side by side.")
        yield split, folder


def _itself(tree: Folder) -> dict[str, Folder]:
    """DATA may be one of the OASIS folders itself; a folder that merely is called `test` is a flat folder."""
    name = tree.path.resolve().name
    split = split_name(name) if name.startswith("keras_png_slices_") else None
    return {split: tree} if split else {}


def _what_was_seen(seen: Counter[str]) -> str:
    if not seen:
        return "It is empty."
    return "Seen: " + ", ".join(f"{count} {kind}" for kind, count in seen.most_common(5)) + "."
