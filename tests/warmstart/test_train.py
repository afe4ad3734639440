"""The trainer against a plain loop, interrupted at every boundary, and on each kind of list of rounds."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bench import checkpoint, seeds
from bench.data import images
from bench.errors import FailedRun, OutOfTime, UserError
from bench.run import Result
from bench.training.context import Context
from bench.training.samples import Pool
from bench.warmstart import probes, stopping
from bench.warmstart import train as training
from bench.warmstart.spec import FRESH, KEPT, Network, Optimizer, Penalty, Probe, Restart, Round, Stop, Training
from bench.warmstart.weights import draw_network

Train = Callable[[Training], Result]
Toy = Callable[..., Training]
Surround = Callable[..., Any]

SP = Restart(method="shrink_perturb", shrink=0.5, perturb=0.1)


def results(outcome: Result) -> dict[str, Any]:
    """All numbers but times."""
    series = {
        name: {column: values for column, values in columns.items() if column != "seconds"}
        for name, columns in outcome.series.items()
    }
    return {"metrics": outcome.metrics, "series": series, "notes": outcome.notes}


def weights(context: Context, name: str = "weights") -> dict[str, Tensor]:
    return checkpoint.load_tensors(context.layout.artefact(context.key, name))


@pytest.mark.parametrize(
    ("network", "lr", "tolerance"),
    [
        (Network(name="mlp", activation="tanh"), 0.05, 1e-4),
        # Rounding is amplified by BatchNorm over few samples: float32 loops end up to a tenth of the way from a float64 one.
        (Network(), 1e-3, 0.25),
    ],
    ids=["mlp", "thin_resnet18"],
)
def test_twenty_steps_equal_a_plain_loop(
    toy: Toy, surroundings: Surround, network: Network, lr: float, tolerance: float
) -> None:
    """NCHW, unfused, with the data normalised image by image: the same way gone after 21 steps, the same accuracies."""
    spec = toy(network=network, optimizer=Optimizer(name="sgd", lr=lr, batch_size=10), stop=Stop(epochs=3), leaves=True)
    context = surroundings(spec)
    outcome = training.train(spec, context)

    data = images.generated((3, 32, 32), 10, train=96, test=10)
    order = torch.randperm(96, generator=seeds.generator("warmstart", "cifar10", "split", 0))
    mean, std = (torch.tensor(c).reshape(3, 1, 1) for c in ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)))
    pixels = torch.stack([(image / 255 - mean) / std for image in data.train])
    model = draw_network(spec, "first")
    begin = torch.nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, fused=False, foreach=False)
    accuracies = []
    for epoch in range(3):
        names = ("warmstart", "order", "cifar10", 0, 64, 0, epoch)
        correct, seen = [], []
        for batch in torch.randperm(64, generator=seeds.generator(*names)).split(10):
            chosen = order[:64][batch]
            optimizer.zero_grad()
            logits = model(pixels[chosen])
            F.cross_entropy(logits, data.train_labels[chosen]).backward()
            optimizer.step()
            correct.append(int((logits.argmax(1) == data.train_labels[chosen]).sum()))
            seen.append(len(chosen))
        accuracies.append(stopping.authors_accuracy(correct, seen))
    kept = weights(context)
    ours = torch.cat([kept[name].flatten() for name, _ in model.named_parameters()])
    end = torch.nn.utils.parameters_to_vector(model.parameters()).detach()
    assert (ours - end).norm() < tolerance * (end - begin).norm()
    one_sample = 100 / 10
    assert outcome.series["epochs"]["train_acc"] == pytest.approx(
        accuracies, abs=1e-3 if "mlp" in network.name else one_sample
    )
    model.eval()
    held = order[64:]
    right = int((model(pixels[held]).argmax(1) == data.train_labels[held]).sum())
    assert outcome.metrics["report_acc"] == pytest.approx(100 * right / 32, abs=100 / 32 + 1e-6)
    assert outcome.metrics["steps"] == 21
    assert outcome.metrics["samples"] == 192


@pytest.mark.parametrize("kind", ["online", "penalties"])
def test_interrupted_anywhere_equals_uninterrupted(toy: Toy, surroundings: Surround, kind: str) -> None:
    """Three rounds with Adam, BatchNorm and a cosine, ended at each boundary in turn, bit for bit."""
    if kind == "online":
        lots = (Round(samples=24, start=FRESH), Round(samples=44, grows=20, repeats=2, start=SP))
        spec = toy(rounds=lots, stop=Stop(epochs=3), keep_epochs=(2,), leaves=True, bn_buffers="reset")
    else:
        spec = toy(
            rounds=(Round(samples=40, start=FRESH), Round(samples=64, trains="last")),
            optimizer=Optimizer(name="sgd", lr=0.1, momentum=0.9, batch_size=24, schedule="cosine"),
            penalty=Penalty(kind="adversarial", weight=0.1),
            probe=Probe(kind="gradients", old_samples=40, every=1),
            augment=True,
            evaluate="epochs",
            bn_statistics="population",
            leaves=True,
        )
    whole = surroundings(spec)
    expected = results(training.train(spec, whole))
    final = weights(whole)
    assert whole.boundaries >= 6
    for ends_at in range(1, whole.boundaries + 1):
        first = surroundings(spec, ends_at=ends_at)
        first.key = f"interrupted-{ends_at}"
        with pytest.raises(OutOfTime):
            training.train(spec, first)
        second = replace(first, ends_at=0, deadline=None, kept={})
        assert results(training.train(spec, second)) == expected
        assert second.resumed
        assert second.kept == whole.kept  # artefacts by checksum
        again = weights(second)
        assert all(torch.equal(tensor, again[name]) for name, tensor in final.items())


def test_shrink_perturb_ends_in_fresh_and_kept(toy: Toy, trained: Train) -> None:
    """(0, 1) trains exactly as random initialisation, (1, 0) as a warm start, also in their running statistics."""
    parent = toy(rounds=(Round(samples=32, start=FRESH),), leaves=True)

    def child(start: Restart) -> dict[str, Any]:
        return results(trained(toy(parent=parent, rounds=(Round(samples=64, start=start),), bn_buffers="reset")))

    warm, fresh = child(KEPT), child(FRESH)
    assert warm != fresh
    assert child(Restart(method="shrink_perturb", shrink=1.0, perturb=0.0)) == warm
    assert child(Restart(method="shrink_perturb", shrink=0.0, perturb=1.0)) == fresh


def test_a_child_starts_from_the_epoch_that_it_names(toy: Toy, surroundings: Surround) -> None:
    parent = toy(keep_epochs=(1, 2), leaves=True)
    above = surroundings(parent)
    training.train(parent, above)
    assert set(above.kept) == {"epoch-1", "epoch-2", "weights"} == set(parent.keeps())
    assert above.kept["epoch-2"] != above.kept["weights"]
    child = toy(parent=parent, start_from="epoch-1", leaves=True, stop=Stop(epochs=1), rounds=(Round(samples=64),))
    assert child.needs() == ("epoch-1",)
    # One epoch at a rate too small to move a weight: what is left is what it began with.
    child = child.model_copy(update={"optimizer": Optimizer(name="sgd", lr=1e-30, batch_size=24)})
    below = surroundings(child)
    training.train(child, below)
    begun, left = weights(above, "epoch-1"), weights(below)
    assert all(torch.equal(begun[name], left[name]) for name in begun if "running" not in name and "num" not in name)


def test_equal_seeds_share_split_order_and_first_weights(toy: Toy, surroundings: Surround) -> None:
    """Compared methods are paired; another seed shares nothing."""
    one, two = toy(optimizer=Optimizer(lr=0.1)), toy(optimizer=Optimizer(name="adam"), bn_buffers="reset")
    first, second = (training.Trainer(spec, surroundings(spec)) for spec in (one, two))
    other = training.Trainer(toy(seed=1), surroundings(toy(seed=1)))
    assert torch.equal(first.samples.fit.images, second.samples.fit.images)
    assert torch.equal(first.samples.report.labels, second.samples.report.labels)
    assert all(torch.equal(a, b) for a, b in zip(first.model.parameters(), second.model.parameters(), strict=True))
    assert not torch.equal(first.samples.fit.images, other.samples.fit.images)
    assert not torch.equal(first.model.linear.weight, other.model.linear.weight)


def test_fit_and_report_share_no_sample(toy: Toy, surroundings: Surround) -> None:
    samples = training.load_samples(toy(), surroundings(toy()))
    fit = {tuple(image.flatten().tolist()[:40]) for image in samples.fit.images}
    held = {tuple(image.flatten().tolist()[:40]) for image in samples.report.images}
    assert (len(fit), len(held)) == (64, 32)
    assert not fit & held


def test_only_the_classifier_moves_when_only_it_is_trained(toy: Toy, surroundings: Surround) -> None:
    spec = toy(rounds=(Round(samples=64, start=FRESH, trains="last"),), leaves=True)
    context = surroundings(spec)
    training.train(spec, context)
    begun = draw_network(spec, "first").state_dict()
    moved = {name for name, tensor in weights(context).items() if not torch.equal(tensor, begun[name])}
    assert {name for name in moved if "running" not in name and "num" not in name} == {"linear.weight", "linear.bias"}


def test_buffers_are_kept_or_restarted(toy: Toy, surroundings: Surround) -> None:
    counts = {}
    for buffers in ("keep", "reset"):
        spec = toy(rounds=(Round(samples=48, start=FRESH), Round(samples=64)), bn_buffers=buffers, leaves=True)
        context = surroundings(spec)
        training.train(spec, context)
        counts[buffers] = int(weights(context)["norm.num_batches_tracked"])
    assert counts == {"keep": 3 * 2 + 3 * 3, "reset": 3 * 3}


def test_reported_accuracy_may_use_the_population_s_statistics(toy: Toy, surroundings: Surround) -> None:
    """They change buffers and what is reported; parameters and train accuracy stay, bit for bit."""
    made = {}
    for kind in ("running", "population"):
        spec = toy(bn_statistics=kind, evaluate="epochs", leaves=True)
        context = surroundings(spec)
        made[kind] = (training.train(spec, context), weights(context))
    (plain, running), (outcome, population) = made["running"], made["population"]
    assert outcome.series["epochs"]["train_acc"] == plain.series["epochs"]["train_acc"]
    assert all(
        torch.equal(running[name], population[name])
        for name in running
        if "running_" not in name and "tracked" not in name
    )
    trainer = training.Trainer(spec, surroundings(spec))
    trainer.model.load_state_dict(population)
    seen: list[Tensor] = []
    trainer.model.get_submodule("norm").register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    trainer.model(trainer.samples.fit.take(torch.arange(len(trainer.samples.fit)))[0])
    size = spec.optimizer.batch_size
    means = torch.stack([part.mean((0, 2, 3)) for part in seen[0].split(size)]).mean(0)
    torch.testing.assert_close(population["norm.running_mean"], means, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(running["norm.running_mean"], means, rtol=1e-3)


def test_transfer_draws_a_new_head_and_keeps_the_rest(toy: Toy, surroundings: Surround) -> None:
    parent = toy(dataset="cifar100", leaves=True)
    above = surroundings(parent)
    training.train(parent, above)
    child = toy(parent=parent, rounds=(Round(samples=64, start=KEPT),))
    trainer = training.Trainer(child, surroundings(child))
    source = weights(above)
    own = trainer.model.state_dict()
    assert own["linear.weight"].shape == (10, 64)
    assert all(torch.equal(own[name], source[name]) for name in own if not name.startswith("linear"))
    wide = toy(parent=parent, network=Network(name="thin_resnet18", width=16))
    with pytest.raises(FailedRun, match="does not fit"):
        training.Trainer(wide, surroundings(wide))


def test_a_model_that_never_reaches_the_threshold_ends_at_the_cap_and_says_so(toy: Toy, trained: Train) -> None:
    spec = toy(network=Network(name="logistic"), optimizer=Optimizer(lr=1e-6), stop=Stop(cap=4))
    outcome = trained(spec)
    assert outcome.series["rounds"]["stop_rule"] == ["cap"]
    assert outcome.notes["stop_rules"] == {"cap": 1}
    assert outcome.series["epochs"]["epoch"] == [1, 2, 3, 4]


def test_a_threshold_that_is_reached_ends_the_round(toy: Toy, trained: Train) -> None:
    spec = toy(network=Network(name="mlp"), stop=Stop(cap=300, signal="clean_eval"))
    outcome = trained(spec)
    assert outcome.series["rounds"]["stop_rule"] == ["threshold"]
    assert outcome.metrics["train_acc"] > 99
    assert max(outcome.series["epochs"]["train_acc"][:-1]) <= 99


def test_no_rule_ends_a_round_before_its_least_epochs(toy: Toy, trained: Train) -> None:
    """The threshold is reached in the second epoch at the latest, and ends the round in its fifth."""
    spec = toy(network=Network(name="mlp"), stop=Stop(threshold=1.0, cap=3, signal="clean_eval"))
    assert len(trained(spec).series["epochs"]["epoch"]) <= 2
    longer = trained(spec.model_copy(update={"rounds": (Round(samples=64, start=FRESH, least_epochs=5),)}))
    assert longer.series["epochs"]["epoch"] == [1, 2, 3, 4, 5]
    assert longer.series["rounds"]["stop_rule"] == ["threshold"]


def test_log_lines_end_with_their_epoch(toy: Toy, trained: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three batches an epoch and two in a line: the third has none, and is not averaged with the next epoch's first."""
    norms: list[tuple[float, float]] = []
    measure = probes.gradient_norms

    def recorded(*arguments: Any, **options: Any) -> None:
        measure(*arguments, **options)
        norms.append(tuple(arguments[4][age][-1] for age in ("old", "new")))

    monkeypatch.setattr(probes, "gradient_norms", recorded)
    log = trained(toy(probe=Probe(kind="gradients", old_samples=32, every=2))).series["gradients"]
    assert len(norms) == 9
    for age, column in enumerate(("old", "new")):
        means = [(norms[begin][age] + norms[begin + 1][age]) / 2 for begin in (0, 3, 6)]
        assert log[column] == pytest.approx(means, abs=1e-6)
    assert log["line"] == [0, 1, 2]


