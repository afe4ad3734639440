"""Bounds hold for what torch computes: changes in place, aliases, branches, hooks, views; or one line names the layer."""

from __future__ import annotations

import operator
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from bench.certified import interval
from bench.errors import UserError


@torch.no_grad()
def violation(model: nn.Module, x: Tensor, eps: float, *, points: int = 30) -> float:
    """Largest distance of an output of a sampled point, or of the centre, from its bounds; 0 where they hold."""
    low, high = interval.bounds(model, x - eps, x + eps)
    draw = torch.Generator().manual_seed(0)
    shifts = torch.rand(points, *x.shape, generator=draw, dtype=x.dtype) * 2 - 1
    shifts[::2] = shifts[::2].sign()  # corners
    outputs = model((x + eps * shifts).flatten(0, 1)).unflatten(0, (points, len(x)))
    centre = model(x.clone())
    same = interval.bounds(model, x, x)
    outside = max(float((low - outputs).max()), float((outputs - high).max()), 0.0)
    return max(outside, *(float((end - centre).abs().max()) for end in same))


# The smallest inputs of the kinds ---------------------------------------------------------------------------------------


class Block(nn.Module):
    """A branch that changes in place what the sum reads afterwards."""

    def __init__(self, branch: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.inner, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        self.stem.bias.data -= 2  # the ReLU acts on every entry
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(self.inner(self.branch(x)) + x)


def added(x: Tensor) -> Tensor:
    x += x
    return x


def through_an_alias(x: Tensor) -> Tensor:
    y = x
    y.relu_()
    return x


@pytest.mark.parametrize(
    "branch",
    [
        pytest.param(nn.ReLU(inplace=True), id="ReLU(inplace)"),
        pytest.param(lambda x: F.relu(x, inplace=True), id="F.relu(inplace=True)"),
        pytest.param(lambda x: F.relu(x, True), id="F.relu(x, True)"),
        pytest.param(torch.relu_, id="torch.relu_"),
        pytest.param(lambda x: x.relu_(), id="relu_"),
        pytest.param(added, id="+="),
        pytest.param(lambda x: x.add_(x), id="add_"),
        pytest.param(lambda x: operator.iadd(x, x), id="iadd"),
        pytest.param(through_an_alias, id="alias"),
        pytest.param(lambda x: nn.ReLU(inplace=True)(x), id="made inside forward"),
        pytest.param(nn.Sequential(nn.Identity(), nn.ReLU(inplace=True)), id="Identity"),
    ],
)
def test_what_is_changed_in_place_is_changed_for_later_readers(branch: Callable[[Tensor], Tensor]) -> None:
    model = Block(branch).double().eval()
    x = torch.rand(5, 4, dtype=torch.float64)
    assert violation(model, x, 0.01) < 1e-12
    labels = torch.arange(5) % 3
    certified = interval.margins(model, x - 0.01, x + 0.01, labels) > 0
    assert not (certified.all(1) & (model(x.clone()).argmax(1) != labels)).any()


@pytest.mark.parametrize(
    ("branch", "layer"),
    [
        pytest.param(lambda x: x.view(x.size(0), 2, 2).relu_().flatten(1), "relu_", id="view"),
        pytest.param(lambda x: F.relu(x.reshape(-1, 4), inplace=True), "relu", id="reshape"),
        pytest.param(lambda x: x.contiguous().relu_(), "relu_", id="contiguous"),
        pytest.param(lambda x: x.mul_(2), "mul_", id="unknown"),
        pytest.param(lambda x: operator.imul(x, x), "imul", id="*="),
        pytest.param(lambda x: x.data.relu_(), "data", id="data"),
        pytest.param(lambda x: torch.add(x, x, out=x), "out", id="out="),
        pytest.param(lambda x: x.add(2, x), "add(2", id="add with a factor"),
    ],
)
def test_what_cannot_be_followed_is_one_line_that_names_it(branch: Callable[[Tensor], Tensor], layer: str) -> None:
    x = torch.rand(5, 4)
    with pytest.raises(UserError) as raised:
        interval.bounds(Block(branch), x - 0.01, x + 0.01)
    assert layer in str(raised.value) and "\n" not in str(raised.value)


class Branching(nn.Module):
    """Decides by its state what it computes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
        self.skip = False

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        if not self.training:
            h = h + self.b(x)
        return x if self.skip else h


def test_the_present_state_is_bounded() -> None:
    model = Branching().double()
    x = torch.rand(3, 4, dtype=torch.float64)
    assert violation(model, x, 0.1) < 1e-12
    model.eval()
    assert violation(model, x, 0.1) < 1e-12
    model.skip = True
    assert violation(model, x, 0.1) < 1e-12
    model.skip = False
    model.b = nn.Sequential(nn.Linear(4, 4), nn.ReLU()).double()
    assert violation(model, x, 0.1) < 1e-12


def doubled(module: nn.Module, _: Any, output: Tensor) -> Tensor:
    return output + output


class Exchanged(nn.Linear):
    def __call__(self, x: Tensor) -> Tensor:
        return 2 * super().__call__(x)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param(lambda m: m.a.register_forward_hook(doubled), "layer 'a' has a forward hook", id="hook"),
        pytest.param(lambda m: m.a.register_forward_pre_hook(lambda m, i: (2 * i[0],)), "layer 'a'", id="pre-hook"),
        pytest.param(lambda m: m.register_forward_hook(doubled), "has a forward hook", id="hook of the network"),
        pytest.param(
            lambda m: setattr(m.a, "forward", lambda x: 2 * x), "layer 'a' has a forward function", id="forward"
        ),
        pytest.param(lambda m: setattr(m, "a", Exchanged(4, 4)), "", id="__call__"),
    ],
)
def test_what_a_trace_does_not_see_is_one_line_that_names_the_layer(change: Any, words: str) -> None:
    model = Branching()
    change(model)
    x = torch.rand(3, 4)
    with pytest.raises(UserError) as raised:
        interval.bounds(model, x - 0.1, x + 0.1)
    assert words in str(raised.value) and "\n" not in str(raised.value)


def test_a_hook_of_a_container_is_followed() -> None:
    model = nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), nn.Linear(4, 2)).double()
    model[0].register_forward_hook(doubled)
    assert violation(model, torch.rand(3, 4, dtype=torch.float64), 0.1) < 1e-12


def test_a_layer_that_computes_something_else_is_found_by_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    """The net below all others: bounds of radius 0 are compared with the network's own output, once for each trace."""
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    x = torch.rand(3, 4)
    interval.bounds(model, x, x)
    monkeypatch.setattr(nn.ReLU, "forward", lambda self, x: F.leaky_relu(x, 0.5))
    interval.bounds(model, x, x)  # compared before
    model[2] = nn.Linear(4, 3)
    with pytest.raises(UserError, match="computes something else than its trace"):
        interval.bounds(model, x, x)
    monkeypatch.setattr(nn.Linear, "forward", lambda self, x: F.linear(x, 2 * self.weight, self.bias))
    with pytest.raises(UserError, match="first in layer '0'"):
        interval.bounds(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), x, x)


