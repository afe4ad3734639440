"""Many trainings at once on a GPU: networks of one shape, their weights stacked, one grouped product for each layer.

A thin ResNet-18 at batch 128 leaves a GPU idle between its launches; side by side, many of them fill it. Each run stays
its own: samples, order, optimiser, learning rate, stopping rule, resume state. Places refill as runs end. What a network
computes is what it computes alone, up to the order in which sums are taken; its resume state serves either way.

On a CPU it does not pay. One core of an EPYC, milliseconds a step and network, alone and with 2, 4 and 8 in company:
thin ResNet-18 of width 8 on 12 x 12 images 31 and 41, 30, 37; of width 16 on 32 x 32 images 757 and 877, 802, 1,382. So
each core trains one run at a time.
"""

from __future__ import annotations

import copy
import sys
import time
import weakref
from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from bench.errors import OutOfTime
from bench.run import Result
from bench.training.context import Context
from bench.training.precision import Precision, autocast
from bench.training.step import should_compile
from bench.warmstart.losses import cross_entropy
from bench.warmstart.spec import Training
from bench.warmstart.train import Batch, Course, Split, Trainer, make_split

PLACES = 64
"""Networks at once: activations of a thin ResNet-18 take about 0.25 GB a network at batch 128."""

Answer = tuple[Tensor, Tensor]


def places(specs: Sequence[Training]) -> int:
    """How many of these runs train at once: fewer where networks are wider or batches larger."""
    first = specs[0]
    size = (first.network.width or 16) / 16 * first.optimizer.batch_size / 128
    return min(len(specs), max(2, round(PLACES / max(1.0, size))))


