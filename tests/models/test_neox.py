"""The lean GPT-NeoX against `transformers`, and Pythia's shapes and initialisation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from bench import seeds
from bench.errors import UserError
from bench.models import neox, pythia

TINY = pythia.Shape(layers=2, width=32, heads=4, vocabulary=96, context=24)


def noisy_weights(shape: pythia.Shape, seed: int) -> dict[str, Tensor]:
    """Weights in which nothing is 0 or 1, so that no bias or LayerNorm can be forgotten unseen."""
    generator = seeds.generator("test weights", seed)
    weights = pythia.initial_weights(shape, generator)
    return {name: tensor + 0.05 * torch.randn(tensor.shape, generator=generator) for name, tensor in weights.items()}


def tokens_of(shape: pythia.Shape, sequences: int) -> Tensor:
    return torch.randint(shape.vocabulary, (sequences, shape.context + 1), generator=seeds.generator("test tokens"))


def reference_results(shape: pythia.Shape, weights: dict[str, Tensor], windows: Tensor) -> tuple[Tensor, float, dict]:
    """Logits, loss and gradients of `transformers`, under our names."""
    model = pythia.reference(shape, weights)
    logits = model(windows[:, :-1]).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())
    loss.backward()
    gradients = {
        name.replace("lm_head", "embed_out"): parameter.grad
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    return logits.detach(), loss.item(), gradients


def own_results(shape: pythia.Shape, weights: dict[str, Tensor], windows: Tensor, at_once: int) -> tuple:
    own = {name: tensor.clone().requires_grad_() for name, tensor in weights.items()}
    position = neox.rotary(shape.context, shape.width, shape.heads, "cpu", torch.float32)
    sizes = {"layers": shape.layers, "heads": shape.heads, "position": position}
    logits = neox.logits(own, windows[:, :-1], **sizes)
    rows = neox.hidden(own, windows[:, :-1], **sizes)
    targets = windows[:, 1:].flatten()
    loss = neox.head_loss(rows, own["embed_out.weight"], targets, at_once=at_once)
    gradients = dict(zip(own, torch.autograd.grad(loss, list(own.values())), strict=True))
    summed = neox.summed_loss(rows, own["embed_out.weight"], targets, at_once=at_once)
    return logits.detach(), loss.detach(), gradients, summed


@pytest.mark.parametrize("context", [24, 80])  # plain attention, and the fused kernel
@pytest.mark.parametrize("at_once", [7, 1000])
def test_forward_loss_and_gradients_equal_transformers(context: int, at_once: int) -> None:
    shape = pythia.Shape(2, 32, 4, vocabulary=96, context=context)
    weights, windows = noisy_weights(shape, 0), tokens_of(shape, 3)
    logits, loss, gradients = reference_results(shape, weights, windows)
    own_logits, own_loss, own_gradients, summed = own_results(shape, weights, windows, at_once)
    torch.testing.assert_close(own_logits, logits, atol=1e-5, rtol=1e-5)
    assert own_loss.item() == pytest.approx(loss, abs=1e-5)
    assert summed.item() == pytest.approx(loss * windows[:, 1:].numel(), rel=1e-5)
    assert own_gradients.keys() == gradients.keys() == pythia.layout(shape).keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(own_gradients[name], gradient, atol=1e-5, rtol=1e-4, msg=name)


def test_extreme_logits_have_a_finite_loss() -> None:
    rows, table = torch.full((1, 4), 100.0), torch.tensor([[1.0] * 4, [-1.0] * 4], requires_grad=True)
    loss = neox.head_loss(rows, table, torch.tensor([1]))
    assert loss.item() == pytest.approx(800.0)
    (gradient,) = torch.autograd.grad(loss, table)
    torch.testing.assert_close(gradient, torch.tensor([[100.0] * 4, [-100.0] * 4]))


@pytest.mark.parametrize("context", [24, 80])
def test_bfloat16_loss_stays_near_float32(context: int) -> None:
    shape = pythia.Shape(2, 32, 4, vocabulary=96, context=context)
    weights, windows = noisy_weights(shape, 0), tokens_of(shape, 2)
    _, exact, exact_gradients, _ = own_results(shape, weights, windows, 64)
    half = {name: tensor.bfloat16().requires_grad_() for name, tensor in weights.items()}
    position = neox.rotary(context, 32, 4, "cpu", torch.bfloat16)
    rows = neox.hidden(half, windows[:, :-1], layers=2, heads=4, position=position)
    loss = neox.head_loss(rows, half["embed_out.weight"], windows[:, 1:].flatten())
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), abs=0.01)
    gradients = torch.autograd.grad(loss, list(half.values()))
    for name, gradient in zip(half, gradients, strict=True):
        error = (gradient.float() - exact_gradients[name]).norm() / exact_gradients[name].norm()
        assert error < 0.05, name


@pytest.mark.parametrize(
    ("name", "total", "non_embedding", "small", "wang"),
    [
        ("410m", 405_334_016, 302_311_424, 0.019764, 0.0026042),
        ("160m", 162_322_944, 85_056_000, 0.022822, 0.0060141),
        ("70m", 70_426_624, 18_915_328, 0.027951, 0.014731),
        ("31m", 30_494_720, 4_739_072, 0.039528, 0.020833),
        ("14m", 14_067_712, 1_189_888, 0.055902, 0.029463),
        ("cpu-tiny", 1_841_920, 793_344, 0.055902, 0.044194),
    ],
)
def test_shapes_equal_the_protocol_and_transformers(
    name: str, total: int, non_embedding: int, small: float, wang: float
) -> None:
    shape = pythia.shape(name)
    assert (shape.parameters(), shape.non_embedding()) == (total, non_embedding)
    assert sum(math.prod(size) for size in pythia.layout(shape).values()) == total
    assert pythia.standard_deviations(shape) == pytest.approx((small, wang), rel=3e-5)
    from transformers import GPTNeoXForCausalLM

    with torch.device("meta"):
        model = GPTNeoXForCausalLM(pythia.configuration(shape))
    assert sum(parameter.numel() for parameter in model.parameters()) == total


def test_initial_weights_have_the_deviations_of_gpt_neox() -> None:
    shape = pythia.shape("cpu-tiny")
    weights = pythia.initial_weights(shape, seeds.generator("test"))
    small, wang = pythia.standard_deviations(shape)
    for name, tensor in weights.items():
        if name.endswith("bias"):
            assert not tensor.any(), name
        elif "norm" in name:
            assert (tensor == 1).all(), name
        else:
            scaled = name.endswith(("attention.dense.weight", "mlp.dense_4h_to_h.weight"))
            # A standard deviation is known to about 1 / sqrt(2 n).
            near = 5 / math.sqrt(2 * tensor.numel())
            assert tensor.std().item() == pytest.approx(wang if scaled else small, rel=near), name
            assert abs(tensor.mean().item()) < 5 * small / math.sqrt(tensor.numel()), name
    again = pythia.initial_weights(shape, seeds.generator("test"))
    assert all(torch.equal(tensor, again[name]) for name, tensor in weights.items())


def test_decay_spares_norms_and_biases_alone() -> None:
    spared = {name for name in pythia.layout(TINY) if not pythia.decayed(name)}
    assert all(name.endswith("bias") or "norm" in name for name in spared)
    assert {"gpt_neox.embed_in.weight", "embed_out.weight"}.isdisjoint(spared)
    assert len(spared) == 2 * 8 + 2  # each layer: two LayerNorms and four biases; the last LayerNorm


def test_flops_estimate_is_the_protocols() -> None:
    assert pythia.shape("410m").flops_per_token() == pytest.approx(2.73e9, rel=0.005)
    assert pythia.shape("cpu-tiny").flops_per_token() == pytest.approx(9.5e6, rel=0.01)
    assert pythia.shape("14m", vocabulary=8192, context=512).flops_per_token() == pytest.approx(1.8e7, rel=0.02)


def test_names_and_shapes_that_do_not_exist() -> None:
    with pytest.raises(UserError, match="did you mean '410m'"):
        pythia.shape("410M")
    with pytest.raises(UserError, match="multiple of 8"):
        pythia.shape("2x12x3")
    assert pythia.shape("3x64x8", vocabulary=100, context=10) == pythia.Shape(3, 64, 8, 100, 10)
