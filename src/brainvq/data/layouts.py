"""Where the images of a folder are, and which split their folders say.

Recognised without a flag: the OASIS `keras_png_slices_{train,validate,test}` folders, `train/ validate|val/ test/`,
either with class folders inside or inside a class folder (`Train_images/keras_png_slices_train`), and one flat folder.
They may lie any few levels down. Two folders that claim the same split are two data sets, and refused rather than
mixed. Label maps are left out by name here, and by their pixels in `labels.py`.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from brainvq.data.scan import SUFFIXES
from brainvq.errors import InputError

SPLITS = ("train", "validate", "test")
DEEPEST = 8  # folders below DATA
SPLIT_FOLDER = re.compile(
    r"(?:keras_png_slices_)?(train|val|test)(?:ing|id|idate|idation)?(?:_(?:images|imgs|set|data))?", re.IGNORECASE
)
LABEL_FOLDER = re.compile(r"(?:^|.*_)(?:seg(?:_|$)|lesions_)|.*_tissues", re.IGNORECASE)
LABEL_FILE = re.compile(r"(?:^|.*_)seg(?:[_.]|$)|.*_tissues", re.IGNORECASE)
IGNORED = ("thumbs.db", "desktop.ini", "__macosx")


@dataclass(frozen=True)
class Layout:
    """Image files by split, in natural order, and what was left out.

    A flat folder has one entry, "all". `root` is the folder that names are relative to.
    """

    root: Path
    images: dict[str, list[Path]]
    labels: int


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


def find_layout(root: Path) -> Layout:
    """The one layout in `root` or below it. Raises InputError where there is none, or more than one."""
    if not root.exists():
        raise InputError(f"{root}: there is no such folder.")
    if not root.is_dir():
        raise InputError(f"{root}: a file; a folder of images is expected.")
    seen: Counter[str] = Counter()
    tree = _walk(root, seen, set(), 0)
    if not tree.all_images():
        raise InputError(f"{root}: no images found. {_what_was_seen(seen)} Give a folder of {', '.join(SUFFIXES)}.")
    folders = _split_folders(tree) or _itself(tree)
    if not folders:
        images = sorted(tree.all_images(), key=lambda path: natural(path.as_posix()))
        return Layout(root, {"all": images}, seen["label maps"])  # folders above a slice may name its subject
    images_of = {
        split: sorted(f.all_images(), key=lambda path: natural(path.as_posix())) for split, f in folders.items()
    }
    top = os.path.commonpath([folder.path.parent for folder in folders.values()])
    return Layout(Path(top), images_of, seen["label maps"])


def _walk(path: Path, seen: Counter[str], above: set[str], depth: int) -> Folder:
    folder, real = Folder(path), os.path.realpath(path)
    if real in above or depth > DEEPEST:  # a link to a folder above
        return folder
    try:
        entries = sorted(os.scandir(path), key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(f"{path}: the folder cannot be read ({error.strerror}).") from error
    for entry in entries:
        if entry.name.startswith(".") or entry.name.lower() in IGNORED:
            continue
        if entry.is_dir():
            if LABEL_FOLDER.match(entry.name):
                seen["label maps"] += sum(1 for _ in os.scandir(entry.path))
            else:
                folder.folders.append(_walk(Path(entry.path), seen, above | {real}, depth + 1))
        elif (suffix := Path(entry.name).suffix.lower()) not in SUFFIXES:
            seen[suffix or "files without suffix"] += 1
        elif not (entry.is_file() or entry.is_symlink()):
            seen["special files"] += 1  # opening a pipe would wait for ever; a broken link is reported when it is read
        elif LABEL_FILE.match(entry.name):
            seen["label maps"] += 1
        else:
            folder.images.append(Path(entry.path))
    return folder


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
