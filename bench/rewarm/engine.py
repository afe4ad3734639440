"""One network with its optimiser: steps, evaluation, saving and loading; on several devices by DDP or FSDP2."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from bench.models import neox, pythia
from bench.rewarm.spec import Optimizer, PretrainSpec
from bench.training.context import Context
from bench.training.distributed import Ranks
from bench.training.precision import compute_dtype
from bench.training.samples import to_device
from bench.training.step import can_compile, compiled

COMPILE_FROM_STEPS = 300
"""Updates from which compiling on a GPU pays for itself."""
EVALUATION_ROWS_GPU = 32_768
"""Tokens of one evaluation pass on a GPU."""
EVALUATION_ELEMENTS_CPU = 300_000
"""Elements of the widest activation, tokens x 4 D, of one evaluation pass that stay in a core's cache, by measurement."""

State = dict[str, dict[str, Tensor]]
"""``weights``: name -> weight; ``moments``: ``exp_avg.NAME`` and so on -> state of the optimiser. All on the CPU."""


class Network(nn.Module):
    """A GPT-NeoX whose forward pass is the mean loss of a batch.

    Args:
        shape: of the network.
        weights: name -> initial weight.
        dtype: of the activations; the weights keep theirs.
        device: of everything.
    """

    def __init__(self, shape: pythia.Shape, weights: Mapping[str, Tensor], dtype: torch.dtype, device: torch.device):
        super().__init__()
        self.shape, self.dtype = shape, dtype
        self.position = neox.rotary(shape.context, shape.width, shape.heads, device, dtype)
        # A module's parameter must not have dots in its name; pairs keep their order, which a dictionary's items would not.
        self.weights = nn.ParameterDict(
            [(name.replace(".", "/"), nn.Parameter(tensor.to(device, copy=True))) for name, tensor in weights.items()]
        )

    def named(self) -> dict[str, nn.Parameter]:
        """Parameters under the names of the public checkpoints."""
        return {name.replace("/", "."): parameter for name, parameter in self.weights.items()}

    def cast(self) -> dict[str, Tensor]:
        """Weights as the forward pass uses them."""
        return {name: parameter.to(self.dtype) for name, parameter in self.named().items()}

    def hidden(self, weights: Mapping[str, Tensor], tokens: Tensor) -> Tensor:
        """Rows (B T, D) that the unembedding reads, from (B, T) tokens."""
        return neox.hidden(weights, tokens, layers=self.shape.layers, heads=self.shape.heads, position=self.position)

    def forward(self, windows: Tensor) -> Tensor:
        """Mean token loss of (B, T + 1) windows, nats."""
        weights = self.cast()
        rows = self.hidden(weights, windows[:, :-1])
        return neox.head_loss(rows, weights["embed_out.weight"], windows[:, 1:].flatten())

    @torch.no_grad()
    def summed_loss(self, windows: Tensor) -> Tensor:
        """Sum of the token losses of (B, T + 1) windows, nats, float64."""
        weights = self.cast()
        rows = self.hidden(weights, windows[:, :-1])
        return neox.summed_loss(rows, weights["embed_out.weight"], windows[:, 1:].flatten())


def make_optimizer(network: Network, settings: Optimizer) -> torch.optim.Optimizer:
    """AdamW without decay on LayerNorms and biases, as GPT-NeoX has it; the learning rate is set at every step."""
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, parameter in network.named().items():
        groups[pythia.decayed(name)].append(parameter)
    return torch.optim.AdamW(
        [
            {"params": groups[True], "weight_decay": settings.weight_decay},
            {"params": groups[False], "weight_decay": 0.0},
        ],
        lr=0.0,
        betas=settings.betas,
        eps=settings.eps,
        fused=True,
    )


def equal_parts(share: int, most: int) -> int:
    """Sequences at once, up to `most`, so that a step has parts of one size: each size is compiled by itself.

    Where only much smaller parts would do, as for a prime share, the last part is smaller.
    """
    largest = max(size for size in range(1, min(most, share) + 1) if share % size == 0)
    return largest if 4 * largest >= min(most, share) else most


