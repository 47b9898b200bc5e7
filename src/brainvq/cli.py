"""The command line: thin subcommands over the library.

Errors that a user can mend go to stderr as one message with exit code 2; a signal that was heeded ends with 128 plus
its number; anything else is our own mistake and keeps its traceback. Heavy imports stay inside the commands, so that
`--help` answers at once.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from brainvq import __version__, screen
from brainvq.errors import InputError, counted, is_lack_of_memory, printable

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Discrete codes for brain MR images: train a tokenizer on slices, measure it, use it.\n\n"
    "Start with [bold]brainvq demo[/], which needs no data. Not a medical device.",
)

Data = Annotated[str, typer.Option("--data", "-d", help="Folder of slices or volumes, or 'cohort'.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder to write to.")]
Skip = Annotated[bool, typer.Option("--skip-broken", help="Leave out what cannot be read, and say which.")]
Force = Annotated[bool, typer.Option("--force", help="Replace files that exist.")]
Model = Annotated[Path, typer.Argument(metavar="MODEL", help="Run folder of a trained model, or a shipped one's name.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="path=value, such as train.epochs=10; may be repeated.")
]
DataSettings = Annotated[list[str] | None, typer.Option("--set", help="data.KEY=value, as for train.")]
Moved = Annotated[
    Path | None, typer.Option("--tokenizer", metavar="MODEL", help="Where a prior's tokenizer lies, if it moved.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint, if any.")]
Pattern = Annotated[
    str | None,
    typer.Option("--subject-pattern", help="Regular expression on paths below DATA; its one group is the subject."),
]


def _version(asked: bool) -> None:
    if asked:
        screen.out.print(f"brainvq {__version__}")
        raise typer.Exit


@app.callback()
def _every_command(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which version this is.")
    ] = False,
) -> None:
    pass


@app.command(epilog="Example: brainvq demo --out demo")
def demo(
    out: Out = Path("demo"),
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps; fewer are quicker and worse.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Start anew where an earlier demo lies.")] = False,
) -> None:
    """Everything once, on embedded data: synthetic heads, a tokenizer, a prior, their measures, new heads."""
    from brainvq.demo import run_demo

    found = run_demo(out, steps=steps, force=force)
    _print_evaluation(found.tokenizer)
    _print_evaluation(found.prior)
    for name in ("tokenizer", "prior"):
        screen.out.print(f"{name + ':':11}{out / name}, report {out / name / 'report.html'}")
    screen.out.print(f"new heads: {out / 'samples' / 'grid.png'}")


@app.command(epilog="Example: brainvq cohort --subjects 40 --out heads")
def cohort(
    out: Out,
    subjects: Annotated[int, typer.Option(help="How many heads.")] = 40,
    slices: Annotated[int, typer.Option(help="Axial slices of each, 1 mm apart.")] = 32,
    size: Annotated[int, typer.Option(help="Pixels a side; they cover 256 mm.")] = 256,
    seed: Annotated[int, typer.Option(help="The same seed gives the same heads.")] = 0,
    lesions: Annotated[float, typer.Option(help="Share of subjects with white-matter lesions, 0 to 1.")] = 0.0,
    force: Force = False,
) -> None:
    """Write the embedded synthetic data set as files: heads, tissue masks, subjects.csv."""
    from brainvq.data.cohort import write_cohort

    with screen.bar("heads") as progress:
        folder = write_cohort(
            out,
            subjects=subjects,
            slices=slices,
            size=size,
            seed=seed,
            lesions=lesions,
            force=force,
            progress=progress,
        )
    screen.out.print(f"{counted(subjects, 'head')} of {counted(slices, 'slice')}: {folder}")


@app.command(epilog="Example: brainvq check scans --sheet sheet.png")
def check(
    data: Annotated[str, typer.Argument(metavar="DATA", help="Folder of slices or volumes, or 'cohort'.")],
    sheet: Annotated[Path | None, typer.Option(help="Write a contact sheet to this PNG file.")] = None,
    subject_pattern: Pattern = None,
    settings: DataSettings = None,
    sharing: Annotated[bool, typer.Option("--sharing", help="Look for faces too, before data are given away.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """What is there, and all that is wrong, file by file; exit code 2 if training would fail.

    What was read is remembered: a second check, and the one that training begins with, take seconds.
    """
    from brainvq import check as checks

    how = _how_to_read(settings)
    if subject_pattern is not None:
        how["subject_pattern"] = subject_pattern
    _prepare(data)
    if sheet is not None:
        checks.refuse_sheet(data, sheet)
    with screen.bar("reading") as progress:
        found = checks.check(data, sharing=sharing, progress=progress, **how)
    if sheet is not None:
        named = {key: value for key, value in how.items() if key != "slicing"}
        checks.contact_sheet(data, sheet, **named)
        screen.err.print(f"contact sheet: {sheet}")
    if as_json:
        screen.out.print_json(json.dumps(found.to_json()))
    else:
        screen.out.print(checks.table(found), markup=True)
    if found.fatal:
        raise typer.Exit(2)


@app.command()
def presets() -> None:
    """One line for each named experiment."""
    from brainvq.presets import PRESETS, reason

    for name in PRESETS:
        screen.out.print(f"{name:22} {reason(name).splitlines()[0]}")


@app.command(epilog="Example: brainvq describe keras_f8")
def describe(
    preset: Annotated[str, typer.Argument(help="A name from `brainvq presets`.")],
    settings: Annotated[list[str] | None, typer.Option("--set", help="path=value, as for train.")] = None,
    size: Annotated[int, typer.Option(help="Pixels a side of the images.")] = 256,
    figure: Annotated[Path | None, typer.Option(help="Draw the diagram into this PNG or SVG file too.")] = None,
) -> None:
    """A preset's layers with shapes and parameters, its diagram, its settings and its reasons."""
    from brainvq import describe as describes
    from brainvq.config import override
    from brainvq.presets import preset as find
    from brainvq.presets import reason

    experiment = override(find(preset), settings or [])
    screen.out.print(reason(preset) + "\n")
    for part in describes.describe(experiment, (size, size)):
        screen.out.print(part, markup=True)
    if figure is not None:
        describes.draw(experiment, (size, size), figure)
        screen.out.print(f"diagram: {figure}")


