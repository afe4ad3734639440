"""Verification: trained networks converted and compared, attacked and verified, interrupted, and refused."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench import checkpoint, models, paths, record
from bench.__main__ import main
from bench.certified import evaluate, interval, lirpa, train, verify
from bench.certified.spec import Certified, Network, Verification
from bench.cli.main import Radius
from bench.errors import FailedRun, OutOfTime, UserError
from bench.training.context import Context

from .conftest import MakeContext, tiny


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Certified, Context]:
    """A run with moved running statistics, its record and its weights."""
    from bench.paths import Layout

    spec = tiny(init="ibp", lr=5e-3, population=300, network=Network(width=4, units=8))
    layout = Layout("test", tmp_path_factory.mktemp("trained") / "test")
    context = Context("abc-def", spec.label(), layout, torch.device("cpu"), compile="never")
    outcome = train.train(spec, context)
    record.write(layout.record("abc-def"), record.of_run(spec, "abc-def", outcome, dict(context.kept), {}))
    return spec, context


def child(make_context: MakeContext, parent: Context, spec: Verification, key: str = "v", **fields: Any) -> Context:
    context = make_context(spec, key, parent_key=parent.key, parent_sha256=dict(parent.kept), **fields)
    context.layout = parent.layout
    return context


def test_the_bounded_module_has_the_statistics_of_the_trained_network(trained: tuple[Certified, Context]) -> None:
    spec, context = trained
    model = train.draw_network(spec, spec.shape(), spec.classes())
    weights = checkpoint.load_tensors(context.layout.artefact("abc-def", "weights"))
    images = torch.rand(6, 3, 12, 12)
    bounded = lirpa.Bounded(model, images)  # built before the weights arrive
    verify.load_weights(model, weights, "weights")
    bounded.train(False)
    assert not torch.allclose(weights["1.running_mean"], torch.zeros(4), atol=1e-3)
    labels = torch.arange(6) % 5
    (theirs,) = bounded.margins(images, images - 0.05, images + 0.05, labels, ["ibp"])
    ours = interval.margins(model.eval(), images - 0.05, images + 0.05, labels)
    torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(bounded.module(images), model(images), rtol=1e-4, atol=1e-4)


def foreign(state: dict[str, torch.Tensor], order: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """The state under other names, layer by layer, each layer's tensors in another order."""
    layers: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in state.items():
        layer, _, kind = name.rpartition(".")
        layers.setdefault(layer, {})[kind] = tensor
    return {
        f"net.block{number}.{kind}": tensors[kind]
        for number, tensors in enumerate(layers.values(), start=8)
        for kind in order
        if kind in tensors
    }


def moved(seed: int) -> nn.Module:
    """A CNN-7 in which no two tensors are alike."""
    model = models.build_seeded("cnn7", seed, num_classes=5, in_shape=(3, 12, 12), width=4, units=8)
    draw = torch.Generator().manual_seed(seed)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5, generator=draw)
    return model


@pytest.mark.parametrize(
    "order",
    [
        ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"),
        ("bias", "weight", "running_var", "running_mean"),
        ("running_mean", "running_var", "bias", "weight"),
    ],
)
def test_foreign_tensors_are_matched_by_kind(order: tuple[str, ...]) -> None:
    """BatchNorm's weight and bias have equal shapes, as have its statistics: their order says nothing."""
    model, twin = moved(0), moved(1)
    verify.load_weights(twin, foreign(model.state_dict(), order), "foreign.pt")
    for (name, ours), theirs in zip(model.state_dict().items(), twin.state_dict().values(), strict=True):
        assert name.endswith("num_batches_tracked") or torch.equal(ours, theirs), name


def renamed(old: str, new: str) -> Any:
    return lambda state: {name.replace(old, new): tensor for name, tensor in state.items()}


