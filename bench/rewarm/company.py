"""Several small networks trained at once: weights stacked by network, one batched product for each layer.

What a network computes does not depend on who else is there, bit for bit on a CPU: batched products, row-wise
kernels and one optimiser call for each network's own row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.optim.adamw import adamw

from bench.models import neox, pythia
from bench.rewarm import adam, arithmetic

CACHE_ELEMENTS = 300_000
"""Elements of the widest activation (rows x 4 D) of all networks that still fit a core's cache, by measurement."""
WIDTH_GPU = 48
EVALUATION_ROWS_GPU = 8192
"""Rows of one network in one evaluation pass."""


class Company:
    """Networks of one shape, each with AdamW of its own; a slot is a network's place.

    Args:
        shape: of every network.
        device: where they are.
        precision: "float32" or "bf16"; weights and moments stay float32.
    """

    def __init__(self, shape: pythia.Shape, device: torch.device, precision: str):
        self.shape, self.device = shape, device
        self.dtype = arithmetic.dtype(precision, device)
        sizes = pythia.layout(shape)
        # Weights with decay first, so that each kind is one stretch of a network's row.
        self.names = sorted(sizes, key=lambda name: not pythia.decayed(name))
        self._sizes = [sizes[name] for name in self.names]
        self._counts = [torch.Size(size).numel() for size in self._sizes]
        self._decayed = sum(count for name, count in zip(self.names, self._counts, strict=True) if pythia.decayed(name))
        self._position = neox.rotary(shape.context, shape.width, shape.heads, device, self.dtype)
        self._rows = torch.empty(3, 0, sum(self._counts), device=device)  # weights, first and second moments
        self._updates: list[Tensor] = []
        self._arrange()

    @staticmethod
    def width(shape: pythia.Shape, batch: int, device: torch.device) -> int:
        """How many networks to train at once: as many as the cache holds on a CPU, many on a GPU."""
        if device.type == "cuda":
            return WIDTH_GPU
        return max(1, round(CACHE_ELEMENTS / (batch * shape.context * 4 * shape.width)))

    def __len__(self) -> int:
        return len(self._updates)

    def _arrange(self) -> None:
        """Names views of the rows, so that a step copies no weight."""
        networks = len(self._updates)
        self._grads = torch.empty(networks, self._rows.shape[2], device=self.device)
        self._weights, self._views = {}, []
        first = 0
        for name, size, count in zip(self.names, self._sizes, self._counts, strict=True):
            self._weights[name] = self._rows[0, :, first : first + count].view(networks, *size).requires_grad_()
            self._views.append(self._grads[:, first : first + count].view(networks, *size))
            first += count
        self._parts = [
            (slice(0, self._decayed), adam.WEIGHT_DECAY),
            (slice(self._decayed, None), 0.0),
        ]

    def add(self, weights: Mapping[str, Tensor], moments: Mapping[str, Tensor] | None = None) -> None:
        """A new network in the last slot; moments are zero when none are given."""
        rows = [self._joined(weights)]
        for kind in ("first", "second"):
            rows.append(
                torch.zeros_like(rows[0])
                if moments is None
                else self._joined({name: moments[f"{kind}.{name}"] for name in self.names})
            )
        updates = 0.0 if moments is None else float(moments["updates"])
        self._updates.append(torch.tensor(updates, device=self.device))
        self._rows = torch.cat([self._rows.detach(), torch.stack(rows)[:, None].to(self.device)], dim=1)
        self._arrange()

    def remove(self, slot: int) -> None:
        """Takes a network out; those behind it move up."""
        del self._updates[slot]
        staying = [index for index in range(self._rows.shape[1]) if index != slot]
        self._rows = self._rows.detach()[:, staying].contiguous()
        self._arrange()

    def _joined(self, named: Mapping[str, Tensor]) -> Tensor:
        return torch.cat([named[name].detach().float().cpu().reshape(-1) for name in self.names])

    def _split(self, row: Tensor) -> dict[str, Tensor]:
        parts = row.detach().cpu().clone().split(self._counts)
        return {name: part.view(size) for name, part, size in zip(self.names, parts, self._sizes, strict=True)}

    def weights(self, slot: int) -> dict[str, Tensor]:
        """A copy of a network's weights, on the CPU."""
        return self._split(self._rows[0, slot])

    def moments(self, slot: int) -> dict[str, Tensor]:
        """A copy of its optimiser state: ``first.NAME``, ``second.NAME`` and ``updates``."""
        first, second = self._split(self._rows[1, slot]), self._split(self._rows[2, slot])
        named = {f"first.{name}": part for name, part in first.items()}
        named |= {f"second.{name}": part for name, part in second.items()}
        return {**named, "updates": self._updates[slot].detach().cpu().clone()}

    def _hidden(self, weights: Mapping[str, Tensor], tokens: Tensor) -> Tensor:
        return neox.hidden(weights, tokens, layers=self.shape.layers, heads=self.shape.heads, position=self._position)

    def _cast(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        if self.dtype == torch.float32:
            return weights
        return {name: weight.to(self.dtype) for name, weight in weights.items()}

    def step(self, windows: Sequence[np.ndarray], rates: Sequence[float]) -> Tensor:
        """One update of every network.

        Args:
            windows: by slot, (B, T + 1) int64.
            rates: learning rate by slot.

        Returns:
            mean token loss before the update, (slots,), on the device and not waited for.
        """
        batch = torch.from_numpy(np.stack(windows)).to(self.device, non_blocking=True)
        weights = self._cast(self._weights)
        rows = self._hidden(weights, batch[..., :-1])
        losses = neox.head_loss(rows, weights["embed_out.weight"], batch[..., 1:].flatten(1))
        grads = torch.autograd.grad(losses.sum(), list(self._weights.values()))
        with torch.no_grad():
            torch._foreach_copy_(self._views, grads)
            for slot, rate in enumerate(rates):
                self._update(slot, rate)
        return losses.detach()

    def _update(self, slot: int, rate: float) -> None:
        norm = torch.linalg.vector_norm(self._grads[slot])
        # The optimiser divides by this: clipping costs no pass of its own.
        scale = (norm / adam.CLIP_NORM).clamp_min(1.0)
        weights, first, second = self._rows.detach()[:, slot]
        before = self._updates[slot].clone()
        for part, decay in self._parts:
            updates = before.clone()
            adamw(
                [weights[part]],
                [self._grads[slot, part]],
                [first[part]],
                [second[part]],
                [],
                [updates],
                fused=True,
                grad_scale=scale,
                amsgrad=False,
                beta1=adam.BETAS[0],
                beta2=adam.BETAS[1],
                lr=rate,
                weight_decay=decay,
                eps=adam.EPS,
                maximize=False,
            )
        self._updates[slot] = updates

    @torch.no_grad()
    def summed_losses(self, slots: Sequence[int], windows: Tensor) -> Tensor:
        """Summed token loss of those networks on the same (n, T + 1) windows, (slots,) float64.

        One network after the other, in passes that its own size decides: a loss depends on no company.
        """
        rows = EVALUATION_ROWS_GPU if self.device.type == "cuda" else CACHE_ELEMENTS // (4 * self.shape.width)
        parts = windows.unsqueeze(1).split(max(1, rows // self.shape.context))
        total = torch.zeros(len(slots), dtype=torch.float64, device=self.device)
        for place, slot in enumerate(slots):
            weights = self._cast({name: weight.detach()[slot : slot + 1] for name, weight in self._weights.items()})
            for part in parts:
                tokens = part.transpose(0, 1)
                read = self._hidden(weights, tokens[..., :-1])
                total[place] += neox.summed_loss(read, weights["embed_out.weight"], tokens[..., 1:].flatten(1)).squeeze(
                    0
                )
        return total
