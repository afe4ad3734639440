"""Public checkpoints: folders as `transformers` writes them, in old and new formats, and everything that is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from bench import seeds
from bench.errors import UserError
from bench.models import pretrained, pythia

SHAPE = pythia.Shape(2, 32, 4, vocabulary=96, context=24)
BIG = pythia.Shape(2, 32, 4, vocabulary=pythia.VOCABULARY, context=16)

PUBLIC = {
    "architectures": ["GPTNeoXForCausalLM"],
    "bos_token_id": 0,
    "eos_token_id": 0,
    "hidden_act": "gelu",
    "hidden_size": 32,
    "initializer_range": 0.02,
    "intermediate_size": 128,
    "layer_norm_eps": 1e-05,
    "max_position_embeddings": 2048,
    "model_type": "gpt_neox",
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "rotary_emb_base": 10000,
    "rotary_pct": 0.25,
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
    "transformers_version": "4.24.0",
    "use_cache": True,
    "use_parallel_residual": True,
    "vocab_size": 96,
}
"""The fields of a public Pythia's config.json."""


def weights_of(shape: pythia.Shape = SHAPE) -> dict[str, Tensor]:
    """Weights that half precision holds exactly, none of them 0 or 1."""
    generator = seeds.generator("test pretrained")
    weights = pythia.initial_weights(shape, generator)
    return {name: (w + 0.05 * torch.randn(w.shape, generator=generator)).half().float() for name, w in weights.items()}


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        assert found[name].dtype == torch.float32
        assert torch.equal(found[name], weight), name


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint as `transformers` writes it."""
    pythia.reference(SHAPE, weights_of()).save_pretrained(tmp_path / "step0")
    return tmp_path / "step0"


Change = Callable[[dict[str, Tensor]], Any]


def rewrite(folder: Path, change: Change) -> None:
    """Changes the weights in place."""
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


def configure(folder: Path, **fields: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


# What is accepted.
def save(folder: Path, weights: dict[str, Tensor], kind: str) -> None:
    """Weights in one file, or in two with an index."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(PUBLIC))
    write = torch.save if kind.startswith("pytorch_model") else save_file
    if "-" not in kind:
        write(weights, folder / kind)
        return
    stem, suffix = kind.replace("-", "").split(".")
    names = sorted(weights)
    parts = {f"{stem}-00001-of-00002.{suffix}": names[::2], f"{stem}-00002-of-00002.{suffix}": names[1::2]}
    for file, some in parts.items():
        write({name: weights[name] for name in some}, folder / file)
    where = {name: file for file, some in parts.items() for name in some}
    (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))


