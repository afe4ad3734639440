"""A module as a list of operations that interval bounds can follow, traced with ``torch.fx`` and cached."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import fx, nn
from torch.nn import functional as F

from bench.errors import UserError

KNOWN = "Conv2d, Linear, BatchNorm1d/2d, ReLU, Flatten, average pooling and additions"

# Tensor methods that keep the value of every entry.
ARRANGING = ("flatten", "view", "reshape", "squeeze", "contiguous")

Norm = nn.BatchNorm1d | nn.BatchNorm2d
TensorMap = Callable[[torch.Tensor], torch.Tensor]


@dataclass
class Operation:
    """One operation.

    Attributes:
        kind: conv, linear, norm, relu, each, add or same.
        place: its name in the module, for people.
        inputs: indices of the values that it reads; 0 is the module's input, k the result of operation k - 1.
        module: the layer with the weights.
        norm: BatchNorm that alone reads a convolution: both are applied as one.
        map: of kind each: averages or rearranges entries, centre and radius alike.
        last_uses: values that no later operation reads.
    """

    kind: str
    place: str
    inputs: tuple[int, ...]
    module: nn.Module | None = None
    norm: Norm | None = None
    map: TensorMap | None = None
    last_uses: list[int] = field(default_factory=list)


@dataclass
class Graph:
    """Operations in order; the last one's result is the module's output."""

    operations: list[Operation]

    @property
    def norms(self) -> list[tuple[str, Norm]]:
        """BatchNorm layers and their places."""
        pairs = ((operation.place, operation.norm or operation.module) for operation in self.operations)
        return [(place, norm) for place, norm in pairs if isinstance(norm, Norm)]

    def relus(self) -> list[str]:
        """Places of the ReLU layers."""
        return [operation.place for operation in self.operations if operation.kind == "relu"]


_CACHE: WeakKeyDictionary[nn.Module, tuple[tuple[int, ...], Graph]] = WeakKeyDictionary()


def graph_of(model: nn.Module) -> Graph:
    """The module's graph; traced once, and again when a submodule was exchanged.

    Raises:
        UserError: a layer whose bounds are not known; names it and its place.
    """
    modules = tuple(id(module) for module in model.modules())
    cached = _CACHE.get(model)
    if cached is None or cached[0] != modules:
        cached = _CACHE[model] = (modules, _trace(model))
    return cached[1]


def _trace(model: nn.Module) -> Graph:
    # A layer alone is no container that fx can look into.
    alone = not list(model.children()) and type(model).__module__.startswith("torch.nn")
    try:
        graph = fx.symbolic_trace(nn.Sequential(model) if alone else model).graph
    except (fx.proxy.TraceError, TypeError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"{type(model).__name__}: torch.fx cannot trace it ({reason}); bounds need {KNOWN}") from error
    root = nn.Sequential(model) if alone else model
    numbers: dict[fx.Node, int] = {}
    operations: list[Operation] = []
    for node in graph.nodes:
        if node.op == "placeholder":
            if numbers:
                raise UserError(f"{type(model).__name__}: has a second input '{node.name}'; bounds need exactly one")
            numbers[node] = 0
        elif node.op == "output":
            if node.args[0] not in numbers:
                raise UserError(f"{type(model).__name__}: does not return one tensor; bounds need exactly one output")
            if numbers[node.args[0]] != len(operations):
                operations.append(Operation("same", "output", (numbers[node.args[0]],)))
        elif not _is_size(node):
            operations.append(_operation(root, node, numbers))
            numbers[node] = len(operations)
    return Graph(_with_last_uses(_with_norms_merged(operations)))


def _is_size(node: fx.Node) -> bool:
    """Sizes that a view is given; the flattening itself is recognised where it happens."""
    if node.op == "call_method" and node.target == "size":
        return True
    if node.op == "call_function" and node.target is getattr:
        return node.args[1] == "shape"
    source = node.args[0] if node.args else None
    return (
        node.op == "call_function"
        and node.target is operator.getitem
        and isinstance(source, fx.Node)
        and _is_size(source)
    )


def _operation(root: nn.Module, node: fx.Node, numbers: dict[fx.Node, int]) -> Operation:
    if "input" in node.kwargs and not node.args:
        node.args = (node.kwargs["input"],)
        node.kwargs = {key: value for key, value in node.kwargs.items() if key != "input"}
    inputs = tuple(numbers[arg] for arg in node.args if isinstance(arg, fx.Node) and arg in numbers)
    if node.op == "call_module":
        place = str(node.target)
        operation = _of_module(root.get_submodule(place), place, inputs)
    else:
        operation = _of_function(node, inputs)
    if len(inputs) != (2 if operation.kind == "add" else 1):
        raise UserError(f"'{node.name}' is {_call(node)} and takes a constant for a value; bounds know {KNOWN}")
    return operation


def _of_module(module: nn.Module, place: str, inputs: tuple[int, ...]) -> Operation:
    if isinstance(module, nn.Conv2d) and module.padding_mode == "zeros":
        return Operation("conv", place, inputs, module)
    if isinstance(module, nn.Linear):
        return Operation("linear", place, inputs, module)
    if isinstance(module, Norm):
        return Operation("norm", place, inputs, module)
    if isinstance(module, nn.ReLU):
        return Operation("relu", place, inputs)
    if isinstance(module, nn.Flatten | nn.AvgPool2d | nn.AdaptiveAvgPool2d):
        return Operation("each", place, inputs, map=module)
    if isinstance(module, nn.Identity):
        return Operation("same", place, inputs)
    raise UserError(f"layer '{place}' is {module}; bounds know {KNOWN}")


def _call(node: fx.Node) -> str:
    """What the node calls, for people."""
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    arguments = [*map(str, node.args[1:]), *(f"{key}={value}" for key, value in node.kwargs.items())]
    return f"{name}({', '.join(arguments)})"


def _of_function(node: fx.Node, inputs: tuple[int, ...]) -> Operation:
    """A function or a tensor method."""
    target: Any = node.target
    method = target if node.op == "call_method" else None
    if target in (F.relu, torch.relu, torch.relu_) or method in ("relu", "relu_"):
        return Operation("relu", node.name, inputs)
    if (target in (operator.add, operator.iadd, torch.add) or method in ("add", "add_")) and not node.kwargs:
        return Operation("add", node.name, inputs)
    if mapping := _map(node, method):
        return Operation("each", node.name, inputs, map=mapping)
    raise UserError(f"'{node.name}' is {_call(node)}; bounds know {KNOWN}")


def _map(node: fx.Node, method: str | None) -> TensorMap | None:
    """What an average or a rearrangement of entries does to each stream alike; ``None`` if it is neither."""
    target: Any = node.target
    args: tuple[Any, ...] = node.args[1:]
    kwargs: dict[str, Any] = node.kwargs
    if target in (F.avg_pool2d, F.adaptive_avg_pool2d):
        return _same_call(node)
    if (target is torch.mean or method == "mean") and _averages_positions(*args, **kwargs):
        return _same_call(node)
    if target in (torch.flatten, torch.reshape, torch.squeeze) or method in ARRANGING:
        shape = args[0] if len(args) == 1 and isinstance(args[0], tuple | list) else args
        if len(shape) == 2 and _is_batch(shape[0]) and isinstance(shape[1], int):
            return lambda x: x.flatten(1)
        if all(isinstance(value, int) for value in (*shape, *kwargs.values())):
            return _same_call(node)
    return None


def _same_call(node: fx.Node) -> TensorMap:
    """The same call on another tensor."""
    target: Any = node.target
    args, kwargs = node.args[1:], dict(node.kwargs)
    if node.op == "call_method":
        return lambda x: getattr(x, target)(*args, **kwargs)
    return lambda x: target(x, *args, **kwargs)


def _averages_positions(dim: Any = None, keepdim: bool = False, **others: Any) -> bool:
    """Whether a mean is over height, width or both of [B, C, H, W]."""
    dims = set(dim) if isinstance(dim, tuple | list) else {dim}
    return bool(dims) and dims <= {2, 3, -1, -2} and not others


def _is_batch(value: Any) -> bool:
    """Whether a size is that of the batch: ``x.size(0)``, ``x.size()[0]`` or ``x.shape[0]``."""
    return isinstance(value, fx.Node) and _is_size(value) and value.args[1:] == (0,)


def _with_norms_merged(operations: list[Operation]) -> list[Operation]:
    """A BatchNorm that alone reads a convolution joins it, so that its scale can go into the weights."""
    readers = Counter(source for operation in operations for source in operation.inputs)
    remaining: list[Operation] = []
    renumbered: dict[int, int] = {0: 0}
    for number, operation in enumerate(operations, start=1):
        source = operation.inputs[0]
        before = operations[source - 1] if source > 0 else None
        if operation.kind == "norm" and before is not None and before.kind == "conv" and readers[source] == 1:
            conv = remaining[renumbered[source] - 1]
            assert isinstance(operation.module, Norm)
            conv.norm = operation.module
            conv.place = f"{conv.place}, {operation.place}"
            renumbered[number] = renumbered[source]
        elif operation.kind == "same" and operation.place != "output":
            renumbered[number] = renumbered[source]
        else:
            operation.inputs = tuple(renumbered[index] for index in operation.inputs)
            remaining.append(operation)
            renumbered[number] = len(remaining)
    return remaining


def _with_last_uses(operations: list[Operation]) -> list[Operation]:
    last = {source: number for number, operation in enumerate(operations) for source in operation.inputs}
    for source, number in last.items():
        operations[number].last_uses.append(source)
    return operations
