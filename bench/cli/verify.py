"""Verified error of a checkpoint, one line for each method: what ``python -m bench verify`` does."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from pydantic import ValidationError

from bench import checkpoint, paths
from bench.certified.spec import DATA_SETS, Certified, Network
from bench.errors import FailedRun, UserError, closest

if TYPE_CHECKING:
    from torch import Tensor

    from bench.certified.verify import Tally

NETWORKS: tuple[str, ...] = get_args(Network.model_fields["name"].annotation)


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
        checkpoint: weights that a run left (.safetensors), or a state dict.
        dataset, network, norm, width, units, eps: ``None`` for those of the run's record, or of the paper.
        methods: bounds to verify with.
        samples: number of test samples, the first ones; ``None`` for all.
        batch: samples at once; ``None`` to decide by memory.
        pgd_steps, pgd_restarts: of the attack.
        alpha_iterations: of alpha-CROWN.
        dtype, device: of the arithmetic.
        as_json: whether to print JSON.
    """

    checkpoint: Path
    dataset: str | None
    network: str | None
    norm: str | None
    width: int | None
    units: int | None
    eps: float | None
    methods: tuple[str, ...]
    samples: int | None
    batch: int | None
    pgd_steps: int
    pgd_restarts: int
    alpha_iterations: int
    dtype: str
    device: str
    as_json: bool

    def __post_init__(self) -> None:
        for option, value, known in (("dataset", self.dataset, DATA_SETS), ("network", self.network, NETWORKS)):
            if value is not None and value not in known:
                raise UserError(f"--{option} '{value}' does not exist{closest(value, known)}")


def spec_of(path: Path) -> Certified | None:
    """The run that left these weights, from the record beside the artefacts; ``None`` for other files."""
    record = path.parent.parent.parent / "runs" / f"{path.parent.name}.json"
    if path.suffix != ".safetensors" or not record.exists():
        return None
    from bench.record import read

    fields = {name: value for name, value in read(record).spec.items() if name not in ("kind", "version")}
    try:
        return Certified.model_validate(fields)
    except ValidationError:
        raise UserError(f"{record}: is no record of a certified training; give weights that one left") from None


def spec_for(request: Request) -> Certified:
    """Network, data and eps: as requested, else of the record.

    Raises:
        UserError: something is missing.
    """
    path = request.checkpoint
    recorded = spec_of(path)
    if recorded is None and (request.dataset is None or request.network is None):
        raise UserError(
            f"{path}: no record says what it is; give --dataset, --network and, if it is not the paper's, --eps"
        )
    base = recorded or Certified.model_validate({"seed": 0, "dataset": request.dataset})
    options = {"name": request.network, "norm": request.norm, "width": request.width, "units": request.units}
    options = {name: value for name, value in options.items() if value is not None}
    try:
        network = Network.model_validate({**base.network.model_dump(), **options})
    except ValidationError as error:
        raise UserError(f"{path}: {error.errors()[0]['msg']}") from None
    update: dict[str, Any] = {"network": network}
    if request.dataset is not None:
        update["dataset"] = request.dataset
    if recorded is None:
        update["eps"] = DATA_SETS[str(request.dataset)].eps
    return base.model_copy(update=update)


def tensors_of(path: Path) -> dict[str, Tensor]:
    """Named tensors of a safetensors file, or of a plain state dict read with ``weights_only=True``.

    Raises:
        UserError: the file is absent, damaged, or holds something else.
    """
    import torch

    if path.suffix == ".safetensors":
        return checkpoint.load_tensors(path)
    if not path.exists():
        raise UserError(f"{path}: no such file; expected weights (.safetensors) or a state dict (.pt, .pth)")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch's own text recommends to unpickle without a check.
        raise UserError(
            f"{path}: not a state dict of tensors alone; save one with torch.save(model.state_dict(), path)"
        ) from error
    for inner in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(inner), Mapping):
            content = content[inner]
    if not isinstance(content, Mapping) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise UserError(f"{path}: holds no state dict; save it with torch.save(model.state_dict())")
    return dict(content)


