"""Files from strangers, damaged ones and damaged weights: one message that names the file, and nothing half-written."""

import io
import json
import resource
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from brainvq import session
from brainvq.config import override
from brainvq.data.loader import open_cache
from brainvq.data.scan import Scan
from brainvq.data.sources import open_splits
from brainvq.data.transforms import Frame, to_model
from brainvq.errors import InputError
from brainvq.evaluate import evaluate, mean_image
from brainvq.pipeline import Encoded, Pipeline, load, load_encoded, save_encoded
from brainvq.presets import preset
from brainvq.training.experiment import train

SETTINGS = [
    *("train.precision=fp32", "train.steps=1", "train.batch_size=4"),
    *("tokenizer.network.widths=[4,4,4]", "tokenizer.quantizer.entries=16"),
]


@pytest.fixture
def run(slices_folder, cache, tmp_path) -> Path:
    return train(override(preset("keras_f8_ema"), SETTINGS), slices_folder, tmp_path / "run")


def an_encoded(levels: int = 1, entries: int = 16) -> Encoded:
    _, frame = to_model(Scan(np.zeros((30, 24), np.uint8), None, "s", "a"), (8, 8))
    codes = tuple(torch.full((1, 4, 3), level % entries) for level in range(levels))
    return Encoded(codes, frame, "a", "s", "0" * 64)


@pytest.fixture
def file(tmp_path) -> Path:
    save_encoded(an_encoded(), tmp_path / "a.codes.npz")
    return tmp_path / "a.codes.npz"


def members(file: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def store(file: Path, contents: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in contents.items():
            archive.writestr(name, data)


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def with_about(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    contents = members(file)
    about = json.loads(np.load(io.BytesIO(contents["about.npy"])).tobytes())
    change(about)
    text = json.dumps(about).encode()
    store(file, {**contents, "about.npy": npy(np.frombuffer(text, np.uint8))})


def refused(file: Path, said: str | None = None) -> None:
    with pytest.raises(InputError, match=said) as raised:
        load_encoded(file)
    assert str(file) in str(raised.value)
    assert "brainvq encode" in str(raised.value)


def test_what_was_saved_comes_back_with_levels_in_numeric_order(tmp_path):
    encoded = an_encoded(levels=12)
    save_encoded(encoded, tmp_path / "x.codes.npz")
    back = load_encoded(tmp_path / "x.codes.npz")
    assert [int(code[0, 0, 0]) for code in back.codes] == list(range(12))
    assert all(code.dtype == torch.int64 for code in back.codes)
    assert (back.frame, back.name, back.subject) == (encoded.frame, "a", "s")


@pytest.mark.parametrize("seed", range(4))
def test_flipped_bytes_are_refused_or_harmless(seed, file):
    rng, whole = np.random.default_rng(seed), file.read_bytes()
    for _ in range(150):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), rng.integers(1, 4)):
            data[place] ^= int(rng.integers(1, 256))
        file.write_bytes(bytes(data))
        try:
            load_encoded(file)
        except InputError as error:
            assert str(file) in str(error)  # noqa: PT017


def test_every_cut_is_refused(file):
    whole = file.read_bytes()
    for length in range(0, len(whole), 7):
        file.write_bytes(whole[:length])
        refused(file)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("dtype", "object", "object"),
        ("dtype", "bla", "bla"),
        ("dtype", "complex64", "complex64"),
        ("dtype", "bool", "bool"),
        ("dtype", 5, "frame.dtype"),
        ("shape", [30], "axes"),
        ("shape", [30, -24], "frame.shape.1"),
        ("shape", [30.0, "24"], "frame.shape"),
        ("shape", [10**9, 10**9], "beyond"),
        ("shape", None, "frame.shape"),
        ("padding", [[0, 2], [0, -1]], "frame.padding"),
        ("padding", [[0, 2], [0, 10**12]], "beyond"),
        ("window", [0, float("inf")], "frame.window"),
        ("window", [float("nan"), 1], "frame.window"),
        ("window", [-1e308, 1e308], "window"),
        ("window", [1, 1], "window"),
        ("window", [0, 1, 2], "frame.window"),
        ("affine", "x", "frame.affine"),
        ("affine", [[1.0, 0, 0, 0]], "4 x 4"),
        ("affine", [[float("nan")] * 4] * 4, "frame.affine"),
        ("more", 1, "frame.more"),
    ],
)
def test_a_frame_that_cannot_be_is_refused(field, value, said, file):
    with_about(file, lambda about: about["frame"].update({field: value}))
    refused(file, said)


