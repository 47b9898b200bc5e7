"""One self-contained HTML page for a run: what was trained, on what, how good it is, and how to say so in a paper.

The page is drawn from the run folder alone, never from the data: evaluation keeps the few pictures that it needs
(`examples.py`, `prior_examples.py`), so a run can be reported on a machine without data or GPU. What a run does not
have yet is named on the page, with the command that makes it. Everything that comes from the run is escaped, and the
page forbids itself scripts and network (Content-Security-Policy): a stranger's run cannot do anything in the reader's
browser.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from brainvq import run as runs
from brainvq.data.scan import atomic
from brainvq.errors import InputError
from brainvq.models import model_folder
from brainvq.report.codebook_drawings import draw_codebook
from brainvq.report.drawings import draw
from brainvq.report.examples import save_examples
from brainvq.report.ink import Drawing
from brainvq.report.page import page
from brainvq.report.prior_drawings import draw_prior
from brainvq.report.prior_examples import save_prior_examples
from brainvq.report.prior_page import prior_page
from brainvq.report.prior_record import read_prior_record
from brainvq.report.record import read_record

__all__ = ["save_examples", "save_prior_examples", "write_report"]


def write_report(folder: str | Path) -> Path:
    """Write `folder`/report.html, and its figures as PNG files into `folder`/figures; the path of the page.

    Raises:
        InputError: not a run, or the folder cannot be written.
    """
    folder = Path(folder)
    if (where := model_folder(folder)) != folder:
        raise InputError(
            f"there is no folder {folder} here; {folder} is a shipped model, whose page is its model card. "
            f"Read {where / 'MODEL_CARD.md'}."
        )
    drawings, text = _drawn(folder)
    try:
        (folder / "figures").mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder / 'figures'}: cannot be made ({error.strerror}).") from error
    for drawing in drawings.values():
        with atomic(folder / "figures" / f"{drawing.name}.png") as file:
            file.write(drawing.png)
    with atomic(folder / "report.html") as file:
        file.write(text.encode(errors="backslashreplace"))
    return folder / "report.html"


def _drawn(folder: Path) -> tuple[Mapping[str, Drawing], str]:
    """The figures and the page of a tokenizer or of a prior."""
    if runs.read_config(folder).get("kind") == "prior":
        prior = read_prior_record(folder)
        drawings = draw_prior(prior)
        return drawings, prior_page(prior, drawings)
    record = read_record(folder)
    drawings = draw(record) | draw_codebook(record)
    return drawings, page(record, drawings)
