"""The scans that a command was given: what each of their outputs is called, what is left out, and what is broken.

A scan that cannot be read stops a command once all of those are known, so that they are mended in one go, unless they
are to be left out. Label maps are left out of folders by their names; a file is taken as given, with a word about it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from brainvq.data.dicom import is_dicom
from brainvq.data.dicom_geometry import FEWEST
from brainvq.data.entries import Entry, entries, image_of, is_image, none_found
from brainvq.data.folders import shared_folder
from brainvq.data.labels import evidence
from brainvq.data.layouts import LABEL_FILE, LABEL_FOLDER
from brainvq.data.scan import DICOM, SUFFIXES, Scan, header_of, read
from brainvq.errors import InputError, counted
from brainvq.files import gather

SHOWN = 5  # names in a message
Note = Callable[[str], None]


def silence(text: str) -> None:
    """Show nothing."""


@dataclass
class Intake:
    """`scans`: each with the name of its output. `skip`: leave out what is `broken`. `note` is told of what is left out
    and of `labels`, which look like label maps."""

    inputs: Sequence[Path]
    skip: bool
    note: Note
    scans: list[tuple[Entry, Path]] = field(default_factory=list)
    broken: list[InputError] = field(default_factory=list)
    labels: list[Path] = field(default_factory=list)
    failed: int = 0
    """Of `scans`, that could not be read; what is broken by its header is not among these."""

    def read(self, entry: Entry, name: Path) -> Scan | None:
        """One of `scans`, called `name`; None where it cannot be read, or is not needed, as one before could not."""
        try:
            scan = read(entry.path, files=entry.files, name=name.as_posix())
        except InputError as error:
            self.broken.append(error)
            self.failed += 1
            return None
        if LABEL_FILE.match(entry.path.name) or evidence(scan.voxels).of_labels:
            self.labels.append(entry.path)
        return scan if self.skip or not self.broken else None

    def refuse_broken(self) -> None:
        """Raises InputError with the first that cannot be read, unless they are skipped and some are sound."""
        sound = len(self.scans) - self.failed
        if not self.broken or (self.skip and sound):
            return
        if len(self.broken) == 1:
            raise InputError(f"{self.broken[0]}{' Or leave it out by --skip-broken.' if sound else ''}")
        told = [str(error).rpartition(". ")[0] for error in self.broken[:SHOWN]]
        if len(self.broken) > SHOWN:
            told.append(f"and {len(self.broken) - SHOWN:,} more; `brainvq check {self.inputs[0]}` names all")
        raise InputError(
            f"{counted(len(self.broken), 'scan')} cannot be read: {'; '.join(told)}. "
            "Replace or remove them, or leave them out by --skip-broken."
        )

    def tell(self) -> None:
        """What became of those that are no common scans, once all are read."""
        for error in self.broken:
            self.note(f"left out: {error}")
        if self.labels:
            more = f" and {len(self.labels) - SHOWN:,} more" if len(self.labels) > SHOWN else ""
            names = ", ".join(map(str, self.labels[:SHOWN]))
            self.note(f"a label map, it seems, of which a model of images does not keep the labels: {names}{more}")


def scans_in(inputs: Sequence[Path], *, skip: bool = False, note: Note = silence) -> Intake:
    """By their headers, so that what is no scan is refused before any work is done.

    Raises:
        InputError: there is none, or one is broken and not to be skipped.
    """
    left_out: list[Path] = []

    def leave_out(below: Path) -> bool:
        if found := _is_label_map(below):
            left_out.append(below)
        return found

    given = gather(inputs, SUFFIXES, leave_out=leave_out, accept=is_image)
    if left_out:
        note(f"{counted(len(left_out), 'label map')} left out, by name")
    named = {image_of(path): name.with_name(image_of(path).name) for path, name in given}
    found = entries(named)
    if not found.scans and not found.broken:
        raise none_found(" and ".join(map(str, inputs)), [found])
    intake = Intake(inputs, skip, note, broken=list(found.broken.values()))
    for entry in found.scans:
        try:
            header_of(entry.path, files=entry.files)
            intake.scans.append((entry, _output_name(entry, named)))
        except InputError as error:
            by_name = any(entry.files[:1] == (path,) for path in inputs)
            intake.broken.append(_of_few(entry, error) if by_name and len(entry.files) < FEWEST else error)
    intake.refuse_broken()
    return intake


def lossless(name: Path) -> Path:
    """What is written in place of an input: PNG for JPEG, NIfTI for Analyze and DICOM, else the same format."""
    suffix = next((suffix for suffix in reversed(SUFFIXES) if name.name.lower().endswith(suffix)), "")
    if suffix in (".hdr", ".img", *DICOM):
        return name.with_suffix(".nii.gz")
    if suffix in (".jpg", ".jpeg"):
        return name.with_suffix(".png")
    return name if suffix else name.with_name(name.name + ".png")


def _of_few(entry: Entry, error: InputError) -> InputError:
    """The same of slices that were given by name, where all of their folder may have been meant."""
    first = entry.files[0]
    beside = sum(is_dicom(path) for path in first.parent.iterdir())
    reason, _, remedy = str(error).removeprefix(f"{entry.path}: ").removeprefix(f"{first.name}: ").rpartition(". ")
    return InputError(f"{first}: {reason}; its folder holds {counted(beside, 'DICOM file')}. {remedy}")


def _output_name(entry: Entry, named: Mapping[Path, Path]) -> Path:
    """Of a file its own name; a series becomes a NIfTI called as its folder, which keeps its place among the inputs."""
    if not entry.files:
        return named[entry.path]
    place = shared_folder([named[file] for file in entry.files])
    if entry.path != shared_folder(entry.files) or not place.name:
        place /= os.path.basename(os.path.abspath(entry.path)) or "series"  # noqa: PTH100, PTH119
    return place.with_name(place.name + ".nii.gz")


def _is_label_map(below: Path) -> bool:
    """By its path below the folder that was given."""
    return bool(LABEL_FILE.match(below.name)) or any(LABEL_FOLDER.match(folder) for folder in below.parent.parts)
