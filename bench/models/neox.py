"""A lean GPT-NeoX: the forward pass and the loss of ``transformers``' GPTNeoXForCausalLM on a plain dictionary of weights.

Letters: B sequences, T tokens, N = B T rows, D width, H heads, V vocabulary. Rows are (N, D).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

LAYER_NORM_EPS = 1e-5
ROTARY_BASE = 10_000
ROTARY_FRACTION = 0.25
LONGEST_PLAIN_ATTENTION = 512
HEAD_ROWS = 512
"""Rows of logits that exist at once on a CPU: 512 x 4,096 float32 logits stay in the cache of one core."""
HEAD_ROWS_GPU = 8192
"""The same on a GPU: 1.6 GB of float32 at 50,304 entries."""

Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Rotary:
    """Rotary position embedding as three tables that act on a whole packed row of queries, keys and values.

    A rotated element is ``cos`` times itself plus ``ahead`` times the element half a rotary width further on, or
    plus ``behind`` times the one half a width before. The tables are 1, 0, 0 for everything that is not rotated, so
    that long contiguous rows are read instead of a few elements of each head.

    Attributes:
        cos, ahead, behind: (T, 3 D).
        shift: half the rotary width.
    """

    cos: Tensor
    ahead: Tensor
    behind: Tensor
    shift: int


def rotary(context: int, width: int, heads: int, device: torch.device | str, dtype: torch.dtype) -> Rotary:
    """Tables for `context` tokens; a head's row is packed as query, key, value (GPT-NeoX)."""
    size = width // heads
    dims = int(size * ROTARY_FRACTION)
    shift = dims // 2
    frequencies = 1.0 / ROTARY_BASE ** (torch.arange(0, dims, 2, dtype=torch.float32) / dims)
    angles = torch.arange(context, dtype=torch.float32)[:, None] * frequencies
    cos = torch.ones(context, heads, 3, size)
    ahead, behind = torch.zeros_like(cos), torch.zeros_like(cos)
    rotated = slice(0, 2)  # queries and keys
    cos[:, :, rotated, :shift] = cos[:, :, rotated, shift:dims] = angles.cos()[:, None, None]
    ahead[:, :, rotated, :shift] = -angles.sin()[:, None, None]
    behind[:, :, rotated, shift:dims] = angles.sin()[:, None, None]

    def table(values: Tensor) -> Tensor:
        return values.view(context, 3 * width).to(device, dtype)

    return Rotary(table(cos), table(ahead), table(behind), shift)


class _Rotate(torch.autograd.Function):
    """Applies `Rotary` to (rows, T, 3 D); linear, so that nothing but the tables is kept for the backward pass."""

    @staticmethod
    def forward(ctx: Any, packed: Tensor, cos: Tensor, ahead: Tensor, behind: Tensor, shift: int) -> Tensor:
        ctx.save_for_backward(cos, ahead, behind)
        ctx.shift = shift
        out = packed * cos
        out[..., :-shift].addcmul_(packed[..., shift:], ahead[:, :-shift])
        out[..., shift:].addcmul_(packed[..., :-shift], behind[:, shift:])
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        cos, ahead, behind = ctx.saved_tensors
        shift = ctx.shift
        out = grad * cos
        out[..., shift:].addcmul_(grad[..., :-shift], ahead[:, :-shift])
        out[..., :-shift].addcmul_(grad[..., shift:], behind[:, shift:])
        return out, None, None, None, None


