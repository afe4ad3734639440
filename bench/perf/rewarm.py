"""Tokens per second of pre-training against a plain loop on ``transformers``, and of tokenizing against ``datasets``.

The peer of the step is GPTNeoXForCausalLM, eager, with AdamW (foreach), gradient clipping and the same data; a second one
is the same under `torch.compile`. All start from the same weights: in float32 the first losses agree. On a CPU the tiny
shape is measured; on a GPU the Pythia shapes of 14M, 70M and 410M parameters in bfloat16.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench import seeds
from bench.models import pythia
from bench.paths import Layout
from bench.perf import peaks, profile
from bench.perf.measure import in_turns, rate
from bench.rewarm.engine import Engine
from bench.rewarm.spec import PAPERS_TEXT, Optimizer, PretrainSpec, Schedule
from bench.training.context import Context
from bench.training.distributed import Ranks
from bench.training.precision import Precision

TINY = "cpu-tiny"
BATCH = 8
LR = 1e-3
LOSSES = 20
TOLERANCE = 1e-4
"""Of the first losses, relative, in float32."""
ON_GPU = {"14m": 64, "70m": 64, "410m": 32}
"""Shape -> sequences of a step."""


class Trained(Protocol):
    """A way of taking training steps."""

    def step(self, windows: np.ndarray) -> Tensor:
        """One update from (B, T + 1) tokens; the mean loss in nats, detached."""


class Ours:
    """The suite's engine, with one network."""

    def __init__(self, name: str, batch: int, device: torch.device, precision: str):
        compiled: Literal["always", "never"] = "always" if device.type == "cuda" else "never"
        context = Context(key="perf", label="perf", layout=Layout.of("perf"), device=device, compile=compiled)
        spec = PretrainSpec.model_validate(
            {
                "seed": 0,
                "model": name,
                "corpora": PAPERS_TEXT,
                "schedule": Schedule(max_lr=LR),
                "batch": batch,
                "precision": precision,
            }
        )
        self.engine = Engine(spec, context, Ranks(0, 1, device), initial(spec.shape))

    def step(self, windows: np.ndarray) -> Tensor:
        return self.engine.step(windows, LR)


class Plain:
    """What one writes on ``transformers``."""

    def __init__(self, shape: pythia.Shape, device: torch.device, *, compiled: bool = False, half: bool = False):
        self.network = pythia.reference(shape, initial(shape)).to(device).train()
        self.model: Callable[..., Any] = torch.compile(self.network) if compiled else self.network
        self.device, self.half = device, half
        settings = Optimizer()
        self.clip_norm = settings.clip_norm
        groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
        for name, parameter in self.network.named_parameters():
            groups[pythia.decayed(name)].append(parameter)
        self.optimizer = torch.optim.AdamW(
            [
                {"params": groups[True], "weight_decay": settings.weight_decay},
                {"params": groups[False], "weight_decay": 0.0},
            ],
            lr=LR,
            betas=settings.betas,
            eps=settings.eps,
            foreach=True,
        )

    def step(self, windows: np.ndarray) -> Tensor:
        tokens = torch.from_numpy(windows).to(self.device)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.half):
            logits = self.model(input_ids=tokens[:, :-1]).logits
            loss = F.cross_entropy(logits.float().flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), self.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.detach()


def initial(shape: pythia.Shape) -> dict[str, Tensor]:
    """The weights that all start from."""
    return pythia.initial_weights(shape, seeds.generator("perf", "rewarm", "weights"))


class Turns:
    """Turns of one way on random tokens, the same for each way, after one step that is not timed; keeps the losses."""

    def __init__(self, way: Trained, shape: pythia.Shape, batch: int, steps: int, device: torch.device):
        self.way, self.steps, self.device = way, steps, device
        self.size = (batch, shape.context + 1)
        self.vocabulary, self.tokens = shape.vocabulary, batch * shape.context
        self.number = 0
        self.losses: list[float] = []

    def __call__(self) -> float:
        windows = []
        for _ in range(1 + self.steps):
            generator = seeds.generator("perf", "rewarm", self.number)
            windows.append(torch.randint(0, self.vocabulary, self.size, generator=generator).numpy())
            self.number += 1
        found = [self.way.step(windows[0])]

        def work() -> float:
            found.extend(self.way.step(one) for one in windows[1:])
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            return self.steps * self.tokens

        speed = rate(work)
        self.losses += [float(loss) for loss in found]
        return speed


