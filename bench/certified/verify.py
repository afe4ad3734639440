"""Verified error with auto_LiRPA and error under attack, of a network's weights; resumable batch by batch."""

from __future__ import annotations

import contextlib
import itertools
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bench import seeds
from bench.certified import lirpa
from bench.certified.dataset import Range, samples_of
from bench.certified.evaluate import pgd
from bench.certified.interval import box
from bench.certified.layer_counts import BACKWARD_ROOM, backward_rows
from bench.certified.spec import Verification
from bench.certified.train import draw_network
from bench.errors import FailedRun, UserError
from bench.run import Result
from bench.training import memory
from bench.training.policy import tf32
from bench.training.samples import Pool

if TYPE_CHECKING:
    from bench.training.context import Context

DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class Options:
    """How a network is verified; see `bench.certified.spec.Verification`."""

    eps: float
    methods: tuple[str, ...] = ("ibp", "crown_ibp")
    pgd_steps: int = 40
    pgd_restarts: int = 1
    pgd_step: float = 0.1
    dtype: str = "float32"
    alpha_iterations: int = 20
    seed: int = 0
    attacked: int | None = None
    """Samples that are attacked and bounded by every method; those behind them get interval bounds only."""


@dataclass
class Tally:
    """Counts so far; plain values, so that an interrupted verification can resume."""

    done: int = 0
    done_attacked: int = 0
    wrong: int = 0
    attacked: int = 0
    unverified: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def samples(self, metric: str) -> int:
        """Number of samples that a metric is of."""
        return self.done if metric in ("standard_error", "verified_error_ibp") else self.done_attacked

    def errors(self) -> dict[str, float]:
        """Percent, by the names of a record's metrics."""
        counts = {"standard_error": self.wrong, "pgd_error": self.attacked}
        counts |= {f"verified_error_{method}": count for method, count in self.unverified.items()}
        return {name: 100 * count / self.samples(name) for name, count in counts.items()}


MOST_AT_ONCE = 250
"""Samples of a batch at most."""


