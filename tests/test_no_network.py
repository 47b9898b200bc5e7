"""Nothing opens a network connection: not importing, the embedded data, training, measuring, reconstructing."""

import os
import subprocess
import sys
from pathlib import Path

WATCHED = """
import sys
seen = []
def hook(event, arguments):
    kind, _, what = event.partition(".")
    local = what in ("connect", "bind", "sendto") and isinstance(arguments[1], (str, bytes))  # a file
    if event == "socket.bind" and arguments[1] == ("::1", 0):
        return  # urllib3, which pydicom imports, asks the system whether it knows IPv6; nothing is sent
    if kind == "socket" and what not in ("__new__", "gethostname") and not local:
        seen.append((event, arguments))
    elif kind in ("urllib", "http", "ftplib", "smtplib", "imaplib", "poplib", "telnetlib", "nntplib"):
        seen.append((event, arguments))
    elif event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn"):
        words = " ".join(map(str, arguments))
        if any(tool in words for tool in ("curl", "wget", "git ", "ssh", "pip ")):
            seen.append((event, arguments))
sys.addaudithook(hook)
"""

WHOLE_PATH = """
import torch
torch.set_num_threads(1)
import importlib, pkgutil
import brainvq
for module in pkgutil.walk_packages(brainvq.__path__, "brainvq."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
from pathlib import Path
from brainvq.config import override
from brainvq.data.cohort import write_cohort
from brainvq.presets import preset
from brainvq.session import decode_files, encode_files, evaluate_run, reconstruct_files
from brainvq.training.experiment import train

data = write_cohort(Path("heads"), subjects=8, slices=1, size=64)
settings = ["train.steps=2", "train.batch_size=4", "train.precision=fp32", "tokenizer.network.widths=[4,4,4]"]
run = train(override(preset("demo"), [*settings, "tokenizer.quantizer.entries=8"]), data, Path("run"))
assert evaluate_run(run, str(data), "validate")["measures"]
images = sorted(data.rglob("case_*.png"))[:2]
assert reconstruct_files(run, images, Path("copies"))
assert decode_files(run, encode_files(run, images, Path("codes")), Path("decoded"))
from brainvq.report import write_report
assert write_report(run).exists()
assert not seen, seen
print("whole path done, no connection")
"""

CONNECTS = """
import socket, urllib.request
try:
    {attempt}
except OSError:
    pass
assert seen, "the hook is blind"
print("seen:", seen[0][0])
"""


def run(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "BRAINVQ_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
    return subprocess.run(
        [sys.executable, "-c", WATCHED + script], cwd=folder, env=environment, capture_output=True, text=True
    )


def test_the_whole_path_opens_no_connection(tmp_path: Path) -> None:
    done = run(WHOLE_PATH, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "whole path done" in done.stdout


def test_a_connection_would_be_seen(tmp_path: Path) -> None:
    """To this machine alone: nothing listens on the port, and the name cannot exist."""
    attempts = {
        "socket.create_connection(('127.0.0.1', 9), timeout=0.1)": "socket.getaddrinfo",
        "socket.socket().connect(('127.0.0.1', 9))": "socket.connect",
        "socket.socket(type=socket.SOCK_DGRAM).sendto(b'', ('127.0.0.1', 9))": "socket.sendto",
        "socket.gethostbyname('localhost')": "socket.gethostbyname",
        "urllib.request.urlopen('http://127.0.0.1:9')": "urllib.Request",
    }
    for attempt, event in attempts.items():
        done = run(CONNECTS.format(attempt=attempt), tmp_path)
        assert done.returncode == 0, done.stderr[-2000:]
        assert done.stdout.split() == ["seen:", event]
