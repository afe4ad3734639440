"""Two steps of each kind of run on a pretended CUDA device: ``python tests/gpu/kinds.py RESULT.json``.

Writes ``{"unavailable": reason}`` or, for each kind, its device operations, its waits, and the error that ended it.
"""

from __future__ import annotations

import importlib
import json
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import fake_cuda
import fake_lirpa
import numpy as np
import torch
from torch import Tensor

from bench.certified.spec import Certified, Initialisation, Recipe, Verification
from bench.certified.spec import Network as CertifiedNetwork
from bench.paths import Layout
from bench.rewarm import streams
from bench.rewarm.spec import PretrainSpec
from bench.run import RunSpec
from bench.training.context import Context
from bench.warmstart.spec import KEPT, Network, Optimizer, Penalty, Probe, Restart, Round, Stop, Training


class Zeros:
    """A stream of training windows: drawing tokens takes values."""

    def __init__(self, length: int):
        self.length = length

    def windows(self, position: int, count: int) -> np.ndarray:
        return np.zeros((count, self.length), dtype=np.int64)


def zeros_to_train_on(spec: PretrainSpec, data_root: Path) -> Zeros:
    return Zeros(spec.shape.context + 1)


def zeros_to_validate_on(spec: PretrainSpec, data_root: Path) -> dict[str, streams.Validation]:
    windows = Zeros(spec.shape.context + 1).windows(0, 3)
    return {side: streams.Validation({side: windows}, {side: 1.0}) for side in streams.SIDES}


class InMemory(Context):
    """A context that writes nothing: fake tensors have no content."""

    artefacts: ClassVar[dict[tuple[str | None, str], dict[str, Tensor]]] = {}

    def keep(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        self.artefacts[self.key, name] = {key: tensor.detach().to("cpu") for key, tensor in tensors.items()}
        self.kept[name] = "0"

    def parent_tensors(self, name: str = "weights") -> dict[str, Tensor]:
        return self.artefacts[self.parent_key, name]

    def checkpoint(self, make_state: Callable[[], Mapping[str, Any]], *, force: bool = False) -> None:
        make_state()

    def resume(self) -> None:
        return None

    def progress(self, done: float, total: float, unit: str, **values: float) -> None:
        return None


def train(spec: RunSpec) -> None:
    """The run and what it starts from."""
    parent = None
    for part in reversed(list(spec.chain())):
        context = InMemory(
            key=part.identity,
            label=part.label(),
            layout=Layout("fake", Path("none")),
            device=torch.device("cuda"),
            compile="never",
            parent_key=parent,
        )
        importlib.import_module(part.trainer).train(part, context)
        parent = part.identity


def warmstart(network: str = "thin_resnet18", optimizer: str = "sgd", **options: Any) -> Training:
    """A narrow network on two batches and a rest."""
    chosen = Network(name=network, width=8 if "resnet" in network else None, norm=options.pop("norm", "batch"))
    start = options.pop("start", KEPT)
    fields = {"rounds": (Round(samples=40, start=start, epochs=1),), "stop": Stop(cap=1), "generated": 60}
    size = Optimizer(name=optimizer, batch_size=16)
    return Training(seed=0, dataset="synthetic", network=chosen, optimizer=size, **{**fields, **options})


def certified(**options: Any) -> Certified:
    network = options.pop("network", CertifiedNetwork(width=2, units=8))
    return Certified(seed=0, dataset=options.pop("dataset", "cifar10"), network=network, **options).smoke()


def pretraining(**options: Any) -> PretrainSpec:
    """Two micro-batches a step, in bf16, evaluated before and after."""
    fields = {
        "seed": 0,
        "model": "1x32x2",
        "vocabulary": 64,
        "context": 16,
        "corpora": {"kind": "generated", "vocabulary": 64, "validation_windows": 1},
        "schedule": {"max_lr": 1e-3, "steps": 2},
        "evaluation": {"every": 2, "dense_every": 2},
        "batch": 4,
        "micro_batch": 2,
        "precision": "bf16",
    }
    return PretrainSpec.model_validate({**fields, **options})


def two_devices() -> None:
    torch.ones(3, device="cuda") + torch.ones(3)


def host_waits() -> None:
    values = torch.ones(3, device="cuda")
    float(values.sum())
    values[values > 0]
    torch.ones(3).to("cuda")


SMALL = "synthetic_certified"
OURS = {"init": "ibp", "regularizers": ("tightness", "relu")}
PERTURB = Restart(method="shrink_perturb", shrink=0.5, perturb=0.1)

RUNS: dict[str, Callable[[], RunSpec]] = {
    "resnet, batch norm": lambda: warmstart(augment=True, evaluate="epochs", bn_statistics="population"),
    "resnet, group norm, adam": lambda: warmstart(optimizer="adam", norm="group", precision="bf16"),
    "mlp, shrink and perturb": lambda: warmstart(
        "mlp", "adam", start=PERTURB, leaves=True, parent=warmstart("mlp", leaves=True)
    ),
    "probe of gradients": lambda: warmstart("mlp", probe=Probe(kind="gradients", old_samples=20, every=1)),
    "probe of shrinking": lambda: warmstart("mlp", probe=Probe(kind="shrinking", grid=(0.5, 1.0))),
    "adversarial penalty": lambda: warmstart("mlp", penalty=Penalty(kind="adversarial", weight=0.1)),
    "cnn7, ours": lambda: certified(**OURS),
    "wide resnet, ours": lambda: certified(network=CertifiedNetwork(name="wide_resnet8", width=2, units=8), **OURS),
    "sabr": lambda: certified(recipe=Recipe(objective="sabr", box_share=0.5, attack_steps=1)),
    "crown_ibp, micro-batches": lambda: certified(dataset=SMALL, bound="crown_ibp", micro_batch=8),
    "initialisation": lambda: Initialisation(seed=0, dataset="cifar10").smoke(),
    "verification": lambda: Verification(
        seed=0, parent=certified(dataset=SMALL), methods=("ibp", "crown_ibp", "crown")
    ).smoke(),
    "pythia, twice": lambda: pretraining(parent=pretraining(keep_moments=True), moments="kept"),
}

FAULTS: dict[str, Callable[[], None]] = {
    "fault: two devices": two_devices,
    "fault: host waits": host_waits,
}


def observed(act: Callable[[], None]) -> dict[str, Any]:
    error = ""
    with fake_lirpa.on_device(), fake_cuda.device() as seen:
        try:
            act()
        except Exception as raised:
            traceback.print_exc()
            error = f"{type(raised).__name__}: {raised}"
        return {
            "error": error,
            "waits": [[kind, where, count] for (kind, where), count in seen.waits.items()],
            "launches": seen.launches,
        }


def main(target: Path) -> None:
    try:
        fake_cuda.check()
    except Exception as error:
        target.write_text(json.dumps({"unavailable": f"torch {torch.__version__}: {type(error).__name__}: {error}"}))
        return
    streams.training, streams.validation = zeros_to_train_on, zeros_to_validate_on  # type: ignore[assignment]
    results = {name: observed(act) for name, act in FAULTS.items()}
    for name, make in RUNS.items():
        spec = make()  # outside: a specification may read a network's layers
        results[name] = observed(lambda spec=spec: train(spec))  # type: ignore[misc]
    target.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
