"""Public Pythia checkpoints as float32 weights, and what is refused.

| a folder with | is |
|---|---|
| ``model.safetensors``, or ``pytorch_model.bin``, whole or in parts with an index | read, the first before the second |
| weights of float16, bfloat16 or float32 | made float32, which changes no value |
| causal masks and rotary frequencies, which older files list among the weights | read without them |
| the unembedding under the name ``lm_head.weight`` | read |
| a weight that is missing, of another size, or that the network does not have | refused |
| float64 that float32 would round, integers, float8 | refused |
| a weight that is not finite | refused |
| a configuration that differs in anything that the forward pass uses | refused |
| pointers of git-lfs, files cut short, pickles of more than tensors | refused |
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import checkpoint
from bench.errors import UserError, closest
from bench.models.pythia import SHAPES, VOCABULARY, Shape, configuration, layout

if TYPE_CHECKING:
    from torch import Tensor

BUFFERS = re.compile(r"gpt_neox\.layers\.\d+\.attention\.(bias|masked_bias|rotary_emb\.inv_freq)")
"""Constants that older files hold beside the weights: causal mask, its value, rotary frequencies."""
FORWARD = (
    *("model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size"),
    *("hidden_act", "layer_norm_eps", "use_parallel_residual", "attention_bias", "rope_parameters"),
    *("attention_dropout", "hidden_dropout", "tie_word_embeddings"),
)
"""Fields of a configuration that the forward pass uses."""
FORMATS = ("model.safetensors", "pytorch_model.bin")


def check(weights: Mapping[str, Tensor], shape: Shape, where: str) -> dict[str, Tensor]:
    """The weights of `layout`, float32.

    Raises:
        UserError: a weight is missing, unexpected, of another size or type, or not finite.
    """
    import torch

    sizes = layout(shape)
    known = f"expected the weights of a GPT-NeoX of {shape.layers} layers, width {shape.width}"
    if missing := [name for name in sizes if name not in weights]:
        raise UserError(f"{where}: {_some(missing)} missing; {known}")
    if unexpected := [name for name in weights if name not in sizes]:
        raise UserError(f"{where}: {_some(unexpected)} not expected; {known}")
    checked = {}
    for name, size in sizes.items():
        weight = weights[name].detach()
        if tuple(weight.shape) != size:
            raise UserError(
                f"{where}: '{name}' is {tuple(weight.shape)}, this model needs {size}; choose the model that the weights "
                f"were made for (here {shape.layers} layers, width {shape.width}, vocabulary {shape.vocabulary})"
            )
        if weight.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
            raise UserError(f"{where}: '{name}' is {weight.dtype}, expected float16, bfloat16 or float32")
        if not bool(torch.isfinite(weight).all()):
            raise UserError(f"{where}: '{name}' is not finite; fetch its file again")
        checked[name] = weight.to(torch.float32)
        if weight.dtype == torch.float64 and not torch.equal(checked[name].to(torch.float64), weight):
            raise UserError(f"{where}: '{name}' is float64, which float32 would round; save it as float32")
    return checked


def _some(names: list[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:3])
    return f"weight {shown}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"


def public_name(size: str, *, deduped: bool = False) -> str:
    """The hub's name, e.g. ``EleutherAI/pythia-410m-deduped``.

    Raises:
        UserError: Pythia has no such size here.
    """
    public = [name for name in SHAPES if SHAPES[name].vocabulary == VOCABULARY]
    if size not in public:
        raise UserError(f"Pythia '{size}' does not exist{closest(size, public)}")
    return f"EleutherAI/pythia-{size}{'-deduped' if deduped else ''}"


def public_weights(size: str, step: int, *, deduped: bool = False, data_root: Path) -> dict[str, Tensor]:
    """A public Pythia checkpoint as float32 master copies (the hub's weights are half precision).

    A local copy of the repository's files is preferred: ``<data_root>/pythia/pythia-410m/step143000/``.

    Args:
        size: ``14m`` to ``410m``.
        step: upstream step, the branch ``step143000``.
        deduped: the variant trained on the deduplicated Pile.
        data_root: folder of the data sets.

    Raises:
        UserError: the files are refused, or neither there nor to be had from the hub.
    """
    name = public_name(size, deduped=deduped)
    local = data_root / "pythia" / name.split("/")[1] / f"step{step}"
    return folder_weights(local if local.is_dir() else _fetched(name, step, local), SHAPES[size])


def _fetched(name: str, step: int, local: Path) -> Path:
    """The hub's files in its cache."""
    from huggingface_hub import snapshot_download

    try:
        for kind in FORMATS:
            stem, suffix = kind.split(".")
            wanted = ["config.json", f"{stem}*.{suffix}", f"{kind}.index.json"]
            folder = Path(snapshot_download(name, revision=f"step{step}", allow_patterns=wanted))
            if any(folder.glob(f"{stem}*.{suffix}")):
                break
    except Exception as error:  # the hub's client has many
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise UserError(
            f"{name} at step{step}: cannot be fetched from the hub ({reason}); put config.json and model.safetensors of "
            f"that revision into {local}"
        ) from error
    return folder


def folder_weights(folder: Path, shape: Shape) -> dict[str, Tensor]:
    """Weights from a copy of a checkpoint's files.

    Raises:
        UserError: they are refused, as the table above says.
    """
    _check_configuration(folder, shape)
    kind = next(
        (kind for kind in FORMATS if any((folder / name).exists() for name in (kind, f"{kind}.index.json"))), None
    )
    if kind is None:
        raise UserError(f"{folder}: no weights; expected {' or '.join(FORMATS)} of a public Pythia checkpoint")
    weights: dict[str, Tensor] = {}
    for part in _parts(folder, kind):
        weights |= _read(part)
    if "embed_out.weight" not in weights and "lm_head.weight" in weights:
        weights["embed_out.weight"] = weights.pop("lm_head.weight")
    return check({name: w for name, w in weights.items() if not BUFFERS.fullmatch(name)}, shape, str(folder))


def _check_configuration(folder: Path, shape: Shape) -> None:
    from transformers import GPTNeoXConfig

    path = folder / "config.json"
    if not path.exists():
        raise UserError(f"{folder}: no config.json; expected the files of a public Pythia checkpoint")
    content = _json(path)
    kind = content.get("model_type")
    if kind != "gpt_neox":
        raise UserError(f"{path}: model_type {kind!r}, expected 'gpt_neox'")
    build: Any = GPTNeoXConfig
    try:
        theirs = build(**content)
    except Exception as error:
        raise UserError(f"{path}: no configuration of a GPT-NeoX ({str(error).splitlines()[0][:160]})") from error
    ours = configuration(shape)
    for field in FORWARD:
        here, expected = getattr(theirs, field, None), getattr(ours, field, None)
        if here != expected:
            raise UserError(
                f"{path}: {field} is {here!r}, this model needs {expected!r}; choose the right model or files"
            )
    if theirs.max_position_embeddings < shape.context:
        raise UserError(
            f"{path}: max_position_embeddings is {theirs.max_position_embeddings}, expected {shape.context} or more"
        )


def _json(path: Path) -> dict[str, Any]:
    _refuse_pointer(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: damaged, not JSON ({error}); fetch it again") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: damaged, no JSON object; fetch it again")
    return content


def _parts(folder: Path, kind: str) -> list[Path]:
    """The files of the weights: one, or those of an index."""
    if (folder / kind).exists():
        return [folder / kind]
    index = folder / f"{kind}.index.json"
    names = _json(index).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise UserError(f"{index}: no weight_map; fetch it again")
    parts = [folder / Path(str(name)).name for name in sorted(set(names.values()))]
    if missing := [part.name for part in parts if not part.exists()]:
        raise UserError(f"{folder}: {', '.join(missing)} of {index.name} missing; fetch it")
    return parts


def _read(path: Path) -> dict[str, Tensor]:
    import torch
    from safetensors.torch import load_file

    _refuse_pointer(path)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # several libraries' own
        reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise UserError(f"{path}: damaged or not of tensors alone ({reason}); fetch it again") from error
    if not isinstance(weights, dict) or not all(isinstance(weight, torch.Tensor) for weight in weights.values()):
        raise UserError(f"{path}: holds no weights by name; expected those of a public Pythia checkpoint")
    return weights


def _refuse_pointer(path: Path) -> None:
    with path.open("rb") as stream:
        if stream.read(len(checkpoint.POINTER)) == checkpoint.POINTER:
            raise UserError(f"{path}: a pointer of git-lfs, not the file itself; fetch it with `git lfs pull`")