@app.command(epilog="Example: brainvq train keras_f8_ema --data oasis --out runs/ema --set train.epochs=10")
def train(
    preset: Annotated[str, typer.Argument(help="A name from `brainvq presets`.")],
    data: Data,
    out: Out,
    tokenizer: Annotated[
        Path | None, typer.Option("--tokenizer", metavar="MODEL", help="Model whose codes a prior learns; priors only.")
    ] = None,
    settings: Settings = None,
    resume: Resume = False,
    subject_pattern: Pattern = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Log to OUT/tensorboard too (names the host).")
    ] = False,
) -> None:
    """Train a preset on the train split of DATA, and validate on its validate split.

    A prior (autoregressive, maskgit, dcgan, ...) learns the codes that the tokenizer of --tokenizer makes of DATA.
    Stop it with Ctrl-C and go on with --resume: the result is the same. Several processes: torchrun or accelerate
    launch, then -m brainvq train ...
    """
    from brainvq.config import override
    from brainvq.presets import preset as find
    from brainvq.session import train_run
    from brainvq.training.tensorboard import writer

    settings = _with_pattern(settings, subject_pattern)
    experiment = override(find(preset), settings)
    board = writer(out / "tensorboard") if tensorboard else None
    _prepare(data)
    with screen.training(preset) as show:

        def watch(event: dict[str, Any]) -> None:
            show(event)
            if board is not None:
                board(event)

        more = [] if tokenizer is None else ["--tokenizer", tokenizer.resolve().name]
        command = _command("train", preset, data, out, more, settings)
        train_run(experiment, data, out, tokenizer=tokenizer, resume=resume, command=command, watch=watch)
    if int(os.environ.get("RANK", "0")):
        return  # one of several processes speaks
    screen.out.print(f"model: {out}\nnext:  brainvq evaluate {out} --data {data}")
    if tokenizer is not None:
        screen.out.print(f"or:    brainvq sample {out} -n 16 --out samples")


