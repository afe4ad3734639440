"""Interval bounds of untrained networks: how each initialisation grows them (Figure 1, Table 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from bench import seeds
from bench.certified import init, regularizers
from bench.certified.interval import box, propagate
from bench.certified.program import Instruction, program
from bench.certified.spec import EPS, SHAPES, STATISTICS, Init, Initialisation
from bench.certified.split import Range, load
from bench.certified.train import draw_network
from bench.data import images
from bench.run import Result
from bench.training.samples import Pool

if TYPE_CHECKING:
    from bench.training.context import Context


def layers_before(model: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    """For each ReLU the last convolution or linear layer that its input comes from, through norms and additions."""
    instructions = program(model).instructions

    def source(one: Instruction) -> nn.Conv2d | nn.Linear:
        while not isinstance(one.module, nn.Conv2d | nn.Linear):
            one = instructions[one.inputs[0] - 1]
        return one.module

    return [source(instructions[one.inputs[0] - 1]) for one in instructions if one.kind == "relu"]


def own_init(spec: Initialisation, layer: nn.Module) -> Init:
    """What ``default`` means: torch's, but Kaiming by fan-out for convolutions of the small Wide-ResNet."""
    small = spec.network.name == "wide_resnet8" and SHAPES[spec.dataset][0][1] < 64
    if spec.init == "default":
        return "kaiming_fan_out" if small and isinstance(layer, nn.Conv2d) else "torch_default"
    return spec.init


@torch.no_grad()
def train(spec: Initialisation, context: Context) -> Result:
    """Propagates one batch of unaugmented training images through the untrained network.

    Raises:
        UserError: the data are not what the run expects.
    """
    shape, classes = SHAPES[spec.dataset][:2]
    made_up = spec.generated
    data = images.generated(shape, classes, train=made_up, test=1) if made_up else load(spec.dataset, context)
    order = torch.randperm(len(data.train), generator=seeds.generator("certified", spec.dataset, "init", spec.seed))
    mean, std = STATISTICS[spec.dataset]
    chosen = order[: spec.batch]
    pool = Pool.make(
        data.train[chosen], data.train_labels[chosen], mean=mean, std=std, device=context.device, channels_last=False
    )
    model = draw_network(spec, shape, classes).to(context.device).train(spec.mode == "train")
    within = Range.of(spec.dataset, context.device)
    batch, _ = pool.take(torch.arange(len(chosen), device=context.device))
    eps = EPS[spec.dataset]["exact"] if spec.eps is None else spec.eps
    centre, radius = box(batch, eps, within.low, within.high, within.scale)
    clean = batch if spec.mode == "train" else None
    made = propagate(model, centre, radius, clean=clean, keep_relus=True)

    names = ("layer", "kind", "fan_in", "fan_out", "radius", "gain", "formula")
    columns: dict[str, list[Any]] = {name: [] for name in names}

    def add(*values: Any) -> None:
        for name, value in zip(names, values, strict=True):
            columns[name].append(value)

    before = float(radius.mean(dtype=torch.float64))
    first = before
    add(0, "input", 0, 0, before, 0.0, 0.0)
    for number, ((_, spread), layer) in enumerate(zip(made.relus, layers_before(model), strict=True), start=1):
        mean_radius = float(spread.mean(dtype=torch.float64))
        fan_in, fan_out = init.fans(layer.weight)
        kind = "conv" if isinstance(layer, nn.Conv2d) else "linear"
        formula = init.gain(own_init(spec, layer), layer.weight)
        add(number, kind, fan_in, fan_out, mean_radius, mean_radius / before, formula)
        before = mean_radius
    tightness = float(regularizers.tightness(radius, made.relus, 0.5))
    costs = {"samples": float(len(chosen))}
    return Result({"growth": before / first, "tightness": tightness}, {"layers": columns}, costs, {"eps": eps})
