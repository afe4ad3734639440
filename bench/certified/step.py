"""One step of certified training: bounds, robust loss, regularisers, clipping and Adam, without waiting for the device."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.certified import regularizers
from bench.certified.dataset import Range
from bench.certified.evaluate import TINY_EPS, pgd
from bench.certified.graph import graph_of
from bench.certified.interval import box, propagate
from bench.certified.lirpa import Bounded
from bench.certified.spec import Certified
from bench.training import graphs
from bench.training.precision import autocast
from bench.training.step import compiled, should_compile

Forward = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
"""(images, labels, eps, lambda) -> loss, margins [B, K - 1] (or logits where nothing is bounded), clean logits."""


def robust_loss(margins: Tensor) -> Tensor:
    """Cross-entropy of [0, -margins] against class 0: log(1 + sum_j exp(-margin_j)), mean over the batch."""
    scores = F.pad(-margins, (1, 0))
    return F.cross_entropy(scores, scores.new_zeros(len(scores), dtype=torch.int64))


def norm_penalty(parameters: Iterable[Tensor]) -> Tensor:
    """Sum of absolute weights, biases and normalisation left out."""
    return torch.stack([tensor.abs().sum() for tensor in parameters if tensor.dim() > 1]).sum()


@dataclass
class Sums:
    """Accumulated on the device: loss times samples, errors, and steps before the first that was not finite."""

    loss: Tensor
    wrong: Tensor
    unverified: Tensor
    good: Tensor
    bad: Tensor

    @classmethod
    def zero(cls, device: torch.device) -> Sums:
        return cls(*(torch.zeros((), device=device) for _ in range(5)))

    def reset(self) -> Sums:
        """The same tensors at zero: a captured step goes on adding to them."""
        for value in vars(self).values():
            value.zero_()
        return self


class Step:
    """``step(images, labels, eps, share, weight)``: forward, backward, clipping, update; on a GPU captured as a graph.

    Attributes:
        sums: of the steps since they were reset.

    Args:
        spec: what is minimised.
        model: in train mode, on its device.
        within: range of normalised images.
        compile: auto, never or always.
        expected_steps: of the whole run, by which auto decides.
        capture: whether steps on a GPU are captured.
    """

    def __init__(
        self,
        spec: Certified,
        model: nn.Module,
        within: Range,
        *,
        compile: Literal["auto", "never", "always"] = "auto",
        expected_steps: float = 0,
        capture: bool = True,
    ):
        self.spec, self.model, self.within = spec, model, within
        self.device = within.low.device
        self.graph = graph_of(model)
        self.parameters = list(model.parameters())
        self.optimizer = torch.optim.Adam(self.parameters, lr=spec.lr, fused=True)
        graphs.prepare(self.optimizer, self.device)
        self.sums = Sums.zero(self.device)
        backend = graphs.backend_of(self.device) if capture else None
        self._graphed = graphs.GraphedStep(self._whole, self._state, rows=spec.batch_size, backend=backend)
        self.size = spec.micro_batch or spec.batch_size
        self.bounded: Bounded | None = None
        self.compiles = should_compile(compile, model, self.device, steps=expected_steps, batch_size=spec.batch_size)
        self._forwards: dict[str, tuple[Forward, Forward]] = {}
        if spec.bound == "crown_ibp":
            example = torch.zeros(2, *spec.shape(), device=self.device)
            self.bounded = Bounded(model, example)

    @property
    def mode(self) -> str:
        """As of `bench.training.graphs.GraphedStep`, for the record."""
        return self._graphed.mode

    def _state(self) -> graphs.State:
        return graphs.state_of(self.model, self.optimizer, sums=list(vars(self.sums).values()))

    def load_optimizer(self, state: dict[str, Any]) -> None:
        """Continues with the state of an interrupted attempt."""
        self.optimizer.load_state_dict(state)
        graphs.prepare(self.optimizer, self.device)

    def __call__(self, images: Tensor, labels: Tensor, eps: Tensor, share: float, weight: float) -> None:
        """One update.

        Args:
            images: normalised and augmented, [B, C, H, W].
            labels: int64 [B].
            eps: 0-dimensional, on the device.
            share: eps over its target; decides which forward pass is needed.
            weight: of the regularisers.
        """
        regularised = bool(self.spec.regularizers) and weight > 0
        kind = "clean" if share == 0 and not regularised else "zero" if share == 0 else "robust"
        kind += " regularised" if regularised else ""
        if self.bounded is not None and 1e-5 < 1 - share < 1:
            kind = f"crown{' regularised' if regularised else ''}"
        factor = torch.full((), weight, dtype=images.dtype, device=self.device)
        if kind.startswith("crown"):
            self._crown_share = 1 - float(torch.tensor(self.spec.target * share)) / self.spec.target
        if kind.startswith("crown") or self.spec.recipe.objective != "ibp":
            # The host takes part: auto_LiRPA decides by values, an attack begins at random numbers.
            self._whole(kind, images, labels, eps, factor)
        else:
            self._graphed(images, labels, eps, factor, kind=kind)

    _crown_share = 1.0
    """1 - eps / target at the step, as float32 has eps: the weight of the backward bounds."""

    def _whole(self, kind: str, images: Tensor, labels: Tensor, eps: Tensor, factor: Tensor) -> graphs.Tensors:
        self.optimizer.zero_grad(set_to_none=True)
        for start in range(0, len(labels), self.size):
            part, part_labels = images[start : start + self.size], labels[start : start + self.size]
            loss, margins, logits = self._forward(kind, len(part))(part, part_labels, eps, factor)
            (loss * (len(part) / len(labels))).backward()
            if kind.startswith("crown"):
                assert self.bounded is not None
                self.bounded.release()
            self._count(loss.detach(), margins.detach(), logits.detach(), part_labels)
        self._update()
        return ()

    def _forward(self, kind: str, count: int) -> Forward:
        """The forward pass of a kind of step; only batches of the full size are compiled."""
        if kind not in self._forwards:
            eager = self._make(kind)
            compiles = self.compiles and not kind.startswith("crown") and self.spec.recipe.objective == "ibp"
            self._forwards[kind] = (compiled(eager) if compiles else eager, eager)
        return self._forwards[kind][0 if count == self.size else 1]

    def _make(self, kind: str) -> Forward:
        name, _, regularised = kind.partition(" ")
        base = {"clean": self._clean, "zero": self._interval, "robust": self._interval, "crown": self._crown}[name]
        options = {"zero": name == "zero", "regularised": bool(regularised)}

        def forward(images: Tensor, labels: Tensor, eps: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            with autocast(self.device, self.spec.precision):
                loss, margins, logits = base(images, labels, eps, weight, **options)
            if self.spec.recipe.l1:
                loss = loss + self.spec.recipe.l1 * norm_penalty(self.parameters)
            return loss, margins, logits

        return forward

    def _clean(self, images: Tensor, labels: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor, Tensor]:
        logits = self.model(images)
        return F.cross_entropy(logits, labels), logits, logits

    def _interval(
        self, images: Tensor, labels: Tensor, eps: Tensor, weight: Tensor, *, zero: bool, regularised: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Interval bounds of the box, or of the boxes that the recipe replaces it with."""
        recipe, within = self.spec.recipe, self.within
        # Only where eps is exactly 0: any other eps is used as it is, however small (authors' code).
        reach = torch.full_like(eps, TINY_EPS) if zero else eps
        centre, radius = box(images, reach, within.low, within.high, within.scale)
        box_labels, count = labels, len(labels)
        if recipe.objective != "ibp" and not zero:
            centre, radius, box_labels = self._attacked(centre, radius, labels)
        output = propagate(self.graph, centre, radius, clean=images, labels=box_labels, keep_relus=regularised)
        assert output.clean is not None
        if zero:
            loss = F.cross_entropy(output.clean, labels)
        else:
            loss = recipe.robust_weight * robust_loss(output.lower[:count])
            if recipe.robust_weight < 1:
                attacked = recipe.objective == "mtl_ibp"
                other = robust_loss(output.lower[count:]) if attacked else F.cross_entropy(output.clean, labels)
                loss = loss + (1 - recipe.robust_weight) * other
        if regularised:
            relus = [(c[:count], r[:count]) for c, r in output.relus]
            loss = loss + weight * self._regularizers(radius[:count], relus)
        return loss, output.lower[:count], output.clean

    def _regularizers(self, radius: Tensor, relus: list[tuple[Tensor, Tensor]]) -> Tensor:
        spec = self.spec
        return regularizers.total(spec.regularizers, radius, relus, tau=spec.tau, empty=spec.l_relu)

    def _attacked(self, centre: Tensor, radius: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """MTL-IBP: the box and the attacked points behind it. SABR: a small box around the attacked points."""
        recipe = self.spec.recipe
        self.model.eval()
        generator = torch.Generator().manual_seed(int(self.steps_seed))
        points = pgd(
            self.model,
            centre,
            radius,
            labels,
            steps=recipe.attack_steps,
            step=recipe.attack_step,
            generator=generator,
        )
        self.model.train()
        if recipe.objective == "mtl_ibp":
            # A box of radius 0 around the attacked points: their margins are exact, their statistics the clean ones.
            return (
                torch.cat((centre, points)),
                torch.cat((radius, torch.zeros_like(radius))),
                torch.cat((labels, labels)),
            )
        small = recipe.box_share * radius
        inner = torch.minimum(torch.maximum(points, centre - radius + small), centre + radius - small)
        return inner, small, labels

    steps_seed = 0
    """Seed of the next attack's random start; the trainer sets it for each step."""

    def _crown(
        self, images: Tensor, labels: Tensor, eps: Tensor, weight: Tensor, *, zero: bool, regularised: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Mixed CROWN-IBP bounds through auto_LiRPA, of the loss or of each margin."""
        assert self.bounded is not None
        centre, radius = box(images, eps, self.within.low, self.within.high, self.within.scale)
        inputs = images, centre - radius, centre + radius, labels, self._crown_share
        if self.spec.loss_fusion:
            logits, losses, lower, relus = self.bounded.mixed_losses(*inputs)
            loss = losses.mean()
        else:
            logits, lower, relus = self.bounded.mixed_margins(*inputs)
            loss = robust_loss(lower)
        if regularised:
            pairs = [((low + high) / 2, (high - low) / 2) for low, high in relus]
            loss = loss + weight * self._regularizers(radius, pairs)
        return loss, lower, logits

    @torch.no_grad()
    def _count(self, loss: Tensor, margins: Tensor, logits: Tensor, labels: Tensor) -> None:
        sums = self.sums
        wrong = logits.argmax(1) != labels
        unverified = wrong if margins.shape == logits.shape else wrong | (margins <= 0).any(1)
        sums.loss += loss * len(labels)
        sums.wrong += wrong.sum()
        sums.unverified += unverified.sum()

    @torch.no_grad()
    def _update(self) -> None:
        """Clips by the gradient's norm and steps; once a gradient is not finite, nothing changes any more.

        The fused optimiser takes both as tensors, which saves a pass over the gradients and a wait for the device.
        """
        sums = self.sums
        gradients = [tensor.grad for tensor in self.parameters if tensor.grad is not None]
        total = torch.nn.utils.get_total_norm(gradients)
        torch.maximum(sums.bad, (~torch.isfinite(total)).to(sums.bad.dtype), out=sums.bad)
        sums.good += 1 - sums.bad
        optimizer: Any = self.optimizer
        optimizer.grad_scale = ((total + 1e-6) / self.spec.clip).clamp(min=1.0).float()
        optimizer.found_inf = sums.bad
        self.optimizer.step()

    def set_lr(self, lr: float) -> None:
        graphs.set_rate(self.optimizer, lr)
