"""Tables of the priors that are compared in full: realism, copies, bits and seconds of each; and how fast they draw."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from benchmarks.stored import device_of, results_of
from brainvq.evaluate_prior.realistic import OF_HEADS, PLAIN
from brainvq.metrics.definitions import WHOLE_HEADS
from brainvq.metrics.realism import FAMILY_LABELS, REALISM

COMPARED = ("f16_histogram", "f16_dcgan", "f16_pixelcnn", "f16_maskgit_0", "f16_autoregressive_0", "f16_heads_0")
BEFORE = "previous slice"
SEEDED = ("f16_maskgit", "f16_autoregressive", "f16_heads")
FAMILIES = ("statistics", "look")
SAMPLERS = {
    "monai": "MONAI's transformer and inferer",
    "pixelcnn, whole network": "`pixelcnn`, the whole network for each code",
    "pixelcnn": "`pixelcnn`",
    "autoregressive, whole network": "`autoregressive`, the whole network for each code",
    "autoregressive": "`autoregressive`",
    "maskgit": "`maskgit`",
    "dcgan": "`dcgan`",
}


def priors(results: Path) -> str:
    """All of them, beside what bounds them: real images through the tokenizer, and real images."""
    found = results_of(results, COMPARED)
    if not found:
        return ""
    lines = [
        "| | bits a code | Fréchet distance: statistics, look | coverage: statistics, look | diversity: pairwise SSIM "
        "| flagged as copies | s an image |",
        "|---|---|---|---|---|---|---|",
        *(_prior(each) for each in found.values()),
    ]
    evaluation = next(iter(found.values()))["evaluation"]
    families = evaluation["realism"]["families"]
    through = {name: families[name]["sets"]["tokenizer"]["measures"] for name in FAMILIES}
    floor = {name: families[name]["floor"] for name in FAMILIES}
    diversity = f"{evaluation['measures']['diversity']['real']:.3f}"
    lines.append(
        _row("train images through the tokenizer; diversity of held-out ones", "-", through, diversity, "-", "-")
    )
    for each in found.values():
        sets = {name: family["sets"] for name, family in each["evaluation"]["realism"]["families"].items()}
        if OF_HEADS in sets[FAMILIES[0]]:
            few = {name: sets[name][OF_HEADS]["measures"] for name in FAMILIES}
            lines.append(_row("slices of as few train heads through the tokenizer", "-", few, "-", "-", "-"))
    lines.append(_row("the floor: real images of other subjects", "-", floor, "-", "-", "-"))
    lines.append(
        f"\n{evaluation['realism']['images']} images of each; 95 % intervals over subjects, of samples over draws. "
        "Flagged: of as many samples, where held-out real slices through the tokenizer give about 1 %."
    )
    return "\n".join(lines) + "\n"


def _prior(found: dict[str, Any]) -> str:
    run, evaluation = found["run"], found["evaluation"]
    bits, audit = evaluation["bits"], evaluation.get("audit")
    measures = {
        name: family["sets"]["samples"]["measures"] for name, family in evaluation["realism"]["families"].items()
    }
    return _row(
        _label(run),
        _bits(run["preset"], bits) if bits else "none",
        measures,
        f"{evaluation['measures']['diversity']['samples']:.3f}",
        f"{audit['flagged']['share']:.1%}" if audit else "not audited",
        f"{evaluation['samples']['seconds_each']:.2f}",
    )


def _label(run: dict[str, Any]) -> str:
    whole = run["experiment"]["prior"].get("previous")
    return f"`{run['preset']}`" + (", whole heads" if whole else "")


def _bits(preset: str, bits: dict[str, Any]) -> str:
    at_most = "" if bits["exact"] else "at most "
    saved = f" ({-bits['saved']['mean']:+.1%})" if preset != "histogram" else ""
    alone = f"{at_most}{bits['per_code']['mean']:.3f}{saved}"
    if BEFORE not in bits["told"]:
        return alone
    told, baseline = bits["told_per_code"]["mean"], bits["histogram_per_code"]["mean"]
    return f"{told:.3f} ({told / baseline - 1:+.1%}) a head, {alone} a slice by itself"


def _row(label: str, bits: str, measures: dict[str, Any], diversity: str, flagged: str, seconds: str) -> str:
    both = {
        of: ", ".join(_estimate(measures[family][of], digits) for family in FAMILIES)
        for of, digits in (("frechet", 1), ("coverage", 2))
    }
    return "| " + " | ".join([label, bits, both["frechet"], both["coverage"], diversity, flagged, seconds]) + " |"


def _estimate(found: dict[str, float], digits: int) -> str:
    return f"{found['value']:.{digits}f} [{found['low']:.{digits}f}, {found['high']:.{digits}f}]"


def prior_seeds(results: Path) -> str:
    """The spread of the best over seeds: of single images two, and of whole heads."""
    lines = []
    for name in SEEDED:
        found = [*results_of(results, tuple(f"{name}_{seed}" for seed in range(3))).values()]
        if len(found) > 1:
            columns = [[_headline(each["evaluation"]["bits"]) for each in found]]
            columns += [
                [each["evaluation"]["realism"]["families"][family]["sets"]["samples"]["measures"][of]["value"]
                 for each in found]
                for of in ("frechet", "coverage")
                for family in FAMILIES
            ]  # fmt: skip
            cells = [f"{statistics.mean(each):.3f} ± {statistics.stdev(each):.3f}" for each in columns]
            cells.append(", ".join(f"{each['evaluation']['audit']['flagged']['share']:.1%}" for each in found))
            lines.append("| " + " | ".join([f"{_label(found[0]['run'])}, {len(found)} seeds", *cells]) + " |")
    if not lines:
        return ""
    heading = "| mean ± standard deviation | bits a code | Fréchet, statistics | Fréchet, look | coverage, statistics "
    heading += "| coverage, look | flagged as copies, each |"
    return "\n".join([heading, "|---|---|---|---|---|---|---|", *lines]) + "\n"


def _headline(bits: dict[str, Any]) -> float:
    """Of an image told nothing; of whole heads, of all their slices."""
    return float(bits["told_per_code" if BEFORE in bits["told"] else "per_code"]["mean"])


def realism(results: Path) -> str:
    """Every measure of every prior, in both families."""
    found = results_of(results, COMPARED)
    if not found:
        return ""
    lines = []
    names = [_label(each["run"]) for each in found.values()]
    for family in FAMILIES:
        families = [each["evaluation"]["realism"]["families"][family] for each in found.values()]
        lines += [
            f"| {FAMILY_LABELS[family]} | " + " | ".join(names) + " | tokenizer | floor |",
            "|---" * (len(names) + 3) + "|",
        ]
        for of, measure in REALISM.items():
            values = [each["sets"]["samples"]["measures"][of] for each in families]
            values += [families[0]["sets"]["tokenizer"]["measures"][of], families[0]["floor"][of]]
            lines.append("| " + " | ".join([measure.label, *(_estimate(value, 2) for value in values)]) + " |")
        lines.append("")
    return "\n".join(lines)


def grain(results: Path) -> str:
    """What grain does to each prior's samples and to training images through the tokenizer, in both families."""
    found = {
        name: each
        for name, each in results_of(results, COMPARED).items()
        if "tokenizer" + PLAIN in each["evaluation"]["realism"]["families"][FAMILIES[0]]["sets"]
    }
    if not found:
        return ""
    lines = [
        "| without grain, and with it | Fréchet, statistics | coverage, statistics | Fréchet, look | coverage, look |",
        "|---|---|---|---|---|",
    ]
    lines += [_grain(_label(each["run"]), each, "samples") for each in found.values()]
    through = _grain("train images through the tokenizer", next(iter(found.values())), "tokenizer")
    return "\n".join([*lines, through]) + "\n"


