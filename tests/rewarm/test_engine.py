"""The engine against a plain loop with `transformers` and `torch.optim.AdamW`, its optimiser's settings, and its state."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from bench import seeds
from bench.models import pythia
from bench.rewarm import engine as engine_module
from bench.rewarm import streams
from bench.rewarm.engine import Engine, Network
from bench.rewarm.spec import Optimizer, PretrainSpec
from bench.training.context import Context
from bench.training.distributed import Ranks

Make = Callable[..., PretrainSpec]
Build = Callable[..., Engine]

RATES = [0.0, 1e-3, 3e-3, 3e-2, 3e-2, 1e-2] + 14 * [3e-3]


def start(spec: PretrainSpec) -> dict[str, Tensor]:
    """Weights of which some have gradients that are clipped and others not."""
    weights = pythia.initial_weights(spec.shape, seeds.generator("test engine", spec.seed))
    factor = 2.0 if spec.seed % 2 == 0 else 0.5
    return {name: factor * tensor if tensor.dim() > 1 else tensor for name, tensor in weights.items()}


@pytest.fixture
def build(context: Callable[..., Context]) -> Build:
    """``build(spec)``: an engine at the weights of `start`."""

    def make(spec: PretrainSpec, weights: dict[str, Tensor] | None = None, moments: dict | None = None) -> Engine:
        return Engine(spec, context(spec), Ranks(0, 1, torch.device("cpu")), weights or start(spec), moments)

    return make


def windows_of(spec: PretrainSpec, step: int) -> Tensor:
    return torch.from_numpy(streams.training(spec, Path()).windows(step * spec.batch, spec.batch))


def plain_loop(spec: PretrainSpec, settings: Optimizer) -> tuple[list[float], dict[str, Tensor], list[float]]:
    """Losses, final weights and gradient norms of the loop that a user would write, in float64."""
    model = pythia.reference(spec.shape, start(spec)).double()
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for parameter in model.parameters():
        # Everything with one dimension is a bias or belongs to a LayerNorm.
        groups[parameter.dim() > 1].append(parameter)
    optimizer = torch.optim.AdamW(
        [
            {"params": groups[True], "weight_decay": settings.weight_decay},
            {"params": groups[False], "weight_decay": 0.0},
        ],
        betas=settings.betas,
        eps=settings.eps,
    )
    losses, norms = [], []
    for step, rate in enumerate(RATES):
        for group in optimizer.param_groups:
            group["lr"] = rate
        windows = windows_of(spec, step)
        logits = model(windows[:, :-1]).logits
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        norms.append(float(nn.utils.get_total_norm([parameter.grad for parameter in model.parameters()])))
        for parameter in model.parameters():
            parameter.grad /= max(1.0, norms[-1] / settings.clip_norm)
        optimizer.step()
        losses.append(loss.item())
    final = {name.replace("lm_head", "embed_out"): each.detach() for name, each in model.named_parameters()}
    return losses, final, norms


def same(ours: dict[str, Tensor], expected: dict[str, Tensor], heads: int, *, near: float) -> None:
    """Equal weights, but for the biases of keys: no loss depends on them, so Adam scales up mere rounding."""
    assert ours.keys() == expected.keys()
    for name, tensor in ours.items():
        one, other = tensor, expected[name]
        if name.endswith("query_key_value.bias"):
            one, other = (each.view(heads, 3, -1)[:, ::2] for each in (one, other))
        torch.testing.assert_close(one, other, atol=near, rtol=near, msg=name)


@pytest.mark.parametrize("micro_batch", [0, 2], ids=["whole batches", "accumulated"])
@pytest.mark.parametrize(
    "settings",
    [Optimizer(), Optimizer(betas=(0.8, 0.99), eps=1e-4, weight_decay=0.5, clip_norm=0.3)],
    ids=["the paper's", "other"],
)
def test_twenty_steps_equal_a_plain_loop(
    toy: Make, build: Build, monkeypatch: pytest.MonkeyPatch, micro_batch: int, settings: Optimizer
) -> None:
    """In float64, where nothing but the mathematics can differ."""
    monkeypatch.setattr(engine_module, "compute_dtype", lambda precision, device: torch.float64)
    clipped = []
    for seed in (0, 1):
        spec = toy(seed=seed, micro_batch=micro_batch, optimizer=settings)
        expected, final, norms = plain_loop(spec, settings)
        engine = build(spec, {name: weight.double() for name, weight in start(spec).items()})
        losses = [engine.step(windows_of(spec, step).numpy(), rate).item() for step, rate in enumerate(RATES)]
        assert losses == pytest.approx(expected, rel=1e-10)
        same(engine.state()["weights"], final, spec.shape.heads, near=1e-8)
        clipped += [norm > settings.clip_norm for norm in norms]
    assert any(clipped) and (not all(clipped) or settings.clip_norm < 1), "clipped and unclipped steps are meant"


def test_summed_losses_are_those_of_the_windows(toy: Make, build: Build) -> None:
    spec = toy()
    engine, windows = build(spec), windows_of(spec, 0)
    whole = engine.summed_loss(windows)
    assert whole == pytest.approx(sum(engine.summed_loss(window[None]) for window in windows), rel=1e-6)
    assert whole / windows[:, 1:].numel() == pytest.approx(engine.step(windows.numpy(), 0.0).item(), rel=1e-6)


def test_moments_go_on_bit_for_bit(toy: Make, build: Build) -> None:
    spec = toy()
    whole = build(spec)
    for step in range(3):
        whole.step(windows_of(spec, step).numpy(), 3e-2)
    state = whole.state()
    assert {key.partition(".")[0] for key in state["moments"]} == {"step", "exp_avg", "exp_avg_sq"}
    again, fresh = build(spec, state["weights"], state["moments"]), build(spec, state["weights"])
    for engine in (whole, again, fresh):
        engine.step(windows_of(spec, 3).numpy(), 3e-2)
    for name, weight in whole.state()["weights"].items():
        assert torch.equal(weight, again.state()["weights"][name]), name
    assert not torch.equal(*(engine.state()["weights"]["embed_out.weight"] for engine in (whole, fresh)))
    assert again.state()["moments"]["step.embed_out.weight"] == 4


def test_too_little_memory_halves_the_micro_batch_and_nothing_else(
    toy: Make, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = toy()
    windows = windows_of(spec, 0).numpy()
    whole = build(spec)
    expected = whole.step(windows, 1e-2).item()
    forward = Network.forward
    sizes = []

    def scarce(self: Network, part: Tensor) -> Tensor:
        sizes.append(len(part))
        if len(part) > 1:
            raise torch.OutOfMemoryError("pretended")
        return forward(self, part)

    monkeypatch.setattr(Network, "forward", scarce)
    small = build(spec)
    assert small.step(windows, 1e-2).item() == pytest.approx(expected, abs=1e-6)
    assert sizes == [4, 2, 1, 1, 1, 1]
    assert small.facts == {"arithmetic": "float32", "micro_batch": 1, "micro_batch_reduced": 2}
    same(small.state()["weights"], whole.state()["weights"], spec.shape.heads, near=2e-5)
    monkeypatch.setattr(Network, "forward", lambda self, part: scarce(self, part.repeat(2, 1)))
    with pytest.raises(torch.OutOfMemoryError):
        small.step(windows, 1e-2)
