"""The trainer of certified training: eps = 0, a ramp with regularisers, the target eps; tested with bounds each epoch."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bench import models, seeds
from bench.certified import evaluate
from bench.certified.dataset import Samples, prefers_channels_last, samples_of
from bench.certified.eps_schedule import PHASES, eps_share, regularizer_weight
from bench.certified.init import initialise
from bench.certified.interval import box, first_not_finite
from bench.certified.spec import Certified, Initialisation
from bench.certified.step import Step, Sums
from bench.data.augment import crop_and_flip, draw_shifts
from bench.errors import FailedRun
from bench.run import Result
from bench.training.policy import tf32
from bench.training.samples import population_statistics, to_device

if TYPE_CHECKING:
    from bench.training.context import Context


def draw_network(spec: Certified | Initialisation, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """A newly drawn network on the CPU; equal seeds and shapes start alike in all methods of a comparison."""
    names = ("certified", spec.dataset, spec.network.name, spec.seed)
    model = models.build_seeded(
        spec.network.name, seeds.seed(*names, "init"), num_classes=classes, in_shape=shape, **spec.network.options()
    )
    initialise(model, spec.init, seeds.seed(*names, "weights"), halve_after_add=spec.halve_after_add)
    return model


def _columns(*names: str) -> dict[str, list[Any]]:
    return {name: [] for name in names}


def _append(columns: dict[str, list[Any]], *values: Any) -> None:
    """A row, numbers to four digits: a record has little room."""
    for name, value in zip(columns, values, strict=True):
        columns[name].append(float(f"{value:.4g}") if isinstance(value, float) else value)


@dataclass
class State:
    """What an interrupted training resumes from: plain values and tensors only."""

    epoch: int = 0
    step: int = 0
    samples: int = 0
    seconds: float = 0.0
    seconds_test: float = 0.0
    epochs: dict[str, list[Any]] = field(
        default_factory=lambda: _columns(
            "epoch",
            "phase",
            "eps",
            "lr",
            "train_loss",
            "train_error",
            "train_verified_error",
            "standard_error",
            "verified_error",
            "tightness",
            "relu",
            "seconds",
            "seconds_test",
        )
    )
    layers: dict[str, list[Any]] = field(
        default_factory=lambda: _columns("epoch", "layer", "active", "inactive", "unstable", "radius")
    )
    radii: dict[str, list[Any]] = field(default_factory=lambda: _columns("epoch", "layer", "state", "share", "radius"))
    model: dict[str, Tensor] | None = None
    optimizer: dict[str, Any] | None = None
    best: dict[str, Tensor] | None = None


class Trainer:
    """One run: `fit` goes epoch by epoch and saves at each."""

    def __init__(self, spec: Certified, context: Context):
        self.spec, self.context = spec, context
        self.state = State(**(context.resume() or {}))
        self.model = draw_network(spec, spec.shape(), spec.classes()).to(context.device).train()
        channels_last = prefers_channels_last(self.model, context.device)
        if channels_last:
            self.model = self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.data: Samples = samples_of(spec, context, channels_last=channels_last)
        if self.state.model is not None:
            self.model.load_state_dict(self.state.model)
        self.count = len(self.data.train)
        size = spec.batch_size
        # A last batch of one sample has no BatchNorm statistics and is left out.
        self.starts = [start for start in range(0, self.count, size) if self.count - start > 1]
        self.per_epoch = len(self.starts)
        self.step = Step(
            spec,
            self.model,
            self.data.range,
            compile=context.compile,
            expected_steps=self.per_epoch * spec.schedule.epochs,
        )
        if self.state.optimizer is not None:
            self.step.load_optimizer(self.state.optimizer)
        largest = max(layer.neurons for layer in spec.layers())
        self.test_batch = evaluate.batch_size(largest, context.device)
        if spec.holdout:
            for name in ("val_standard_error", "val_verified_error"):
                self.state.epochs.setdefault(name, [])

    def fit(self) -> Result:
        while self.state.epoch < self.spec.schedule.epochs:
            self._epoch()
            self.context.checkpoint(self._saved)
        return self._result()

    def share(self, step: int) -> float:
        """eps at a step as a share of its target."""
        return eps_share(step, self.spec.schedule, self.per_epoch)

    def lr(self, epoch: int) -> float:
        drops = sum(epoch >= milestone for milestone in self.spec.schedule.milestones)
        return self.spec.lr * self.spec.lr_decay**drops

    def train_epoch(self, epoch: int, starts: list[int]) -> Sums:
        """Steps of one epoch (from 0) over the batches that begin at `starts`; the caller waits for the device.

        Raises:
            FailedRun: something was not finite; names the step and the layer.
        """
        spec, device = self.spec, self.context.device
        order = self._order(epoch)
        first = epoch * self.per_epoch
        shares = [self.share(first + number) for number in range(len(starts))]
        eps = to_device(torch.tensor([spec.target * share for share in shares], dtype=torch.float32), device)
        sums = self.step.sums.reset()
        self.step.set_lr(self.lr(epoch))
        self.model.train()
        if self.step.bounded is not None:
            self.step.bounded.load_buffers()
        shifts = self._shifts(epoch, starts)
        for number, start in enumerate(starts):
            images, labels = self._batch(order, start, shifts[number])
            weight = regularizer_weight(shares[number], spec.weight, epoch, spec.schedule)
            self.step.steps_seed = seeds.seed("certified", "attack", spec.dataset, spec.seed, epoch, number)
            self.step(images, labels, eps[number], shares[number], weight)
        if self.step.bounded is not None and spec.schedule.phase(epoch) == "ramp":
            self.step.bounded.store_buffers()
        if float(sums.bad):
            self._diagnose(epoch, int(sums.good), eps)
        return sums

    def _order(self, epoch: int) -> Tensor:
        names = ("certified", "order", self.spec.dataset, self.spec.seed, epoch)
        return to_device(torch.randperm(self.count, generator=seeds.generator(*names)), self.context.device)

    def _shifts(self, epoch: int, starts: list[int]) -> list[Tensor | None]:
        """Random crops and flips of the epoch's batches, on the device; ``None`` for each where there are none."""
        padding, flip = self.spec.augmentation()
        if not padding and not flip:
            return [None] * len(starts)
        generator = seeds.generator("certified", "augment", self.spec.dataset, self.spec.seed, epoch)
        sizes = [min(self.spec.batch_size, self.count - start) for start in starts]
        shifts = draw_shifts(sizes, padding=padding, generator=generator)
        shifts[2] *= flip
        return list(to_device(shifts, self.context.device).split(sizes, dim=1))

    def _batch(self, order: Tensor, start: int, shifts: Tensor | None) -> tuple[Tensor, Tensor]:
        images, labels = self.data.train.take(order[start : start + self.spec.batch_size])
        if shifts is not None:
            images = crop_and_flip(images, shifts, padding=self.spec.augmentation()[0])
        return images, labels

    def _diagnose(self, epoch: int, number: int, eps: Tensor) -> None:
        """Repeats the step from which on the weights stayed as they were, and names what was not finite.

        Raises:
            FailedRun: always.
        """
        images, _ = self._batch(self._order(epoch), self.starts[number], self._shifts(epoch, self.starts)[number])
        within = self.data.range
        centre, radius = box(images, eps[number], within.low, within.high, within.scale)
        where = first_not_finite(self.model, centre, radius, clean=images)
        why = "bounds are finite, but the loss or its gradient is not"
        if where != "the output":
            why = f"bounds are not finite, first after {where}"
        raise FailedRun(self.spec.label(), epoch * self.per_epoch + number, f"{why} (epoch {epoch + 1})")

    def _epoch(self) -> None:
        spec, state = self.spec, self.state
        epoch = state.epoch
        started = time.perf_counter()
        with tf32(spec.tf32):
            sums = self.train_epoch(epoch, self.starts)
        loss, wrong, unverified = (value.item() for value in (sums.loss, sums.wrong, sums.unverified))
        trained = time.perf_counter()
        visited = min(self.count, self.starts[-1] + spec.batch_size)
        state.epoch += 1
        state.step += self.per_epoch
        state.samples += visited
        if spec.bn_statistics == "population":
            population_statistics(self.model, self.data.train, spec.batch_size, self.count)
        eps = spec.target * self.share(state.step)
        row: dict[str, Any] = {
            "epoch": state.epoch,
            "phase": spec.schedule.phase(epoch),
            "eps": eps,
            "lr": self.lr(epoch),
            "train_loss": loss / visited,
            "train_error": 100 * wrong / visited,
            "train_verified_error": 100 * unverified / visited,
            **self._test(eps),
        }
        row |= {"seconds": trained - started, "seconds_test": time.perf_counter() - trained}
        state.seconds += row["seconds"]
        state.seconds_test += row["seconds_test"]
        for name, value in row.items():
            state.epochs[name].append(float(f"{value:.6g}") if isinstance(value, float) else value)
        self._keep_best()
        total = spec.schedule.epochs * visited
        shown = {name: row[name] for name in ("epoch", "eps", "standard_error", "verified_error")}
        self.context.progress(state.samples, total, "samples", **shown)

    def _test(self, eps: float) -> dict[str, float]:
        spec = self.spec
        common: dict[str, Any] = {"batch": self.test_batch, "tau": spec.tau}
        test = evaluate.measure(self.model, self.data.test, eps, self.data.range, **common)
        self._note_layers(test.layers)
        row = {
            "standard_error": test.standard_error,
            "verified_error": test.verified_error,
            "tightness": test.tightness,
            "relu": test.relu,
        }
        if self.data.holdout is not None:
            val = evaluate.measure(self.model, self.data.holdout, eps, self.data.range, details=False, **common)
            row |= {"val_standard_error": val.standard_error, "val_verified_error": val.verified_error}
        return row

    def _note_layers(self, layers: list[evaluate.Layer]) -> None:
        state = self.state
        for number, layer in enumerate(layers, start=1):
            shares = layer.shares()
            _append(state.layers, state.epoch, number, *shares, layer.mean_radius())
            if state.epoch in self.radius_epochs():
                for neurons, share, radius in zip(evaluate.STATES, shares, layer.radius_by_state(), strict=True):
                    if radius is not None:
                        _append(state.radii, state.epoch, number, neurons, share, radius)

    def radius_epochs(self) -> set[int]:
        """Epochs after which radii by state are kept: the end of eps = 0, of each quarter of the ramp, of training."""
        schedule = self.spec.schedule
        quarters = {schedule.zero + round(schedule.ramp * quarter / 4) for quarter in range(1, 5)}
        return ({schedule.zero} | quarters | {schedule.epochs}) - {0}

    def _rows_at_target(self) -> list[int]:
        """Rows of the epochs that were evaluated at the target eps; the last one where there is none."""
        rows = range(self.spec.schedule.warmup - 1, self.state.epoch)
        return list(rows) or [self.state.epoch - 1]

    def best_row(self, column: str) -> int:
        """The epoch at the target eps with the least verified error, then standard error; the first of equals."""
        standard = self.state.epochs[column.replace("verified", "standard")]
        values = self.state.epochs[column]
        return min(self._rows_at_target(), key=lambda row: (values[row], standard[row]))

    def reported_row(self) -> int:
        if self.spec.report == "last":
            return self.state.epoch - 1
        return self.best_row("verified_error" if self.spec.report == "best_on_test" else "val_verified_error")

    def _keep_best(self) -> None:
        if self.spec.report != "last" and self.reported_row() == self.state.epoch - 1:
            self.state.best = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}

    def _saved(self) -> dict[str, Any]:
        state = dict(vars(self.state))
        state["model"] = self.model.state_dict()
        state["optimizer"] = self.step.optimizer.state_dict()
        return state

    def _result(self) -> Result:
        self.context.execution["steps"] = self.step.mode
        state, spec = self.state, self.spec
        weights: Mapping[str, Tensor] = self.model.state_dict() if spec.report == "last" else state.best or {}
        self.context.keep("weights", weights)
        columns = state.epochs
        rows = {"": self.reported_row(), "last_": state.epoch - 1, "best_": self.best_row("verified_error")}
        if spec.holdout:
            rows["val_best_"] = self.best_row("val_verified_error")
        metrics = {}
        for prefix, row in rows.items():
            for name in ("standard_error", "verified_error"):
                metrics[f"{prefix}{name}"] = columns[name][row]
            if prefix != "last_":
                metrics["reported_epoch" if not prefix else f"{prefix}epoch"] = float(columns["epoch"][row])
        metrics |= {name: columns[name][-1] for name in ("train_error", "train_verified_error")}
        costs = {
            "samples": float(state.samples),
            "steps": float(state.step),
            "seconds": round(state.seconds, 3),
            "seconds_test": round(state.seconds_test, 3),
        }
        series = {"epochs": columns, "layers": state.layers, "radii": state.radii, "phases": phases(columns)}
        return Result(metrics, series, costs, {"target_eps": spec.target})


def phases(columns: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    """Mean seconds of a training epoch by phase; the run's first epoch is left out where others are there."""
    means: dict[str, list[Any]] = {"phase": [], "epochs": [], "seconds_per_epoch": []}
    for phase in PHASES:
        rows = [row for row, name in enumerate(columns["phase"]) if name == phase]
        if rows:
            timed = [row for row in rows if row > 0] or rows
            means["phase"].append(phase)
            means["epochs"].append(len(rows))
            means["seconds_per_epoch"].append(sum(columns["seconds"][row] for row in timed) / len(timed))
    return means


def train(spec: Certified, context: Context) -> Result:
    """Trains one run; resumes where an interrupted attempt stopped.

    Raises:
        FailedRun: bounds, loss or gradient are not finite; names the step and the first layer.
        OutOfTime: the time budget is over and the state saved.
        UserError: the data are not what the run expects.
    """
    return Trainer(spec, context).fit()
