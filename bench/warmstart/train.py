"""The trainer of the warm-start paper: rounds of fitting, each from weights made of the last round's.

Two-phase training, online learning, transfer and repeated shrinking are lists of rounds (`bench.warmstart.spec`). A run
goes round by round and epoch by epoch; its whole state can be saved after every epoch and resumed bit for bit.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench import seeds
from bench.data.augment import crop_and_flip, draw_shifts
from bench.errors import FailedRun
from bench.run import Result
from bench.training import graphs
from bench.training.samples import EVAL_BATCH, Pool, accuracy, population_statistics, to_device
from bench.training.step import TrainStep
from bench.warmstart import methods, probes, stopping
from bench.warmstart.losses import make_loss
from bench.warmstart.shrink import last_layer
from bench.warmstart.spec import Round, Training
from bench.warmstart.weights import copies, draw_network, load_matching, reset_buffers, to_channels_last

if TYPE_CHECKING:
    from bench.training.context import Context

CONSTANTS = {
    "2020": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "2022": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
"""Mean and deviation by release of the authors' code, for all data sets (bench/warmstart/protocol.md, section a)."""

EPOCH_COLUMNS = ("round", "epoch", "train_acc", "samples", "report_acc")
ROUND_COLUMNS = ("n_samples", "report_acc", "train_acc", "epochs", "steps", "samples", "seconds", "stop_rule")
MOST_EPOCH_ROWS = 3000
"""Epoch rows that fit into a record; longer trainings keep every k-th."""


@dataclass
class Samples:
    """Samples to fit, in the order in which rounds add them, and samples to report on."""

    fit: Pool
    report: Pool


def load_samples(spec: Training, context: Context) -> Samples:
    """Loads the data set and splits it: the same for every run of one data set and seed."""
    from bench.data import images

    if spec.generated:
        data = images.generated(spec.shape(), spec.classes(), train=spec.generated, test=spec.optimizer.batch_size)
    else:
        data = images.load(spec.dataset, context.data_root)
        context.used_data(data.name, data.checksum)
    order = torch.randperm(len(data.train), generator=seeds.generator("warmstart", spec.dataset, "split", spec.seed))
    order = order[: spec.train_samples()]
    fit, rest = order[: spec.fit_samples()], order[spec.fit_samples() :]
    held_out, held_out_labels = data.train, data.train_labels
    if spec.report == "official_test":
        held_out, held_out_labels, rest = data.test, data.test_labels, torch.arange(len(data.test))
    rest = rest[: spec.report_samples]
    mean, std = CONSTANTS[spec.normalisation]
    pool = partial(
        Pool.make, mean=mean, std=std, device=context.device, channels_last=spec.network.name.endswith("resnet18")
    )
    return Samples(pool(data.train[fit], data.train_labels[fit]), pool(held_out[rest], held_out_labels[rest]))


def chunks_of(spec: Training, index: int) -> list[range]:
    """Samples of a run's round by the round that added them, oldest first; rounds of parents on the same split count."""

    def source(run: Training) -> tuple[object, ...]:
        return run.dataset, run.seed, run.population, run.generated

    ancestors: list[Training] = []
    parent = spec.parent
    while parent is not None and source(parent) == source(spec):
        ancestors.insert(0, parent)
        parent = parent.parent
    before = [earlier for run in ancestors for earlier in run.expanded()] + spec.expanded()[:index]
    end = spec.expanded()[index].samples
    ends = sorted({end, *(earlier.samples for earlier in before if earlier.samples < end)})
    return [range(begin, stop) for begin, stop in pairwise([0, *ends])]


