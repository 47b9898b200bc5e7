"""The cache holds what the files hold and outlives damage; the order of the data is a pure function."""

import multiprocessing
import os
import resource
import shutil
import stat
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from brainvq.data.loader import open_cache, order
from brainvq.data.sources import Source, open_source, open_splits
from brainvq.data.transforms import to_model
from brainvq.errors import InputError


@pytest.fixture
def source(slices_folder: Path) -> Source:
    return open_source(slices_folder, split="train")


def cached_files(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "slices").rglob("*") if path.is_file())


@pytest.mark.usefixtures("cache")
def test_a_batch_is_what_the_pipeline_gives_to_the_model(source: Source) -> None:
    """To the bit: a model is trained on exactly the tensor that it sees afterwards."""
    cache = open_cache(source, multiple=(16, 16))
    indices = [3, 0, 11, 3]
    batch = cache.batch(indices)
    expected = torch.cat([to_model(source[i], (16, 16))[0] for i in indices])
    assert batch.shape == (4, 1, 32, 32)
    assert cache.size == (32, 32)
    assert batch.dtype == torch.float32
    assert torch.equal(batch, expected)
    assert torch.equal(cache.batch(torch.tensor(indices)), batch)
    assert torch.equal(cache.batch(np.array(indices)), batch)
    assert (batch[..., 24:] == -1).all()
    assert cache.subjects == [item.subject for item in source.items]
    assert cache.names == [item.name for item in source.items]
    assert cache.fingerprint == source.fingerprint


@pytest.mark.usefixtures("cache")
def test_a_batch_is_the_callers_own(source: Source) -> None:
    cache = open_cache(source)
    first = cache.batch([0, 1])
    kept = first.clone()
    first.zero_()
    assert torch.equal(cache.batch([0, 1]), kept)


@pytest.mark.usefixtures("cache")
def test_moments_are_those_of_all_unpadded_pixels(source: Source) -> None:
    cache = open_cache(source, multiple=(64, 64))
    x = np.stack([source[i].voxels for i in range(len(source))]).astype(np.float64) / 127.5 - 1
    assert cache.mean == pytest.approx(x.mean(), abs=1e-14)
    assert cache.variance == pytest.approx(x.var(), abs=1e-14)


@pytest.mark.parametrize("kinds", [("uint16",), ("float32",), ("int16",), ("uint8", "uint16")])
def test_other_types_are_cached_in_their_window(tmp_path: Path, cache: Path, kinds: tuple[str, ...]) -> None:
    rng = np.random.default_rng(0)
    folder = tmp_path / "data"
    folder.mkdir()
    for n in range(6):
        dtype = kinds[n % len(kinds)]
        voxels = (rng.random((16, 16)) * {"uint8": 255, "float32": 1e-3}.get(dtype, 3000 + 900 * n)).astype(dtype)
        np.save(folder / f"case_{n}.npy", voxels)
    source = open_source(folder, split=None)
    opened = open_cache(source)
    assert opened.images.dtype == np.uint16
    expected = torch.cat([to_model(source[i], (1, 1))[0] for i in range(6)])
    assert float((opened.batch(range(6)) - expected).abs().max()) <= 1.01 / 65535
    assert opened.mean == pytest.approx(float(expected.double().mean()), abs=1e-4)
    assert opened.variance == pytest.approx(float(expected.double().var(correction=0)), abs=1e-4)
    for n in range(0, 6, 2) if kinds[0] == "uint8" else ():  # 8 bit among 16 bit keeps its levels
        np.testing.assert_array_equal(opened.images[n], source[n].voxels.astype(np.uint16) * 257)


def test_images_are_decoded_once(source: Source, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int]] = []
    first = open_cache(source, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(n, 12) for n in range(1, 13)]
    assert cached_files(cache) == ["facts.json", "images.npy"]

    def no(*_: object, **__: object) -> None:
        raise AssertionError("a file was decoded again")

    monkeypatch.setattr("brainvq.data.sources.read", no)
    again = open_cache(source, progress=no)
    assert torch.equal(again.batch(range(12)), first.batch(range(12)))
    assert (again.mean, again.variance) == (first.mean, first.variance)


