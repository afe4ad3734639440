"""Interval bounds of networks: centre and radius, BatchNorm from the clean stream, the last layer merged.

An interval is carried as centre c and radius r. A convolution maps them to W c + b and |W| r; ReLU clamps both ends.
BatchNorm scales and shifts by statistics of the unperturbed ("clean") batch in train mode, with their gradient, and by
its running ones in eval mode. After a convolution the scale goes into its weights, so that the centre and the radius need
no pass of their own for it. Source: bench/certified/protocol.md, section a.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.certified import autograd
from bench.certified.graph import Graph, Norm, Operation, graph_of
from bench.errors import UserError


class Streams(NamedTuple):
    """A value: the clean activations (``None`` where nothing needs them), centre and radius of the interval."""

    clean: Tensor | None
    centre: Tensor
    radius: Tensor


@dataclass
class Pass:
    """What one propagation leaves.

    Attributes:
        clean: output for the clean batch, [B, K], or ``None`` when no clean batch was given.
        centre: centre of the output's interval, or of the margins', [B, K] or [B, K - 1].
        radius: its radius.
        relus: centre and radius of the input of each ReLU, in order; empty unless asked for.
    """

    clean: Tensor | None
    centre: Tensor
    radius: Tensor
    relus: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    @property
    def lower(self) -> Tensor:
        return self.centre - self.radius

    @property
    def upper(self) -> Tensor:
        return self.centre + self.radius


def bounds(model: nn.Module, lower: Tensor, upper: Tensor, *, clean: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Interval bounds of a module's output.

    Args:
        model: any module that ``torch.fx`` can trace and that is made of Conv2d, Linear, BatchNorm1d/2d, ReLU, Flatten,
            average pooling and residual additions. In train mode BatchNorm updates its running statistics.
        lower: [B, ...], lower ends of the input.
        upper: upper ends, same shape.
        clean: the unperturbed batch; required in train mode with BatchNorm.

    Returns:
        lower and upper bounds of the output, differentiable.

    Raises:
        UserError: an unknown layer, a lower bound above the upper one, NaN bounds, no clean batch where one is needed,
            or a batch of one in train mode with BatchNorm.
    """
    output = propagate(model, *interval(lower, upper), clean=_checked(model, lower, clean))
    return _finite(model, output, lower, upper, clean)


def margins(model: nn.Module, lower: Tensor, upper: Tensor, labels: Tensor, *, clean: Tensor | None = None) -> Tensor:
    """Lower bounds of the true logit minus each other logit, the last linear layer merged with the differences.

    Args:
        model: see `bounds`; its output is [B, K].
        lower: [B, ...].
        upper: [B, ...].
        labels: int64 [B].
        clean: see `bounds`.

    Returns:
        [B, K - 1], other classes in ascending order; a sample is verified when all are positive.

    Raises:
        UserError: see `bounds`.
    """
    output = propagate(model, *interval(lower, upper), clean=_checked(model, lower, clean), labels=labels)
    return _finite(model, output, lower, upper, clean)[0]