def affine(normal: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Scale and shift of normalised rows."""
    return torch.addcmul(bias, normal, weight)


def attention(packed: Tensor, heads: int) -> Tensor:
    """Causal attention of (B, T, 3 D) packed rows; returns (B, T, D).

    The fused CPU kernel is slow to differentiate in bfloat16 and for very short sequences; there the scores are
    formed plainly.
    """
    sequences, context, width = packed.shape[0], packed.shape[1], packed.shape[2] // 3
    query, key, value = packed.view(sequences, context, heads, 3, width // heads).unbind(3)
    plain = context <= LONGEST_PLAIN_ATTENTION and (context <= 64 or packed.dtype == torch.bfloat16)
    if packed.is_cuda or not plain:
        query, key, value = (part.transpose(1, 2) for part in (query, key, value))
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return mixed.transpose(1, 2).reshape(sequences, context, width)
    shape = (sequences * heads, context, width // heads)
    query, key, value = (part.transpose(1, 2).reshape(shape) for part in (query, key, value))
    future = packed.new_full((context, context), float("-inf")).triu(1)
    scores = torch.baddbmm(future, query, key.transpose(1, 2), alpha=shape[-1] ** -0.5)
    mixed = torch.bmm(torch.softmax(scores, dim=-1), value)
    return mixed.view(sequences, heads, context, -1).transpose(1, 2).reshape(sequences, context, width)


def hidden(weights: Weights, tokens: Tensor, *, layers: int, heads: int, position: Rotary) -> Tensor:
    """The rows that the unembedding reads: pre-LayerNorm blocks with parallel residual, then the last LayerNorm.

    Args:
        weights: under the names of the public checkpoints.
        tokens: (B, T) int64.
        layers, heads: of the shape.
        position: tables for T tokens, on the device and in the precision of the weights.

    Returns:
        (N, D).
    """
    context = tokens.shape[1]
    rows = F.embedding(tokens, weights["gpt_neox.embed_in.weight"]).flatten(0, 1)
    width = rows.shape[1]
    for index in range(layers):
        prefix = f"gpt_neox.layers.{index}."

        def of(name: str, prefix: str = prefix) -> Tensor:
            return weights[prefix + name]

        # Both branches read the same input, so it is normalised once.
        normal = F.layer_norm(rows, (width,), eps=LAYER_NORM_EPS)
        read = affine(normal, of("input_layernorm.weight"), of("input_layernorm.bias"))
        packed = F.linear(read, of("attention.query_key_value.weight"), of("attention.query_key_value.bias"))
        packed = _Rotate.apply(
            packed.view(-1, context, 3 * width), position.cos, position.ahead, position.behind, position.shift
        )
        mixed = attention(packed, heads).view(rows.shape)
        read = affine(normal, of("post_attention_layernorm.weight"), of("post_attention_layernorm.bias"))
        inner = F.gelu(F.linear(read, of("mlp.dense_h_to_4h.weight"), of("mlp.dense_h_to_4h.bias")))
        bias = of("attention.dense.bias") + of("mlp.dense_4h_to_h.bias")
        # The residual sums are taken inside of the matrix products.
        rows = torch.addmm(rows + bias, mixed, of("attention.dense.weight").t())
        rows = torch.addmm(rows, inner, of("mlp.dense_4h_to_h.weight").t())
    normal = F.layer_norm(rows, (width,), eps=LAYER_NORM_EPS)
    return affine(normal, weights["gpt_neox.final_layer_norm.weight"], weights["gpt_neox.final_layer_norm.bias"])


def logits(weights: Weights, tokens: Tensor, *, layers: int, heads: int, position: Rotary) -> Tensor:
    """All logits at once, (B, T, V): for tests and small inputs."""
    rows = hidden(weights, tokens, layers=layers, heads=heads, position=position)
    return F.linear(rows, weights["embed_out.weight"]).view(*tokens.shape, -1)


class _HeadLoss(torch.autograd.Function):
    """Mean cross-entropy of ``rows @ table.T``, a few rows at a time, with the gradients computed in the same sweep.

    No more than `at_once` rows of logits exist, and the backward pass multiplies nothing again.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, table: Tensor, targets: Tensor, at_once: int) -> Tensor:
        count = len(rows)
        # Losses and sums are float32 where the matrix products are bfloat16.
        wide_type = torch.promote_types(table.dtype, torch.float32)
        plain = table.dtype == wide_type
        loss = torch.zeros((), dtype=wide_type, device=rows.device)
        grad_rows = torch.empty_like(rows)
        grad_table = torch.zeros(table.shape, dtype=wide_type, device=table.device)
        logits = rows.new_empty(min(at_once, count), len(table))
        # Allocated once: the pages of a new block of this size would have to be cleared for each part.
        wide = logits if plain else torch.empty_like(logits, dtype=wide_type)
        for first in range(0, count, at_once):
            part = rows[first : first + at_once]
            target = targets[first : first + at_once, None]
            product = torch.mm(part, table.t(), out=logits[: len(part)])
            scores = product if plain else wide[: len(part)].copy_(product)
            correct, top = scores.gather(-1, target), scores.amax(-1, keepdim=True)
            powers = scores.sub_(top).exp_()
            total = powers.sum(-1, keepdim=True)
            loss += (total.log() + top - correct).sum()
            # d loss / d scores = softmax - one-hot, here times the total: rows are divided instead of logits.
            slope = powers.scatter_add_(-1, target, -total)
            slope = slope if plain else product.copy_(slope)
            grad_rows[first : first + at_once] = torch.mm(slope, table) / total
            scaled = (part / total).to(table.dtype)
            if plain:
                grad_table.addmm_(slope.t(), scaled)
            else:
                grad_table += torch.mm(slope.t(), scaled)
        ctx.save_for_backward(grad_rows, grad_table)
        ctx.dtype = table.dtype
        return loss / count

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        grad_rows, grad_table = ctx.saved_tensors
        scale = grad / len(grad_rows)
        return (grad_rows * scale).to(grad_rows.dtype), (grad_table * scale).to(ctx.dtype), None, None


def _rows_at_once(rows: Tensor) -> int:
    return HEAD_ROWS_GPU if rows.is_cuda else HEAD_ROWS


def head_loss(rows: Tensor, table: Tensor, targets: Tensor, *, at_once: int = 0) -> Tensor:
    """Mean token cross-entropy in nats, differentiable in `rows` and `table`.

    Args:
        rows: (N, D).
        table: the unembedding, (V, D).
        targets: (N,) int64.
        at_once: rows of logits that may exist at once; by the device when 0.

    Returns:
        A scalar, float32 where the rows are bfloat16.
    """
    return _HeadLoss.apply(rows, table, targets, at_once or _rows_at_once(rows))


@torch.no_grad()
def summed_loss(rows: Tensor, table: Tensor, targets: Tensor, *, at_once: int = 0) -> Tensor:
    """Sum of the token cross-entropies in nats, for evaluation: logits are float32 where the rows are bfloat16.

    Args:
        rows, table, targets, at_once: as in `head_loss`.

    Returns:
        A float64 scalar.
    """
    at_once = at_once or _rows_at_once(rows)
    wide_type = torch.promote_types(table.dtype, torch.float32)
    table = table.to(wide_type)
    total = torch.zeros((), dtype=torch.float64, device=rows.device)
    for first in range(0, len(rows), at_once):
        scores = F.linear(rows[first : first + at_once].to(wide_type), table)
        losses = F.cross_entropy(scores, targets[first : first + at_once], reduction="none")
        total += losses.sum(dtype=torch.float64)
    return total
