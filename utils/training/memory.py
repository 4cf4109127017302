"""How much memory a run holds, and whether an error says that it ran out."""

from __future__ import annotations

import os

import torch


def out_of_memory(error: RuntimeError) -> bool:
    """CUDA has an error class of its own for it; the CPU's allocator and MPS only say so."""
    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in text or "can't allocate memory" in text


def peak_memory_mib(device: torch.device) -> float:
    """The most memory held at once: allocated on a GPU, resident for the whole process elsewhere."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return psutil.Process().memory_info().peak_wset / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if os.uname().sysname == "Darwin" else peak / 2**10
