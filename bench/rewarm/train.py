"""The trainer: pre-training from random, a parent's or public weights, alone, in company or on several devices.

Small networks train in company in one process. A large one fills its device, or several:

    torchrun --nproc-per-node=8 -m bench run --scale paper --exhibits rewarm/fig1

trains one run after the other, each on 8 GPUs (or CPU processes) with a share of every batch: the losses are those of one
process but for the order of summation. The first rank alone writes; an interrupted run goes on with any number of ranks
that divides the batch. On several machines call it with torchrun's ``--nnodes`` and ``--rdzv-endpoint`` on each, with
``BENCH_RESULTS`` and ``BENCH_DATA`` on a disk that all of them share. ``sharding: shard`` takes FSDP2 in place of DDP. The
workflow makes the same call when the scale file offers a job several GPUs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from bench.errors import FailedRun, OutOfTime, UserError
from bench.rewarm import distributed, evaluate
from bench.rewarm.company import Company
from bench.rewarm.course import Course, State
from bench.rewarm.solo import Solo
from bench.rewarm.spec import PretrainSpec
from bench.run import Result
from bench.training.context import Context

DISTRIBUTED = True
"""Several processes may train one run."""


def train(spec: PretrainSpec, context: Context) -> Result:
    """Trains one run; under ``torchrun`` every rank calls this and the first writes.

    Raises:
        FailedRun: a loss is not finite or explodes; names the step, and the last good state has been saved.
        OutOfTime: the time budget is over; the state has been saved.
        UserError: data or weights do not fit.
    """
    if spec.company() is None or distributed.wanted():
        return _train_alone(spec, context)
    (result,) = train_many([spec], [context])
    if isinstance(result, BaseException):
        raise result
    return result


def train_many(specs: Sequence[PretrainSpec], contexts: Sequence[Context]) -> list[Result | BaseException]:
    """Trains runs of equal shape and batch at once; a place that becomes free is taken by the next run.

    Returns:
        for each run its outcome, or the error that ended it alone.
    """
    if distributed.wanted():  # all ranks work at one network after the other
        return [_attempt(spec, context) for spec, context in zip(specs, contexts, strict=True)]
    first, device = specs[0], contexts[0].device
    engine = Company(first.shape, device, first.precision)
    places = Company.width(first.shape, first.batch, device)
    waiting = deque(range(len(specs)))
    results: dict[int, Result | BaseException] = {}
    here: list[int] = []
    courses: list[Course] = []

    def leave(slot: int, result: Result | BaseException) -> None:
        results[here.pop(slot)] = result
        del courses[slot]
        engine.remove(slot)

    while waiting or courses:
        while waiting and len(courses) < places:
            number = waiting.popleft()
            try:
                course = Course(specs[number], contexts[number])
                engine.add(*course.start())
                course.facts["arithmetic"] = str(engine.dtype).removeprefix("torch.")
            except (FailedRun, OutOfTime, UserError) as error:
                results[number] = error
                continue
            here.append(number)
            courses.append(course)
        _evaluate_due(engine, courses)
        # From the last slot to the first, so that leaving moves no slot that is still to come.
        for slot in reversed(range(len(courses))):
            try:
                _pause(courses[slot], _state_of(engine, slot))
            except (FailedRun, OutOfTime) as error:
                leave(slot, error)
                continue
            if courses[slot].done:
                leave(slot, courses[slot].outcome())
        if courses:
            windows = [course.stream.windows(course.position(), course.spec.batch) for course in courses]
            losses = engine.step(windows, [course.rate() for course in courses])
            for course, loss in zip(courses, losses.unbind(), strict=True):
                course.advance(loss)
    return [results[number] for number in range(len(specs))]


def _attempt(spec: PretrainSpec, context: Context) -> Result | BaseException:
    try:
        return _train_alone(spec, context)
    except (FailedRun, OutOfTime, UserError) as error:
        return error


def _state_of(engine: Company, slot: int) -> Callable[[], State]:
    return lambda: {"weights": engine.weights(slot), "moments": engine.moments(slot)}


def _evaluate_due(engine: Company, courses: Sequence[Course]) -> None:
    """Measures those that are due, together where they share the validation slices."""
    due = [slot for slot, course in enumerate(courses) if course.evaluation_due]
    shared: dict[int, list[int]] = {}
    for slot in due:
        shared.setdefault(id(courses[slot].validation), []).append(slot)
    for slots in shared.values():
        measured = evaluate.losses(engine, slots, courses[slots[0]].validation)
        for slot, losses in zip(slots, measured, strict=True):
            courses[slot].measured = losses


def _pause(course: Course, state: Callable[[], State]) -> None:
    """Looks at the losses, notes an evaluation, saves: at pauses only."""
    if not course.pause_due:
        return
    course.look()
    if course.evaluation_due:
        course.record(state)
    course.save(state)


def _train_alone(spec: PretrainSpec, context: Context) -> Result:
    """A network that fills its devices: gradient accumulation, several ranks, compiled where it pays."""
    with distributed.ranks(context.device) as ranks:
        course = Course(spec, context, writes=ranks.first)
        weights, moments = course.start()
        engine = Solo(spec, context, ranks, weights, moments)
        course.facts, state = engine.facts, engine.state
        while True:
            if course.evaluation_due:
                (course.measured,) = evaluate.losses(engine, [0], course.validation)
            if course.pause_due:
                ranks.together(lambda: _pause(course, state))
            if course.done:
                return course.outcome()
            first, count = ranks.share(course.position(), spec.batch)
            course.advance(engine.step(course.stream.windows(first, count), course.rate()))
