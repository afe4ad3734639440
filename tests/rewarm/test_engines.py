"""Both engines against a plain loop with `transformers` and `torch.optim.AdamW`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench import seeds
from bench.models import pythia
from bench.rewarm import streams
from bench.rewarm.company import Company
from bench.rewarm.distributed import Ranks
from bench.rewarm.solo import Network, Solo
from bench.rewarm.spec import PretrainSpec
from bench.training.context import Context

CPU = torch.device("cpu")
STEPS = 6
RATES = [0.0, 1e-3, 3e-3, 3e-2, 3e-2, 1e-2]


def plain_loop(spec: PretrainSpec, weights: dict[str, Tensor]) -> tuple[list[float], dict[str, Tensor], list[float]]:
    """Losses, final weights and gradient norms of the loop that a user would write."""
    model = pythia.reference(spec.shape, weights)
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, parameter in model.named_parameters():
        # Everything with one dimension is a bias or belongs to a LayerNorm.
        groups[parameter.dim() > 1].append(parameter)
        assert (parameter.dim() > 1) == pythia.decayed(name.replace("lm_head", "embed_out"))
    optimizer = torch.optim.AdamW(
        [{"params": groups[True], "weight_decay": 0.1}, {"params": groups[False], "weight_decay": 0.0}],
        betas=(0.9, 0.95),
        eps=1e-8,
        foreach=True,
    )
    stream = streams.training(spec, Path())
    losses, norms = [], []
    for step, rate in enumerate(RATES):
        for group in optimizer.param_groups:
            group["lr"] = rate
        windows = torch.from_numpy(stream.windows(step * spec.batch, spec.batch))
        logits = model(windows[:, :-1]).logits
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        norms.append(float(nn.utils.clip_grad_norm_(model.parameters(), 1.0)))
        optimizer.step()
        losses.append(loss.item())
    final = {
        name.replace("lm_head", "embed_out"): parameter.detach().clone() for name, parameter in model.named_parameters()
    }
    return losses, final, norms


def start(spec: PretrainSpec) -> dict[str, Tensor]:
    """Weights of which some have gradients that are clipped and others not."""
    weights = pythia.initial_weights(spec.shape, seeds.generator("test engine", spec.seed))
    factor = 2.0 if spec.seed % 2 == 0 else 0.5
    return {name: factor * tensor if tensor.dim() > 1 else tensor for name, tensor in weights.items()}


def same(found: dict[str, Tensor], expected: dict[str, Tensor], heads: int) -> None:
    """Equal weights, but for the biases of keys: no loss depends on them, so Adam scales up mere rounding."""
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        one, other = tensor, expected[name]
        if name.endswith("query_key_value.bias"):
            one, other = (each.view(heads, 3, -1)[:, ::2] for each in (one, other))
        torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4, msg=name)


def company_losses(specs: list[PretrainSpec], steps: int = STEPS) -> tuple[list[list[float]], Company]:
    engine = Company(specs[0].shape, CPU, "float32")
    for spec in specs:
        engine.add(start(spec))
    sources = [streams.training(spec, Path()) for spec in specs]
    losses = []
    for step in range(steps):
        windows = [source.windows(step * spec.batch, spec.batch) for source, spec in zip(sources, specs, strict=True)]
        losses.append(engine.step(windows, [RATES[step]] * len(specs)).tolist())
    return losses, engine


def test_company_trains_as_the_plain_loop(toy: Callable[..., PretrainSpec]) -> None:
    specs = [toy(seed=seed) for seed in (0, 1)]
    losses, engine = company_losses(specs)
    clipped = []
    for slot, spec in enumerate(specs):
        expected, final, norms = plain_loop(spec, start(spec))
        clipped += norms
        assert [row[slot] for row in losses] == pytest.approx(expected, abs=1e-5)
        same(engine.weights(slot), final, spec.shape.heads)
    assert min(clipped) < 1 < max(clipped), "both clipped and unclipped steps are meant to be tested"


@pytest.mark.parametrize("micro_batch", [0, 2])
def test_a_network_alone_trains_as_the_plain_loop(
    toy: Callable[..., PretrainSpec], context: Callable[..., Context], micro_batch: int
) -> None:
    spec = toy(micro_batch=micro_batch)
    expected, final, _ = plain_loop(spec, start(spec))
    engine = Solo(spec, context(spec), Ranks(0, 1, CPU), start(spec), None)
    stream = streams.training(spec, Path())
    losses = [engine.step(stream.windows(step * 4, 4), rate).item() for step, rate in enumerate(RATES)]
    assert losses == pytest.approx(expected, abs=1e-5)
    same(engine.state()["weights"], final, spec.shape.heads)


def test_company_changes_no_bit(toy: Callable[..., PretrainSpec]) -> None:
    """Others that come, stay and go leave a network's weights and moments as they would be without them."""
    specs = [toy(seed=seed) for seed in range(3)]
    _, alone = company_losses(specs[:1])
    engine = Company(specs[0].shape, CPU, "float32")
    engine.add(start(specs[1]))
    engine.add(start(specs[0]))
    sources = [streams.training(spec, Path()) for spec in (specs[1], specs[0], specs[2])]
    for step in range(STEPS):
        if step == 2:
            engine.add(start(specs[2]))
        if step == 4:
            engine.remove(0)
            del sources[0]
        windows = [source.windows(step * 4, 4) for source in sources[: len(engine)]]
        engine.step(windows, [RATES[step]] * len(engine))
    for one, other in ((engine.weights(0), alone.weights(0)), (engine.moments(0), alone.moments(0))):
        assert one.keys() == other.keys()
        for name, tensor in one.items():
            assert torch.equal(tensor, other[name]), name
    windows = torch.from_numpy(streams.validation(specs[0], Path())["upstream"].slices["upstream"])
    assert torch.equal(engine.summed_losses([0, 1], windows)[:1], alone.summed_losses([0], windows))