def swapped(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The second and third layer exchanged."""
    names = list(state)
    return {name: state[name] for name in [*names[:2], *names[6:8], *names[2:6], *names[8:]]}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param(renamed("running_mean", "moving_average"), "moving_average.*no weight, bias", id="unknown kind"),
        pytest.param(swapped, "another architecture; layer 'net.block10' has", id="order of layers"),
        pytest.param(lambda state: dict(sorted(state.items())), "alphabetical order", id="alphabetical"),
        pytest.param(lambda state: dict(list(state.items())[1:]), "another architecture", id="incomplete"),
        pytest.param(lambda state: {**state, "net.extra.weight": torch.ones(2)}, "another architecture", id="more"),
        pytest.param(
            lambda state: {name: tensor.double() + 1e-12 for name, tensor in state.items()}, "rounded to", id="rounded"
        ),
    ],
)
def test_what_cannot_be_matched_is_refused_in_one_line(change: Any, words: str) -> None:
    state = foreign(moved(0).state_dict(), verify.KINDS)
    with pytest.raises(UserError, match=words) as raised:
        verify.load_weights(moved(1), change(state), "foreign.pt")
    assert "\n" not in str(raised.value)


def test_halves_and_exact_doubles_are_loaded() -> None:
    model, twin = moved(0), moved(1)
    verify.load_weights(twin, {name: tensor.double() for name, tensor in model.state_dict().items()}, "double.pt")
    assert torch.equal(twin.state_dict()["0.weight"], model.state_dict()["0.weight"])
    verify.load_weights(twin, {name: tensor.half() for name, tensor in model.state_dict().items()}, "half.pt")
    assert torch.equal(twin.state_dict()["0.weight"], model.state_dict()["0.weight"].half().float())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_errors_are_ordered_and_equal_those_of_training(
    trained: tuple[Certified, Context], make_context: MakeContext, dtype: str
) -> None:
    spec, parent = trained
    chosen = Verification(seed=7, parent=spec, methods=("ibp", "crown_ibp", "crown"), pgd_steps=5, dtype=dtype)
    outcome = verify.train(chosen, child(make_context, parent, chosen))
    found = outcome.metrics
    assert found["samples"] == 40 and found["eps"] == 0.025
    made = record.read(parent.layout.record("abc-def")).metrics
    assert found["standard_error"] == made["standard_error"]
    assert found["verified_error_ibp"] == pytest.approx(made["verified_error"], abs=2.51)  # one sample
    for method in chosen.methods:
        assert found["standard_error"] <= found["pgd_error"] <= found[f"verified_error_{method}"] <= 100


def test_interval_bounds_may_have_more_images_than_the_rest(
    trained: tuple[Certified, Context], make_context: MakeContext
) -> None:
    """The attack and the backward bounds are of the same images as without them."""
    spec, parent = trained
    few = Verification(seed=7, parent=spec, pgd_steps=3)
    more = few.model_copy(update={"ibp_samples": 300})
    errors, expected = (
        verify.train(run, child(make_context, parent, run, name)).metrics
        for run, name in ((more, "more"), (few, "few"))
    )
    assert (errors["samples"], errors["samples_attacked"]) == (300, 40) and more.cost().flops > few.cost().flops
    for metric in ("pgd_error", "verified_error_crown_ibp"):
        assert errors[metric] == expected[metric]
    whole = few.model_copy(update={"parent": spec.model_copy(update={"report_samples": 300}), "methods": ("ibp",)})
    reported = verify.train(whole, child(make_context, parent, whole, "whole")).metrics
    for metric in ("standard_error", "verified_error_ibp"):
        assert errors[metric] == reported[metric] != expected[metric]


@pytest.mark.parametrize("more", [{}, {"ibp_samples": 56}])
def test_interrupted_verification_goes_on_by_batch(
    trained: tuple[Certified, Context], make_context: MakeContext, more: dict[str, int]
) -> None:
    spec, parent = trained
    chosen = Verification(seed=7, parent=spec, methods=("ibp",), pgd_steps=3, batch=16, **more)
    expected = verify.train(chosen, child(make_context, parent, chosen, "whole")).metrics
    stops = 0
    for _ in range(5):
        try:
            found = verify.train(chosen, child(make_context, parent, chosen, f"parts{len(more)}", deadline=0.0))
        except OutOfTime:
            stops += 1
            continue
        break
    assert stops == 3 + len(more) and found.metrics == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("name", "size"), [("cnn7", {"units": 8}), ("wide_resnet8", {}), ("resnext", {})])
def test_every_method_bounds_every_architecture(name: str, size: dict[str, int], dtype: torch.dtype) -> None:
    """Each method is at least as tight as the one before, and no point of the box goes below any bound."""
    model = models.build_seeded(name, 3, num_classes=3, in_shape=(1, 8, 8), width=4, **size).to(dtype).eval()
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.rand(1, 1, 8, 8, generator=generator).to(dtype), torch.tensor([1])
    eps = 0.01
    bounded = lirpa.Bounded(model, images, iterations=2)
    found = bounded.margins(images, images - eps, images + eps, labels, ("ibp", "crown_ibp", "crown", "alpha_crown"))
    for looser, tighter in itertools.pairwise(found):
        assert bool((tighter >= looser - 1e-5).all())
    points = images + eps * (2 * torch.rand(300, 1, 8, 8, generator=generator).to(dtype) - 1)
    with torch.no_grad():
        logits = model(points)
    least = (logits[:, [1]] - logits[:, [0, 2]]).min(0).values
    assert bool((found[-1] <= least + 1e-5).all())
    assert found[-1].dtype == dtype and torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize("name", ["cnn7", "resnext"])
def test_backward_bounds_in_parts_have_the_gradients_of_the_whole(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The 199 margins of TinyImageNet at once would take more memory than any GPU has."""
    images, labels = (
        torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)).double(),
        torch.tensor([0, 1, 2, 6]),
    )
    found = []
    for room in (1e12, 1e5):
        monkeypatch.setattr(lirpa, "ROOM", room)
        model = models.build_seeded(name, 3, num_classes=7, in_shape=(1, 8, 8), width=4).double().train()
        _, lower, relus = lirpa.Bounded(model, images).mixed_margins(images, images - 0.01, images + 0.01, labels, 0.5)
        neurons = sum(low[0].numel() for low, _ in relus)
        assert (lirpa.rows_at_once(images, neurons) >= 6) == (room == 1e12)
        loss = torch.logsumexp(-lower, 1).mean() + sum((high - low).mean() for low, high in relus)
        loss.backward()
        found.append((loss.detach(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])))
    (loss, gradient), (other_loss, other_gradient) = found
    torch.testing.assert_close(loss, other_loss, rtol=1e-12, atol=0)
    assert (gradient - other_gradient).norm() < 1e-9 * gradient.norm()