def test_a_loss_that_is_not_finite_fails_the_run(toy: Toy, trained: Train) -> None:
    spec = toy(
        network=Network(name="mlp", activation="relu"), optimizer=Optimizer(lr=10.0, momentum=0.99, batch_size=8)
    )
    spec = spec.model_copy(update={"stop": Stop(epochs=50)})
    with pytest.raises(FailedRun, match=r"mlp sgd .* failed at step \d+: the loss is (nan|inf)"):
        trained(spec)


def test_estimated_samples_are_those_that_are_trained_on(toy: Toy, trained: Train) -> None:
    lots = (Round(samples=24, start=FRESH), Round(samples=44, grows=20, repeats=2), Round(samples=10, epochs=1))
    spec = toy(rounds=lots)
    outcome = trained(spec)
    assert spec.cost().amount == outcome.costs["samples"] == 3 * (24 + 44 + 64) + 10
    assert outcome.series["rounds"]["n_samples"] == [24, 44, 64, 10]
    assert outcome.series["rounds"]["samples"] == [72, 132, 192, 10]


@pytest.mark.parametrize("evaluate", ["rounds", "epochs"])
@pytest.mark.parametrize("statistics", ["running", "population"])
@pytest.mark.parametrize("signal", ["running", "clean_eval"])
def test_estimated_evaluation_is_what_passes_forward_alone(
    toy: Toy, trained: Train, monkeypatch: pytest.MonkeyPatch, evaluate: str, statistics: str, signal: str
) -> None:
    seen = 0
    take = Pool.take

    def counted(pool: Pool, index: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal seen
        seen += 0 if torch.is_grad_enabled() else len(index)
        return take(pool, index)

    lots = (Round(samples=24, start=FRESH), Round(samples=44, grows=20, repeats=2))
    spec = toy(rounds=lots, evaluate=evaluate, bn_statistics=statistics, report_samples=16)
    spec = spec.model_copy(update={"stop": spec.stop.model_copy(update={"signal": signal})})
    monkeypatch.setattr(Pool, "take", counted)
    trained(spec)
    assert seen == spec.evaluated()


def test_long_trainings_are_thinned_and_keep_their_end() -> None:
    columns = {"epoch": list(range(10_001))}
    thin = training.thinned(columns)["epoch"]
    assert len(thin) <= training.MOST_EPOCH_ROWS + 1
    assert thin[0] == 0 and thin[-1] == 10_000
    assert len({b - a for a, b in itertools.pairwise(thin[:-1])}) == 1


@pytest.mark.parametrize("method", ["dash", "l2_init", "last_layer_reset"])
def test_a_run_trains_from_what_a_method_makes(toy: Toy, surroundings: Surround, method: str) -> None:
    """Each method in its place between two rounds; its weights differ from a warm start's."""

    def left(start: Restart) -> dict[str, Tensor]:
        spec = toy(rounds=(Round(samples=40, start=FRESH), Round(samples=64, start=start)), leaves=True)
        context = surroundings(spec)
        training.train(spec, context)
        return weights(context)

    warm, other = left(KEPT), left(Restart(method=method, shrink=0.3, strength=0.01))
    assert not torch.equal(warm["linear.weight"], other["linear.weight"])
    assert all(bool(tensor.isfinite().all()) for tensor in other.values())


def test_unknown_methods_are_named(toy: Toy, trained: Train) -> None:
    spec = toy(rounds=(Round(samples=64, start=Restart(method="shrink_pertub")),))
    with pytest.raises(UserError, match="did you mean 'shrink_perturb'"):
        spec.code()
