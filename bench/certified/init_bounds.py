"""Interval bounds of untrained networks: how each initialisation widens them (Figure 1, Table 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from bench import seeds
from bench.certified import init, regularizers
from bench.certified.dataset import Range, load, pool_of
from bench.certified.graph import Operation, graph_of
from bench.certified.interval import box, propagate
from bench.certified.spec import DATA_SETS, Init, Initialisation
from bench.certified.train import draw_network
from bench.data import images
from bench.run import Result

if TYPE_CHECKING:
    from bench.training.context import Context

COLUMNS = ("layer", "kind", "fan_in", "fan_out", "radius", "gain", "formula")


def layers_before(model: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    """For each ReLU the last convolution or linear layer that its input comes from, through norms and additions."""
    operations = graph_of(model).operations

    def source(operation: Operation) -> nn.Conv2d | nn.Linear:
        while not isinstance(operation.module, nn.Conv2d | nn.Linear):
            operation = operations[operation.inputs[0] - 1]
        return operation.module

    return [source(operations[relu.inputs[0] - 1]) for relu in operations if relu.kind == "relu"]


def resolved_init(spec: Initialisation, layer: nn.Module) -> Init:
    """What ``default`` means: torch's, but Kaiming by fan-out for convolutions of the small Wide-ResNet."""
    small = spec.network.name == "wide_resnet8" and DATA_SETS[spec.dataset].shape[1] < 64
    if spec.init == "default":
        return "kaiming_fan_out" if small and isinstance(layer, nn.Conv2d) else "torch_default"
    return spec.init


@torch.no_grad()
def train(spec: Initialisation, context: Context) -> Result:
    """Propagates one batch of unaugmented training images through the untrained network.

    Raises:
        UserError: the data are not what the run expects.
    """
    shape, classes, count = DATA_SETS[spec.dataset].shape, DATA_SETS[spec.dataset].classes, spec.generated
    data = images.generated(shape, classes, train=count, test=1) if count else load(spec.dataset, context)
    order = torch.randperm(len(data.train), generator=seeds.generator("certified", spec.dataset, "init", spec.seed))
    index = order[: spec.batch]
    pool = pool_of(spec.dataset, data.train[index], data.train_labels[index], context.device, channels_last=False)
    model = draw_network(spec, shape, classes).to(context.device).train(spec.mode == "train")
    within = Range.of(spec.dataset, context.device)
    batch, _ = pool.take(torch.arange(len(index), device=context.device))
    eps = DATA_SETS[spec.dataset].eps if spec.eps is None else spec.eps
    centre, radius = box(batch, eps, within.low, within.high, within.scale)
    output = propagate(model, centre, radius, clean=batch if spec.mode == "train" else None, keep_relus=True)

    columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}

    def add(*values: Any) -> None:
        for name, value in zip(COLUMNS, values, strict=True):
            columns[name].append(value)

    first = before = float(radius.mean(dtype=torch.float64))
    add(0, "input", 0, 0, first, 0.0, 0.0)
    for number, ((_, width), layer) in enumerate(zip(output.relus, layers_before(model), strict=True), start=1):
        mean_radius = float(width.mean(dtype=torch.float64))
        fan_in, fan_out = init.fans(layer.weight)
        kind = "conv" if isinstance(layer, nn.Conv2d) else "linear"
        formula = init.gain(resolved_init(spec, layer), layer.weight)
        add(number, kind, fan_in, fan_out, mean_radius, mean_radius / before, formula)
        before = mean_radius
    tightness = float(regularizers.tightness(radius, output.relus, 0.5))
    costs = {"samples": float(len(index))}
    return Result({"growth": before / first, "tightness": tightness}, {"layers": columns}, costs, {"eps": eps})
