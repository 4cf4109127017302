"""Export what was trained for use without this project.

    python -m utils.export --to merged     base and adapter in one model: transformers, vLLM
    python -m utils.export --to gguf       one file: llama.cpp and what builds on it
    python -m utils.export --to ollama     that file with a Modelfile: ollama create NAME -f Modelfile

Merges an adapter into the unquantised base, writes the export beside the adapter, loads it again and scores held-out
replies with it. What does not give them the likelihood that the adapter gives is refused, and nothing is left behind.
A full fine-tune is a whole model already; it can become GGUF.
"""

from __future__ import annotations

import gc
import math
import shutil
import textwrap

from utils import base_models, console, libraries, records, settings
from utils.export.settings import ExportSettings

TEXT_BYTES = 50_000_000  # room for tokenizer, card and file headers


def main(argv: list[str] | None = None) -> None:
    chosen = settings.resolve(ExportSettings, {"__doc__": __doc__, "__file__": "utils/export"}, argv)
    wanted = chosen.values
    settings.show(chosen)

    libraries.prepare()
    import torch

    from utils import prompts
    from utils.base_models import Compute
    from utils.console import UserError
    from utils.export import gguf_file, gguf_vocabulary, held_out, merged, model_card, ollama, source, staging
    from utils.export.held_out import Measured
    from utils.saved_models import manifests

    staging.check_destination(wanted.destination, wanted.overwrite)
    test_records = records.read(wanted.test_file or manifests.held_out_file(wanted.adapter))
    trained = source.verify(wanted.adapter, wanted.base_model)
    if trained.adapter is None and wanted.to == "merged":
        raise UserError(f"{wanted.adapter} is a whole model already: use it as it is, or export it with --to gguf")
    compute = base_models.choose_compute(trained.quantization, wanted.device)

    model, tokenizer = trained.load(Compute(compute.device, torch.float32, "none"))
    tokenizer.chat_template = prompts.template_for_others(tokenizer)
    encoded = held_out.sample(test_records, tokenizer, wanted)
    system_prompt = wanted.system_prompt or ollama.system_prompt(test_records)
    if wanted.to != "merged":
        gguf_file.check_supported(model.config, tokenizer)
    if wanted.to == "ollama":
        ollama.turns(tokenizer)
    full_precision = held_out.mean_nll(model, encoded, "as trained, unquantised")

    weights = sum(parameter.numel() for parameter in model.parameters())
    kind = wanted.gguf_type
    # Float16 would take away much of what full fine-tuning changed: its steps are as small as that rounding.
    dtype = torch.float16 if trained.adapter else torch.float32
    bytes_per_weight = dtype.itemsize + (0 if wanted.to == "merged" else gguf_file.BYTES_PER_WEIGHT[kind])
    with staging.staged(wanted.destination, int(weights * bytes_per_weight) + TEXT_BYTES) as folder:
        exported = {}
        model_folder = folder if wanted.to == "merged" else folder / "merged"
        merged.write(model, tokenizer, model_folder, dtype)
        del model
        gc.collect()
        if dtype == torch.float16:
            exported["float16"] = held_out.mean_nll(merged.load(model_folder, compute), encoded, "float16")
            held_out.check("float16", exported["float16"], full_precision)
        if wanted.to != "merged":
            gguf_file.write(model_folder, tokenizer, folder / "model.gguf", kind)
            shutil.rmtree(model_folder)
            gc.collect()
            exported[kind] = held_out.mean_nll(gguf_file.load(folder / "model.gguf", compute), encoded, kind)
            held_out.check(kind, exported[kind], full_precision)
        if wanted.to == "ollama":
            vocabulary = gguf_vocabulary.read(tokenizer, len(tokenizer))
            text = ollama.modelfile("model.gguf", tokenizer, system_prompt, leading_space=vocabulary.leading_space)
            (folder / "Modelfile").write_text(text, encoding="utf-8")
        as_trained = None
        if compute.quantization != "none":
            model, _ = trained.load(compute)
            as_trained = held_out.mean_nll(model, encoded, f"adapter on {compute.quantization}")
        tokens = sum(record.supervised_tokens for record in encoded)
        measured = Measured(len(encoded), tokens, as_trained, full_precision, exported)
        model_card.write(folder, trained, measured, wanted)

    console.heading(f"exported {wanted.adapter}")
    rows = [(f"adapter over the {compute.quantization} base", as_trained)] if as_trained is not None else []
    rows += [(trained.description, full_precision)]
    rows += [(f"exported as {held_out.FORMS[form]}", nll) for form, nll in exported.items()]
    console.table(
        ("held-out replies", "nats a token", "perplexity"),
        [(name, f"{nll:.4f}", f"{math.exp(nll):.2f}") for name, nll in rows],
        numeric=(1, 2),
    )
    held_out.warn_of_base(measured, compute.quantization)
    console.say(f"\n{wanted.to}  {wanted.destination}; its README.md says what was measured. To use it:")
    console.say(textwrap.indent(model_card.commands(wanted.to, str(wanted.destination), system_prompt), "    "))


if __name__ == "__main__":
    console.run(main)