def test_rounding_is_no_difference() -> None:
    """A BatchNorm that divides by 1e-6 shows rounding in float32; in float64 both agree."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, eps=1e-20), nn.Flatten(), nn.Linear(16, 2)).eval()
    model[1].running_var.fill_(1e-12)
    model[1].running_mean.copy_(model[0](torch.ones(1, 1, 4, 4)).mean((0, 2, 3)).detach())
    x = 1 + 1e-6 * torch.rand(5, 1, 4, 4)
    interval.bounds(model, x, x)


# Random networks --------------------------------------------------------------------------------------------------------

RELUS: list[Callable[[Tensor], Tensor]] = [
    F.relu,
    torch.relu,
    lambda x: F.relu(x, inplace=True),
    lambda x: x.relu_(),
    torch.relu_,
    lambda x: nn.ReLU(inplace=True)(x),
]
SUMS: list[Callable[[Tensor, Tensor], Tensor]] = [
    operator.add,
    torch.add,
    operator.iadd,
    lambda x, y: x.add_(y),
    lambda x, y: x.add(y),
]
ALIASES: list[Callable[[Tensor], Tensor]] = [
    lambda x: x,
    nn.Identity(),
    lambda x: x.contiguous(),
    lambda x: x.reshape(x.shape),
    lambda x: x.view(x.size()),
]
ENDS: list[Callable[[Tensor], Tensor]] = [
    lambda x: x.flatten(1),
    lambda x: x.view(x.size(0), -1),
    lambda x: x.reshape(x.shape[0], x.size(1) * x.size(2) * x.size(3)),
    lambda x: F.avg_pool2d(x, x.size(3)).flatten(1),
    lambda x: F.avg_pool2d(x, kernel_size=x.shape[2:]).squeeze(3).squeeze(2),
    lambda x: x.mean((2, 3)),
    nn.Flatten(),
]
CHANNELS, FEATURES = 3, 5

Step = Callable[[list[Tensor]], Tensor]


class Random(nn.Module):
    """A network drawn from a seed. Steps read any of the last three tensors, which steps in between may have changed."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.choose = random.Random(seed)
        torch.manual_seed(seed)
        self.layers = nn.ModuleList()
        self.images = self.choose.random() < 0.4
        self.shape = (2, 4, 4) if self.images else (4,)
        if self.images:
            self.first = nn.Conv2d(2, CHANNELS, 3, padding=1)
            self.image_steps = [self._step(self._image_layer) for _ in range(self.choose.randint(2, 6))]
            self.end = self.choose.choice(ENDS)
            self.linear = nn.Linear(self.end(torch.zeros(2, CHANNELS, 4, 4)).shape[1], FEATURES)
        else:
            self.first = nn.Linear(4, FEATURES)
        self.steps = [self._step(self._layer) for _ in range(self.choose.randint(2, 8))]
        self.head = nn.Linear(FEATURES, 3)

    def _image_layer(self) -> nn.Module:
        return self.choose.choice([nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1), nn.BatchNorm2d(CHANNELS)])

    def _layer(self) -> nn.Module:
        layer = self.choose.choice([nn.Linear(FEATURES, FEATURES), nn.BatchNorm1d(FEATURES)])
        if isinstance(layer, nn.Linear) and self.choose.random() < 0.3:
            layer = parametrizations.weight_norm(layer)
        return layer

    def _registered(self, layer: nn.Module) -> nn.Module:
        """The layer, or one that is shared; perhaps in a container with a hook, rarely with a hook of its own."""
        alike = [other for other in self.layers if type(other) is type(layer)]
        if alike and self.choose.random() < 0.2:
            return self.choose.choice(alike)
        if self.choose.random() < 0.03:
            layer.register_forward_hook(doubled)
        if self.choose.random() < 0.2:
            layer = nn.Sequential(layer)
            layer.register_forward_hook(doubled)
        self.layers.append(layer)
        return layer

    def _step(self, layer: Callable[[], nn.Module]) -> Step:
        kind = self.choose.choice(["layer", "layer", "relu", "relu", "sum", "sum", "alias", "branch"])
        first, second = (self.choose.choice([-1, -1, -2, -3]) for _ in range(2))

        def of(function: Callable[..., Tensor], *which: int) -> Step:
            return lambda tensors: function(*(tensors[max(index, -len(tensors))] for index in which))

        if kind == "layer":
            return of(self._registered(layer()), first)
        if kind == "branch":
            mode, steps = self.choose.random() < 0.5, [self._step(layer) for _ in range(2)]
            return lambda tensors: steps[self.training == mode](tensors)
        functions = {"relu": RELUS, "sum": SUMS, "alias": ALIASES}[kind]
        return of(self.choose.choice(functions), *((first, second) if kind == "sum" else (first,)))

    def forward(self, x: Tensor) -> Tensor:
        tensors = [self.first(x)]
        if self.images:
            for step in self.image_steps:
                tensors.append(step(tensors))
            tensors = [self.linear(self.end(tensors[-1]))]
        for step in self.steps:
            tensors.append(step(tensors))
        return self.head(tensors[-1])


@torch.no_grad()
@pytest.mark.parametrize("count", [60, pytest.param(500, marks=pytest.mark.slow)])
def test_no_random_network_leaves_its_bounds(count: int) -> None:
    """In train mode (with the statistics of a clean batch) and then in eval mode."""
    followed = 0
    for seed in range(count):
        model = Random(seed).double()
        draw = torch.Generator().manual_seed(seed)
        for buffer in model.buffers():
            if buffer.is_floating_point():
                buffer.uniform_(0.5, 1.5, generator=draw)
        x = torch.randn(4, *model.shape, generator=draw, dtype=torch.float64)
        try:
            low, high = interval.bounds(model, x, x, clean=x)
            output = model(x.clone())
            scale = 1e-9 * (1 + float(output.abs().max()))
            assert (low - output).abs().max() < scale and (high - output).abs().max() < scale, seed
            assert violation(model.eval(), x, 0.1, points=10) < scale, seed
        except UserError as error:
            assert "\n" not in str(error) and "computes something else" not in str(error), (seed, error)
        else:
            followed += 1
    assert followed >= count / 2  # the others are refused by name