class Networks:
    """Networks of one shape in one process; a slot is a network's place.

    Parameters lie in one row for each network, so that an update is one call; a module in a slot holds views of them and
    works as any other: evaluated, saved, shrunk.

    Args:
        model: any network of the shape.
        count: slots.
        precision: float32, or bf16 for the forward and backward pass.
        compile_batch: batch size for which the step of all slots is compiled; 0 for never.
    """

    def __init__(self, model: nn.Module, count: int, precision: Precision, *, compile_batch: int = 0):
        self.device = next(model.parameters()).device
        self.precision = precision
        self.compile_batch = compile_batch
        self.compiled: Callable[..., Answer] | None = None
        self.skeleton = copy.deepcopy(model).to("meta").train().requires_grad_(True)
        self.names = [name for name, _ in model.named_parameters()]
        self.shapes = [tensor.shape for _, tensor in model.named_parameters()]
        self.sizes = [shape.numel() for shape in self.shapes]
        self.rows = torch.zeros(count, sum(self.sizes), device=self.device)
        self.moments = torch.zeros(2, count, sum(self.sizes), device=self.device)
        self.updates = [torch.zeros((), device=self.device) for _ in range(count)]
        self.buffers = {
            name: tensor.detach().expand(count, *tensor.shape).clone() for name, tensor in model.named_buffers()
        }
        self.optimizers: list[torch.optim.Optimizer | None] = [None] * count

    def _views(self, rows: Tensor) -> list[Tensor]:
        """Parts of (..., P) in the shapes of the parameters; filters with channels last, as convolutions prefer."""
        views = []
        for part, shape in zip(rows.split(self.sizes, dim=-1), self.shapes, strict=True):
            if len(shape) == 4:
                out, channels, height, width = shape
                views.append(part.unflatten(-1, (out, height, width, channels)).movedim(-1, -3))
            else:
                views.append(part.unflatten(-1, shape))
        return views

    @torch.no_grad()
    def seat(self, slot: int, model: nn.Module) -> None:
        """Moves a network's weights and running statistics into a slot; the module goes on with views of them."""
        for parameter, view in zip(model.parameters(), self._views(self.rows[slot]), strict=True):
            view.copy_(parameter)
            parameter.data = view
        for name, buffer in model.named_buffers():
            place = self.buffers[name][slot]
            place.copy_(buffer)
            owner, _, own = name.rpartition(".")
            model.get_submodule(owner).register_buffer(own, place)
        self.optimizers[slot] = None

    @torch.no_grad()
    def bind(self, slot: int, optimizer: torch.optim.Optimizer) -> None:
        """Lets an optimiser's state lie in the slot: its own where it has any, zeros where it is new."""
        if self.optimizers[slot] is optimizer:
            return
        self.optimizers[slot] = optimizer
        self.updates[slot] = torch.zeros((), device=self.device)
        self.moments[:, slot].zero_()
        (group,) = optimizer.param_groups
        kinds = kept_of(optimizer)
        if not kinds:
            return
        for number, kind in enumerate(kinds):
            for parameter, view in zip(group["params"], self._views(self.moments[number, slot]), strict=True):
                state = optimizer.state[parameter]
                if kind in state:
                    view.copy_(state[kind])
                state[kind] = view
        for parameter in group["params"]:
            if isinstance(optimizer, torch.optim.Adam):
                state = optimizer.state[parameter]
                self.updates[slot].copy_(state.get("step", self.updates[slot]))
                state["step"] = self.updates[slot]

    def step(self, batches: Mapping[int, Batch]) -> dict[int, Answer]:
        """One update of the network in each of those slots.

        Args:
            batches: by slot; those of one size are fitted together.

        Returns:
            loss and right answers by slot, on the device and not waited for.
        """
        answers: dict[int, Answer] = {}
        sizes: dict[int, list[int]] = {}
        for slot, batch in batches.items():
            sizes.setdefault(len(batch.labels), []).append(slot)
        for slots in sizes.values():
            answers |= self._together(slots, [batches[slot] for slot in slots])
        return answers

    def _together(self, slots: list[int], batches: Sequence[Batch]) -> dict[int, Answer]:
        everyone = slots == list(range(len(self.rows)))
        rows, buffers = self.rows, self.buffers
        if not everyone:
            index = torch.tensor(slots, device=self.device)
            rows, buffers = rows[index], {name: tensor[index] for name, tensor in buffers.items()}
        weights = [view.detach().requires_grad_() for view in self._views(rows)]
        images, axis = side_by_side([batch.images for batch in batches])
        labels = torch.stack([batch.labels for batch in batches])
        with autocast(self.device, self.precision):
            run = self._compiled(axis) if everyone and labels.shape[1] == self.compile_batch else self._eager(axis)
            losses, right = run(dict(zip(self.names, weights, strict=True)), buffers, images, labels)
        slopes = torch.autograd.grad(losses.sum(), weights)
        grads = torch.empty_like(rows)
        with torch.no_grad():
            torch._foreach_copy_(self._views(grads), slopes)
            if not everyone:
                for name, tensor in buffers.items():
                    self.buffers[name].index_copy_(0, index, tensor)
            for slot, grad in zip(slots, grads, strict=True):
                self._update(slot, grad)
        return dict(zip(slots, zip(losses.detach().unbind(), right.unbind(), strict=True), strict=True))

    def _eager(self, axis: int) -> Callable[..., Answer]:
        return vmap(self._forward, in_dims=(0, 0, axis, 0))

    def _compiled(self, axis: int) -> Callable[..., Answer]:
        """The eager step, compiled; where that fails, the eager step from then on, with a line that says so."""
        if self.compiled is not None:
            return self.compiled
        eager = self._eager(axis)
        compiled = torch.compile(eager, dynamic=False)

        def first(*arguments: Any) -> Answer:
            try:
                answer = compiled(*arguments)
                self.compiled = compiled
            except torch._dynamo.exc.TorchDynamoException as error:
                print(f"networks in company are not compiled: {type(error).__name__}", file=sys.stderr, flush=True)
                self.compiled = eager
                answer = eager(*arguments)
            return answer

        return first

    def _forward(
        self, weights: dict[str, Tensor], buffers: dict[str, Tensor], images: Tensor, labels: Tensor
    ) -> Answer:
        """Loss and right answers of one network; running statistics change in place."""

        def network(inputs: Tensor) -> Tensor:
            return functional_call(self.skeleton, (weights, buffers), (inputs,))

        loss, logits = cross_entropy(network, images, labels)  # type: ignore[arg-type]
        return loss, (logits.argmax(1) == labels).sum()

    def _update(self, slot: int, grad: Tensor) -> None:
        """The slot's optimiser on its whole row: the arithmetic that it has tensor by tensor."""
        optimizer = self.optimizers[slot]
        assert optimizer is not None
        (group,) = optimizer.param_groups
        row, (first, second) = self.rows[slot], self.moments[:, slot]
        if isinstance(optimizer, torch.optim.Adam):
            adam(
                [row],
                [grad],
                [first],
                [second],
                [],
                [self.updates[slot]],
                fused=True,
                amsgrad=False,
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                lr=group["lr"],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                maximize=False,
            )
        else:
            sgd(
                [row],
                [grad],
                [first if group["momentum"] else None],
                fused=True,
                weight_decay=group["weight_decay"],
                momentum=group["momentum"],
                lr=group["lr"],
                dampening=0.0,
                nesterov=False,
                maximize=False,
            )


