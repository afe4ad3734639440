"""Kinds of runs on a pretended CUDA device: no operation on two devices or refused by CUDA, and no wait in a step.

All runs are made in one process of its own, since the device is pretended by changes inside torch (`fake_cuda`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
SECONDS = 280
"""Most that all runs may take: about half a minute of one core."""

ALWAYS = 1_000_000
WAITS = {
    # Before training: samples, networks, a parent's weights and constants go to the device.
    "bench/certified/dataset.py": ALWAYS,
    "bench/certified/init_bounds.py": ALWAYS,
    "bench/certified/train.py __init__": ALWAYS,
    "bench/certified/verify.py __init__": ALWAYS,
    "bench/models/neox.py table": ALWAYS,
    "bench/rewarm/engine.py <listcomp>": ALWAYS,
    "bench/rewarm/engine.py _placed": ALWAYS,
    "bench/training/graphs.py prepare": ALWAYS,
    "bench/training/samples.py make": ALWAYS,
    "bench/warmstart/train.py __init__": ALWAYS,
    "bench/warmstart/shrink.py": ALWAYS,
    "bench/warmstart/weights.py": ALWAYS,
    # Weights and moments that are saved.
    "bench/rewarm/engine.py _whole": ALWAYS,
    "tests/gpu/kinds.py": ALWAYS,
    # Once an epoch: the loss, and right answers by batch or errors; the state of each layer's neurons.
    "bench/warmstart/train.py _fit_epoch": 4,
    "bench/certified/train.py train_epoch": 1,
    "bench/certified/train.py <genexpr>": 3,
    "bench/certified/evaluate.py measure": 4,
    "bench/certified/evaluate.py shares": 20,
    "bench/certified/evaluate.py mean_radius": 20,
    "bench/certified/evaluate.py radius_by_state": 40,
    # Once an evaluation.
    "bench/training/samples.py accuracy": 5,
    "bench/rewarm/evaluate.py losses": 12,
    "bench/rewarm/engine.py summed_loss": 12,
    "bench/rewarm/progress.py": 4,
    # Gradients of each batch are the measurement itself; three batches of old and new samples.
    "bench/warmstart/probes.py gradient_norms": 12,
    # Once a batch and bound of a verification, which is no training; auto_LiRPA asks the device for itself.
    "bench/certified/verify.py": 40,
    "bench/certified/lirpa.py margins": 100,
}
"""Where the host may wait for the device, and how often in one run of these tests: a file, or a function of it."""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    target = tmp_path_factory.mktemp("fake") / "results.json"
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    call = [sys.executable, str(HERE / "kinds.py"), str(target)]
    done = subprocess.run(call, env=environment, capture_output=True, text=True, timeout=SECONDS)
    if not target.exists():
        pytest.skip(f"torch cannot pretend a device here: {(done.stderr or 'no message').splitlines()[-1]}")
    content = json.loads(target.read_text())
    if "unavailable" in content:
        pytest.skip(f"torch cannot pretend a device here: {content['unavailable']}")
    return content


def allowed(place: str) -> int:
    file, function = place.split(":")[0].split(" ", 1)
    return WAITS.get(f"{file} {function}", WAITS.get(file, 0))


@pytest.mark.timeout(SECONDS + 20)
def test_no_run_mixes_devices_or_is_refused(results: dict[str, Any]) -> None:
    runs = {name: run for name, run in results.items() if not name.startswith("fault")}
    assert len(runs) >= 12
    assert {name: run["error"] for name, run in runs.items() if run["error"]} == {}
    assert all(run["launches"] > 50 for run in runs.values())


def test_no_step_waits_for_the_device(results: dict[str, Any]) -> None:
    """Each run has two full batches and mostly a third: what waits in a step waits more often than is declared."""
    undeclared = []
    for name, run in results.items():
        if name.startswith("fault"):
            continue
        counts: Counter[str] = Counter()
        for kind, place, count in run["waits"]:
            counts[place.split(":")[0]] += count
            if count > allowed(place):
                undeclared.append(f"{name}: {count} x {kind} at {place}")
        undeclared += [f"{name}: {n} waits in {place}" for place, n in counts.items() if n > allowed(place + ":")]
    assert not undeclared, "\n".join(undeclared)


def test_the_pretended_device_sees_what_a_real_one_refuses_or_waits_for(results: dict[str, Any]) -> None:
    assert "two devices" in results["fault: two devices"]["error"]
    kinds = sorted(kind for kind, _, _ in results["fault: host waits"]["waits"])
    assert kinds == ["cpu to cuda", "item", "mask"]
