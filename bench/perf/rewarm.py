"""Tokens per second of pre-training, and text per second of tokenising.

The peer of the step is GPTNeoXForCausalLM of ``transformers`` with AdamW, gradient clipping and the same data, once eager
and once under `torch.compile`. All start from the same weights. On a CPU the tiny shape is measured, on a GPU the Pythia
shapes of 14M, 70M and 410M parameters in bfloat16. The peer of tokenising is `datasets.map` with the same tokenizer.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench import seeds
from bench.data import text, tokenize
from bench.models import pythia
from bench.paths import Layout
from bench.perf.measure import TURNS, Loop, Row, compared, in_turns, memory_row, rate
from bench.rewarm.engine import Engine
from bench.rewarm.spec import PAPERS_TEXT, Optimizer, PretrainSpec, Schedule
from bench.training.context import Context
from bench.training.distributed import Ranks
from bench.training.precision import Precision, has_bf16

SHAPES = {"cpu": {"cpu-tiny": 8}, "cuda": {"14m": 64, "70m": 64, "410m": 32}}
"""Kind of device -> shape -> sequences of a step."""
LR = 1e-3
STEPS = 5
TOLERANCE = 1e-4
PEERS = {"": False, ", against torch.compile": True}
"""What a variant's name ends with -> whether the peer is compiled."""
BATCHES = 8
"""Different batches, which are taken again and again."""


def initial(shape: pythia.Shape) -> dict[str, Tensor]:
    """The weights that all start from."""
    return pythia.initial_weights(shape, seeds.generator("perf", "rewarm", "weights"))


def loop(step: Callable[[np.ndarray], Tensor], shape: pythia.Shape, batch: int, device: torch.device) -> Loop:
    """Steps on random tokens [B, T + 1], the same for all."""
    windows = [
        (torch.randint(0, shape.vocabulary, (batch, shape.context + 1), generator=draw).numpy(),)
        for draw in (seeds.generator("perf", "rewarm", number) for number in range(BATCHES))
    ]
    return Loop(step, itertools.cycle(windows), units=batch * shape.context, steps=STEPS, device=device)


def ours(name: str, batch: int, device: torch.device, precision: Precision) -> Loop:
    """The trainer's own step, compiled where the trainer compiles it."""
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
    compile: Any = "always" if device.type == "cuda" else "never"
    context = Context(key="perf", label="perf", layout=Layout.of("perf"), device=device, compile=compile)
    engine = Engine(spec, context, Ranks(0, 1, device), initial(spec.shape))
    return loop(lambda windows: engine.step(windows, LR), spec.shape, batch, device)


def plain(name: str, batch: int, device: torch.device, precision: Precision, *, compiled: bool = False) -> Loop:
    """What one writes on ``transformers``."""
    shape = pythia.shape(name)
    network = pythia.reference(shape, initial(shape)).to(device).train()
    model: Callable[..., Any] = torch.compile(network) if compiled else network
    settings = Optimizer()
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for parameter_name, parameter in network.named_parameters():
        groups[pythia.decayed(parameter_name)].append(parameter)
    optimizer = torch.optim.AdamW(
        [
            {"params": groups[True], "weight_decay": settings.weight_decay},
            {"params": groups[False], "weight_decay": 0.0},
        ],
        lr=LR,
        betas=settings.betas,
        eps=settings.eps,
        foreach=True,
    )

    def step(windows: np.ndarray) -> Tensor:
        tokens = torch.from_numpy(windows).to(device)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
            logits = model(input_ids=tokens[:, :-1]).logits
            loss = F.cross_entropy(logits.float().flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), settings.clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    return loop(step, shape, batch, device)


def loop_for_memory(side: str, device: torch.device) -> Loop:
    name, batch = [*SHAPES[device.type].items()][-1]
    precision: Precision = "bf16" if device.type == "cuda" else "float32"
    return (ours if side == "ours" else plain)(name, batch, device, precision)


