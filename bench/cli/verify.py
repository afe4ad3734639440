"""``python -m bench verify CHECKPOINT``: verified error of a checkpoint, one line for each method."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from bench import checkpoint, paths
from bench.certified.spec import DATA_SETS, Certified, Network
from bench.cli.arguments import Parser, count
from bench.errors import FailedRun, UserError

if TYPE_CHECKING:
    from torch import Tensor

    from bench.certified.verify import Tally

METHODS = ("ibp", "crown_ibp", "crown", "alpha_crown")


def radius(text: str) -> float:
    """``0.03137`` or ``8/255``."""
    try:
        value = float(Fraction(text))
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(f"'{text}' is no number; expected e.g. 8/255 or 0.4") from None
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative; a radius is 0 or more")
    if value > 1:
        raise argparse.ArgumentTypeError(f"{text} is above 1; pixels lie between 0 and 1, so that 8 of 255 is 8/255")
    return value


def parser() -> Parser:
    top = Parser(
        prog="python -m bench verify",
        description=(
            "Verified error with auto_LiRPA and error under attack (PGD). For weights that a run left, network, data and "
            "eps come from its record; for a plain state dict they are given."
        ),
    )
    top.add_argument("checkpoint", metavar="CHECKPOINT", help="weights that a run left (.safetensors), or a state dict")
    top.add_argument("--dataset", choices=[*DATA_SETS], help="test set (of the record)")
    top.add_argument("--network", choices=["cnn7", "wide_resnet8", "resnext"], help="architecture (of the record)")
    top.add_argument(
        "--norm", choices=["full", "convs", "partial", "none"], default=None, help="where BatchNorm stands"
    )
    top.add_argument("--width", type=count, metavar="W", help="first width, if not the paper's")
    top.add_argument("--units", type=count, metavar="U", help="units of the hidden layer, if not 512")
    top.add_argument("--eps", type=radius, metavar="E", help="radius in pixel units of 0 to 1, e.g. 8/255")
    top.add_argument(
        "--methods",
        nargs="+",
        choices=METHODS,
        default=["ibp", "crown_ibp"],
        metavar="M",
        help=f"any of {', '.join(METHODS)}",
    )
    top.add_argument("--samples", type=count, metavar="N", help="the first N test samples (all)")
    top.add_argument("--batch", type=count, metavar="B", help="samples at once (by memory)")
    top.add_argument("--pgd-steps", type=count, default=40, metavar="S", help="steps of the attack (40)")
    top.add_argument("--pgd-restarts", type=count, default=1, metavar="R", help="random starts of the attack (1)")
    top.add_argument("--alpha-iterations", type=count, default=20, metavar="I", help="iterations of alpha-CROWN (20)")
    top.add_argument("--dtype", choices=["float32", "float64"], default="float32", help="arithmetic, never TF32")
    top.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    top.add_argument("--json", action="store_true", help="machine-readable")
    return top


def spec_of(path: Path) -> Certified | None:
    """The run that left these weights, from the record beside the artefacts; ``None`` for other files."""
    record = path.parent.parent.parent / "runs" / f"{path.parent.name}.json"
    if path.suffix != ".safetensors" or not record.exists():
        return None
    from bench.record import read

    fields = {name: value for name, value in read(record).spec.items() if name not in ("kind", "trainer", "version")}
    try:
        return Certified.model_validate(fields)
    except ValidationError:
        raise UserError(f"{record}: is no record of a certified training; give weights that one left") from None


def chosen_spec(path: Path, arguments: argparse.Namespace) -> Certified:
    """Network, data and eps: of the record where there is one, of the arguments where they are given.

    Raises:
        UserError: something is missing.
    """
    recorded = spec_of(path)
    if recorded is None and (arguments.dataset is None or arguments.network is None):
        raise UserError(
            f"{path}: no record says what it is; give --dataset, --network and, if it is not the paper's, --eps"
        )
    base = recorded or Certified(seed=0, dataset=arguments.dataset)
    net = {
        name: getattr(arguments, option)
        for name, option in (("name", "network"), ("norm", "norm"), ("width", "width"), ("units", "units"))
        if getattr(arguments, option) is not None
    }
    try:
        network = Network(**{**base.network.model_dump(), **net})
    except ValidationError as error:
        raise UserError(f"{path}: {error.errors()[0]['msg']}") from None
    update: dict[str, Any] = {"network": network}
    if arguments.dataset is not None:
        update["dataset"] = arguments.dataset
    if recorded is None:
        update["eps"] = DATA_SETS[arguments.dataset].eps
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

    for name in ("cnn7", "wide_resnet8", "resnext"):
        for norm in ("full", "convs", "partial", "none"):
            try:
                network = Network(name=name, norm=norm, width=spec.network.width, units=spec.network.units)
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
    made = []
    for key, value in tally.errors().items():
        method = key.removeprefix("verified_error_")
        name = names.get(key) or f"{NAMES[method]} verified error"
        seconds = tally.seconds.get("pgd" if key == "pgd_error" else method)
        spent = "" if seconds is None else f"  {seconds:8.1f} s"
        made.append(f"{name:32} {value:6.2f} %  eps {0 if key == 'standard_error' else eps:.5g}  n {tally.done}{spent}")
    return made


def main(given: Sequence[str]) -> int:
    """Verifies a checkpoint; interrupted and called again it goes on.

    Raises:
        UserError: the checkpoint is not readable or of another architecture, data are missing, memory does not suffice.
    """
    arguments = parser().parse_args(given)
    where = Path(arguments.checkpoint)
    tensors = tensors_of(where)
    spec = chosen_spec(where, arguments)
    eps = spec.target if arguments.eps is None else arguments.eps
    import torch
    from tqdm import tqdm

    from bench import models
    from bench.certified.dataset import samples_of
    from bench.certified.verify import Options, Tally, Verifier, load_weights
    from bench.training.context import Context
    from bench.workflow.execute import device_of
    from bench.workflow.process import keep_freed, prepare_torch

    prepare_torch(torch.get_num_threads())
    keep_freed()
    device = device_of(arguments.device)
    model = models.build(spec.network.name, num_classes=spec.classes(), in_shape=spec.shape(), **spec.network.options())
    try:
        load_weights(model, tensors, str(where))
    except UserError as error:
        raise UserError(f"{error}{fitting(tensors, spec)}") from None
    options = Options(
        eps=eps,
        methods=tuple(dict.fromkeys(arguments.methods)),
        pgd_steps=arguments.pgd_steps,
        pgd_restarts=arguments.pgd_restarts,
        dtype=arguments.dtype,
        alpha_iterations=arguments.alpha_iterations,
    )
    name = f"{checkpoint.sha256(where)} {options} {spec.network} {spec.dataset} {arguments.samples}"
    key = hashlib.sha256(name.encode()).hexdigest()[:16]
    layout = paths.Layout("verify", paths.results_root() / "verify")
    context = Context(key, str(where), layout, device, data_root=paths.data_root())
    whole = spec.model_copy(update={"report_samples": arguments.samples, "population": None, "holdout": 0})
    verifier = Verifier(model, samples_of(whole, context).test, spec.dataset, options, arguments.batch, str(where))
    state = layout.scratch / f"{key}.json"
    tally = Tally(**json.loads(state.read_text())) if state.exists() else Tally()
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
    if arguments.json:
        print(json.dumps({**tally.errors(), "samples": tally.done, "eps": eps, "seconds": tally.seconds}))
    else:
        print("\n".join(lines(tally, options.pgd_steps, eps)))
    state.unlink(missing_ok=True)
    if not os.listdir(layout.scratch):
        layout.scratch.rmdir()
    return 0
