"""Images per second of the training step of the thin ResNet-18 against the loop of the authors' code.

The peer is what the authors run: eager, float32, a `DataLoader` whose workers turn one image after the other into a
PIL image, a tensor and a normalised tensor, and `.item()` at every step. It gets the number of workers with which it is
fastest on this machine. Further peers have the data in memory, eager and under `torch.compile`. All start from the same
weights and see the same batches: in float32 the first losses agree.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from bench import models, seeds
from bench.perf import peaks, profile
from bench.perf.measure import Timing, alternate, in_turns, rate
from bench.training.precision import Precision
from bench.training.samples import Pool
from bench.training.step import TrainStep
from bench.warmstart import company
from bench.warmstart.losses import cross_entropy
from bench.warmstart.spec import Network
from bench.warmstart.train import CONSTANTS, Batch

THIN, WIDE = "thin_resnet18", "resnet18"
BATCH = 128
SAMPLES = 6400
LR = 1e-3
LOSSES = 20
IN_SHAPE = (3, 32, 32)
Compile = Literal["never", "always"]
COMPILE: tuple[Compile, ...] = ("never", "always")
FEWER = 3
"""Losses that are compared where a step takes long and another row has compared all."""
TOLERANCE = 1e-4
WORKERS = (0, 1, 2, 4, 8)
STEPS = {"cpu": 4, "cuda": 12}
"""Steps of one turn; its warm-up is not timed."""
WARM = 4
"""Steps after which a loader's workers have filled their queues and lost their lead."""


@dataclass(frozen=True)
class Samples:
    """What all ways train on, and where.

    Attributes:
        images: uint8 [N, 3, 32, 32].
        labels: int64 [N].
        order: int64 [N], of the samples in an epoch.
        device: of the training.
    """

    images: Tensor
    labels: Tensor
    order: Tensor
    device: torch.device

    def pool(self, *, channels_last: bool = True) -> Pool:
        mean, std = CONSTANTS["2020"]
        return Pool.make(self.images, self.labels, mean=mean, std=std, device=self.device, channels_last=channels_last)

    @classmethod
    def drawn(cls, device: torch.device) -> Samples:
        """Random ones, the same on every machine."""
        generator = seeds.generator("perf", "images")
        images = torch.randint(0, 256, (SAMPLES, 3, 32, 32), dtype=torch.uint8, generator=generator)
        labels = torch.randint(0, 10, (SAMPLES,), generator=generator)
        return cls(images, labels, torch.randperm(SAMPLES, generator=generator), device)

    def indices(self) -> Iterator[Tensor]:
        """Samples of one step after the other, without end: int64 [B] on the device."""
        return itertools.cycle(self.order.to(self.device).split(BATCH))


class Images(Dataset):
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


class Peer:
    """The authors' loop."""

    def __init__(self, on: Samples):
        self.data, self.order, self.device = Images(on.images, on.labels), on.order.tolist(), on.device
        self.workers = 0

    def losses(self) -> Generator[float, None, None]:
        """Trains from the common start and yields each step's loss; ends the workers when closed."""
        model = network().to(self.device)
        optimizer = torch.optim.SGD(model.parameters(), lr=LR)
        criterion = nn.CrossEntropyLoss()
        loader = DataLoader(self.data, BATCH, sampler=self.order, num_workers=self.workers)
        model.train()
        correct = 0
        for images, labels in loader:
            images, labels = images.to(self.device), labels.to(self.device)
            optimizer.zero_grad()
            logits = model(images)
            loss = criterion(logits, labels)
            loss.backward()
            optimizer.step()
            correct += logits.argmax(1).eq(labels).sum().item()
            yield loss.item()

    def turn(self) -> float:
        """Images per second once the workers are busy."""
        steps = self.losses()
        for _ in range(WARM):
            next(steps)
        found = rate(lambda: BATCH * sum(1 for _ in zip(range(STEPS[self.device.type]), steps, strict=False)))
        steps.close()
        return found

    def choose_workers(self) -> None:
        """Takes the fastest number of workers."""
        found: dict[int, float] = {}
        for self.workers in (count for count in WORKERS if count <= (os.cpu_count() or 1)):
            found[self.workers] = self.turn()
        self.workers = max(found, key=lambda count: found[count])


