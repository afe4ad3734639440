"""One network that fills its devices: gradient accumulation, DDP or FSDP2, compiled on a GPU."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from bench.models import neox, pythia
from bench.rewarm import adam, arithmetic
from bench.rewarm.distributed import Ranks
from bench.rewarm.spec import PretrainSpec
from bench.training.context import Context

COMPILE_FROM_STEPS = 300
"""Updates from which compiling on a GPU pays for itself."""
EVALUATION_ROWS = 32_768


class Network(nn.Module):
    """Weights as one flat list of parameters, and the mean loss of a batch as the forward pass."""

    def __init__(self, shape: pythia.Shape, weights: Mapping[str, Tensor], dtype: torch.dtype, device: torch.device):
        super().__init__()
        self.shape, self.dtype = shape, dtype
        self.position = neox.rotary(shape.context, shape.width, shape.heads, device, dtype)
        # A module's parameter must not have dots in its name.
        self.weights = nn.ParameterDict(
            {_key(name): nn.Parameter(tensor.to(device, copy=True)) for name, tensor in weights.items()}
        )

    def named(self) -> dict[str, Tensor]:
        """Weights under their own names in the precision of the arithmetic."""
        return {name.replace("/", "."): weight.to(self.dtype) for name, weight in self.weights.items()}

    def hidden(self, named: Mapping[str, Tensor], tokens: Tensor) -> Tensor:
        return neox.hidden(named, tokens, layers=self.shape.layers, heads=self.shape.heads, position=self.position)

    def forward(self, windows: Tensor) -> Tensor:
        """Mean token loss of (B, T + 1) windows."""
        named = self.named()
        rows = self.hidden(named, windows[:, :-1])
        return neox.head_loss(rows, named["embed_out.weight"], windows[:, 1:].flatten())

    @torch.no_grad()
    def summed_loss(self, windows: Tensor) -> Tensor:
        named = self.named()
        rows = self.hidden(named, windows[:, :-1])
        return neox.summed_loss(rows, named["embed_out.weight"], windows[:, 1:].flatten())


def _key(name: str) -> str:
    return name.replace(".", "/")


class Solo:
    """A network with its optimiser.

    Args:
        spec: the run.
        context: says whether to compile.
        ranks: this process among its peers.
        weights: to begin with.
        moments: optimiser state to begin with, fresh when ``None``.
    """

    def __init__(
        self,
        spec: PretrainSpec,
        context: Context,
        ranks: Ranks,
        weights: Mapping[str, Tensor],
        moments: Mapping[str, Tensor] | None,
    ):
        self.spec, self.ranks, self.device = spec, ranks, ranks.device
        self.network = Network(spec.shape, weights, arithmetic.dtype(spec.precision, self.device), self.device)
        self._sharded = ranks.world > 1 and spec.sharding == "shard"
        if self._sharded:
            from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

            fully_shard(self.network)
            # Evaluation needs whole weights too.
            register_fsdp_forward_method(self.network, "summed_loss")
        if context.compile == "always" or (
            context.compile == "auto" and self.device.type == "cuda" and spec.steps >= COMPILE_FROM_STEPS
        ):
            self.network.hidden = torch.compile(self.network.hidden)  # type: ignore[method-assign]
        self.model: Any = self.network
        if ranks.world > 1 and not self._sharded:
            self.model = nn.parallel.DistributedDataParallel(
                self.network, device_ids=[self.device.index] if self.device.type == "cuda" else None
            )
        self._optimizer = self._make_optimizer()
        if moments is not None:
            self._load(moments)
        self._at_once = spec.micro_batch or spec.batch
        self._evaluated_at_once = max(1, EVALUATION_ROWS // spec.shape.context)
        self.facts: dict[str, Any] = {"arithmetic": str(self.network.dtype).removeprefix("torch.")}
        """For the record: the arithmetic, and the micro-batch where memory forced a smaller one."""

    def _make_optimizer(self) -> torch.optim.AdamW:
        groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
        for name, parameter in self.network.weights.items():
            groups[pythia.decayed(name.replace("/", "."))].append(parameter)
        return torch.optim.AdamW(
            [
                {"params": groups[True], "weight_decay": adam.WEIGHT_DECAY},
                {"params": groups[False], "weight_decay": 0.0},
            ],
            lr=0.0,
            betas=adam.BETAS,
            eps=adam.EPS,
            fused=True,
        )

    def step(self, windows: np.ndarray, rate: float) -> Tensor:
        """One update from this rank's (B / ranks, T + 1) windows; returns the mean loss over all ranks."""
        batch = torch.from_numpy(windows).to(self.device, non_blocking=True)
        total = self._fitting(self._gradients, batch, "_at_once")
        if self.ranks.world > 1:
            dist.all_reduce(total)
            total /= self.ranks.world
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        nn.utils.clip_grad_norm_(self.network.parameters(), adam.CLIP_NORM, foreach=True)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return total

    def _fitting(self, act: Callable[[Tensor], Tensor], windows: Tensor, at_once: str) -> Tensor:
        """Acts on the windows, with half as many at once when the device has too little memory: equal mathematics.

        Several ranks would have to agree on it at every step, so there the error goes through.
        """
        while True:
            try:
                return act(windows)
            except torch.OutOfMemoryError:
                before = min(getattr(self, at_once), len(windows))
                if self.ranks.world > 1 or before <= 1:
                    raise
            # Outside of the handler, whose traceback holds on to activations.
            self._optimizer.zero_grad(set_to_none=True)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            setattr(self, at_once, (before + 1) // 2)
            if at_once == "_at_once":
                self.facts["micro_batch"] = self._at_once
                self.facts["micro_batch_reduced"] = self.facts.get("micro_batch_reduced", 0) + 1

    def _gradients(self, batch: Tensor) -> Tensor:
        """Adds up the gradients of the mean loss over (B / ranks, T + 1) windows; returns that loss."""
        total = torch.zeros((), device=self.device)
        parts = batch.split(min(self._at_once, len(batch)))
        for number, part in enumerate(parts):
            last = number == len(parts) - 1
            alone = contextlib.nullcontext() if last or self.model is self.network else self.model.no_sync()
            with alone:
                loss = self.model(part) * (len(part) / len(batch))
                loss.backward()
            total += loss.detach()
        return total

    @torch.no_grad()
    def summed_losses(self, slots: Sequence[int], windows: Tensor) -> Tensor:
        """Summed token loss of (n, T + 1) windows, (1,) float64; every rank takes its part."""
        del slots  # there is one network
        total = self._fitting(self._summed, windows, "_evaluated_at_once")
        if self.ranks.world > 1:
            dist.all_reduce(total)
        return total

    def _summed(self, windows: Tensor) -> Tensor:
        """The part of this rank."""
        total = torch.zeros(1, dtype=torch.float64, device=self.device)
        mine = windows[self.ranks.rank :: self.ranks.world]
        at_once = self._evaluated_at_once
        passes = math.ceil(math.ceil(len(windows) / self.ranks.world) / at_once)
        for number in range(passes):
            # A rank without windows left still takes part, since sharded weights are gathered by all.
            part = mine[number * at_once : (number + 1) * at_once]
            if len(part) or self._sharded:
                total += self.network.summed_loss(part if len(part) else windows[:1]) * float(len(part) > 0)
        return total

    def state(self) -> dict[str, Any]:
        """Whole weights and moments on the CPU, whatever the number of ranks."""
        if self._sharded:
            self.network.reshard()  # type: ignore[operator]  # evaluation leaves whole weights behind, which the optimiser does not know
        named, moments = {}, {}
        updates = torch.zeros(())
        for key, parameter in self.network.weights.items():
            name = key.replace("/", ".")
            named[name] = _whole(parameter)
            held = self._optimizer.state.get(parameter)
            for kind, entry in (("first", "exp_avg"), ("second", "exp_avg_sq")):
                moments[f"{kind}.{name}"] = torch.zeros_like(named[name]) if not held else _whole(held[entry])
            updates = _whole(held["step"]) if held else updates
        return {"weights": named, "moments": {**moments, "updates": updates}}

    def _load(self, moments: Mapping[str, Tensor]) -> None:
        for key, parameter in self.network.weights.items():
            name = key.replace("/", ".")
            held = {"step": moments["updates"].float().clone().to(self.device)}
            for kind, entry in (("first", "exp_avg"), ("second", "exp_avg_sq")):
                held[entry] = _like(moments[f"{kind}.{name}"], parameter)
            self._optimizer.state[parameter] = held


def _whole(tensor: Tensor) -> Tensor:
    full = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return full.detach().cpu().clone()


def _like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """A copy placed, and where necessary sharded, as the parameter is."""
    if hasattr(parameter, "device_mesh"):
        from torch.distributed.tensor import distribute_tensor

        return distribute_tensor(tensor.to(parameter.device), parameter.device_mesh, parameter.placements)  # type: ignore[attr-defined]
    return tensor.to(parameter.device, copy=True)
