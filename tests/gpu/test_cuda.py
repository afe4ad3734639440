"""On a real GPU: captured steps, copies, memory, repetition, and bounds against the CPU's. ``pytest -m gpu``."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench import models
from bench.training import graphs, memory, policy
from bench.training.samples import Pool, population_statistics, to_device
from bench.training.step import TrainStep
from bench.warmstart.losses import make_loss
from bench.warmstart.spec import Penalty

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU"),
]
GPU = torch.device("cuda")


def resnet(norm: str = "batch") -> nn.Module:
    model = models.build_seeded("thin_resnet18", 0, num_classes=10, in_shape=(3, 16, 16), width=8, norm=norm)
    return model.to(GPU).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9, fused=True),
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=1e-3, fused=True),
}


@pytest.fixture(autouse=True)
def repeatable() -> None:
    policy.prepare(deterministic=False)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True


def trained(step: TrainStep, optimizer: torch.optim.Optimizer, steps: int = 24) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    losses = []
    for number in range(steps):
        rows = 10 if number % 6 == 5 else 32
        images = to_device(torch.randn(rows, 3, 16, 16, generator=generator), GPU)
        labels = to_device(torch.randint(0, 10, (rows,), generator=generator), GPU)
        graphs.set_rate(optimizer, 0.01 / (1 + number))
        loss, _ = step(images.contiguous(memory_format=torch.channels_last), labels, optimizer)
        losses.append(loss)
    return losses


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize("penalty", [Penalty(), Penalty(kind="confidence", weight=0.1)])
def test_captured_steps_do_what_eager_ones_do(name: str, norm: str, penalty: Penalty) -> None:
    """Over learning rates and batches that are not full."""
    results = {}
    for captured in (False, True):
        model = resnet(norm)
        step = TrainStep(model, loss=make_loss(penalty), batch_size=32, compile="never", capture=captured)
        optimizer = OPTIMIZERS[name](list(model.parameters()))
        graphs.prepare(optimizer, GPU)
        losses = torch.stack(trained(step, optimizer))
        assert step.mode == ("captured" if captured else "eager")
        results[captured] = losses, model
    torch.testing.assert_close(results[True][0], results[False][0], rtol=1e-3, atol=1e-4)
    eager, own = dict(results[False][1].state_dict()), dict(results[True][1].state_dict())
    distance = sum(float((eager[key].double() - own[key].double()).square().sum()) for key in eager)
    size = sum(float(tensor.double().square().sum()) for tensor in eager.values())
    assert distance <= 1e-4 * size


def test_a_step_that_waits_for_the_device_goes_on_eagerly(capsys: pytest.CaptureFixture[str]) -> None:
    model = resnet()

    def reading(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        logits = model(images)
        loss = nn.functional.cross_entropy(logits, labels)
        return loss * (1 if float(loss.detach()) < 1e9 else 0), logits

    step = TrainStep(model, loss=reading, batch_size=32, compile="never")
    optimizer = OPTIMIZERS["adam"](list(model.parameters()))
    graphs.prepare(optimizer, GPU)
    losses = torch.stack(trained(step, optimizer))
    assert bool(torch.isfinite(losses).all()) and "cannot be captured" in step.mode
    assert "run one operation at a time" in capsys.readouterr().err


def test_a_capture_of_one_run_leaves_the_next_alone() -> None:
    """Several runs of a job, each with graphs of its own, and with memory given back in between."""
    first = None
    for _ in range(3):
        model = resnet()
        step = TrainStep(model, loss=make_loss(Penalty()), batch_size=32, compile="never")
        optimizer = OPTIMIZERS["adam"](list(model.parameters()))
        graphs.prepare(optimizer, GPU)
        losses = torch.stack(trained(step, optimizer)).cpu()
        first = losses if first is None else first
        torch.testing.assert_close(losses, first, rtol=1e-3, atol=1e-4)
        del step, model, optimizer
        memory.release()


def test_memory_that_runs_out_halves_the_work() -> None:
    free, _ = torch.cuda.mem_get_info(GPU)
    size = int(free / 4 * 1.5)  # floats: half as much again as there is

    def act(size: int) -> int:
        return torch.empty(size, device=GPU).numel()

    lines: list[str] = []
    numel, fitted = memory.fitting(act, size, tell=lines.append)
    assert numel == fitted == (size + 1) // 2 and len(lines) == 1
    memory.release()
    assert 0 < memory.room(GPU, 1.0) < free


def test_population_statistics_are_those_of_the_cpu() -> None:
    pictures = (torch.rand(70, 3, 16, 16, generator=torch.Generator().manual_seed(2)) * 255).to(torch.uint8)
    found = []
    for device in (torch.device("cpu"), GPU):
        model = copy.deepcopy(resnet()).to(device)
        labels = torch.zeros(70, dtype=torch.int64)
        pool = Pool.make(pictures, labels, mean=(0.5,) * 3, std=(0.25,) * 3, device=device)
        population_statistics(model, pool, 16)
        found.append({name: buffer.cpu() for name, buffer in model.named_buffers()})
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-3, atol=1e-4)


def test_equal_runs_are_equal_where_that_is_asked_for() -> None:
    policy.prepare(deterministic=True)
    ends: list[dict[str, Any]] = []
    for _ in range(2):
        model = resnet()
        step = TrainStep(model, loss=make_loss(Penalty()), batch_size=32, compile="never")
        optimizer = OPTIMIZERS["adam"](list(model.parameters()))
        graphs.prepare(optimizer, GPU)
        trained(step, optimizer)
        ends.append({name: tensor.cpu() for name, tensor in model.state_dict().items()})
    torch.use_deterministic_algorithms(False)
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
