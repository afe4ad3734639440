"""Each initialiser's difference gain equals its formula; the IBP initialisation's numbers are the paper's."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from bench import models
from bench.certified import init, init_bounds
from bench.certified.interval import propagate
from bench.certified.spec import Initialisation, Network

from .conftest import MakeContext

INITS = [
    "torch_default",
    "ibp",
    "kaiming_uniform",
    "kaiming_normal",
    "kaiming_fan_out",
    "xavier_uniform",
    "xavier_normal",
    "orthogonal",
]


@pytest.mark.parametrize("name", INITS)
@pytest.mark.parametrize("n", [400, 1600])
def test_measured_gain_equals_the_formula(name: str, n: int) -> None:
    """A dense layer after a ReLU: E(Delta_i) / E(Delta_{i-1}) within 3 %.

    Source: bench/certified/protocol.md, section c (Table 5).
    """
    model = nn.Sequential(nn.Linear(50, n), nn.ReLU(), nn.Linear(n, 300), nn.ReLU(), nn.Linear(300, 2))
    init.initialise(model, name, 5)
    for layer in (model[0], model[2]):
        layer.bias.data.zero_()
    x = torch.randn(64, 50, generator=torch.Generator().manual_seed(0))
    output = propagate(model.eval(), x, torch.full_like(x, 0.01), keep_relus=True)
    first, second = (radius.mean().item() for _, radius in output.relus)
    assert second / first == pytest.approx(init.gain(name, model[2].weight), rel=0.03)


def test_published_gains() -> None:
    """45.25 for torch's default at a fan-in of 32,768, 1 for the IBP initialisation."""
    weight = torch.empty(512, 32_768, device="meta")
    assert init.gain("torch_default", weight) == pytest.approx(45.25, abs=0.01)
    assert init.gain("ibp", weight) == pytest.approx(1.0)
    assert init.gain("kaiming_normal", weight) == pytest.approx(0.564 * math.sqrt(32_768), rel=1e-3)
    assert init.gain("orthogonal", weight) == pytest.approx(0.399 * math.sqrt(32_768), rel=1e-3)


def test_ibp_weights_are_normal_with_the_papers_deviation_and_the_classifier_keeps_its_own() -> None:
    model = models.build_seeded("cnn7", 0, num_classes=5, in_shape=(3, 12, 12), width=16, units=32)
    before = [layer.weight.clone() for layer in init.weighted_layers(model)]
    biases = [layer.bias.clone() for layer in init.weighted_layers(model)]
    init.initialise(model, "ibp", 1)
    layers = init.weighted_layers(model)
    for layer in layers[1:-1]:
        n = layer.weight[0].numel()
        assert layer.weight.std().item() == pytest.approx(math.sqrt(2 * math.pi) / n, rel=0.05)
    assert torch.equal(layers[-1].weight, before[-1])
    assert all(torch.equal(layer.bias, bias) for layer, bias in zip(layers, biases, strict=True))
    again = models.build_seeded("cnn7", 0, num_classes=5, in_shape=(3, 12, 12), width=16, units=32)
    init.initialise(again, "ibp", 1)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_ibp_shrinks_the_variance_of_outputs() -> None:
    """Appendix D.2: Var(h_i) is about pi / n_i Var(h_{i-1})."""
    n = 500
    model = nn.Sequential(nn.Linear(40, n), nn.ReLU(), nn.Linear(n, n), nn.ReLU(), nn.Linear(n, 2))
    init.initialise(model, "ibp", 3)
    for layer in init.weighted_layers(model):
        layer.bias.data.zero_()
    x = torch.randn(400, 40, generator=torch.Generator().manual_seed(1))
    output = propagate(model.eval(), x, torch.zeros_like(x), keep_relus=True)
    first, second = (centre.var(0).mean().item() for centre, _ in output.relus)
    # The ReLU of a centred normal keeps (pi - 1) / (2 pi) of its variance; its mean square is half of it.
    means = output.relus[1][0].mean(0).square().mean().item()
    assert (second + means) / first == pytest.approx(math.pi / n, rel=0.15)


@pytest.mark.parametrize(
    ("name", "shape", "halved"),
    [
        ("cnn7", (3, 32, 32), 0),
        ("wide_resnet8", (3, 32, 32), 4),
        ("resnext", (3, 32, 32), 4),
        ("wide_resnet8", (3, 64, 64), 4),
        ("resnext", (3, 64, 64), 7),
    ],
)
def test_layers_after_an_addition_are_halved(name: str, shape: tuple[int, int, int], halved: int) -> None:
    model = models.build_seeded(name, 0, num_classes=5, in_shape=shape, width=4, units=8)
    assert len(init.after_addition(model)) == halved
    plain = models.build_seeded(name, 0, num_classes=5, in_shape=shape, width=4, units=8)
    init.initialise(model, "ibp", 2)
    init.initialise(plain, "ibp", 2, halve_after_add=False)
    ratios = [
        (a.weight / b.weight).mean().item()
        for a, b in zip(init.weighted_layers(model), init.weighted_layers(plain), strict=True)
    ]
    assert sorted(ratios) == pytest.approx([0.5] * halved + [1.0] * (len(ratios) - halved))


def test_bounds_at_initialisation_explode_by_default_and_not_with_ibp(make_context: MakeContext) -> None:
    """Figure 1 on a CNN-7 of a fourth of the width, fan-ins of 144 to 8,192."""
    growth = {}
    for name in ("torch_default", "ibp"):
        network = Network(norm="none", width=16, units=128)
        spec = Initialisation(seed=3, network=network, init=name, batch=16, generated=16)
        result = init_bounds.train(spec, make_context(spec))
        layers = result.series["layers"]
        assert layers["layer"] == list(range(7)) and layers["kind"][0] == "input"
        for gain, formula, kind in list(zip(layers["gain"], layers["formula"], layers["kind"], strict=True))[2:]:
            # Zero padding takes about 5 % from the gains of convolutions.
            assert gain == pytest.approx(formula, rel=0.03 if kind == "linear" else 0.15)
        growth[name] = result.metrics["growth"]
    assert growth["torch_default"] > 1000 and growth["ibp"] < 3


def test_with_batch_statistics_no_initialisation_keeps_the_gain_at_one(make_context: MakeContext) -> None:
    """In train mode BatchNorm rescales, and gains are far above 1 whatever the weights.

    Source: bench/certified/protocol.md, section d.
    """
    gains = []
    for name in ("torch_default", "ibp"):
        spec = Initialisation(
            seed=3, network=Network(width=16, units=128), init=name, batch=16, generated=16, mode="train"
        )
        result = init_bounds.train(spec, make_context(spec))
        gains.append(result.series["layers"]["gain"][2:])
        assert result.metrics["tightness"] > 0.8
    assert all(min(row) > 4 for row in gains)
    assert gains[0] == pytest.approx(gains[1], rel=0.3)
