"""Broken files: what wear, transfer and malice make of sound ones.

A mutant is a function of its seed and of a `random.Random`, so that any can be made again from its number, and that
hypothesis, which lends its own generator, can shrink one. Some damage is blind; the other knows the format, because a
reader looks no further where a checksum or a magic word is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

from benchmarks.fuzz import blind, dicom, nifti, png
from benchmarks.fuzz.seeds import Seed


def _picture(name: str, data: bytes, other: bytes, chance: Random) -> bytes:
    return chance.choice(blind.ALL)(data, other, chance)


DAMAGE: dict[str, Callable[[str, bytes, bytes, Random], bytes]] = {
    "nifti": nifti.damage,
    "dicom": dicom.damage,
    "png": png.damage,
    "picture": _picture,
}
"""By format: name and contents of a file, those of another, chance -> contents."""


def mutant(format: str, seeds: tuple[Seed, ...], chance: Random) -> Seed:
    """One of `seeds`, with one file, or more, damaged in one to three ways, and now and then one missing."""
    seed, other = chance.choice(seeds), chance.choice(seeds)
    files = dict(seed.files)
    for _ in range(1 if chance.random() < 0.6 else chance.randint(2, 3)):
        name = chance.choice(sorted(files))
        donor = other.files[chance.choice(sorted(other.files))]
        files[name] = DAMAGE[format](name, files[name], donor, chance)
    if len(files) > 1 and chance.random() < 0.05:
        del files[chance.choice(sorted(files.keys() - {seed.path}))]
    return replace(seed, files=files)
