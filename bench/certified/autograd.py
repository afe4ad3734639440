"""Autograd functions of the bound engine with hand-written backward passes: fewer passes over memory in eager mode."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _Linear(torch.autograd.Function):
    """x W^T and r |W|^T with one gradient for W; two products with autograd need four more passes to add theirs up."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, radius: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        magnitude = weight.abs()
        ctx.save_for_backward(x, radius, weight)
        # For the gradient of the radius; weights do not change between the passes.
        ctx.magnitude = magnitude
        return x @ weight.t(), radius @ magnitude.t()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        over_x, over_radius = gradients
        x, radius, weight = ctx.saved_tensors
        grad_x = grad_radius = grad_weight = None
        if ctx.needs_input_grad[2]:
            rows = (tensor.flatten(0, -2) for tensor in (over_radius, radius, over_x, x))
            over_radius_rows, radius_rows, over_x_rows, x_rows = rows
            grad_weight = over_radius_rows.t() @ radius_rows
            grad_weight.mul_(torch.sign(weight)).addmm_(over_x_rows.t(), x_rows)
        if ctx.needs_input_grad[0]:
            grad_x = over_x @ weight
        if ctx.needs_input_grad[1]:
            grad_radius = over_radius @ ctx.magnitude
        return grad_x, grad_radius, grad_weight


def linear(x: Tensor, radius: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """x W^T for clean and centre rows together [R, ..., in], and r |W|^T for the radius [B, ..., in]."""
    kind = x.device.type
    if torch.is_autocast_enabled(kind):
        # Autocast does not reach inside an autograd function.
        x, radius, weight = (tensor.to(torch.get_autocast_dtype(kind)) for tensor in (x, radius, weight))
    result: Any = _Linear.apply(x, radius, weight)
    return result


class _Relu(torch.autograd.Function):
    """Both ends clamped at zero, as centre and radius."""

    @staticmethod
    def forward(ctx: Any, centre: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
        low, high = (centre - radius).clamp_min_(0), (centre + radius).clamp_min_(0)
        ctx.save_for_backward(low, high)
        middle = (low + high).mul_(0.5)
        return middle, high - middle

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        over_centre, over_radius = gradients
        low, high = ctx.saved_tensors
        # The gradient of an end is half the sum or the difference, where that end is positive.
        upper = torch.ops.aten.threshold_backward((over_centre + over_radius).mul_(0.5), high, 0)
        lower = torch.ops.aten.threshold_backward((over_centre - over_radius).mul_(0.5), low, 0)
        return upper + lower, upper.sub_(lower)


def relu(centre: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
    """Centre and radius of ReLU on an interval."""
    result: Any = _Relu.apply(centre, radius)
    return result


class _Balance(torch.autograd.Function):
    """Sums over the active and the inactive neurons: of centres, and of squared distances from the mean centre."""

    @staticmethod
    def forward(ctx: Any, centre: Tensor, radius: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        active = (centre > radius).to(centre.dtype)
        inactive = (centre < -radius).to(centre.dtype)
        mean = centre.mean()
        distance = centre - mean
        far_active, far_inactive = distance * active, distance * inactive
        count_active, count_inactive = active.sum(), inactive.sum()
        sums = far_active.sum(), far_inactive.sum()
        ctx.save_for_backward(active, inactive, far_active, far_inactive, *sums)
        # The sum of centres is that of distances plus the mean for each neuron.
        return (
            sums[0] + mean * count_active,
            sums[1] + mean * count_inactive,
            (far_active * distance).sum(),
            (far_inactive * distance).sum(),
            count_active,
            count_inactive,
        )

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        sum_active, sum_inactive, var_active, var_inactive, *_ = gradients
        active, inactive, far_active, far_inactive, total_active, total_inactive = ctx.saved_tensors
        # The mean moves with every neuron.
        shift = -2 * (var_active * total_active + var_inactive * total_inactive) / active.numel()
        grad = torch.addcmul(shift, active, sum_active)
        grad.addcmul_(inactive, sum_inactive)
        grad.addcmul_(far_active, 2 * var_active).addcmul_(far_inactive, 2 * var_inactive)
        return grad, None


def balance(centre: Tensor, radius: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """(sum of centres, active; inactive; sum of squared distances, active; inactive; counts, active; inactive)."""
    result: Any = _Balance.apply(centre, radius)
    return result
