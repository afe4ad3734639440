"""The step computes the same losses however it is run; when it is compiled."""

from __future__ import annotations

import pytest
import torch

from bench import models, seeds
from bench.training import step as steps
from bench.training.precision import has_bf16
from bench.training.step import TrainStep, should_compile
from bench.warmstart.losses import cross_entropy
from bench.workflow import process

CPU = torch.device("cpu")

GOLDEN = [2.4157, 2.6683, 2.3843, 2.5553, 1.9866, 2.1569, 1.9136, 2.0439]
"""First losses in float32. In later ones another order of summing shows; a change of them needs a reason in its commit."""


def losses(count: int = 20, dtype: torch.dtype = torch.float32, **options: object) -> list[float]:
    """SGD steps of a narrow thin ResNet-18 on random images, all in one memory format."""
    model = models.build_seeded("thin_resnet18", 0, num_classes=10, in_shape=(3, 16, 16), width=8)
    layout = torch.channels_last if options.pop("channels_last", True) else torch.contiguous_format
    model = model.to(dtype=dtype, memory_format=layout).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, fused=bool(options.pop("fused", True)))
    step = TrainStep(model, loss=cross_entropy, batch_size=32, **options)
    draw = seeds.generator("golden")
    images = torch.randn(128, 3, 16, 16, generator=draw).to(dtype)
    labels = torch.randint(0, 10, (128,), generator=draw)
    values = []
    for index in range(count):
        part = torch.arange(index * 32, index * 32 + 32) % 128
        loss, logits = step(images[part].contiguous(memory_format=layout), labels[part], optimizer)
        assert logits.shape == (32, 10) and not loss.requires_grad
        values.append(loss.item())
    return values


def assert_losses_stay(**options: object) -> None:
    """Exactly in float64; in float32 to rounding, which grows where a ReLU's input lies next to 0."""
    for count, dtype, within in ((10, torch.float64, 1e-6), (4, torch.float32, 1e-4), (8, torch.float32, 1e-2)):
        assert losses(count, dtype, **options) == pytest.approx(losses(count, dtype), rel=within)


def test_golden_losses() -> None:
    assert losses(len(GOLDEN)) == pytest.approx(GOLDEN, rel=1e-2)


def test_layout_and_fused_optimiser_change_nothing_but_rounding() -> None:
    assert_losses_stay(channels_last=False, fused=False)


def test_bf16_stays_near_float32() -> None:
    assert losses(10, precision="bf16") == pytest.approx(losses(10), rel=0.05)
    assert losses(3, precision="bf16") != losses(3)


@pytest.mark.slow
@pytest.mark.skipif(not steps.can_compile(), reason="no C++ compiler")
def test_compiled_equals_eager_and_other_batch_sizes_stay_eager() -> None:
    process.compile_for(torch.get_num_threads())
    assert_losses_stay(compile="always")
    model = models.build_seeded("thin_resnet18", 0, num_classes=10, in_shape=(3, 16, 16), width=8)
    step = TrainStep(model, loss=cross_entropy, batch_size=32, compile="always")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    step(torch.randn(5, 3, 16, 16), torch.zeros(5, dtype=torch.int64), optimizer)
    assert torch._dynamo.utils.counters["stats"].get("unique_graphs", 0) == 0


def test_compiling_is_chosen_by_length_kind_and_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    resnet = models.build("thin_resnet18", num_classes=10, in_shape=(3, 32, 32))
    mlp = models.build("mlp", num_classes=10, in_shape=(3, 32, 32))
    monkeypatch.setattr(steps, "can_compile", lambda: True)
    gpu = torch.device("cuda")
    assert should_compile("auto", resnet, CPU, steps=1e5, batch_size=16)
    assert not should_compile("auto", resnet, CPU, steps=1e4, batch_size=16)  # as many steps of larger batches pay
    assert should_compile("auto", resnet, CPU, steps=1e4, batch_size=128)
    assert should_compile("auto", resnet, gpu, steps=1e4, batch_size=16)
    assert not should_compile("auto", resnet, gpu, steps=100, batch_size=128)
    assert not should_compile("auto", mlp, CPU, steps=1e6, batch_size=128)
    assert not should_compile("never", resnet, CPU, steps=1e6, batch_size=128)
    assert should_compile("always", mlp, CPU, steps=1, batch_size=128)
    monkeypatch.setattr(steps, "can_compile", lambda: False)
    assert not should_compile("always", resnet, CPU, steps=1e6, batch_size=128)


def test_bf16_support_is_read_from_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.training.precision.cpu_flags", lambda: {"avx2", "avx512f"})
    assert not has_bf16(CPU)
    monkeypatch.setattr("bench.training.precision.cpu_flags", lambda: {"avx2", "amx_bf16"})
    assert has_bf16(CPU)