def make_optimizer(spec: Training, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """A new optimiser object; each round has its own, so Adam's moments begin at zero."""
    options = spec.optimizer
    fused = all(parameter.device.type in ("cpu", "cuda") for parameter in parameters)
    if options.name == "adam":
        return torch.optim.Adam(parameters, lr=options.lr, weight_decay=options.weight_decay, fused=fused)
    return torch.optim.SGD(
        parameters, lr=options.lr, momentum=options.momentum, weight_decay=options.weight_decay, fused=fused
    )


@dataclass
class State:
    """Everything that training goes on from; plain values and tensors only.

    Attributes:
        round: index of the round at hand.
        epoch: finished epochs of the round.
        samples: samples visited in all rounds.
        steps: steps of all rounds.
        accuracies: train accuracy in percent by epoch of the round.
        epochs: `EPOCH_COLUMNS` so far.
        rounds: `ROUND_COLUMNS` of finished rounds.
        gradients: norms by log line, where they are measured.
        seconds: of training, in all rounds.
        model: the network's tensors.
        optimizer: state of the round's optimiser; ``None`` between rounds.
        round_samples: samples visited in the round.
        round_steps: steps of the round.
        round_seconds: of training in the round.
    """

    round: int = 0
    epoch: int = 0
    samples: int = 0
    steps: int = 0
    accuracies: list[float] = field(default_factory=list)
    epochs: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in EPOCH_COLUMNS})
    rounds: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in ROUND_COLUMNS})
    gradients: dict[str, list[float]] = field(default_factory=dict)
    seconds: float = 0.0
    model: dict[str, Tensor] | None = None
    optimizer: dict[str, Any] | None = None
    round_samples: int = 0
    round_steps: int = 0
    round_seconds: float = 0.0

    def add_epoch(self, samples: int, steps: int, train_accuracy: float, seconds: float) -> None:
        """Counts a finished epoch."""
        self.epoch += 1
        self.samples += samples
        self.steps += steps
        self.round_samples += samples
        self.round_steps += steps
        self.accuracies.append(train_accuracy)
        self.seconds += seconds
        self.round_seconds += seconds

    def next_round(self) -> None:
        """Begins the next round."""
        self.round += 1
        self.epoch, self.accuracies = 0, []
        self.round_samples = self.round_steps = 0
        self.round_seconds = 0.0


def append_row(columns: dict[str, list[Any]], *values: Any) -> None:
    """One value more in each column."""
    for column, value in zip(columns.values(), values, strict=True):
        column.append(value)