class InMemory:
    """A plain loop on normalised images that lie on the device, in the layout that they were read in.

    Args:
        on: the samples.
        compiled: whether the network runs under `torch.compile`.
        name: the network.
    """

    def __init__(self, on: Samples, *, compiled: bool = False, name: str = THIN):
        self.pool = on.pool(channels_last=False)
        self.indices, model = on.indices(), network(name).to(on.device).train()
        self.optimizer = torch.optim.SGD(model.parameters(), lr=LR)
        self.model: Callable[[Tensor], Tensor] = torch.compile(model) if compiled else model

    def some(self, steps: int) -> list[float]:
        """Takes so many steps and returns their losses."""
        losses = []
        for _ in range(steps):
            images, labels = self.pool.take(next(self.indices))
            self.optimizer.zero_grad()
            loss = nn.functional.cross_entropy(self.model(images), labels)
            loss.backward()
            self.optimizer.step()
            losses.append(loss.item())
        return losses

    def turn(self, steps: int) -> float:
        """Images per second after a step that is not timed."""
        self.some(1)
        return rate(lambda: BATCH * len(self.some(steps)))


class Ours:
    """The trainer's own step on a pool of images that lies on the device."""

    def __init__(
        self,
        on: Samples,
        precision: Precision,
        compile: Compile,
        name: str = THIN,
    ):
        self.on, self.pool, self.indices = on, on.pool(), on.indices()
        self.precision = precision
        self.model = network(name).to(on.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.begin = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=LR, fused=True)
        self.step = TrainStep(self.model, loss=cross_entropy, batch_size=BATCH, precision=precision, compile=compile)

    def some(self, steps: int) -> list[Tensor]:
        """Takes so many steps and returns their losses, on the device."""
        losses = []
        for _ in range(steps):
            images, labels = self.pool.take(next(self.indices))
            loss, logits = self.step(images, labels, self.optimizer)
            # The trainer counts the right answers on the device.
            (logits.argmax(1) == labels).sum()
            losses.append(loss)
        if self.on.device.type == "cuda":
            torch.cuda.synchronize()
        return losses

    def restart(self) -> None:
        self.model.load_state_dict(self.begin)
        self.indices = self.on.indices()

    def turn(self, steps: int) -> float:
        """Images per second after a step that is not timed."""
        self.some(1)
        return rate(lambda: BATCH * len(self.some(steps)))


class Together:
    """The same step of many networks at once, as a GPU takes it; each network sees every batch.

    Args:
        on: the samples.
        pool: their images on the device.
        count: networks.
        precision: arithmetic.
        compile: whether the step of all networks is compiled.
    """

    def __init__(self, on: Samples, pool: Pool, count: int, precision: Precision, compile: bool):
        self.on, self.pool, self.indices = on, pool, on.indices()
        members = [network().to(on.device).to(memory_format=torch.channels_last) for _ in range(count)]  # type: ignore[call-overload]
        self.networks = company.Networks(members[0], count, precision, compile_batch=BATCH if compile else 0)
        self.models = members
        for slot, model in enumerate(members):
            self.networks.seat(slot, model)
            self.networks.bind(slot, torch.optim.SGD(model.parameters(), lr=LR, fused=True))

    def some(self, steps: int) -> list[Tensor]:
        """Takes so many steps of all networks and returns the first one's losses."""
        losses = []
        for _ in range(steps):
            index = next(self.indices)
            batches = {slot: Batch(*self.pool.take(index)) for slot in range(len(self.models))}
            losses.append(self.networks.step(batches)[0][0])
        if self.on.device.type == "cuda":
            torch.cuda.synchronize()
        return losses

    def turn(self) -> float:
        """Images per second of all networks together."""
        steps = STEPS[self.on.device.type] // (1 if self.on.device.type == "cuda" else len(self.models))
        self.some(1)
        return rate(lambda: BATCH * len(self.models) * len(self.some(steps)))


def network(name: str = THIN) -> nn.Module:
    """A ResNet-18 with the weights that all sides start from."""
    return models.build_seeded(name, seeds.seed("perf", "init"), num_classes=10, in_shape=IN_SHAPE)


def first_losses(peer: Peer) -> list[float]:
    steps = peer.losses()
    found = [next(steps) for _ in range(LOSSES)]
    steps.close()
    return found


def _difference(ours: list[Tensor], expected: Tensor, variant: str, *, exact: bool) -> str:
    """The remark on how far the first losses are apart.

    Raises:
        AssertionError: too far for arithmetic that must agree.
    """
    found = (torch.stack(ours).cpu() - expected[: len(ours)]).abs().max().item()
    assert not exact or found < TOLERANCE, f"{variant}: losses differ by {found:.2g} from the peer's"
    return f"first {len(ours)} losses within {found:.1g}"


