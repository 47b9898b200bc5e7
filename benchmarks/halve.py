"""A trained run with the weights of its networks in half precision, half as large: what is measured and shipped.

    python -m benchmarks.halve RUN OUT

Weights are rounded to float16 and are float32 again once loaded; the codebook stays as it is. OUT is a run of its own,
with a hash of its own and without evaluation: rounded weights are measured anew.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from brainvq.errors import InputError
from brainvq.run import file_hash, read_config, save_weights, write_json


def halve(run: Path, out: Path) -> Path:
    """Write the run `out`, and return it; what is there already from the same weights stays.

    Raises:
        InputError: `run` is not trained to its end, a weight is too large for float16, or `out` is of other weights.
    """
    config = read_config(run)
    if not config["weights_sha256"]:
        raise InputError(f"{run} is not trained to its end: brainvq train ... --out {run} --resume.")
    if (out / "config.json").exists():
        if read_config(out).get("rounded_from") != config["weights_sha256"]:
            raise InputError(f"{out} comes from other weights than those of {run}. Move it away.")
        return out
    weights = load_file(run / "model.safetensors")
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not name.startswith("quantizer."):
            weights[name] = tensor.to(torch.float16)
            if not weights[name].isfinite().all():
                raise InputError(f"{run}: {name} does not fit into float16.")
    out.mkdir(parents=True)
    save_weights(out, weights)
    digest = file_hash(out / "model.safetensors")
    write_json(out / "config.json", {**config, "weights_sha256": digest, "rounded_from": config["weights_sha256"]})
    (out / "log.jsonl").write_bytes((run / "log.jsonl").read_bytes())
    return out


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m benchmarks.halve RUN OUT")
    try:
        print(halve(Path(sys.argv[1]), Path(sys.argv[2])))
    except InputError as error:
        sys.exit(str(error))
