"""Measurements beside accuracy: gradient norms (Figure 5), accuracy under shrinking (6), correlations (11)."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.training.samples import EVAL_BATCH, Pool, accuracy


def _norm_of_gradient(model: nn.Module, logits: Tensor, labels: Tensor, *, keep_graph: bool) -> Tensor:
    """Of the mean loss over all parameters; `keep_graph` keeps the logits' graph for another call."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(F.cross_entropy(logits, labels), parameters, retain_graph=keep_graph)
    return torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(gradient) for gradient in gradients]))


def gradient_norms(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    is_old: Tensor,
    columns: dict[str, list[float]],
    *,
    batch_statistics: bool = False,
) -> None:
    """Appends the L2 norm of the mean-loss gradient over a batch's old and its new samples (Figure 5).

    Args:
        model: the network; its mode, buffers and gradients are left as they were.
        images: [B, C, H, W].
        labels: [B].
        is_old: [B], whether a sample was in the first phase.
        columns: "old" and "new" grow by one value each, -1 where the batch has no such samples.
        batch_statistics: BatchNorm takes the statistics of the whole batch. In eval mode, which the paper's code uses, it
            takes its running ones: for the first dozens of steps after shrinking they are those of other weights.
    """
    was_training = model.training
    model.train(batch_statistics)
    whole = None
    if batch_statistics:
        buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
        whole = torch.func.functional_call(model, buffers, (images,))
    for name, part in (("old", is_old), ("new", ~is_old)):
        norm = -1.0
        if bool(part.any()):
            logits = model(images[part]) if whole is None else whole[part]
            norm = float(_norm_of_gradient(model, logits, labels[part], keep_graph=whole is not None))
        columns.setdefault(name, []).append(norm)
    model.train(was_training)


def averaged(columns: dict[str, list[float]], every: int) -> dict[str, list[float]]:
    """Means over `every` batches: one line of the authors' log each; batches without such samples are left out."""
    lines: dict[str, list[float]] = {"line": [], "old": [], "new": []}
    steps = len(columns.get("old", []))
    for index, begin in enumerate(range(0, steps - every + 1, every)):
        means = {}
        for name in ("old", "new"):
            values = [value for value in columns[name][begin : begin + every] if value >= 0]
            means[name] = sum(values) / len(values) if values else None
        if means["old"] is not None and means["new"] is not None:
            lines["line"].append(index)
            lines["old"].append(round(means["old"], 6))
            lines["new"].append(round(means["new"], 6))
    stride = max(1, len(lines["line"]) // 1000)
    return {name: values[::stride] for name, values in lines.items()}


@torch.no_grad()
def scaled(model: nn.Module, factor: float) -> nn.Module:
    """A copy whose learnable tensors are multiplied by `factor`."""
    shrunk = copy.deepcopy(model)
    for parameter in shrunk.parameters():
        parameter.mul_(factor)
    return shrunk


@torch.no_grad()
def shrinking(model: nn.Module, fit: Pool, report: Pool, grid: tuple[float, ...]) -> dict[str, list[float]]:
    """Accuracy of the network multiplied by each factor, without retraining (Figure 6).

    Returns columns `shrink`, `train_acc`, `report_acc` with the running statistics of BatchNorm as they are, and
    `train_acc_batch`, `report_acc_batch` with the statistics of the evaluated batch.
    """
    names = ("shrink", "train_acc", "report_acc", "train_acc_batch", "report_acc_batch")
    columns: dict[str, list[float]] = {name: [] for name in names}
    for factor in grid:
        shrunk = scaled(model, factor)
        values = [factor]
        values += [accuracy(shrunk, pool, min(len(pool), 4 * EVAL_BATCH)) for pool in (fit, report)]
        norms = [module for module in shrunk.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
        for norm in norms:
            # Without running statistics BatchNorm takes those of the batch, in eval mode too.
            norm.running_mean = norm.running_var = None
        if norms:
            values += [accuracy(shrunk, pool, min(len(pool), 4 * EVAL_BATCH)) for pool in (fit, report)]
        else:
            values += values[1:]
        for name, value in zip(names, values, strict=True):
            columns[name].append(value)
    return columns


@torch.no_grad()
def correlation(before: dict[str, Tensor], after: dict[str, Tensor]) -> dict[str, float]:
    """Pearson correlation, cosine and L2 distance of all flattened parameters before and after a run (Figure 11)."""
    names = [name for name in before if name in after and before[name].shape == after[name].shape]
    first = torch.cat([before[name].double().flatten() for name in names])
    second = torch.cat([after[name].double().flatten() for name in names])
    return {
        "weight_correlation": float(F.cosine_similarity(first - first.mean(), second - second.mean(), dim=0)),
        "weight_cosine": float(F.cosine_similarity(first, second, dim=0)),
        "weight_distance": float((first - second).norm()),
    }
