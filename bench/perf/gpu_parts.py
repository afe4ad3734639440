"""The parts of `bench.perf.first_gpu`: each takes a place for its results and the sizes, and notes what it finds.

A result is a number with its unit in its name, or says why there is none. Nothing here is compared with a threshold: who
reads the numbers decides. Times are of work that was waited for.
"""

from __future__ import annotations

import importlib
import math
import multiprocessing
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from bench import paths
from bench.certified.spec import Certified
from bench.certified.spec import Network as CertifiedNetwork
from bench.errors import OutOfTime
from bench.paths import Layout
from bench.perf.first_gpu import Results
from bench.rewarm.spec import PretrainSpec
from bench.run import RunSpec
from bench.training.context import Context
from bench.training.precision import Precision
from bench.warmstart.spec import Network, Optimizer, Round, Stop, Training
from bench.workflow import process


@dataclass(frozen=True)
class Sizes:
    """What is measured: the papers' sizes, or small ones to rehearse on a CPU.

    Attributes:
        device: where.
        verified: images of each bound.
        by_crown: images of the bounds that take a backward pass for each neuron.
        width: of the network that is verified.
        epochs: that it is trained for, each of `samples` images.
        samples: training images of short runs.
        batch: of the steps of image networks.
        certified: data set, network -> the steps that are timed.
        model: Pythia's shape by name, with `context` tokens and `micro_batch` sequences at once.
        seconds: of each timing.
        generated: whether data are generated where real ones are not there.
    """

    device: str = "cuda"
    verified: int = 100
    by_crown: int = 8
    width: int = 8
    units: int = 64
    epochs: int = 4
    samples: int = 8_000
    batch: int = 128
    resnet_width: int = 16
    certified: tuple[tuple[str, str, int | None], ...] = (
        ("cifar10", "cnn7", None),
        ("tinyimagenet", "wide_resnet8", None),
    )
    model: str = "410m"
    context: int = 2048
    micro_batch: int = 16
    seconds: float = 3.0
    rehearsal: bool = False

    @classmethod
    def of_rehearsal(cls) -> Sizes:
        """Seconds on two cores."""
        return cls(
            device="cpu",
            verified=4,
            by_crown=2,
            width=2,
            units=8,
            epochs=2,
            samples=64,
            batch=8,
            resnet_width=8,
            certified=(("cifar10", "cnn7", 2), ("tinyimagenet", "wide_resnet8", 2)),
            model="2x64x4",
            context=32,
            micro_batch=2,
            seconds=0.2,
            rehearsal=True,
        )


def _prepared(sizes: Sizes, *, deterministic: bool = False) -> torch.device:
    process.prepare_torch(threads=torch.get_num_threads(), deterministic=deterministic)
    return torch.device(sizes.device)


def _waited(device: torch.device) -> float:
    """The time once all work that was asked for is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def seconds_a_call(act: Callable[[], object], device: torch.device, seconds: float, *, warm_up: int = 8) -> float:
    """Mean seconds of a call over at least `seconds`, after some that are not counted."""
    for _ in range(warm_up):
        act()
    calls, began = 0, _waited(device)
    while (now := _waited(device)) - began < seconds:
        for _ in range(5):
            act()
        calls += 5
    return (now - began) / calls


@contextmanager
def _peak(device: torch.device) -> Iterator[Callable[[], float]]:
    """A function that tells GiB of tensors at most since the beginning; 0 on a CPU."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    yield lambda: round(torch.cuda.max_memory_allocated(device) / 2**30, 3) if device.type == "cuda" else 0.0


def doctor(results: Results, sizes: Sizes) -> None:
    """What is there, and what the GPU does at most: large matrix products and a large copy."""
    from bench.perf import peaks
    from bench.training import policy

    device = _prepared(sizes)
    report = subprocess.run([sys.executable, "-m", "bench", "doctor"], capture_output=True, encoding="utf-8")
    results.note("lines", report.stdout.splitlines())
    results.note("policy", policy.in_force(device.type))
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        results.note("GPU", {"name": properties.name, "memory_GiB": round(properties.total_memory / 2**30, 1)})
        results.attempt("TFLOP_per_s", lambda: _peaks(device))
        results.attempt("copy_TB_per_s", lambda: peaks.memory(device) / 1e12)


