"""Which files a command takes, what it calls its outputs, and that these come to be together or not at all."""

import os
import socket
from pathlib import Path

import pytest

from brainvq.errors import InputError
from brainvq.files import gather, outputs, staged


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def names(*args: object, **options: object) -> list[str]:
    return [name.as_posix() for _, name in gather(*args, **options)]


def test_a_link_is_a_file_of_its_own_and_the_same_path_counts_once(tmp_path):
    touch(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "a.png")
    given = [tmp_path / "a.png", tmp_path / "b.png", tmp_path / "x" / ".." / "a.png"]
    (tmp_path / "x").mkdir()
    assert sorted(names(given, (".png",))) == ["a.png", "b.png"]


def test_files_of_one_name_keep_the_folders_as_they_are_called(tmp_path):
    touch(tmp_path / "real" / "x.png")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert names([tmp_path / "real", tmp_path / "link" / "x.png"], (".png",)) == ["real/x.png", "link/x.png"]


def test_folders_leave_out_what_is_hidden_or_left_out_and_files_are_taken_as_given(tmp_path):
    touch(*(tmp_path / name for name in ("a.png", "seg_a.png", ".hidden.png", ".1234.tmp/a.png", "notes.txt")))
    (tmp_path / "deep").mkdir()
    touch(tmp_path / "deep" / "b.PNG")

    def left_out(below: Path) -> bool:
        return below.name.startswith("seg_")

    assert names([tmp_path], (".png",), leave_out=left_out) == ["a.png", "deep/b.PNG"]
    assert names([tmp_path / "seg_a.png"], (".png",), leave_out=left_out) == ["seg_a.png"]
    (tmp_path / "a.png").unlink()
    (tmp_path / "deep" / "b.PNG").unlink()
    with pytest.raises(InputError, match="1 label map by name"):
        gather([tmp_path], (".png",), leave_out=left_out)


def test_folders_are_gone_through_as_for_training(tmp_path):
    touch(*(tmp_path / name for name in ("real/a.png", "derivatives/b.png", "sub-1/derivatives/c.png", "sub-1/d.png")))
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "up").symlink_to(tmp_path)
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "x").symlink_to(tmp_path / "real")
    assert names([tmp_path / "given"], (".png",))[0] == "x/a.png"
    beside = ["derivatives/b.png", "sub-1/derivatives/c.png"]
    for kept in (beside, []):
        found = names([tmp_path], (".png",))
        assert sum(name.endswith("a.png") for name in found) == 1
        assert [name for name in found if "derivatives" in name] == kept
        (tmp_path / "dataset_description.json").write_text("{}")


def test_what_cannot_be_looked_at_or_is_no_file_is_refused(tmp_path, monkeypatch):
    touch(tmp_path / "in" / "a.png")
    os.mkfifo(tmp_path / "in" / "pipe.png")
    assert names([tmp_path / "in"], (".png",)) == ["a.png"]
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("bound.png")
        for given in (tmp_path / "in" / "pipe.png", Path("bound.png"), Path(os.devnull)):
            with pytest.raises(InputError, match=f"{given}: a pipe, socket or device"):
                gather([given], (".png",))
    (tmp_path / "in" / "self").symlink_to("self")
    with pytest.raises(InputError, match="self: cannot be read"):
        gather([tmp_path / "in"], (".png",))


def test_outputs_come_together_at_the_end(tmp_path):
    out = tmp_path / "new" / "out"
    paths = outputs([Path("a.png"), Path("deep/b.png")], out, force=False)
    assert not out.exists()
    with staged([*paths, out / "c.png"], out) as targets:
        del targets[out / "c.png"]
        for target in targets.values():
            target.write_text("whole")
        assert not any(path.exists() for path in paths)
    assert [path.read_text() for path in paths] == ["whole", "whole"]
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "deep"]


@pytest.mark.parametrize("error", [InputError, RuntimeError, KeyboardInterrupt])
def test_nothing_is_left_of_outputs_that_failed(error, tmp_path):
    def fail(out: Path) -> None:
        paths = outputs([Path("a.png"), Path("b.png")], out, force=True)
        with pytest.raises(error) as raised, staged(paths, out) as targets:  # noqa: PT012
            targets[paths[0]].write_text("new")
            raise error(f"{targets[paths[1]]}: cannot be written")
        assert error is not InputError or str(raised.value) == f"{out / 'b.png'}: cannot be written"

    fail(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    touch(tmp_path / "out" / "a.png")
    fail(tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]
    assert (tmp_path / "out" / "a.png").read_text() == ""


def test_outputs_that_cannot_be_made_are_refused(tmp_path):
    touch(tmp_path / "file", tmp_path / "out" / "deep")
    (tmp_path / "out" / "a.png").mkdir()
    with pytest.raises(InputError, match="needs a folder"):
        outputs([Path("a.png")], tmp_path / "file", force=True)
    with pytest.raises(InputError, match="is a folder"):
        outputs([Path("a.png")], tmp_path / "out", force=True)
    with (
        pytest.raises(InputError, match="cannot be written"),
        staged([tmp_path / "file" / "out" / "a.png"], tmp_path / "file" / "out"),
    ):
        pass
    paths = [tmp_path / "out" / "b.png", tmp_path / "out" / "deep" / "c.png"]  # `deep` is a file
    with pytest.raises(InputError, match="deep"), staged(paths, tmp_path / "out") as targets:  # noqa: PT012
        for target in targets.values():
            target.write_text("whole")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "deep"]