def test_moments_go_on_where_they_were(toy: Callable[..., PretrainSpec], context: Callable[..., Context]) -> None:
    spec = toy()
    _, engine = company_losses([spec], steps=3)
    moments = engine.moments(0)
    assert moments["updates"] == 3
    again = Company(spec.shape, CPU, "float32")
    again.add(engine.weights(0), moments)
    solo = Solo(spec, context(spec), Ranks(0, 1, CPU), engine.weights(0), moments)
    windows = streams.training(spec, Path()).windows(12, 4)
    for each in (engine, again):
        each.step([windows], [3e-2])
    solo.step(windows, 3e-2)
    for name, tensor in engine.weights(0).items():
        assert torch.equal(tensor, again.weights(0)[name]), name
    same(solo.state()["weights"], engine.weights(0), spec.shape.heads)
    assert solo.state()["moments"]["updates"] == 4


def test_too_little_memory_halves_the_micro_batch_and_nothing_else(
    toy: Callable[..., PretrainSpec], context: Callable[..., Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = toy()
    windows = streams.training(spec, Path()).windows(0, 4)
    whole = Solo(spec, context(spec), Ranks(0, 1, CPU), start(spec), None)
    expected = whole.step(windows, 1e-2).item()
    forward = Network.forward
    sizes = []

    def scarce(self: Network, part: Tensor) -> Tensor:
        sizes.append(len(part))
        if len(part) > 1:
            raise torch.OutOfMemoryError("pretended")
        return forward(self, part)

    monkeypatch.setattr(Network, "forward", scarce)
    small = Solo(spec, context(spec), Ranks(0, 1, CPU), start(spec), None)
    assert small.step(windows, 1e-2).item() == pytest.approx(expected, abs=1e-6)
    assert sizes == [4, 2, 1, 1, 1, 1]
    assert small.facts == {"arithmetic": "float32", "micro_batch": 1, "micro_batch_reduced": 2}
    same(small.state()["weights"], whole.state()["weights"], spec.shape.heads)
    monkeypatch.setattr(Network, "forward", lambda self, part: scarce(self, part.repeat(2, 1)))
    with pytest.raises(torch.OutOfMemoryError):
        small.step(windows, 1e-2)


def test_width_is_by_the_cache(toy: Callable[..., PretrainSpec]) -> None:
    assert Company.width(pythia.shape("language"), 8, CPU) == 5
    assert Company.width(pythia.shape("cpu-tiny"), 8, CPU) == 1
    assert np.all([Company.width(toy().shape, batch, CPU) >= 1 for batch in (1, 10**6)])
