"""What a run does to the weights, measured on a model small enough to watch every one of them."""

from __future__ import annotations

import math

import pytest
import torch
from safetensors.torch import load_file
from transformers import MixtralConfig, MixtralForCausalLM, RwkvConfig, RwkvForCausalLM

from utils import base_models, prompts
from utils.base_models import BaseModel
from utils.console import UserError
from utils.records import Record
from utils.training import lora
from utils.training import run as training
from utils.training.data import EncodedData
from utils.training.preflight import Fit
from utils.training.sequences import pack
from utils.training.settings import TrainingSettings
from utils.training.trainer import ChatTrainer

SHORT = Record(instruction="hi", output="hello", system="s")
LONGER = Record(instruction="how are you today?", output="i am fine thanks and the cat is too", system="s")
LONG = Record(instruction="soup?", output="okay but hear me out: soup is a drink. no. fair enough. it is", system="s")
SHORTEST = Record(instruction="?", output="no", system="s")


@pytest.fixture
def build(tiny_base, tokenizer, tmp_path):
    """Builds a trainer on the tiny base for the given records."""

    def make(records, **overrides) -> ChatTrainer:
        values = {"output_dir": tmp_path / "out", "quantization": "none", "device": "cpu", "dtype": "float32"}
        values |= {"lora_dropout": 0.0, "warmup_fraction": 0.0, "wandb": "off"}
        run = TrainingSettings(**(values | overrides))
        compute = base_models.choose_compute(run.quantization, run.device, run.dtype, training=True)
        model = lora.load(BaseModel("tiny", str(tiny_base)), compute, run)
        encoded = [prompts.encode(record, tokenizer) for record in records]
        data = EncodedData(encoded, encoded, len(encoded), 0, 0, 0)
        fit = Fit(run.micro_batch_tokens or 512, False, 1.0, 0.0, 0, 0, 0)
        return training.build(model, tokenizer, data, run, compute, {}, fit)

    return make


def weights(model) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def test_the_initial_loss_is_that_of_guessing(build, tokenizer):
    chat = build([SHORT, LONG])
    assert chat.mean_nll(chat.validation) == pytest.approx(math.log(len(tokenizer)), abs=0.3)


def test_four_records_are_memorised(build):
    chat = build(
        [SHORT, LONGER, LONG, SHORTEST],
        max_steps=200,
        batch_size=4,
        gradient_accumulation_steps=1,
        learning_rate=3e-3,
        lr_schedule="linear",
        lora_rank=32,
        lora_alpha=32,
    )
    chat.model.get_output_embeddings().weight.data *= 10  # tiny hidden states could not reach a confident logit
    chat.train()
    assert chat.evaluate()["eval_loss"] < 0.05


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_every_lora_weight_moves_and_no_other(build, quantization):
    chat = build([SHORT, LONGER, LONG, SHORTEST], quantization=quantization, max_steps=3)
    before = weights(chat.model)
    chat.train()
    after = weights(chat.model)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if "lora_" in name}
    assert len(moved) == 2 * 2 * 7  # A and B, two layers, seven linear layers each


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_accumulating_unequal_micro_batches_equals_one_batch(build, quantization):
    records = [SHORT, LONGER, LONG, SHORTEST]
    tensors = []
    for micro_batch_tokens, micro_batches in ((512, 1), (1, 4)):
        chat = build(records, quantization=quantization, max_steps=3, micro_batch_tokens=micro_batch_tokens)
        assert {len(pack(step.sequences, chat.micro_batch_tokens)) for step in chat.train_dataset} == {micro_batches}
        chat.train()
        tensors.append(weights(chat.model))
    for name, tensor in tensors[0].items():
        if "lora_" in name:
            torch.testing.assert_close(tensor, tensors[1][name], rtol=1e-3, atol=1e-5)


def test_validation_loss_weighs_every_token_alike(build):
    chat = build([SHORT, LONG])
    one, other = (build([record]) for record in (SHORT, LONG))
    sums = [each.evaluate()["eval_loss"] * each.validation.supervised_tokens for each in (one, other)]
    assert chat.evaluate()["eval_loss"] == pytest.approx(sum(sums) / chat.validation.supervised_tokens, rel=1e-4)


def test_validation_leaves_the_model_in_training_mode(build):
    chat = build([SHORT])
    chat.model.train()
    chat.evaluate()
    assert chat.model.training


@pytest.mark.parametrize("max_steps, last", [(1, 0.5), (3, 1.5), (None, 2.0)])
def test_the_logged_epoch_counts_passes_over_the_records(build, max_steps, last):
    chat = build(
        [SHORT, LONGER, LONG, SHORTEST], max_steps=max_steps, epochs=2, batch_size=2, gradient_accumulation_steps=1
    )
    chat.train()
    assert chat.state.log_history[-1]["epoch"] == last


def test_a_loss_that_is_not_finite_stops_before_the_step(build):
    chat = build([SHORT, LONGER], max_steps=4)
    with torch.no_grad():
        next(p for n, p in chat.model.named_parameters() if "lora_B" in n).fill_(float("nan"))
    others = {name: tensor for name, tensor in weights(chat.model).items() if torch.isfinite(tensor).all()}
    with pytest.raises(UserError, match=r"the training loss became nan at step 1.*--learning-rate.*--resume"):
        chat.train()
    after = weights(chat.model)
    assert all(torch.equal(tensor, after[name]) for name, tensor in others.items())


