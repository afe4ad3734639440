"""Images per second of a training step of the thin ResNet-18.

The authors' loop is eager and in float32. Its `DataLoader` makes a PIL image, a tensor and a normalised tensor of one image
after the other, in the number of workers that is fastest on this machine, and it calls `.item()` at every step. The plain
loop has its data in memory and runs under `torch.compile`. All start from the same weights and see the same batches.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from bench import models, seeds
from bench.perf.measure import Loop, Row, compared, memory_row
from bench.training import graphs
from bench.training.precision import Precision, has_bf16
from bench.training.samples import Pool
from bench.training.step import TrainStep
from bench.warmstart.losses import cross_entropy
from bench.warmstart.train import CONSTANTS

BATCH = 128
SAMPLES = 6400
LR = 1e-3
SHAPE = (3, 32, 32)
TOLERANCE = 1e-4
WORKERS = (0, 1, 2, 4, 8)
STEPS = {"cpu": 4, "cuda": 12}
WARM = 4
"""Steps of the authors' loop after which its workers have lost the lead that they had from waiting."""


def samples() -> tuple[Tensor, Tensor]:
    """Random uint8 images [N, 3, 32, 32] and labels [N], the same on every machine."""
    draw = seeds.generator("perf", "images")
    images = torch.randint(0, 256, (SAMPLES, *SHAPE), dtype=torch.uint8, generator=draw)
    return images, torch.randint(0, 10, (SAMPLES,), generator=draw)


def network(device: torch.device) -> nn.Module:
    """The network with the weights that all start from."""
    model = models.build_seeded("thin_resnet18", seeds.seed("perf", "init"), num_classes=10, in_shape=SHAPE)
    return model.to(device).train()


def in_memory(device: torch.device, *, channels_last: bool) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of normalised images that lie on the device, without end."""
    mean, std = CONSTANTS["2020"]
    pool = Pool.make(*samples(), mean=mean, std=std, device=device, channels_last=channels_last)
    for indices in itertools.cycle(torch.arange(SAMPLES, device=device).split(BATCH)):
        yield pool.take(indices)


def ours(device: torch.device, precision: Precision) -> Loop:
    """The trainer's own step."""
    model = network(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, fused=True)
    graphs.prepare(optimizer, device)
    step = TrainStep(model, loss=cross_entropy, batch_size=BATCH, precision=precision, compile="always")

    def update(images: Tensor, labels: Tensor) -> Tensor:
        loss, logits = step(images, labels, optimizer)
        (logits.argmax(1) == labels).sum()  # the trainer counts the right answers on the device
        return loss

    batches = in_memory(device, channels_last=True)
    return Loop(update, batches, units=BATCH, steps=STEPS[device.type], device=device)


def plain(device: torch.device) -> Loop:
    """What one writes today: data in memory, `torch.compile`."""
    model = network(device)
    forward: Callable[[Tensor], Tensor] = torch.compile(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)

    def update(images: Tensor, labels: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(forward(images), labels)
        loss.backward()
        optimizer.step()
        return loss.detach()

    batches = in_memory(device, channels_last=False)
    return Loop(update, batches, units=BATCH, steps=STEPS[device.type], device=device)


class Images(Dataset[tuple[Tensor, int]]):
    """uint8 images as torchvision's CIFAR-10 hands them out: through PIL, `ToTensor` and `Normalize`."""

    def __init__(self, images: Tensor, labels: Tensor):
        from torchvision import transforms

        # torchvision keeps [N, H, W, C] as a numpy array.
        self.images = images.permute(0, 2, 3, 1).contiguous().numpy()
        self.labels = labels.tolist()
        self.transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(*CONSTANTS["2020"])])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        from PIL import Image

        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def authors(device: torch.device, workers: int) -> Loop:
    """The authors' loop."""
    model = network(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    loader = DataLoader(Images(*samples()), BATCH, num_workers=workers)

    def update(images: Tensor, labels: Tensor) -> Tensor:
        images, labels = images.to(device), labels.to(device)
        optimizer.zero_grad()
        logits = model(images)
        loss = nn.functional.cross_entropy(logits, labels)
        loss.backward()
        optimizer.step()
        logits.argmax(1).eq(labels).sum().item()
        return torch.tensor(loss.item())

    batches = itertools.chain.from_iterable(itertools.repeat(loader))
    return Loop(update, batches, units=BATCH, steps=STEPS[device.type], device=device, warm=WARM)


def fastest_workers(device: torch.device) -> int:
    """The number of workers with which the authors' loop is fastest here."""
    counts = [count for count in WORKERS if count <= (os.cpu_count() or 1)]
    return max(counts, key=lambda count: authors(device, count)())


def loop_for_memory(side: str, device: torch.device) -> Loop:
    return ours(device, "float32") if side == "ours" else authors(device, 0)


def rows(device: torch.device, tell: Callable[[str], None]) -> Iterator[Row]:
    """Rows of this paper; `tell` gets a line when something long begins.

    Raises:
        AssertionError: our losses in float32 are not the peer's.
    """
    precisions: list[Precision] = ["float32", "bf16"] if has_bf16(device) else ["float32"]
    tell("the authors' loop: its best number of workers")
    workers = fastest_workers(device)
    peers = {"": authors(device, workers), ", against torch.compile": plain(device)}
    notes = {"": f"against the authors' loop with {workers} workers"}
    for ending, peer in peers.items():
        tell(f"warmstart step{ending}")
        loops: dict[str, Loop] = {precision + ending: ours(device, precision) for precision in precisions}
        yield from compared("warmstart/step", "images/s", loops, peer, tolerance=TOLERANCE, note=notes.get(ending, ""))
    tell("memory")
    yield memory_row(__name__, "float32")