@dataclass(frozen=True)
class Way:
    """Of taking steps of the thin ResNet-18: a row but for its timing."""

    path: str
    variant: str
    kind: Precision
    turn: Callable[[], float]
    note: str


class Table:
    """Rows of this path, with the share of the machine's peak that our arithmetic reaches."""

    def __init__(self, on: Samples, turns: int):
        self.on, self.turns = on, turns
        self.large = on.device.type == "cuda"
        self.steps = STEPS[on.device.type]
        self.peaks = peaks.by_precision(on.device)

    def row(self, path: str, variant: str, kind: Precision, name: str, timing: Timing, note: str) -> dict[str, Any]:
        """One row."""
        # Forward, and backward to the inputs and to the weights.
        flops = 6 * Network.model_validate({"name": name}).macs(IN_SHAPE, 10)
        share = flops * timing.ours / self.peaks[kind]
        values = {**timing.row(), "share": share, "note": note}
        return {"path": path, "variant": variant, "unit": "images/s", **values}

    def against_authors(self, peer: Peer) -> Iterator[dict[str, Any]]:
        """Our step in each arithmetic, eager and compiled, alone and with others, against the authors' loop."""
        ways = list(self._ways(torch.tensor(first_losses(peer))))
        timings = in_turns([way.turn for way in ways], peer.turn, turns=self.turns)
        loop = f"against the authors' loop with {peer.workers} workers"
        for way, timing in zip(ways, timings, strict=True):
            yield self.row(way.path, way.variant, way.kind, THIN, timing, f"{loop}; {way.note}")

    def _ways(self, expected: Tensor) -> Iterator[Way]:
        """Those of the thin ResNet-18, compiled and with their first losses compared."""
        for kind in self.peaks:
            for compile in COMPILE:
                headline = compile == "always"
                variant = kind if headline else f"{kind}, eager"
                ours = Ours(self.on, kind, compile)
                ours.some(1)  # compiles
                ours.restart()
                note = _difference(ours.some(LOSSES if headline else FEWER), expected, variant, exact=kind == "float32")
                if not headline:
                    note += f"; {profile.remark(partial(ours.some, 1))}"
                yield Way("warmstart/step", variant, kind, partial(ours.turn, self.steps), note)
                if not self.large and variant != "float32, eager":
                    continue  # runs train alone on a CPU; this row shows why
                count = company.PLACES if self.large else 2
                many = Together(self.on, ours.pool, count, kind, headline)
                note = _difference(many.some(LOSSES if self.large else FEWER), expected, variant, exact=False)
                note += "" if self.large else "; not used on a CPU"
                yield Way("warmstart/company", f"{count} networks, {variant}", kind, many.turn, note)

    def against_memory(self, ours: Ours, name: str, *, compiled: bool) -> dict[str, Any]:
        """Our step against a plain loop with its data in memory, eager or compiled."""
        peer = InMemory(self.on, compiled=compiled, name=name)
        steps = self.steps if name == THIN or self.large else 1
        checked = LOSSES if self.large else FEWER if name == THIN else 1
        variant = (
            f"float32{'' if name == THIN else ', wide, eager'}, against {'torch.compile' if compiled else 'eager'}"
        )
        expected = torch.tensor(peer.some(checked))
        ours.restart()
        note = _difference(ours.some(checked), expected, variant, exact=True)
        turns = self.turns if name == THIN or self.large else 2  # a step of the wide network takes seconds
        timing = alternate(lambda: ours.turn(steps), lambda: peer.turn(steps), turns=turns)
        return self.row("warmstart/step", variant, "float32", name, timing, f"data in memory; {note}")


def rows(
    *, turns: int = 3, device: torch.device | None = None, tell: Callable[[str], None] = lambda text: None
) -> Iterator[dict[str, Any]]:
    """Yields one row for each variant of our step: path, variant, unit, ours, peer, ratio, spread, note.

    Args:
        turns: alternations of each variant with the peer.
        device: where both train; a GPU where there is one, when not given.
        tell: gets a line when something long begins.

    Raises:
        AssertionError: a float32 variant does not have the peer's first losses.
    """
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    on = Samples.drawn(device)
    table, peer = Table(on, turns), Peer(on)
    tell("the authors' loop: its best number of workers")
    peer.choose_workers()
    tell("our step against the authors' loop")
    yield from table.against_authors(peer)
    tell("our step against loops with their data in memory")
    ours = Ours(on, "float32", "always")
    for compiled in (False, True):
        yield table.against_memory(ours, THIN, compiled=compiled)
    yield table.against_memory(Ours(on, "float32", "never", WIDE), WIDE, compiled=False)
