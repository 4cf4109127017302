"""What a run does to the weights, measured on a model small enough to watch every one of them."""

from __future__ import annotations

import math

import pytest
import torch

from utils import base_models, prompts
from utils.base_models import BaseModel
from utils.console import UserError
from utils.records import Record
from utils.training import lora, trainer
from utils.training.data import EncodedData
from utils.training.settings import TrainingSettings

SHORT = Record(instruction="hi", output="hello", system="s")
LONGER = Record(instruction="how are you today?", output="i am fine thanks and the cat is too", system="s")
LONG = Record(instruction="soup?", output="okay but hear me out: soup is a drink. no. fair enough. it is", system="s")
SHORTEST = Record(instruction="?", output="no", system="s")


@pytest.fixture
def build(tiny_base, tokenizer, tmp_path):
    """Builds a trainer on the tiny base for the given records."""

    def make(records, **overrides) -> trainer.ChatTrainer:
        values = {"output_dir": tmp_path / "out", "quantization": "none", "device": "cpu", "lora_dropout": 0.0}
        run = TrainingSettings(**(values | {"warmup_fraction": 0.0, "wandb": "off"} | overrides))
        compute = base_models.choose_compute(run.quantization, run.device)
        model = lora.add_adapter(base_models.load_model(BaseModel("tiny", str(tiny_base)), compute), run)
        encoded = [prompts.encode(record, tokenizer) for record in records]
        return trainer.build(model, tokenizer, EncodedData(encoded, encoded, 0), run, compute, {})

    return make


def weights(model) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def test_the_initial_loss_is_that_of_guessing(build, tokenizer):
    nll = trainer.token_weighted_nll(*(lambda t: (t.model, t.validation, t))(build([SHORT, LONG])))
    assert nll == pytest.approx(math.log(len(tokenizer)), abs=0.3)


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
    for batch_size, accumulation, length in ((4, 1, 512), (1, 4, 64)):
        chat = build(
            records,
            quantization=quantization,
            max_steps=3,
            batch_size=batch_size,
            gradient_accumulation_steps=accumulation,
            max_length_tokens=length,
        )
        assert all((len(step.micro_batches) == 1) == (batch_size == 4) for step in chat.train_dataset)
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


def test_a_loss_that_is_not_finite_stops_before_the_step(build):
    chat = build([SHORT, LONGER], max_steps=4)
    with torch.no_grad():
        next(p for n, p in chat.model.named_parameters() if "lora_B" in n).fill_(float("nan"))
    others = {name: tensor for name, tensor in weights(chat.model).items() if torch.isfinite(tensor).all()}
    with pytest.raises(UserError, match=r"the training loss became nan at step 1.*--learning-rate.*--resume"):
        chat.train()
    after = weights(chat.model)
    assert all(torch.equal(tensor, after[name]) for name, tensor in others.items())


def test_dropout_is_drawn_from_the_saved_generator_and_keeps_the_mean():
    from utils.training.dropout import ByteDropout

    dropout = ByteDropout(0.1)
    x = torch.ones(1000, 37)
    torch.manual_seed(3)
    first = dropout(x)
    torch.manual_seed(3)
    assert torch.equal(first, dropout(x))
    assert (first == 0).float().mean().item() == pytest.approx(26 / 256, abs=0.01)
    assert first.mean().item() == pytest.approx(1.0, abs=0.01)
    assert torch.equal(dropout.eval()(x), x)
