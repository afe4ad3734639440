"""auto_LiRPA: the patches that its release 0.3 needs, and the interface that the suite uses.

Release 0.3, the last that pip installs by name, was written for torch before 1.13; four patches let it run on torch 2.11
and newer. Later releases (0.7 and newer) need none of them and have the same interface
(bench/certified/protocol.md, section e). The patches go when 0.3 is no longer supported.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import types
import warnings
from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib import metadata
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bench.certified.interval import others
from bench.errors import UserError
from bench.training import memory

PATCHED_BELOW = (0, 4)
"""Releases below this one are patched."""


def _release() -> tuple[int, ...]:
    text = metadata.version("auto-LiRPA").split("+")[0]
    return tuple(int(part) for part in text.split(".")[:2])


def _before_import() -> None:
    """Restores names of numpy and torch that 0.3 expects."""
    if "numpy.lib.arraysetops" not in sys.modules:
        import numpy

        # numpy 2 has no numpy.lib.arraysetops.
        stub = types.ModuleType("numpy.lib.arraysetops")
        stub.isin = numpy.isin  # type: ignore[attr-defined]
        sys.modules["numpy.lib.arraysetops"] = stub
    # `from torch.onnx import symbolic_helper` gives another module object, on which these would have no effect.
    helper: Any = importlib.import_module("torch.onnx.symbolic_helper")
    names: Any = importlib.import_module("torch.onnx._internal.torchscript_exporter._globals")
    if not hasattr(helper, "_set_opset_version"):
        helper._set_opset_version = lambda version: setattr(names.GLOBALS, "export_onnx_opset_version", version)
    node: Any = torch._C.Node
    if not hasattr(node, "__getitem__"):
        # Attributes of a traced node were read as node[key] before torch 2.
        node.__getitem__ = lambda self, key: helper._node_get(self, key)


def _after_import(package: Any) -> None:
    """torch calls `_named_members` with `remove_duplicate`, which the override of 0.3 does not take."""
    module: Any = package.BoundedModule
    override = module._named_members
    if "remove_duplicate" in override.__code__.co_varnames:
        return

    def named_members(self: Any, *arguments: Any, remove_duplicate: bool = True, **options: Any) -> Any:
        return override(self, *arguments, **options)

    module._named_members = named_members


@lru_cache(maxsize=1)
def load() -> Any:
    """The package ``auto_LiRPA``, patched where its release needs it.

    Raises:
        UserError: it is not installed.
    """
    try:
        release = _release()
    except metadata.PackageNotFoundError:
        raise UserError("auto-LiRPA is not installed; make env installs it, see `python -m bench doctor`") from None
    # The package traces with TorchScript, whose old fuser fails on recent GPUs.
    torch._C._jit_override_can_fuse_on_gpu(False)
    # Recorded, not ignored: at its import the package sets filters of its own.
    with warnings.catch_warnings(record=True):
        if release < PATCHED_BELOW:
            _before_import()
        package = importlib.import_module("auto_LiRPA")
        if release < PATCHED_BELOW:
            _after_import(package)
    return package


def version() -> str:
    return metadata.version("auto-LiRPA")


def state() -> str:
    """For `doctor`: the version, whether it is patched, and that a bound was computed.

    Raises:
        RuntimeError: the bound of a small network is not what it has to be.
    """
    load()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3)).eval()
        x = torch.rand(2, 1, 4, 4)
    (lower,) = Bounded(model, x).margins(x, x - 0.1, x + 0.1, torch.tensor([0, 1]), ["crown_ibp"])
    with torch.no_grad():
        logits = model(x)
        true = torch.stack([logits[0, 0] - logits[0, 1:], logits[1, 1] - logits[1, [0, 2]]])
    if not bool((lower <= true).all()):
        raise RuntimeError("its bound of a small network is not a lower bound")
    return f"{version()}, {'patched for this torch' if _release() < PATCHED_BELOW else 'as released'}"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hides what it prints and warns of while it traces, none of which concerns the caller."""
    with open(os.devnull, "w", encoding="utf-8") as sink, contextlib.redirect_stdout(sink), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


NAMES = {"ibp": "IBP", "crown_ibp": "CROWN-IBP", "crown": "CROWN", "alpha_crown": "CROWN-Optimized"}
"""Bound -> its name in the package."""


