"""What the commands do with files and runs, callable from Python too: train, evaluate, take files through a model."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from brainvq import run as runs
from brainvq.audit import audit_images
from brainvq.check import check, refuse_fatal
from brainvq.config import from_json, to_json
from brainvq.data import scan as scans
from brainvq.data.anonymise import anonymised, key_of
from brainvq.data.cache import cache_folder
from brainvq.data.loader import open_cache
from brainvq.data.scan import Scan
from brainvq.data.slicing import Slicing
from brainvq.data.sources import Source, open_splits
from brainvq.data.volume_cache import with_size
from brainvq.errors import InputError, counted
from brainvq.evaluate import evaluate, mean_image
from brainvq.evaluate_prior import SAMPLES, evaluate_prior
from brainvq.fidelity import Fidelity, fidelity, too_narrow
from brainvq.files import gather, outputs, staged
from brainvq.inputs import Intake, Note, lossless, scans_in
from brainvq.inputs import silence as silent
from brainvq.models import is_shipped, model_folder, open_model
from brainvq.pipeline import Generator, Pipeline, load, load_encoded, load_generator, save_encoded
from brainvq.report import save_examples, save_prior_examples
from brainvq.training.devices import keep_freed_memory
from brainvq.training.encoded import encode_split
from brainvq.training.experiment import (
    DataConfig,
    Experiment,
    TokenizerExperiment,
    Watch,
    read_otherwise,
    silence,
    train,
)
from brainvq.training.finetune import finetune, finetuning
from brainvq.training.labelled import LabelledSplit, read_columns, values_of
from brainvq.training.prior_experiment import PriorExperiment, train_prior

Progress = Callable[[int, int], None]
CODES = ".codes.npz"


def train_run(
    experiment: Experiment, data: str | Path, out: Path, *, tokenizer: Path | None = None, **settings: Any
) -> Path:
    """Check the data, then train a tokenizer, or a prior of the codes of `tokenizer`; see `train` and `train_prior`.

    Raises:
        InputError: a tokenizer is missing, or not needed; the data are not fit for it; and what those raise.
    """
    if isinstance(experiment, PriorExperiment):
        if tokenizer is None:
            raise InputError(
                f"{experiment.preset} is a prior: it learns the codes of a trained tokenizer. Name that by --tokenizer."
            )
        folder = model_folder(tokenizer)
        _check_first(data, experiment.data, out, **settings)
        return train_prior(experiment, folder, data, out, **settings)
    assert isinstance(experiment, TokenizerExperiment)
    if tokenizer is not None:
        raise InputError(f"{experiment.preset} is a tokenizer itself: leave --tokenizer out.")
    _check_first(data, experiment.data, out, **settings)
    return train(experiment, data, out, **settings)


def _check_first(
    data: str | Path, config: DataConfig, out: Path, *, resume: bool = False, watch: Watch = silence, **_: Any
) -> None:
    """Raises InputError where the data are not fit to be trained on; not of those that we made ourselves.

    Of several processes the first one looks; the others wait for it where they would read the data.
    """
    runs.refuse_foreign_folder(out, resume=resume)
    ours = data == "cohort" or Path(data).absolute().is_relative_to(cache_folder().absolute())
    if ours or int(os.environ.get("RANK", "0")):
        return
    found = check(
        str(data),
        subject_pattern=config.subject_pattern,
        suffix=config.suffix,
        slicing=config.slicing,
        progress=lambda done, count: watch({"event": "read", "split": "data", "done": done, "count": count}),
    )
    command = shlex.join(["brainvq", "check", str(data), *_settings_of(config)])
    refuse_fatal(found, str(data), command)
    if found.problems:
        watch({"event": "note", "message": f"{counted(len(found.problems), 'warning')} about {data}; see {command}"})


def _settings_of(config: DataConfig) -> list[str]:
    """The options of `check` that read data alike."""
    words, usual = [], to_json(DataConfig())
    for key, value in to_json(config).items():
        if value != usual[key]:
            text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
            words += ["--set", f"data.{key}={text}"]
    return words


def finetune_run(model: Path, data: str | Path, out: Path, **settings: Any) -> Path:
    """Train the tokenizer `model` further; see `finetune`.

    Raises:
        InputError: `model` is none, or a prior; and what `finetune` raises.
    """
    folder = model_folder(model)
    if runs.read_config(folder).get("kind") == "prior":
        raise InputError(f"{model} is a prior; fine-tuning is for tokenizers. Train a new prior on the fine-tuned one.")
    trained = open_model(folder)
    _check_first(data, finetuning(trained, settings.get("settings", ())).data, out, **settings)
    return finetune(trained, data, out, **settings)


def evaluate_run(
    folder: Path,
    data: str,
    split: str,
    *,
    settings: Sequence[str] = (),
    tokenizer: Path | None = None,
    key: Path | None = None,
    samples: int = SAMPLES,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure the model of a run on a split of `data`, store the result in the run, and return it.

    A shipped model is measured alike, and nothing is stored. `key`: a file, made if missing, with whose key the
    subjects are hashed, so that the result names none. `samples`: of a prior, that are drawn and measured.

    The data are read and split as they were for training, but for `settings`, such as "data.suffix=T2w", which the
    result keeps; a prior is measured on nothing but the data of its training, and takes none. For a tokenizer, the mean
    training image is a baseline where there is a train split of the same size. For a prior, `tokenizer` says where its
    tokenizer lies if that was moved.

    Raises:
        InputError: not a run, or no such split or setting; or the key would lie in the run.
    """
    keep_freed_memory()
    folder = model_folder(folder)
    if settings and runs.read_config(folder).get("kind") == "prior":
        raise InputError(
            f"{folder} is a prior, which is measured on the data of its training, read as they were then. "
            "Leave out --set and --subject-pattern."
        )
    if key is not None and key.resolve().is_relative_to(folder.resolve()):
        raise InputError(
            f"the key {key} would lie inside the run {folder}, and be shared with it. Name a file elsewhere."
        )
    if runs.read_config(folder).get("kind") == "prior":
        return _evaluate_prior(folder, data, split, tokenizer, key, samples, progress)
    return _evaluate_tokenizer(folder, data, split, key, progress, settings)


