"""What `compress` and `decompress` do with files."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from brainvq.archive.codec import Codec, codec_of, frames_of, load_codec
from brainvq.archive.names import SUFFIX, Named, packed_names, refuse_nested, unpacked_names
from brainvq.codec.bitstream import Bitstream, Fault
from brainvq.codec.header import LARGEST_FILE, Header
from brainvq.codec.uniform import Uniform
from brainvq.data import scan as scans
from brainvq.data.scan import Scan
from brainvq.errors import InputError, counted
from brainvq.files import gather, outputs, staged
from brainvq.inputs import Intake, Note, scans_in
from brainvq.inputs import silence as silent
from brainvq.writing import atomic

Progress = Callable[[int, int], None]


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
    lossless: bool = False,
    force: bool = False,
    skip_broken: bool = False,
    progress: Progress | None = None,
    note: Note = silent,
) -> list[Packed]:
    """A file of each volume, and one of the pictures of each folder, into `out`; `tokenizer` as of `load_codec`,
    `lossless` as of `Codec.compress`.

    Label maps in folders are left out by name; files are taken as given. `out` gets all outputs, or none; with
    `skip_broken` those of all that can be read. `note` is told of what is left out.

    Raises:
        InputError: an input cannot be read, an output exists and `force` is not set, or there are names that
            `decompress_files` could not write.
    """
    codec = load_codec(model, tokenizer)
    if codec.entropy.kind == Uniform.kind:
        note(
            f"{model} has no entropy model: every code takes as many bits as any other. For smaller files train one, "
            "brainvq train histogram --tokenizer MODEL --data DATA --out PRIOR, then compress with PRIOR"
        )
    found = scans_in(inputs, skip=skip_broken, note=note)
    files = packed_names(found.scans)
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
            data = codec.compress(chain([first], each), lossless=lossless)
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
    that damaged files have not lost, and `note` is told of the others.

    Raises:
        InputError: a file is damaged, is none, or is of another model; or an output exists and `force` is not set.
    """
    named, lost = _readable(inputs, skip_broken)
    files, names = [file for file, _ in named], [name for _, each in named for name in each]
    paths = outputs(names, out, force=force)
    refuse_nested(names)
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
    for file in files:
        for fault in file.faults:
            if not fault.count:
                note(f"{file.name}: {file.told(fault)}; no scan is lost by that")
    return list(targets)


def _readable(inputs: Sequence[Path], skip: bool) -> tuple[list[tuple[Bitstream, list[Path]]], list[InputError]]:
    """Files with the names of what is written of them; and, if they are skipped, what is wrong with the others."""
    sound: list[tuple[Bitstream, list[Path]]] = []
    lost: list[InputError] = []
    for path, _ in gather(inputs, (SUFFIX,)):
        try:
            file = opened(path)
            if not skip:
                file.refuse_damage()
            sound.append((file, unpacked_names(file)))
        except InputError as error:
            if not skip:
                raise
            lost.append(error)
    if not sound:
        raise lost[0]
    return sound, lost


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


def opened(path: Path) -> Bitstream:
    """Raises InputError where it cannot be read, or is no file of ours."""
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise InputError(f"{path}: has more than {LARGEST_FILE:,} bytes. Give a file of brainvq compress.")
        return Bitstream(path.read_bytes(), str(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}). Check the path.") from error


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