@pytest.mark.parametrize(
    ("field", "value"),
    [("name", 5), ("subject", ["s"]), ("weights_sha256", 7), ("weights_sha256", None), ("frame", []), ("format", 2)],
)
def test_facts_of_another_type_are_refused(field, value, file):
    with_about(file, lambda about: about.update({field: value}))
    refused(file)


@pytest.mark.parametrize(
    "codes",
    [
        np.full((1, 4, 3), 0.5),
        np.zeros((1, 4, 3), np.int64),
        np.zeros((1, 4, 3), bool),
        np.zeros((2, 4, 3), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((), np.uint8),
    ],
)
def test_codes_of_another_type_or_of_several_scans_are_refused(codes, file):
    store(file, {**members(file), "codes_0.npy": npy(codes)})
    refused(file)


def test_missing_and_surplus_arrays_are_refused(file):
    whole = members(file)
    for contents in (
        {"about.npy": whole["about.npy"]},
        {"codes_0.npy": whole["codes_0.npy"]},
        {"about.npy": whole["about.npy"], "codes_1.npy": whole["codes_0.npy"]},
        {**whole, "codes_x.npy": whole["codes_0.npy"]},
        {**whole, "about.npy": npy(np.frombuffer(b"[" * 100000, np.uint8))},
        {**whole, "about.npy": npy(np.frombuffer(b"[1]", np.uint8))},
        {**whole, "about.npy": npy(np.frombuffer(b"\xff\xfe", np.uint8))},
    ):
        store(file, contents)
        refused(file)


@pytest.mark.parametrize("shape", ["(1, 10000000000000, 80)", "(1, 4, 3000000000000000000)", "(-1, -4, 3)", "(" * 900])
def test_a_header_that_lies_allocates_nothing(shape, file):
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(12)
    store(file, {**members(file), "codes_0.npy": data})
    refused(file)


def test_bombs_are_bounded(file):
    contents = members(file)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("about.npy", contents["about.npy"])
        with archive.open("codes_0.npy", "w") as member:
            for _ in range(272):
                member.write(bytes(1 << 20))
    assert file.stat().st_size < 1 << 21
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(file, "unpacks to more than")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10
    store(file, contents, zipfile.ZIP_LZMA)
    refused(file, "compression")


@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered")
def test_a_frame_is_checked_when_it_is_made():
    with pytest.raises(InputError, match="window"):
        Frame((4, 4), ((0, 0), (0, 0)), (1.0, 0.0), "uint8", None)
    with pytest.raises(InputError, match="window"):
        to_model(Scan(np.array([[-1.7e308, 1.7e308]] * 9), None, None, "a"), (1, 1))


def test_codes_that_do_not_fit_the_model_name_the_file(run, tmp_path):
    digest = load(run, "cpu").weights_sha256
    for name, encoded in {"wide": an_encoded(levels=2), "beyond": an_encoded()}.items():
        codes = encoded.codes if name == "wide" else (encoded.codes[0] + 99,)
        path = tmp_path / f"{name}.png.codes.npz"
        save_encoded(Encoded(codes, encoded.frame, "other", None, digest), path)
        with pytest.raises(InputError, match=f"{name}.png.codes.npz"):
            session.decode_files(run, [path], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_bad_file_among_good_ones_leaves_nothing_and_a_second_try_works(run, slices_folder, tmp_path):
    good = sorted((slices_folder / "keras_png_slices_test").iterdir())[:2]
    cut, out = tmp_path / "zz.png", tmp_path / "out"
    cut.write_bytes(good[0].read_bytes()[:-30])  # a whole header: found late
    for work in (session.reconstruct_files, session.encode_files):
        with pytest.raises(InputError, match=r"zz\.png"):
            work(run, [*good, cut], out)
        assert not out.exists()
    codes = session.encode_files(run, good, out)
    damaged = tmp_path / "zz.png.codes.npz"
    damaged.write_bytes(codes[0].read_bytes()[:-30])
    with pytest.raises(InputError, match=r"zz\.png\.codes\.npz"):
        session.decode_files(run, [*codes, damaged], tmp_path / "images")
    assert not (tmp_path / "images").exists()
    assert len(session.decode_files(run, codes, tmp_path / "images")) == 2


def test_a_file_that_is_no_image_is_refused_before_any_work(run, slices_folder, tmp_path, monkeypatch):
    (tmp_path / "zz.png").write_text("text")
    monkeypatch.setattr(Pipeline, "encode", lambda *_: pytest.fail("work was done"))
    with pytest.raises(InputError, match=r"zz\.png"):
        session.encode_files(run, [slices_folder / "keras_png_slices_test", tmp_path / "zz.png"], tmp_path / "out")


def test_label_maps_in_a_folder_are_left_out_and_taken_when_given(run, slices_folder, tmp_path):
    root = tmp_path / "subset"
    for folder in ("keras_png_slices_test", "keras_png_slices_seg_test"):
        shutil.copytree(slices_folder / folder, root / folder)
    masks = sorted((root / "keras_png_slices_seg_test").iterdir())
    shutil.copy(masks[0], root / "keras_png_slices_test")
    found = session.encode_files(run, [root], tmp_path / "codes")
    assert len(found) == len(masks)
    assert all(path.name.startswith("case_") for path in found)
    assert [path.name for path in session.reconstruct_files(run, masks[:1], tmp_path / "one")] == [masks[0].name]


def test_weights_that_give_nan_are_refused(run, slices_folder):
    pipeline = load(run, "cpu")
    image = next((slices_folder / "keras_png_slices_test").iterdir())
    encoded = pipeline.encode(image)
    for parameter in pipeline.tokenizer.parameters():
        parameter.fill_(torch.nan)
    with pytest.raises(InputError, match=f"{image.name}.*NaN"):
        pipeline.decode(encoded)


@pytest.mark.parametrize("text", ['{"split": ', "[1, 2]", "", "\xff", "[" * 100000])
def test_a_damaged_evaluation_is_named(text, run):
    (run / "evaluation").mkdir(exist_ok=True)
    (run / "evaluation" / "test.json").write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=r"test\.json.*brainvq evaluate"):
        session.stored_evaluation(run, "test")


def test_images_of_another_size_than_train_are_measured_without_that_baseline(run, slices_folder, monkeypatch):
    for image in (slices_folder / "keras_png_slices_test").iterdir():
        Image.open(image).resize((32, 40)).save(image)
    shutil.rmtree(slices_folder / "keras_png_slices_seg_test")
    splits = open_splits(slices_folder)
    mean, cache = mean_image(open_cache(splits["train"])), open_cache(splits["test"], multiple=(8, 8))
    result = evaluate(load(run, "cpu"), splits["test"], cache, split="test", train_mean=mean)
    assert sorted(result["baselines"]) == ["black", "previous_slice"]
    monkeypatch.chdir(slices_folder)
    result = session.evaluate_run(run, ".", "test")
    assert result["data"]["name"] == slices_folder.name
    assert "mean_train_image" not in result["baselines"]