def _peaks(device: torch.device) -> dict[str, float]:
    from bench.perf import peaks
    from bench.training import policy

    found: dict[str, float] = {name: rate / 1e12 for name, rate in peaks.by_precision(device).items()}
    with policy.tf32(True):
        found["tf32"] = peaks.arithmetic(device) / 1e12
    return found


def tests(results: Results, sizes: Sizes) -> None:
    """The tests that need a GPU."""
    chosen = ["-m", "gpu"] if sizes.device == "cuda" else ["--collect-only", "-m", "gpu"]
    call = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", *chosen]
    try:
        left = max(1.0, results.left())
        done = subprocess.run(call, capture_output=True, encoding="utf-8", timeout=left, cwd=paths.PROJECT)
    except subprocess.TimeoutExpired:
        results.note("state", "time is over")
        return
    results.note("exit_code", done.returncode)
    results.note("output", (done.stdout + done.stderr).splitlines()[-60:])


def _run(spec: RunSpec, device: torch.device, folder: Path, *, seconds: float | None = None) -> Any:
    """Trains a run in a folder of its own; its result."""
    context = Context(
        key=spec.identity,
        label=spec.label(),
        layout=Layout("first-gpu", folder),
        device=device,
        data_root=paths.data_root(),
        deadline=None if seconds is None else time.monotonic() + seconds,
    )
    try:
        return importlib.import_module(spec.trainer).train(spec, context)
    finally:
        context.close()


def _weights(spec: RunSpec, device: torch.device, folder: Path) -> dict[str, Tensor]:
    from bench import checkpoint

    _run(spec, device, folder)
    return checkpoint.load_tensors(Layout("first-gpu", folder).artefact(spec.identity, "weights"))


def _mnist(sizes: Sizes, **options: Any) -> Certified:
    """Training on a part of MNIST, or on generated images of its shape in a rehearsal."""
    own = {"generated": sizes.samples} if sizes.rehearsal else {"population": sizes.samples}
    fields = {"init": "ibp", "regularizers": ("tightness", "relu"), "report_samples": sizes.verified, **own}
    return Certified.model_validate({"seed": 0, "dataset": "mnist", **fields, **options})


