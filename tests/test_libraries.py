"""What the training libraries find when they are imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.skipif(sys.platform != "linux", reason="torch brings GNU's OpenMP on Linux alone")
@pytest.mark.parametrize(
    ("set_before", "seen"),
    [
        ({}, "GOMP_SPINCOUNT = '2000'"),
        ({"GOMP_SPINCOUNT": "7"}, "GOMP_SPINCOUNT = '7'"),
        ({"OMP_WAIT_POLICY": "active"}, "OMP_WAIT_POLICY = 'ACTIVE'"),
    ],
)
def test_threads_that_wait_soon_sleep_unless_the_environment_says_otherwise(set_before, seen):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GOMP_", "OMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", "from utils import libraries; libraries.prepare(); import torch"],
        cwd=ROOT,
        env=environment | {"OMP_DISPLAY_ENV": "verbose"} | set_before,
        capture_output=True,
        text=True,
        check=True,
    )
    assert seen in done.stderr
    assert ("GOMP_SPINCOUNT = '2000'" in done.stderr) == (not set_before)