def test_out_of_memory_halves_the_micro_batch_from_untouched_weights(build, monkeypatch, capsys):
    calm = build([SHORT, LONGER, LONG, SHORTEST], max_steps=2, micro_batch_tokens=256)
    calm.train()
    tight = build([SHORT, LONGER, LONG, SHORTEST], max_steps=2, micro_batch_tokens=256)
    accumulate = ChatTrainer._accumulate

    def out_of_memory_above_128(self, model, step):
        loss = accumulate(self, model, step)  # memory runs out late, with gradients half made
        if self.micro_batch_tokens > 128:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return loss

    monkeypatch.setattr(ChatTrainer, "_accumulate", out_of_memory_above_128)
    tight.train()
    assert tight.micro_batch_tokens == 128
    assert "micro-batches are now 128 tokens, twice as many to a step" in capsys.readouterr().err.replace("\n", " ")
    one, other = weights(calm.model), weights(tight.model)
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-3, atol=1e-5)


def test_out_of_memory_on_the_smallest_micro_batch_is_one_line(build, monkeypatch):
    chat = build([SHORT, LONG], max_steps=2, micro_batch_tokens=16)

    def out_of_memory(*_):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes")

    monkeypatch.setattr(ChatTrainer, "_accumulate", out_of_memory)
    with pytest.raises(UserError, match=r"memory ran out on the smallest possible micro-batch; lower --max-length"):
        chat.train()


def test_another_error_is_not_taken_for_a_lack_of_memory(build, monkeypatch):
    def broken(*_):
        raise RuntimeError("shape mismatch")

    monkeypatch.setattr(ChatTrainer, "_accumulate", broken)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        build([SHORT], max_steps=1).train()


def test_a_gradient_that_is_not_finite_stops_before_the_step(build, monkeypatch):
    chat = build([SHORT, LONGER], max_steps=2)
    accumulate = ChatTrainer._accumulate

    def poisoned(self, model, step):
        loss = accumulate(self, model, step)
        next(p for p in model.parameters() if p.grad is not None).grad.fill_(float("inf"))
        return loss

    monkeypatch.setattr(ChatTrainer, "_accumulate", poisoned)
    before = weights(chat.model)
    with pytest.raises(UserError, match=r"the gradient's norm became (inf|nan) at step 1"):
        chat.train()
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(chat.model).items())


@pytest.fixture
def in_float16(monkeypatch):
    """Lets a trainer compute as on a T4, with autocast to float16 and torch's gradient scaler, here on the CPU."""

    def arrange(chat: ChatTrainer, first_scale: float) -> None:
        chat.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=first_scale)
        chat.accelerator.native_amp = True
        monkeypatch.setattr(chat.accelerator.state, "_mixed_precision", "fp16")

    return arrange


def test_a_scaler_finds_its_scale_and_training_goes_on(build, in_float16):
    chat = build([SHORT, LONGER], max_steps=16)
    in_float16(chat, 2.0**24)
    before = weights(chat.model)
    chat.train()
    assert chat.accelerator.scaler.get_scale() < 2.0**22  # the first steps were skipped
    assert all(not torch.equal(before[name], tensor) for name, tensor in weights(chat.model).items() if "lora_" in name)
    assert chat.evaluate()["eval_loss"] < chat.state.log_history[0]["eval_loss"]


def test_a_scaler_that_only_skips_stops_the_run(build, in_float16):
    chat = build([SHORT], max_steps=40)
    in_float16(chat, 2.0**126)
    before = weights(chat.model)
    with pytest.raises(UserError, match="the float16 gradient scaler skipped 20 steps in a row at step 21"):
        chat.train()
    assert all(torch.equal(before[name], tensor) for name, tensor in weights(chat.model).items())


@pytest.mark.parametrize("method", ["rslora", "dora"])
def test_lora_variants_train(build, method):
    chat = build([SHORT, LONG], method=method, max_steps=2, lora_dropout=0.1)
    before = weights(chat.model)
    chat.train()
    after = weights(chat.model)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name, parameter in chat.model.named_parameters() if parameter.requires_grad}


def test_what_peft_puts_no_lora_on_is_one_line(tiny_base):
    run = TrainingSettings(base_model=str(tiny_base), quantization="none")
    routers = MixtralForCausalLM(
        MixtralConfig(vocab_size=60, hidden_size=32, intermediate_size=48, num_hidden_layers=0)
    )
    with pytest.raises(UserError, match=r"no LoRA on MixtralForCausalLM \(.*\); try --method full"):
        lora.add_adapter(routers, run)


def test_full_fine_tuning_moves_every_weight_and_needs_unquantised_ones(build):
    chat = build([SHORT, LONG], method="full", max_steps=2)
    before = weights(chat.model)
    chat.train()
    assert all(not torch.equal(before[name], tensor) for name, tensor in weights(chat.model).items())
    with pytest.raises(UserError, match="add --quantization none"):
        build([SHORT], method="full", quantization="nf4")


def test_an_evaluation_leaves_every_weight_of_full_fine_tuning_as_it_was():
    """RWKV halves weights in place to be evaluated, and a checkpoint is written right after an evaluation."""
    config = RwkvConfig(vocab_size=60, hidden_size=32, attention_hidden_size=32, num_hidden_layers=2, rescale_every=1)
    model = lora.add_adapter(RwkvForCausalLM(config), TrainingSettings(method="full", quantization="none"))
    before = weights(model)
    model.eval()(torch.tensor([[1, 2, 3]]))
    assert all(torch.equal(before[name], tensor) for name, tensor in weights(model).items())


def test_full_fine_tuning_starts_from_the_weights_of_the_base(build, tiny_base):
    """Rounded to the dtype of the arithmetic, it would begin with a worse model."""
    chat = build([SHORT], method="full", dtype="bfloat16")
    base = load_file(tiny_base / "model.safetensors")
    assert all(torch.equal(base[name], tensor) for name, tensor in weights(chat.model).items())