@pytest.mark.parametrize("kind", ["model.safetensors", "model-.safetensors", "pytorch_model.bin", "pytorch_model-.bin"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_files_and_types_that_are_read(tmp_path: Path, kind: str, dtype: torch.dtype) -> None:
    weights = weights_of()
    save(tmp_path / "step0", {name: weight.to(dtype) for name, weight in weights.items()}, kind)
    same(pretrained.folder_weights(tmp_path / "step0", SHAPE), weights)


@pytest.mark.parametrize("size", ["5GB", "20KB"], ids=["whole", "in parts"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_what_transformers_writes_is_read(tmp_path: Path, size: str, dtype: torch.dtype) -> None:
    weights = {name: weight.to(dtype).float() for name, weight in weights_of().items()}
    model = pythia.reference(SHAPE, weights).to(dtype)
    model.save_pretrained(tmp_path / "step0", max_shard_size=size)
    assert (len(list((tmp_path / "step0").glob("*.safetensors"))) > 1) == (size == "20KB")
    same(pretrained.folder_weights(tmp_path / "step0", SHAPE), weights)


def test_buffers_of_older_files_are_left_out(folder: Path) -> None:
    def older(weights: dict[str, Tensor]) -> None:
        for layer in range(2):
            prefix = f"gpt_neox.layers.{layer}.attention."
            weights[f"{prefix}bias"] = torch.ones(1, 1, 2048, 2048, dtype=torch.bool).tril()
            weights[f"{prefix}masked_bias"] = torch.tensor(-1e9)
            weights[f"{prefix}rotary_emb.inv_freq"] = torch.ones(1)
        weights["lm_head.weight"] = weights.pop("embed_out.weight")

    rewrite(folder, older)
    (folder / "config.json").write_text(json.dumps(PUBLIC))
    same(pretrained.folder_weights(folder, SHAPE), weights_of())


def test_weights_are_not_rounded_to_the_type_that_the_configuration_names(folder: Path) -> None:
    exact = {name: weight + 1e-6 for name, weight in weights_of().items()}
    rewrite(folder, lambda weights: weights.update(exact))
    configure(folder, dtype="float16", torch_dtype="float16")
    same(pretrained.folder_weights(folder, SHAPE), exact)


# What is refused.
Spoil = Callable[[Path], Any]
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
DENSE = "gpt_neox.layers.1.attention.dense.weight"


def drop(name: str) -> Spoil:
    return lambda folder: rewrite(folder, lambda weights: weights.pop(name))


def put(name: str, weight: Tensor) -> Spoil:
    return lambda folder: rewrite(folder, lambda weights: weights.update({name: weight}))


def configured(fields: dict[str, Any]) -> Spoil:
    return lambda folder: (folder / "config.json").write_text(json.dumps({**PUBLIC, **fields}))


def file(name: str, content: bytes | None) -> Spoil:
    return lambda folder: (folder / name).unlink() if content is None else (folder / name).write_bytes(content)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (drop("embed_out.weight"), r"'embed_out\.weight' missing"),
        (drop("gpt_neox.layers.1.mlp.dense_h_to_4h.bias"), r"'gpt_neox\.layers\.1\.mlp\.dense_h_to_4h\.bias' missing"),
        (
            put("gpt_neox.layers.2.input_layernorm.weight", torch.ones(32)),
            r"layers\.2\.input_layernorm\.weight' not expected",
        ),
        (put("lm_head.weight", torch.ones(96, 32)), r"'lm_head\.weight' not expected"),
        (put("gpt_neox.layers.0.attention.bias_scale", torch.ones(1)), "bias_scale' not expected"),
        (put("embed_out.weight", torch.ones(97, 32)), r"is \(97, 32\), this model needs \(96, 32\); choose the model"),
        (put(DENSE, torch.full((32, 32), 1 / 3, dtype=torch.float64)), "float32 would round"),
        (put(DENSE, torch.ones(32, 32, dtype=torch.int8)), r"torch\.int8, expected"),
        (put(DENSE, torch.ones(32, 32).to(torch.float8_e4m3fn)), "float8"),
        (put(DENSE, torch.full((32, 32), torch.nan)), "not finite"),
        (configured({"model_type": "llama"}), "model_type 'llama'"),
        (configured({"hidden_size": 64}), "hidden_size is 64"),
        (configured({"num_hidden_layers": 3}), "num_hidden_layers is 3"),
        (configured({"num_attention_heads": 2}), "num_attention_heads is 2"),
        (configured({"intermediate_size": 64}), "intermediate_size is 64"),
        (configured({"vocab_size": 97}), "vocab_size is 97"),
        (configured({"hidden_act": "gelu_new"}), "hidden_act is 'gelu_new'"),
        (configured({"layer_norm_eps": 1e-6}), "layer_norm_eps"),
        (configured({"use_parallel_residual": False}), "use_parallel_residual"),
        (configured({"attention_bias": False}), "attention_bias"),
        (configured({"rotary_pct": 1.0}), "rope_parameters"),
        (configured({"rotary_emb_base": 500_000}), "rope_parameters"),
        (configured({"rope_scaling": {"rope_type": "linear", "factor": 2.0}}), "rope_parameters"),
        (configured({"hidden_dropout": 0.1}), "hidden_dropout"),
        (configured({"attention_dropout": 0.1}), "attention_dropout"),
        (configured({"tie_word_embeddings": True}), "tie_word_embeddings"),
        (configured({"max_position_embeddings": 16}), "max_position_embeddings is 16, expected 24 or more"),
        (file("config.json", None), r"no config\.json"),
        (file("config.json", b"{"), "damaged, not JSON"),
        (file("config.json", b"[]"), "no JSON object"),
        (file("config.json", POINTER), "git lfs pull"),
        (file("model.safetensors", None), r"no weights; expected model\.safetensors or pytorch_model\.bin"),
        (file("model.safetensors", b"nonsense"), "damaged or not of tensors"),
        (file("model.safetensors", POINTER), "git lfs pull"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_folders_that_are_refused(folder: Path, spoil: Spoil, said: str) -> None:
    spoil(folder)
    with pytest.raises(UserError, match=said) as error:
        pretrained.folder_weights(folder, SHAPE)
    assert str(folder) in str(error.value) and "\n" not in str(error.value)


def test_a_file_that_is_cut_short_or_a_part_that_is_missing(tmp_path: Path) -> None:
    for kind in ("model-.safetensors", "pytorch_model-.bin"):
        folder = tmp_path / kind
        save(folder, weights_of(), kind)
        part = sorted(folder.glob("*-00002-*"))[0]
        part.write_bytes(part.read_bytes()[:-100])
        with pytest.raises(UserError, match=f"{part.name}: damaged"):
            pretrained.folder_weights(folder, SHAPE)
        part.unlink()
        with pytest.raises(UserError, match=rf"{part.name} of .*index\.json missing"):
            pretrained.folder_weights(folder, SHAPE)


def test_a_pickle_of_more_than_tensors(tmp_path: Path) -> None:
    save(tmp_path / "step0", weights_of(), "pytorch_model.bin")
    for content in ({"weights": weights_of()}, [1, 2], Path("code")):
        torch.save(content, tmp_path / "step0" / "pytorch_model.bin")
        with pytest.raises(UserError, match=r"no weights by name|not of tensors alone"):
            pretrained.folder_weights(tmp_path / "step0", SHAPE)


# Where they come from.
@pytest.fixture
def small_pythia(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Pythia of 14M that is much smaller."""
    monkeypatch.setitem(pythia.SHAPES, "14m", BIG)


@pytest.mark.usefixtures("small_pythia")
@pytest.mark.parametrize("deduped", [False, True])
def test_local_copies_are_preferred(tmp_path: Path, deduped: bool) -> None:
    folder = tmp_path / "pythia" / f"pythia-14m{'-deduped' if deduped else ''}" / "step27000"
    pythia.reference(BIG, weights_of(BIG)).half().save_pretrained(folder)
    same(pretrained.public_weights("14m", 27_000, deduped=deduped, data_root=tmp_path), weights_of(BIG))


@pytest.mark.usefixtures("small_pythia")
@pytest.mark.parametrize("kind", ["model.safetensors", "pytorch_model-.bin"])
def test_the_hub_is_asked_for_the_files_that_are_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    import huggingface_hub

    save(tmp_path / "cache", weights_of(BIG), kind)
    (tmp_path / "cache" / "config.json").write_text(json.dumps({**PUBLIC, "vocab_size": BIG.vocabulary}))
    asked = []

    def served(name: str, revision: str, allow_patterns: list[str]) -> str:
        asked.append((name, revision, allow_patterns[1]))
        return str(tmp_path / "cache")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", served)
    same(pretrained.public_weights("14m", 0, data_root=tmp_path), weights_of(BIG))
    patterns = ["model*.safetensors", "pytorch_model*.bin"][: 1 if kind == "model.safetensors" else 2]
    assert asked == [("EleutherAI/pythia-14m", "step0", pattern) for pattern in patterns]


@pytest.mark.usefixtures("small_pythia")
def test_absent_public_checkpoints_name_the_local_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def offline(*arguments: Any, **named: Any) -> str:
        raise OSError("We couldn't connect to the hub\nand more")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(UserError, match="cannot be fetched from the hub") as error:
        pretrained.public_weights("14m", 10_000, deduped=True, data_root=tmp_path)
    assert str(tmp_path / "pythia" / "pythia-14m-deduped" / "step10000") in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="does not exist"):
        pretrained.public_name("cpu-tiny")
