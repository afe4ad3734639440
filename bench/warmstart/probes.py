"""Measurements beside accuracy: gradient norms (Figure 5), accuracy under shrinking (6), correlations (11)."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.training.samples import Pool, accuracy


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


def lines_of(norms: list[float], every: int) -> list[float]:
    """Log lines of an epoch, as in the authors' code: means over `every` batches; what remains at the end has no line.

    An epoch of fewer batches is one line. Batches without such samples (-1) are left out; a line of such batches is -1.
    """
    every = min(every, len(norms))
    windows = [norms[begin : begin + every] for begin in range(0, len(norms) - every + 1, every)]
    known = [[norm for norm in window if norm >= 0] for window in windows]
    return [sum(window) / len(window) if window else -1.0 for window in known]


def gradient_log(columns: dict[str, list[float]]) -> dict[str, list[float]]:
    """Columns ``line`` (counted from 0), ``old`` and ``new`` of the lines that have both; about 1,000 rows at most."""
    pairs = enumerate(zip(columns.get("old", []), columns.get("new", []), strict=True))
    lines = [(line, round(old, 6), round(new, 6)) for line, (old, new) in pairs if old >= 0 and new >= 0]
    stride = max(1, len(lines) // 1000)
    return {name: [row[place] for row in lines[::stride]] for place, name in enumerate(("line", "old", "new"))}


@torch.no_grad()
def scaled(model: nn.Module, factor: float) -> nn.Module:
    """A copy whose learnable tensors are multiplied by `factor`."""
    shrunk = copy.deepcopy(model)
    for parameter in shrunk.parameters():
        parameter.mul_(factor)
    return shrunk


@torch.no_grad()
def shrinking(model: nn.Module, fit: Pool, report: Pool, grid: tuple[float, ...]) -> dict[str, list[float]]:
    """Accuracy of the network multiplied by each factor, without retraining, on all samples of both pools (Figure 6).

    Returns columns `shrink`, `train_acc`, `report_acc` with the running statistics of BatchNorm as they are, and
    `train_acc_batch`, `report_acc_batch` with the statistics of the evaluated batch.
    """
    names = ("shrink", "train_acc", "report_acc", "train_acc_batch", "report_acc_batch")
    columns: dict[str, list[float]] = {name: [] for name in names}
    for factor in grid:
        shrunk = scaled(model, factor)
        values = [factor]
        values += [accuracy(shrunk, pool) for pool in (fit, report)]
        norms = [module for module in shrunk.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
        for norm in norms:
            # Without running statistics BatchNorm takes those of the batch, in eval mode too.
            norm.running_mean = norm.running_var = None
        if norms:
            values += [accuracy(shrunk, pool) for pool in (fit, report)]
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
