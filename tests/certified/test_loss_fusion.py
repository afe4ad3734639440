"""The bound of CROWN-IBP's loss: against attacked points, the margin matrix, and auto_LiRPA's own loss fusion."""

from __future__ import annotations

import gc
import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench import config, exhibit, models
from bench.certified import lirpa, train
from bench.certified.interval import propagate
from bench.certified.lirpa import Bounded
from bench.certified.step import robust_loss
from bench.report import plan_text
from bench.workflow import plan

from .conftest import MakeContext, tiny

LABELS = torch.tensor([0, 1, 2, 6])


def network(name: str) -> tuple[nn.Module, Tensor]:
    """In float64 and train mode, with images in [0, 1]."""
    model = models.build_seeded(name, 3, num_classes=7, in_shape=(1, 8, 8), width=4, units=8).double().train()
    return model, torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def loss_at(model: nn.Module, images: Tensor, points: Tensor) -> Tensor:
    """Cross-entropy [B] at points, with the BatchNorm statistics of the images."""
    logits = propagate(model, points, torch.zeros_like(points), clean=images).centre
    return nn.functional.cross_entropy(logits, LABELS, reduction="none")


@pytest.mark.parametrize("name", ["cnn7", "wide_resnet8", "resnext"])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_no_attacked_point_has_a_larger_loss(name: str, share: float) -> None:
    model, images = network(name)
    eps = 0.02
    _, losses, margins, _ = Bounded(model, images).mixed_losses(images, images - eps, images + eps, LABELS, share)
    draw = torch.Generator().manual_seed(1)
    position = torch.rand(images.shape, generator=draw, dtype=images.dtype) * 2 - 1
    for _ in range(30):
        position.requires_grad_(True)
        attacked = loss_at(model, images, images + eps * position)
        assert (attacked <= losses + 1e-9).all()
        (gradient,) = torch.autograd.grad(attacked.sum(), position)
        position = (position.detach() + 0.2 * gradient.sign()).clamp(-1, 1)
    assert (attacked > loss_at(model, images, images) + 1e-3).any()  # the attack is one
    if share == 0:
        torch.testing.assert_close(losses.mean(), robust_loss(margins))


@pytest.mark.parametrize("name", ["cnn7", "resnext"])
def test_one_row_is_at_least_as_tight_as_the_chords_of_all_margins(name: str) -> None:
    """A backward bound of a sum is no looser than the sum of the margin matrix's bounds."""
    model, images = network(name)
    box = images, images - 0.02, images + 0.02, LABELS
    bounded = Bounded(model, images)
    _, crown, _ = bounded.mixed_margins(*box, 1.0)
    _, _, low, high, _ = bounded._interval_margins(*box)
    slope = (torch.exp(-low) - torch.exp(-high)) / (high - low)
    chords = 1 + (torch.exp(-high) + slope * (high - crown)).sum(1)
    _, losses, _, _ = bounded.mixed_losses(*box, 1.0)
    assert (losses <= torch.log(chords) + 1e-9).all()
    assert (losses < bounded.mixed_losses(*box, 0.0)[1]).all()  # tighter than IBP, which it starts from


class Fusion(nn.Module):
    """sum_j exp(z_j - z_y), as auto_LiRPA's examples write it for its own loss fusion."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        logits = self.model(x)
        return torch.exp(logits - torch.gather(logits, dim=-1, index=labels.unsqueeze(-1))).sum(dim=-1, keepdim=True)


def their_losses(model: nn.Module, images: Tensor, eps: float, *, crown: bool) -> Tensor:
    """Losses [B] by auto_LiRPA's own loss fusion."""
    for opset in range(7, 21):  # without these it knows no OneHot
        importlib.import_module(f"torch.onnx._internal.torchscript_exporter.symbolic_opset{opset}")
    package = lirpa.load()
    model.eval()
    with lirpa._quiet():
        dummy = torch.zeros_like(images[:2]), torch.zeros(2, dtype=torch.int64)
        bounded = package.BoundedModule(Fusion(model), dummy, bound_opts={"loss_fusion": True}, device="cpu")
    model.train()
    bounded.train()
    perturbation = package.PerturbationLpNorm(norm=float("inf"), eps=0.0, x_L=images - eps, x_U=images + eps)
    bounded(package.BoundedTensor(images, perturbation), LABELS)
    _, upper = bounded.compute_bounds(x=None, IBP=True, C=None, method=None)
    if crown:
        _, upper = bounded.compute_bounds(IBP=False, C=None, method="backward", bound_lower=False)
    (exponential,) = (node for node in bounded.modules() if type(node).__name__ == "BoundExp")
    return (torch.log(upper) + exponential.max_input).flatten()