def interval(lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """Centre and radius.

    Raises:
        UserError: shapes differ, or a lower end lies above the upper operation.
    """
    if lower.shape != upper.shape:
        raise UserError(f"lower bounds have shape {tuple(lower.shape)}, upper bounds {tuple(upper.shape)}")
    if bool((lower > upper).any()):
        worst = (lower - upper).max().item()
        raise UserError(f"a lower bound lies {worst:.3g} above its upper bound; give lower <= upper everywhere")
    return (lower + upper) / 2, (upper - lower) / 2


def box(images: Tensor, eps: Tensor | float, low: Tensor, high: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Centre and radius of the perturbed images, clipped to the range of real images.

    Source: bench/certified/protocol.md, section b.


    Args:
        images: normalised, [B, C, H, W].
        eps: radius in pixel units of 0 to 1, not negative; a tensor where a compiled step must not depend on it.
        low: [1, C, 1, 1], the normalised black.
        high: the normalised white.
        scale: [1, C, 1, 1], one over the standard deviation: pixel units to normalised ones.

    Raises:
        UserError: eps is negative.
    """
    if isinstance(eps, float | int) and not eps >= 0:
        raise UserError(f"eps {eps:g} is negative; a radius is 0 or more")
    reach = eps * scale
    bottom, top = torch.maximum(images - reach, low), torch.minimum(images + reach, high)
    centre = (bottom + top) * 0.5
    return centre, top - centre


def uses_batch_statistics(norm: Norm) -> bool:
    return norm.training or norm.running_mean is None


def _checked(model: nn.Module, lower: Tensor, clean: Tensor | None) -> Tensor | None:
    """The clean batch where BatchNorm needs it."""
    places = [place for place, norm in graph_of(model).norms if uses_batch_statistics(norm)]
    if not places:
        return None
    if clean is None:
        raise UserError(
            f"layer '{places[0]}' takes BatchNorm statistics from the unperturbed batch in train mode: "
            "give `clean`, or call model.eval()"
        )
    if len(clean) < 2:
        raise UserError(f"layer '{places[0]}': a batch of {len(clean)} has no statistics; give 2 samples or more")
    if clean.shape[1:] != lower.shape[1:]:
        raise UserError(f"the clean batch has shape {tuple(clean.shape)}, the bounds {tuple(lower.shape)}")
    return clean


def _finite(
    model: nn.Module, output: Pass, lower: Tensor, upper: Tensor, clean: Tensor | None
) -> tuple[Tensor, Tensor]:
    low, high = output.lower, output.upper
    if not bool(torch.isfinite(low).all() & torch.isfinite(high).all()):
        where = first_not_finite(model, (lower + upper) / 2, (upper - lower) / 2, clean=clean)
        raise UserError(f"bounds are not finite, first after {where}")
    return low, high


@torch.no_grad()
def first_not_finite(model: nn.Module, centre: Tensor, radius: Tensor, *, clean: Tensor | None) -> str:
    """The first layer whose bounds are NaN or infinite, for people; running statistics are left aloperation."""
    places: list[str] = []

    def look(operation: Operation, value: Streams) -> None:
        finite = torch.isfinite(value.centre).all() & torch.isfinite(value.radius).all()
        if not places and not bool(finite):
            places.append(f"layer '{operation.place}'")

    if not bool(torch.isfinite(centre).all() & torch.isfinite(radius).all()):
        return "the input"
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    propagate(model, centre, radius, clean=clean, look=look)
    for name, buffer in model.named_buffers():
        buffer.copy_(buffers[name])
    return places[0] if places else "the output"


def propagate(
    model: nn.Module | Graph,
    centre: Tensor,
    radius: Tensor,
    *,
    clean: Tensor | None = None,
    labels: Tensor | None = None,
    keep_relus: bool = False,
    look: Callable[[Operation, Streams], None] | None = None,
) -> Pass:
    """`bounds` and `margins` without their checks, which would wait for a GPU; everything that a step needs at once.

    Args:
        model: see `bounds`; or its graph, for a compiled step, which must not depend on other networks.
        centre: [B, ...].
        radius: [B, ...].
        clean: the unperturbed batch; its output is returned too.
        labels: int64 [B]: the last linear layer gives lower bounds of the margins instead of bounds of the logits.
        keep_relus: return centre and radius of every ReLU's input.
        look: called with each operation and its result.
    """
    graph = model if isinstance(model, Graph) else graph_of(model)
    values: dict[int, Streams] = {0: Streams(clean, centre, radius)}
    relus: list[tuple[Tensor, Tensor]] = []
    last = len(graph.operations)
    for number, operation in enumerate(graph.operations, start=1):
        inputs = [values[source] for source in operation.inputs]
        if operation.kind == "relu" and keep_relus:
            relus.append((inputs[0].centre, inputs[0].radius))
        merged = number == last and labels is not None
        value = _precise_margins(operation, inputs, labels) if merged else _APPLY[operation.kind](operation, *inputs)
        if look is not None:
            look(operation, value)
        values[number] = value
        for source in operation.last_uses:
            del values[source]
    output = values[last]
    return Pass(output.clean, output.centre, output.radius, relus)


def relu_layers(model: nn.Module) -> list[str]:
    """Places of the ReLU layers, in the order of `Pass.relus`."""
    return graph_of(model).relus()


# Layers ---------------------------------------------------------------------------------------------------------------


def _affine(norm: Norm, clean: Tensor | None) -> tuple[Tensor, Tensor]:
    """Scale and shift of a BatchNorm by channel; batch statistics carry their gradient."""
    if uses_batch_statistics(norm):
        assert clean is not None
        dims = [0, *range(2, clean.dim())]
        # Statistics are float32 or better, whatever convolutions are computed in.
        precise = clean.float() if clean.dtype in (torch.bfloat16, torch.float16) else clean
        variance, mean = torch.var_mean(precise, dim=dims, correction=0)
        _update(norm, mean, variance, clean.numel() // clean.shape[1])
    else:
        assert norm.running_mean is not None and norm.running_var is not None
        mean, variance = norm.running_mean, norm.running_var
    scale = torch.rsqrt(variance + norm.eps)
    if norm.affine:
        scale = norm.weight * scale
        return scale, norm.bias - scale * mean
    return scale, -scale * mean


@torch.no_grad()
def _update(norm: Norm, mean: Tensor, variance: Tensor, count: int) -> None:
    """Running statistics as torch keeps them: momentum, unbiased variance."""
    if norm.running_mean is None or norm.running_var is None:
        return
    momentum: Any = norm.momentum
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
        if momentum is None:
            momentum = 1.0 / float(norm.num_batches_tracked)
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), momentum)
    unbiased = variance * (count / max(1, count - 1))
    norm.running_var.lerp_(unbiased.to(norm.running_var.dtype), momentum)


def _shaped(vector: Tensor, like: Tensor) -> Tensor:
    """By channel: [C] to the shape that broadcasts over `like`."""
    return vector.reshape(1, -1, *(1,) * (like.dim() - 2))


def _conv(operation: Operation, x: Streams) -> Streams:
    layer = operation.module
    assert isinstance(layer, nn.Conv2d)
    weight, bias, norm = layer.weight, layer.bias, operation.norm

    def convolve(images: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.conv2d(images, weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups)

    clean = None
    if norm is not None:
        batch = uses_batch_statistics(norm)
        if batch:
            assert x.clean is not None
            clean = convolve(x.clean, weight, bias)
        scale, shift = _affine(norm, clean)
        if clean is not None:
            clean = torch.addcmul(_shaped(shift, clean), clean, _shaped(scale, clean))
        weight = weight * scale.reshape(-1, 1, 1, 1)
        bias = shift if bias is None else torch.addcmul(shift, scale, bias)
    if x.clean is not None and clean is None:
        clean = convolve(x.clean, weight, bias)
    centre = convolve(x.centre, weight, bias)
    return Streams(clean, centre, convolve(x.radius, weight.abs(), None))


def _linear(operation: Operation, x: Streams) -> Streams:
    layer = operation.module
    assert isinstance(layer, nn.Linear)
    # The clean and the centre rows share one product; their numbers may differ (recipes with attacked points).
    rows = x.centre if x.clean is None else torch.cat((x.clean, x.centre))
    out, radius = autograd.linear(rows, x.radius, layer.weight)
    if layer.bias is not None:
        out = out + layer.bias
    if x.clean is None:
        return Streams(None, out, radius)
    return Streams(out[: len(x.clean)], out[len(x.clean) :], radius)


def _norm(operation: Operation, x: Streams) -> Streams:
    assert isinstance(operation.module, Norm)
    scale, shift = _affine(operation.module, x.clean)
    scale, shift = _shaped(scale, x.centre), _shaped(shift, x.centre)
    clean = None if x.clean is None else torch.addcmul(shift, x.clean, scale)
    return Streams(clean, torch.addcmul(shift, x.centre, scale), x.radius * scale.abs())


def _relu(operation: Operation, x: Streams) -> Streams:
    clean = None if x.clean is None else F.relu(x.clean)
    return Streams(clean, *autograd.relu(x.centre, x.radius))


def _each(operation: Operation, x: Streams) -> Streams:
    assert operation.map is not None
    clean = None if x.clean is None else operation.map(x.clean)
    value = Streams(clean, operation.map(x.centre), operation.map(x.radius))
    before, after = tuple(x.centre.shape), tuple(value.centre.shape)
    if after[:1] != before[:1]:
        raise UserError(
            f"'{operation.place}' makes {after} of {before}; bounds are of each sample, by the first dimension"
        )
    return value


def _add(operation: Operation, a: Streams, b: Streams) -> Streams:
    clean = None if a.clean is None or b.clean is None else a.clean + b.clean
    return Streams(clean, a.centre + b.centre, a.radius + b.radius)


def _same(operation: Operation, x: Streams) -> Streams:
    return x


_APPLY: dict[str, Callable[..., Streams]] = {
    "conv": _conv,
    "linear": _linear,
    "norm": _norm,
    "relu": _relu,
    "each": _each,
    "add": _add,
    "same": _same,
}


def others(labels: Tensor, classes: int) -> Tensor:
    """The other classes of each sample in ascending order, int64 [B, K - 1]."""
    index = torch.arange(classes - 1, device=labels.device)
    return index + (index >= labels[:, None])


def _precise_margins(operation: Operation, inputs: list[Streams], labels: Tensor | None) -> Streams:
    """`_margins` in the weights' own precision, also where the layers before were computed in another."""
    with torch.autocast(inputs[0].centre.device.type, enabled=False):
        if isinstance(operation.module, nn.Linear):
            dtype = operation.module.weight.dtype
            inputs = [Streams(*(None if t is None else t.to(dtype) for t in x)) for x in inputs]  # type: ignore[arg-type]
        return _margins(operation, inputs, labels)


def _margins(operation: Operation, inputs: list[Streams], labels: Tensor | None) -> Streams:
    """True minus other logits of the last layer, through the differences of its rows where it is linear."""
    assert labels is not None
    true = labels[:, None]
    if operation.kind != "linear":
        output = _APPLY[operation.kind](operation, *inputs)
        rest = others(labels, output.centre.shape[1])
        centre = output.centre.gather(1, true) - output.centre.gather(1, rest)
        return Streams(output.clean, centre, output.radius.gather(1, true) + output.radius.gather(1, rest))
    layer, x = operation.module, inputs[0]
    assert isinstance(layer, nn.Linear)
    clean = None if x.clean is None else F.linear(x.clean, layer.weight, layer.bias)
    logits = F.linear(x.centre, layer.weight, layer.bias)
    rest = others(labels, layer.out_features)
    centre = logits.gather(1, true) - logits.gather(1, rest)
    rows = layer.weight[labels][:, None, :] - layer.weight[rest]
    radius = torch.einsum("bkf,bf->bk", rows.abs(), x.radius)
    return Streams(clean, centre, radius)
