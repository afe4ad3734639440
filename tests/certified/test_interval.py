"""The bound engine against auto_LiRPA, against sampled points, and against what BatchNorm itself does."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from bench.certified import interval, lirpa
from bench.errors import UserError

from .conftest import ARCHITECTURES, network

Architecture = tuple[str, str, tuple[int, int, int], int]


def batch(shape: tuple[int, int, int], classes: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(3)
    return torch.rand(5, *shape, generator=draw, dtype=dtype), torch.arange(5) % classes


@pytest.mark.parametrize("trained", [True, False], ids=["trained", "drawn"])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-9)], ids=["f32", "f64"])
def test_bounds_and_margins_equal_those_of_auto_lirpa(
    architecture: Architecture, dtype: torch.dtype, tolerance: float, training: bool, trained: bool
) -> None:
    name, norm, shape, classes = architecture
    model = network(name, norm, shape, classes, trained=trained).to(dtype).train(training)
    x, y = batch(shape, classes, dtype)
    lower, upper = x - 0.02, x + 0.03
    bounded = lirpa.Bounded(model, x)
    (expected,) = bounded.margins(x, lower, upper, y, ["ibp"])
    low, high = bounded.module.compute_bounds(x=(bounded._input(x, lower, upper),), method="IBP")
    margins = interval.margins(model, lower, upper, y, clean=x)
    found = interval.bounds(model, lower, upper, clean=x)
    for ours, theirs in ((margins, expected), (found[0], low), (found[1], high)):
        assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max()


@pytest.mark.parametrize("architecture", [ARCHITECTURES[0], ARCHITECTURES[5], ARCHITECTURES[7]], ids=lambda a: a[0])
def test_gradients_equal_those_of_auto_lirpa(architecture: Architecture) -> None:
    """Through the statistics of the clean batch too, which the authors do not detach."""
    name, norm, shape, classes = architecture
    model = network(name, norm, shape, classes).double().train()
    x, y = batch(shape, classes, torch.float64)
    lower, upper = x - 0.02, x + 0.03
    parameters = list(model.parameters())
    (expected,) = lirpa.Bounded(model, x).margins(x, lower, upper, y, ["ibp"])
    theirs = torch.autograd.grad(expected.square().sum(), parameters)
    ours = torch.autograd.grad(interval.margins(model, lower, upper, y, clean=x).square().sum(), parameters)
    whole = torch.stack([gradient.norm() for gradient in theirs]).norm()
    for one, other in zip(ours, theirs, strict=True):
        assert (one - other).norm() <= 1e-9 * whole


@settings(max_examples=40, deadline=None)
@given(
    number=st.integers(0, len(ARCHITECTURES) - 2),
    eps=st.floats(0, 0.3),
    training=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_sampled_points_never_leave_the_bounds(number: int, eps: float, training: bool, seed: int) -> None:
    name, norm, shape, classes = ARCHITECTURES[number]
    model = network(name, norm, shape, classes).double().train(training)
    draw = torch.Generator().manual_seed(seed)
    clean = torch.rand(4, *shape, generator=draw, dtype=torch.float64)
    shift = 0.5 * eps * torch.rand(clean.shape, generator=draw, dtype=torch.float64)
    lower, upper = clean - eps + shift, clean + eps
    y = torch.randint(0, classes, (4,), generator=draw)
    low, high = interval.bounds(model, lower, upper, clean=clean)
    margin = interval.margins(model, lower, upper, y, clean=clean)
    corners = (torch.rand(clean.shape, generator=draw) < 0.5).double()
    for place in (torch.rand(clean.shape, generator=draw, dtype=torch.float64), corners):
        point = lower + (upper - lower) * place
        # A box of radius 0 is the point itself, with the clean batch's statistics.
        made = interval.propagate(model, point, torch.zeros_like(point), clean=clean)
        assert (made.centre >= low - 1e-9).all() and (made.centre <= high + 1e-9).all()
        true = made.centre.gather(1, y[:, None]) - made.centre.gather(1, interval.others(y, classes))
        assert (true >= margin - 1e-9).all()


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_radius_zero_collapses_and_bounds_grow_with_eps(architecture: Architecture, training: bool) -> None:
    name, norm, shape, classes = architecture
    model = network(name, norm, shape, classes).double().train(training)
    x, y = batch(shape, classes, torch.float64)
    logits = copy.deepcopy(model)(x)
    low, high = interval.bounds(model, x, x, clean=x)
    torch.testing.assert_close(low, logits)
    torch.testing.assert_close(high, logits)
    margin = interval.margins(model, x, x, y, clean=x)
    torch.testing.assert_close(margin, logits.gather(1, y[:, None]) - logits.gather(1, interval.others(y, classes)))
    widths = []
    for eps in (0.001, 0.01, 0.05, 0.2):
        low, high = interval.bounds(model, x - eps, x + eps, clean=x)
        widths.append(high - low)
        assert (interval.margins(model, x - eps, x + eps, y, clean=x) <= margin + 1e-12).all()
    assert all((wider > narrower).all() for narrower, wider in itertools.pairwise(widths))


def test_margins_are_tighter_than_differences_of_logit_bounds() -> None:
    model = network("cnn7", "full", (3, 12, 12), 5).double().eval()
    x, y = batch((3, 12, 12), 5, torch.float64)
    low, high = interval.bounds(model, x - 0.02, x + 0.02)
    loose = low.gather(1, y[:, None]) - high.gather(1, interval.others(y, 5))
    assert (interval.margins(model, x - 0.02, x + 0.02, y) > loose).all()


def test_running_statistics_are_those_of_torch(architecture: Architecture) -> None:
    name, norm, shape, classes = architecture
    model = network(name, norm, shape, classes).double().train()
    twin = copy.deepcopy(model)
    x, _ = batch(shape, classes, torch.float64)
    for shift in (0.0, 0.3):
        twin(x + shift)
        interval.bounds(model, x - 0.1 + shift, x + 0.1 + shift, clean=x + shift)
    for (place, ours), (_, theirs) in zip(model.named_buffers(), twin.named_buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, msg=place)


class Functional(nn.Module):
    """Functions and tensor methods where modules are common, a norm after an addition, pooling, a grouped stride."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, 1, 1)
        self.norm = nn.BatchNorm2d(4)
        self.grouped = nn.Conv2d(4, 4, 3, 2, 1, groups=2, bias=False)
        self.first, self.last = nn.Linear(16, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.stem(x))
        y = F.avg_pool2d(torch.relu(self.norm(y + y)), 2)
        z = self.grouped(y).relu()
        z = torch.add(z, F.avg_pool2d(y, kernel_size=2))
        return self.last(F.relu(self.first(z.view(x.size(0), -1))))


