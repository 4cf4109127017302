"""How long training takes on a device, from the one thing that is measured in a moment: how fast it multiplies."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from utils.base_models import Compute

TIMED_TOKENS = 100_000
AS_REPLIES = "once over some 1,300 chat replies"  # 1,187 of one IRC persona, folded and packed, were 91,828 tokens
WEIGHTS = {"the starter": 135e6, "TinyLlama": 1.1e9}
CPU_SHARE = 0.08  # of a product's rate, which training the starter reached on a CPU (docs/performance.md)


def flops_per_second(compute: Compute) -> float:
    """Floating-point operations a second of the fastest of five products of two square matrices."""
    return _flops(compute.device, compute.dtype, 4096 if compute.device.type == "cuda" else 1024)


def estimate(compute: Compute, flops: float) -> str:
    """About how long training takes on a CPU; on a GPU at best, since nothing says what share of its rate training
    reaches there.

    A LoRA step multiplies each frozen weight with each token once forward and once backward: 4 FLOP.
    """
    rate, exactness = (flops * CPU_SHARE, "about") if compute.device.type == "cpu" else (flops, "at best")
    times = [f"{_duration(4 * weights * TIMED_TOKENS / rate)} with {name}" for name, weights in WEIGHTS.items()]
    return f"training on {TIMED_TOKENS:,} tokens ({AS_REPLIES}) takes {exactness} {', '.join(times)}"


def _flops(device: torch.device, dtype: torch.dtype, size: int) -> float:
    import torch

    square = torch.rand(size, size, device=device, dtype=dtype)
    best_s = float("inf")
    for _ in range(5):
        started_s = time.perf_counter()
        (square @ square).sum().item()
        best_s = min(best_s, time.perf_counter() - started_s)
    return 2 * size**3 / best_s


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1g} s" if seconds < 1 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