def test_splits_and_changed_files_have_caches_of_their_own(slices_folder: Path, cache: Path) -> None:
    for source in open_splits(slices_folder).values():
        open_cache(source)
    path = slices_folder / "keras_png_slices_train" / "case_001_slice_0.nii.png"
    Image.fromarray(np.full((32, 24), 9, np.uint8)).save(path)
    changed = open_cache(open_source(slices_folder, split="train"))
    assert (changed.images[0] == 9).all()
    assert len(list((cache / "slices").iterdir())) == 4


def _truncate(images: Path) -> None:
    os.truncate(images, images.stat().st_size - 1)


def _flip(images: Path) -> None:
    data = bytearray(images.read_bytes())
    data[-1000] ^= 1
    images.write_bytes(data)


def _header(images: Path) -> None:
    images.write_bytes(b"\0" * 128 + images.read_bytes()[128:])


def _no_facts(images: Path) -> None:
    images.with_name("facts.json").write_text('{"format": 1')


@pytest.mark.parametrize("damage", [_truncate, _flip, _header, _no_facts, Path.unlink])
def test_a_damaged_cache_is_rebuilt(source: Source, cache: Path, damage: Callable[[Path], None]) -> None:
    whole = open_cache(source).batch(range(12))
    (images,) = (cache / "slices").glob("*/images.npy")
    damage(images)
    assert torch.equal(open_cache(source).batch(range(12)), whole)
    assert cached_files(cache) == ["facts.json", "images.npy"]
    assert len(list((cache / "slices").iterdir())) == 1


def _open_at_once(folder: str, start: float, results: "multiprocessing.Queue[tuple[float, int]]") -> None:
    source = open_source(folder, split="train")
    assert source.fingerprint
    time.sleep(max(0.0, start - time.time()))
    opened = open_cache(source, progress=lambda done, total: time.sleep(0.01))
    results.put((opened.variance, int(opened.images.sum())))


def test_two_processes_may_build_at_once(slices_folder: Path, source: Source, cache: Path) -> None:
    context = multiprocessing.get_context("fork")
    results: multiprocessing.Queue[tuple[float, int]] = context.Queue()
    start = time.time() + 0.5
    processes = [context.Process(target=_open_at_once, args=(str(slices_folder), start, results)) for _ in range(2)]
    for process in processes:
        process.start()
    answers = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(timeout=60)
        assert process.exitcode == 0
    opened = open_cache(source)
    assert answers == [(opened.variance, int(opened.images.sum()))] * 2
    assert cached_files(cache) == ["facts.json", "images.npy"]


