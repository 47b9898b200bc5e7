"""What `compress` and `decompress` do with files."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PureWindowsPath

from brainvq.archive.codec import Codec, codec_of, frames_of, load_codec
from brainvq.codec.bitstream import Bitstream, Fault
from brainvq.codec.header import Header, Item
from brainvq.codec.uniform import Uniform
from brainvq.data import scan as scans
from brainvq.data.entries import Entry
from brainvq.data.layouts import natural
from brainvq.data.scan import NIFTI, Scan
from brainvq.data.transforms import Frame
from brainvq.errors import InputError, counted
from brainvq.files import gather, outputs, staged
from brainvq.inputs import Intake, Note, lossless, scans_in
from brainvq.inputs import silence as silent
from brainvq.writing import atomic

SUFFIX = ".bvq"
LARGEST_FILE = 1 << 30
LONGEST_NAME = 255  # bytes of a file's name without its folders
Progress = Callable[[int, int], None]
Named = list[tuple[Entry, Path]]


@dataclass(frozen=True)
class Packed:
    """A file that was written: its bytes, the scans and slices in it, their pixels without padding."""

    path: Path
    bytes: int
    scans: int
    slices: int
    pixels: int


def compress_files(
    model: Path,
    inputs: Sequence[Path],
    out: Path,
    *,
    tokenizer: Path | None = None,
    force: bool = False,
    skip_broken: bool = False,
    progress: Progress | None = None,
    note: Note = silent,
) -> list[Packed]:
    """A file of each volume, and one of the pictures of each folder, into `out`; `tokenizer` as of `load_codec`.

    Label maps in folders are left out by name; files are taken as given. `out` gets all outputs, or none; with
    `skip_broken` those of all that can be read. `note` is told of what is left out.

    Raises:
        InputError: an input cannot be read, or an output exists and `force` is not set.
    """
    codec = load_codec(model, tokenizer)
    if codec.entropy.kind == Uniform.kind:
        note(
            f"{model} has no entropy model: every code takes as many bits as any other. For smaller files train one, "
            "brainvq train histogram --tokenizer MODEL --data DATA --out PRIOR, then compress with PRIOR"
        )
    found = scans_in(inputs, skip=skip_broken, note=note)
    files = _files(found.scans)
    paths = outputs(list(files), out, force=force)
    read = _Reading(found, progress)
    packed = []
    with staged(paths, out) as targets:
        for path, members in zip(paths, files.values(), strict=True):
            each = read.scans(members)
            first = next(each, None)
            if first is None:
                del targets[path]
                continue
            data = codec.compress(chain([first], each))
            with atomic(targets[path]) as file:
                file.write(data)
            packed.append(packed_of(path, Bitstream(data, str(path))))
        found.refuse_broken()
    found.tell()
    return packed


def decompress_files(
    inputs: Sequence[Path],
    out: Path,
    *,
    model: Path | None = None,
    tokenizer: Path | None = None,
    force: bool = False,
    skip_broken: bool = False,
    progress: Progress | None = None,
    note: Note = silent,
) -> list[Path]:
    """The images of every file, into `out`; a JPEG has become a PNG, and any volume a NIfTI.

    By `model`, or by the shipped one that the file names. `out` gets all of them, or none; with `skip_broken` those
    that a damaged file has not lost, and `note` is told of the others.

    Raises:
        InputError: a file is damaged, is none, or is of another model; or an output exists and `force` is not set.
    """
    files = [opened(path) for path, _ in gather(inputs, (SUFFIX,))]
    if not skip_broken:
        for file in files:
            file.refuse_damage()
    names = [
        _path(item, frame, file) for file in files for item, frame in zip(file.items, frames_of(file), strict=True)
    ]
    paths = outputs(names, out, force=force)
    lost: list[InputError] = []
    with staged(paths, out) as targets:
        for done, (path, found) in enumerate(zip(paths, _scans(files, model, tokenizer), strict=True), start=1):
            if isinstance(found, InputError):
                lost.append(found)
                del targets[path]
            else:
                scans.write(found, targets[path])
            if progress is not None:
                progress(done, len(paths))
        if lost and not (skip_broken and targets):
            raise lost[0]
    for error in lost:
        note(f"left out: {error}")
    return list(targets)


def _scans(files: Sequence[Bitstream], model: Path | None, tokenizer: Path | None) -> Iterator[Scan | InputError]:
    """Of each file in turn. Every one is held against its model before the first is decoded."""
    codecs: dict[Header, Codec] = {}
    for file in files:
        if file.header not in codecs:
            codecs[file.header] = codec_of(file, model, tokenizer)
    for file in files:
        for item, found in codecs[file.header].scans(file):
            yield file.lost(item, found) if isinstance(found, Fault) else found


@dataclass
class _Reading:
    found: Intake
    progress: Progress | None
    done: int = 0

    def scans(self, members: Named) -> Iterator[Scan]:
        """Those of `members` that can be read."""
        for entry, name in members:
            scan = self.found.read(entry, name)
            if scan is not None:
                yield scan
            del scan  # before the next is read: volumes are large
            self.done += 1
            if self.progress is not None:
                self.progress(self.done, len(self.found.scans))


def _files(found: Named) -> dict[Path, Named]:
    """Names of the files to write, with what goes into each: a volume alone, the pictures of a folder together in
    natural order; a single one keeps its own name.

    Raises:
        InputError: two would have the same name.
    """
    volumes = [one for one in found if one[1].name.lower().endswith(NIFTI)]
    folders: dict[Path, Named] = {}
    for entry, name in found:
        if not name.name.lower().endswith(NIFTI):
            folders.setdefault(entry.path.absolute().parent, []).append((entry, name))
    named = [(name, [(entry, name)]) for entry, name in volumes]
    for folder, pictures in folders.items():
        pictures.sort(key=lambda one: natural(one[1].as_posix()))
        first = pictures[0][1]
        whole = first.parent if first.parent.name else Path(folder.name or "images")
        named.append((first if len(pictures) == 1 else whole, pictures))
    files = {name.with_name(name.name + SUFFIX): members for name, members in named}
    if len(files) < len(named):
        raise InputError("two folders of pictures have the same name. Give them in separate commands.")
    return files


def opened(path: Path) -> Bitstream:
    """Raises InputError where it cannot be read, or is no file of ours."""
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise InputError(f"{path}: has more than {LARGEST_FILE:,} bytes. Give a file of brainvq compress.")
        return Bitstream(path.read_bytes(), str(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}). Check the path.") from error


def _path(item: Item, frame: Frame, file: Bitstream) -> Path:
    """Where a scan is written below the output's folder; a stranger's file may say anything.

    Raises:
        InputError: it says a place outside, or none.
    """
    parts = item.name.split("/")
    foreign = PureWindowsPath(item.name).drive or "\\" in item.name or "\0" in item.name
    if foreign or {"", ".", ".."} & set(parts) or max(len(os.fsencode(part)) for part in parts) > LONGEST_NAME:
        raise InputError(
            f"{file.name}: calls a scan {item.name!r}, which is no place below a folder. Read it from Python."
        )
    name = Path(item.name)
    if frame.affine is not None and not item.name.lower().endswith(scans.SUFFIXES):
        return name.with_name(name.name + ".nii.gz")
    return lossless(name)


def packed_of(path: Path, file: Bitstream) -> Packed:
    """Raises InputError for frames that cannot be."""
    pixels = sum(item.slices * math.prod(frame.image) for item, frame in zip(file.items, frames_of(file), strict=True))
    return Packed(path, len(file.data), len(file.items), file.slices, pixels)


def told(packed: Sequence[Packed]) -> str:
    """In a line: files, scans, bytes, bits a pixel."""
    size, pixels = sum(one.bytes for one in packed), sum(one.pixels for one in packed)
    return (
        f"{counted(len(packed), 'file')} of {counted(sum(one.slices for one in packed), 'slice')}, {size:,} bytes, "
        f"{8 * size / pixels:.4f} bits a pixel"
    )
