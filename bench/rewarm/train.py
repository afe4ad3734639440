"""The trainer: (continued) pre-training from random, a parent's or public weights, on one device or on several.

A large network fills its device, or several:

    torchrun --nproc-per-node=8 -m bench run --scale paper --exhibits rewarm/fig1

trains one run after the other, each on 8 GPUs (or CPU processes) with a share of every batch. The losses are those of one
process but for the order of summation. The first rank alone writes. An interrupted run goes on with any number of ranks
that divides the batch. On several machines call it with torchrun's ``--nnodes`` and ``--rdzv-endpoint`` on each, with
``BENCH_RESULTS`` and ``BENCH_DATA`` on a disk that all of them share. ``sharding: shard`` takes FSDP2 in place of DDP. The
workflow makes the same call when the scale file offers a job several GPUs.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from bench import seeds
from bench.models import pretrained, pythia
from bench.rewarm import evaluate, passes, streams
from bench.rewarm.engine import Engine
from bench.rewarm.progress import Progress
from bench.rewarm.spec import PretrainSpec, moments_of
from bench.run import Result
from bench.training import distributed
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
    for name, checksum in streams.prepare(spec, context.data_root, workers=context.threads).items():
        context.used_data(name, checksum)
    stream = streams.training(spec, context.data_root)
    validation = streams.validation(spec, context.data_root)
    with distributed.ranks(context.device) as ranks:
        saved = context.resume()
        weights, moments = starting_point(spec, context) if saved is None else (saved["weights"], saved["moments"])
        engine = Engine(spec, context, ranks, weights, moments)
        run = Progress(spec, context, saved, writes=ranks.rank == 0)
        while True:
            if run.pause_due:
                losses = evaluate.losses(engine, validation) if run.evaluation_due else {}
                ranks.in_step(lambda losses=losses: run.pause(losses, engine.state))  # type: ignore[misc]
            if run.done:
                return run.result({**engine.facts, **passes.notes(spec, context.data_root)})
            first, count = ranks.share(run.position, spec.batch)
            run.advance(engine.step(stream.windows(first, count), spec.schedule.rate(run.step)))


def starting_point(spec: PretrainSpec, context: Context) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor] | None]:
    """Weights and moments to begin with: a public checkpoint's, a parent's, or random weights; fresh moments are ``None``.

    Raises:
        UserError: they are absent, or of another shape.
    """
    if spec.checkpoint is not None:
        weights = pretrained.public_weights(
            spec.model, spec.checkpoint.step, deduped=spec.checkpoint.deduped, data_root=context.data_root
        )
        return pretrained.check(weights, spec.shape, f"Pythia-{spec.model}"), None
    if spec.parent is None:
        return pythia.initial_weights(spec.shape, seeds.generator("rewarm", "weights", spec.model, spec.seed)), None
    weights = pretrained.check(context.parent_tensors(spec.start), spec.shape, spec.parent.label())
    kept = context.parent_tensors(moments_of(spec.start)) if spec.moments == "kept" else None
    return weights, kept
