# %% [markdown]
# # Train on Colab

# %% [markdown]
"""
A Discord history in, a small chat model out that answers like one person in it: the training on Google Colab.

Run all cells (Runtime > Run all). As it stands, this trains TinyLlama on an invented sample server. For your own
history:

1. Ask the people in it: their words will be in the model.
2. In the first cell, say where the export is (SOURCE: a zip on your Drive, or "upload"), whose replies to learn
   (PERSONA; None lists the most active authors and stops), and where the adapter goes (OUTPUT_DIR: another folder than
   the sample's).
3. Run all cells again.

What it costs: a GPU session, for which a free T4 should do with the settings below, and some space on Google Drive if
you let it use that. How long it takes is measured on your data before the training starts. Your history stays in your
session and on your Drive. Weights & Biases gets numbers only, and only if you log in to it.

Sessions end without a word. Run all cells again, in the same session or a new one: training goes on from the newest
checkpoint on Drive, and what is finished is not done twice.

The same file is a plain script, `python train_colab.py`; `--help` lists every setting.
"""

# %% [markdown]
# ## Settings
# The ones that people change. Any setting that `--help` lists may stand here, in capitals.

# %%
REPOSITORY = None  # "https://github.com/OWNER/NAME" of your copy of the project
DRIVE_FOLDER = "rohanai"  # in My Drive, for what must outlive the session; None uses no Drive

SOURCE = "data/sample"  # or "/content/drive/MyDrive/export.zip", or "upload"; None: DATA_DIR is prepared
PERSONA = "rohan"  # whose replies to learn: a user id or a name; None lists the most active authors
PREPARE_FLAGS = ()  # more settings of prepare_training_data.py, such as ("--names", "pseudonyms")
TEST_FLAGS = ()  # ("--quick",) is shorter

BASE_MODEL = "TinyLlama/TinyLlama-1.1B-Chat-v1.0"  # or "starter": 135M, without a GPU
DATA_DIR = "data/colab"
OUTPUT_DIR = "models/tinyllama-finetuned"  # in DRIVE_FOLDER, where there is a Drive

LEARNING_RATE = 2e-4
BATCH_SIZE = 4
GRADIENT_ACCUMULATION_STEPS = 4
MAX_LENGTH_TOKENS = 512
EPOCHS = 3
SAVE_EVERY_MINUTES = 5.0  # what a lost session costs at most
RESUME = True  # go on after a disconnect
RESTART = False  # True drops what was trained with other settings or data, and starts over

# %% [markdown]
# ## The project
# A notebook that was opened on its own gets the project's files; one that lies in the project uses them.

# %%
import os
import subprocess
import sys
from pathlib import Path

if "__file__" not in globals():  # a notebook
    places = [Path(), Path(".."), Path("rohanai")]
    found = [place for place in places if (place / "train_colab.py").exists()]
    if not found and REPOSITORY is None:
        raise SystemExit("name REPOSITORY in the first cell, or upload the project as the folder rohanai")
    if not found:
        clone = ["git", "clone", "--quiet", "--depth", "1", REPOSITORY, "rohanai"]
        done = subprocess.run(clone, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"git can't get the project from REPOSITORY: {done.stderr.strip()}")
    elif found[0] == Path("rohanai") and (found[0] / ".git").exists():
        subprocess.run(["git", "-C", "rohanai", "pull", "--quiet", "--ff-only"], check=False)
    os.chdir(found[0] if found else "rohanai")
    sys.path.insert(0, str(Path.cwd()))

# %% [markdown]
# ## Packages
# Installs the pinned versions in Colab. Colab's own torch stays, since it fits the GPU.

# %%
from utils import colab_packages

colab_packages.install(Path("requirements.txt"))

# %%
from dataclasses import replace

from utils import base_models, colab, console, libraries, settings
from utils.training.colab_settings import ColabSettings

console.run_cells()
chosen = settings.resolve(ColabSettings, globals(), colab.arguments())
wanted = chosen.values
settings.show(chosen)

# %% [markdown]
# ## The runtime
# A T4 or V100 computes in float16, an L4, an A100 or newer in bfloat16, a CPU in whichever it multiplies faster. The
# estimate is made from one product of two matrices; the preflight below measures on your data.

# %%
libraries.prepare()

compute = base_models.choose_compute(wanted.quantization, wanted.device, wanted.dtype, training=True)
colab.show_runtime(compute)

# %% [markdown]
# ## Google Drive
# Keeps uploads, checkpoints and the adapter when the session ends. Colab asks for permission.

# %%
storage = colab.storage(wanted.drive_folder)
console.say(f"checkpoints and adapter go to {(storage / wanted.output_dir).absolute()}")

# %% [markdown]
# ## The data
# Turns the history into records; read some of `train.jsonl` before you train on it. This cell and the test below show
# messages: Edit > Clear all outputs before you share the notebook.

# %%
if wanted.source:
    source = colab.choose_source(wanted.source, storage / "data/raw")
    persona = ["--persona", wanted.persona] if wanted.persona else []
    command = ["prepare_training_data.py", "--source", source, *persona, "--output-dir", wanted.data_dir]
    colab.run_script(*command, *wanted.prepare_flags)

# %% [markdown]
# ## Preflight
# Loads the base (the first time it is fetched), and measures on your longest records what fits and how long it takes.

# %%
from utils.training import artifacts, checkpoints, data, lora, monitoring, preflight
from utils.training import run as training

run = replace(wanted.training, output_dir=storage / wanted.output_dir)
files = data.read(run.data_dir)
base = base_models.locate(run.base_model)
tokenizer = base_models.load_tokenizer(base)
encoded = data.encode(files, tokenizer, run.max_length_tokens, run.evaluation_records)

model = trainer = None  # of an earlier run of this cell
colab.free_memory()
model = lora.load(base, compute, run)
identity = artifacts.fingerprints(run, base, tokenizer, files.sha256, compute)
start = checkpoints.starting_point(run, identity)
fit = preflight.measure(model, encoded, run, compute, start)
preflight.show(fit, encoded, compute)
if run.dry_run:
    sys.exit()

# %% [markdown]
# ## Training
# The stop button finishes the step and saves; run the cell again to go on.

# %%
start = checkpoints.starting_point(run, identity)  # again: this cell may have run before
if start is None and monitoring.adapter_update_norm(model) > 0:
    raise console.UserError("this model has been trained on, and nothing was saved: run the cell Preflight again")
trainer = training.build(model, tokenizer, encoded, run, compute, identity, fit)
results = training.train(trainer, run, start)
artifacts.save(model, tokenizer, run, base, identity, results)
artifacts.report(run, results)

# %% [markdown]
# ## Did it help?
# The curves of the training, then the base and the tuned model on conversations that neither was trained on.

# %%
colab.show_files([run.output_dir / "training.png"])

# %%
test_file = run.data_dir / "test.jsonl"
if test_file.exists():
    command = ["test_model_loading.py", "--adapter", run.output_dir, "--test-file", test_file, "--device", run.device]
    colab.run_script(*command, *wanted.test_flags, exit_codes=(0, 1))  # 1: a check failed, and it says which
    colab.show_files([run.output_dir / "evaluation.html"])

# %% [markdown]
# ## Take it home
# The adapter as a zip, without checkpoints and without any message. Unpack it into `models/` of a copy of the project;
# there, `python test_model_loading.py --chat` talks to it.

# %%
colab.download(colab.pack(run.output_dir))
