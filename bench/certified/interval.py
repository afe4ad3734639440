"""Interval bounds of networks: centre and radius, BatchNorm from the clean stream, the last layer merged.

An interval is carried as centre c and radius r. A convolution maps them to W c + b and |W| r; ReLU clamps both ends.
BatchNorm scales and shifts by statistics of the unperturbed ("clean") batch in train mode, with their gradient, and by
its running ones in eval mode. After a convolution the scale goes into its weights, so that the centre and the radius need
no pass of their own for it. Source: bench/certified/protocol.md, section a.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

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
    """Interval bounds of a network's output, sound for the function that the network computes in its present state.

    The network is traced at each call. What a new trace computes is compared with the network's own output once.

    Args:
        model: any network that ``torch.fx`` can trace and that is made of Conv2d, Linear, BatchNorm1d/2d, ReLU, Flatten,
            average pooling and residual additions. In train mode BatchNorm updates its running statistics.
        lower: [B, ...], lower ends of the input, in the dtype of the network's weights.
        upper: upper ends, same shape.
        clean: the unperturbed batch; required in train mode with BatchNorm.

    Returns:
        lower and upper bounds of the output, differentiable.

    Raises:
        UserError: a layer that bounds cannot follow; input of another type, dtype or shape; a lower bound above the upper
            one; NaN bounds; no clean batch where one is needed, or a batch of one in train mode with BatchNorm.
    """
    output = _checked_pass(model, lower, upper, clean, None)
    return output.lower, output.upper


def margins(model: nn.Module, lower: Tensor, upper: Tensor, labels: Tensor, *, clean: Tensor | None = None) -> Tensor:
    """Lower bounds of the true logit minus each other logit, the last linear layer merged with the differences.

    Args:
        model: see `bounds`; its output is [B, K].
        lower: [B, ...].
        upper: [B, ...].
        labels: int64 [B], from 0 to K - 1.
        clean: see `bounds`.

    Returns:
        [B, K - 1], other classes in ascending order; a sample is verified when all are positive.

    Raises:
        UserError: see `bounds`.
    """
    return _checked_pass(model, lower, upper, clean, labels).lower


def _checked_pass(model: nn.Module, lower: Tensor, upper: Tensor, clean: Tensor | None, labels: Tensor | None) -> Pass:
    centre, radius = interval(lower, upper)
    graph = graph_of(model)
    _check_fits(model, lower)
    clean = _needed_clean(graph, lower, clean)
    shape = _compared(model, graph, centre if clean is None else clean, clean)
    if labels is not None:
        _check_labels(labels, lower, shape)
    output = propagate(graph, centre, radius, clean=clean, labels=labels)
    if not bool(torch.isfinite(output.lower).all() & torch.isfinite(output.upper).all()):
        where = first_not_finite(model, centre, radius, clean=clean)
        raise UserError(f"bounds are not finite, first after {where}")
    return output


# Checks of input ------------------------------------------------------------------------------------------------------


def interval(lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """Centre and radius.

    Raises:
        UserError: the ends are no floating-point tensors of one shape and dtype, or a lower end lies above the upper one.
    """
    _check_real("lower bounds", lower)
    _check_real("upper bounds", upper)
    for name in ("shape", "dtype", "device"):
        ends = [getattr(end, name) for end in (lower, upper)]
        if ends[0] != ends[1]:
            below, above = (tuple(end) if name == "shape" else end for end in ends)
            raise UserError(f"lower bounds have {name} {below}, upper bounds {above}; give both alike")
    if bool((lower > upper).any()):
        worst = (lower - upper).max().item()
        raise UserError(f"a lower bound lies {worst:.3g} above its upper bound; give lower <= upper everywhere")
    return (lower + upper) / 2, (upper - lower) / 2


def _check_real(what: str, tensor: Any) -> None:
    """Integers would wrap around at 0 and 255, and carry no radius below 1.

    Raises:
        UserError: it is no tensor, or not of floating-point numbers.
    """
    if not isinstance(tensor, Tensor):
        raise UserError(f"{what} are {type(tensor).__module__}.{type(tensor).__name__}; give torch tensors")
    if not tensor.is_floating_point():
        raise UserError(f"{what} are {tensor.dtype}; give floating-point numbers, images scaled as in training")


def _check_fits(model: nn.Module, lower: Tensor) -> None:
    """A rounded box would be another box, so that nothing is converted.

    Raises:
        UserError: the network has another dtype, or is elsewhere.
    """
    for name, weight in model.named_parameters():
        if weight.is_floating_point() and weight.dtype != lower.dtype:
            raise UserError(
                f"bounds are {lower.dtype}, weight '{name}' is {weight.dtype}; convert the box or the network"
            )
        if weight.device != lower.device:
            raise UserError(f"bounds are on {lower.device}, weight '{name}' is on {weight.device}; move one of them")


def _check_labels(labels: Any, lower: Tensor, shape: torch.Size) -> None:
    """Labels are int64 [B] of classes that the output has.

    Raises:
        UserError: they are not.
    """
    if len(shape) != 2:
        raise UserError(f"the network's output has shape {tuple(shape)}; margins need [B, K]")
    if not isinstance(labels, Tensor) or labels.dtype != torch.int64:
        kind = labels.dtype if isinstance(labels, Tensor) else type(labels).__name__
        raise UserError(f"labels are {kind}; give a tensor of torch.int64")
    if labels.shape != lower.shape[:1] or labels.device != lower.device:
        raise UserError(
            f"labels have shape {tuple(labels.shape)} on {labels.device}; give {tuple(lower.shape[:1])} on {lower.device}"
        )
    if bool(((labels < 0) | (labels >= shape[1])).any()):
        low, high = int(labels.min()), int(labels.max())
        raise UserError(f"labels go from {low} to {high}; the network has {shape[1]} classes, 0 to {shape[1] - 1}")


def _needed_clean(graph: Graph, lower: Tensor, clean: Tensor | None) -> Tensor | None:
    """The clean batch where BatchNorm needs it."""
    names = [name for name, norm in graph.norms if uses_batch_statistics(norm)]
    if not names:
        return None
    if clean is None:
        raise UserError(
            f"layer '{names[0]}' takes BatchNorm statistics from the unperturbed batch in train mode: "
            "give `clean`, or call model.eval()"
        )
    _check_real("images of the clean batch", clean)
    if len(clean) < 2:
        raise UserError(f"layer '{names[0]}': a batch of {len(clean)} has no statistics; give 2 samples or more")
    if (clean.shape[1:], clean.dtype, clean.device) != (lower.shape[1:], lower.dtype, lower.device):
        raise UserError(
            f"the clean batch is {tuple(clean.shape)}, {clean.dtype} on {clean.device}; "
            f"the bounds are {tuple(lower.shape)}, {lower.dtype} on {lower.device}"
        )
    return clean


# Comparison with the network itself -----------------------------------------------------------------------------------

_COMPARED: WeakKeyDictionary[nn.Module, dict[tuple[Any, ...], torch.Size]] = WeakKeyDictionary()
"""Network -> trace and kind of input that were compared with it -> shape of the output."""


def _compared(model: nn.Module, graph: Graph, x: Tensor, clean: Tensor | None) -> torch.Size:
    """Compares bounds of radius 0 around `x` with the network's own output, once for each trace.

    Returns:
        the shape of the output for a batch of the size of `x`.

    Raises:
        UserError: they differ, or the network does not take this input; names the first layer that differs.
    """
    key = (graph.signature, x.shape, x.dtype)
    known = _COMPARED.setdefault(model, {})
    if key not in known:
        output, close = _agrees(model, graph, x, clean)
        if not close and x.dtype != torch.float64:
            # What differs by rounding alone agrees in float64.
            precise = copy.deepcopy(model).double()
            _, close = _agrees(precise, graph_of(precise), x.double(), None if clean is None else clean.double())
        if not close:
            where = _first_difference(model, graph, x, clean)
            raise UserError(f"{type(model).__name__}: computes something else than its trace, first in {where}")
        known[key] = output.shape
    return known[key]


def _agrees(model: nn.Module, graph: Graph, x: Tensor, clean: Tensor | None) -> tuple[Tensor, bool]:
    """The network's output, and whether bounds of radius 0 are equal to it."""
    with _state_kept(model):
        try:
            output = model(x.clone())
        except Exception as error:  # whatever the network raises for input that it does not take
            reason = str(error).partition("\n")[0]
            raise UserError(
                f"{type(model).__name__} does not take input of shape {tuple(x.shape)}: {reason}"
            ) from error
    with _state_kept(model):
        bound = propagate(graph, x, torch.zeros_like(x), clean=clean)
    streams = [bound.centre, *([] if bound.clean is None else [bound.clean])]
    return output, all(_close(stream, output) for stream in streams)


