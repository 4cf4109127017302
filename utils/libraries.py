"""How the training libraries are set up before they are first imported."""

from __future__ import annotations

import logging
import os
import warnings

from utils import console

# How often a thread of torch looks whether the others are done before it sleeps. GNU's default of 300,000 burns the
# time that the others need when another program is busy on the same cores: a training step on two cores took 8.5 s
# beside two busy programs instead of 4.0 s. Undisturbed it costs 2%.
SPIN_COUNT = "2000"


def prepare() -> None:
    """Keeps their chatter off the terminal and their threads out of other programs' way. Call it before they are
    imported; what the environment sets already stays."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", message="IProgress not found")  # tqdm in a notebook without ipywidgets
    warnings.filterwarnings("ignore", message="Could not find a config file in")  # peft saves, and the hub is away
    if not console.err.is_terminal:
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("TQDM_DISABLE", "1")
