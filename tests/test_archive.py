"""Scans through small files: what comes back is the reconstruction to the bit; other models and damage are refused."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

import brainvq
from benchmarks.fuzz.bvq_seeds import Neighbours
from brainvq import models
from brainvq.archive.codec import Codec, codec_of, load_codec
from brainvq.archive.files import compress_files, decompress_files
from brainvq.archive.info import info
from brainvq.codec import entropy
from brainvq.codec.bitstream import Bitstream
from brainvq.codec.header import Item
from brainvq.codec.writer import Writer
from brainvq.config import override
from brainvq.data.frame_bytes import frame_to_bytes
from brainvq.data.scan import Scan, read
from brainvq.data.transforms import frame_of
from brainvq.errors import InputError
from brainvq.pipeline import Pipeline, load
from brainvq.presets import preset
from brainvq.session import train_run

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def codec() -> Codec:
    """Without an entropy model, whatever comes with the package."""
    return Codec(load("brain_f8"), None, "brain_f8")


@pytest.fixture
def images(slices_folder: Path) -> Path:
    return slices_folder / "keras_png_slices_test"


@pytest.fixture
def prior(slices_folder: Path, cache: Path, tmp_path: Path) -> Path:
    return train_run(preset("histogram"), slices_folder, tmp_path / "prior", tokenizer=Path("brain_f8"))


def head(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 900, (18, 21, 40)).astype(np.int16)


def same(one: Scan, other: Scan) -> bool:
    assert (one.name, one.subject, one.storage) == (other.name, other.subject, other.storage)
    assert one.voxels.dtype == other.voxels.dtype
    assert (one.affine is None) == (other.affine is None)
    assert one.affine is None or np.array_equal(one.affine, other.affine)
    return np.array_equal(one.voxels, other.voxels)


def test_scans_come_back_as_reconstructed(codec: Codec) -> None:
    rng = np.random.default_rng(0)
    affine = np.array([[0, 0, 1.5, -20], [-0.9, 0.1, 0, 30], [0.1, 0.9, 0, 5], [0, 0, 0, 1]])
    scans = [
        *(Scan(rng.integers(0, 255, (32, 24)).astype(np.uint8), None, "7", f"case_7_slice_{n}.png") for n in range(5)),
        Scan(rng.normal(0, 3, (19, 30)).astype(np.float32), None, None, "odd/sides.npy"),
        Scan(head(), affine, "8", "head.nii.gz"),
        Scan(rng.integers(0, 65535, (16, 16)).astype(np.uint16), None, None, "sixteen.png"),
    ]
    data = codec.compress(scans, group=16)
    counts = [group.count for group in Bitstream(data, "a").groups]
    assert (counts[:3], sum(counts[2:-1]), len(counts) > 4) == ([5, 1, 16], 21, True), "a volume lies in two groups"
    found = codec.decompress(data)
    for scan, back in zip(scans, found, strict=True):
        assert same(back, codec.pipeline.reconstruct(scan))
    assert codec.compress(scans, group=16) == data


def test_the_python_interface_takes_paths(images: Path) -> None:
    paths = sorted(images.iterdir())
    again = brainvq.load_codec("brain_f8")
    data = again.compress(map(str, paths))
    assert [scan.name for scan in again.decompress(data)] == [path.name for path in paths]
    with pytest.raises(InputError, match="no scan"):
        again.compress([])


def test_a_prior_makes_smaller_files_that_its_own_codec_reads(prior: Path, images: Path, codec: Codec) -> None:
    paths, own = sorted(images.iterdir()), load_codec(prior)
    data, plain = own.compress(paths), codec.compress(paths)
    assert len(data) < len(plain)
    for ours, theirs in zip(own.decompress(data), codec.decompress(plain), strict=True):
        assert same(ours, theirs)
    with pytest.raises(InputError, match=rf"{own.entropy.sha256[:12]} \(position\).*{codec.entropy.sha256[:12]}"):
        codec.decompress(data)


def test_the_prior_finds_the_codec_that_any_tokenizer_has(prior: Path, images: Path, codec: Codec) -> None:
    file = Bitstream(codec.compress([next(images.iterdir())]), "a.bvq")
    assert codec_of(file, prior).entropy.kind == "uniform"
    assert codec_of(file).entropy.kind == "uniform"


def test_an_entropy_model_may_lie_beside_a_tokenizer(prior: Path, images: Path, tmp_path: Path) -> None:
    run = shutil.copytree(models.SHIPPED / "brain_f8", tmp_path / "run")
    mine = load_codec(prior).entropy
    (run / "entropy.safetensors").write_bytes(entropy.to_bytes(mine))
    data = load_codec(run).compress(images.iterdir())
    assert len(load_codec(prior).decompress(data)) == 8
    with pytest.raises(InputError, match=r"\[3\] entries"):
        Codec(load(run), entropy.build("uniform", (3,), {}))


def test_files_of_another_tokenizer_are_refused_with_both_hashes(codec: Codec, images: Path, tmp_path: Path) -> None:
    data = codec.compress([next(images.iterdir())])
    other = Codec(load("brain_f8"))
    other.pipeline.weights_sha256 = "ab" * 32
    with pytest.raises(InputError, match=rf"{codec.pipeline.weights_sha256[:12]} \(brain_f8\).*abababababab"):
        other.decompress(data)
    theirs = Bitstream(other.compress([next(images.iterdir())]), "theirs.bvq")
    with pytest.raises(InputError, match=r"theirs.bvq: .*abababababab.*brain_f8.*--model"):
        codec_of(theirs)


def test_a_prior_without_tables_is_refused(slices_folder: Path, cache: Path, tmp_path: Path) -> None:
    small = override(preset("pixelcnn"), ["train.steps=1", "prior.width=8", "prior.layers=1", "train.batch_size=2"])
    run = train_run(small, slices_folder, tmp_path / "prior", tokenizer=Path("brain_f8"))
    with pytest.raises(InputError, match="brainvq train histogram"):
        load_codec(run)


def test_the_commands_take_a_prior_and_tell_who_has_none(call: Call, prior: Path, images: Path, tmp_path: Path) -> None:
    plain = shutil.copytree(models.SHIPPED / "brain_f8", tmp_path / "plain", ignore=lambda *_: ["entropy.safetensors"])
    sizes = {}
    for model in (plain, prior):
        code, _, err = call("compress", model, images, "--out", tmp_path / f"by_{model.name}")
        assert code == 0, err
        assert ("brainvq train histogram" in err) == (model == plain)
        (file,) = (tmp_path / f"by_{model.name}").iterdir()
        sizes[model] = file.stat().st_size
    assert sizes[prior] < sizes[plain]
    packed, out = tmp_path / "by_prior", tmp_path / "out"
    code, _, err = call("decompress", packed, "--out", out, "--model", plain)
    assert code == 2
    assert "(position)" in err
    assert not out.exists()
    assert call("decompress", packed, "--out", out, "--model", prior)[0] == 0
    assert len(list(out.iterdir())) == 8


def test_frames_that_do_not_fit_are_refused(codec: Codec) -> None:
    frame = frame_of(Scan(np.zeros((32, 24), np.uint8), None, None, "a"), (8, 8))
    for item in (Item("a", None, 1, (32, 32), frame_to_bytes(frame)), Item("a", None, 2, (32, 24), b"\0")):
        writer = Writer(codec.header, codec.entropy)
        writer.add(item, np.zeros((item.slices, item.size[0] * item.size[1] // 64), np.int64))
        with pytest.raises(InputError, match="the frame of a cannot be"):
            codec.decompress(writer.finish())


def test_the_commands_go_there_and_back(call: Call, images: Path, tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(head(), np.diag([2.0, 1, 1, 1])), images / "head.nii.gz")
    (images / "deep").mkdir()
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(images / "deep" / "one.jpg")
    packed, copies, again = tmp_path / "packed", tmp_path / "copies", tmp_path / "again"
    code, out, err = call("compress", "brain_f8", images, "--out", packed)
    assert code == 0, err
    assert "3 files of 49 slices" in out
    names = {"keras_png_slices_test.bvq", "head.nii.gz.bvq", "deep/one.jpg.bvq"}
    assert {path.relative_to(packed).as_posix() for path in packed.rglob("*.bvq")} == names
    code, out, err = call("decompress", packed, "--out", again)
    assert code == 0, err
    assert "1 volume and 9 images" in out
    assert call("reconstruct", "brain_f8", images, "--out", copies)[0] == 0
    files = sorted(path.relative_to(copies) for path in copies.rglob("*.*"))
    assert files == sorted(path.relative_to(again) for path in again.rglob("*.*"))
    for name in files:
        assert (again / name).read_bytes() == (copies / name).read_bytes()
    for words in (("compress", "brain_f8", images, "--out", packed), ("decompress", packed, "--out", again)):
        code, _, err = call(*words)
        assert code == 2
        assert "--force" in err
        assert call(*words, "--force")[0] == 0


def test_info_needs_no_model_and_tells_damage(call: Call, codec: Codec, images: Path, tmp_path: Path) -> None:
    path = tmp_path / "a[b].bvq"
    path.write_bytes(codec.compress(images.iterdir(), group=4))
    code, out, _ = call("info", path)
    assert code == 0
    for told in ("a[b].bvq", "brain_f8", codec.pipeline.weights_sha256[:12], "uniform", "8 scans", "128 entries"):
        assert told in out
    found = json.loads(call("info", path, "--json")[1])
    assert found == info(path)
    assert (found["pixels"], found["nominal_bits_per_pixel"]) == (8 * 32 * 24, 7 / 64)
    assert [group["slices"] for group in found["groups"]] == [4, 4]
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    code, out, _ = call("info", path)
    assert code == 2
    assert "index" in out
    code, _, err = call("info", tmp_path / "none.bvq")
    assert code == 2
    assert "none.bvq: cannot be read" in err


def test_a_damaged_file_writes_nothing_or_what_it_has_kept(
    call: Call, codec: Codec, images: Path, tmp_path: Path
) -> None:
    path, out = tmp_path / "a.bvq", tmp_path / "out"
    data = codec.compress(sorted(images.iterdir()), group=4)
    at = data.index(b"GRUP") + 20
    path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    code, _, err = call("decompress", path, "--out", out)
    assert code == 2
    assert "slices 1 to 4" in err
    assert "--skip-broken" in err
    assert not out.exists()
    code, shown, err = call("decompress", path, "--out", out, "--skip-broken")
    assert code == 0, err
    assert "4 images" in shown
    assert err.count("is lost") == 4
    assert len(list(out.iterdir())) == 4
    path.write_bytes(data[:at] + b"\xff\xff" + data[at + 2 : data.rindex(b"GRUP")])
    code, _, err = call("decompress", path, "--out", tmp_path / "other", "--skip-broken")
    assert code == 2
    assert not (tmp_path / "other").exists()


def test_a_broken_input_is_left_out_or_stops_the_command(call: Call, images: Path, tmp_path: Path) -> None:
    whole = (images / "case_441_slice_1.nii.png").read_bytes()
    (images / "case_441_slice_1.nii.png").write_bytes(whole[:-40])
    code, _, err = call("compress", "brain_f8", images, "--out", tmp_path / "out")
    assert code == 2
    assert "case_441_slice_1" in err
    assert not (tmp_path / "out").exists()
    assert call("compress", "brain_f8", images, "--out", tmp_path / "out", "--skip-broken")[0] == 0
    assert info(tmp_path / "out" / "keras_png_slices_test.bvq")["scans"] == 7


def test_pictures_of_a_folder_lie_in_natural_order_and_follow_each_other(images: Path, tmp_path: Path) -> None:
    for n in (10, 11):
        shutil.copy(images / "case_441_slice_0.nii.png", images / f"case_441_slice_{n}.nii.png")
    (packed,) = compress_files(Path("brain_f8"), [images], tmp_path / "out")
    names = info(packed.path)["names"]
    assert names == [
        *(f"case_441_slice_{n}.nii.png" for n in (0, 1, 2, 3, 10, 11)),
        *(f"case_442_slice_{n}.nii.png" for n in range(4)),
    ]
    assert (packed.scans, packed.slices, packed.pixels) == (10, 10, 10 * 32 * 24)


def test_slices_of_a_head_follow_each_other_and_those_of_two_do_not(codec: Codec, images: Path) -> None:
    neighbours = Codec(codec.pipeline, Neighbours(codec.entropy.entries))
    paths = sorted(images.iterdir())
    scans = [*map(read, paths), Scan(head(), np.eye(4), None, "head.nii.gz"), read(paths[-1])]
    data = neighbours.compress(scans)
    assert [group.runs for group in Bitstream(data, "a.bvq").groups] == [(4, 4), (32,), (8,), (1,)]
    assert all(
        same(*both) for both in zip(neighbours.decompress(data), codec.decompress(codec.compress(scans)), strict=True)
    )


def picture(path: Path, side: int = 16) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((side, side), np.uint8)).save(path)
    return path


def packed_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*.bvq")}


def refuse_to_encode(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Pipeline, scan: object) -> None:
        raise AssertionError("nothing is to be encoded")

    monkeypatch.setattr(Pipeline, "encode", fail)


def test_pictures_that_would_be_unpacked_under_one_name_are_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_to_encode(monkeypatch)
    scans, out = tmp_path / "scans", tmp_path / "out"
    picture(scans / "a.png")
    picture(scans / "a.jpg")
    with pytest.raises(InputError, match=r"a\.jpg and .*a\.png would both be unpacked as a\.png\. Rename one"):
        compress_files(Path("brain_f8"), [scans], out)
    (scans / "a.png").unlink()
    picture(scans / "a.png" / "b.png")
    with pytest.raises(InputError, match=r"a\.png would be a file, and a folder with a\.png/b\.png in it"):
        compress_files(Path("brain_f8"), [scans], out)
    assert not out.exists()


@pytest.mark.parametrize("name", ["a\\b.png", "C:a.png", "x" * 248 + ".png", "x" * 249 + ".hdr"])
def test_names_that_could_not_be_written_are_refused_before_any_work(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_to_encode(monkeypatch)
    path = tmp_path / name
    if name.endswith(".hdr"):
        nib.save(nib.Nifti1Pair(head(), np.eye(4)), path)
    else:
        Image.fromarray(np.zeros((16, 16), np.uint8)).save(path, format="PNG")
    with pytest.raises(InputError, match="Rename"):
        compress_files(Path("brain_f8"), [path], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_name_of_251_bytes_comes_back(tmp_path: Path) -> None:
    path = picture(tmp_path / ("x" * 247 + ".png"))
    (packed,) = compress_files(Path("brain_f8"), [path], tmp_path / "out")
    assert [one.name for one in decompress_files([packed.path], tmp_path / "back")] == [path.name]


def test_scans_of_one_name_in_a_file_are_numbered(codec: Codec, tmp_path: Path) -> None:
    slice_, volume = Scan(np.zeros((16, 16), np.uint8), None, None, ""), Scan(head(), np.eye(4), None, "h.nii.gz")
    names = ["1.png", "1.jpg", "1-2.png", "a/1.png", "1.png"]
    path = tmp_path / "a.bvq"
    path.write_bytes(codec.compress([*(replace(slice_, name=name) for name in names), volume, volume]))
    found = [one.relative_to(tmp_path / "out").as_posix() for one in decompress_files([path], tmp_path / "out")]
    assert found == ["1.png", "1-3.png", "1-2.png", "a/1.png", "1-4.png", "h.nii.gz", "h-2.nii.gz"]


def test_a_name_that_is_a_file_and_a_folder_is_refused_before_any_work(
    codec: Codec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, slice_ = tmp_path / "a.bvq", Scan(np.zeros((16, 16), np.uint8), None, None, "")
    path.write_bytes(codec.compress([replace(slice_, name="a.png/b.png"), replace(slice_, name="a.png")]))
    monkeypatch.setattr("brainvq.archive.files._scans", None)
    with pytest.raises(InputError, match=r"a\.png would be a file, and a folder"):
        decompress_files([path], tmp_path / "out")


def test_folders_of_one_name_keep_their_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nest = tmp_path / "nest"
    for name in ("a", "b", "nest/c", "nest/d", "nest/deep/e"):
        picture(nest / f"{name}.png")
    compress_files(Path("brain_f8"), [nest], tmp_path / "packed")
    assert packed_below(tmp_path / "packed") == {"nest.bvq", "nest/nest.bvq", "nest/nest/deep/e.png.bvq"}
    assert len(decompress_files([tmp_path / "packed"], tmp_path / "back")) == 5
    for name in ("A/imgs/1", "A/imgs/2", "B/imgs/3", "B/imgs/4"):
        picture(tmp_path / f"{name}.png")
    monkeypatch.chdir(nest)
    given = [Path("../A/imgs"), Path("../B/imgs")]
    compress_files(Path("brain_f8"), given, tmp_path / "two")
    assert packed_below(tmp_path / "two") == {"A/imgs.bvq", "B/imgs.bvq"}


def test_a_folder_of_too_many_pictures_becomes_several_files(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brainvq.archive.names.MOST_SCANS", 3)
    monkeypatch.setattr("brainvq.codec.header.MOST_SCANS", 3)
    packed = compress_files(Path("brain_f8"), [images], tmp_path / "out")
    assert [(one.path.name, one.scans) for one in packed] == [(f"{images.name}-{n}.bvq", 3 - n // 3) for n in (1, 2, 3)]
    assert len(decompress_files([tmp_path / "out"], tmp_path / "back")) == 8


def test_python_takes_one_scan_or_path_and_refuses_groups_of_none(codec: Codec, images: Path) -> None:
    path = sorted(images.iterdir())[0]
    for one in (str(path), path, read(path)):
        assert codec.compress(one) == codec.compress([one])
    for group in (0, -1):
        with pytest.raises(InputError, match=f"groups of {group} slices"):
            codec.compress([path], group=group)


def test_scans_are_asked_for_by_any_iterable_of_numbers_that_there_are(codec: Codec, images: Path) -> None:
    paths = sorted(images.iterdir())
    file = Bitstream(codec.compress(paths), "a.bvq")
    assert [item.name for item, _ in codec.scans(file, iter([2, 0]))] == [paths[2].name, paths[0].name]
    for number in (8, -1):
        with pytest.raises(InputError, match=rf"8 scans, counted from 0; scan {number} is none"):
            list(codec.scans(file, [number]))


def test_a_file_without_scans_is_refused(call: Call, codec: Codec, tmp_path: Path) -> None:
    path = tmp_path / "a.bvq"
    path.write_bytes(Writer(codec.header, codec.entropy).finish())
    code, _, err = call("decompress", path, "--out", tmp_path / "out")
    assert code == 2
    assert "holds no scan" in err


def test_files_that_lost_their_header_are_left_out_and_a_lost_index_is_told(
    call: Call, codec: Codec, images: Path, tmp_path: Path
) -> None:
    files, out = tmp_path / "files", tmp_path / "out"
    files.mkdir()
    data = codec.compress(sorted(images.iterdir())[:2])
    (files / "a.bvq").write_bytes(data[:20] + b"\xff\xff" + data[22:])
    (files / "b.bvq").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert call("decompress", files, "--out", out)[0] == 2
    code, shown, err = call("decompress", files, "--out", out, "--skip-broken")
    assert code == 0, err
    assert "2 images" in shown
    assert "a.bvq: its header is damaged" in " ".join(err.split())
    assert "its index is damaged" in " ".join(err.split())
    (files / "b.bvq").unlink()
    code, _, err = call("decompress", files, "--out", tmp_path / "other", "--skip-broken")
    assert code == 2
    assert "header is damaged" in " ".join(err.split())


@pytest.mark.parametrize(
    "name", ["../a.png", "/a.png", "a/../../b.png", "", "a//b.png", "C:a.png", "a\\b.png", "a\0.png", "x" * 300]
)
def test_a_name_that_leads_elsewhere_is_refused(name: str, codec: Codec, tmp_path: Path) -> None:
    path = tmp_path / "a.bvq"
    path.write_bytes(codec.compress([Scan(np.zeros((16, 16), np.uint8), None, None, name)]))
    assert codec.decompress(path.read_bytes())[0].name == name
    with pytest.raises(InputError, match="no place below a folder"):
        decompress_files([path], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_volume_without_a_suffix_and_a_picture_of_another_type_are_written(codec: Codec, tmp_path: Path) -> None:
    path = tmp_path / "a.bvq"
    path.write_bytes(codec.compress([Scan(head(), np.eye(4), None, "head"), Scan(head()[0], None, None, "slice.npy")]))
    found = decompress_files([path], tmp_path / "out")
    assert [path.name for path in found] == ["head.nii.gz", "slice.npy"]
    assert read(found[1]).voxels.dtype == np.int16