def _small(sizes: Sizes) -> Certified:
    """A narrow CNN-7, trained for some epochs: bounds of an untrained network say nothing."""
    schedule = {"zero": 0, "ramp": max(1, sizes.epochs - 1), "final": 1, "milestones": ()}
    network = CertifiedNetwork(width=sizes.width, units=sizes.units)
    return _mnist(sizes, network=network, schedule=schedule, batch=min(256, sizes.samples // 4))


def verification(results: Results, sizes: Sizes) -> None:
    """Bounds of auto_LiRPA on the device against those on the CPU: the largest difference, images/s, peak memory."""
    from bench.certified import lirpa
    from bench.certified.dataset import samples_of
    from bench.certified.train import draw_network

    device = _prepared(sizes)
    spec = _small(sizes)
    with tempfile.TemporaryDirectory() as folder:
        weights = results.attempt("training", lambda: _trained(spec, device, Path(folder), results))
        if weights is None:
            return
        context = Context(key="x", label="x", layout=Layout("x", Path(folder)), device=torch.device("cpu"))
        context.data_root = paths.data_root()
        samples = samples_of(spec, context)
    results.note("auto_lirpa", lirpa.version())
    images, labels = samples.test.take(torch.arange(min(sizes.verified, len(samples.test))))
    model = draw_network(spec, spec.shape(), spec.classes()).eval().requires_grad_(False)
    model.load_state_dict(_kept[0])
    for method in lirpa.NAMES:
        count = len(images) if method in ("ibp", "crown_ibp") else sizes.by_crown
        results.attempt(
            method,
            partial(_bounds_of, method, model, images[:count], labels[:count], spec.target, device),
            needs=5.0 if sizes.device == "cuda" else 0.0,
        )


_kept: list[dict[str, Tensor]] = []
"""Weights of the network that is verified."""


def _trained(spec: Certified, device: torch.device, folder: Path, results: Results) -> dict[str, float]:
    started = time.perf_counter()
    _kept[:] = [_weights(spec, device, folder)]
    return {"seconds": round(time.perf_counter() - started, 2)}


def _bounds_of(
    method: str, model: torch.nn.Module, images: Tensor, labels: Tensor, eps: float, device: torch.device
) -> dict[str, float]:
    import copy

    from bench.certified import lirpa

    margins = {}
    seconds = {}
    for place in (device, torch.device("cpu")):
        own = copy.deepcopy(model).to(place)
        x, y = images.to(place), labels.to(place)
        low, high = (x - eps).clamp(min=0), (x + eps).clamp(max=1)
        bounded = lirpa.Bounded(own, x[:1])
        bounded.train(False)
        with _peak(place) as peak:
            bounded.margins(x[:2], low[:2], high[:2], y[:2], [method])  # libraries choose their kernels
            started = _waited(place)
            (lower,) = bounded.margins(x, low, high, y, [method])
            seconds[place.type] = _waited(place) - started
            if place == device:
                memory = peak()
        margins[place.type] = lower.detach().cpu()
    mine, theirs = margins[device.type], margins["cpu"]
    return {
        "images": len(images),
        "images_per_s": len(images) / seconds[device.type],
        "images_per_s_on_the_CPU": len(images) / seconds["cpu"],
        "largest_difference": float((mine - theirs).abs().max()),
        "largest_margin": float(theirs.abs().max()),
        "verified": int((mine > 0).all(1).sum()),
        "verified_on_the_CPU": int((theirs > 0).all(1).sum()),
        "peak_GiB": memory,
    }


class ResNetStep:
    """A step of the thin ResNet-18 on random images."""

    def __init__(
        self, device: torch.device, batch: int, width: int, *, captured: bool, precision: Precision = "float32"
    ):
        from bench import models
        from bench.training import graphs
        from bench.training.step import TrainStep
        from bench.warmstart.losses import cross_entropy
        from bench.warmstart.train import make_optimizer

        model = models.build_seeded("thin_resnet18", 0, num_classes=10, in_shape=(3, 32, 32), width=width).to(device)
        model = model.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self.step = TrainStep(
            model,
            loss=cross_entropy,
            batch_size=batch,
            precision=precision,
            compile="never",
            capture=captured,
        )
        spec = Training(seed=0, optimizer=Optimizer(name="adam"), rounds=(Round(samples=128),))
        self.optimizer = make_optimizer(spec, list(model.parameters()))
        graphs.prepare(self.optimizer, device)
        images = torch.randn(batch, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        self.images = images.to(device).contiguous(memory_format=torch.channels_last)
        self.labels = torch.arange(batch, device=device) % 10

    def __call__(self) -> None:
        self.step(self.images, self.labels, self.optimizer)


def _resnet_in_process(device: str, batch: int, width: int, seconds: float) -> float:
    place = torch.device(device)
    process.prepare_torch(threads=1)
    return batch / seconds_a_call(ResNetStep(place, batch, width, captured=True), place, seconds)


def _in_two_processes(sizes: Sizes) -> dict[str, float]:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        # Long enough that both are at it for most of the time.
        seconds = sizes.seconds if sizes.rehearsal else 10.0
        calls = [
            pool.submit(_resnet_in_process, sizes.device, sizes.batch, sizes.resnet_width, seconds) for _ in range(2)
        ]
        rates = [call.result() for call in calls]
    return {"images_per_s": sum(rates), "of_each": rates[0]}


def steps(results: Results, sizes: Sizes) -> None:
    """A step of each paper at its full size, eager and captured."""
    from bench.training import policy

    device = _prepared(sizes)
    for captured in (False, True):
        for precision in ("float32", "tf32", "bf16"):
            name = f"thin_resnet18, {precision}, {'captured' if captured else 'eager'}"
            with policy.tf32(precision == "tf32"):
                arithmetic: Precision = "bf16" if precision == "bf16" else "float32"
                results.attempt(name, partial(_resnet, sizes, device, captured, arithmetic), needs=6)
    results.attempt("thin_resnet18, captured, two processes", lambda: _in_two_processes(sizes), needs=20)
    for dataset, network, width in sizes.certified:
        for captured in (False, True):
            for precision in ("float32", "tf32", "bf16"):
                name = f"{dataset} {network}, {precision}, {'captured' if captured else 'eager'}"
                spec = _with_bounds(sizes, dataset, network, width, precision)
                results.attempt(name, partial(_certified, spec, sizes, device, captured), needs=8)
    for compiled in (False, True):
        name = f"pythia {sizes.model}, {'compiled' if compiled else 'eager'}"
        results.attempt(name, partial(_pythia, sizes, device, compiled), needs=60 if compiled else 25)


def _resnet(sizes: Sizes, device: torch.device, captured: bool, precision: Precision) -> dict[str, Any]:
    with _peak(device) as peak:
        step = ResNetStep(device, sizes.batch, sizes.resnet_width, captured=captured, precision=precision)
        seconds = seconds_a_call(step, device, sizes.seconds)
        return {"images_per_s": sizes.batch / seconds, "ms": 1e3 * seconds, "mode": step.step.mode, "peak_GiB": peak()}


def _with_bounds(sizes: Sizes, dataset: str, network: str, width: int | None, precision: str) -> Certified:
    fields: dict[str, Any] = {"init": "ibp", "regularizers": ("tightness", "relu")}
    fields |= {"precision": "bf16" if precision == "bf16" else "float32", "tf32": precision == "tf32"}
    chosen = CertifiedNetwork(name=network, width=width, units=sizes.units if sizes.rehearsal else 512)
    return Certified.model_validate({"seed": 0, "dataset": dataset, "network": chosen, "batch": sizes.batch, **fields})


def _certified(spec: Certified, sizes: Sizes, device: torch.device, captured: bool) -> dict[str, Any]:
    from bench.certified.dataset import Range
    from bench.certified.step import Step
    from bench.certified.train import draw_network
    from bench.training import policy

    with _peak(device) as peak, policy.tf32(spec.tf32):
        model = draw_network(spec, spec.shape(), spec.classes()).to(device).train()
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        step = Step(spec, model, Range.of(spec.dataset, device), compile="never", capture=captured)
        images = torch.randn(spec.batch_size, *spec.shape(), device=device).contiguous(
            memory_format=torch.channels_last
        )
        labels = torch.arange(spec.batch_size, device=device) % spec.classes()
        eps = torch.tensor(spec.target / 2, device=device)
        seconds = seconds_a_call(lambda: step(images, labels, eps, 0.5, 0.1), device, sizes.seconds)
        rate = spec.batch_size / seconds
        return {"images_per_s": rate, "ms": 1e3 * seconds, "mode": step.mode, "peak_GiB": peak()}


def _pythia(sizes: Sizes, device: torch.device, compiled: bool) -> dict[str, Any]:
    import numpy as np

    from bench import seeds
    from bench.models import pythia
    from bench.rewarm.engine import Engine
    from bench.training.distributed import Ranks

    sequences = 2 * sizes.micro_batch
    spec = PretrainSpec.model_validate(
        {
            "seed": 0,
            "model": sizes.model,
            "context": sizes.context,
            "schedule": {"max_lr": 1e-4},
            "batch": sequences,
            "micro_batch": sizes.micro_batch,
            "precision": "bf16",
        }
    )
    mode: Literal["always", "never"] = "always" if compiled else "never"
    context = Context(key="x", label="x", layout=Layout.of("x"), device=device, compile=mode)
    windows = np.arange(sequences * (spec.shape.context + 1)).reshape(sequences, -1) % spec.shape.vocabulary
    with _peak(device) as peak:
        weights = pythia.initial_weights(spec.shape, seeds.generator("first-gpu"))
        engine = Engine(spec, context, Ranks(0, 1, device), weights)
        seconds = seconds_a_call(lambda: engine.step(windows, 1e-4), device, sizes.seconds, warm_up=3)
        tokens = sequences * spec.shape.context / seconds
        return {
            "tokens_per_s": tokens,
            "ms": 1e3 * seconds,
            "peak_GiB": peak(),
            "share_of_989_TFLOP_per_s": tokens * spec.shape.flops_per_token() / 989e12,
            **engine.facts,
        }


def repetition(results: Results, sizes: Sizes) -> None:
    """Whether two equal runs of each trainer end with equal weights, bit for bit; as usual, and where it is asked for."""
    for deterministic in (False, True):
        device = _prepared(sizes, deterministic=deterministic)
        for name, spec in _short_runs(sizes).items():
            results.attempt(
                f"{name}{', deterministic' if deterministic else ''}",
                partial(_twice, spec, device),
                needs=5 if sizes.device == "cuda" else 0,
            )


def _short_runs(sizes: Sizes) -> dict[str, RunSpec]:
    resnet = Training(
        seed=0,
        dataset="cifar10",
        network=Network(width=sizes.resnet_width),
        optimizer=Optimizer(name="adam", batch_size=sizes.batch),
        rounds=(Round(samples=sizes.samples),),
        stop=Stop(epochs=1),
        generated=2 * sizes.samples,
        augment=True,
        leaves=True,
    )
    pretraining = PretrainSpec.model_validate(
        {
            "seed": 0,
            "model": "2x64x4",
            "vocabulary": 64,
            "context": 32,
            "corpora": {"kind": "generated", "vocabulary": 64, "validation_windows": 4},
            "schedule": {"max_lr": 1e-3, "steps": 10},
            "batch": 8,
            "micro_batch": 4,
        }
    )
    return {"warmstart": resnet, "certified": _small(sizes), "rewarm": pretraining}


def _twice(spec: RunSpec, device: torch.device) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        one, other = (_weights(spec, device, Path(folder)) for folder in (first, second))
    largest = max(float((one[name].double() - other[name].double()).abs().max()) for name in one)
    return {"equal": all(torch.equal(one[name], other[name]) for name in one), "largest_difference": largest}


def training(results: Results, sizes: Sizes) -> None:
    """Training at the papers' protocols: MNIST-70 of `certified`, then Table 1's ResNet under Adam of `warmstart`."""
    from bench.certified.design import SETUPS

    device = _prepared(sizes)
    own: dict[str, Any] = {}
    if sizes.rehearsal:
        network = CertifiedNetwork(width=sizes.width, units=sizes.units)
        own = {"generated": sizes.samples, "report_samples": 16, "network": network, "batch": 16}
    schedule = {"zero": 0, "ramp": 1, "final": 1, "milestones": ()} if sizes.rehearsal else SETUPS["mnist_70"].schedule
    fields = {"init": "ibp", "regularizers": ("tightness", "relu"), "schedule": schedule, **own}
    spec = Certified.model_validate({"seed": 0, "dataset": "mnist", **fields})
    results.attempt("certified, MNIST-70 CNN-7 ours", lambda: _as_far_as_possible(spec, device, results))
    small: dict[str, Any] = (
        {"generated": 90, "network": Network(width=8), "stop": Stop(cap=1)} if sizes.rehearsal else {}
    )
    images = Training(
        seed=0,
        optimizer=Optimizer(name="adam"),
        rounds=(Round(samples=60 if sizes.rehearsal else 33_333),),
        **small,
    )
    results.attempt(
        "warmstart, CIFAR-10 ResNet, Adam, from scratch",
        lambda: _as_far_as_possible(images, device, results),
        needs=20 if sizes.device == "cuda" else 0,
    )


def _as_far_as_possible(spec: RunSpec, device: torch.device, results: Results) -> dict[str, Any]:
    """The run's result, or how far it came in the time that is left."""
    from bench import checkpoint

    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        try:
            result = _run(spec, device, Path(folder), seconds=max(1.0, results.left() - 10))
        except OutOfTime:
            state = checkpoint.load_state(Layout("first-gpu", Path(folder)).scratch / spec.identity / "state.pt")
            reached = {"seconds": round(time.monotonic() - started, 1), **_last_rows(state)}
            return {"spec": spec.description(), "state": "time is over", **reached}
        seconds = round(time.monotonic() - started, 1)
        notes = {"spec": spec.description(), "state": "done", "seconds": seconds, "metrics": result.metrics}
        return {**notes, "costs": result.costs, "series": _short(result.series), "notes": result.notes}


def _last_rows(state: Mapping[str, Any]) -> dict[str, Any]:
    """The last value of every column that an interrupted run has kept."""
    tables = {name: value for name, value in state.items() if isinstance(value, dict) and name in ("epochs", "rounds")}
    return {
        name: {column: values[-1] for column, values in columns.items() if isinstance(values, list) and values}
        for name, columns in tables.items()
    }


def _short(series: Mapping[str, Mapping[str, list[Any]]]) -> dict[str, dict[str, list[Any]]]:
    """At most a hundred rows of each series."""
    result = {}
    for name, columns in series.items():
        rows = max((len(values) for values in columns.values()), default=0)
        stride = max(1, math.ceil(rows / 100))
        result[name] = {column: values[::stride] for column, values in columns.items()}
    return result
