"""A module as a list of instructions that interval bounds can follow, made with ``torch.fx`` and kept for the module."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import fx, nn
from torch.nn import functional as F

from bench.errors import UserError

KNOWN = "Conv2d, Linear, BatchNorm1d/2d, ReLU, Flatten, average pooling and additions"

# Tensor methods that leave every entry as it is.
ARRANGING = ("flatten", "view", "reshape", "squeeze", "contiguous")

Norm = nn.BatchNorm1d | nn.BatchNorm2d
Change = Callable[[torch.Tensor], torch.Tensor]


@dataclass
class Instruction:
    """One operation.

    Attributes:
        kind: conv, linear, norm, relu, each, add or same.
        place: where it stands in the module, for people.
        inputs: indices of the values that it reads; 0 is the module's input, k the result of instruction k - 1.
        module: the layer with the weights.
        norm: BatchNorm that follows a convolution and nothing else does: both are applied as one.
        change: of kind each: averages or arranges entries anew, so centre and radius alike.
        frees: values that are not read afterwards.
    """

    kind: str
    place: str
    inputs: tuple[int, ...]
    module: nn.Module | None = None
    norm: Norm | None = None
    change: Change | None = None
    frees: list[int] = field(default_factory=list)


@dataclass
class Program:
    """Instructions in order; the last one's result is the module's output."""

    instructions: list[Instruction]

    @property
    def norms(self) -> list[tuple[str, Norm]]:
        """BatchNorm layers and their places."""
        found = []
        for one in self.instructions:
            norm = one.norm if one.norm is not None else one.module
            if isinstance(norm, Norm):
                found.append((one.place, norm))
        return found

    def relus(self) -> list[str]:
        """Places of the ReLU layers."""
        return [one.place for one in self.instructions if one.kind == "relu"]


_kept: WeakKeyDictionary[nn.Module, tuple[tuple[int, ...], Program]] = WeakKeyDictionary()


def program(model: nn.Module) -> Program:
    """The module's program; traced once, and again when a submodule was exchanged.

    Raises:
        UserError: a layer whose bounds are not known; names it and its place.
    """
    shape = tuple(id(module) for module in model.modules())
    kept = _kept.get(model)
    if kept is None or kept[0] != shape:
        kept = _kept[model] = (shape, _trace(model))
    return kept[1]


def _trace(model: nn.Module) -> Program:
    # A layer alone is no container that fx can look into.
    alone = not list(model.children()) and type(model).__module__.startswith("torch.nn")
    try:
        graph = fx.symbolic_trace(nn.Sequential(model) if alone else model).graph
    except (fx.proxy.TraceError, TypeError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"{type(model).__name__}: torch.fx cannot trace it ({reason}); bounds need {KNOWN}") from error
    root = nn.Sequential(model) if alone else model
    numbers: dict[fx.Node, int] = {}
    made: list[Instruction] = []
    for node in graph.nodes:
        if node.op == "placeholder":
            if numbers:
                raise UserError(f"{type(model).__name__}: has a second input '{node.name}'; bounds need exactly one")
            numbers[node] = 0
        elif node.op == "output":
            if node.args[0] not in numbers:
                raise UserError(f"{type(model).__name__}: does not return one tensor; bounds need exactly one output")
            if numbers[node.args[0]] != len(made):
                made.append(Instruction("same", "output", (numbers[node.args[0]],)))
        elif not _is_size(node):
            made.append(_instruction(root, node, numbers))
            numbers[node] = len(made)
    return Program(_freed(_fused(made)))


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


def _instruction(root: nn.Module, node: fx.Node, numbers: dict[fx.Node, int]) -> Instruction:
    if "input" in node.kwargs and not node.args:
        node.args = (node.kwargs["input"],)
        node.kwargs = {key: value for key, value in node.kwargs.items() if key != "input"}
    inputs = tuple(numbers[arg] for arg in node.args if isinstance(arg, fx.Node) and arg in numbers)
    if node.op == "call_module":
        place = str(node.target)
        made = _of_module(root.get_submodule(place), place, inputs)
    else:
        made = _of_function(node, inputs)
    if len(inputs) != (2 if made.kind == "add" else 1):
        raise UserError(f"'{node.name}' is {_call(node)} and takes a constant for a value; bounds know {KNOWN}")
    return made


def _of_module(module: nn.Module, place: str, inputs: tuple[int, ...]) -> Instruction:
    if isinstance(module, nn.Conv2d) and module.padding_mode == "zeros":
        return Instruction("conv", place, inputs, module)
    if isinstance(module, nn.Linear):
        return Instruction("linear", place, inputs, module)
    if isinstance(module, Norm):
        return Instruction("norm", place, inputs, module)
    if isinstance(module, nn.ReLU):
        return Instruction("relu", place, inputs)
    if isinstance(module, nn.Flatten | nn.AvgPool2d | nn.AdaptiveAvgPool2d):
        return Instruction("each", place, inputs, change=module)
    if isinstance(module, nn.Identity):
        return Instruction("same", place, inputs)
    raise UserError(f"layer '{place}' is {module}; bounds know {KNOWN}")


def _call(node: fx.Node) -> str:
    """What the node calls, for people."""
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    given = [*map(str, node.args[1:]), *(f"{key}={value}" for key, value in node.kwargs.items())]
    return f"{name}({', '.join(given)})"


def _of_function(node: fx.Node, inputs: tuple[int, ...]) -> Instruction:
    """A function or a tensor method."""
    target: Any = node.target
    method = target if node.op == "call_method" else None
    if target in (F.relu, torch.relu, torch.relu_) or method in ("relu", "relu_"):
        return Instruction("relu", node.name, inputs)
    if (target in (operator.add, operator.iadd, torch.add) or method in ("add", "add_")) and not node.kwargs:
        return Instruction("add", node.name, inputs)
    if change := _change(node, method):
        return Instruction("each", node.name, inputs, change=change)
    raise UserError(f"'{node.name}' is {_call(node)}; bounds know {KNOWN}")


def _change(node: fx.Node, method: str | None) -> Change | None:
    """What an average or a new arrangement of the entries does to each stream alike; ``None`` if it is neither."""
    target: Any = node.target
    args: tuple[Any, ...] = node.args[1:]
    kwargs: dict[str, Any] = node.kwargs
    if target in (F.avg_pool2d, F.adaptive_avg_pool2d):
        return _again(node)
    if (target is torch.mean or method == "mean") and _averages_places(*args, **kwargs):
        return _again(node)
    if target in (torch.flatten, torch.reshape, torch.squeeze) or method in ARRANGING:
        shape = args[0] if len(args) == 1 and isinstance(args[0], tuple | list) else args
        if len(shape) == 2 and _is_batch(shape[0]) and isinstance(shape[1], int):
            return lambda x: x.flatten(1)
        if all(isinstance(value, int) for value in (*shape, *kwargs.values())):
            return _again(node)
    return None


def _again(node: fx.Node) -> Change:
    """The same call on another tensor."""
    target: Any = node.target
    args, kwargs = node.args[1:], dict(node.kwargs)
    if node.op == "call_method":
        return lambda x: getattr(x, target)(*args, **kwargs)
    return lambda x: target(x, *args, **kwargs)


def _averages_places(dim: Any = None, keepdim: bool = False, **others: Any) -> bool:
    """Whether a mean is over height, width or both of [B, C, H, W]."""
    dims = set(dim) if isinstance(dim, tuple | list) else {dim}
    return bool(dims) and dims <= {2, 3, -1, -2} and not others


def _is_batch(value: Any) -> bool:
    """Whether a size is that of the batch: ``x.size(0)``, ``x.size()[0]`` or ``x.shape[0]``."""
    return isinstance(value, fx.Node) and _is_size(value) and value.args[1:] == (0,)


def _fused(made: list[Instruction]) -> list[Instruction]:
    """A BatchNorm that alone reads a convolution joins it, so that its scale can go into the weights."""
    readers: dict[int, int] = {}
    for one in made:
        for source in one.inputs:
            readers[source] = readers.get(source, 0) + 1
    kept: list[Instruction] = []
    new: dict[int, int] = {0: 0}
    for number, one in enumerate(made, start=1):
        before = made[one.inputs[0] - 1] if one.inputs and one.inputs[0] > 0 else None
        if one.kind == "norm" and before is not None and before.kind == "conv" and readers[one.inputs[0]] == 1:
            joined = kept[new[one.inputs[0]] - 1]
            assert isinstance(one.module, Norm)
            joined.norm = one.module
            joined.place = f"{joined.place}, {one.place}"
            new[number] = new[one.inputs[0]]
        elif one.kind == "same" and one.place != "output":
            new[number] = new[one.inputs[0]]
        else:
            one.inputs = tuple(new[source] for source in one.inputs)
            kept.append(one)
            new[number] = len(kept)
    return kept


def _freed(made: list[Instruction]) -> list[Instruction]:
    last: dict[int, int] = {}
    for number, one in enumerate(made):
        for source in one.inputs:
            last[source] = number
    for source, number in last.items():
        made[number].frees.append(source)
    return made
