"""Figures 5, 6 and 11 measure what they say."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from bench import models
from bench.training.samples import Pool, accuracy
from bench.warmstart import probes

SHAPE = (3, 8, 8)


def pool(count: int, seed: int) -> Pool:
    draw = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, *SHAPE), generator=draw, dtype=torch.uint8)
    labels = torch.randint(0, 10, (count,), generator=draw)
    return Pool.make(images, labels, mean=(0.5,) * 3, std=(0.25,) * 3, device=torch.device("cpu"))


def test_shrinking_leaves_a_bias_free_mlp_alone_and_not_a_biased_one() -> None:
    """Proposition 1 through the probe; with biases the argmax changes."""
    grid = (0.01, 0.3, 1.0)
    fit, report = pool(200, 0), pool(100, 1)
    flat = models.build_seeded("mlp", 0, num_classes=10, in_shape=SHAPE, activation="relu", bias=False)
    columns = probes.shrinking(flat, fit, report, grid)
    assert columns["shrink"] == list(grid)
    assert len(set(columns["train_acc"])) == len(set(columns["report_acc"])) == 1
    biased = models.build_seeded("mlp", 0, num_classes=10, in_shape=SHAPE, activation="relu")
    assert len(set(probes.shrinking(biased, fit, report, grid)["train_acc"])) > 1


def test_accuracy_builds_no_graph() -> None:
    model = models.build_seeded("mlp", 0, num_classes=10, in_shape=SHAPE, activation="relu")
    graphs = []
    model.register_forward_hook(lambda module, given, made: graphs.append(made.requires_grad))
    accuracy(model, pool(20, 0))
    assert graphs == [False]


def test_only_batch_statistics_make_a_shrunk_resnet_flat() -> None:
    """Without biases before the norms, BatchNorm undoes a factor; its stale running statistics do not."""
    model = models.build_seeded("thin_resnet18", 0, num_classes=10, in_shape=SHAPE, width=8)
    fit = pool(400, 0)
    with torch.no_grad():
        for _ in range(60):
            model(fit.images)  # running statistics of these weights
    columns = probes.shrinking(model, fit, fit, (0.02, 0.5, 1.0))
    stale, batch = columns["train_acc"], columns["train_acc_batch"]
    assert abs(batch[1] - batch[2]) < 15
    assert stale[0] != stale[2]
    assert model.norm.running_mean is not None  # the network itself is untouched


@pytest.mark.parametrize("batch_statistics", [False, True])
def test_gradient_norms_are_those_of_each_part(batch_statistics: bool) -> None:
    """Of the part alone in eval mode; within the whole batch where BatchNorm takes the batch's statistics."""
    model = models.build_seeded("thin_resnet18", 0, num_classes=10, in_shape=SHAPE, width=8).train()
    images, labels = pool(20, 0).take(torch.arange(20))
    is_old = torch.arange(20) < 12
    columns: dict[str, list[float]] = {}
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    probes.gradient_norms(model, images, labels, is_old, columns, batch_statistics=batch_statistics)
    assert model.training and all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
    for name, chosen in (("old", is_old), ("new", ~is_old)):
        other = copy.deepcopy(model).train(batch_statistics)
        logits = other(images)[chosen] if batch_statistics else other(images[chosen])
        F.cross_entropy(logits, labels[chosen]).backward()
        square = sum(float((parameter.grad**2).sum()) for parameter in other.parameters())
        assert columns[name] == [pytest.approx(square**0.5, rel=1e-4)]


def test_shrinking_hides_the_gradient_behind_stale_running_statistics() -> None:
    """Before the first step: with stale ones it is less than a tenth of what it is with those of the batch."""
    model = models.build_seeded("thin_resnet18", 0, num_classes=10, in_shape=SHAPE, width=8).train()
    fit = pool(40, 0)
    with torch.no_grad():
        for _ in range(60):
            model(fit.images)
    shrunk = probes.scaled(model, 0.3)

    def norm(network: torch.nn.Module, batch_statistics: bool) -> float:
        columns: dict[str, list[float]] = {}
        chosen = torch.ones(40, dtype=torch.bool)
        probes.gradient_norms(network, fit.images, fit.labels, chosen, columns, batch_statistics=batch_statistics)
        return columns["old"][0]

    assert norm(shrunk, False) < 0.1 * norm(model, False)
    assert norm(shrunk, True) > 10 * norm(shrunk, False)


def test_a_log_line_is_a_mean_over_batches_that_have_such_samples() -> None:
    assert probes.lines_of([1.0, 3.0, -1.0, 5.0, 9.0], 2) == [2.0, 5.0]
    assert probes.lines_of([-1.0, -1.0, 4.0, 6.0], 2) == [-1.0, 5.0]
    assert len(probes.lines_of([1.0] * 391, 10)) == 39  # an epoch of 50,000 samples in batches of 128
    assert probes.lines_of([1.0, 3.0], 10) == [2.0]  # an epoch of fewer batches


def test_a_log_leaves_out_lines_without_either_age() -> None:
    columns = {"old": [2.0, -1.0, 5.0], "new": [2.0, 4.0, 1.0 / 3]}
    assert probes.gradient_log(columns) == {"line": [0, 2], "old": [2.0, 5.0], "new": [2.0, 0.333333]}
    assert probes.gradient_log({}) == {"line": [], "old": [], "new": []}


def test_shrinking_reports_on_all_samples() -> None:
    """The first 2,000 are labelled as the network says, the last 100 otherwise."""
    model = models.build_seeded("mlp", 0, num_classes=10, in_shape=SHAPE, activation="relu")
    whole = pool(2100, 0)
    with torch.no_grad():
        whole.labels = model(whole.images).argmax(1)
    whole.labels[2000:] = (whole.labels[2000:] + 1) % 10
    columns = probes.shrinking(model, whole, whole, (1.0,))
    assert columns["train_acc"] == columns["report_acc"] == [pytest.approx(100 * 2000 / 2100)]


def test_correlation_is_pearsons_of_all_weights() -> None:
    draw = torch.Generator().manual_seed(0)
    before = {"a": torch.randn(3, 4, generator=draw), "b": 2 + torch.randn(5, generator=draw)}
    after = {name: tensor + 0.3 * torch.randn(tensor.shape, generator=draw) for name, tensor in before.items()}
    flat = [torch.cat([tensors[name].flatten() for name in ("a", "b")]).numpy() for tensors in (before, after)]
    found = probes.correlation(before, after)
    assert found["weight_correlation"] == pytest.approx(np.corrcoef(*flat)[0, 1], abs=1e-6)
    assert found["weight_distance"] == pytest.approx(np.linalg.norm(flat[0] - flat[1]), rel=1e-5)