def _grain(label: str, found: dict[str, Any], which: str) -> str:
    families = found["evaluation"]["realism"]["families"]
    cells = []
    for family in FAMILIES:
        sets = families[family]["sets"]
        for of, digits in (("frechet", 1), ("coverage", 2)):
            pair = [sets[name]["measures"][of]["value"] for name in (which + PLAIN, which)]
            cells.append(", ".join(f"{value:.{digits}f}" for value in pair))
    return "| " + " | ".join([label, *cells]) + " |"


def heads(results: Path) -> str:
    """How heads that are made slice after slice change from one slice to the next, beside real ones."""
    found = results_of(results, COMPARED[-1:])
    if not found:
        return ""
    told = found[COMPARED[-1]]["evaluation"]["heads"]
    lines = [
        "| | " + " | ".join(each.label for each in WHOLE_HEADS.values()) + " |",
        "|---|" + "---|" * len(WHOLE_HEADS),
    ]
    for name, label in (("samples", "made slice after slice"), ("real", "real, through the tokenizer")):
        cells = [_mean(told[name][of], 3) for of in WHOLE_HEADS]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    real = told.get("real_n", told["n"])
    made = f"{told['n']} made heads of {told['slices']} slices and {real} real ones"
    lines.append(f"\n{made}; 95 % intervals by bootstrap over heads.")
    return "\n".join(lines) + "\n"


