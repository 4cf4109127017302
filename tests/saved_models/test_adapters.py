"""An intact adapter loads; one that was altered, broken or made for something else is refused with its cause."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save_file

from utils import base_models, console, prompts
from utils.base_models import BaseModel, Compute
from utils.console import UserError
from utils.saved_models import adapters, manifests, model_files, template_trial

CPU = Compute(torch.device("cpu"), torch.float32, "none")
WEIGHTS, CONFIG, MANIFEST = "adapter_model.safetensors", "adapter_config.json", "training.json"
FIRST = "base_model.model.model.layers.0.mlp.down_proj.lora_A.weight"


def at(folder: Path) -> BaseModel:
    return BaseModel(str(folder), str(folder))


def edit_json(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    return load((folder / WEIGHTS).read_bytes())


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = read_weights(folder)
    changed = change(weights)
    save_file(weights if changed is None else changed, folder / WEIGHTS)


def reseal(folder: Path) -> None:
    """Makes the manifest's sha256 agree with the files again."""
    present = {path.name for pattern in manifests.READ_WHEN_LOADING for path in folder.glob(pattern)}
    edit_json(folder / MANIFEST, sha256={name: base_models.sha256(folder / name) for name in present})


def forge(folder: Path, base: BaseModel) -> None:
    """Makes the whole manifest agree with folder and base, as an attacker would."""
    manifest, config = json.loads((folder / MANIFEST).read_text()), json.loads((folder / CONFIG).read_text())
    manifest["base_path"] = config["base_model_name_or_path"]
    manifest["settings"] |= {"lora_rank": config["r"], "lora_alpha": config["lora_alpha"]}
    manifest["settings"]["method"] = (
        "dora" if config["use_dora"] else "rslora" if config["use_rslora"] else manifest["settings"]["method"]
    )
    manifest["fingerprints"]["base weights"] = base_models.weights_sha256(base)
    tokenizer = base_models.load_tokenizer(at(folder))
    manifest["fingerprints"]["tokenizer"] = base_models.tokenizer_sha256(tokenizer)
    edit_json(folder / MANIFEST, **manifest)
    reseal(folder)


def refusal(folder: Path, base: BaseModel | None = None) -> str:
    """Why verifying, or loading onto `base`, is refused: one line."""
    with pytest.raises(UserError) as error:
        adapter = adapters.verify(folder)
        if base is not None:
            adapters.load(adapter, base, CPU)
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.fixture(autouse=True)
def no_weights_are_loaded_before_a_refusal(request, monkeypatch):
    """Every refusal must come before the base's weights are loaded."""
    if "refused" not in request.node.name:
        return

    def load_model(*_):
        raise AssertionError("loaded before everything was verified")

    monkeypatch.setattr(base_models, "load_model", load_model)


@pytest.fixture(scope="session")
def bases(tiny_base, tmp_path_factory) -> dict[str, BaseModel]:
    """The base of the training, and others that differ from it in one thing."""
    from tokenizers import Tokenizer
    from transformers import AutoConfig, AutoModelForCausalLM

    root = tmp_path_factory.mktemp("bases")

    def variant(name: str, **changes) -> BaseModel:
        folder = shutil.copytree(tiny_base, root / name)
        torch.manual_seed(1)
        AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(tiny_base, **changes)).save_pretrained(folder)
        return at(folder)

    other_vocabulary = variant("other vocabulary", vocab_size=512)
    tokenizer = Tokenizer.from_file(str(tiny_base / "tokenizer.json"))
    tokenizer.add_tokens(["soup", "drink"])
    tokenizer.save(str(Path(other_vocabulary.path) / "tokenizer.json"))
    return {
        "the right one": at(tiny_base),
        "same shape": variant("same shape"),
        "other vocabulary": other_vocabulary,
        "fewer layers": variant("fewer layers", num_hidden_layers=1),
        "more layers": variant("more layers", num_hidden_layers=3),
        "wider": variant("wider", hidden_size=96),
    }


def each_tensor(wanted: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], None]:
    """Changes every tensor whose name holds `wanted`."""

    def tamper(folder: Path) -> None:
        edit_weights(
            folder, lambda weights: {name: change(each) if wanted in name else each for name, each in weights.items()}
        )

    return tamper


