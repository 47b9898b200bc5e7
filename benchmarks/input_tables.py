"""The tables of docs/data.md: what became of broken files, and how a study of a thousand volumes went."""

from __future__ import annotations

from typing import Any


def fuzz(found: dict[str, Any]) -> str:
    """A row for each format."""
    lines = ["| format | mutants | scans | refused | crashes | peak memory, MiB | longest, s |", "|---|" + "---:|" * 6]
    for name, each in found["formats"].items():
        lines.append(
            f"| {name} | {each['mutants']:,} | {each['scans']:,} | {each['refusals']:,} | {each['crashes']} | "
            f"{each['peak_mib']:.0f} | {each['longest_s']:.2f} |"
        )
    return "\n".join(lines) + "\n"


def scale(found: dict[str, Any]) -> str:
    """A row for each pass over the study."""
    lines = ["| pass | seconds |", "|---|---:|"]
    lines += [f"| {name} | {run['wall_time_s']:.0f} |" for name, run in found["runs"].items()]
    shape = " x ".join(str(n) for n in found["shape"])
    told = (
        f"{found['volumes']:,} volumes of {shape} voxels ({found['megabytes']:,} MB of .nii.gz), {found['images']:,} "
        f"slices; {found['hardware']['cores']} cores. No process took more than {found['peak_memory_mib']:,} MiB."
    )
    return "\n".join([*lines, "", told]) + "\n"