def fitting(tensors: Mapping[str, Tensor], spec: Certified) -> str:
    """Which architecture the checkpoint is of, as options, or an empty text."""
    import torch

    from bench import models
    from bench.certified.verify import load_weights

    for name in NETWORKS:
        for norm in ("full", "convs", "partial", "none"):
            try:
                network = Network.model_validate({**spec.network.model_dump(), "name": name, "norm": norm})
                with torch.device("meta"):
                    model = models.build(name, num_classes=spec.classes(), in_shape=spec.shape(), **network.options())
                load_weights(model.to_empty(device="cpu"), tensors, "")
            except (UserError, ValidationError):
                continue
            return f"; it fits --network {name} --norm {norm}"
    return ""


def lines(tally: Tally, steps: int, eps: float) -> list[str]:
    """The report, one line for each method."""
    from bench.certified.lirpa import NAMES

    names = {"standard_error": "standard error", "pgd_error": f"PGD-{steps} error"}
    report = []
    for key, value in tally.errors().items():
        method = key.removeprefix("verified_error_")
        name = names.get(key) or f"{NAMES[method]} verified error"
        seconds = tally.seconds.get("pgd" if key == "pgd_error" else method)
        spent = "" if seconds is None else f"  {seconds:8.1f} s"
        report.append(
            f"{name:32} {value:6.2f} %  eps {0 if key == 'standard_error' else eps:.5g}  n {tally.samples(key)}{spent}"
        )
    return report


def verify(request: Request) -> int:
    """Verifies a checkpoint; interrupted and called again it goes on.

    Raises:
        UserError: the checkpoint is not readable or of another architecture, data are missing, memory does not suffice.
    """
    where = request.checkpoint
    tensors = tensors_of(where)
    spec = spec_for(request)
    eps = spec.target if request.eps is None else request.eps
    import torch
    from tqdm import tqdm

    from bench import models
    from bench.certified.dataset import samples_of
    from bench.certified.verify import Options, Tally, Verifier, load_weights
    from bench.training.context import Context
    from bench.workflow import process
    from bench.workflow.execute import device_of

    process.prepare_torch(torch.get_num_threads())
    process.keep_freed()
    device = device_of(request.device)
    model = models.build(spec.network.name, num_classes=spec.classes(), in_shape=spec.shape(), **spec.network.options())
    try:
        load_weights(model, tensors, str(where))
    except UserError as error:
        raise UserError(f"{error}{fitting(tensors, spec)}") from None
    options = Options(
        eps=eps,
        methods=tuple(dict.fromkeys(request.methods)),
        pgd_steps=request.pgd_steps,
        pgd_restarts=request.pgd_restarts,
        dtype=request.dtype,
        alpha_iterations=request.alpha_iterations,
    )
    name = f"{checkpoint.sha256(where)} {options} {spec.network} {spec.dataset} {request.samples}"
    key = hashlib.sha256(name.encode()).hexdigest()[:16]
    layout = paths.Layout("verify", paths.results_root() / "verify")
    context = Context(key, str(where), layout, device, data_root=paths.data_root())
    whole = spec.model_copy(update={"report_samples": request.samples, "population": None, "holdout": 0})
    verifier = Verifier(model, samples_of(whole, context).test, spec.dataset, options, request.batch, str(where))
    state = layout.scratch / f"{key}.json"
    tally = Tally(**json.loads(state.read_text(encoding="utf-8"))) if state.exists() else Tally()
    with tqdm(total=len(verifier.pool), initial=tally.done, unit="samples", disable=None, leave=False) as bar:

        def after_batch(now: Tally) -> None:
            bar.update(now.done - bar.n)
            bar.set_postfix({name.removesuffix("_error"): f"{value:.1f}" for name, value in now.errors().items()})
            checkpoint.write_text(state, json.dumps(vars(now)))

        try:
            verifier.run(tally, after_batch)
        except FailedRun as error:
            bar.close()
            print(f"error: {error}", file=sys.stderr)
            return 1
    if request.as_json:
        print(json.dumps({**tally.errors(), "samples": tally.done, "eps": eps, "seconds": tally.seconds}))
    else:
        print("\n".join(lines(tally, options.pgd_steps, eps)))
    state.unlink(missing_ok=True)
    if not os.listdir(layout.scratch):
        layout.scratch.rmdir()
    return 0
