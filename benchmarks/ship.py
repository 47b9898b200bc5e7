"""A trained, evaluated run as a folder to ship: config.json, weights, evaluation, model card, licence notice, grain.

    python -m benchmarks.ship RUN DEST
    python -m benchmarks.ship PRIOR DEST        the entropy model of a prior, beside the tokenizer that is shipped there

DEST is `src/brainvq/weights/<preset>` for a model that comes with the package, else `weights/<preset>`. The weights
are bit for bit those that were measured; a run whose weights are too large is refused (`benchmarks/halve.py` halves
them). Nothing else of the run goes along: no log, no checkpoint, no picture.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from benchmarks.card import NOTICE, SHIP, card
from brainvq.archive.codec import ENTROPY, load_codec
from brainvq.codec.entropy import load, to_bytes
from brainvq.errors import InputError
from brainvq.models import GRAIN, open_model
from brainvq.run import read_config, write_json
from brainvq.session import stored_evaluation
from brainvq.writing import atomic

LARGEST = 10_000_000  # bytes of weights
LARGEST_EVALUATION = 100_000
SPLIT = "validate"
OASIS = ("oasis", "keras_png_slices_data")  # names of the data that the card describes
FILES = ("config.json", "model.safetensors", "MODEL_CARD.md", "LICENSE.md", f"evaluation/{SPLIT}.json")


def ship(run: Path, dest: Path) -> Path:
    """Write the folder `dest` of the run, and return it.

    Raises:
        InputError: the run is a prior, unfinished, damaged, too large, not evaluated, or of other data than OASIS-1; or
            `dest` holds something else.
    """
    config = read_config(run)
    open_model(run)
    evaluation = stored_evaluation(run, SPLIT)
    _refuse_unfit(run, config, evaluation)
    if (dest / "config.json").exists() and read_config(dest)["weights_sha256"] != config["weights_sha256"]:
        (dest / ENTROPY).unlink(missing_ok=True)  # it is of other codes
        (dest / GRAIN).unlink(missing_ok=True)  # and this of other images
    held = [path for path in dest.rglob("*") if path.is_file()] if dest.is_dir() else []
    if foreign := [path for path in held if path.relative_to(dest).as_posix() not in (*FILES, ENTROPY, GRAIN)]:
        raise InputError(f"{dest} holds {foreign[0].name}, which is no part of shipped weights. Give another folder.")
    (dest / "evaluation").mkdir(parents=True, exist_ok=True)
    write_json(dest / "config.json", config)
    write_json(dest / "evaluation" / f"{SPLIT}.json", evaluation)
    _write(dest / "model.safetensors", (run / "model.safetensors").read_bytes())
    _write(dest / "MODEL_CARD.md", card(config, evaluation).encode())
    _write(dest / "LICENSE.md", NOTICE.encode())
    if (run / GRAIN).exists():
        _write(dest / GRAIN, (run / GRAIN).read_bytes())
    for name in (*FILES, *([GRAIN] if (dest / GRAIN).exists() else [])):
        (dest / name).chmod(0o644)  # a temporary file is its owner's alone, a package everybody's
    open_model(dest)
    return dest


def ship_entropy(prior: Path, dest: Path) -> Path:
    """Write the entropy model of a prior's run beside the tokenizer `dest`, and return its path.

    Raises:
        InputError: the prior has none, it is too large, the tokenizer is another than the prior's, or has another
            entropy model already: the files that were made with that one could not be read without it.
    """
    model = load_codec(prior, dest).entropy
    data = to_bytes(model)
    if (dest / ENTROPY).exists() and (there := load(dest / ENTROPY).sha256) != model.sha256:
        raise InputError(
            f"{dest / ENTROPY} is the entropy model {there[:12]}, which files may have been made with, and that of "
            f"{prior} is {model.sha256[:12]}. Ship it under another name, or remove the old one if no release has it."
        )
    if len(data) > LARGEST:
        raise InputError(f"the entropy model of {prior} has {len(data):,} bytes; at most {LARGEST:,} are shipped.")
    _write(dest / ENTROPY, data)
    (dest / ENTROPY).chmod(0o644)
    return dest / ENTROPY


def _refuse_unfit(run: Path, config: dict[str, Any], evaluation: dict[str, Any]) -> None:
    sizes = {
        run / "model.safetensors": LARGEST,
        run / "evaluation" / f"{SPLIT}.json": LARGEST_EVALUATION,
    }
    for path, largest in sizes.items():
        if (size := path.stat().st_size) > largest:
            raise InputError(f"{path} has {size:,} bytes; at most {largest:,} are shipped.")
    if not config["weights_sha256"]:
        raise InputError(f"{run} is not trained to its end: brainvq train ... --out {run} --resume.")
    if evaluation["model"]["weights_sha256"] != config["weights_sha256"]:
        raise InputError(f"{run} was evaluated with other weights. First: brainvq evaluate {run} --split {SPLIT} ...")
    if evaluation["data"]["fingerprint"] != config["data"]["splits"][SPLIT]["fingerprint"]:
        raise InputError(f"{run} was evaluated on other images than it was validated on. Evaluate on the same data.")
    if config["data"]["name"] not in OASIS:
        raise InputError(f"{run} was trained on {config['data']['name']}; the model card speaks of OASIS-1.")


def _write(path: Path, content: bytes) -> None:
    with atomic(path) as file:
        file.write(content)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(f"usage: {SHIP}")
    try:
        run, dest = map(Path, sys.argv[1:])
        print(ship_entropy(run, dest) if read_config(run).get("kind") == "prior" else ship(run, dest))
    except InputError as error:
        sys.exit(str(error))
