"""What kills a decoder is an error about one file: crashes, hunger, hangs; and nothing is left running."""

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from brainvq.data import scan as scans
from brainvq.data import workers
from brainvq.data.replies import Reply, pack, receive, send
from brainvq.data.scan import Scan, Storage, write
from brainvq.data.workers import DecoderFailed, Workers
from brainvq.errors import InputError

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux limits the memory of a process")
GREY = np.random.default_rng(0).integers(0, 256, (12, 10), dtype=np.uint8)


@pytest.fixture(autouse=True)
def tasks(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """brainvq.misbehaving, a module that workers alone can see."""
    folder, ours = tmp_path_factory.mktemp("tasks"), Path(scans.__file__).parents[2]
    shutil.copy(Path(__file__).with_name("misbehaving.py"), folder)
    (folder / "sitecustomize.py").write_text(
        f"import sys\nsys.path.insert(0, {str(ours)!r})\nimport brainvq\nbrainvq.__path__.append({str(folder)!r})\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))


@pytest.fixture(scope="module")
def pool() -> Iterator[Workers]:
    """Two workers that die of what these tests ask for, and are replaced."""
    with Workers(2, memory=1 << 28, seconds=20) as found:
        yield found


def task(name: str) -> str:
    return f"brainvq.misbehaving:{name}"


def gone(pid: int, seconds: float = 10.0) -> bool:
    """Whether that process has ended, or does so soon."""
    for _ in range(int(seconds / 0.05)):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":  # ended, and its parent has not asked yet
            return True
        time.sleep(0.05)
    return False


def died(pool: Workers, name: str, said: str, **request: object) -> None:
    with pytest.raises(DecoderFailed) as raised:
        pool.one(task(name), {"path": "sub/a.png", **request})
    assert re.fullmatch(rf"sub/a\.png: the decoder {said}\. Replace the file or remove it\.", str(raised.value))


def test_a_scan_comes_as_from_this_process(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write(Scan(GREY, None, None, "a"), path)
    there, here = workers.read(path, name="sub/a.png", subject="7"), scans.read(path, name="sub/a.png", subject="7")
    np.testing.assert_array_equal(there.voxels, here.voxels)
    assert (there.name, there.subject, there.storage, there.affine) == ("sub/a.png", "7", None, None)
    path.write_bytes(path.read_bytes()[:50])
    for read in (workers.read, scans.read):
        with pytest.raises(InputError) as raised:
            read(path)
        assert str(path) in str(raised.value)
        assert not isinstance(raised.value, DecoderFailed)


def test_geometry_and_storage_travel(monkeypatch: pytest.MonkeyPatch) -> None:
    affine = np.array([[0.1, 0, 0, 1e-9], [0, -np.pi, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1]])
    scan = Scan(
        np.asfortranarray(np.zeros((2, 3, 4), np.int16)), affine, None, "\udcff.nii", Storage("nifti2", slope=0.1)
    )
    monkeypatch.setattr(scans, "read", lambda *_, **__: scan)
    stream = io.BytesIO()
    send(stream, pack("reply", reply=workers.scan_task({"path": "a"})))
    stream.seek(0)
    back = workers.scan_of(receive(stream, 1 << 20).reply)
    np.testing.assert_array_equal(back.affine, affine)
    assert (back.storage, back.name, back.voxels.dtype, back.voxels.strides) == (
        *(scan.storage, scan.name, scan.voxels.dtype),
        scan.voxels.strides,
    )


def test_replies_come_in_the_order_of_their_requests(pool: Workers) -> None:
    requests = [{"n": n, "seconds": 0.05 * (n % 3 == 0)} for n in range(20)]
    assert [reply.facts["n"] for reply in pool.map(task("echo"), requests)] == list(range(20))
    slow_and_fast = pool.map(task("sleep"), requests[:4])
    assert all(isinstance(reply, Reply) for reply in slow_and_fast)


def test_requests_are_drawn_as_answers_are_taken(pool: Workers) -> None:
    drawn = []

    def requests() -> Iterator[dict[str, int]]:
        for n in range(1000):
            drawn.append(n)
            yield {"n": n}

    replies = pool.map(task("echo"), requests())
    for _ in range(3):
        next(replies)
    replies.close()
    assert len(drawn) <= 3 + 4


def test_a_refusal_is_the_tasks_own(pool: Workers) -> None:
    with pytest.raises(InputError, match=r"^a\.png: is no image\. Remove it\.$"):
        pool.one(task("refuse"), {"path": "a.png"})


def test_a_death_is_an_error_about_its_file_and_the_others_go_on(pool: Workers) -> None:
    pairs = [("echo", 1), ("fault", 2), ("leave", 3), ("echo", 4)] * 2
    found = [*chain(*(pool.map(task(name), [{"path": f"{n}.png", "n": n}]) for name, n in pairs))]
    for (_, n), reply in zip(pairs, found, strict=True):
        if n in (2, 3):
            reason = {2: f"signal {signal.SIGSEGV}", 3: "exit code 3"}[n]
            assert isinstance(reply, DecoderFailed)
            assert str(reply) == f"{n}.png: the decoder crashed ({reason}). Replace the file or remove it."
        else:
            assert isinstance(reply, Reply)
            assert reply.facts["n"] == n


def test_hangs_are_ended() -> None:
    with Workers(seconds=0.05) as pool:
        started = pool.one(task("where"), {}).facts["pid"]
        died(pool, "hang", r"took longer than 0\.05 s")
        assert gone(started)
        died(pool, "sleep", r"took longer than 0\.05 s", seconds=60)
        died(pool, "sleep_unclocked", r"took longer than 0\.05 s", seconds=60)
        assert pool.one(task("echo"), {"n": 1}).facts == {"n": 1}


def test_waiting_on_a_busy_machine_is_no_hang() -> None:
    with Workers(seconds=0.2) as pool:
        assert pool.one(task("sleep"), {"seconds": 0.4}).facts == {}
        assert 0 < pool.one(task("clocks"), {}).facts["left"] < 1  # of the processor


@LINUX
def test_memory_is_bounded(pool: Workers) -> None:
    assert pool.one(task("eat"), {"bytes": 1 << 26}).facts["sum"] == 1 << 14
    died(pool, "eat", "ran out of memory", bytes=1 << 29)
    assert 1 << 26 < pool.peak < 1 << 29


@LINUX
def test_memory_that_was_given_back_is_there_again() -> None:
    with Workers(memory=1 << 27) as pool:
        pids = [pool.one(task("give"), {"bytes": 70 << 20}).facts["pid"] for _ in range(3)]
    assert len(set(pids)) == 1


@LINUX
def test_a_worker_that_loses_memory_is_replaced() -> None:
    with Workers(memory=1 << 27) as pool:
        pids = [pool.one(task("leak"), {"bytes": 40 << 20}).facts["pid"] for _ in range(6)]
    assert len(set(pids)) == 3


def test_our_own_mistakes_keep_their_traceback(pool: Workers) -> None:
    for name, said in [("mistake", "no such key"), ("no_json", "float32"), ("missing", "missing")]:
        with pytest.raises(RuntimeError, match=rf"Traceback[\s\S]*{said}"):
            pool.one(task(name), {"path": "a.png"})
    for name in ("os:system", "brainvq.x", "brainvq_evil:f", "brainvq..x:f", "brainvq.data.scan:read\n"):
        with pytest.raises(RuntimeError, match="no function of brainvq"):
            pool.one(name, {"path": "a.png"})


def test_what_a_decoder_prints_is_no_answer(pool: Workers, capfd: pytest.CaptureFixture[str]) -> None:
    assert pool.one(task("chatter"), {}).facts == {"input": ""}
    assert capfd.readouterr() == ("", "")


@LINUX
def test_a_garbled_answer_is_a_death() -> None:
    with Workers(seconds=5) as pool:
        pid = pool.one(task("where"), {}).facts["pid"]
        pipes = [int(n.name) for n in Path(f"/proc/{pid}/fd").iterdir() if n.readlink().name.startswith("pipe:")]
        died(pool, "garbage", r"crashed \(signal 9\)", pipe=max(pipes))
        assert pool.one(task("echo"), {"n": 1}).facts == {"n": 1}


def test_a_worker_that_died_between_requests_is_replaced_unnoticed() -> None:
    with Workers() as pool:
        first = pool.one(task("where"), {}).facts["pid"]
        os.kill(first, signal.SIGKILL)
        assert gone(first)
        assert pool.one(task("where"), {}).facts["pid"] != first


def test_only_a_process_of_its_own_tells_on_a_file(tmp_path: Path) -> None:
    """One that has served others may have been dying before, of them or of what is outside."""
    with Workers() as pool:
        request = {"path": "sub/a.png", "mark": str(tmp_path / "mark")}
        pool.one(task("echo"), {})
        assert pool.one(task("fault_once"), request).facts == {}
    (tmp_path / "mark").unlink()
    with Workers() as pool:
        died(pool, "fault_once", rf"crashed \(signal {signal.SIGSEGV}\)", mark=str(tmp_path / "mark"))


def test_an_interrupted_request_does_not_answer_the_next(pool: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    with Workers() as pool, monkeypatch.context() as patch:
        pool.one(task("where"), {})
        patch.setattr("brainvq.data.worker_process.receive", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            pool.one(task("echo"), {"n": 1})
        patch.undo()
        assert pool.one(task("echo"), {"n": 2}).facts == {"n": 2}


def test_an_interpreter_that_does_not_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with Workers() as pool, pytest.raises(RuntimeError, match="did not start"):
        pool.one(task("echo"), {})


def test_closed_is_closed() -> None:
    pool = Workers()
    pid = pool.one(task("where"), {}).facts["pid"]
    pool.close()
    assert gone(pid, 0.1)
    with pytest.raises(RuntimeError, match="closed"):
        pool.one(task("where"), {})


def test_relative_paths_are_those_of_the_program(
    pool: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        monkeypatch.chdir(folder)
        assert pool.one(task("where"), {}).facts["folder"] == str(folder)


def test_inside_a_worker_a_task_runs_directly(pool: Workers) -> None:
    facts = pool.one(task("nested"), {}).facts
    assert facts["pid"] == facts["own"] != os.getpid()


def test_a_forked_process_shares_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    here = workers.shared()
    assert workers.shared() is here
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert workers.shared() is not here


def test_a_worker_is_light_and_takes_no_module_from_the_users_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemExit('taken from the folder of the data')")
    monkeypatch.chdir(tmp_path)
    with Workers() as pool:
        modules = pool.one(task("where"), {}).facts["modules"]
    assert "numpy" in modules
    assert not {"torch", "scipy", "matplotlib", "pydicom", "nibabel"} & set(modules)


SCRIPT = """
import sys
from pathlib import Path
sys.path[:0] = {path!r}
from brainvq.data import workers
print(workers.shared().one("brainvq.misbehaving:where", {{}}).facts["pid"], flush=True)
{rest}
"""


@LINUX
@pytest.mark.parametrize("rest", ["", "1 / 0", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"])
def test_workers_end_with_their_program(rest: str, tmp_path: Path) -> None:
    """Also: no `__main__` guard is needed."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(path=[str(Path(scans.__file__).parents[2])], rest=rest))
    done = subprocess.run([sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=120)
    assert gone(int(done.stdout))


@LINUX
def test_what_hangs_ends_also_when_its_program_is_gone(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    rest = """
pool = workers.Workers(seconds=1)
print(pool.one("brainvq.misbehaving:where", {}).facts["pid"], flush=True)
pool.one("brainvq.misbehaving:hang", {"path": "a"})
"""
    script.write_text(SCRIPT.format(path=[str(Path(scans.__file__).parents[2])], rest="") + rest)
    running = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE)
    assert running.stdout is not None
    pids = [int(running.stdout.readline()) for _ in range(2)]
    running.kill()
    running.communicate()
    assert all(gone(pid) for pid in pids)