def steps(device: torch.device) -> Iterator[Row]:
    """Our step against the peer's, eager and compiled: on a CPU in each precision against float32, on a GPU in bf16."""
    precisions: list[Precision] = ["bf16"]
    if device.type == "cpu":
        precisions = ["float32", "bf16"] if has_bf16(device) else ["float32"]
    for (name, batch), (ending, compiled) in itertools.product(SHAPES[device.type].items(), PEERS.items()):
        shape = "" if device.type == "cpu" else f", {name}"
        loops: dict[str, Loop] = {
            f"{precision}{shape}{ending}": ours(name, batch, device, precision) for precision in precisions
        }
        peer = plain(name, batch, device, precisions[0], compiled=compiled)
        yield from compared("rewarm/step", "tokens/s", loops, peer, tolerance=TOLERANCE)
        del loops, peer
        torch.cuda.empty_cache()


TEXT_BYTES = 10_000_000
TOKENIZER, CORPUS = "bpe-4096", "text-downstream"


def lay_out(root: Path) -> tuple[list[Path], int]:
    """Writes a corpus below `root`; returns its files and the bytes of their text.

    The text is what every environment has: the sources of its Python packages, one file a document.
    """
    folders = [root / "text" / "downstream" / name for name in text.REAL_TEXT_WEIGHTS]
    upstream = root / "text" / "upstream"
    for folder in (upstream, *folders):
        folder.mkdir(parents=True)
    files = [folder / f"{split}.jsonl" for folder in folders for split in text.SPLITS]
    streams = [path.open("w", encoding="utf-8") for path in files]
    written = 0
    for number, path in enumerate(sorted(Path(sysconfig.get_paths()["purelib"]).rglob("*.py"))):
        content = path.read_text(encoding="utf-8", errors="replace")
        streams[number % len(streams)].write(json.dumps({"text": content, "meta": {}}) + "\n")
        written += len(content.encode())
        if written >= TEXT_BYTES:
            break
    for stream in streams:
        stream.close()
    for split in text.SPLITS:  # the tokenizer is trained on what stands upstream
        shutil.copy(files[0], upstream / f"{split}.jsonl")
    return files, written


def tokenising(device: torch.device) -> Row:
    """Both start from the files and use all cores; ours leaves shards with index and checksum, the peer an Arrow file."""
    import datasets
    from transformers import PreTrainedTokenizerFast

    workers = os.cpu_count() or 1
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        files, size = lay_out(root)
        # The library's keyword arguments are not in its types.
        build: Any = PreTrainedTokenizerFast
        encode = build(tokenizer_file=str(tokenize.vocabulary(TOKENIZER, root).path))

        def by_suite() -> float:
            shutil.rmtree(root / "tokens" / TOKENIZER / CORPUS, ignore_errors=True)
            tokenize.tokenize(CORPUS, TOKENIZER, root, workers=workers)
            return size / 1e6

        def by_datasets() -> float:
            shutil.rmtree(root / "arrow", ignore_errors=True)
            names = [str(path) for path in files]
            loaded = datasets.load_dataset("json", data_files=names, split="train", cache_dir=str(root / "arrow"))
            loaded.map(
                lambda batch: {"input_ids": encode(batch["text"])["input_ids"]},
                batched=True,
                num_proc=workers,
                remove_columns=loaded.column_names,
                cache_file_name=str(root / "arrow" / "tokens.arrow"),
            )
            return size / 1e6

        timing = in_turns([lambda: rate(by_suite)], lambda: rate(by_datasets), turns=TURNS[device.type])[0]
    variant, note = f"{TOKENIZER}, {workers} processes", f"{size / 1e6:.0f} MB of text"
    return {"path": "rewarm/tokenize", "variant": variant, "unit": "MB/s", **asdict(timing), "note": note}


def rows(device: torch.device, tell: Callable[[str], None]) -> Iterator[Row]:
    """Rows of this paper; `tell` gets a line when something long begins.

    Raises:
        AssertionError: our losses in float32 are not the peer's.
    """
    tell("pre-training step")
    yield from steps(device)
    tell("tokenising")
    yield tokenising(device)
    tell("memory")
    yield memory_row(__name__, "as trained")