def one_value(value: float) -> Callable[[Path], None]:
    def tamper(folder: Path) -> None:
        edit_weights(folder, lambda weights: weights[FIRST].view(-1)[:1].fill_(value) and None)

    return tamper


def without(wanted: str) -> Callable[[Path], None]:
    return lambda folder: edit_weights(
        folder, lambda weights: {name: each for name, each in weights.items() if wanted not in name}
    )


def config(**changes) -> Callable[[Path], None]:
    return lambda folder: edit_json(folder / CONFIG, **changes)


def manifest(**changes) -> Callable[[Path], None]:
    return lambda folder: edit_json(folder / MANIFEST, **changes)


def extra(name: str) -> Callable[[Path], None]:
    return lambda folder: edit_weights(folder, lambda weights: weights | {name: torch.zeros(385, 64)})


def truncated(folder: Path) -> None:
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[: len(whole) // 2])


def pickled(folder: Path) -> None:
    torch.save(read_weights(folder), folder / WEIGHTS)


def pickled_beside(folder: Path) -> None:
    torch.save(read_weights(folder), folder / "adapter_model.bin")
    (folder / WEIGHTS).unlink()


def linked(name: str) -> Callable[[Path], None]:
    def tamper(folder: Path) -> None:
        (folder / name).replace(folder.parent / "elsewhere")
        (folder / name).symlink_to(folder.parent / "elsewhere")

    return tamper


def linked_in_a_circle(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).symlink_to(WEIGHTS)


def swapped_words(folder: Path) -> None:
    """Two words of the vocabulary change places: same size, same template, other meaning."""
    content = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    first, second = list(vocabulary)[-2:]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (folder / "tokenizer.json").write_text(json.dumps(content))


def template(folder: Path) -> None:
    path = folder / "chat_template.jinja"
    path.write_text("Answer rudely. " + path.read_text())


def splitting(folder: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text())
    content["normalizer"] = {"type": "Lowercase"}
    (folder / "tokenizer.json").write_text(json.dumps(content))


def end_of_turn(folder: Path) -> None:
    edit_json(folder / "tokenizer_config.json", eos_token="<|endoftext|>")


def added_template(folder: Path) -> None:
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text("{{ messages }}")


def added_config(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "gpt2"}')


def nothing(folder: Path) -> None:
    pass


CHANGED = "has changed since training (training.json has another sha256); restore the folder"
HALF = torch.float16

# way: (what is done, the base it is loaded on, cause as found, cause when the sha256 were recomputed, cause when the
# whole manifest was rewritten to agree). None: it loads, because nothing contradicts it.
WAYS = {
    "other base of the same shape": (nothing, "same shape", "are not those of", "are not those of", None),
    "alpha times 100": (config(lora_alpha=800), "the right one", CHANGED, "lora_alpha 800.0, but the training", None),
    "other vocabulary": (nothing, "other vocabulary", "are not those of", "are not those of", "the vocabulary of"),
    "fewer layers": (nothing, "fewer layers", "are not those of", "are not those of", "layers.1.mlp.down_proj"),
    "more layers": (nothing, "more layers", "are not those of", "are not those of", "lora_A.weight is missing"),
    "wider base": (nothing, "wider", "are not those of", "are not those of", "is (64, 4) and not (96, 4)"),
    "NaN": (one_value(float("nan")), "the right one", CHANGED, "holds NaN or infinite values", "holds NaN or"),
    "infinity": (one_value(float("inf")), "the right one", CHANGED, "holds NaN or infinite values", "holds NaN or"),
    "overflow": (one_value(1e30), "the right one", CHANGED, "values beyond 65,504", "values beyond 65,504"),
    "missing tensor": (without(FIRST), "the right one", CHANGED, "lacks lora_A.weight", "lacks lora_A.weight"),
    "missing layer": (without("layers.1."), "the right one", CHANGED, "is missing", "lora_A.weight is missing"),
    "no tensors": (without(""), "the right one", CHANGED, "never trained", "never trained"),
    "extra head": (
        extra("base_model.model.lm_head.weight"),
        "the right one",
        CHANGED,
        "lm_head.weight, which is no LoRA weight",
        "lm_head.weight, which is no LoRA weight",
    ),
    "truncated": (truncated, "the right one", CHANGED, "is not a whole safetensors file", "is not a whole"),
    "pickle instead": (pickled, "the right one", CHANGED, "is not a whole safetensors file", "is not a whole"),
    "adapter_model.bin instead": (
        pickled_beside,
        "the right one",
        "adapter_model.bin is pickled and never loaded",
        "adapter_model.bin is pickled and never loaded",
        "adapter_model.bin is pickled and never loaded",
    ),
    "config names another base": (
        config(base_model_name_or_path="some/other"),
        "same shape",
        CHANGED,
        "base_model_name_or_path 'some/other', but the training had",
        None,
    ),
    "swapped tokenizer": (swapped_words, "the right one", CHANGED, "the vocabulary of", "the vocabulary of"),
    "chat template": (template, "the right one", CHANGED, "the chat template of", "the chat template of"),
    "end of turn": (end_of_turn, "the right one", CHANGED, "the end-of-turn token of", "the end-of-turn token of"),
    "text folded": (splitting, "the right one", CHANGED, "the way of splitting text", "the way of splitting text"),
    "untrained": (
        each_tensor("lora_B", torch.zeros_like),
        "the right one",
        CHANGED,
        "was never trained: every lora_B is zero",
        "was never trained: every lora_B is zero",
    ),
    "no direction": (each_tensor("lora_A", torch.zeros_like), "the right one", CHANGED, "changes nothing", "nothing"),
    "wrong task": (
        config(task_type="SEQ_CLS"),
        "the right one",
        "is not LoRA for a causal language model",
        "is not LoRA for a causal language model",
        "is not LoRA for a causal language model",
    ),
    "weights are a link": (linked(WEIGHTS), "the right one", *["elsewhere, outside the folder"] * 3),
    "weights are a link in a circle": (linked_in_a_circle, "the right one", *["a broken link or no regular file"] * 3),
    "manifest is a link": (linked(MANIFEST), "the right one", *["elsewhere, outside the folder"] * 3),
    "half precision": (each_tensor("", lambda each: each.to(HALF)), "the right one", CHANGED, *["dtype F16"] * 2),
    "mixed dtypes": (each_tensor("lora_A", lambda each: each.to(HALF)), "the right one", CHANGED, *["dtype F16"] * 2),
    "integers": (each_tensor("", lambda each: each.to(torch.int8)), "the right one", CHANGED, *["dtype I8"] * 2),
    "rank in config": (config(r=8), "the right one", CHANGED, "r 8, but the training had 4", "has rank 4, but"),
    "rank of a layer": (
        config(rank_pattern={"q_proj": 8}),
        "the right one",
        CHANGED,
        "has rank_pattern {'q_proj': 8}, but the training had {}",
        "has rank_pattern",
    ),
    "alpha of a layer": (config(alpha_pattern={"q_proj": 999}), "the right one", CHANGED, *["has alpha_pattern"] * 2),
    "other scale": (config(use_rslora=True), "the right one", CHANGED, "use_rslora True, but the training had", None),
    "DoRA without magnitudes": (
        config(use_dora=True),
        "the right one",
        CHANGED,
        "use_dora True, but the training had",
        "lacks lora_magnitude_vector",
    ),
    "layers left out": (
        config(layers_to_transform=[0], target_modules=["q_proj", "down_proj"]),
        "the right one",
        CHANGED,
        "layers_to_transform [0], but the training had None",
        "layers_to_transform [0], but the training had None",
    ),
    "layers by pattern": (config(target_modules=".*_proj"), "the right one", CHANGED, *["by a pattern"] * 2),
    "modules_to_save": (config(modules_to_save=["lm_head"]), "the right one", *["sets modules_to_save"] * 3),
    "biases": (config(bias="all"), "the right one", *["sets bias, which is never loaded"] * 3),
    "code by auto_mapping": (
        config(auto_mapping={"base_model_class": "Odd", "parent_library": "odd"}),
        "the right one",
        *["sets auto_mapping, which is never loaded"] * 3,
    ),
    "import by name": (config(megatron_config={}, megatron_core="odd"), "the right one", *["sets megatron_core"] * 3),
    "a start that alters the base": (config(init_lora_weights="pissa"), "the right one", *["init_lora_weights"] * 3),
    "unknown setting": (config(use_the_new_thing="yes"), "the right one", *["sets use_the_new_thing"] * 3),
    "manifest leaves the folder": (
        manifest(sha256={"../secret": "0" * 64}),
        "the right one",
        "'../secret', a path that leaves the folder",
        None,
        None,
    ),
    "added template": (
        added_template,
        "the right one",
        "additional_chat_templates was added since training",
        None,
        None,
    ),
    "added config": (added_config, "the right one", "config.json was added since training", None, None),
}
ROWS = [
    pytest.param(change, base, seal, cause, id=f"{way}-{seal}")
    for way, (change, base, *causes) in WAYS.items()
    for seal, cause in zip(("as found", "resealed", "forged"), causes, strict=True)
    if cause
]


@pytest.mark.parametrize(("change", "base", "seal", "cause"), ROWS)
def test_what_was_tampered_with_is_refused(adapter_folder, bases, change, base, seal, cause):
    change(adapter_folder)
    if seal != "as found" and (adapter_folder / WEIGHTS).exists() and (adapter_folder / MANIFEST).is_file():
        reseal(adapter_folder)
        if seal == "forged":
            forge(adapter_folder, bases[base])
    assert cause in refusal(adapter_folder, bases[base])


@pytest.mark.parametrize("way", ["alpha times 100", "other base of the same shape"])
def test_a_manifest_that_was_rewritten_to_agree_is_believed(adapter_folder, bases, way):
    """Nothing contradicts these, so only the evaluation can show what they do."""
    change, base, *_ = WAYS[way]
    change(adapter_folder)
    edit_json(adapter_folder / CONFIG, base_model_name_or_path=bases[base].path)
    forge(adapter_folder, bases[base])
    adapters.load(adapters.verify(adapter_folder), bases[base], CPU)


ELSEWHERE = {
    **{
        way: (*WAYS[way][:2], cause)
        for way, cause in {
            "other vocabulary": "the vocabulary of",
            "fewer layers": "has no place there",
            "wider base": "is (64, 4) and not (96, 4)",
            "NaN": "holds NaN or infinite values",
            "missing tensor": "lacks lora_A.weight",
            "missing layer": "is missing",
            "extra head": "lm_head.weight, which is no LoRA weight",
            "truncated": "is not a whole safetensors file",
            "pickle instead": "is not a whole safetensors file",
            "swapped tokenizer": "the vocabulary of",
            "untrained": "was never trained",
            "wrong task": "is not LoRA for a causal language model",
            "weights are a link": "elsewhere, outside the folder",
            "mixed dtypes": "mixes dtypes",
            "integers": "dtype I8 instead of F32 or F16 or BF16",
            "rank in config": "has rank 4, but the config says r 8",
            "rank of a layer": "is (4, 64) and not (8, 64)",
            "DoRA without magnitudes": "lacks lora_magnitude_vector",
            "layers left out": "has no place there",
            "modules_to_save": "sets modules_to_save",
            "code by auto_mapping": "sets auto_mapping",
        }.items()
    },
    "rank that is no number": (config(r="four"), "the right one", "is no LoRA configuration"),
    "negative alpha": (config(lora_alpha=-8), "the right one", "is no LoRA configuration"),
    "alpha that is no number": (config(lora_alpha=float("nan")), "the right one", "is no LoRA configuration"),
    "endless pattern": (config(rank_pattern={"(.*.*)*x": 4}), "the right one", "by the pattern '(.*.*)*x'"),
    "layers that are not there": (config(target_modules=["soup"]), "the right one", "does not fit"),
    "embeddings": (config(target_modules=["embed_tokens"]), "the right one", "has no place there"),
}


@pytest.mark.parametrize(("change", "base", "cause"), ELSEWHERE.values(), ids=ELSEWHERE)
def test_an_adapter_from_elsewhere_that_contradicts_itself_or_its_base_is_refused(
    adapter_folder, bases, change, base, cause
):
    (adapter_folder / MANIFEST).unlink()
    change(adapter_folder)
    assert cause in refusal(adapter_folder, bases[base])


def test_an_intact_adapter_loads_as_in_production(trained_adapter, tiny_base, tokenizer, held_out):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    adapter = adapters.verify(trained_adapter)
    assert (adapter.base_model, adapter.quantization) == (str(tiny_base), "none")
    assert adapters.verify_base(adapter, at(tiny_base)).unchecked == ()
    model, loaded_tokenizer = adapters.load(adapter, at(tiny_base), CPU)
    assert not model.training
    assert base_models.tokenizer_sha256(loaded_tokenizer) == base_models.tokenizer_sha256(tokenizer)

    base = AutoModelForCausalLM.from_pretrained(tiny_base)
    ids = torch.tensor([prompts.encode(held_out, tokenizer).input_ids])
    with torch.no_grad():
        untuned = base(ids).logits
        production = PeftModel.from_pretrained(base, trained_adapter).eval()(ids).logits
        assert torch.equal(model(ids).logits, production)
    assert not torch.allclose(production, untuned, atol=0.1)


def test_an_adapter_trained_in_4_bit_is_tested_in_4_bit(adapter_folder):
    manifest = json.loads((adapter_folder / MANIFEST).read_text())
    edit_json(adapter_folder / MANIFEST, settings=manifest["settings"] | {"quantization": "nf4"})
    assert adapters.verify(adapter_folder).quantization == "nf4"


@pytest.mark.parametrize("method", ["rslora", "dora"])
def test_rslora_and_dora_load_with_the_weights_that_they_were_saved_with(model, tiny_base, tokenizer, tmp_path, method):
    from utils.training import artifacts, lora
    from utils.training.settings import TrainingSettings

    run = TrainingSettings(
        base_model=str(tiny_base), output_dir=tmp_path / method, quantization="none", method=method, lora_rank=4
    )
    trained = lora.add_adapter(model, run).eval()
    with torch.no_grad():
        for name, parameter in trained.named_parameters():
            if "lora_" in name:
                parameter += 0.1 * torch.randn_like(parameter)
    identity = artifacts.fingerprints(run, at(tiny_base), tokenizer, "0" * 64, CPU)
    folder = artifacts.save(trained, tokenizer, run, at(tiny_base), identity, {"optimizer_steps": 1})
    loaded, _ = adapters.load(adapters.verify(folder), at(tiny_base), CPU)
    ids = torch.arange(20)[None]
    with torch.no_grad():
        torch.testing.assert_close(loaded(ids).logits, trained(ids).logits)


def test_a_folder_that_is_not_there(tmp_path):
    assert refusal(tmp_path / "none") == f"no adapter at {tmp_path / 'none'}; train_tinyllama.py makes one"


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_a_folder_without_an_adapter(adapter_folder, name):
    (adapter_folder / name).unlink()
    assert refusal(adapter_folder) == (
        f"{adapter_folder} holds no adapter: {name} is missing; train_tinyllama.py makes one"
    )


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


def test_pickles_in_the_folder_are_never_loaded(adapter_folder, tiny_base, tmp_path):
    trace = tmp_path / "executed"
    for name in ("adapter_model.bin", "training_args.bin", "pytorch_model.bin", "optimizer.pt"):
        (adapter_folder / name).write_bytes(pickle.dumps(Bomb(trace)))
    adapters.load(adapters.verify(adapter_folder), at(tiny_base), CPU)
    assert not trace.exists()


@pytest.mark.parametrize("seal", ["forged", "without a manifest"])
def test_code_that_comes_with_a_tokenizer_is_refused_and_never_executed(adapter_folder, tiny_base, tmp_path, seal):
    trace = tmp_path / "executed"
    (adapter_folder / "odd.py").write_text(f"import pathlib\npathlib.Path({str(trace)!r}).touch()\nclass Odd: pass\n")
    edit_json(
        adapter_folder / "tokenizer_config.json",
        tokenizer_class="Odd",
        auto_map={"AutoTokenizer": ["odd.Odd", "odd.Odd"]},
    )
    if seal == "forged":
        reseal(adapter_folder)
    else:
        (adapter_folder / MANIFEST).unlink()
    assert "asks for code of its own (auto_map), which is never run" in refusal(adapter_folder, at(tiny_base))
    assert not trace.exists()


@pytest.mark.parametrize(
    "content",
    [
        "{% for x in %}",
        "{{ raise_exception('no') }}",
        "{{ messages[7].content }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "hello",
    ],
)
def test_a_chat_template_that_does_not_work_is_refused(adapter_folder, tiny_base, content):
    (adapter_folder / MANIFEST).unlink()
    (adapter_folder / "chat_template.jinja").write_text(content)
    assert str(adapter_folder) in refusal(adapter_folder, at(tiny_base))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{% for x in range(99999) %}" * 3 + "{% endfor %}" * 3, "does not end within 4 s"),
        ("{{ 'a' * 10 ** 10 }}", "takes more than 4 GiB of memory"),
        ("{{ 'a' * 10 ** 6 }}", "makes more than 200,000 characters"),
    ],
)
def test_a_chat_template_without_an_end_is_ended(adapter_folder, tiny_base, monkeypatch, content, why):
    monkeypatch.setattr(template_trial, "PATIENCE_S", 4 if "end" in why else 60)
    (adapter_folder / MANIFEST).unlink()
    path = adapter_folder / "chat_template.jinja"
    path.write_text(content + path.read_text())
    assert refusal(adapter_folder, at(tiny_base)).startswith(
        f"the chat template of {adapter_folder} {why} on a short chat"
    )


