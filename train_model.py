"""Fine-tune any causal language model with a chat template on prepared records.

    python train_model.py --base-model HuggingFaceTB/SmolLM2-360M-Instruct      a model of the hub
    python train_model.py --base-model ../my-model --quantization none          a folder, unquantised
    python train_model.py --config configs/cpu-starter.yaml                     a preset
    python train_model.py --resume                                              go on after an interruption

The same training as train_tinyllama.py, without its choice of model. Edit the constants below, or give the same
settings as flags; --help lists them all.
"""

from utils import base_models, console, libraries, settings
from utils.training.settings import TrainingSettings

BASE_MODEL = "starter"  # hub id, a folder, or "starter": SmolLM2-135M-Instruct from PyPI
DATA_DIR = "data/processed"
OUTPUT_DIR = "models/finetuned"

QUANTIZATION = "nf4"  # "nf4", "int8" or "none"
LORA_RANK = 16
LEARNING_RATE = 2e-4
BATCH_SIZE = 4
GRADIENT_ACCUMULATION_STEPS = 4
MAX_LENGTH_TOKENS = 512
EPOCHS = 3


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