def _close(stream: Tensor, output: Tensor) -> bool:
    """Equal but for rounding; both may be NaN, which is told of elsewhere."""
    scale = output.abs().nan_to_num(0, 0).max() if output.numel() else 0
    tolerance = float(torch.finfo(output.dtype).eps ** 0.5 * scale)
    return stream.shape == output.shape and torch.allclose(stream, output, rtol=0, atol=tolerance, equal_nan=True)


@contextlib.contextmanager
def _state_kept(model: nn.Module) -> Iterator[None]:
    """Without gradients; afterwards buffers and the random generator are as before."""
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            yield
    finally:
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                buffer.copy_(buffers[name])


def _first_difference(model: nn.Module, graph: Graph, x: Tensor, clean: Tensor | None) -> str:
    """The first layer whose result differs between the network and its trace, for people."""
    outputs: dict[int, list[Tensor]] = {}
    names: list[str] = []

    def note(module: nn.Module, _: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            outputs.setdefault(id(module), []).append(output.clone())

    def look(operation: Operation, value: Streams) -> None:
        module = operation.norm or operation.module
        expected = outputs.get(id(module), [])
        if not names and module is not None and (not expected or not _close(value.centre, expected.pop(0))):
            names.append(f"layer '{operation.name}'")

    hooks = [module.register_forward_hook(note) for module in model.modules()]
    with _state_kept(model):
        model(x.clone())
    for hook in hooks:
        hook.remove()
    with _state_kept(model):
        propagate(graph, x, torch.zeros_like(x), clean=clean, look=look)
    return names[0] if names else "what lies between its layers"


# Propagation ----------------------------------------------------------------------------------------------------------


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
        UserError: eps is negative, or images are not of floating-point numbers.
    """
    _check_real("images", images)
    if isinstance(eps, float | int) and not eps >= 0:
        raise UserError(f"eps {eps:g} is negative; a radius is 0 or more")
    reach = eps * scale
    bottom, top = torch.maximum(images - reach, low), torch.minimum(images + reach, high)
    centre = (bottom + top) * 0.5
    return centre, top - centre


def uses_batch_statistics(norm: Norm) -> bool:
    return norm.training or norm.running_mean is None


def first_not_finite(model: nn.Module, centre: Tensor, radius: Tensor, *, clean: Tensor | None) -> str:
    """The first layer whose bounds are NaN or infinite, for people; running statistics are left aloperation."""
    names: list[str] = []

    def look(operation: Operation, value: Streams) -> None:
        finite = torch.isfinite(value.centre).all() & torch.isfinite(value.radius).all()
        if not names and not bool(finite):
            names.append(f"layer '{operation.name}'")

    if not bool(torch.isfinite(centre).all() & torch.isfinite(radius).all()):
        return "the input"
    with _state_kept(model):
        propagate(model, centre, radius, clean=clean, look=look)
    return names[0] if names else "the output"


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
    # A parametrised weight may be another at each look.
    weight, bias = layer.weight, layer.bias
    # The clean and the centre rows share one product; their numbers may differ (recipes with attacked points).
    rows = x.centre if x.clean is None else torch.cat((x.clean, x.centre))
    out, radius = autograd.linear(rows, x.radius, weight)
    if bias is not None:
        out = out + bias
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


def _mapped(operation: Operation, x: Streams) -> Streams:
    assert operation.map is not None
    clean = None if x.clean is None else operation.map(x.clean)
    value = Streams(clean, operation.map(x.centre), operation.map(x.radius))
    before, after = tuple(x.centre.shape), tuple(value.centre.shape)
    if after[:1] != before[:1]:
        raise UserError(
            f"'{operation.name}' makes {after} of {before}; bounds are of each sample, by the first dimension"
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
    "average": _mapped,
    "view": _mapped,
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
    weight, bias = layer.weight, layer.bias
    clean = None if x.clean is None else F.linear(x.clean, weight, bias)
    logits = F.linear(x.centre, weight, bias)
    rest = others(labels, len(weight))
    centre = logits.gather(1, true) - logits.gather(1, rest)
    rows = weight[labels][:, None, :] - weight[rest]
    radius = torch.einsum("bkf,bf->bk", rows.abs(), x.radius)
    return Streams(clean, centre, radius)