def test_an_altered_chat_template_is_refused_without_being_run(adapter_folder, tiny_base):
    """Run, this one would not end: 10 to the 20th turns."""
    endless = "{% for x in range(99999) %}" * 4 + "{% endfor %}" * 4
    path = adapter_folder / "chat_template.jinja"
    path.write_text(endless + path.read_text())
    reseal(adapter_folder)
    assert "the chat template of" in refusal(adapter_folder, at(tiny_base))


@pytest.mark.parametrize("content", ["{", "{}", '{"model": {"type": "BPE", "vocab": 1}}'])
def test_a_broken_tokenizer_is_refused(adapter_folder, tiny_base, content):
    (adapter_folder / MANIFEST).unlink()
    (adapter_folder / "tokenizer.json").write_text(content)
    assert f"{adapter_folder}: " in refusal(adapter_folder, at(tiny_base))


def test_a_file_that_the_manifest_lists_is_missing(adapter_folder):
    (adapter_folder / "tokenizer.json").unlink()
    assert refusal(adapter_folder) == (
        f"{adapter_folder / 'tokenizer.json'} is missing, though training.json lists it; train again or restore the"
        " folder"
    )


@pytest.mark.parametrize("name", [CONFIG, MANIFEST])
@pytest.mark.parametrize(
    ("content", "fault"), [("{", "can't read"), ("[1]", "is not a JSON object"), ('{"a":' * 99_999, "can't read")]
)
def test_files_that_are_no_json_objects(adapter_folder, name, content, fault):
    (adapter_folder / name).write_text(content)
    message = refusal(adapter_folder)
    assert str(adapter_folder / name) in message
    assert fault in message