@app.command(epilog="Example: brainvq finetune runs/ema --data scans --out runs/mine")
def finetune(
    model: Model,
    data: Data,
    out: Out,
    codebook: Annotated[bool, typer.Option("--codebook", help="Train the codebook too; else it is frozen.")] = False,
    decoder: Annotated[
        bool, typer.Option("--decoder", help="Train the decoder alone: images keep their codes.")
    ] = False,
    settings: Settings = None,
    resume: Resume = False,
    subject_pattern: Pattern = None,
) -> None:
    """Adapt a trained tokenizer to the train split of DATA: a tenth of its steps, a third of its learning rate.

    Encoder and decoder learn; the codebook is frozen, so that each code keeps its vector, unless --codebook. Either way
    OUT is a new model with a new hash: codes and priors of MODEL belong to MODEL, and are refused with OUT.
    Stop it with Ctrl-C and go on with --resume.
    """
    from brainvq.session import finetune_run

    _prepare(data)
    settings = _with_pattern(settings, subject_pattern)
    flags = [name for name, given in (("--codebook", codebook), ("--decoder", decoder)) if given]
    command = _command("finetune", model.name, data, out, flags, settings)
    with screen.training(f"finetune {model.name}") as watch:
        chosen = {"codebook": codebook, "encoder": not decoder, "settings": settings}
        finetune_run(model, data, out, **chosen, resume=resume, command=command, watch=watch)
    if not int(os.environ.get("RANK", "0")):  # one of several processes speaks
        screen.out.print(f"model: {out}\nnext:  brainvq evaluate {out} --data {data}")


