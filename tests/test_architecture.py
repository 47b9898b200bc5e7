"""Imports point down only: the table of the design, held against every import, also those inside functions."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import brainvq

ROOT = Path(brainvq.__file__).parent

LINE = {"errors", "codes", "config", "head", "lattice", "writing"}
TRAINED = {
    *("run", "models", "pipeline", "evaluate", "evaluate_prior", "sampling", "tables", "report", "training"),
    "fidelity",
}
PARTS = LINE | {"data", "networks", "quantizers", "metrics", "tokenizers", "priors", "codec"}
SEES: dict[str, tuple[set[str], str]] = {
    "errors": (set(), "the exception that all may raise needs nothing"),
    "writing": ({"errors"}, "a helper for whoever writes a file"),
    "codes": ({"errors"}, "the waist knows nothing of images or models"),
    "lattice": (set(), "where codes lie is geometry, and the same on both sides of the waist"),
    "config": ({"errors"}, "parts are resolved by their file name, not imported"),
    "head": ({"errors"}, "one definition for data and metrics stands below both"),
    "grain": ({"codes", "config"}, "noise knows images and codes"),
    "data": (LINE, "data know no model"),
    "networks": (LINE, "a network knows no quantizer"),
    "quantizers": (LINE, "a quantizer knows no network"),
    "metrics": (LINE, "a measure knows no model"),
    "tokenizers": (LINE | {"networks", "quantizers"}, "a tokenizer knows no files"),
    "priors": (LINE | {"networks"}, "below the waist there are only codes: what a prior must know comes as arrays"),
    "codec": ({"codes", "errors", "lattice"}, "the file format needs integer tables only"),
    "run": ({"codes", "errors", "writing"}, "a run folder is JSON and tensors, whatever the model"),
    "models": (
        {"config", "codes", "errors", "grain", "run", "tokenizers.base", "priors.base", "priors.conditions"},
        "any model is opened by its contract",
    ),
    "training": (PARTS | {"run", "models"}, "training stands above the parts, below what uses a trained model"),
    "presets": (PARTS | {"training"}, "a preset is a value made of configs"),
    "pipeline": (
        PARTS | {"grain", "run", "models", "training"},
        "the one way through a model; evaluation stands above it",
    ),
    "fidelity": (PARTS, "volumes are compared as the pipeline gives them"),
    "tables": (PARTS, "tables print measures"),
    "evaluate": (PARTS | {"run", "pipeline", "tables"}, "evaluation reconstructs through the pipeline"),
    "evaluate_prior": (PARTS | {"run", "pipeline", "tables", "training"}, "evaluation samples through the pipeline"),
    "report": (PARTS | TRAINED - {"report"}, "a report reads a run"),
    "describe": (PARTS | {"presets", "training"}, "a description needs no run"),
    "check": (LINE | {"data"}, "looking at data needs no model"),
    "screen": ({"errors"}, "bars and lines know nothing of what they show"),
    "graining": (PARTS | TRAINED | {"grain"}, "grain is measured of what goes through the pipeline"),
    "files": ({"errors", "writing", "data.folders"}, "names of files only"),
    "inputs": ({"errors", "data", "files"}, "what is given is known before a model is"),
    "session": (PARTS | TRAINED | {"files", "inputs", "check", "audit"}, "what the commands do, without their screen"),
    "audit": (PARTS | TRAINED - {"report"} | {"grain"}, "an audit looks at samples through the pipeline"),
    "sampling": (
        {"codes", "errors", "writing", "data.scan", "data.columns", "priors.base", "priors.drawing", "run", "pipeline"}
        | {"training.interrupt"},
        "a prior's samples as files; what draws them stands below",
    ),
    "archive": (
        PARTS | {"run", "models", "pipeline", "files", "inputs"},
        "a file of scans goes through the pipeline as any other",
    ),
    "demo": (PARTS | TRAINED | {"presets", "session", "files", "screen"}, "the whole path"),
    "cli": ({path.stem for path in ROOT.iterdir()} - {"cli", "web"}, "nobody imports the command line"),
    "web": (PARTS | TRAINED | {"presets", "session", "files"}, "nobody imports the web page"),
}
KEPT_IN = {"nibabel": "data", "pydicom": "data", "PIL": "data", "http": "web", "socketserver": "web"}
NOWHERE = {
    "pickle": "a pickle runs a stranger's code",
    "dill": "a pickle runs a stranger's code",
    "joblib": "it pickles",
    "torchvision": "it is no dependency",
    "requests": "nothing opens a network connection",
    "urllib": "nothing opens a network connection",
    "socket": "nothing opens a network connection",
    "huggingface_hub": "nothing opens a network connection",
    "torch.save": "it pickles: use safetensors",
    "torch.load": "it unpickles: use safetensors",
}


def imports(source: str) -> Iterator[str]:
    """Every imported name in full, and every `torch.save` and `torch.load`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "a relative import hides where it points: write it in full"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "torch":
            yield f"torch.{node.attr}"