def _evaluate_tokenizer(
    folder: Path, data: str, split: str, key: Path | None, progress: Progress | None, settings: Sequence[str] = ()
) -> dict[str, Any]:
    pipeline = load(folder)
    experiment = read_otherwise(from_json(TokenizerExperiment, pipeline.config["experiment"]), settings)
    splits, slicing = _splits(data, split, key, experiment)
    source = splits[split]
    cache = open_cache(source, multiple=_multiple(pipeline), slicing=slicing, device=pipeline.device)
    mean = mean_image(open_cache(splits["train"], slicing=slicing)) if "train" in splits else None
    result = evaluate(pipeline, source, cache, split=split, model=_named(pipeline), train_mean=mean, progress=progress)
    if settings:
        result["data"]["settings"] = list(settings)
    if not is_shipped(folder):
        _store(folder, split, result)
        save_examples(folder, pipeline, cache, result)
    return result


def _evaluate_prior(
    folder: Path,
    data: str,
    split: str,
    tokenizer: Path | None,
    key: Path | None,
    samples: int,
    progress: Progress | None,
) -> dict[str, Any]:
    generator = load_generator(folder, tokenizer)
    experiment = from_json(PriorExperiment, generator.config["experiment"])
    splits, slicing = _splits(data, split, key, experiment)
    if "train" not in splits or split == "train":
        raise InputError(
            f"a prior is measured on unseen images beside those of its train split; {data} has {', '.join(splits)} and "
            f"{split} was asked for. Give data with a train split, and --split validate or test."
        )
    multiple, device = _multiple(generator.pipeline), generator.pipeline.device
    caches = {
        name: open_cache(splits[name], multiple=multiple, slicing=slicing, device=device) for name in ("train", split)
    }
    _refuse_other_train_split(folder, generator.config, data, caches["train"].fingerprint)
    prior, named = generator.prior, caches[split]
    if key is not None and prior.conditions:  # a table knows subjects by their own names
        plain, _ = _splits(data, split, None, experiment)
        named = open_cache(plain[split], multiple=multiple, slicing=slicing, device=device)
    values = values_of(read_columns(experiment.conditions, named.root, named), prior.conditions)
    codes = {name: encode_split(generator.tokenizer, cache, progress) for name, cache in caches.items()}
    found = evaluate_prior(
        generator,
        codes["train"],
        codes[split],
        caches["train"],
        caches[split],
        split=split,
        model=_named(generator),
        n=samples,
        labelled=LabelledSplit(codes[split], values, previous=prior.takes_previous),
        anonymous=key is not None,
        progress=progress,
    )
    _store(folder, split, found.result)
    save_prior_examples(
        folder,
        found.result,
        codes=found.codes,
        images=found.images,
        nearest=found.nearest,
        real_codes=found.real_codes,
        real_images=found.real_images,
        orders=generator.orders,
    )
    pairs = folder / "evaluation" / f"{split}-pairs.png"
    found.result["audit"] = audit_images(
        found.images, generator.pipeline, caches["train"], caches[split], pairs, progress=progress or (lambda *_: None)
    )
    _store(folder, split, found.result)
    return found.result


