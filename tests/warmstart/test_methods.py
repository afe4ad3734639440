"""Methods do what their papers say; a user's own file counts as one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bench import models, seeds
from bench.errors import UserError
from bench.warmstart import methods
from bench.warmstart import train as training
from bench.warmstart.spec import FRESH, Restart, Round, Stop, Training

Gradient = dict[str, torch.Tensor]


def point(setting: Restart, gradients: Sequence[Gradient] = (), *, trained: bool = True) -> methods.Point:
    """The beginning of a round of a narrow ResNet whose samples came in as many chunks of ten as there are gradients."""

    def draw(seed: int) -> nn.Module:
        return models.build_seeded("thin_resnet18", seed, num_classes=10, in_shape=(3, 8, 8), width=4)

    chunks = [range(10 * index, 10 * index + 10) for index in range(len(gradients))]
    at = {chunk: gradient for chunk, gradient in zip(chunks, gradients, strict=True)}
    return methods.Point(draw(1), draw(2), setting, seeds.generator("test"), trained, chunks, at.__getitem__)


def test_every_file_has_a_restart() -> None:
    assert {"shrink_perturb", "last_layer_reset", "l2_init", "dash"} <= set(methods.known())
    assert all(callable(methods.load(name).restart) for name in methods.known())


def test_last_layer_reset_draws_the_classifier_anew() -> None:
    at = point(Restart(method="last_layer_reset"))
    before = {name: tensor.detach().clone() for name, tensor in at.model.named_parameters()}
    methods.load("last_layer_reset").restart(at)
    assert torch.equal(at.model.linear.weight, at.fresh.linear.weight)
    assert all(torch.equal(t, before[n]) for n, t in at.model.named_parameters() if not n.startswith("linear"))


def test_l2_init_pulls_towards_the_first_weights() -> None:
    at = point(Restart(method="l2_init", strength=0.5))
    initial = {name: tensor.detach() - 0.1 for name, tensor in at.model.named_parameters()}
    value = methods.load("l2_init").penalty(at.model, initial, 0.5)
    count = sum(tensor.numel() for tensor in at.model.parameters())
    assert value.item() == pytest.approx(0.5 * count * 0.01, rel=1e-3)
    value.backward()
    torch.testing.assert_close(at.model.conv.weight.grad, torch.full_like(at.model.conv.weight, 2 * 0.5 * 0.1))


def weights_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.named_parameters()}


def test_dash_keeps_filters_that_point_down_the_loss_and_shrinks_the_others() -> None:
    weights = weights_of(point(Restart(method="dash")).model)
    gradient = {name: torch.zeros_like(tensor) for name, tensor in weights.items()}
    gradient["linear.weight"][0] = -weights["linear.weight"][0]  # down the loss: kept
    gradient["linear.weight"][1] = weights["linear.weight"][1]  # up the loss: shrunk to lambda
    gradient["conv.weight"] = -weights["conv.weight"]
    gradient["conv.weight"][0, 1] *= -1  # one channel of one filter
    gradient["linear.bias"] = weights["linear.bias"]  # a bias vector has one factor
    at = point(Restart(method="dash", shrink=0.3), [gradient])
    methods.load("dash").restart(at)
    new = dict(at.model.named_parameters())
    torch.testing.assert_close(new["linear.weight"][0], weights["linear.weight"][0])
    torch.testing.assert_close(new["linear.weight"][1:], 0.3 * weights["linear.weight"][1:])
    torch.testing.assert_close(new["linear.bias"], 0.3 * weights["linear.bias"])
    torch.testing.assert_close(new["conv.weight"][0, 1], 0.3 * weights["conv.weight"][0, 1])
    torch.testing.assert_close(new["conv.weight"][0, 0], weights["conv.weight"][0, 0])
    assert torch.equal(new["norm.weight"], weights["norm.weight"])


@pytest.mark.parametrize(("alpha", "share"), [(None, 0.3), (0.3, 0.3), (0.9, 0.9), (1.0, 1.0)])
def test_dash_gives_the_newest_chunk_the_share_alpha(alpha: float | None, share: float) -> None:
    """Three chunks pull one filter in three directions; the cosine is that of their weighted sum."""
    weights = weights_of(point(Restart(method="dash")).model)
    row = weights["linear.weight"][3]
    across = torch.zeros_like(row)
    across[0], across[1] = row[1], -row[0]
    gradients = [{name: torch.zeros_like(tensor) for name, tensor in weights.items()} for _ in range(3)]
    for gradient, direction in zip(gradients, (row, across, row - across), strict=True):
        gradient["linear.weight"][3] = -direction
    at = point(Restart(method="dash", shrink=0.05, strength=alpha), gradients)
    methods.load("dash").restart(at)
    rest = 1 - share
    mean = share * (rest**2 * row + rest * across + (row - across))
    factor = float(mean @ row / (mean.norm() * row.norm()))
    torch.testing.assert_close(at.model.linear.weight[3].detach(), factor * row)


def test_dash_leaves_weights_alone_that_nothing_has_trained() -> None:
    weights = weights_of(point(Restart(method="dash")).model)
    at = point(Restart(method="dash", shrink=0.3, strength=0.3), [weights], trained=False)
    methods.load("dash").restart(at)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in at.model.named_parameters())


@pytest.mark.parametrize("alpha", [0.0, 1.5])
def test_an_impossible_alpha_of_dash_is_one_line(alpha: float) -> None:
    with pytest.raises(UserError, match="alpha above 0 and at most 1") as raised:
        methods.load("dash").restart(point(Restart(method="dash", strength=alpha)))
    assert "\n" not in str(raised.value)


def test_dash_of_a_trained_network_has_the_factors_of_the_paper(
    toy: Callable[..., Training], surroundings: Callable[..., Any]
) -> None:
    """Three chunks with alpha 0.3, on a network trained in two rounds, against a reference in float64, chunk by chunk.

    Its gradients are those of whole chunks in eval mode; the weights of a chunk are 0.3 * 0.7 ** (how many came later).
    """
    first = toy(rounds=(Round(samples=24, start=FRESH), Round(samples=44)), stop=Stop(epochs=4), leaves=True)
    training.train(first, surroundings(first))
    start = Restart(method="dash", shrink=0.3, strength=0.3)
    second = toy(parent=first, rounds=(Round(samples=64, start=start),))
    trainer = training.Trainer(second, surroundings(second))
    model = copy.deepcopy(trainer.model).double().eval()
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    trainer._restart(trainer.rounds[0])

    images, labels = trainer.samples.fit.take(torch.arange(64))
    chunks = (range(24), range(24, 44), range(44, 64))
    losses = [F.cross_entropy(model(images[list(chunk)].double()), labels[list(chunk)]) for chunk in chunks]
    loss = sum(0.3 * 0.7**later * part for later, part in zip((2, 1, 0), losses, strict=True))
    loss.backward()  # type: ignore[union-attr]
    shrunk = trainer.model.state_dict()
    factors = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            inner = 2 if module.weight.dim() == 4 else 1
            weight, down = module.weight.detach().flatten(inner), -module.weight.grad.flatten(inner)
            cosine = (weight * down).sum(-1) / (weight.norm(dim=-1) * down.norm(dim=-1)).clamp(min=1e-300)
            factor = cosine.clamp(min=0.3)
            new = shrunk[f"{name}.weight"].double().flatten(inner)
            torch.testing.assert_close(new, factor[..., None] * weight, rtol=2e-3, atol=1e-5)
            factors.append(factor.flatten())
    everything = torch.cat(factors)
    assert 0.05 < (everything > 0.3).double().mean() < 0.95  # neither all are kept nor all are shrunk to lambda
    kept = [name for name in before if "running" in name or "tracked" in name]
    assert kept and all(torch.equal(shrunk[name], before[name]) for name in kept)


def test_chunks_are_what_rounds_added() -> None:
    lots = (Round(samples=1000, grows=1000, repeats=2), Round(samples=2000), Round(samples=2333))
    run = Training(seed=0, rounds=lots)
    assert training.chunks_of(run, 0) == [range(1000)]
    assert training.chunks_of(run, 2) == [range(1000), range(1000, 2000)]  # no new samples, the same chunks
    assert training.chunks_of(run, 3) == [range(1000), range(1000, 2000), range(2000, 2333)]
    half = Training(seed=0, rounds=(Round(samples=16_666),), leaves=True)
    whole = Training(seed=0, rounds=(Round(samples=33_333),), parent=half)
    assert training.chunks_of(whole, 0) == [range(16_666), range(16_666, 33_333)]
    other = whole.model_copy(update={"parent": half.model_copy(update={"dataset": "cifar100"})})
    assert training.chunks_of(other, 0) == [range(33_333)]  # samples of another data set are not seen again


def test_a_users_file_is_a_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "warmstart/methods").mkdir(parents=True)
    (tmp_path / "warmstart/methods/mine.py").write_text("def restart(at):\n    at.model.zero_()\n")
    monkeypatch.setenv("BENCH_EXTRA", str(tmp_path))
    assert "mine" in methods.known()
    assert methods.module_of("mine") == "bench_extra.warmstart.methods.mine"


def test_unknown_methods_name_the_closest() -> None:
    with pytest.raises(UserError, match="did you mean 'dash'"):
        methods.load("dahs")