@contextlib.contextmanager
def _default(dtype: torch.dtype) -> Iterator[None]:
    """Makes `dtype` the default of new tensors, which optimised slopes are created with."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _grouped(model: nn.Module) -> bool:
    return any(isinstance(layer, nn.Conv2d) and layer.groups > 1 for layer in model.modules())


class Bounded:
    """A network as auto_LiRPA's BoundedModule: parameters are shared with it, BatchNorm's buffers are copied.

    Args:
        model: on its device and in its dtype.
        example: images, of which shape, device and dtype count.
        iterations: of alpha-CROWN.
    """

    def __init__(self, model: nn.Module, example: Tensor, *, iterations: int = 20):
        self.package = load()
        self.model = model
        training = model.training
        # Building runs the network once, which must not move its running statistics.
        model.eval()
        options = {
            # Patches of grouped convolutions are mistaken for those of plain ones.
            "conv_mode": "matrix" if _grouped(model) else "patches",
            # Release 0.3 mixes up the shapes of sparse optimised slopes.
            "sparse_features_alpha": False,
            "sparse_spec_alpha": False,
            "optimize_bound_args": {"iteration": iterations, "lr_alpha": 0.1},
        }
        with _quiet():
            dummy = torch.zeros(2, *example.shape[1:], device=example.device, dtype=example.dtype)
            self.module = self.package.BoundedModule(model, dummy, bound_opts=options, device=str(example.device))
        self.train(training)

    def train(self, training: bool = True) -> None:
        """Sets the mode of both; for evaluation the bounded module gets the network's running statistics."""
        self.model.train(training)
        if training:
            self.module.train()
        else:
            self.module.eval()
            self.load_buffers()

    def _buffers(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Pairs of running statistics: the bounded module's and the network's."""
        buffers = dict(self.model.named_buffers())
        for node in self.module.modules():
            name = getattr(node, "ori_name", None)
            if name in buffers and hasattr(node, "buffer"):
                yield node.buffer, buffers[name]

    @torch.no_grad()
    def load_buffers(self) -> None:
        for bounded, original in self._buffers():
            bounded.copy_(original)

    @torch.no_grad()
    def store_buffers(self) -> None:
        """Copies the running statistics that steps in the bounded module have moved to the network."""
        for bounded, original in self._buffers():
            original.copy_(bounded)

    def _input(self, x: Tensor, lower: Tensor, upper: Tensor) -> Any:
        perturbation = self.package.PerturbationLpNorm(norm=float("inf"), eps=0.0, x_L=lower, x_U=upper)
        return self.package.BoundedTensor(x, perturbation)

    def margins(
        self, x: Tensor, lower: Tensor, upper: Tensor, labels: Tensor, methods: Sequence[str] = ("ibp",)
    ) -> list[Tensor]:
        """Lower bounds of the true logit minus each other, other classes ascending, [B, K - 1] for each method.

        Args:
            x: images, whose clean pass gives BatchNorm's statistics in train mode.
            lower: [B, C, H, W].
            upper: same shape.
            labels: int64 [B].
            methods: keys of `NAMES`.
        """
        bounded = self._input(x, lower, upper)
        with _quiet(), _default(x.dtype):
            logits = self.module(bounded)
            matrix = difference_matrix(labels, logits.shape[1], logits.dtype)
            margins = []
            for method in methods:
                low, _ = self.module.compute_bounds(
                    x=(bounded,), C=matrix, method=NAMES[method], bound_upper=method == "ibp"
                )
                margins.append(low)
        return margins

    def mixed_margins(
        self, x: Tensor, lower: Tensor, upper: Tensor, labels: Tensor, crown_share: float
    ) -> tuple[Tensor, Tensor, list[tuple[Tensor, Tensor]]]:
        """Bounds of CROWN-IBP training in one pass: (1 - share) IBP + share CROWN-IBP.

        Source: bench/certified/protocol.md, section a.

        Returns:
            clean logits [B, K], margins [B, K - 1], and lower and upper bounds of each ReLU's input.
        """
        logits, matrix, low, _, relus = self._interval_margins(x, lower, upper, labels)
        if crown_share > 0:
            rows = rows_at_once(x, sum(end[0].numel() for end, _ in relus))
            low = (1 - crown_share) * low + crown_share * self._backward(matrix, rows)
        return logits, low, relus

    def mixed_losses(
        self, x: Tensor, lower: Tensor, upper: Tensor, labels: Tensor, crown_share: float
    ) -> tuple[Tensor, Tensor, Tensor, list[tuple[Tensor, Tensor]]]:
        """Upper bounds of the loss itself (loss fusion), which need one backward bound instead of K - 1.

        The loss is log sum_j exp(-m_j) with the margins m_j, and m_y = 0. With m_j between a_j and b_j by IBP, the chord of
        the exponential bounds the sum by a linear function of the margins, sum_j exp(-b_j) + k_j (b_j - m_j), and
        CROWN-IBP bounds sum_j k_j m_j from below. The two bounds of the sum are mixed as those of the margins are.

        Source: bench/certified/protocol.md, section a.

        Returns:
            clean logits [B, K], losses [B], margins by IBP [B, K - 1], and lower and upper bounds of each ReLU's input.
        """
        logits, matrix, low, high, relus = self._interval_margins(x, lower, upper, labels)
        # The largest exponent is taken out of the sum, which overflows otherwise.
        largest = (-low).max(1, keepdim=True).values.clamp(min=0).detach()
        top, bottom, rest = torch.exp(-low - largest), torch.exp(-high - largest), torch.exp(-largest[:, 0])
        total = rest + top.sum(1)
        if crown_share > 0:
            # (top - bottom) / width, without its cancellation in narrow intervals.
            width = (high - low).clamp(min=torch.finfo(low.dtype).tiny)
            slope = top * -torch.expm1(-width) / width
            sums = self._backward(slope[:, None, :] @ matrix, rows=1)[:, 0]
            crown = rest + (bottom + slope * high).sum(1) - sums
            total = (1 - crown_share) * total + crown_share * crown
        # Rounding must not take the bound below what the sum is at least.
        losses = torch.log(torch.maximum(total, rest + bottom.sum(1))) + largest[:, 0]
        return logits, losses, low, relus

    def _interval_margins(
        self, x: Tensor, lower: Tensor, upper: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, list[tuple[Tensor, Tensor]]]:
        """Clean logits, matrix of differences, lower and upper margins by IBP, and bounds of each ReLU's input."""
        logits = self.module(self._input(x, lower, upper))
        matrix = difference_matrix(labels, logits.shape[1], logits.dtype)
        low, high = self.module.compute_bounds(x=None, IBP=True, C=matrix, method=None)
        nodes = [node.inputs[0] for node in self.module.modules() if type(node).__name__ == "BoundRelu"]
        return logits, matrix, low, high, [(node.lower, node.upper) for node in nodes]

    def release(self) -> None:
        """Drops the bounds and coefficients of the last pass, which the nodes keep alive until the next one."""
        self.module._clear_and_set_new(None)
        for node in self.module.modules():
            node.__dict__.pop("lA", None)
            node.__dict__.pop("uA", None)

    def _backward(self, matrix: Tensor, rows: int) -> Tensor:
        """Backward bounds from the interval pass's intermediate ones, at most `rows` rows of the matrix at once.

        Parts are computed again in the backward pass, so that only one part's coefficients are in memory.
        """

        def part_of(part: Tensor) -> Tensor:
            return self.module.compute_bounds(IBP=False, C=part, method="backward", bound_upper=False)[0]

        if matrix.shape[1] <= rows:
            return part_of(matrix)
        return torch.cat([checkpoint(part_of, part, use_reentrant=False) for part in matrix.split(rows, dim=1)], dim=1)


ROOM = 2e9
"""Bytes for the coefficients of backward bounds on a CPU."""
COPIES = 4
"""Copies of a row's coefficients that live between the forward and the backward pass, about."""


def rows_at_once(images: Tensor, neurons: int) -> int:
    """Rows of a margin matrix whose backward bounds fit into memory with their gradients; all unless classes are many."""
    each = COPIES * len(images) * neurons * images.element_size()
    return max(1, int(memory.room(images.device, ROOM) / each))


def difference_matrix(labels: Tensor, classes: int, dtype: torch.dtype) -> Tensor:
    """[B, K - 1, K]: rows e_y - e_j for the other classes j in ascending order."""
    eye = torch.eye(classes, dtype=dtype, device=labels.device)
    return eye[labels][:, None, :] - eye[others(labels, classes)]
