"""The trainer: its loss against auto_LiRPA's, resuming, failures that name a layer, what a record holds."""

from __future__ import annotations

import copy
import gc
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bench.certified import dataset, evaluate, interval, lirpa, regularizers, step, train
from bench.certified.dataset import Range
from bench.certified.eps_schedule import Schedule
from bench.certified.spec import Certified, Network, Recipe
from bench.errors import FailedRun, OutOfTime, UserError
from bench.record import check_finite
from bench.run import SMOKE_BATCH, Result
from bench.training.samples import population_statistics

from .conftest import MakeContext, tiny


def results(outcome: Result) -> dict[str, Any]:
    """What must be equal between two trainings: all but times."""
    series = {
        name: {column: values for column, values in columns.items() if not column.startswith("seconds")}
        for name, columns in outcome.series.items()
    }
    return {"metrics": outcome.metrics, "series": series}


METHODS: dict[str, dict[str, Any]] = {
    "vanilla": {},
    "no BN": {"network": Network(width=2, units=8, norm="none")},
    "ours": {"init": "ibp", "regularizers": ("tightness", "relu")},
    "code's L_relu, L_std": {"regularizers": ("relu", "std"), "l_relu": "code"},
    "CROWN-IBP": {"bound": "crown_ibp"},
    "wide_resnet8": {"network": Network(name="wide_resnet8", width=2, units=8)},
    "resnext": {"network": Network(name="resnext", width=2, units=8), "init": "ibp"},
    "micro-batches": {"micro_batch": 16, "regularizers": ("tightness",)},
    "clean weight and L1": {"recipe": Recipe(robust_weight=0.7, l1=1e-5), "bn_statistics": "population"},
    "MTL-IBP": {"recipe": Recipe(objective="mtl_ibp", robust_weight=0.5, attack_steps=2)},
    "SABR": {"recipe": Recipe(objective="sabr", box_share=0.3, attack_steps=2)},
    "augmented": {"crop": 2, "flip": True},
    "bf16": {"precision": "bf16", "regularizers": ("tightness", "relu")},
}


@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains_and_fills_its_record(name: str, make_context: MakeContext) -> None:
    spec = tiny(**METHODS[name])
    context = make_context(spec)
    outcome = train.train(spec, context)
    check_finite(outcome, name)
    assert outcome.costs["samples"] == 4 * 70 and outcome.costs["steps"] == 4 * 3
    epochs, layers, radii = (outcome.series[key] for key in ("epochs", "layers", "radii"))
    assert epochs["epoch"] == [1, 2, 3, 4] and epochs["phase"] == ["zero", "ramp", "ramp", "final"]
    assert epochs["eps"] == pytest.approx([0.0, 5 / 13 * 0.025, 0.025, 0.025], abs=2e-3)
    assert epochs["lr"] == pytest.approx([5e-4, 5e-4, 5e-4, 1e-4])
    relus = sum(layer.relu for layer in spec.layers())
    assert len(layers["layer"]) == 4 * relus
    for active, inactive, unstable in zip(layers["active"], layers["inactive"], layers["unstable"], strict=True):
        assert active + inactive + unstable == pytest.approx(1, abs=1e-3)
    assert set(radii["epoch"]) == {1, 2, 3, 4} and set(radii["state"]) <= {"active", "inactive", "unstable"}
    assert outcome.series["phases"]["phase"] == ["zero", "ramp", "final"]
    for standard, verified in zip(epochs["standard_error"], epochs["verified_error"], strict=True):
        assert standard <= verified
    assert epochs["standard_error"][0] == epochs["verified_error"][0]  # eps is 0
    assert outcome.metrics["verified_error"] == epochs["verified_error"][-1]
    assert set(context.kept) == {"weights"}


