"""Fine-tuning: the training of a trained tokenizer goes on with other data, gently and for a short while.

The codebook is held by default, and encoder and decoder adapt around it: every entry keeps its vector and its place, so
that what was learned of the codes stays meaningful. The decoder alone may learn too: then every image keeps its codes,
and only the images that codes become are others. It is a new model all the same, with a hash of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from brainvq.config import from_json, override, paths, to_json
from brainvq.errors import InputError
from brainvq.models import Model
from brainvq.training.experiment import TokenizerExperiment, Watch, silence, train
from brainvq.training.start import Start

RATE = 1 / 3  # of the learning rate that the model was trained with
SHARE = 1 / 10  # of its steps


def finetune(
    model: Model,
    data: str | Path,
    out: Path,
    *,
    codebook: bool = False,
    encoder: bool = True,
    settings: Sequence[str] = (),
    resume: bool = False,
    command: str = "",
    watch: Watch = silence,
) -> Path:
    """Train `model` further on the train split of `data` into the run folder `out`, and return it.

    `codebook`, `encoder`: whether these are trained too. `settings`: path=value, as for training.

    Raises:
        InputError: as `train`; or the settings change the tokenizer; or the codebook is to be trained without encoder.
    """
    if codebook and not encoder:
        raise InputError("a codebook cannot learn while the encoder is held. Leave out --codebook or --decoder.")
    experiment = finetuning(model, settings)
    return train(
        experiment, data, out, start=Start(model, codebook, encoder), resume=resume, command=command, watch=watch
    )


def finetuning(model: Model, settings: Sequence[str] = ()) -> TokenizerExperiment:
    """The experiment that `model` was trained by, at a third of its learning rate for a tenth of its steps.

    Raises:
        InputError: no such setting, or one of the tokenizer, whose weights are there already.
    """
    before = from_json(TokenizerExperiment, model.config["experiment"])
    gentle = {"learning_rate": before.train.learning_rate * RATE, "steps": None, "epochs": None}
    base = before.model_copy(update={"train": before.train.model_copy(update=gentle)})
    found = override(base, list(settings))
    _refuse_other_tokenizer(base, found)
    if found.train.steps is None and found.train.epochs is None:
        steps = max(1, round(SHARE * _steps(model)))
        found = found.model_copy(update={"train": found.train.model_copy(update={"steps": steps})})
    return found


def _steps(model: Model) -> int:
    """That it was trained for, or was to be."""
    told = model.config.get("steps") or model.config.get("planned_steps")
    if not isinstance(told, int):
        raise InputError(
            f"{model.folder / 'config.json'} is damaged: its steps are {told!r}. Set train.steps yourself."
        )
    return told


def _refuse_other_tokenizer(base: TokenizerExperiment, found: TokenizerExperiment) -> None:
    if base.tokenizer != found.tokenizer:
        fixed = [path for path in paths(to_json(found)) if path.startswith("tokenizer.")]
        raise InputError(
            "fine-tuning starts from trained weights and keeps their tokenizer: leave out --set of "
            f"{', '.join(fixed)}. To change those, train anew: brainvq train {base.preset} ..."
        )