def _refuse_other_train_split(folder: Path, config: dict[str, Any], data: str, fingerprint: str) -> None:
    """Nearest training images, and the histogram's bits, mean nothing but with the images that the prior has seen."""
    try:
        seen = config["data"]["splits"]["train"]["fingerprint"]
    except (KeyError, TypeError) as error:
        raise InputError(f"{folder / 'config.json'} is damaged: {type(error).__name__} {error}.") from error
    if seen != fingerprint:
        raise InputError(
            f"{folder} was trained on other images (SHA-256 {str(seen)[:12]}) than the train split of {data} "
            f"({fingerprint[:12]}), so samples cannot be held against what it has seen. Give the data of its training."
        )


def _splits(data: str, split: str, key: Path | None, experiment: Experiment) -> tuple[dict[str, Source], Slicing]:
    """The splits of `data`, and how volumes are cut: as they were for training. With a key, of nameless subjects."""
    config = experiment.data
    found = open_splits(data, subject_pattern=config.subject_pattern, suffix=config.suffix)
    splits: dict[str, Source] = dict(found.items())
    if split not in splits:
        raise InputError(f"{data} has no {split} split. It has: {', '.join(splits)}.")
    if key is not None:
        secret = key_of(key)
        splits = {name: anonymised(source, secret) for name, source in splits.items()}
    return splits, with_size(config.slicing, splits.values())


def _store(folder: Path, split: str, result: dict[str, Any]) -> None:
    (folder / "evaluation").mkdir(exist_ok=True)
    runs.write_json(folder / "evaluation" / f"{split}.json", result)


def _multiple(pipeline: Pipeline) -> tuple[int, int]:
    return pipeline.spec.multiple[0], pipeline.spec.multiple[1]


def refuse_priors(*folders: Path) -> None:
    """Raises InputError if one of these runs, whose differences are asked for, is a prior."""
    for folder in folders:
        if runs.read_config(model_folder(folder)).get("kind") == "prior":
            raise InputError(f"{folder} is a prior; differences are told between two tokenizers. Compare the tables.")


def replaced_by(folder: Path, split: str) -> dict[str, Any] | None:
    """The data of the evaluation that the next one of this split takes the place of; None where there is none."""
    try:
        found = stored_evaluation(folder, split)["data"]
    except (InputError, KeyError):
        return None
    return found if isinstance(found, dict) else None


def stored_evaluation(folder: Path, split: str) -> dict[str, Any]:
    """The evaluation that a run already has.

    Raises:
        InputError: not a run, not evaluated on that split, or the file is damaged.
    """
    folder = model_folder(folder)
    runs.read_config(folder)
    path = folder / "evaluation" / f"{split}.json"
    if not path.exists():
        raise InputError(f"{folder} is not evaluated on {split}. First: brainvq evaluate {folder} --split {split} ...")
    again = f"Evaluate again: brainvq evaluate {folder} --split {split} ..."
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged ({error}). {again}") from error
    if not isinstance(values, dict):
        raise InputError(f"{path} holds no evaluation. {again}")
    return values