def test_the_loss_of_a_step_is_that_of_auto_lirpa(make_context: MakeContext) -> None:
    """Ours, with both regularisers, in the middle of the ramp; and the CROWN-IBP mixture from the same bounds."""
    spec = tiny(init="ibp", regularizers=("tightness", "relu"))
    trainer = train.Trainer(spec, make_context(spec))
    images, labels = trainer.data.train.take(torch.arange(32))
    eps, weight = torch.tensor(0.011), torch.tensor(0.3)
    within: Range = trainer.data.range
    lower = torch.maximum(images - eps * within.scale, within.low).contiguous()
    upper = torch.minimum(images + eps * within.scale, within.high).contiguous()
    model = copy.deepcopy(trainer.model)
    bounded = lirpa.Bounded(model, images)
    logits, margins, relus = bounded.mixed_margins(images.contiguous(), lower, upper, labels, crown_share=0.0)
    scores = torch.cat([torch.zeros(32, 1), -margins], dim=1)
    expected = F.cross_entropy(scores, torch.zeros(32, dtype=torch.int64))
    pairs = [((low + high) / 2, (high - low) / 2) for low, high in relus]
    expected = expected + weight * regularizers.total(spec.regularizers, (upper - lower) / 2, pairs, tau=0.5)
    forward = trainer.step._make("robust regularised")
    loss, ours, clean = forward(images, labels, eps, weight)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(ours, margins, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(clean, logits, rtol=1e-4, atol=1e-4)


def test_the_crown_ibp_mixture_and_its_running_statistics(make_context: MakeContext) -> None:
    """The factor is eps / eps_target of IBP; the evaluated network's running mean moves.

    Source: bench/certified/protocol.md, section d.
    """
    spec = tiny(bound="crown_ibp", schedule=Schedule(zero=0, ramp=2, final=0, milestones=()))
    trainer = train.Trainer(spec, make_context(spec))
    before = trainer.model[1].running_mean.clone()
    images, labels = trainer.data.train.take(torch.arange(32))
    assert trainer.step.bounded is not None
    both = []
    for share in (0.0, 1.0, 0.4):
        radius = 0.01 * trainer.data.range.scale
        plain = images.contiguous()
        _, margins, _ = trainer.step.bounded.mixed_margins(plain, plain - radius, plain + radius, labels, share)
        both.append(margins)
    torch.testing.assert_close(both[2], 0.6 * both[0] + 0.4 * both[1], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(both[0], both[1], rtol=1e-2)
    trainer.train_epoch(0, trainer.starts)
    assert not torch.equal(trainer.model[1].running_mean, before)
    for mine, own in trainer.step.bounded._buffers():
        assert torch.equal(mine, own)


def test_clipping_and_adam_are_those_of_torch(make_context: MakeContext) -> None:
    spec = tiny(clip=0.05)
    trainer = train.Trainer(spec, make_context(spec))
    twin = copy.deepcopy(trainer.model)
    plain = torch.optim.Adam(twin.parameters(), lr=spec.lr)
    for start in (0, 32):
        images, labels = trainer.data.train.take(torch.arange(start, start + 32))
        trainer.step(images, labels, torch.tensor(0.0), 0.0, 0.0)
        plain.zero_grad()
        F.cross_entropy(twin(images), labels).backward()
        norm = torch.nn.utils.clip_grad_norm_(twin.parameters(), 0.05)
        assert norm > 0.05
        plain.step()
    # A bias before a BatchNorm has no gradient but rounding, which Adam enlarges.
    pairs = list(zip(trainer.model.named_parameters(), twin.parameters(), strict=True))
    for (name, ours), theirs in [pair for pair in pairs if pair[1].dim() > 1 or pair[1] is pairs[-1][1]]:
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6, msg=name)


def test_interrupted_and_resumed_equals_uninterrupted(make_context: MakeContext, tmp_path: Path) -> None:
    spec = tiny(init="ibp", regularizers=("tightness", "relu"), crop=2, flip=True, report="best_on_val", holdout=20)
    whole = make_context(spec, "whole")
    expected = results(train.train(spec, whole))
    for _ in range(10):
        context = make_context(spec, "parts", deadline=0.0)
        try:
            found = results(train.train(spec, context))
        except OutOfTime:
            continue
        break
    else:
        context = make_context(spec, "parts")
        found = results(train.train(spec, context))
    assert context.resumed
    assert found == expected
    assert context.kept == whole.kept  # checksums of the weights


def test_methods_of_a_seed_share_split_order_and_initial_weights(make_context: MakeContext) -> None:
    ours, vanilla = tiny(regularizers=("relu",)), tiny()
    a, b = (train.Trainer(spec, make_context(spec)) for spec in (ours, vanilla))
    assert torch.equal(a.data.train.images, b.data.train.images)
    assert torch.equal(a._order(1), b._order(1))
    assert all(torch.equal(x, y) for x, y in zip(a.model.parameters(), b.model.parameters(), strict=True))
    other = train.Trainer(tiny(seed=8), make_context(vanilla))
    assert not torch.equal(a.data.train.images, other.data.train.images)


def test_a_run_that_is_not_finite_names_step_and_layer(make_context: MakeContext) -> None:
    spec = tiny()
    trainer = train.Trainer(spec, make_context(spec))
    trainer.train_epoch(0, trainer.starts)
    weights = [tensor.detach().clone() for tensor in trainer.model.parameters()]
    trainer.model[6].weight.data[0, 0, 0, 0] = float("inf")
    with pytest.raises(
        FailedRun, match=r"failed at step 3: bounds are not finite, first after layer '6, 7' \(epoch 2\)"
    ):
        trainer.train_epoch(1, trainer.starts)
    trainer.model[6].weight.data[0, 0, 0, 0] = weights[8][0, 0, 0, 0]
    # Nothing was updated from the step on at which it happened.
    assert all(torch.equal(a, b) for a, b in zip(trainer.model.parameters(), weights, strict=True))


def test_reported_epochs(make_context: MakeContext) -> None:
    spec = tiny(report="best_on_val", holdout=20, schedule=Schedule(zero=0, ramp=1, final=3, milestones=()))
    context = make_context(spec)
    outcome = train.train(spec, context)
    columns = outcome.series["epochs"]
    best = min(range(4), key=lambda row: (columns["val_verified_error"][row], columns["val_standard_error"][row]))
    assert outcome.metrics["reported_epoch"] == outcome.metrics["val_best_epoch"] == best + 1
    assert outcome.metrics["verified_error"] == columns["verified_error"][best]
    assert outcome.metrics["best_verified_error"] == min(columns["verified_error"])
    assert outcome.metrics["last_verified_error"] == columns["verified_error"][-1]


def test_population_statistics_are_means_over_the_training_set(make_context: MakeContext) -> None:
    spec = tiny(bn_statistics="population", population=64)
    trainer = train.Trainer(spec, make_context(spec))
    population_statistics(trainer.model, trainer.data.train, spec.batch_size, 64)
    images, _ = trainer.data.train.take(torch.arange(64))
    first = trainer.model[0](images)
    torch.testing.assert_close(trainer.model[1].running_mean, first.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    assert all(m.momentum == 0.1 for m in trainer.model.modules() if isinstance(m, nn.BatchNorm2d))


def test_balance_is_measured_as_the_authors_log_it_and_trained_as_the_paper_says(make_context: MakeContext) -> None:
    """A layer without an active neuron counts 2 of the mean over layers where it is measured, and nothing in training."""
    spec = tiny(regularizers=("relu",))
    trainer = train.Trainer(spec, make_context(spec))
    trainer.model[1].bias.data.fill_(-100.0)  # BatchNorm before the first of six ReLUs
    within = trainer.data.range
    images, labels = trainer.data.test.take(torch.arange(40))
    measured = evaluate.measure(trainer.model, trainer.data.test, 0.01, within, batch=40)
    centre, radius = interval.box(images, 0.01, within.low, within.high, within.scale)
    relus = interval.propagate(trainer.model.eval(), centre, radius, keep_relus=True).relus
    code, paper = (regularizers.relu_balance(relus, 0.5, rule).item() for rule in ("code", "skip"))
    assert measured.relu == pytest.approx(code) and code == pytest.approx(paper + 2 / 6)
    trainer.model.train()
    clean = {"clean": images, "keep_relus": True}
    trained = interval.propagate(trainer.model, centre, radius, **clean).relus
    loss, margins, _ = trainer.step._make("robust regularised")(images, labels, torch.tensor(0.01), torch.tensor(1.0))
    expected = step.robust_loss(margins) + regularizers.relu_balance(trained, 0.5, "skip")
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)


def test_images_are_cropped_where_they_are_not_mirrored(make_context: MakeContext) -> None:
    """A data set of digits has the one and not the other."""
    spec = tiny(crop=1, flip=False)
    trainer = train.Trainer(spec, make_context(spec))
    order, plain = torch.arange(32), trainer.data.train.images[:32]
    padded = F.pad(plain, (1, 1, 1, 1), mode="replicate")
    shifts = torch.stack([padded[:, :, y : y + 12, x : x + 12] for y in range(3) for x in range(3)])
    batch, _ = trainer._batch(order, 0, trainer._shifts(0, [0])[0])
    assert (batch == shifts).flatten(2).all(2).any(0).all() and not torch.equal(batch, plain)


def test_impossible_settings_are_refused(make_context: MakeContext) -> None:
    with pytest.raises(ValueError, match="needs a holdout"):
        tiny(report="best_on_val")
    with pytest.raises(ValueError, match="no multiple of micro_batch"):
        tiny(micro_batch=7)
    with pytest.raises(ValueError, match="goes with bound ibp"):
        tiny(bound="crown_ibp", recipe=Recipe(objective="sabr"))
    with pytest.raises(ValueError, match="no variant 'convs'"):
        Network(name="resnext", norm="convs")


def test_a_data_set_of_other_classes_is_refused(make_context: MakeContext, monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.data import images

    wrong = images.generated((3, 12, 12), 4, train=8, test=4)
    monkeypatch.setattr(images, "load", lambda name, root: wrong)
    with pytest.raises(UserError, match=r"4 classes of .* expected 5 classes"):
        dataset.load("synthetic_certified", make_context(tiny()))


def test_the_first_classes_alone(make_context: MakeContext) -> None:
    spec = tiny(first_classes=3, population=None, report_samples=None)
    whole = dataset.load("synthetic_certified", make_context(spec))
    samples = dataset.samples_of(spec, make_context(spec))
    for pool, images, labels in (
        (samples.train, whole.train, whole.train_labels),
        (samples.test, whole.test, whole.test_labels),
    ):
        assert torch.equal(pool.labels, labels[labels < 3])
        torch.testing.assert_close(pool.images, images[labels < 3] / 255 - 0.5)
    assert (spec.fit_samples(), spec.test_samples()) == (len(samples.train), len(samples.test))
    trainer = train.Trainer(spec, make_context(spec))
    assert trainer.model(trainer.data.test.take(torch.arange(2))[0]).shape == (2, 3)
    fewer = train.Trainer(tiny(first_classes=3), make_context(spec))
    assert len(fewer.data.train) == 70 and int(fewer.data.train.labels.max()) == 2
    with pytest.raises(ValueError, match="synthetic_certified has 5 classes, not 6"):
        tiny(first_classes=6)


@pytest.mark.parametrize("name", ["cnn7", "wide_resnet8", "resnext"])
def test_smoke_keeps_the_true_shape(name: str) -> None:
    spec = Certified(seed=3, network=Network(name=name), regularizers=("relu",))
    cut = spec.smoke()
    assert cut.network == spec.network and cut.batch_size == SMOKE_BATCH and cut.steps_per_epoch() == 2
    assert cut.regularizers == spec.regularizers and cut.shape() == spec.shape()
    assert cut.data() == () and cut.schedule.epochs == 1


def test_a_compiled_step_asks_for_no_other_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks that were bounded before it, and those that come and go, neither break nor renew what is compiled."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    torch.compiler.reset()
    spec = tiny(init="ibp", regularizers=("tightness", "relu"))
    within = Range.of(spec.dataset, torch.device("cpu"))
    images, labels = torch.rand(spec.batch_size, *spec.shape()) - 0.5, torch.zeros(spec.batch_size, dtype=torch.int64)

    def network() -> nn.Module:
        model = train.draw_network(spec, spec.shape(), spec.classes())
        interval.bounds(model.eval(), images, images)
        return model.train()

    def take() -> float:
        ours.sums.reset()
        ours(images, labels, torch.full((), spec.target / 2), 0.5, 0.1)
        return float(ours.sums.loss)

    others = [network() for _ in range(2)]
    ours = step.Step(spec, network(), within, compile="always")
    first = take()
    others.append(network())
    del others[0]
    gc.collect()
    with torch.compiler.set_stance("fail_on_recompile"):
        assert take() != first  # an update lies between them