def batch_size(model: nn.Module, example: Tensor, methods: Sequence[str], classes: int) -> int:
    """Number of samples at once: backward bounds keep a copy of the largest layer for each margin, alpha-CROWN far more."""
    neurons: list[int] = []
    hooks = [
        module.register_forward_hook(lambda _, __, output: neurons.append(output[0].numel()))
        for module in model.modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    with torch.no_grad():
        model(example[:1])
    for hook in hooks:
        hook.remove()
    room = memory.room(example.device, BACKWARD_ROOM) / example.element_size()
    every = bool(set(methods) & {"crown", "alpha_crown"})
    rows = backward_rows(sum(neurons), classes, every_neuron=every) if set(methods) - {"ibp"} else 1
    each = 6 * rows * max(neurons)
    if "alpha_crown" in methods:
        # A slope of each neuron for each neuron of each later layer, at both ends, with its gradient, moments and copies.
        each += 16 * sum(before * after for before, after in itertools.combinations(neurons, 2))
    return int(max(1, min(MOST_AT_ONCE, room / each)))


@contextlib.contextmanager
def _memory_of(method: str) -> Iterator[None]:
    """Turns running out of memory into advice; on Linux the process may not take more than is free.

    Raises:
        UserError: memory did not suffice.
    """
    try:
        with _limited():
            yield
    except (MemoryError, RuntimeError) as error:
        if not memory.ran_out(error):
            raise
        lighter = {"alpha_crown": "crown or crown_ibp", "crown": "crown_ibp", "crown_ibp": "ibp"}.get(method)
        instead = "" if lighter is None else f", or method {lighter}, which needs less"
        raise UserError(
            f"out of memory in {lirpa.NAMES[method]} with one sample at once: use a machine with more memory{instead}"
        ) from error


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    """Makes allocations beyond the free memory fail; otherwise the system would kill a process."""
    try:
        import resource

        with open("/proc/meminfo", encoding="utf-8") as stream:
            free = next(int(line.split()[1]) for line in stream if line.startswith("MemAvailable")) * 1024
        with open("/proc/self/statm", encoding="utf-8") as stream:
            used = int(stream.read().split()[0]) * resource.getpagesize()
    except (ImportError, OSError, StopIteration):
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = used + free
    # A GPU's driver maps far more addresses than there is memory.
    if torch.cuda.is_available() or (soft != resource.RLIM_INFINITY and soft <= limit):
        yield
        return
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


class Verifier:
    """Verifies one network batch by batch.

    Args:
        model: a network of `bench.certified.interval.bounds`; moved to the options' dtype and set to eval mode.
        pool: test samples on the device, float32.
        dataset: names the range of its images.
        options: what to compute.
        batch: samples that are attacked at once; chosen where it is ``None``, on a GPU whatever memory is free.
        label: for errors.

    Attributes:
        at_once: bound -> samples at once, where it is not the batch: chosen by the memory that is free on a GPU, and
            fewer wherever it ran out. Bounds of a sample depend on no other sample.
    """

    def __init__(self, model: nn.Module, pool: Pool, dataset: str, options: Options, batch: int | None, label: str):
        lirpa.load()
        self.dtype = DTYPES[options.dtype]
        self.options, self.pool, self.label = options, pool, label
        self.device = pool.labels.device
        self.model = model.to(self.device, self.dtype).eval().requires_grad_(False)
        self.range = Range.of(dataset, self.device, self.dtype)
        example = pool.take(torch.arange(1, device=self.device))[0].to(self.dtype).contiguous()
        with torch.no_grad():
            classes = self.model(example).shape[1]
        self.at_once: dict[str, int] = {}
        if self.device.type == "cuda":
            self.batch = batch or MOST_AT_ONCE
            self.at_once = {
                method: min(self.batch, batch_size(self.model, example, (method,), classes))
                for method in options.methods
            }
        else:
            self.batch = batch or batch_size(self.model, example, options.methods, classes)
        self.ibp_batch = batch or batch_size(self.model, example, ("ibp",), classes)
        self.bounded = lirpa.Bounded(self.model, example, iterations=options.alpha_iterations)
        self.bounded.train(False)

    def run(self, tally: Tally, after_batch: Callable[[Tally], None]) -> Tally:
        """Continues from `tally` to the end of the pool.

        Raises:
            FailedRun: an attack succeeds on a sample that a bound calls verified, or bounds are not finite.
            UserError: memory did not suffice.
        """
        for method in self.options.methods:
            tally.unverified.setdefault(method, 0)
        with tf32(False):
            while tally.done < len(self.pool):
                self._batch(tally)
                after_batch(tally)
        return tally

    def _batch(self, tally: Tally) -> None:
        attacked_samples = len(self.pool) if self.options.attacked is None else self.options.attacked
        whole = tally.done < attacked_samples
        methods = self.options.methods if whole else ("ibp",)
        size, end = (self.batch, attacked_samples) if whole else (self.ibp_batch, len(self.pool))
        first, last = tally.done, min(tally.done + size, end)
        images, labels = self.pool.take(torch.arange(first, last, device=self.device))
        images = images.to(self.dtype)
        centre, radius = box(images, self.options.eps, self.range.low, self.range.high, self.range.scale)
        with torch.no_grad():
            wrong = self.model(images).argmax(1) != labels
        attacked = wrong
        if whole:
            with self._timed(tally, "pgd"):
                attacked = wrong | self._attack(centre, radius, labels, wrong, first)
            tally.attacked += int(attacked.sum())
            tally.done_attacked = last
        for method in methods:
            with self._timed(tally, method), _memory_of(method):
                low = self._bounds(method, images, centre, radius, labels)
            unverified = (low <= 0).any(1)
            if bool((attacked & ~unverified).any()):
                index = first + int((attacked & ~unverified).nonzero()[0])
                kind = "misclassified" if bool(wrong[index - first]) else "attacked"
                why = f"test sample {index} is {kind}, yet {lirpa.NAMES[method]} calls it verified"
                raise FailedRun(self.label, None, f"{why}; try float64")
            tally.unverified[method] += int(unverified.sum())
        tally.wrong += int(wrong.sum())
        tally.done = last

    def _bounds(self, method: str, *batch: Tensor) -> Tensor:
        """Margins of a batch of images, centres, radii and labels, with fewer samples at once where memory runs out."""

        def act(size: int) -> Tensor:
            parts = zip(*(tensor.split(size) for tensor in batch), strict=True)
            return torch.cat([self._margins(method, *part) for part in parts])

        size = min(self.at_once.get(method, len(batch[0])), len(batch[0]))
        margins, fitted = memory.fitting(act, size)
        if fitted < size:
            self.at_once[method] = fitted
        return margins

    def _margins(self, method: str, images: Tensor, centre: Tensor, radius: Tensor, labels: Tensor) -> Tensor:
        plain = torch.contiguous_format  # auto_LiRPA views its tensors
        x, lower, upper = (part.contiguous(memory_format=plain) for part in (images, centre - radius, centre + radius))
        low = self.bounded.margins(x, lower, upper, labels, [method])[0].detach()
        if not bool(torch.isfinite(low).all()):
            raise FailedRun(self.label, None, f"{lirpa.NAMES[method]} bounds are not finite")
        return low

    def _attack(self, centre: Tensor, radius: Tensor, labels: Tensor, wrong: Tensor, first: int) -> Tensor:
        """Samples that an attack breaks, bool [B]; misclassified samples are not attacked."""
        broken = torch.zeros_like(wrong)
        options = self.options
        for restart in range(options.pgd_restarts):
            left = (~wrong & ~broken).nonzero()[:, 0]
            if not len(left):
                break
            generator = seeds.generator("certified", "verify", options.seed, restart, first)
            points = pgd(
                self.model,
                centre[left],
                radius[left],
                labels[left],
                steps=options.pgd_steps,
                step=options.pgd_step,
                late=0.25,
                generator=generator,
            )
            with torch.no_grad():
                broken[left] |= self.model(points).argmax(1) != labels[left]
        return broken

    @contextlib.contextmanager
    def _timed(self, tally: Tally, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        tally.seconds[name] = tally.seconds.get(name, 0.0) + time.perf_counter() - started


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Loads named tensors, or tensors of other names layer by layer: each tensor of a layer by its kind.

    Raises:
        UserError: the checkpoint is of another architecture, or its tensors cannot be told apart; names the first one.
    """
    expected, state = _named(model.state_dict()), _named(tensors)
    other = f"{where}: a checkpoint of another architecture"
    if set(expected) != set(state) and len(expected) == len(state):
        state = _renamed(expected, state, where)
    for name, tensor in expected.items():
        if name not in state:
            raise UserError(f"{other}; it has no '{name}' {tuple(tensor.shape)}")
        if state[name].shape != tensor.shape:
            raise UserError(
                f"{other}; '{name}' is {tuple(state[name].shape)}, this network needs {tuple(tensor.shape)}"
            )
        if not torch.equal(state[name].to(tensor.dtype).to(state[name].dtype), state[name]):
            raise UserError(f"{where}: '{name}' is {state[name].dtype} and would be rounded to {tensor.dtype}")
    if extra := sorted(set(state) - set(expected)):
        raise UserError(f"{other}; this network has no '{extra[0]}'")
    model.load_state_dict(state, strict=False)


KINDS = ("weight", "bias", "running_mean", "running_var")
"""Kinds of tensors of a layer: the last part of their names."""


def _named(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors without counters, and without what wrappers for several GPUs put before their names."""
    return {
        name.removeprefix("module."): tensor
        for name, tensor in tensors.items()
        if not name.endswith("num_batches_tracked")
    }


def _layers(tensors: Mapping[str, Tensor], where: str) -> dict[str, dict[str, Tensor]]:
    """Layer -> kind -> tensor, in the order of the checkpoint.

    Raises:
        UserError: a tensor is of no known kind.
    """
    layers: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        layer, _, kind = name.rpartition(".")
        if kind not in KINDS:
            raise UserError(
                f"{where}: '{name}' is no {', '.join(KINDS)} of a layer; rename the tensors as this network's"
            )
        layers.setdefault(layer, {})[kind] = tensor
    return layers


def _renamed(expected: Mapping[str, Tensor], state: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """The tensors under this network's names: the first layer's for its first, each by its kind.

    Raises:
        UserError: a layer has tensors of other kinds or shapes, or their order says nothing.
    """

    def natural(name: str) -> list[tuple[int, str]]:
        return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]

    ours, theirs = _layers(expected, where), _layers(state, where)
    names = list(theirs)
    if names == sorted(names) != sorted(names, key=natural):
        raise UserError(
            f"{where}: its tensors are in alphabetical order ('{names[0]}', '{names[1]}', …), so that the order of its "
            "layers is lost; rename them as this network's"
        )
    renamed: dict[str, Tensor] = {}
    for (name, tensors), (their_name, their_tensors) in zip(ours.items(), theirs.items(), strict=False):
        shapes, their_shapes = (
            {kind: tuple(tensor.shape) for kind, tensor in layer.items()} for layer in (tensors, their_tensors)
        )
        if shapes != their_shapes:
            raise UserError(
                f"{where}: a checkpoint of another architecture; layer '{their_name}' has {_text(their_shapes)}, "
                f"this network's '{name}' has {_text(shapes)}"
            )
        renamed |= {f"{name}.{kind}": their_tensors[kind] for kind in tensors}
    return renamed


def _text(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{kind} {shape}" for kind, shape in sorted(shapes.items()))


def train(spec: Verification, context: Context) -> Result:
    """Verifies the weights of the parent run, on the first of the test samples.

    Raises:
        FailedRun: clean error <= attacked error <= verified error does not hold for some sample.
        OutOfTime: the time budget is over and the state saved.
        UserError: the weights do not fit, or memory does not suffice.
    """
    parent = spec.parent
    pool = samples_of(parent.model_copy(update={"report_samples": spec.test_samples()}), context).test
    model = draw_network(parent, parent.shape(), parent.classes())
    load_weights(model, context.parent_tensors("weights"), parent.label())
    options = Options(
        eps=spec.radius,
        methods=spec.methods,
        pgd_steps=spec.pgd_steps,
        pgd_restarts=spec.pgd_restarts,
        pgd_step=spec.pgd_step,
        dtype=spec.dtype,
        alpha_iterations=spec.alpha_iterations,
        seed=spec.seed,
        attacked=min(spec.attacked_samples(), len(pool)),
    )
    verifier = Verifier(model, pool, parent.dataset, options, spec.batch, spec.label())
    tally = Tally(**(context.resume() or {}))

    def after_batch(now: Tally) -> None:
        context.progress(now.done, len(pool), "samples", **now.errors())
        context.checkpoint(lambda: vars(now))

    verifier.run(tally, after_batch)
    counts = {"samples": float(tally.done), "samples_attacked": float(tally.done_attacked)}
    metrics = {**tally.errors(), **counts, "eps": options.eps}
    costs: dict[str, float] = {f"seconds_{name}": round(value, 3) for name, value in tally.seconds.items()}
    notes: dict[str, Any] = {"auto_lirpa": lirpa.version(), "dtype": spec.dtype}
    if verifier.at_once:
        notes["at_once"] = verifier.at_once
    return Result(metrics, {}, {**costs, "samples": float(tally.done)}, notes)