@pytest.mark.parametrize(
    "change",
    [
        {"base_path": None},
        {"fingerprints": {}},
        {"settings": {"quantization": "int3"}},
        {"sha256": ["a"]},
        {"sha256": {}},
    ],
    ids=str,
)
def test_a_manifest_that_no_train_script_writes(adapter_folder, change):
    edit_json(adapter_folder / MANIFEST, **change)
    assert str(adapter_folder / MANIFEST) in refusal(adapter_folder)


def test_a_manifest_from_before_there_were_methods_is_plain_lora(adapter_folder, tiny_base):
    manifest = json.loads((adapter_folder / MANIFEST).read_text())
    manifest["settings"].pop("method")
    edit_json(adapter_folder / MANIFEST, **manifest)
    assert adapters.verify_base(adapters.verify(adapter_folder), at(tiny_base)).unchecked == ()


@pytest.fixture
def hub(tmp_path, monkeypatch, tiny_base) -> Path:
    """A hub that has the training's base as some/base, and the folder that a download lands in."""
    import huggingface_hub

    landing = tmp_path / "hub"

    def snapshot_download(name, *, allow_patterns, local_files_only):
        if name != "some/base":
            raise huggingface_hub.errors.LocalEntryNotFoundError("nothing by that name")
        patterns = [pattern for pattern in allow_patterns if list(tiny_base.glob(pattern))]
        landing.mkdir(exist_ok=True)
        for path in (path for pattern in patterns for path in tiny_base.glob(pattern)):
            shutil.copy(path, landing)
        return str(landing)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return landing