class Trainer:
    """One run: its samples, its network and its state.

    Attributes:
        model: the network.
        initial: its first parameters, before a parent's were loaded.
        before: its parameters when the run began.
        state: how far the run is.

    Args:
        spec: the run.
        context: its surroundings.
    """

    def __init__(self, spec: Training, context: Context):
        self.spec, self.context = spec, context
        self.samples = load_samples(spec, context)
        self.rounds = spec.expanded()
        self.state = State(**(context.resume() or {}))
        self.model = draw_network(spec, "first").to(context.device)
        self.initial = copies(self.model)
        if self.samples.fit.channels_last:
            to_channels_last(self.model)
        if spec.parent is not None:
            load_matching(self.model, context.parent_tensors(spec.start_from))
        self.before = copies(self.model)
        if self.state.model is not None:
            self.model.load_state_dict(self.state.model)
        self.steps: dict[tuple[str, float | None, str], TrainStep] = {}

    def run(self) -> Result:
        """The run from where it stands to its result.

        Raises:
            FailedRun: the loss of an epoch is not finite.
            OutOfTime: the time budget is over and the state saved.
        """
        while self.state.round < len(self.rounds):
            self._fit_round(self.rounds[self.state.round])
        return self._result()

    def _fit_round(self, current: Round) -> None:
        state = self.state
        self.model.requires_grad_(True)
        if state.epoch == 0:
            self._restart(current)
        trained = self.model if current.trains == "all" else last_layer(self.model)
        self.model.requires_grad_(False)
        trained.requires_grad_(True)
        optimizer = make_optimizer(self.spec, list(trained.parameters()))
        if state.optimizer is not None:
            optimizer.load_state_dict(state.optimizer)
            state.optimizer = None
        graphs.prepare(optimizer, self.context.device)
        rule = self._fired(current) if state.accuracies else None
        while rule is None:
            self._fit_epoch(current, optimizer)
            rule = self._fired(current)
            if rule is None:
                self.context.checkpoint(lambda: self._saved(optimizer))
        report, train_accuracy = self._report_accuracy(current), state.accuracies[-1]
        counts = (state.epoch, state.round_steps, state.round_samples, round(state.round_seconds, 3))
        append_row(state.rounds, current.samples, report, train_accuracy, *counts, rule)
        state.next_round()
        self.context.checkpoint(lambda: self._saved(None))

    def _fired(self, current: Round) -> str | None:
        """The rule that ends the round after the epochs so far."""
        return stopping.fired(self.spec.stop, self.state.accuracies, current.epochs, current.least_epochs)

    def _restart(self, current: Round) -> None:
        """Makes the round's weights; equal in all runs that share seed, round and samples."""
        start = current.start
        names = (self.spec.dataset, self.spec.network.name, self.state.round)
        if start.method == "fresh":
            # The first round's fresh network is the one that the run was built with.
            if self.state.round > 0 or self.spec.parent is not None:
                self.model.load_state_dict(draw_network(self.spec, *names).state_dict())
        elif start.method != "kept":
            fresh = draw_network(self.spec, *names)
            generator = seeds.generator("warmstart", "noise", self.spec.seed, *names)
            trained = self.state.round > 0 or self.spec.parent is not None
            chunks = chunks_of(self.spec, self.state.round)
            at = methods.Point(self.model, fresh, start, generator, trained, chunks, self._chunk_gradient)
            methods.load(start.method).restart(at)
        if self.spec.bn_buffers == "reset":
            reset_buffers(self.model)
        self.model.train()

    @torch.enable_grad()
    def _chunk_gradient(self, chunk: range) -> dict[str, Tensor]:
        """Gradient of the mean cross-entropy over a chunk in eval mode, by parameter name; nothing else changes."""
        parameters = dict(self.model.named_parameters())
        total = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
        was_training = self.model.training
        self.model.eval()
        for index in torch.arange(chunk.start, chunk.stop, device=self.context.device).split(EVAL_BATCH):
            images, labels = self.samples.fit.take(index)
            loss = F.cross_entropy(self.model(images), labels, reduction="sum") / len(chunk)
            for name, gradient in zip(total, torch.autograd.grad(loss, list(parameters.values())), strict=True):
                total[name] += gradient
        self.model.train(was_training)
        return total

    def _step(self, current: Round) -> TrainStep:
        """The step of a round; rounds that minimise the same loss and train the same layers share it."""
        start = current.start
        name = (start.method, start.strength, current.trains)
        if name not in self.steps:
            method = methods.load(start.method) if start.method not in ("fresh", "kept") else None
            penalty = getattr(method, "penalty", None)
            regulariser = None if penalty is None else partial(penalty, initial=self.initial, strength=start.strength)
            self.steps[name] = TrainStep(
                self.model,
                loss=make_loss(self.spec.penalty, regulariser),
                batch_size=self.spec.optimizer.batch_size,
                precision=self.spec.precision,
                # Tracing ends at the gradient by which an adversarial example is made.
                compile="never" if self.spec.penalty.kind == "adversarial" else self.context.compile,
                expected_steps=self.spec.work() / self.spec.optimizer.batch_size,
            )
        return self.steps[name]

    def _fit_epoch(self, current: Round, optimizer: torch.optim.Optimizer) -> None:
        """One pass over the round's samples in a new order, and the epoch's row.

        Raises:
            FailedRun: the loss is not finite.
        """
        spec, state, device = self.spec, self.state, self.context.device
        started = time.perf_counter()
        names = ("warmstart", "order", spec.dataset, spec.seed, current.samples, state.round, state.epoch)
        order = to_device(torch.randperm(current.samples, generator=seeds.generator(*names)), device)
        self._set_lr(optimizer)
        indices = order.split(spec.optimizer.batch_size)
        shifts = self._shifts(names, [len(index) for index in indices])
        step = self._step(current)
        self.model.train()
        norms: dict[str, list[float]] = {}
        correct: list[Tensor] = []
        total_loss = torch.zeros((), device=device)
        for number, index in enumerate(indices):
            images, labels = self.samples.fit.take(index)
            if spec.probe.kind == "gradients":
                is_old, of_batch = index < spec.probe.old_samples, spec.bn_statistics == "population"
                probes.gradient_norms(self.model, images, labels, is_old, norms, batch_statistics=of_batch)
            if shifts is not None:
                images = crop_and_flip(images, shifts[number], padding=self.padding)
            loss, logits = step(images, labels, optimizer)
            correct.append((logits.argmax(1) == labels).sum())
            total_loss = total_loss + loss
        if not math.isfinite(float(total_loss)):
            why = f"the loss is {float(total_loss)} in epoch {state.epoch + 1}"
            raise FailedRun(spec.label(), state.steps + len(correct), why)
        for age, values in norms.items():
            state.gradients.setdefault(age, []).extend(probes.lines_of(values, spec.probe.every))
        train_accuracy = self._train_accuracy(torch.stack(correct).tolist(), current.samples)
        seconds = time.perf_counter() - started
        state.add_epoch(current.samples, len(correct), train_accuracy, seconds)
        if state.epoch in spec.keep_epochs:
            self.context.keep(f"epoch-{state.epoch}", self.model.state_dict())
        report = self._report_accuracy(current) if spec.evaluate == "epochs" else 0.0
        append_row(state.epochs, state.round, state.epoch, round(train_accuracy, 4), state.samples, round(report, 4))
        expected = max(spec.work(), state.samples)
        self.context.progress(
            state.samples, expected, "samples", round=state.round + 1, epoch=state.epoch, train=train_accuracy
        )

    @property
    def padding(self) -> int:
        """Pixels that a crop may shift an image by: 4 of 32."""
        return max(1, round(self.spec.shape()[1] / 8))

    def _shifts(self, names: tuple[Any, ...], sizes: list[int]) -> tuple[Tensor, ...] | None:
        """Random crops and flips of an epoch's batches, on the device."""
        if not self.spec.augment:
            return None
        shifts = draw_shifts(sizes, padding=self.padding, generator=seeds.generator(*names, "augment"))
        return to_device(shifts, self.context.device).split(sizes, dim=1)

    def _set_lr(self, optimizer: torch.optim.Optimizer) -> None:
        """The cosine of the modern recipe, by epoch of the round; the paper's rate is constant."""
        options, epochs = self.spec.optimizer, self.spec.stop.epochs
        if options.schedule == "cosine" and epochs is not None:
            graphs.set_rate(optimizer, options.lr * 0.5 * (1 + math.cos(math.pi * self.state.epoch / epochs)))

    def _train_accuracy(self, correct: list[int], samples: int) -> float:
        """Percent, by the stop signal of the run; `correct` are right answers by batch of the epoch."""
        size = self.spec.optimizer.batch_size
        seen = [min(size, samples - begin) for begin in range(0, samples, size)]
        if self.spec.stop.signal == "authors_running":
            return stopping.authors_accuracy(correct, seen)
        if self.spec.stop.signal == "running":
            return stopping.running_accuracy(correct, seen)
        return accuracy(self.model, self.samples.fit, samples)

    def _report_accuracy(self, current: Round) -> float:
        """Percent in eval mode on the samples to report on."""
        if self.spec.bn_statistics == "population":
            population_statistics(self.model, self.samples.fit, self.spec.optimizer.batch_size, current.samples)
        return accuracy(self.model, self.samples.report)

    def _saved(self, optimizer: torch.optim.Optimizer | None) -> dict[str, Any]:
        """The state as it is written."""
        state = dict(vars(self.state))
        # Copies, since tensors may be parts of larger ones, which would be saved whole.
        state["model"] = detached(self.model.state_dict())
        state["optimizer"] = None if optimizer is None else detached(optimizer.state_dict())
        return state

    def _result(self) -> Result:
        state, spec = self.state, self.spec
        self.context.execution["steps"] = ", ".join(sorted({step.mode for step in self.steps.values()}))
        for epoch in spec.keep_epochs:
            # Training ended before this epoch: its last weights are what the epoch would have started from.
            if f"epoch-{epoch}" not in self.context.kept:
                self.context.keep(f"epoch-{epoch}", self.model.state_dict())
        if spec.leaves:
            self.context.keep("weights", self.model.state_dict())
        counts = {"samples": float(state.samples), "steps": float(state.steps)}
        metrics = {"report_acc": state.rounds["report_acc"][-1], "train_acc": state.rounds["train_acc"][-1], **counts}
        series = {"epochs": thinned(state.epochs), "rounds": state.rounds}
        if spec.probe.kind == "gradients":
            series["gradients"] = probes.gradient_log(state.gradients)
        if spec.probe.kind == "shrinking":
            series["shrinking"] = probes.shrinking(self.model, self.samples.fit, self.samples.report, spec.probe.grid)
        if spec.probe.kind == "correlation":
            metrics |= probes.correlation(self.before, dict(self.model.named_parameters()))
        rules = state.rounds["stop_rule"]
        notes: dict[str, Any] = {"stop_rules": {rule: rules.count(rule) for rule in sorted(set(rules))}}
        if spec.probe.kind == "shrinking":
            notes["shrinking_samples"] = {"train": len(self.samples.fit), "report": len(self.samples.report)}
        return Result(metrics, series, {**counts, "seconds": round(state.seconds, 3)}, notes)


def detached(value: Any) -> Any:
    """A state with its tensors copied; dictionaries and lists are gone through."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {name: detached(part) for name, part in value.items()}
    return [detached(part) for part in value] if isinstance(value, list) else value


def thinned(columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """At most `MOST_EPOCH_ROWS` rows, evenly spaced, the last one included."""
    rows = len(next(iter(columns.values())))
    stride = max(1, math.ceil(rows / MOST_EPOCH_ROWS))
    keep = sorted({*range(0, rows, stride), rows - 1})
    return {name: [values[row] for row in keep] for name, values in columns.items()}


def train(spec: Training, context: Context) -> Result:
    """Trains one run; resumes where an interrupted attempt stopped.

    Raises:
        FailedRun: the loss is not finite.
        OutOfTime: the time budget is over and the state saved.
    """
    return Trainer(spec, context).run()