def kept_of(optimizer: torch.optim.Optimizer) -> tuple[str, ...]:
    """Names of what an optimiser keeps for each weight."""
    if isinstance(optimizer, torch.optim.Adam):
        return ("exp_avg", "exp_avg_sq")
    return ("momentum_buffer",) if optimizer.param_groups[0]["momentum"] else ()


def side_by_side(images: Sequence[Tensor]) -> tuple[Tensor, int]:
    """Batches [B, C, H, W] of all networks in one tensor, and the axis that counts networks.

    With channels last the networks' channels lie side by side in each pixel, which grouped convolutions read as is.
    """
    first = images[0]
    if not first.is_contiguous(memory_format=torch.channels_last):
        return torch.stack(list(images)), 0
    pixels = torch.stack([part.permute(0, 2, 3, 1) for part in images], dim=3)  # [B, H, W, networks, C]
    return pixels.permute(0, 3, 4, 1, 2), 1


class Splits:
    """Samples on the device, once for all runs that share them, as long as one of them is there."""

    def __init__(self) -> None:
        self.known: weakref.WeakValueDictionary[Hashable, Split] = weakref.WeakValueDictionary()
        self.checksums: dict[Hashable, dict[str, str]] = {}

    def of(self, spec: Training, context: Context) -> Split:
        key = (
            spec.dataset,
            spec.seed,
            spec.report,
            spec.generated,
            spec.population,
            spec.report_samples,
            spec.normalisation,
        )
        split = self.known.get(key)
        if split is None:
            split = make_split(spec, context)
            self.known[key], self.checksums[key] = split, dict(context.data_checksums)
        context.data_checksums.update(self.checksums[key])
        return split


def train_many(specs: Sequence[Training], contexts: Sequence[Context]) -> list[Result | BaseException]:
    """Trains runs of equal company at once; a place that becomes free is taken by the next run.

    Args:
        specs: runs of equal `Training.company`.
        contexts: one for each; their `company` becomes the runs that were there at the same time.

    Returns:
        for each run its outcome, or the error that ended it alone.
    """
    waiting = deque(range(len(specs)))
    met: list[set[str]] = [set() for _ in specs]
    results: dict[int, Result | BaseException] = {}
    splits = Splits()
    networks: Networks | None = None
    free = list(range(places(specs)))
    seated: dict[int, tuple[int, Trainer, Course]] = {}
    asked: dict[int, Batch] = {}

    def go_on(slot: int, answer: Answer | None) -> None:
        """Gives a run its answer; what it asks for next is noted, and its end frees the slot."""
        assert networks is not None
        number, trainer, course = seated[slot]
        try:
            asked[slot] = next(course) if answer is None else course.send(answer)
            networks.bind(slot, trainer.optimizer)
        except StopIteration as end:
            results[number] = end.value
        except (Exception, OutOfTime) as error:
            results[number] = error
        if number in results:
            contexts[number].company = tuple(sorted(met[number]))
            del seated[slot]
            free.append(slot)

    while waiting or seated:
        while waiting and free:
            number = waiting.popleft()
            deadline = contexts[number].deadline
            if deadline is not None and time.monotonic() >= deadline:
                results[number] = OutOfTime(contexts[number].label)
                continue
            try:
                trainer = Trainer(specs[number], contexts[number], splits.of(specs[number], contexts[number]))
            except Exception as error:
                results[number] = error
                continue
            if networks is None:
                networks = _networks(trainer.model, len(free), specs, contexts[number])
            for other, _, _ in seated.values():
                met[number].add(contexts[other].label)
                met[other].add(contexts[number].label)
            slot = free.pop(0)
            networks.seat(slot, trainer.model)
            seated[slot] = (number, trainer, trainer.course())
            go_on(slot, None)
        if asked and networks is not None:
            batches, asked = asked, {}
            try:
                answers = networks.step(batches)
            except Exception as error:  # out of memory, as a rule: what has ended is not lost
                for number in range(len(specs)):
                    results.setdefault(number, error)
                break
            for slot, answer in answers.items():
                go_on(slot, answer)
    return [results[number] for number in range(len(specs))]


def _networks(model: nn.Module, count: int, specs: Sequence[Training], context: Context) -> Networks:
    batch = specs[0].optimizer.batch_size
    steps = sum(spec.work() for spec in specs) / batch / count
    # A stacked step took three times as long to compile as that of one network (96 s on two cores).
    compiles = should_compile(context.compile, model, context.device, steps=steps / 3, batch_size=batch)
    return Networks(model, count, specs[0].precision, compile_batch=batch if compiles else 0)