@app.command(epilog="Example: brainvq evaluate runs/ema --data oasis --against runs/exact")
def evaluate(
    model: Model,
    data: Data,
    split: Annotated[str, typer.Option(help="train, validate or test.")] = "validate",
    settings: DataSettings = None,
    subject_pattern: Pattern = None,
    against: Annotated[Path | None, typer.Option(help="Another run, evaluated on the same split: differences.")] = None,
    tokenizer: Moved = None,
    anonymise: Annotated[
        Path | None,
        typer.Option("--anonymise", metavar="KEYFILE", help="Hash subjects with this key, made if missing."),
    ] = None,
    samples: Annotated[
        int, typer.Option(help="Of a prior: how many are drawn; realism needs 100, and 1,000 say more.")
    ] = 64,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Measure a model on a split: all measures with intervals over subjects, beside trivial baselines.
    Data are read as for training, but for what --set and --subject-pattern say.

    Of a prior: bits a code beside the histogram's, and samples beside real images.
    Written to MODEL/evaluation/SPLIT.json; of a shipped model, shown only.
    """
    from brainvq.evaluate import compare
    from brainvq.models import is_shipped, model_folder
    from brainvq.session import evaluate_run, refuse_priors, replaced_by, stored_evaluation
    from brainvq.tables import difference_table

    settings = _with_pattern(settings, subject_pattern)
    _prepare(data)
    if against is not None:
        refuse_priors(model, against)
    other = stored_evaluation(against, split) if against is not None else None
    before = None if is_shipped(model_folder(model)) else replaced_by(model, split)
    with screen.bar("evaluating") as progress:
        result = evaluate_run(
            model,
            data,
            split,
            settings=settings,
            tokenizer=tokenizer,
            key=anonymise,
            samples=samples,
            progress=progress,
        )
    if before is not None and any(before.get(key) != result["data"].get(key) for key in ("name", "fingerprint")):
        of = f"{before.get('name', 'other data')} (fingerprint {str(before.get('fingerprint'))[:12]})"
        screen.note(f"replaced the evaluation of {of} that was stored for {split}")
    difference = compare(result, other) if other is not None else None
    if as_json:
        screen.out.print_json(json.dumps({**result, "difference": difference} if difference else result))
        return
    _print_evaluation(result)
    if difference is not None:
        screen.out.print(difference_table(difference))
    if not is_shipped(model_folder(model)):
        screen.out.print(f"written: {model / 'evaluation' / f'{split}.json'}\nnext:    brainvq report {model}")


@app.command(epilog="Example: brainvq reconstruct runs/ema scans/*.png --out copies")
def reconstruct(
    model: Model,
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help="Images, volumes, or folders of them.")],
    out: Out,
    force: Force = False,
    skip_broken: Skip = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what is kept of each volume as JSON.")] = False,
) -> None:
    """Images through the codes and back: same names, same size, same grey values and dtype (JPEG becomes PNG).

    Volumes (NIfTI, Analyze, a folder of a DICOM series) come back as NIfTI in their own geometry and intensities, and a
    table says how much of each is kept. Not for diagnosis.
    """
    from brainvq.session import reconstruct_files
    from brainvq.tables import fidelity_table

    kept: list[tuple[str, dict[str, Any]]] = []
    with screen.bar("reconstructing") as progress:
        paths = reconstruct_files(
            model,
            inputs,
            out,
            force=force,
            skip_broken=skip_broken,
            progress=progress,
            tell=lambda path, found: kept.append((path.relative_to(out).as_posix(), found.to_json())),
            note=screen.note,
        )
    if as_json:
        screen.out.print_json(json.dumps(dict(kept)))
        return
    if kept:
        screen.out.print(fidelity_table(kept))
    screen.out.print(f"{_images_and_volumes(paths)}: {out}")


@app.command(epilog="Example: brainvq encode runs/ema scans --out codes")
def encode(
    model: Model,
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help="Images, volumes, or folders of them.")],
    out: Out,
    force: Force = False,
    skip_broken: Skip = False,
) -> None:
    """Images to codes: one NAME.codes.npz each, readable with NumPy."""
    from brainvq.session import encode_files

    with screen.bar("encoding") as progress:
        paths = encode_files(
            model, inputs, out, force=force, skip_broken=skip_broken, progress=progress, note=screen.note
        )
    screen.out.print(f"{counted(len(paths), 'file')} of codes: {out}")


@app.command(epilog="Example: brainvq decode runs/ema codes --out images")
def decode(
    model: Model,
    codes: Annotated[list[Path], typer.Argument(metavar="CODES...", help="Files of `brainvq encode`, or folders.")],
    out: Out,
    force: Force = False,
) -> None:
    """Codes back to images, by the model that encoded them."""
    from brainvq.session import decode_files

    with screen.bar("decoding") as progress:
        paths = decode_files(model, codes, out, force=force, progress=progress)
    screen.out.print(f"{_images_and_volumes(paths)}: {out}")


@app.command(epilog="Example: brainvq compress brain_f8 scans --out packed")
def compress(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="Run of a prior (histogram, context), or any tokenizer.")
    ],
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help="Images, volumes, or folders of them.")],
    out: Out,
    lossless: Annotated[
        bool, typer.Option("--lossless", help="Give back the very pixels: whole numbers of at most 16 bits.")
    ] = False,
    tokenizer: Moved = None,
    force: Force = False,
    skip_broken: Skip = False,
) -> None:
    """Images as small files: a .bvq of each volume, and one of the pictures of each folder.

    Lossy without --lossless: what comes back is what `reconstruct` gives on the same machine. Not for diagnosis.
    """
    from brainvq.archive.files import compress_files, told

    with screen.bar("compressing") as progress:
        packed = compress_files(
            model,
            inputs,
            out,
            tokenizer=tokenizer,
            lossless=lossless,
            force=force,
            skip_broken=skip_broken,
            progress=progress,
            note=screen.note,
        )
    screen.out.print(f"{told(packed)}: {out}")


@app.command(epilog="Example: brainvq decompress packed --out images")
def decompress(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files of `brainvq compress`, or folders.")],
    out: Out,
    model: Annotated[
        Path | None, typer.Option(metavar="MODEL", help="What compressed them, unless that is a shipped model.")
    ] = None,
    tokenizer: Moved = None,
    force: Force = False,
    skip_broken: Annotated[
        bool, typer.Option("--skip-broken", help="Leave out what a damaged file has lost, and say which.")
    ] = False,
) -> None:
    """Small files back to images, by the model that compressed them."""
    from brainvq.archive.files import decompress_files

    with screen.bar("decompressing") as progress:
        paths = decompress_files(
            files,
            out,
            model=model,
            tokenizer=tokenizer,
            force=force,
            skip_broken=skip_broken,
            progress=progress,
            note=screen.note,
        )
    screen.out.print(f"{_images_and_volumes(paths)}: {out}")


@app.command(epilog="Example: brainvq info packed/scans.bvq")
def info(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file of `brainvq compress`.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with the name of every scan.")] = False,
) -> None:
    """What a .bvq file holds, which model made it, and whether it is sound; exit code 2 if it is damaged."""
    from brainvq.archive import info as about

    found = about.info(file)
    if as_json:
        screen.out.print_json(json.dumps(found))
    else:
        screen.out.print(about.info_table(found))
    if found["damage"]:
        raise typer.Exit(2)


@app.command(epilog="Example: brainvq sample runs/pixelcnn -n 16 --out samples --seed 0")
def sample(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Run folder of a trained prior.")],
    out: Out,
    n: Annotated[int, typer.Option("-n", help="How many images.")] = 16,
    seed: Annotated[int, typer.Option(help="The same seed gives the same images.")] = 0,
    tokenizer: Annotated[
        Path | None, typer.Option(help="Run folder of the prior's tokenizer, if it was moved.")
    ] = None,
    cond: Annotated[
        list[str] | None, typer.Option("--cond", help="NAME=VALUE of a condition, such as slice=12; may be repeated.")
    ] = None,
    heads: Annotated[bool, typer.Option("--heads", help="-n whole heads, each slice on the one before.")] = False,
    keep: Annotated[
        tuple[Path, Path] | None,
        typer.Option("--keep", metavar="MASK IMAGE", help="Keep of IMAGE what is white in MASK, and fill in the rest."),
    ] = None,
    temperature: Annotated[float, typer.Option(help="Below 1: likelier codes, less variety.")] = 1.0,
    top_k: Annotated[int | None, typer.Option(help="Draw among the k likeliest codes.")] = None,
    top_p: Annotated[float, typer.Option(help="Draw among the likeliest codes that make up this probability.")] = 1.0,
    guidance: Annotated[float, typer.Option(help="Above 1: follow the conditions more than they ask for.")] = 1.0,
    steps: Annotated[int | None, typer.Option(help="In which a maskgit draws an image.")] = None,
    with_grain: Annotated[
        bool, typer.Option("--grain/--no-grain", help="Add the tokenizer's grain, where that was measured.")
    ] = True,
    audited: Annotated[
        bool, typer.Option("--audit/--no-audit", help="Look for copies, where the training cache is there.")
    ] = True,
    force: Annotated[bool, typer.Option("--force", help="Replace samples that lie in OUT.")] = False,
) -> None:
    """New images from a prior: pictures, their codes, a grid of both.

    Image i of a seed is the same however many are drawn: the same command goes on where it was interrupted, and a
    larger -n adds to what is there. What --cond leaves open is drawn evenly from what training has seen; with --keep
    it is left unsaid.
    """
    from brainvq.audit.sampled import audit_sampled
    from brainvq.priors.drawing import Drawing
    from brainvq.sampling import NOTICE, Wish, sample_files

    wish = Wish(_pairs(cond or []), Drawing(temperature, top_k, top_p, guidance, steps), heads, keep, with_grain)

    with screen.bar("sampling") as progress:
        drawn = sample_files(
            model,
            n,
            out,
            seed=seed,
            wish=wish,
            tokenizer=tokenizer,
            force=force,
            progress=progress,
            note=lambda text: screen.err.print(f"note: {text}", style="yellow"),
        )
    screen.out.print(f"{drawn.done} images ({drawn.new} new): {out / 'images'}\ngrid:   {out / 'grid.png'}")
    found = None
    if audited:
        with screen.bar("auditing") as progress:
            found = audit_sampled(model, out, tokenizer=tokenizer, progress=progress)
    screen.out.print(f"{found} Not a medical device." if found else NOTICE)
    if audited and found is None:
        command = f"brainvq audit {out} --data DATA --tokenizer {tokenizer or 'MODEL'}"
        screen.note(f"two subjects at least of train and of validate are not in the cache. With the data: {command}")


@app.command(epilog="Example: brainvq grain runs/ema --data oasis")
def grain(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Run folder of a trained tokenizer.")],
    data: Data,
    force: Annotated[bool, typer.Option("--force", help="Measure again what was measured.")] = False,
) -> None:
    """Measure what fine detail a tokenizer's images lack; `sample` then adds noise like it. See docs/grain.md.

    Writes MODEL/grain.json. Samples that are drawn afterwards have it, reconstructions never.
    """
    from brainvq.graining import measure_grain

    _prepare(data)
    with screen.bar("measuring grain") as progress:
        path = measure_grain(model, data, force=force, progress=progress)
    screen.out.print(
        f"grain: {path}\nSamples of priors of {model} have it from now on; brainvq sample --no-grain leaves it out."
    )


@app.command(epilog="Example: brainvq audit samples --data oasis --tokenizer runs/ema")
def audit(
    samples: Annotated[Path, typer.Argument(metavar="SAMPLES", help="Folder of `brainvq sample`, or of images.")],
    data: Data,
    tokenizer: Annotated[
        Path | None, typer.Option(metavar="MODEL", help="What decoded the samples, unless that is a shipped model.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder to write to, else SAMPLES/audit.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Are samples copies of training subjects? Their nearest training slices, beside how near unseen subjects come.

    Writes audit.json and pairs.png, the ten closest pairs. What it finds, and what it cannot see: docs/audit.md. The
    exit code is 0 whatever is found.
    """
    from brainvq.audit import audit_samples
    from brainvq.audit.table import audit_table

    _prepare(data)
    with screen.bar("auditing") as progress:
        result = audit_samples(samples, data, tokenizer=tokenizer, out=out, progress=progress)
    if as_json:
        screen.out.print_json(json.dumps(result))
        return
    screen.out.print(audit_table(result))
    screen.out.print(f"written: {out or samples / 'audit'}\n\n{result['sentence']}")


@app.command(epilog="Example: brainvq report runs/ema")
def report(run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")]) -> None:
    """Write RUN/report.html: one page with curves, pictures, measures, provenance; it needs no network."""
    from brainvq.report import write_report

    screen.out.print(f"report: {write_report(run)}")


def _pairs(texts: list[str]) -> dict[str, str]:
    """NAME=VALUE, each name once."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (equals and name.strip() and value.strip()) or name.strip() in found:
            raise InputError(f"--cond {text}: expected NAME=VALUE, such as slice=12, and each name once.")
        found[name.strip()] = value.strip()
    return found


def main() -> None:
    """Run the command line, and turn what a user can mend into one message."""
    from brainvq.training.interrupt import Interrupted

    screen.survive_any_text()
    try:
        app()
    except InputError as error:
        _fail(str(error), 2)
    except Interrupted as stop:
        _fail(str(stop), 128 + stop.signum)
    except OSError as error:
        _fail(f"{error.filename or 'input or output'}: {error.strerror or error}.", 2)
    except (MemoryError, RuntimeError) as error:
        if not is_lack_of_memory(error):
            raise
        remedy = "Give smaller images or volumes, or close other programs; of a training lower train.batch_size."
        _fail(f"the memory does not suffice ({error}). {remedy}", 2)


def _fail(message: str, code: int) -> None:
    screen.err.print(f"brainvq: {printable(message)}", style="red")
    sys.exit(code)


def _how_to_read(settings: list[str] | None) -> dict[str, Any]:
    """What `check` is to be told of the settings of a training."""
    if not settings:
        return {}  # without the time that the import takes
    from brainvq.config import override
    from brainvq.training.experiment import Experiment

    config = override(Experiment(preset="none"), settings).data
    return {"subject_pattern": config.subject_pattern, "suffix": config.suffix, "slicing": config.slicing}


def _prepare(data: str) -> None:
    """Make the embedded data set with a bar, if it is asked for and not there yet."""
    if data == "cohort":
        from brainvq.data.cohort import cached_cohort

        with screen.bar("embedded heads") as progress:
            cached_cohort(progress=progress)


def _images_and_volumes(paths: list[Path]) -> str:
    from brainvq.data.scan import NIFTI

    volumes = sum(path.name.lower().endswith(NIFTI) for path in paths)
    numbers = ((volumes, "volume"), (len(paths) - volumes, "image"))
    return " and ".join(counted(number, noun) for number, noun in numbers if number)


def _print_evaluation(result: dict[str, Any]) -> None:
    from brainvq.tables import prior_table, table

    screen.out.print(prior_table(result) if result.get("kind") == "prior" else table(result))


def _with_pattern(settings: list[str] | None, pattern: str | None) -> list[str]:
    told = [] if pattern is None else [f"data.subject_pattern={json.dumps(pattern)}"]
    return [*(settings or []), *told]


def _command(verb: str, what: str, data: str, out: Path, more: list[str], settings: list[str]) -> str:
    """The command that starts this run, for the record; of paths only the last part."""
    words = ["brainvq", verb, what, "--data", os.path.basename(os.path.abspath(data)), "--out", out.name]  # noqa: PTH100, PTH119
    return shlex.join([*words, *more, *(word for setting in settings for word in ("--set", setting))])
