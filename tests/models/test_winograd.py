"""The kernel for 3 x 3 convolutions: against float64 sums over taps, forward and backward, and where it stays out."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator
from pathlib import Path

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn
from torch.nn import functional as F

from bench import models
from bench.models import winograd
from bench.workflow import execute

pytestmark = pytest.mark.skipif(winograd.kernel() is None, reason="no g++, or no AVX2")

EIGHTS = st.integers(1, 6).map(lambda number: 8 * number)


@pytest.fixture(autouse=True)
def _small_layers_too(own_convolutions: None) -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def layer(inputs: int = 16, outputs: int = 16, *, bias: bool = True) -> nn.Conv2d:
    torch.manual_seed(inputs * outputs)
    made = nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias)
    winograd.use(made)
    return made


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def results(convolution: nn.Conv2d, images: Tensor, gradient: Tensor) -> list[Tensor]:
    """Output, and gradients of images, weight and bias."""
    images = images.clone().requires_grad_()
    convolution.zero_grad()
    made = convolution(images)
    made.backward(gradient)
    parameters = [parameter.grad for parameter in convolution.parameters()]
    return [made.detach(), *(tensor for tensor in [images.grad, *parameters] if tensor is not None)]


def used(model: nn.Module) -> list[str]:
    """Names of the convolutions that have the kernel."""
    return [name for name, one in model.named_modules() if "_conv_forward" in vars(one)]


@settings(deadline=None, max_examples=60)
@given(
    count=st.integers(1, 5),
    height=st.integers(3, 19),
    width=st.integers(3, 19),
    inputs=EIGHTS,
    outputs=EIGHTS,
    bias=st.booleans(),
    threads=st.integers(1, 3),
    channels_last=st.booleans(),
)
def test_equals_sums_over_taps(
    count: int, height: int, width: int, inputs: int, outputs: int, bias: bool, threads: int, channels_last: bool
) -> None:
    torch.set_num_threads(threads)
    ours = layer(inputs, outputs, bias=bias)
    images, gradient = drawn(count, inputs, height, width), drawn(count, outputs, height, width)
    if channels_last:
        ours, images = ours.to(memory_format=torch.channels_last), images.contiguous(memory_format=torch.channels_last)  # type: ignore[call-overload]
    exact = nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias)
    exact.load_state_dict(ours.state_dict())
    expected = results(exact.double(), images.double(), gradient.double())
    for found, true in zip(results(ours, images, gradient), expected, strict=True):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), true, rtol=0, atol=1e-5 * true.abs().max().item())


def test_errors_are_no_more_than_a_few_times_those_of_torch() -> None:
    """With many channels and tiles, as in a training step of CNN-7."""
    images, gradient = drawn(16, 64, 32, 32), drawn(16, 64, 32, 32)
    ours, plain = layer(64, 64), nn.Conv2d(64, 64, 3, padding=1)
    plain.load_state_dict(ours.state_dict())
    exact = copy.deepcopy(plain).double()
    expected = results(exact, images.double(), gradient.double())
    for found, other, true in zip(
        results(ours, images, gradient), results(plain, images, gradient), expected, strict=True
    ):
        assert (found - true).norm() < 6 * (other - true).norm()


def test_runs_where_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, ...]] = []
    whole = winograd._Convolution.apply
    monkeypatch.setattr(
        winograd._Convolution, "apply", lambda images, *rest: calls.append(images.shape) or whole(images, *rest)
    )
    convolution = layer()
    images = drawn(2, 16, 8, 8)
    convolution(images)
    assert len(calls) == 1
    convolution.double()(images.double())
    convolution.float()(drawn(2, 16, 2, 2))  # mostly empty tiles
    convolution(drawn(0, 16, 8, 8))
    with torch.autocast("cpu", torch.bfloat16):
        assert convolution(images).dtype == torch.bfloat16
    convolution(images[0])  # a single image
    assert len(calls) == 1
    for wrong in (drawn(2, 8, 8, 8), images.double()):
        with pytest.raises(RuntimeError):
            convolution(wrong)
    for name, least in (("LEAST_PRODUCTS", 9 * 16 * 16 * 8 * 8), ("LEAST_TILES", 2 * 2 * 2)):
        monkeypatch.setattr(winograd, name, least + 1)
        convolution(images)
        assert len(calls) == 1
        monkeypatch.setattr(winograd, name, least)
        convolution(images)
        assert len(calls) == 2
        calls.pop()


def test_layers_that_it_does_not_know_stay_as_they_are() -> None:
    others = [
        nn.Conv2d(16, 16, 3, padding=1, stride=2),
        nn.Conv2d(16, 16, 3),
        nn.Conv2d(16, 16, 3, padding=2, dilation=2),
        nn.Conv2d(16, 16, 3, padding=1, groups=2),
        nn.Conv2d(16, 16, 3, padding=1, padding_mode="circular"),
        nn.Conv2d(3, 16, 3, padding=1),
        nn.Conv2d(16, 12, 3, padding=1),
        nn.Conv2d(16, 16, 5, padding=2),
    ]
    for one in others:
        winograd.use(one)
        assert not used(one), one


def test_networks_and_their_copies_compute_the_same() -> None:
    plain = models.build("thin_resnet18", num_classes=10, in_shape=(3, 32, 32)).eval()
    ours = copy.deepcopy(plain)
    winograd.use(ours)
    assert len(used(ours)) == 13 and used(copy.deepcopy(ours)) == used(ours)  # 16, of which three have stride 2
    images = drawn(4, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(copy.deepcopy(ours)(images), plain(images), rtol=1e-4, atol=1e-5)
    assert ours.state_dict().keys() == plain.state_dict().keys()


def test_saved_products_are_those_of_tiles() -> None:
    convolution = layer(16, 24)
    assert winograd.saved(convolution, (2, 16, 8, 8)) == 16 * 24 * (9 * 64 - 36 * 4)
    assert winograd.saved(convolution, (2, 16, 2, 2)) == 0


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="nothing compiles")
def test_compiled_networks_use_it() -> None:
    ours = nn.Sequential(layer(), nn.ReLU(), layer(16, 8))
    plain = copy.deepcopy(ours)
    images, gradient = drawn(2, 16, 8, 8), drawn(2, 8, 8, 8)
    execute.compile_for(torch.get_num_threads())
    compiled = torch.compile(ours, fullgraph=True)
    compiled(images).backward(gradient)
    plain(images).backward(gradient)
    for found, expected in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad)


def test_without_a_compiler_torch_convolves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    winograd.kernel.cache_clear()
    try:
        convolution = nn.Conv2d(16, 16, 3, padding=1)
        winograd.use(convolution)
        images = drawn(2, 16, 8, 8)
        assert not used(convolution)
        assert torch.equal(convolution(images), F.conv2d(images, convolution.weight, convolution.bias, padding=1))
    finally:
        winograd.kernel.cache_clear()


def test_a_folder_that_cannot_be_written_to_or_a_compiler_that_fails_is_no_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(winograd, "SOURCE", tmp_path / "winograd.cpp")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "__pycache__").write_text("in the way")
    (tmp_path / "winograd.cpp").write_text("int one() { return 1; }")
    found = winograd._compiled("g++", ("-shared", "-fPIC"))
    assert found is not None and found.parent == tmp_path / "cache" / "warmbench" and found.exists()
    (tmp_path / "winograd.cpp").write_text("int one() { return }")
    assert winograd._compiled("g++", ("-shared", "-fPIC")) is None
    assert list(found.parent.iterdir()) == [found]