def faults(unit: str, source: str) -> list[str]:
    """What in a file of `unit` breaks the table, and why it matters."""
    found = []
    for name in imports(source):
        package, _, inside = name.partition(".")
        target = inside.partition(".")[0]
        if package == "brainvq" and target in SEES and unit not in ("__init__", "__main__"):
            sees, why = SEES[unit]
            if target != unit and target not in sees and ".".join(inside.split(".")[:2]) not in sees:
                found.append(f"{unit} imports {name}: {why}. It sees {', '.join(sorted(sees)) or 'nothing of ours'}.")
        if package in KEPT_IN and unit != KEPT_IN[package]:
            found.append(f"{unit} imports {name}: {package} lives in {KEPT_IN[package]}/.")
        for banned in {package, name} & NOWHERE.keys():
            found.append(f"{unit} uses {banned}: {NOWHERE[banned]}.")
    return found


def unit_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def test_imports_point_down_only() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {fault}"
        for path in sorted(ROOT.rglob("*.py"))
        for fault in faults(unit_of(path), path.read_text())
    ]
    assert not found, "\n".join(found)


def test_every_module_has_its_place_in_the_table() -> None:
    units = {unit_of(path) for path in ROOT.rglob("*.py")} - {"__init__", "__main__"}
    assert units <= SEES.keys(), f"say what {units - SEES.keys()} may import"


def test_the_table_has_no_circle() -> None:
    done: set[str] = set()
    while left := SEES.keys() - done:
        free = {unit for unit in left if {name.partition(".")[0] for name in SEES[unit][0]} & SEES.keys() <= done}
        assert free, f"a circle among {left}"
        done |= free


@pytest.mark.parametrize(
    ("unit", "source", "said"),
    [
        ("priors", "from brainvq.data.scan import read", "only codes"),
        ("networks", "def f():\n    from brainvq import quantizers", "knows no quantizer"),
        ("models", "from brainvq.tokenizers.vqvae import VQVAE", "by its contract"),
        ("session", "import brainvq.cli", "without their screen"),
        ("pipeline", "from brainvq.evaluate import evaluate", "the one way"),
        ("codes", "from brainvq.config import Config", "the waist"),
        ("report", "from PIL import Image", "lives in data/"),
        ("evaluate", "import nibabel as nib", "lives in data/"),
        ("run", "import torch\ntorch.load('x')", "safetensors"),
        ("run", "from torch import save", "safetensors"),
        ("data", "import pickle", "stranger"),
        ("data", "import torchvision.datasets", "no dependency"),
        ("data", "from urllib.request import urlopen", "network"),
        ("models", "from brainvq.tokenizers.base import Tokenizer", ""),
        ("data", "from PIL import Image", ""),
    ],
)
def test_a_break_is_seen_and_explained(unit: str, source: str, said: str) -> None:
    found = faults(unit, source)
    assert bool(found) == bool(said)
    assert said in " ".join(found)