class Engine:
    """A network and its optimiser on this process's device.

    Args:
        spec: the run.
        context: says whether to compile.
        ranks: this process and how many there are.
        weights: to begin with.
        moments: state of the optimiser to begin with; ``None`` for a fresh one.
    """

    def __init__(
        self,
        spec: PretrainSpec,
        context: Context,
        ranks: Ranks,
        weights: Mapping[str, Tensor],
        moments: Mapping[str, Tensor] | None = None,
    ):
        self.spec, self.ranks, self.device = spec, ranks, ranks.device
        self.network = Network(spec.shape, weights, compute_dtype(spec.precision, self.device), self.device)
        self._sharded = ranks.world > 1 and spec.sharding == "shard"
        if self._sharded:
            from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

            fully_shard(self.network)
            # Evaluation needs whole weights too.
            register_fsdp_forward_method(self.network, "summed_loss")
        pays = self.device.type == "cuda" and spec.steps >= COMPILE_FROM_STEPS and can_compile()
        if context.compile == "always" or (context.compile == "auto" and pays):
            self._compile()
        self._model: Any = self.network
        if ranks.world > 1 and not self._sharded:
            self._model = nn.parallel.DistributedDataParallel(
                self.network, device_ids=[self.device.index] if self.device.type == "cuda" else None
            )
        self._optimizer = make_optimizer(self.network, spec.optimizer)
        self._load(moments or {})
        share = spec.batch // ranks.world
        self._micro_batch = equal_parts(share, spec.micro_batch or share)
        tokens = EVALUATION_ELEMENTS_CPU // (4 * spec.shape.width)
        if self.device.type == "cuda":
            tokens = EVALUATION_ROWS_GPU
        self._evaluated_at_once = max(1, tokens // spec.shape.context)
        self.facts: dict[str, Any] = {"arithmetic": str(self.network.dtype).removeprefix("torch.")}
        """For the record: the arithmetic, and the micro-batch where memory forced a smaller one."""

    def _compile(self) -> None:
        """Compiles the hidden layers for full micro-batches and full evaluation passes; what is left over runs eagerly."""
        eager, fast = self.network.hidden, compiled(self.network.hidden)

        def hidden(weights: Mapping[str, Tensor], tokens: Tensor) -> Tensor:
            full = len(tokens) in (self._micro_batch, self._evaluated_at_once)
            return (fast if full else eager)(weights, tokens)

        self.network.hidden = hidden  # type: ignore[method-assign]

    def step(self, windows: np.ndarray, rate: float) -> Tensor:
        """One update.

        Args:
            windows: this rank's part of the batch, (B / ranks, T + 1) int64.
            rate: learning rate.

        Returns:
            Mean token loss over all ranks before the update, nats, on the device and not waited for.
        """
        batch = to_device(torch.from_numpy(windows), self.device)
        loss = self._fitting(self._gradients, batch, "_micro_batch")
        if self.ranks.world > 1:
            dist.all_reduce(loss)
            loss /= self.ranks.world
        self._clip()
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return loss

    def _gradients(self, batch: Tensor) -> Tensor:
        """Adds up the gradients of the mean loss over (B / ranks, T + 1) windows; returns that loss."""
        losses = []
        parts = batch.split(min(self._micro_batch, len(batch)))
        for number, part in enumerate(parts, start=1):
            # DDP exchanges gradients once, in the last part.
            waits = number < len(parts) and self._model is not self.network
            with self._model.no_sync() if waits else contextlib.nullcontext():
                loss = self._model(part) * (len(part) / len(batch))
                loss.backward()
            losses.append(loss.detach())
        return sum(losses[1:], losses[0])

    @torch.no_grad()
    def _clip(self) -> None:
        """Scales the gradients so that their joint norm is at most the specification's."""
        gradients = [parameter.grad for group in self._optimizer.param_groups for parameter in group["params"]]
        local: list[Tensor] = [part.to_local() if hasattr(part, "to_local") else part for part in gradients]
        norm = torch.linalg.vector_norm(torch.cat([part.flatten() for part in local]))
        if self._sharded:
            squared = norm.square()
            dist.all_reduce(squared)
            norm = squared.sqrt()
        torch._foreach_div_(local, (norm / self.spec.optimizer.clip_norm).clamp_min(1.0))

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
            if at_once == "_micro_batch":
                self.facts["micro_batch"] = self._micro_batch
                self.facts["micro_batch_reduced"] = self.facts.get("micro_batch_reduced", 0) + 1

    @torch.no_grad()
    def summed_loss(self, windows: Tensor) -> float:
        """Sum of the token losses of (n, T + 1) windows, nats; every rank takes its part."""
        total = self._fitting(self._summed, windows, "_evaluated_at_once")
        if self.ranks.world > 1:
            dist.all_reduce(total)
        return float(total)

    def _summed(self, windows: Tensor) -> Tensor:
        """The part of this rank."""
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        mine = windows[self.ranks.rank :: self.ranks.world]
        at_once = self._evaluated_at_once
        passes = math.ceil(math.ceil(len(windows) / self.ranks.world) / at_once)
        for number in range(passes):
            part = mine[number * at_once : (number + 1) * at_once]
            if len(part):
                total += self.network.summed_loss(part)
            elif self._sharded:  # all ranks take part in gathering the weights
                self.network.summed_loss(windows[:1])
        return total

    def state(self) -> State:
        """Copies of the whole weights and of the optimiser's state, whatever the number of ranks."""
        if self._sharded:
            # Evaluation leaves whole weights behind, which the optimiser does not know.
            self.network.reshard()  # type: ignore[operator]
        weights, moments = {}, {}
        for name, parameter in self.network.named().items():
            weights[name] = _whole(parameter)
            for entry, value in self._optimizer.state.get(parameter, {}).items():
                moments[f"{entry}.{name}"] = _whole(value)
        return {"weights": weights, "moments": moments}

    def _load(self, moments: Mapping[str, Tensor]) -> None:
        parameters = self.network.named()
        for key in sorted(moments):  # the same order on all ranks: dividing a tensor takes all of them
            entry, _, name = key.partition(".")
            parameter = parameters[name]
            self._optimizer.state[parameter][entry] = _placed(moments[key], parameter)


def _whole(tensor: Tensor) -> Tensor:
    full = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return full.detach().cpu().clone()


def _placed(value: Tensor, parameter: nn.Parameter) -> Tensor:
    """A copy on the parameter's device, and divided as the parameter is where it has the parameter's shape."""
    if hasattr(parameter, "device_mesh") and value.shape == parameter.shape:
        from torch.distributed.tensor import distribute_tensor

        return distribute_tensor(value.to(parameter.device), parameter.device_mesh, parameter.placements)  # type: ignore[attr-defined]
    return value.to(parameter.device, copy=True)