@pytest.mark.parametrize("crown", [False, True], ids=["IBP", "CROWN-IBP"])
def test_losses_and_gradients_equal_those_of_auto_lirpas_fusion(crown: bool) -> None:
    """At a radius at which no slope is below the 1e-6 that auto_LiRPA raises slopes to."""
    model, images = network("cnn7")
    parameters, eps = list(model.parameters()), 1e-4
    _, ours, _, _ = Bounded(model, images).mixed_losses(images, images - eps, images + eps, LABELS, float(crown))
    gradient = torch.cat([part.flatten() for part in torch.autograd.grad(ours.sum(), parameters)])
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # its gather creates zeros without a dtype
    try:
        theirs = their_losses(model, images, eps, crown=crown)
        expected = torch.cat([part.flatten() for part in torch.autograd.grad(theirs.sum(), parameters)])
    finally:
        torch.set_default_dtype(default)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=0)
    assert (gradient - expected).norm() < 1e-6 * expected.norm()


@pytest.mark.parametrize("eps", [0.0, 1e-12, 1e-7])
def test_a_narrow_box_has_the_loss_and_the_gradient_of_its_centre(eps: float) -> None:
    """In float32, where the slope of a chord is a difference of equal numbers."""
    model, images = network("cnn7")
    model, images = model.float(), images.float()
    parameters = list(model.parameters())
    expected = loss_at(model, images, images)
    clean = torch.cat([part.flatten() for part in torch.autograd.grad(expected.sum(), parameters)])
    _, losses, _, _ = Bounded(model, images).mixed_losses(images, images - eps, images + eps, LABELS, 1.0)
    gradient = torch.cat([part.flatten() for part in torch.autograd.grad(losses.sum(), parameters)])
    torch.testing.assert_close(losses, expected, rtol=1e-3, atol=1e-4)
    assert (gradient - clean).norm() < 0.02 * clean.norm()


def test_a_step_minimises_the_bound(make_context: MakeContext) -> None:
    spec = tiny(bound="crown_ibp", loss_fusion=True)
    trainer = train.Trainer(spec, make_context(spec))
    images, labels = trainer.data.train.take(torch.arange(32))
    images, within = images.contiguous(), trainer.data.range
    radius = 0.4 * spec.target * within.scale
    low, high = torch.maximum(images - radius, within.low), torch.minimum(images + radius, within.high)
    assert trainer.step.bounded is not None
    _, losses, _, _ = trainer.step.bounded.mixed_losses(images, low, high, labels, 0.6)
    trainer.step(images, labels, torch.tensor(0.4 * spec.target), 0.4, 0.0)
    assert float(trainer.step.sums.loss) / 32 == pytest.approx(losses.mean().item(), rel=1e-4)


def test_a_step_leaves_no_bounds_alive(make_context: MakeContext) -> None:
    """They would take as much memory as the step until the next one."""
    spec = tiny(bound="crown_ibp", loss_fusion=True)
    trainer = train.Trainer(spec, make_context(spec))
    images, labels = trainer.data.train.take(torch.arange(32))
    bounded = trainer.step.bounded
    assert bounded is not None

    def alive() -> int:
        gc.collect()
        return sum(item.numel() for item in gc.get_objects() if issubclass(type(item), Tensor))

    trainer.step(images, labels, torch.tensor(0.01), 0.4, 0.0)
    after_step = alive()
    bounded.mixed_losses(images.contiguous(), images - 0.01, images + 0.01, labels, 0.6)[1].mean().backward()
    kept = alive()
    bounded.release()
    released = alive()
    # What is left on its nodes are the images.
    assert kept - released > 20 * images.numel() and released - after_step < 4 * images.numel()


SCALE = "scale: unfused\nexhibits:\n  certified/table2: {loss_fusion: false, courses: [tin_20], models: [cnn7]}\n"


def test_the_margin_matrix_is_a_departure_that_plan_names(tmp_path: Path) -> None:
    path = tmp_path / "unfused.yaml"
    path.write_text(SCALE)
    suite = config.load(str(path))
    made = plan.make(suite, ["certified/table2"])
    settings: Any = made.settings["certified/table2"]
    assert settings.departures()["loss_fusion"] == (True, False) and not settings.at_protocol()
    assert "loss_fusion" in plan_text.as_text(made)
    bounds = {(run.spec.bound, run.spec.loss_fusion) for run in made.runs.values() if run.spec.kind == "certified"}
    assert bounds == {("ibp", False), ("crown_ibp", False)}
    paper = exhibit.settings_of(config.load("paper"), exhibit.registry()["certified/table2"])
    assert paper.training("tin_20", "cnn7", "crown_ibp", 0).loss_fusion


def test_fusion_goes_with_crown_ibp_only() -> None:
    with pytest.raises(ValueError, match="goes with bound crown_ibp"):
        tiny(loss_fusion=True)