def test_a_loser_of_the_race_uses_the_winners_cache(
    source: Source, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other process publishes while this one decodes its last image."""
    open_cache(source)
    (winner,) = (cache / "slices").iterdir()
    aside = winner.rename(cache / "aside")

    def publish(done: int, total: int) -> None:
        if done == total:
            shutil.copytree(aside, winner)

    assert len(open_cache(source, progress=publish)) == 12
    assert cached_files(cache) == ["facts.json", "images.npy"]


def test_leftovers_of_a_killed_builder_are_swept_when_stale(source: Source, cache: Path) -> None:
    for name, age in {"building-old": 90_000, "building-new": 10}.items():
        (cache / "slices" / name).mkdir(parents=True)
        os.utime(cache / "slices" / name, (time.time() - age,) * 2)
    open_cache(source)
    assert {path.name[:12] for path in (cache / "slices").glob("building-*")} == {"building-new"}


def test_mixed_sizes_name_two_files(slices_folder: Path, cache: Path) -> None:
    path = slices_folder / "keras_png_slices_train" / "case_002_slice_1.nii.png"
    Image.fromarray(np.zeros((40, 24), np.uint8)).save(path)
    with pytest.raises(InputError, match=r"case_001_slice_0\S* is 24 x 32 pixels, \S*case_002_slice_1\S* is 24 x 40"):
        open_cache(open_source(slices_folder, split="train"))
    assert not cached_files(cache)


def test_a_broken_file_is_named_and_leaves_no_cache(slices_folder: Path, cache: Path) -> None:
    path = slices_folder / "keras_png_slices_train" / "case_002_slice_1.nii.png"
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(InputError, match=r"case_002_slice_1\.nii\.png"):
        open_cache(open_source(slices_folder, split="train"))
    assert not list((cache / "slices").iterdir())


def test_a_full_disk_is_one_message_and_leaves_nothing(source: Source, cache: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))  # writing beyond it fails as on a full disk
    try:
        with pytest.raises(InputError, match=r"cannot be written.*BRAINVQ_CACHE"):
            open_cache(source)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list((cache / "slices").iterdir())
    assert len(open_cache(source)) == 12


def test_the_cache_is_its_owners_alone(source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as we make it: a folder that is there stays as it is."""
    for name, there in (("new", False), ("old", True)):
        folder = tmp_path / name / "cache"
        monkeypatch.setenv("BRAINVQ_CACHE", str(folder))
        if there:
            folder.mkdir(parents=True)
            folder.chmod(0o755)
        open_cache(source)
        assert stat.S_IMODE(folder.stat().st_mode) == (0o755 if there else 0o700)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) != 0o700, "only the cache itself"


def test_the_cache_is_never_inside_the_data(
    source: Source, slices_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BRAINVQ_CACHE", str(slices_folder / "cache"))
    with pytest.raises(InputError, match="inside the data"):
        open_cache(source)
    assert not (slices_folder / "cache").exists()


@given(n=st.integers(1, 40), batch=st.integers(1, 90), seed=st.integers(0, 2**63), epochs=st.integers(1, 4))
def test_every_epoch_holds_each_index_once(n: int, batch: int, seed: int, epochs: int) -> None:
    steps = -(-epochs * n // batch)
    stream = np.concatenate([order(n, batch, seed, step) for step in range(steps)])
    assert len(stream) == steps * batch
    for epoch in range(epochs):
        assert sorted(stream[epoch * n : (epoch + 1) * n]) == list(range(n))


def test_order_knows_no_history() -> None:
    forwards = [order(50, 8, 3, step) for step in range(20)]
    backwards = [order(50, 8, 3, step) for step in reversed(range(20))][::-1]
    np.testing.assert_array_equal(forwards, backwards)
    larger = [order(50, 16, 3, step) for step in range(10)]
    np.testing.assert_array_equal(np.concatenate(forwards), np.concatenate(larger))


def test_epochs_and_seeds_are_ordered_differently() -> None:
    streams = [tuple(order(200, 200, seed, step)) for seed in range(3) for step in range(3)]
    assert len(set(streams)) == 9
    first = np.array([order(20, 20, seed, 0)[0] for seed in range(2000)])
    assert np.bincount(first, minlength=20).min() > 60  # of 100 expected: each index comes first alike


def test_order_is_frozen() -> None:
    """A run of an earlier version resumes on the same stream."""
    assert order(10, 12, 7, 1).tolist() == [4, 7, 3, 8, 5, 9, 6, 0, 0, 2, 6, 9]


@pytest.mark.usefixtures("cache")
def test_oasis_is_fast(shared: Path) -> None:
    """Processor time on one thread, so that a busy machine does not count; measured 8,000 images a second."""
    cache = open_cache(open_source(shared / "oasis", split="validate"), multiple=(8, 8))
    assert cache.images.shape == (1120, 256, 256)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        cache.batch(range(128))
        start = time.process_time()
        for step in range(10):
            cache.batch(order(len(cache), 128, 0, step))
        assert 1280 / (time.process_time() - start) > 2000
    finally:
        torch.set_num_threads(threads)