class Averaged(nn.Module):
    """Global averages and a flattening by function, without a last linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.Sequential(nn.Conv2d(2, 3, 3), nn.AvgPool2d(2), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        y = self.convs(x)
        return torch.flatten(F.adaptive_avg_pool2d(y, 1), 1) + y.mean((2, 3))


@pytest.mark.parametrize("kind", [Functional, Averaged])
def test_functions_and_methods_are_followed_like_modules(kind: Any) -> None:
    torch.manual_seed(0)
    model = kind().double().eval()
    x = torch.rand(3, 2, 8, 8, dtype=torch.float64)
    low, high = interval.bounds(model, x - 0.1, x + 0.1)
    point = x + 0.2 * torch.rand(200, *x.shape, dtype=torch.float64) - 0.1
    outputs = torch.stack([model(one) for one in point])
    assert (outputs >= low).all() and (outputs <= high).all()
    y = torch.tensor([0, 1, 2])
    margin = interval.margins(model, x - 0.1, x + 0.1, y)
    true = outputs.gather(2, y[None, :, None].expand(200, 3, 1)) - outputs.gather(
        2, interval.others(y, 3).expand(200, 3, 2)
    )
    assert (true >= margin).all()
    torch.testing.assert_close(interval.bounds(model, x, x)[0], model(x))


def flattened(x: Tensor) -> Tensor:
    return x.flatten(1)


def averaged(x: Tensor) -> Tensor:
    return x.mean((2, 3))


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        pytest.param(lambda x: x.mean(dim=(2, 3)), averaged, id="mean dim="),
        pytest.param(lambda x: x.mean([-1, -2], True).flatten(start_dim=1), averaged, id="mean keepdim"),
        pytest.param(lambda x: torch.mean(x, dim=3).mean(2), averaged, id="mean twice"),
        pytest.param(lambda x: F.adaptive_avg_pool2d(x, 1).squeeze(3).squeeze(-1), averaged, id="squeeze"),
        pytest.param(lambda x: x.view(x.size()[0], -1), flattened, id="view"),
        pytest.param(lambda x: x.contiguous().view(-1, 4 * 16), flattened, id="view features"),
        pytest.param(lambda x: x.reshape((x.shape[0], 4 * 16)), flattened, id="reshape tuple"),
        pytest.param(lambda x: torch.reshape(x, (x.size(0), -1)), flattened, id="reshape function"),
        pytest.param(lambda x: torch.flatten(input=x, start_dim=1), flattened, id="flatten input="),
        pytest.param(nn.Flatten(1, 3), flattened, id="Flatten to 3"),
        pytest.param(lambda x: F.avg_pool2d(x, x.size(3)).flatten(1), averaged, id="avg_pool2d size"),
        pytest.param(lambda x: F.avg_pool2d(x, x.shape[2:]).flatten(1), averaged, id="avg_pool2d shape"),
        pytest.param(lambda x: F.adaptive_avg_pool2d(x, x.size(2) // 4).flatten(1), averaged, id="size arithmetic"),
        pytest.param(lambda x: x.view(-1, x.size(1) * x.size(2) * x.size(-1)), flattened, id="view of sizes"),
    ],
)
def test_one_meaning_has_one_bound_however_it_is_written(written: Any, meant: Any) -> None:
    class Network(nn.Module):
        def __init__(self, end: Any) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.conv, self.norm, self.end = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), end

        def forward(self, x: Tensor) -> Tensor:
            return self.end(F.relu(self.norm(self.conv(x))))

    x = torch.rand(3, 2, 4, 4)
    found = interval.bounds(Network(written), x - 0.1, x + 0.1, clean=x)
    expected = interval.bounds(Network(meant), x - 0.1, x + 0.1, clean=x)
    torch.testing.assert_close(found, expected)


def test_a_box_is_clipped_to_the_range_of_images() -> None:
    images = torch.tensor([0.0, 0.5, 0.95]).reshape(3, 1, 1, 1)
    one = torch.ones(1, 1, 1, 1)
    centre, radius = interval.box(images, 0.1, 0 * one, one, one)
    torch.testing.assert_close((centre - radius).flatten(), torch.tensor([0.0, 0.4, 0.85]))
    torch.testing.assert_close((centre + radius).flatten(), torch.tensor([0.1, 0.6, 1.0]))


def test_bad_input_is_one_clear_line() -> None:
    model = network("cnn7", "full", (3, 12, 12), 5)
    x, y = batch((3, 12, 12), 5)
    model.train()
    with pytest.raises(UserError, match=r"'0, 1'.*give `clean`, or call model.eval"):
        interval.bounds(model, x, x)
    with pytest.raises(UserError, match="a batch of 1 has no statistics"):
        interval.margins(model, x[:1], x[:1], y[:1], clean=x[:1])
    model.eval()
    with pytest.raises(UserError, match=r"lower bound lies 0\.1 above"):
        interval.bounds(model, x, x - 0.1)
    with pytest.raises(UserError, match=r"eps -0\.1 is negative"):
        interval.box(x, -0.1, x, x, x)
    with pytest.raises(UserError, match=r"layer '1' is Tanh\(\).*Conv2d, Linear"):
        interval.bounds(nn.Sequential(nn.Linear(2, 2), nn.Tanh()), torch.zeros(1, 2), torch.zeros(1, 2))
    with pytest.raises(UserError, match="shape"):
        interval.bounds(model, x, x[:2])


INPUT: list[Any] = [
    pytest.param(
        {"lower": lambda x: x.double(), "upper": lambda x: x.double()}, r"float64, weight '0\.weight'", id="f64"
    ),
    pytest.param({"upper": lambda x: x.double()}, "lower bounds have dtype torch.float32, upper", id="mixed"),
    pytest.param({"lower": lambda x: x.numpy()}, "lower bounds are numpy.ndarray", id="numpy"),
    pytest.param({"upper": lambda x: x.tolist()}, "upper bounds are builtins.list", id="list"),
    pytest.param({"lower": lambda x: (255 * x).byte()}, "lower bounds are torch.uint8", id="uint8"),
    pytest.param({"lower": lambda x: x.long(), "upper": lambda x: x.long()}, "torch.int64", id="int64"),
    pytest.param(
        {name: lambda x: x[:, :1] for name in ("lower", "upper", "clean")},
        r"does not take input of shape \(5, 1, 12, 12\)",
        id="shape",
    ),
    pytest.param({"clean": lambda x: (255 * x).byte()}, "clean batch are torch.uint8", id="clean uint8"),
    pytest.param({"clean": lambda x: x.double()}, "the clean batch is .*float64", id="clean f64"),
    pytest.param({"clean": lambda x: x[:, :, 1:]}, r"the clean batch is \(5, 3, 11, 12\)", id="clean shape"),
    pytest.param({"labels": lambda y: y + 1}, "labels go from 1 to 5; the network has 5 classes", id="label too large"),
    pytest.param({"labels": lambda y: y - 1}, "labels go from -1", id="label too small"),
    pytest.param({"labels": lambda y: y.int()}, "labels are torch.int32", id="int32 labels"),
    pytest.param({"labels": lambda y: y.float()}, "labels are torch.float32", id="float labels"),
    pytest.param({"labels": lambda y: y.tolist()}, "labels are list", id="listed labels"),
    pytest.param({"labels": lambda y: y[:3]}, r"labels have shape \(3,\)", id="fewer labels"),
    pytest.param({"labels": lambda y: F.one_hot(y, 5)}, r"labels have shape \(5, 5\)", id="one-hot labels"),
]


@pytest.mark.parametrize(("changes", "words"), INPUT)
def test_input_of_another_kind_is_one_clear_line(changes: dict[str, Any], words: str) -> None:
    model = network("cnn7", "full", (3, 12, 12), 5).train()
    x, y = batch((3, 12, 12), 5)
    arguments: dict[str, Any] = {"lower": x, "upper": x, "labels": y, "clean": x}
    arguments |= {name: change(arguments[name]) for name, change in changes.items()}
    with pytest.raises(UserError, match=words) as raised:
        interval.margins(model, **arguments)
    assert "\n" not in str(raised.value)


def test_what_a_user_may_hand_in_as_a_network() -> None:
    x = torch.rand(3, 4)
    plain = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    with pytest.raises(UserError, match="is scripted"):
        interval.bounds(torch.jit.script(plain), x, x)
    with pytest.raises(UserError, match=r"layer '1' is scripted"):
        interval.bounds(nn.Sequential(nn.Linear(4, 3), torch.jit.script(nn.ReLU())), x, x)
    with pytest.raises(UserError, match="parameter is not a member"):
        interval.bounds(Of(lambda x: nn.Linear(4, 3)(x)), x, x)
    expected = interval.bounds(plain, x - 0.1, x + 0.1)
    alike = Of(lambda x: nn.ReLU()(x))  # a layer without weights may be made inside forward
    torch.testing.assert_close(interval.bounds(alike, x - 0.1, x + 0.1)[0], F.relu(x - 0.1))
    torch.testing.assert_close(interval.bounds(torch.compile(plain, backend="eager"), x - 0.1, x + 0.1), expected)


def test_linear_layers_of_more_dimensions_have_gradients() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)).double()
    x = torch.rand(3, 5, 4, dtype=torch.float64)
    low, high = interval.bounds(model, x - 0.1, x + 0.1)
    assert low.shape == (3, 5, 2)
    flat = interval.bounds(model, x.flatten(0, 1) - 0.1, x.flatten(0, 1) + 0.1)
    ours = torch.autograd.grad((high - low).square().sum(), list(model.parameters()))
    theirs = torch.autograd.grad((flat[1] - flat[0]).square().sum(), list(model.parameters()))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)
    with pytest.raises(UserError, match=r"margins need \[B, K\]"):
        interval.margins(model, x, x, torch.tensor([0, 1, 0]))


class Of(nn.Module):
    """A network of one function."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        pytest.param(
            lambda x: F.avg_pool2d(F.relu(x), x.size(3)), "with a size of another tensor", id="size of another"
        ),
        pytest.param(lambda x: F.avg_pool2d(x, 2, divisor_override=-4), "avg_pool2d", id="negative average"),
        pytest.param(lambda x: x * x, r"'mul' is mul\(x\); bounds know Conv2d, Linear", id="product"),
        pytest.param(lambda x: x + 1.0, r"'add' is add\(1\.0\) and takes a constant", id="constant"),
        pytest.param(lambda x: x.mean(dim=0), r"'mean' is mean\(dim=0\)", id="mean over samples"),
        pytest.param(lambda x: x.view(torch.int32), r"'view' is view\(torch\.int32\)", id="view of bits"),
        pytest.param(lambda x: x.view(-1, 8), r"'view' makes \(10, 8\) of \(5, 1, 4, 4\)", id="samples torn apart"),
        pytest.param(lambda x: F.avg_pool2d(x[0:0], 4), r"'getitem' is getitem\(", id="part of the samples"),
        pytest.param(lambda x: x.view(len(x), -1), r"torch\.fx cannot trace it \('len' is not supported", id="len"),
        pytest.param(lambda x: x if x.sum() > 0 else -x, r"torch\.fx cannot trace it", id="branch"),
        pytest.param(lambda x: (x, x), "does not return one tensor", id="two outputs"),
    ],
)
def test_a_function_without_bounds_is_one_clear_line(function: Any, words: str) -> None:
    x = torch.rand(5, 1, 4, 4)
    with pytest.raises(UserError, match=words) as raised:
        interval.bounds(Of(function), x, x)
    assert "\n" not in str(raised.value)


def test_a_single_sample_is_not_squeezed_away() -> None:
    x = torch.rand(1, 1, 4, 4)
    with pytest.raises(UserError, match=r"'squeeze' makes \(\) of \(1, 1, 1, 1\)"):
        interval.bounds(Of(lambda x: F.avg_pool2d(x, 4).squeeze()), x, x)


def test_bounds_that_are_not_finite_name_the_first_layer() -> None:
    model = network("cnn7", "full", (3, 12, 12), 5).eval()
    x, y = batch((3, 12, 12), 5)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model[6].weight.data[0, 0, 0, 0] = float("nan")
    with pytest.raises(UserError, match="not finite, first after layer '6, 7'"):
        interval.margins(model, x - 0.1, x + 0.1, y)
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
