"""A hundred broken files of each format: a scan or an error that names the file; `make fuzz` tries thousands."""

import re
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.fuzz import blind, png, trial
from benchmarks.fuzz.mutants import DAMAGE, mutant
from benchmarks.fuzz.seeds import FORMATS, seeds
from brainvq.data.scan import Header, Scan, Storage
from brainvq.data.workers import Workers
from brainvq.errors import InputError

SYNTHETIC_REFUSED = {"deflated"}
NAMED = InputError("a.png: is cut short. Remove it.")
GREY = np.ones((9, 8), np.uint8)


@pytest.fixture(scope="module")
def pool() -> Iterator[Workers]:
    with Workers() as found:
        yield found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("format", FORMATS)
@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(chance=st.randoms(use_true_random=False))
def test_broken_files_become_scans_or_errors_that_name_them(
    format: str, pool: Workers, folder: Path, chance: Random
) -> None:
    broken = mutant(format, seeds(format), chance)
    found = trial.trial(broken, pool, folder)
    assert found.kind in ("scan", "refusal"), f"{broken.name}: {found.reason}"
    assert pool.peak < 1 << 30


@pytest.mark.parametrize("format", FORMATS)
def test_whole_files_are_read(format: str, pool: Workers, folder: Path) -> None:
    for seed in seeds(format):
        found = trial.trial(seed, pool, folder)
        assert found.kind == ("refusal" if seed.name in SYNTHETIC_REFUSED else "scan"), f"{seed.name}: {found.reason}"


@pytest.mark.parametrize("format", FORMATS)
def test_a_mutant_is_made_again_from_its_number_and_is_mostly_another_file(format: str) -> None:
    made = [mutant(format, seeds(format), Random(n)) for n in range(40)]
    again = [mutant(format, seeds(format), Random(n)) for n in range(40)]
    assert [one.files for one in made] == [one.files for one in again]
    whole = {seed.name: seed.files for seed in seeds(format)}
    assert sum(one.files != whole[one.name] for one in made) > 30


@pytest.mark.parametrize("format", FORMATS)
@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.binary(max_size=80), other=st.binary(max_size=80), chance=st.randoms(use_true_random=False))
def test_any_bytes_can_be_damaged(format: str, data: bytes, other: bytes, chance: Random) -> None:
    """Mutants are damaged again."""
    for name in ("a.nii", "a.nii.gz", "a.img", "a.dcm", "a.png"):
        assert isinstance(DAMAGE[format](name, data, other, chance), bytes)
    assert all(isinstance(damage(data, other, chance), bytes) for damage in blind.ALL)


def test_damage_reaches_behind_checksums() -> None:
    """What a decoder would refuse for its checksum alone tells nothing of what lies behind."""
    whole = seeds("png")[0].files["grey.png"]
    sound = 0
    for n in range(60):
        changed = DAMAGE["png"]("grey.png", whole, whole, Random(n))
        again = changed[:8] + b"".join(map(png.packed, png.chunks(changed)))
        sound += changed not in (whole, whole[: len(changed)]) and changed == again
    assert sound > 15
    whole = seeds("nifti")[1].files["first.nii.gz"]
    assert sum(inside(DAMAGE["nifti"]("a.nii.gz", whole, whole, Random(n))) != inside(whole) for n in range(60)) > 15


def inside(data: bytes) -> bytes:
    """What gzip holds, as far as it is sound and no more than the whole file held: there are bombs among these."""
    with suppress(zlib.error):
        return zlib.decompressobj(31).decompress(data, 788)
    return b""


AFFINE = np.eye(4)
VOLUME = Scan(np.zeros((2, 3, 4), np.int16), AFFINE, None, "a", Storage("nifti1"))
HEADER = Header((2, 3, 4), "int16", AFFINE, Storage("nifti1"))


@pytest.mark.parametrize(
    ("found", "header", "said"),
    [
        (VOLUME, HEADER, None),
        (NAMED, NAMED, None),
        (NAMED, HEADER, None),
        (VOLUME, NAMED, "refused what was read"),
        (VOLUME, KeyError("x"), "raised KeyError"),
        (InputError("is cut short. Remove it."), HEADER, "does not name"),
        (InputError("a.png: is cut short"), HEADER, "does not name"),
        (InputError("b.png: is cut short. Remove it."), HEADER, "does not name"),
        (VOLUME, Header((2, 3, 5), "int16", AFFINE, HEADER.storage), r"\(2, 3, 5\)"),
        (VOLUME, Header((2, 3, 4), "uint8", AFFINE, HEADER.storage), "uint8"),
        (VOLUME, Header((2, 3, 4), "int16", 2 * AFFINE, HEADER.storage), "different affines"),
        (Scan(np.full((9, 8), np.nan), None, None, "a"), Header((9, 8), "f", None, None), "not finite"),
        (Scan(GREY[:0], None, None, "a"), Header((0, 8), "uint8", None, None), "a scan of"),
        (Scan(VOLUME.voxels, None, None, "a"), Header((2, 3, 4), "int16", None, None), "3 axes"),
        (Scan(VOLUME.voxels, 0 * AFFINE, None, "a"), HEADER, "the affine"),
        (Scan(VOLUME.voxels, AFFINE, None, "a", Storage("nifti1", slope=-1.0)), HEADER, "slope"),
    ],
)
def test_what_is_wrong_is_noticed(found: Scan | InputError, header: Header | Exception, said: str | None) -> None:
    fault = trial.fault_of(found, header, Path("a.png"))
    assert fault is None if said is None else re.search(said, fault or "")


def test_reasons_are_counted_without_names_and_numbers() -> None:
    error = InputError("/tmp/a b/c.nii: 3 of 1,200 voxels are NaN (at 3, 4: 'x'). Repair or remove it.")
    assert trial.reason(error) == "N of N voxels are NaN"
    assert trial.reason(InputError("/tmp/x: 7.dcm: its rows are cut short. Remove it.")) == "its rows are cut short"
