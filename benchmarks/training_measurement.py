"""One recipe trained and measured, in a process of its own, so that the peak memory is its own.

usage: python benchmarks/training_measurement.py JOB.json RESULT.json   (`train.py` writes the one and reads the other)
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from utils import base_models, console, libraries, records

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from training_recipes import Lesson

PRODUCT_SIZE = {"cpu": 2048, "cuda": 8192}  # of the square matrices whose product sets the machine's rate
PRODUCT_REPEATS = 8


Dtype = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class Job:
    """What to train on what. `dtype` None leaves the choice to the project; its own recipe always does."""

    recipe: str
    train: Path
    held_out: Path
    base_model: str
    device: str
    dtype: Dtype | None
    epochs: int
    seed: int


@dataclass(frozen=True)
class Measurement:
    """What came out.

    `seconds` runs from before the first optimizer step to after the last one. `tokens` are those of the rows without
    padding, `supervised_tokens` those of the replies, each with its end-of-turn token; both over all epochs. The NLLs
    are in nats a reply token, `held_out_nll_before` that of the base.
    """

    recipe: str
    dtype: str
    seconds: float
    optimizer_steps: int
    tokens: int
    supervised_tokens: int
    peak_memory_mib: float
    held_out_nll_before: float
    held_out_nll: float
    model_flops: float
    matmul_flops_per_s: float

    @property
    def supervised_tokens_per_s(self) -> float:
        return self.supervised_tokens / self.seconds

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / self.seconds

    @property
    def matmul_share(self) -> float:
        """The share of the machine's rate for one large matrix product, in the same dtype, that training reached."""
        return self.model_flops / self.seconds / self.matmul_flops_per_s


def measure(job: Job, scratch: Path) -> Measurement:
    """Trains on `job.train` and scores the adapter on `job.held_out`.

    One throwaway optimizer step comes first, so that kernels are compiled and caches filled when the clock starts. The
    adapter is scored in a freshly loaded base, in the project's dtype whatever it was trained in.
    """
    import torch
    import training_recipes
    from peft import get_peft_model_state_dict
    from transformers import set_seed

    from utils.training.memory import peak_memory_mib
    from utils.training.settings import TrainingSettings

    run = TrainingSettings(
        base_model=job.base_model,
        output_dir=scratch,
        device=job.device,
        epochs=job.epochs,
        seed=job.seed,
        save_every_steps=10**9,
        save_every_minutes=1e9,
        wandb="off",
    )
    base = base_models.locate(job.base_model)
    own = base_models.choose_compute(run.quantization, run.device, run.dtype, training=True)
    compute = replace(own, dtype=getattr(torch, job.dtype)) if job.dtype else own
    lesson = training_recipes.Lesson(run, base, compute, base_models.load_tokenizer(base), records.read(job.train))

    prepared = training_recipes.RECIPES[job.recipe](lesson)
    with _weights_restored(prepared.model):
        prepared.train(1, training_recipes.Stopwatch(compute.device))
    stopwatch = training_recipes.Stopwatch(compute.device)
    set_seed(run.seed)
    prepared.train(None, stopwatch)

    peak_mib = peak_memory_mib(compute.device)
    flops = model_flops(prepared.model, prepared.tokens, prepared.scored_positions) * job.epochs
    tokens = prepared.tokens * job.epochs
    adapter = {name: tensor.float().cpu() for name, tensor in get_peft_model_state_dict(prepared.model).items()}
    del prepared
    rate = matmul_flops_per_s(compute.device, compute.dtype)
    held_out = replace(lesson, compute=own, records=records.read(job.held_out))
    before, after = held_out_nll(held_out, adapter)
    return Measurement(
        recipe=job.recipe,
        dtype=str(compute.dtype).removeprefix("torch."),
        seconds=stopwatch.seconds,
        optimizer_steps=stopwatch.optimizer_steps,
        tokens=tokens,
        supervised_tokens=sum(one.supervised_tokens for one in training_recipes.encode_each(lesson)) * job.epochs,
        peak_memory_mib=peak_mib,
        held_out_nll_before=before,
        held_out_nll=after,
        model_flops=flops,
        matmul_flops_per_s=rate,
    )


@contextlib.contextmanager
def _weights_restored(model: PeftModel) -> Iterator[None]:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    before = [parameter.detach().clone() for parameter in trained]
    yield
    for parameter, value in zip(trained, before, strict=True):
        parameter.data.copy_(value)


def held_out_nll(held_out: Lesson, adapter: dict[str, torch.Tensor]) -> tuple[float, float]:
    """Nats per reply token over all of `held_out.records`, of the base and of the base with the adapter."""
    import torch
    from peft import set_peft_model_state_dict
    from training_recipes import encode_each

    from utils.likelihood import collate, token_nll
    from utils.training import lora
    from utils.training.sequences import fold, pack

    run, compute = held_out.run, held_out.compute
    sequences = fold(encode_each(held_out))
    model = lora.add_adapter(base_models.load_model(held_out.base, compute), run).eval()

    def mean_nll() -> float:
        total = 0.0
        with torch.inference_mode():
            for packed in pack(sequences, run.max_length_tokens):
                row = {name: tensor.to(compute.device) for name, tensor in collate(packed).items()}
                total += token_nll(model, row).sum().item()
        return total / sum(sequence.supervised_tokens for sequence in sequences)

    before = mean_nll()  # LoRA starts as nothing
    set_peft_model_state_dict(model, adapter)
    return before, mean_nll()


def model_flops(model: PeftModel, tokens: int, scored_positions: int) -> float:
    """What one pass over `tokens` has to multiply and add:

        tokens * (4 * P + 6 * L) + scored_positions * 4 * H

    P frozen weights of the linear layers: 2 forward, 2 backward to the activations, none to the weights;
    L LoRA weights: 2 forward, 4 backward; H weights of the frozen head, where there is a loss.

    Left out, so that the share is a lower bound: attention scores, dequantisation, norms, dropout, padding, optimizer.
    """
    from peft.tuners.lora import LoraLayer

    frozen = sum(layer.in_features * layer.out_features for layer in model.modules() if isinstance(layer, LoraLayer))
    adapter = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    head = model.get_output_embeddings().weight.numel()
    return tokens * (4.0 * frozen + 6.0 * adapter) + scored_positions * 4.0 * head


def matmul_flops_per_s(device: torch.device, dtype: torch.dtype) -> float:
    """FLOPs a second of the fastest of a few products of two large square matrices."""
    import torch

    size = PRODUCT_SIZE[device.type]
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    fastest_s = float("inf")
    for _ in range(PRODUCT_REPEATS):
        started_s = time.perf_counter()
        a @ b
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        fastest_s = min(fastest_s, time.perf_counter() - started_s)
    return 2 * size**3 / fastest_s


def main() -> None:
    job_file, result_file = map(Path, sys.argv[1:])
    job = msgspec.json.decode(job_file.read_bytes(), type=Job, dec_hook=lambda kind, value: kind(value))
    libraries.prepare()
    with tempfile.TemporaryDirectory(prefix="benchmark-") as scratch:
        result_file.write_bytes(msgspec.json.encode(measure(job, Path(scratch))))


if __name__ == "__main__":
    console.run(main)
