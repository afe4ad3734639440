"""Kinds of runs on a pretended CUDA device: no operation on two devices or refused by CUDA, and no wait in a step.

All runs are made in one process of its own, since the device is pretended by changes inside torch (`fake_cuda`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
SECONDS = 240
"""Most that all runs may take; they take half a minute on two idle cores."""

ONCE = {
    # Before training: networks, samples and constants go to the device.
    "__init__",
    "make",
    "of",
    "<genexpr>",
    "<listcomp>",
    "rotary",
    "table",
    "draw_network",
    # After a round or an evaluation: numbers for the record, and weights that are kept.
    "keep",
    "_whole",
    "accuracy",
    "losses",
    "summed_loss",
}
"""Functions that may wait for the device, since they are called a few times in a run."""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    target = tmp_path_factory.mktemp("fake") / "results.json"
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    call = [sys.executable, str(HERE / "kinds.py"), str(target)]
    done = subprocess.run(call, env=environment, capture_output=True, text=True, timeout=SECONDS)
    if not target.exists():
        pytest.skip(f"torch cannot pretend a device here: {(done.stderr or 'no message').splitlines()[-1]}")
    content = json.loads(target.read_text())
    if "unavailable" in content:
        pytest.skip(f"torch cannot pretend a device here: {content['unavailable']}")
    return content
