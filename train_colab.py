# %% [markdown]
# # Train on Colab
# TinyLlama with LoRA over a 4-bit base, on a free T4 or better. Checkpoints go to Google Drive where it is mounted, so
# a disconnect costs minutes: run every cell again and training goes on. Runs as a plain script, too.

# %% Settings
"""Fine-tune TinyLlama in Google Colab, safe against disconnects; also a plain script.

    python train_colab.py

Open it in Colab cell by cell, or run it as it is. Upload train.jsonl, validation.jsonl and test.jsonl (made by
prepare_training_data.py) into DATA_DIR first. --help lists every setting.
"""

import sys
from pathlib import Path

from utils import base_models, console, settings
from utils.training.settings import TrainingSettings

BASE_MODEL = "TinyLlama/TinyLlama-1.1B-Chat-v1.0"
DATA_DIR = "data/processed"
OUTPUT_DIR = "models/tinyllama-finetuned"  # moved to Google Drive where it is mounted

LEARNING_RATE = 2e-4
BATCH_SIZE = 4
GRADIENT_ACCUMULATION_STEPS = 4
MAX_LENGTH_TOKENS = 512
EPOCHS = 3
SAVE_EVERY_STEPS = 20
RESUME = True  # after a disconnect, run every cell again


# %% Drive: what must outlive the session
def on_drive(output_dir: str) -> str:
    """The folder of that name on Google Drive in Colab, `output_dir` itself anywhere else."""
    if "google.colab" not in sys.modules:
        return output_dir
    from google.colab import drive

    drive.mount("/content/drive")
    return str(Path("/content/drive/MyDrive/rohanai") / output_dir)


# %% Train
def main(argv: list[str] | None = None) -> None:
    constants = globals() | {"OUTPUT_DIR": on_drive(OUTPUT_DIR)}
    chosen = settings.resolve(TrainingSettings, constants, argv)
    run = chosen.values
    settings.show(chosen)

    console.quiet_libraries()
    from utils.training import artifacts, checkpoints, data, lora, preflight
    from utils.training import run as training

    files = data.read(run.data_dir)
    base = base_models.locate(run.base_model)
    compute = base_models.choose_compute(run.quantization, run.device)
    tokenizer = base_models.load_tokenizer(base)
    encoded = data.encode(files, tokenizer, run.max_length_tokens, run.evaluation_records)
    model = lora.add_adapter(base_models.load_model(base, compute), run)
    identity = artifacts.fingerprints(run, base, tokenizer, files.sha256, compute)
    start = checkpoints.starting_point(run, identity)
    fit = preflight.measure(model, encoded, run, compute, start)
    preflight.show(fit, encoded, compute)
    if run.dry_run:
        return
    trainer = training.build(model, tokenizer, encoded, run, compute, identity, fit)
    results = training.train(trainer, run, start)
    artifacts.save(model, tokenizer, run, base, identity, results)
    artifacts.report(run, results)


# %% Go
if __name__ == "__main__":
    console.run(lambda: main([] if "google.colab" in sys.modules else None))
