"""A network as a list of operations that interval bounds can follow, traced with ``torch.fx``.

The list must compute what the network computes. A tensor that an operation changes in place therefore has another value
for all later readers, and what a trace cannot see, such as the hooks of a layer, is an error that names the layer. Nothing
is cached: ``forward`` may decide by anything that has changed since the last trace.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F
from torch.nn.modules import module as torch_module
from torch.nn.utils import parametrize

from bench.errors import UserError

KNOWN = "Conv2d, Linear, BatchNorm1d/2d, ReLU, Flatten, average pooling and additions"

VIEWS = ("flatten", "view", "reshape", "squeeze", "contiguous")
"""Tensor methods that keep the value of every entry; their results may share memory with their input."""

Norm = nn.BatchNorm1d | nn.BatchNorm2d
TensorMap = Callable[[torch.Tensor], torch.Tensor]


@dataclass
class Operation:
    """One operation.

    Attributes:
        kind: conv, linear, norm, relu, average, view, add or same.
        name: its name in the network, for people.
        inputs: indices of the values that it reads; 0 is the network's input, k the result of operation k - 1.
        module: the layer with the weights.
        norm: BatchNorm that alone reads a convolution: both are applied as one.
        map: of the kinds average and view: what they do to centre and radius alike.
        last_uses: values that no later operation reads.
    """

    kind: str
    name: str
    inputs: tuple[int, ...]
    module: nn.Module | None = None
    norm: Norm | None = None
    map: TensorMap | None = None
    last_uses: list[int] = field(default_factory=list)


@dataclass
class Graph:
    """Operations in order; the last one's result is the network's output.

    Attributes:
        operations: see `Operation`.
        signature: equal for traces of one network that are equal.
    """

    operations: list[Operation]
    signature: str = ""

    @property
    def norms(self) -> list[tuple[str, Norm]]:
        """BatchNorm layers and their names."""
        pairs = ((operation.name, operation.norm or operation.module) for operation in self.operations)
        return [(name, norm) for name, norm in pairs if isinstance(norm, Norm)]

    def relus(self) -> list[str]:
        """Names of the ReLU layers."""
        return [operation.name for operation in self.operations if operation.kind == "relu"]


def graph_of(model: nn.Module) -> Graph:
    """Traces the network in its present state.

    Raises:
        UserError: a layer whose bounds are not known, or that a trace does not see as it is; names it.
    """
    model = getattr(model, "_orig_mod", model)  # what torch.compile was given
    tracer = _Tracer()
    # A layer alone is no container that fx can look into.
    root = nn.Sequential(model) if tracer.is_leaf_module(model, "") else model
    name = type(model).__name__
    scripted = [path for path, module in root.named_modules() if isinstance(module, torch.jit.ScriptModule)]
    if scripted:
        raise UserError(
            f"{name}: layer '{scripted[0]}' is scripted, which hides what it does; give the original module"
        )
    if hidden := _hidden(root):
        raise UserError(f"{name}: has {hidden}, which bounds cannot follow; remove it")
    try:
        traced = tracer.trace(root)
    except Exception as error:  # whatever the network's own code raises when it meets a proxy
        reason = str(error).partition("\n")[0]
        raise UserError(f"{name}: torch.fx cannot trace it ({reason}); bounds need {KNOWN}") from error
    operations = _Reader(root, name).read(traced)
    modules = " ".join(f"{id(module)} {module.training}" for module in root.modules())
    return Graph(_with_last_uses(_with_norms_merged(operations)), f"{traced} {modules}")


class _Proxy(fx.Proxy):
    """Records ``x += y`` as the change in place that it is; fx would record ``x = x + y``."""


def _in_place_operator(name: str) -> Callable[[_Proxy, Any], fx.Proxy]:
    def change(self: _Proxy, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", getattr(operator, name), (self, other), {})

    return change


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor"):
    setattr(_Proxy, f"__i{_name}__", _in_place_operator(f"i{_name}"))


class _Tracer(fx.Tracer):
    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if any(m is module for module in self.root.modules()):
            return super().call_module(m, forward, args, kwargs)
        return forward(*args, **kwargs)  # made inside forward: it has no name, but a function that can be traced


def _hidden(module: nn.Module) -> str:
    """What happens at a call of a module that a trace of its class does not see, or an empty text."""
    if torch_module._global_forward_hooks or torch_module._global_forward_pre_hooks:
        return "a global forward hook"
    if module._forward_hooks or module._forward_pre_hooks:
        return "a forward hook"
    if "forward" in vars(module):
        return "a forward function that was exchanged"
    return "" if type(module).__call__ is nn.Module.__call__ else "a __call__ of its own"


# Reading a trace ------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class _Tensor:
    """A tensor of the traced network.

    Attributes:
        value: index of the value that it has now.
        memory: tensors with an equal number may share their memory.
        changed_by: operation that may have changed it through another tensor of that memory.
    """

    value: int
    memory: int
    changed_by: str = ""


class _Reader:
    """Turns the nodes of a trace into operations, and follows what changes in place."""

    def __init__(self, root: nn.Module, name: str):
        self.root, self.name = root, name
        self.tensors: dict[fx.Node, _Tensor] = {}
        self.operations: list[Operation] = []

    def read(self, traced: fx.Graph) -> list[Operation]:
        for node in traced.nodes:
            if node.op == "placeholder":
                if self.tensors:
                    raise UserError(f"{self.name}: has a second input '{node.name}'; bounds need exactly one")
                self.tensors[node] = _Tensor(0, 0)
            elif node.op == "output":
                self._read_output(node)
            elif node.op != "get_attr" and not _is_size(node):
                self._read_operation(node)
        return self.operations

    def _read_output(self, node: fx.Node) -> None:
        result = node.args[0]
        if not isinstance(result, fx.Node) or result not in self.tensors:
            raise UserError(f"{self.name}: does not return one tensor; bounds need exactly one output")
        value = self._value(node, result)
        if value != len(self.operations):
            self.operations.append(Operation("same", "output", (value,)))

    def _value(self, reader: fx.Node, node: fx.Node) -> int:
        """Index of the value that a node's tensor has when `reader` reads it."""
        tensor = self.tensors[node]
        if tensor.changed_by:
            raise UserError(
                f"'{reader.name}' reads '{node.name}', which '{tensor.changed_by}' may have changed in place through "
                "memory that they share; bounds cannot follow that: change nothing in place there"
            )
        return tensor.value

    def _read_operation(self, node: fx.Node) -> None:
        if "input" in node.kwargs and not node.args:
            node.args = (node.kwargs["input"],)
            node.kwargs = {key: value for key, value in node.kwargs.items() if key != "input"}
        module = self.root.get_submodule(str(node.target)) if node.op == "call_module" else None
        if module is not None and (hidden := _hidden(module)):
            raise UserError(f"layer '{node.target}' has {hidden}, which bounds cannot follow; remove it")
        operation = _of_function(node) if module is None else _of_module(module, str(node.target))
        sources = [arg for arg in node.args[: 2 if operation.kind == "add" else 1] if isinstance(arg, fx.Node)]
        read = {source for source in node.all_input_nodes if source in self.tensors}
        if len(sources) != (2 if operation.kind == "add" else 1) or set(sources) != read:
            raise UserError(f"'{node.name}' is {_call(node)} and takes a constant for a value; bounds know {KNOWN}")
        first = self.tensors[sources[0]]
        operation.inputs = tuple(self._value(node, source) for source in sources)
        if operation.kind == "same":
            self.tensors[node] = first
            return
        self.operations.append(operation)
        result = len(self.operations)
        if _in_place(node, module):
            for tensor in set(self.tensors.values()):
                if tensor.memory == first.memory and tensor is not first:
                    tensor.changed_by = operation.name
            first.value = result
            self.tensors[node] = first
        else:
            self.tensors[node] = _Tensor(result, first.memory if operation.kind == "view" else result)