def compared(
    ours: Mapping[str, Turns], peer: Turns, shape: pythia.Shape, *, turns: int, most: Mapping[Precision, float]
) -> Iterator[dict[str, Any]]:
    """One row for each variant of ours; of those in float32 the losses of the first steps must agree with the peer's.

    Args:
        ours, peer: one turn of each.
        shape: of all networks.
        turns: of each.
        most: arithmetic that a variant's name begins with -> FLOP/s at most.

    Raises:
        AssertionError: they do not.
    """
    for way in (*ours.values(), peer):
        way()  # compiles, and warms up
    for (variant, way), timing in zip(ours.items(), in_turns(list(ours.values()), peer, turns=turns), strict=True):
        pairs = list(zip(way.losses, peer.losses, strict=True))[:LOSSES]
        worst = max(abs(a - b) / b for a, b in pairs)
        kind: Precision = "float32" if variant.startswith("float32") else "bf16"
        if kind == "float32":
            assert worst < TOLERANCE, f"{variant}: losses differ by {worst:.2g} (relative)"
        yield {
            "path": "rewarm/step",
            "variant": variant,
            "unit": "tokens/s",
            **timing.row(),
            "share": shape.flops_per_token() * timing.ours / most[kind],
            "note": f"first {len(pairs)} losses within {worst:.1g}",
        }


PEERS = {"": False, ", against torch.compile": True}
"""What a variant's name ends with -> whether the peer is compiled."""


def on_cpu(turns: int) -> Iterator[dict[str, Any]]:
    device, shape, steps = torch.device("cpu"), pythia.shape(TINY), 5
    most = peaks.by_precision(device)
    for suffix, compiled in PEERS.items():
        ours = {kind + suffix: Turns(Ours(TINY, BATCH, device, kind), shape, BATCH, steps, device) for kind in most}
        peer = Turns(Plain(shape, device, compiled=compiled), shape, BATCH, steps, device)
        for row in compared(ours, peer, shape, turns=turns, most=most):
            if not compiled:
                row["note"] += f"; {profile.remark(ours[row['variant']])}"
            yield row


def on_gpu(device: torch.device, turns: int) -> Iterator[dict[str, Any]]:
    most: dict[Precision, float] = {"bf16": peaks.arithmetic(device, torch.bfloat16)}
    for name, batch in ON_GPU.items():
        shape = pythia.shape(name)
        for suffix, compiled in PEERS.items():
            ours = Turns(Ours(name, batch, device, "bf16"), shape, batch, 5, device)
            peer = Turns(Plain(shape, device, compiled=compiled, half=True), shape, batch, 5, device)
            yield from compared({f"bf16, {name}{suffix}": ours}, peer, shape, turns=turns, most=most)
            del ours, peer
            torch.cuda.empty_cache()


def rows(
    *, turns: int = 3, device: torch.device | None = None, tell: Callable[[str], None] = lambda text: None
) -> Iterator[dict[str, Any]]:
    """Yields the rows of this path: path, variant, unit, ours, peer, ratio, spread, share, note.

    Args:
        turns: alternations of ours with the peer.
        device: where both compute; the CPU when not given.
        tell: gets a line when something long begins.

    Raises:
        AssertionError: a float32 step does not have the peer's losses.
    """
    device = device or torch.device("cpu")
    tell("pre-training step")
    yield from on_cpu(turns) if device.type == "cpu" else on_gpu(device, turns)
    tell("tokenizing")
    from bench.perf import tokenizing

    yield tokenizing.row(turns=turns)