def test_a_base_of_the_hub_is_compared_before_it_is_loaded(adapter_folder, hub):
    adapter = adapters.verify_base(adapters.verify(adapter_folder), BaseModel("some/base", "some/base"))
    assert adapter.base == BaseModel("some/base", str(hub))
    adapters.load(adapter, BaseModel("some/base", "some/base"), CPU)


def test_another_base_of_the_hub_is_refused_before_it_is_loaded(adapter_folder, hub, bases, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: bases["same shape"].path)
    message = refusal(adapter_folder, BaseModel("some/base", "some/base"))
    assert "whose weights are not those of some/base" in message


def test_a_base_that_the_hub_does_not_have_is_refused(adapter_folder, hub):
    assert "can't fetch some/other from the hub" in refusal(adapter_folder, BaseModel("some/other", "some/other"))


def spoiled(tiny_base: Path, tmp_path: Path, spoil: Callable[[Path], object]) -> BaseModel:
    folder = shutil.copytree(tiny_base, tmp_path / "spoiled")
    spoil(folder)
    return at(folder)


@pytest.mark.parametrize(
    ("spoil", "cause"),
    [
        (lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"), "only pickled weights"),
        (lambda folder: (folder / CONFIG).write_text("{}"), "is an adapter, not a whole model"),
        (lambda folder: edit_json(folder / "config.json", transformers_weights="adapter_model.bin"), "in other files"),
        (lambda folder: edit_json(folder / "config.json", num_hidden_layers=10**9), "num_hidden_layers 1000000000"),
        (lambda folder: edit_json(folder / "config.json", model_type="odd"), "can't build"),
        (lambda folder: edit_json(folder / "config.json", quantization_config={"quant_method": "gptq"}), "quantised"),
    ],
    ids=["pickled", "an adapter itself", "redirected", "endless", "unknown", "quantised"],
)
def test_a_base_that_is_no_plain_model_is_refused(adapter_folder, tiny_base, tmp_path, spoil, cause):
    (adapter_folder / MANIFEST).unlink()
    assert cause in refusal(adapter_folder, spoiled(tiny_base, tmp_path, spoil))


def test_an_adapter_from_elsewhere_loads_and_says_what_was_not_checked(adapter_folder, tiny_base, capsys):
    (adapter_folder / MANIFEST).unlink()
    adapter = adapters.verify(adapter_folder)
    assert "has no training.json: base, data and files can't be compared" in " ".join(capsys.readouterr().err.split())
    assert (adapter.base_model, adapter.quantization) == (str(tiny_base), "none")
    assert adapters.verify_base(adapter, at(tiny_base)).unchecked == (
        "no training.json: whether base, files and training data are those of the training",
        "alpha 8 is only what its own config says",
    )
    adapters.load(adapter, at(tiny_base), CPU)


def test_layers_chosen_by_a_pattern_are_those_of_the_weights_and_the_pattern_is_never_run(
    adapter_folder, tiny_base, trained_adapter
):
    (adapter_folder / MANIFEST).unlink()
    edit_json(adapter_folder / CONFIG, target_modules="(.*.*.*.*.*.*.*.*)*x")
    adapter = adapters.verify_base(adapters.verify(adapter_folder), at(tiny_base))
    assert any("by a pattern" in each for each in adapter.unchecked)
    model, _ = adapters.load(adapter, at(tiny_base), CPU)
    known, _ = adapters.load(adapters.verify(trained_adapter), at(tiny_base), CPU)
    ids = torch.arange(20)[None]
    assert torch.equal(model(ids).logits, known(ids).logits)


def test_an_adapter_from_elsewhere_that_leaves_layers_as_they_are_says_so(adapter_folder, bases):
    (adapter_folder / MANIFEST).unlink()
    base = bases["more layers"]
    adapter = adapters.verify_base(adapters.verify(adapter_folder), base)
    assert f"it changes 2 of the 3 layers of {base.name}, as its config says" in adapter.unchecked


def test_another_template_of_an_adapter_from_elsewhere_is_used_and_named(adapter_folder, tiny_base):
    (adapter_folder / MANIFEST).unlink()
    template(adapter_folder)
    adapter = adapters.verify_base(adapters.verify(adapter_folder), at(tiny_base))
    assert f"the chat template of its tokenizer is its own, not that of {tiny_base}" in adapter.unchecked
    _, loaded = adapters.load(adapter, at(tiny_base), CPU)
    assert loaded.chat_template.startswith("Answer rudely. ")


@pytest.mark.parametrize("kept", [(), ("tokenizer.json", "tokenizer_config.json")], ids=["nothing", "no template"])
def test_an_adapter_from_elsewhere_without_a_whole_tokenizer_gets_that_of_the_base(
    adapter_folder, tiny_base, tokenizer, kept
):
    (adapter_folder / MANIFEST).unlink()
    for path in [*adapter_folder.glob("*token*"), *adapter_folder.glob("chat_template*")]:
        if path.name not in kept:
            path.unlink()
    adapter = adapters.verify_base(adapters.verify(adapter_folder), at(tiny_base))
    assert any("brings no tokenizer with a chat template" in each for each in adapter.unchecked)
    _, loaded = adapters.load(adapter, at(tiny_base), CPU)
    assert base_models.tokenizer_sha256(loaded) == base_models.tokenizer_sha256(tokenizer)


def test_an_adapter_from_elsewhere_that_names_no_base(adapter_folder):
    (adapter_folder / MANIFEST).unlink()
    edit_json(adapter_folder / CONFIG, base_model_name_or_path=None)
    adapter = adapters.verify(adapter_folder)
    with pytest.raises(UserError, match="names no base model; name it with --base-model"):
        _ = adapter.base_model


@pytest.mark.parametrize("name", ["--x", "bad name!", "a" * 200, "a\0b"])
def test_a_base_name_that_is_none_is_refused(adapter_folder, name):
    (adapter_folder / MANIFEST).unlink()
    edit_json(adapter_folder / CONFIG, base_model_name_or_path=name)
    adapter = adapters.verify(adapter_folder)
    with pytest.raises(UserError, match="is neither a folder nor a hub id"):
        base_models.locate(adapter.base_model)


def test_names_in_an_adapter_can_not_steer_the_terminal(adapter_folder, capsys):
    edit_weights(adapter_folder, lambda weights: weights | {"\x1b]0;owned\x07\x1b[2J": torch.zeros(1)})
    reseal(adapter_folder)
    with pytest.raises(SystemExit):
        console.run(lambda: adapters.verify(adapter_folder))
    message = capsys.readouterr().err
    assert "owned" in message
    assert message.strip().isprintable()


@pytest.mark.parametrize(
    ("key", "refused"),
    [
        ("num_hidden_layers", True),
        ("n_layer", True),
        ("vocab_size_per_layer_input", False),
        ("layer_size", False),
        ("max_window_layers", False),
    ],
)
def test_more_layers_than_weights_are_refused_and_sizes_are_no_layers(tiny_base, tmp_path, key, refused):
    folder = shutil.copytree(tiny_base, tmp_path / "base")
    edit_json(folder / "config.json", **{key: 262_144})
    if not refused:
        model_files.check_model(at(folder))
        return
    with pytest.raises(UserError, match=f"has {key} 262144, but the weights hold 21 tensors"):
        model_files.check_model(at(folder))