def test_attacks_stay_in_their_box_and_find_what_is_there() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    model[1].weight.data = torch.tensor([[1.0, -1.0, 1.0, -1.0], [0.0, 0.0, 0.0, 0.0]])
    model[1].bias.data = torch.zeros(2)
    centre = torch.full((8, 1, 2, 2), 0.5)
    centre[:, 0, 0, 0] += torch.linspace(0, 1, 8)
    radius = torch.full_like(centre, 0.1)
    draw = torch.Generator().manual_seed(0)
    labels = torch.zeros(8, dtype=torch.int64)
    found = evaluate.pgd(model, centre, radius, labels, steps=10, step=0.3, generator=draw)
    assert ((found - centre).abs() <= radius + 1e-6).all()
    # The worst point of a linear model is a corner: the margin falls by the sum of the radii.
    torch.testing.assert_close(model(found)[:, 0], model(centre)[:, 0] - 0.4)


def test_a_bound_that_an_attack_breaks_is_no_result(
    trained: tuple[Certified, Context], make_context: MakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, parent = trained
    monkeypatch.setattr(lirpa.Bounded, "margins", lambda self, x, *_: [torch.ones(len(x), 4)])
    chosen = Verification(seed=7, parent=spec, methods=("ibp",), pgd_steps=3)
    with pytest.raises(FailedRun, match=r"test sample \d+ is misclassified, yet IBP calls it verified"):
        verify.train(chosen, child(make_context, parent, chosen, "broken"))


def test_out_of_memory_says_which_method_fits(
    trained: tuple[Certified, Context], make_context: MakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Any, *_: Any) -> Any:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")

    spec, parent = trained
    monkeypatch.setattr(lirpa.Bounded, "margins", fail)
    chosen = Verification(seed=7, parent=spec, methods=("crown",), pgd_steps=1)
    with pytest.raises(UserError, match=r"out of memory in CROWN with one sample .*, or method crown_ibp"):
        verify.train(chosen, child(make_context, parent, chosen, "memory"))


def test_memory_that_runs_out_leaves_all_numbers(
    trained: tuple[Certified, Context], make_context: MakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bounds are computed for fewer samples at once, the attack draws the same random starts, and the record says so."""
    margins = lirpa.Bounded.margins

    def small_machine(self: Any, x: Tensor, *given: Any) -> list[Tensor]:
        if len(x) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB")
        return margins(self, x, *given)

    spec, parent = trained
    chosen = Verification(seed=7, parent=spec, methods=("ibp", "crown_ibp"), pgd_steps=3)
    whole = verify.train(chosen, child(make_context, parent, chosen, "whole"))
    monkeypatch.setattr(lirpa.Bounded, "margins", small_machine)
    less = verify.train(chosen, child(make_context, parent, chosen, "less"))
    assert less.metrics == whole.metrics
    assert "at_once" not in whole.notes and all(1 <= size <= 5 for size in less.notes["at_once"].values())


def test_optimised_slopes_take_memory_of_their_own() -> None:
    """For each neuron of a layer there is a slope of each neuron before it: 2 samples of this network took 11 GB."""
    model = models.build_seeded("cnn7", 3, num_classes=10, in_shape=(3, 32, 32), width=4, units=16).eval()
    images = torch.zeros(1, 3, 32, 32)
    assert verify.batch_size(model, images, ("ibp", "crown_ibp"), 10) > 50
    # Between: the blocks of full CROWN stay with the process, so that it does not wait for pages to be cleared.
    assert 10 < verify.batch_size(model, images, ("ibp", "crown_ibp", "crown"), 10) < 50
    assert verify.batch_size(model, images, ("alpha_crown",), 10) == 1


def test_command_verifies_weights_of_a_run(
    trained: tuple[Certified, Context],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, context = trained
    monkeypatch.setenv("BENCH_RESULTS", str(tmp_path))
    weights = context.layout.artefact("abc-def", "weights")
    assert main(["verify", str(weights), "--samples", "30", "--pgd-steps", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" verified")[0].split()[0] for line in lines] == ["standard", "PGD-3", "IBP", "CROWN-IBP"]
    assert all("n 30" in line for line in lines)
    assert main(["verify", str(weights), "--samples", "30", "--pgd-steps", "3", "--eps", "0", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["verified_error_ibp"] == pytest.approx(found["standard_error"], abs=3.4)
    assert not list(tmp_path.glob("verify/scratch/*"))


def test_command_reads_plain_state_dicts_and_refuses_others(
    trained: tuple[Certified, Context],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, context = trained
    monkeypatch.setenv("BENCH_RESULTS", str(tmp_path))
    weights = checkpoint.load_tensors(context.layout.artefact("abc-def", "weights"))
    path = tmp_path / "plain.pth"
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in weights.items()}, "epoch": 3}, path)
    known = ["--dataset", "synthetic_certified", "--network", "cnn7", "--width", "4", "--units", "8", "--samples", "20"]
    assert main(["verify", str(path), *known, "--methods", "ibp", "--pgd-steps", "2"]) == 0
    assert "IBP verified error" in capsys.readouterr().out
    assert main(["verify", str(path)]) == 2
    assert "give --dataset, --network" in capsys.readouterr().err
    assert main(["verify", str(path), *known, "--norm", "none"]) == 2
    error = capsys.readouterr().err
    assert "of another architecture" in error and "it fits --network cnn7 --norm full" in error
    assert main(["verify", str(tmp_path / "absent.pt"), *known]) == 2
    assert "no such file" in capsys.readouterr().err
    (tmp_path / "text.pt").write_text("no tensors")
    assert main(["verify", str(tmp_path / "text.pt"), *known]) == 2
    assert "not a state dict of tensors alone" in capsys.readouterr().err
    for wrong, why in (("--eps=-0.1", "outside"), ("--eps=8", "8/255"), ("--pgd-steps=-1", ">=1")):
        assert main(["verify", str(path), *known, wrong]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ") and f"'{wrong.partition('=')[0]}'" in line and why in line


def test_loading_the_package_warns_of_nothing() -> None:
    load = "from bench.certified import lirpa; lirpa.load()"
    done = subprocess.run([sys.executable, "-c", load], cwd=paths.PROJECT, capture_output=True, text=True, check=True)
    assert "Warning" not in done.stderr


def test_radii_are_numbers_or_fractions() -> None:
    assert Radius().convert("8/255", None, None) == pytest.approx(8 / 255)
    assert Radius().convert("0.4", None, None) == 0.4
