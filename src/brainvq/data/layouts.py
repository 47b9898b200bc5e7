"""Where the images of a folder are, and which split their folders say.

Recognised without a flag: the OASIS `keras_png_slices_{train,validate,test}` folders, `train/ validate|val/ test/`,
either with class folders inside or inside a class folder (`Train_images/keras_png_slices_train`), one flat folder, and
BIDS (Gorgolewski et al., "The brain imaging data structure", Scientific Data 3, 2016), of which the T1w images are
taken unless others are asked for. They may lie any levels down (`folders.py`). Two folders that claim the same split
are two data sets, and refused rather than mixed, as slices beside volumes are. Label maps are left out by name here,
and by their pixels in `labels.py`.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from brainvq.data.entries import entries, is_image, none_found
from brainvq.data.folders import BIDS_ROOT as BIDS_ROOT
from brainvq.data.folders import Folder, walk
from brainvq.data.folders import split_name as split_name
from brainvq.data.scan import SUFFIXES
from brainvq.errors import InputError

SPLITS = ("train", "validate", "test")
LABEL_FOLDER = re.compile(r"(?:^|.*_)(?:seg(?:_|$)|lesions_)|.*_tissues", re.IGNORECASE)
LABEL_FILE = re.compile(
    r"(?:^|.*_)(?:(?:d|prob)?seg|aseg|aparc|(?:brain)?mask|labels?)(?:[+_.]|$)|.*_tissues", re.IGNORECASE
)

BIDS_SUFFIX = re.compile(r"_([A-Za-z0-9]+)\.nii(?:\.gz)?$")


@dataclass(frozen=True)
class Layout:
    """Scans by split, in natural order, and what was left out.

    A flat folder has one entry, "all". `root` is the folder that names are relative to. A DICOM series goes by the name
    that `entries.py` gives it, and `files` has its files, `owners` whose it is. `volumes`: whether the scans are
    volumes. `broken`: why some files make no scan; `captures`: why some series are left out.
    """

    root: Path
    images: dict[str, list[Path]]
    labels: int
    files: Mapping[Path, tuple[Path, ...]]
    owners: Mapping[Path, frozenset[str]] = field(repr=False)
    volumes: bool
    broken: Mapping[Path, InputError]
    captures: Mapping[Path, InputError]


def natural(text: str) -> list[tuple[int, int, str]]:
    """Sort key in which slice 2 comes before slice 10."""
    parts = re.split(r"([0-9]+)", text)
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts]


def find_layout(root: Path, suffix: str = "T1w") -> Layout:
    """The one layout in `root` or below it; of a BIDS data set the images of this suffix.

    Raises:
        InputError: there is none, or more than one.
    """
    if not root.exists():
        raise InputError(f"{root}: there is no such folder.")
    if not root.is_dir():
        raise InputError(f"{root}: a file; a folder of images is expected.")
    whole, seen = walk(root), Counter[str]()
    tree = _images_of(whole, re.compile(rf"(?:^|_){re.escape(suffix)}\.nii(?:\.gz)?$"), seen)
    if not tree.all_files():
        raise next(iter(whole.all_broken().values()), _other_suffix(whole, suffix) or _no_images(root, seen))
    folders = _split_folders(tree) or _itself(tree)
    top = Path(os.path.commonpath([folder.path.parent for folder in folders.values()])) if folders else root
    return _layout(top, folders or {"all": tree}, whole.all_broken(), seen["label maps"])


def _layout(root: Path, folders: dict[str, Folder], broken: dict[Path, InputError], labels: int) -> Layout:
    """The scans that the files of these folders make. Folders above a scan may name its subject: `root` keeps them."""
    found = {split: entries(folder.all_files()) for split, folder in folders.items()}
    scans = [scan for each in found.values() for scan in each.scans]
    kinds = {scan.volume: scan.path for scan in reversed(scans)}
    if len(kinds) > 1:
        raise InputError(
            f"{root}: holds slices, such as {kinds[False]}, and volumes, such as {kinds[True]}. "
            "Give a folder of one kind."
        )
    if not kinds:
        raise none_found(root, found.values())
    return Layout(
        root=root,
        images={
            split: sorted((scan.path for scan in each.scans), key=lambda path: natural(path.as_posix()))
            for split, each in found.items()
        },
        labels=labels,
        files={scan.path: scan.files for scan in scans if scan.files},
        owners={scan.path: scan.owners for scan in scans if scan.owners},
        volumes=True in kinds,
        broken=broken | {path: error for each in found.values() for path, error in each.broken.items()},
        captures={path: error for each in found.values() for path, error in each.captures.items()},
    )


def _images_of(folder: Folder, bids: re.Pattern[str], seen: Counter[str]) -> Folder:
    """The same with the images alone, of a BIDS data set those called so; what else there is is counted."""
    seen["special files"] += folder.special
    files = [file for file in folder.files if _is_wanted(file, bids if folder.bids else None, seen)]
    folders = []
    for inside in folder.folders:
        if LABEL_FOLDER.match(inside.path.name):
            seen["label maps"] += len(inside.all_files())
        else:
            folders.append(_images_of(inside, bids, seen))
    return replace(folder, files=files, folders=folders)


def _is_wanted(path: Path, bids: re.Pattern[str] | None, seen: Counter[str]) -> bool:
    if not is_image(path):
        seen[path.suffix.lower() or "files without suffix"] += 1
    elif LABEL_FILE.match(path.name):
        seen["label maps"] += 1
    elif bids and not bids.search(path.name):
        seen["other files of the BIDS data set"] += 1
    else:
        return True
    return False


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
        if not folder.all_files():
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


def _other_suffix(tree: Folder, suffix: str) -> InputError | None:
    """Where a BIDS data set has images, but none of the suffix."""
    files = [file.name for folder in tree.every() if folder.bids for file in folder.files]
    found = Counter(match[1] for name in files if not LABEL_FILE.match(name) and (match := BIDS_SUFFIX.search(name)))
    if not found:
        return None
    told = ", ".join(f"{kind} ({count:,})" for kind, count in found.most_common())
    return InputError(
        f"{tree.path}: a BIDS data set without *_{suffix} images; there are {told}. "
        "Say which by data.suffix, such as --set data.suffix=" + found.most_common(1)[0][0] + "."
    )


def _no_images(root: Path, seen: Counter[str]) -> InputError:
    told = ", ".join(f"{count} {kind}" for kind, count in seen.most_common(5) if count)
    what = f"Seen: {told}." if told else "It is empty."
    return InputError(f"{root}: no images found. {what} Give a folder of {', '.join(SUFFIXES)}.")