def _in_place(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether an operation that bounds know changes its first input."""
    if module is not None:
        return bool(getattr(module, "inplace", False))
    if node.op == "call_method":
        return str(node.target).endswith("_")
    if node.target is F.relu:
        return bool(node.kwargs.get("inplace", node.args[1] if len(node.args) > 1 else False))
    return node.target in (torch.relu_, operator.iadd)


def _of_module(module: nn.Module, name: str) -> Operation:
    # The type itself: a subclass may compute something else. A parametrised layer has a type of its own.
    kind: type = parametrize.type_before_parametrizations(module)
    if isinstance(module, nn.Conv2d) and kind is nn.Conv2d and module.padding_mode == "zeros":
        return Operation("conv", name, (), module)
    if kind is nn.Linear:
        return Operation("linear", name, (), module)
    if kind in (nn.BatchNorm1d, nn.BatchNorm2d):
        return Operation("norm", name, (), module)
    if kind is nn.ReLU:
        return Operation("relu", name, ())
    if kind is nn.Flatten:
        return Operation("view", name, (), map=module)
    if kind is nn.AdaptiveAvgPool2d or (isinstance(module, nn.AvgPool2d) and _divides(module.divisor_override)):
        return Operation("average", name, (), map=module)
    if kind is nn.Identity:
        return Operation("same", name, ())
    raise UserError(f"layer '{name}' is {module}; bounds know {KNOWN}".replace("\n", " "))


def _divides(divisor: Any) -> bool:
    """Whether an average with this divisor has no negative weights."""
    return divisor is None or divisor > 0


def _of_function(node: fx.Node) -> Operation:
    """A function or a tensor method."""
    target: Any = node.target
    args: Any = node.args[1:]
    kwargs: Any = node.kwargs
    method = target if node.op == "call_method" else None
    if target in (F.relu, torch.relu, torch.relu_) or method in ("relu", "relu_"):
        return Operation("relu", node.name, ())
    adds = target in (operator.add, operator.iadd, torch.add) or method in ("add", "add_")
    if adds and not kwargs and len(args) == 1:
        return Operation("add", node.name, ())
    if target in (F.avg_pool2d, F.adaptive_avg_pool2d):
        divisor = kwargs.get("divisor_override", args[5] if len(args) > 5 else None)
        if _divides(divisor) and _sizes_known(node):
            return Operation("average", node.name, (), map=_same_call(node))
    if (target is torch.mean or method == "mean") and _averages_positions(*args, **kwargs):
        return Operation("average", node.name, (), map=_same_call(node))
    if target in (torch.flatten, torch.reshape, torch.squeeze) or method in VIEWS:
        sizes = [size for argument in (*args, *kwargs.values()) for size in _entries(argument)]
        if all(isinstance(size, int | fx.Node) for size in sizes) and _sizes_known(node):
            return Operation("view", node.name, (), map=_same_call(node))
    if not _sizes_known(node):
        raise UserError(
            f"'{node.name}' is {_call(node)}, with a size of another tensor; bounds know sizes of its own input"
        )
    raise UserError(f"'{node.name}' is {_call(node)}; bounds know {KNOWN}")


def _entries(argument: Any) -> tuple[Any, ...]:
    return tuple(argument) if isinstance(argument, tuple | list) else (argument,)


def _call(node: fx.Node) -> str:
    """What the node calls, for people."""
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    arguments = [*map(str, node.args[1:]), *(f"{key}={value}" for key, value in node.kwargs.items())]
    return f"{name}({', '.join(arguments)})"


def _averages_positions(dim: Any = None, keepdim: bool = False, **others: Any) -> bool:
    """Whether a mean is over height, width or both of [B, C, H, W]."""
    dims = set(_entries(dim))
    return dims <= {2, 3, -1, -2} and not others


# Order ----------------------------------------------------------------------------------------------------------------


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
            conv.name = f"{conv.name}, {operation.name}"
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


# Sizes of tensors as arguments ----------------------------------------------------------------------------------------


def _is_size(node: fx.Node) -> bool:
    """Whether a node is a size of a tensor, or arithmetic on sizes."""
    if node.op == "call_method":
        return node.target == "size"
    if node.op != "call_function":
        return False
    if node.target is getattr:
        return node.args[1] == "shape"
    return (
        getattr(node.target, "__module__", "") == "_operator"
        and bool(node.all_input_nodes)
        and all(_is_size(source) for source in node.all_input_nodes)
    )


def _is_shape(node: fx.Node) -> bool:
    """Whether a node is all sizes of a tensor: ``x.size()`` or ``x.shape``."""
    return node.target is getattr or (node.target == "size" and len(node.args) == 1 and not node.kwargs)


def _is_batch(node: fx.Node) -> bool:
    """Whether a size is the number of samples: ``x.size(0)``, ``x.size()[0]`` or ``x.shape[0]``."""
    if node.args[1:] != (0,):
        return False
    source = node.args[0]
    return node.target == "size" or (
        node.target is operator.getitem and isinstance(source, fx.Node) and _is_shape(source)
    )


def _sized(node: fx.Node) -> Iterator[fx.Node]:
    """Tensors of which a size, other than the number of samples, is taken."""
    if node.target == "size" or node.target is getattr:
        if not _is_batch(node):
            yield from node.all_input_nodes
    elif not _is_batch(node):
        for source in node.all_input_nodes:
            yield from _sized(source)


def _sizes_known(node: fx.Node) -> bool:
    """Whether sizes among the arguments are those of the tensor itself, or numbers of samples, alike for all tensors."""
    sizes = [source for source in node.all_input_nodes if _is_size(source)]
    return all(tensor is node.args[0] for size in sizes for tensor in _sized(size))


def _size(node: fx.Node, x: torch.Tensor) -> Any:
    """A size among the arguments of an operation, for another input of that operation."""
    target: Any = node.target
    args: Any = node.args
    if target == "size":
        return x.size(*args[1:], **node.kwargs)  # type: ignore[arg-type]
    if target is getattr:
        return x.shape
    return target(*fx.map_arg(args, lambda source: _size(source, x)))


def _same_call(node: fx.Node) -> TensorMap:
    """The same call for another tensor."""
    target: Any = node.target
    if node.op == "call_method":
        # Centre and radius may be laid out in memory otherwise than the network's tensor, which could be viewed.
        target = getattr(torch.Tensor, "reshape" if target == "view" else target)
    arguments: Any = node.args[1:], node.kwargs

    def call(x: torch.Tensor) -> torch.Tensor:
        args, kwargs = (fx.map_arg(part, lambda source: _size(source, x)) for part in arguments)
        return target(x, *args, **kwargs)

    return call
