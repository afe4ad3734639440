"""Methods do what their papers say; a user's own file counts as one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from bench import models, seeds
from bench.errors import UserError
from bench.warmstart import methods
from bench.warmstart.spec import Restart


def point(setting: Restart, gradient: dict[str, torch.Tensor] | None = None) -> methods.Point:
    def draw(seed: int) -> nn.Module:
        return models.build_seeded("thin_resnet18", seed, num_classes=10, in_shape=(3, 8, 8), width=4)

    return methods.Point(draw(1), draw(2), setting, seeds.generator("test"), lambda: gradient or {})


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


def test_dash_keeps_neurons_that_point_down_the_loss_and_shrinks_the_others() -> None:
    at = point(Restart(method="dash", shrink=0.3))
    weights = {name: tensor.detach().clone() for name, tensor in at.model.named_parameters()}
    gradient = {name: torch.zeros_like(tensor) for name, tensor in weights.items()}
    gradient["linear.weight"][0] = -weights["linear.weight"][0]  # down the loss: kept
    gradient["linear.weight"][1] = weights["linear.weight"][1]  # up the loss: shrunk to lambda
    gradient["conv.weight"] = -weights["conv.weight"]
    gradient["conv.weight"][0, 1] *= -1  # one channel of one filter
    methods.load("dash").restart(point_with(at, gradient))
    new = dict(at.model.named_parameters())
    torch.testing.assert_close(new["linear.weight"][0], weights["linear.weight"][0])
    torch.testing.assert_close(new["linear.weight"][1], 0.3 * weights["linear.weight"][1])
    torch.testing.assert_close(new["conv.weight"][0, 1], 0.3 * weights["conv.weight"][0, 1])
    torch.testing.assert_close(new["conv.weight"][0, 0], weights["conv.weight"][0, 0])
    assert torch.equal(new["norm.weight"], weights["norm.weight"])


def point_with(at: methods.Point, gradient: dict[str, torch.Tensor]) -> methods.Point:
    return methods.Point(at.model, at.fresh, at.setting, at.generator, lambda: gradient)


def test_a_users_file_is_a_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "warmstart/methods").mkdir(parents=True)
    (tmp_path / "warmstart/methods/mine.py").write_text("def restart(at):\n    at.model.zero_()\n")
    monkeypatch.setenv("BENCH_EXTRA", str(tmp_path))
    assert "mine" in methods.known()
    assert methods.module_of("mine") == "bench_extra.warmstart.methods.mine"


def test_unknown_methods_name_the_closest() -> None:
    with pytest.raises(UserError, match="did you mean 'dash'"):
        methods.load("dahs")