def reconstruct_files(
    model: Path,
    inputs: Sequence[Path],
    out: Path,
    *,
    force: bool = False,
    skip_broken: bool = False,
    progress: Progress | None = None,
    tell: Callable[[Path, Fidelity], None] | None = None,
    note: Note = silent,
) -> list[Path]:
    """Every image of `inputs` through the codes and back, into `out`; a JPEG becomes a PNG, for JPEG would lose more.

    A volume becomes a NIfTI in its own geometry and intensities, and `tell` is called with how much of it is kept.
    Label maps in folders are left out by name; files are taken as given. `out` gets all outputs, or none; with
    `skip_broken` those of all that can be read. `note` is told of what is left out.

    Raises:
        InputError: an input cannot be read, or an output exists and `force` is not set.
    """
    pipeline = load(model)
    found = scans_in(inputs, skip=skip_broken, note=note)
    paths = outputs([lossless(name) for _, name in found.scans], out, force=force)

    def convert(scan: Scan, path: Path, target: Path) -> None:
        encoded = pipeline.encode(scan)
        copy = pipeline.decode(encoded)
        scans.write(copy, target)
        if tell is not None and encoded.frame.plane is not None:
            tell(path, fidelity(scan, copy, encoded.frame))
            if why := too_narrow(scan, encoded.frame):
                note(f"{path.relative_to(out)}: {why}")

    return _each_scan(found, paths, out, convert, progress)


def encode_files(
    model: Path,
    inputs: Sequence[Path],
    out: Path,
    *,
    force: bool = False,
    skip_broken: bool = False,
    progress: Progress | None = None,
    note: Note = silent,
) -> list[Path]:
    """Every image of `inputs` as a file of codes, `NAME.codes.npz`. Reads and raises as `reconstruct_files`."""
    pipeline = load(model)
    found = scans_in(inputs, skip=skip_broken, note=note)
    paths = outputs([name.with_name(name.name + CODES) for _, name in found.scans], out, force=force)

    def convert(scan: Scan, path: Path, target: Path) -> None:
        save_encoded(pipeline.encode(scan), target)

    return _each_scan(found, paths, out, convert, progress)


def _each_scan(
    found: Intake,
    paths: Sequence[Path],
    out: Path,
    convert: Callable[[Scan, Path, Path], None],
    progress: Progress | None,
) -> list[Path]:
    """convert(scan, path, target) of one after the other; the paths of the sound ones, which come to be together."""
    with staged(paths, out) as targets:
        for done, ((entry, name), path) in enumerate(zip(found.scans, paths, strict=True), start=1):
            scan = found.read(entry, name)
            if scan is None:
                del targets[path]
            else:
                convert(scan, path, targets[path])
            del scan  # before the next is read: volumes are large
            if progress is not None:
                progress(done, len(paths))
        found.refuse_broken()
    found.tell()
    return list(targets)


def decode_files(
    model: Path, inputs: Sequence[Path], out: Path, *, force: bool = False, progress: Progress | None = None
) -> list[Path]:
    """Every file of codes back to the image that it stands for. Raises as `reconstruct_files`."""
    pipeline = load(model)
    found = gather(inputs, (CODES,))
    paths = outputs([_decoded_name(source, name) for source, name in found], out, force=force)
    with staged(paths, out) as targets:
        for done, ((source, _), path) in enumerate(zip(found, paths, strict=True), start=1):
            encoded = replace(load_encoded(source), name=str(source))  # errors name this file, not the scan it was of
            scans.write(pipeline.decode(encoded), targets[path])
            if progress is not None:
                progress(done, len(found))
    return paths


def _decoded_name(source: Path, name: Path) -> Path:
    """That of the image; where it has lost its suffix a picture is a PNG, and a volume a NIfTI."""
    if name.name == CODES:
        raise InputError(f"{source}: has no name before {CODES}. Rename it.")
    whole = name.with_name(name.name.removesuffix(CODES))
    if not whole.name.lower().endswith(scans.SUFFIXES) and load_encoded(source).frame.affine is not None:
        return whole.with_name(whole.name + ".nii.gz")
    return lossless(whole)


def _named(model: Pipeline | Generator) -> dict[str, Any]:
    config = model.config
    kept = ("preset", "version", "steps", "images_seen", "wall_time_s", "parameters", "hardware", "seed")
    return {**{name: config.get(name) for name in kept}, "weights_sha256": model.weights_sha256}
