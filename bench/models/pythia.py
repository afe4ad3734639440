"""Pythia: shapes, parameter counts, GPT-NeoX initialisation. Shapes are read without torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.errors import UserError, closest

if TYPE_CHECKING:
    import torch
    from torch import Tensor

VOCABULARY = 50_304
"""50,277 entries of the GPT-NeoX tokenizer, padded to a multiple of 128."""
CONTEXT = 2048


@dataclass(frozen=True)
class Shape:
    """The size of a GPT-NeoX with parallel residual, untied embeddings and a feed-forward width of 4 `width`.

    Attributes:
        layers, width, heads: of the network.
        vocabulary: rows of the embeddings.
        context: tokens that it is trained on at once.
    """

    layers: int
    width: int
    heads: int
    vocabulary: int = VOCABULARY
    context: int = CONTEXT

    def non_embedding(self) -> int:
        """Parameters without the two embeddings: L (12 d² + 13 d) + 2 d."""
        return self.layers * (12 * self.width**2 + 13 * self.width) + 2 * self.width

    def parameters(self) -> int:
        return self.non_embedding() + 2 * self.vocabulary * self.width

    def flops_per_token(self) -> float:
        """Of training: 6 (non-embedding + unembedding) + 12 L d T; ``bench/rewarm/protocol.md``, section d."""
        dense = 6 * (self.non_embedding() + self.vocabulary * self.width)
        return dense + 12 * self.layers * self.width * self.context


SHAPES = {
    "14m": Shape(6, 128, 4),
    "31m": Shape(6, 256, 8),
    "70m": Shape(6, 512, 8),
    "160m": Shape(12, 768, 12),
    "410m": Shape(24, 1024, 16),
    "cpu-tiny": Shape(4, 128, 4, vocabulary=4096, context=256),
    "language": Shape(2, 64, 4, vocabulary=64, context=32),
}


def shape(name: str, *, vocabulary: int | None = None, context: int | None = None) -> Shape:
    """A shape by name, or ``LxDxH`` such as ``4x128x4``; vocabulary and context may be replaced.

    Raises:
        UserError: no such shape, or heads that do not divide the width.
    """
    known = SHAPES.get(name)
    if known is None:
        parts = name.split("x")
        if len(parts) != 3 or not all(part.isdigit() and int(part) > 0 for part in parts):
            raise UserError(
                f"model '{name}' does not exist{closest(name, SHAPES)}; or give layers x width x heads as 4x128x4"
            )
        known = Shape(*map(int, parts))
    if known.width % known.heads or int(known.width // known.heads * 0.25) % 2:
        raise UserError(
            f"model '{name}': {known.heads} heads of {known.width / known.heads:g} elements; a head must be a multiple of 8"
        )
    return Shape(known.layers, known.width, known.heads, vocabulary or known.vocabulary, context or known.context)


def layout(shape: Shape) -> dict[str, tuple[int, ...]]:
    """Name -> size of every weight, under the names of the public checkpoints."""
    width = shape.width
    sizes: dict[str, tuple[int, ...]] = {"gpt_neox.embed_in.weight": (shape.vocabulary, width)}
    for index in range(shape.layers):
        prefix = f"gpt_neox.layers.{index}."
        for norm in ("input_layernorm", "post_attention_layernorm"):
            sizes |= {f"{prefix}{norm}.weight": (width,), f"{prefix}{norm}.bias": (width,)}
        for name, rows, columns in (
            ("attention.query_key_value", 3 * width, width),
            ("attention.dense", width, width),
            ("mlp.dense_h_to_4h", 4 * width, width),
            ("mlp.dense_4h_to_h", width, 4 * width),
        ):
            sizes |= {f"{prefix}{name}.weight": (rows, columns), f"{prefix}{name}.bias": (rows,)}
    norm = "gpt_neox.final_layer_norm"
    return sizes | {f"{norm}.weight": (width,), f"{norm}.bias": (width,), "embed_out.weight": (shape.vocabulary, width)}


def decayed(name: str) -> bool:
    """Whether weight decay applies: not to LayerNorm parameters and biases, but to the embeddings."""
    return name.endswith(".weight") and "norm" not in name


def standard_deviations(shape: Shape) -> tuple[float, float]:
    """Of "small init" (all matrices and embeddings) and of "Wang init" (what is added to the residual stream)."""
    return math.sqrt(2 / (5 * shape.width)), 2 / (shape.layers * math.sqrt(shape.width))


def initial_weights(shape: Shape, generator: torch.Generator) -> dict[str, Tensor]:
    """Weights as GPT-NeoX draws them: normal matrices, LayerNorms 1 and 0, biases 0; float32 on the CPU."""
    import torch

    small, wang = standard_deviations(shape)
    weights = {}
    for name, size in layout(shape).items():
        if decayed(name):
            deviation = wang if name.endswith(("attention.dense.weight", "mlp.dense_4h_to_h.weight")) else small
            weights[name] = torch.empty(size).normal_(0.0, deviation, generator=generator)
        else:
            weights[name] = torch.ones(size) if name.endswith(".weight") else torch.zeros(size)
    return weights


def configuration(shape: Shape) -> Any:
    """The same network as a configuration of ``transformers``."""
    from transformers import GPTNeoXConfig

    # The keyword arguments of its attributes are not in the library's types.
    build: Any = GPTNeoXConfig
    return build(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=4 * shape.width,
        max_position_embeddings=max(shape.context, CONTEXT),
        rotary_pct=0.25,
        rotary_emb_base=10_000,
        use_parallel_residual=True,
        layer_norm_eps=1e-5,
        hidden_act="gelu",
        attention_dropout=0.0,
        hidden_dropout=0.0,
        tie_word_embeddings=False,
        use_cache=False,
        bos_token_id=0,
        eos_token_id=0,
    )


def reference(shape: Shape, weights: Mapping[str, Tensor]) -> Any:
    """GPTNeoXForCausalLM of ``transformers`` with these weights, with which the lean forward pass is compared."""
    from transformers import GPTNeoXForCausalLM

    model = GPTNeoXForCausalLM(configuration(shape))
    named = dict(weights)
    if "lm_head.weight" in model.state_dict():  # from transformers 5 on
        named["lm_head.weight"] = named.pop("embed_out.weight")
    model.load_state_dict(named, strict=False)
    return model
