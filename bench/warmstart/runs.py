"""The runs of this paper as functions of settings, setup and seed; `bench.warmstart.design.arm` makes arms of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from bench.errors import UserError
from bench.exhibit import Arm
from bench.warmstart.design import RI, WS, PaperDataset, Setup, WarmstartSettings, arm
from bench.warmstart.spec import FRESH, KEPT, Optimizer, Probe, Restart, Round, Training


def random_init(settings: WarmstartSettings, setup: Setup, seed: int, **fields: Any) -> Training:
    """The whole fit split from fresh weights (RI)."""
    samples = settings.fit_samples(setup.dataset, fields.get("report", "val_third"))
    return settings.training(setup, seed, **{"rounds": (Round(samples=samples, start=FRESH),), **fields})


def first_phase(
    settings: WarmstartSettings,
    setup: Setup,
    seed: int,
    *,
    samples: int | None = None,
    start: Restart = FRESH,
    **fields: Any,
) -> Training:
    """The first phase of a warm start, which leaves its weights.

    Args:
        settings, setup, seed: of the run.
        samples: how many it fits; by default half of the fit split.
        start: how its weights are made; a method with a penalty has it in this phase too.
        fields: of the run.
    """
    half = settings.fit_samples(setup.dataset, fields.get("report", "val_third")) // 2
    rounds = (Round(samples=samples or half, start=start),)
    return settings.training(setup, seed, **{"rounds": rounds, "leaves": True, **fields})


def second_phase(
    settings: WarmstartSettings,
    setup: Setup,
    seed: int,
    *,
    start: Restart = KEPT,
    parent: Training | None = None,
    **fields: Any,
) -> Training:
    """The whole fit split from the first phase's weights: a warm start (WS), or what `start` makes of them.

    Args:
        settings, setup, seed: of the run.
        start: how its weights are made of the first phase's.
        parent: the first phase; by default half of the fit split with the same fields.
        fields: of the run, and of the default first phase.
    """
    samples = settings.fit_samples(setup.dataset, fields.get("report", "val_third"))
    parent = parent or first_phase(settings, setup, seed, **fields)
    return settings.training(setup, seed, rounds=(Round(samples=samples, start=start),), parent=parent, **fields)


def both_arms(
    settings: WarmstartSettings, setup: Setup, labels: Mapping[str, Any] | None = None, **fields: Any
) -> Iterator[Arm]:
    """The two arms that most exhibits compare: random initialisation, and a warm start from half of the data."""
    for method, build in ((RI, random_init), (WS, second_phase)):
        yield arm(build, settings, setup, {**(labels or {}), "method": method}, **fields)


def sgd_grid(
    settings: WarmstartSettings, batch_sizes: Iterable[int], learning_rates: Iterable[float]
) -> dict[str, Optimizer]:
    """Name -> optimiser of a phase of Figures 3 and 11."""
    return {
        f"batch {batch} lr {lr:g}": settings.optimizer("sgd", batch_size=batch, lr=lr)
        for batch in batch_sizes
        for lr in learning_rates
    }


def two_phases(settings: WarmstartSettings, setup: Setup, seed: int, *, first: Optimizer) -> Training:
    """A warm start whose first phase has an optimiser of its own (Figure 3); Figure 11 correlates its weights."""
    parent = first_phase(settings, Setup(setup.dataset, setup.model, first), seed)
    return second_phase(settings, setup, seed, parent=parent, probe=Probe(kind="correlation"))


def shrink_start(shrink: float, perturb: float, **changes: Any) -> Restart:
    """Shrink perturb with a fresh network; (1, 0) is the warm start and (0, 1) random initialisation, trained once."""
    if not changes and (shrink, perturb) == (1, 0):
        return KEPT
    if not changes and (shrink, perturb) == (0, 1):
        return FRESH
    return Restart(method="shrink_perturb", shrink=shrink, perturb=perturb, **changes)


def can_learn(shrink: float, perturb: float, least: float) -> bool:
    """Whether weights after shrink perturb are large enough to learn from: noise alone needs a scale of `least`."""
    return shrink > 0 or perturb >= least


def noise_start(size: float, noise_is: Literal["variance", "std"] = "variance") -> Restart:
    """A warm start plus iid Gaussian noise of one size on all parameters, without shrinking (Table 4)."""
    if not size:
        return KEPT
    return Restart(method="shrink_perturb", shrink=1.0, perturb=size, noise="gaussian", noise_is=noise_is)


STARTS = {RI: FRESH, WS: KEPT}
"""Method -> how it makes the weights of a round."""


def online_rounds(fit: int, increment: int, start: Restart, first: Restart = FRESH) -> tuple[Round, ...]:
    """Rounds that add `increment` samples each until all are there: 33 x 1,000 and 333 more for CIFAR-10 [P, C].

    Args:
        fit: samples of the fit split.
        increment: samples added in a round.
        start: how the weights of every round but the first are made.
        first: how those of the first round are made.

    Raises:
        UserError: there are fewer samples than the first round adds.
    """
    if increment > fit:
        raise UserError(f"increment {increment}: expected at most the {fit} samples of the fit split")
    full, rest = divmod(fit, increment)
    rounds = [Round(samples=increment, start=first)]
    if full > 1:
        rounds.append(Round(samples=2 * increment, start=start, repeats=full - 1, grows=increment))
    if rest:
        rounds.append(Round(samples=fit, start=start))
    return tuple(rounds)


def online(
    settings: WarmstartSettings,
    setup: Setup,
    seed: int,
    *,
    increment: int,
    start: Restart,
    first: Restart = FRESH,
    **fields: Any,
) -> Training:
    """Online learning (Figure 2): `increment` more samples a round, each round from what `start` makes of the last."""
    fit = settings.fit_samples(setup.dataset, fields.get("report", "val_third"))
    rounds = online_rounds(fit, increment, start, first)
    return settings.training(setup, seed, rounds=rounds, online=True, **fields)


def online_shrink(
    settings: WarmstartSettings,
    setup: Setup,
    seed: int,
    *,
    increment: int,
    shrink: float,
    perturb: float,
    first_round: bool = True,
    **fields: Any,
) -> Training:
    """Online shrink perturb (Figures 7 and 8); (0, 1) and (1, 0) are the two runs of Figure 2.

    Args:
        settings, setup, seed: of the run.
        increment: samples added in a round.
        shrink: lambda.
        perturb: s.
        first_round: whether the very first network is shrunk and perturbed too, as the authors' code does [C].
        fields: of the run.
    """
    start = shrink_start(shrink, perturb)
    first = start if first_round and start.method == "shrink_perturb" else FRESH
    return online(settings, setup, seed, increment=increment, start=start, first=first, **fields)


def samples_of(fit: int, fraction: float) -> int:
    """A fraction of a fit split, rounded to whole samples.

    Raises:
        UserError: the fraction leaves a round without samples.
    """
    samples = round(fraction * fit)
    if not 1 <= samples <= fit:
        raise UserError(
            f"fraction {fraction:g} of {fit} samples leaves a round of {samples}; expected 1 to {fit} samples: "
            "a fraction up to 1, or a larger `population`"
        )
    return samples


def transfer(
    settings: WarmstartSettings, setup: Setup, seed: int, *, source: PaperDataset, fraction: float, start: Restart
) -> Training:
    """A fraction of the setup's data set, from what `start` makes of weights of a source (Figure 9).

    The source is fitted to convergence, all of its training set from fresh weights; from fresh weights there is none.
    Accuracy is that of test sets, whose levels the figure has [D]. The classifier is drawn anew where the numbers of
    classes differ [O].
    """
    test: dict[str, Any] = {"report": "official_test"}
    samples = samples_of(settings.fit_samples(setup.dataset, test["report"]), fraction)
    parent = None
    if start != FRESH:
        parent = random_init(settings, Setup(source, setup.model, setup.optimizer), seed, leaves=True, **test)
    return settings.training(setup, seed, rounds=(Round(samples=samples, start=start),), parent=parent, **test)
