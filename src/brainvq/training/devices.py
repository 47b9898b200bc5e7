"""Devices, precision and processes, by Hugging Face Accelerate; and two habits of memory that make a CPU fast."""

from __future__ import annotations

import ctypes
import platform
import sys
from typing import Literal

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState

Precision = Literal["auto", "bf16", "fp32"]


def accelerator(precision: Precision) -> Accelerator:
    """An Accelerator for this process; alone, or one of those that torchrun or `accelerate launch` started."""
    AcceleratorState._reset_state()  # the precision of an earlier training in this process
    keep_freed_memory()
    # a codebook's statistics agree by construction; BatchNorm's are each process's own, and the first one's are kept
    ddp = DistributedDataParallelKwargs(broadcast_buffers=False)
    mixed = "bf16" if resolve(precision) == "bf16" else "no"
    no_accelerator = not (torch.cuda.is_available() or torch.backends.mps.is_available())
    # said outright, or Accelerate takes each of torchrun's processes on a machine without a GPU for the only one
    return Accelerator(cpu=no_accelerator, mixed_precision=mixed, kwargs_handlers=[ddp])


def resolve(precision: Precision) -> Literal["bf16", "fp32"]:
    """`auto` is bf16 where the hardware multiplies it, else fp32."""
    if precision != "auto":
        return precision
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if torch.backends.mps.is_available():
        return "fp32"
    supported = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16" if supported else "fp32"


def keep_freed_memory() -> None:
    """Let glibc keep what a step frees: the next step needs the same, and fresh pages must be cleared by the kernel.

    Training on a CPU is about a third faster with it. Elsewhere than on glibc it does nothing.
    """
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        trim_threshold, mmap_max = -1, -4  # names in malloc.h
        libc = ctypes.CDLL(None)
        libc.mallopt(mmap_max, 0)
        libc.mallopt(trim_threshold, -1)  # never