def _mean(found: dict[str, float], digits: int) -> str:
    return f"{found['mean']:.{digits}f} [{found['low']:.{digits}f}, {found['high']:.{digits}f}]"


def sampling(results: Path) -> str:
    """Seconds an image of each sampler, at batch 1 and more."""
    path = results / "benchmark_sampling.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    if "rows" not in found:
        return ""  # an earlier benchmark had other sides
    height, width = found["grid"]
    batches = sorted({row["batch"] for row in found["rows"]})
    heads = [f"s an image at batch {batch} | times MONAI's speed" for batch in batches]
    lines = [
        f"| {height * width:,} codes of {found['entries']} entries | " + " | ".join(heads) + " |",
        "|---|" + "---|---|" * len(batches),
    ]
    for name, label in SAMPLERS.items():
        rows = {row["batch"]: row for row in found["rows"] if row["name"] == name}
        cells = [f"{_seconds(rows[batch])} | {rows[batch]['times_faster_than_monai']:.3g}" for batch in batches]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    device = device_of(found["hardware"])
    lines.append(
        f"\nWidth 128, 6 layers, 4 heads, random weights; decoding left out; in one run, on {device}. About: reckoned "
        "from evenly spread positions."
    )
    return "\n".join(lines) + "\n"


def _seconds(row: dict[str, Any]) -> str:
    return ("about " if row["reckoned"] else "") + f"{row['seconds_an_image']:.3g}"


def audit(results: Path) -> str:
    """What the audit finds of copies that were planted, and of a prior that remembers."""
    path = results / "benchmark_audit.json"
    if not path.exists():
        return ""
    found = json.loads(path.read_text())["audit_of_control"]
    lines = ["| planted | flagged | of | area under the ROC |", "|---|---|---|---|"]
    for kind, row in found["kinds"].items():
        area = row["area"]
        told = f"{area['area']:.3f} [{area['low']:.3f}, {area['high']:.3f}]"
        label = f"of these, {kind.strip()}" if kind.startswith(" ") else kind
        lines.append(f"| {label} | {row['flagged']} | {row['images']} | {told} |")
    alarms, flagged = found["false_alarms"], found["flagged"]
    lines.append(f"| held-out slices, nobody's copies | {alarms['flagged']} | {alarms['images']} | - |")
    lines.append(f"| samples of the same prior, not overfitted | {flagged['flagged']} | {flagged['images']} | - |")
    return "\n".join(lines) + "\n"
