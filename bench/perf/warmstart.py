"""Images per second of the training step of the thin ResNet-18 against the loop of the authors' code.

The peer is what the authors run: eager, float32, a `DataLoader` whose workers turn one image after the other into a
PIL image, a tensor and a normalised tensor, and `.item()` at every step. It gets the number of workers with which it is
fastest on this machine. Both start from the same weights and see the same batches: in float32 the first losses agree.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from bench import models, seeds
from bench.perf.measure import alternate, rate
from bench.training import precision as arithmetic
from bench.training.samples import Pool
from bench.training.step import TrainStep
from bench.warmstart import company
from bench.warmstart.losses import cross_entropy
from bench.warmstart.rounds import CONSTANTS, Batch

BATCH = 128
SAMPLES = 6400
LR = 1e-3
LOSSES = 20
TOLERANCE = 1e-4
WORKERS = (0, 1, 2, 4)
STEPS = 12
"""Steps of one turn; its warm-up is not timed."""
WARM = 4
"""Steps after which a loader's workers have filled their queues and lost their lead."""


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

    def __init__(self, images: Tensor, labels: Tensor, order: Tensor, device: torch.device):
        self.data, self.order, self.device = Images(images, labels), order.tolist(), device
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
        found = rate(lambda: BATCH * sum(1 for _ in zip(range(STEPS), steps, strict=False)))
        steps.close()
        return found

    def choose_workers(self) -> None:
        """Takes the fastest number of workers."""
        found: dict[int, float] = {}
        for self.workers in WORKERS:
            found[self.workers] = self.turn()
        self.workers = max(found, key=lambda count: found[count])


class Ours:
    """The trainer's own step on a pool of images that lies on the device."""

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        order: Tensor,
        device: torch.device,
        precision: Literal["float32", "bf16"],
        compile: Literal["never", "always"],
    ):
        mean, std = CONSTANTS["2020"]
        self.pool = Pool.make(images, labels, mean=mean, std=std, device=device)
        self.order = order.to(device)
        self.model = network().to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.begin = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=LR, fused=True)
        self.step = TrainStep(self.model, loss=cross_entropy, batch_size=BATCH, precision=precision, compile=compile)
        self.position = 0

    def some(self, steps: int) -> list[Tensor]:
        """Takes so many steps and returns their losses, on the device."""
        losses = []
        for _ in range(steps):
            index = self.order[self.position : self.position + BATCH]
            self.position = (self.position + BATCH) % len(self.order)
            images, labels = self.pool.take(index)
            loss, logits = self.step(images, labels, self.optimizer)
            # The trainer counts the right answers on the device.
            (logits.argmax(1) == labels).sum()
            losses.append(loss)
        if self.order.is_cuda:
            torch.cuda.synchronize()
        return losses

    def restart(self) -> None:
        self.model.load_state_dict(self.begin)
        self.position = 0

    def turn(self) -> float:
        """Images per second."""
        self.some(2)
        return rate(lambda: BATCH * len(self.some(2 * STEPS)))


class Together:
    """The same step of many networks at once, as a GPU takes it; each network sees every batch.

    Args:
        pool: the images.
        order: of the samples.
        count: networks.
        precision: arithmetic.
        compile: whether the step of all networks is compiled.
    """

    def __init__(self, pool: Pool, order: Tensor, count: int, precision: Literal["float32", "bf16"], compile: bool):
        self.pool, self.order = pool, order
        members = [network().to(order.device).to(memory_format=torch.channels_last) for _ in range(count)]  # type: ignore[call-overload]
        self.networks = company.Networks(members[0], count, precision, compile_batch=BATCH if compile else 0)
        self.models = members
        for slot, model in enumerate(members):
            self.networks.seat(slot, model)
            self.networks.bind(slot, torch.optim.SGD(model.parameters(), lr=LR, fused=True))
        self.position = 0

    def some(self, steps: int) -> list[Tensor]:
        """Takes so many steps of all networks and returns the first one's losses."""
        losses = []
        for _ in range(steps):
            batches = {}
            for slot in range(len(self.models)):
                index = self.order[self.position : self.position + BATCH]
                batches[slot] = Batch(*self.pool.take(index))
            self.position = (self.position + BATCH) % len(self.order)
            losses.append(self.networks.step(batches)[0][0])
        if self.order.is_cuda:
            torch.cuda.synchronize()
        return losses

    def turn(self) -> float:
        """Images per second of all networks together."""
        steps = max(2, STEPS // len(self.models)) if not self.order.is_cuda else STEPS
        return rate(lambda: BATCH * len(self.models) * len(self.some(steps)))


def network() -> nn.Module:
    """The thin ResNet-18 with the weights that both sides start from."""
    return models.build_seeded("thin_resnet18", seeds.seed("perf", "init"), num_classes=10, in_shape=(3, 32, 32))


def first_losses(peer: Peer) -> list[float]:
    steps = peer.losses()
    found = [next(steps) for _ in range(LOSSES)]
    steps.close()
    return found


def rows(
    *, turns: int = 5, device: torch.device | None = None, tell: Callable[[str], None] = lambda text: None
) -> Iterator[dict[str, Any]]:
    """Yields one row for each variant of our step: path, variant, unit, ours, peer, ratio, spread, workers, note.

    Args:
        turns: alternations of each variant with the peer.
        device: where both train; a GPU where there is one, when not given.
        tell: gets a line when something long begins.

    Raises:
        AssertionError: a float32 variant does not have the peer's first losses.
    """
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    generator = seeds.generator("perf", "images")
    images = torch.randint(0, 256, (SAMPLES, 3, 32, 32), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 10, (SAMPLES,), generator=generator)
    order = torch.randperm(SAMPLES, generator=generator)
    peer = Peer(images, labels, order, device)
    tell("the authors' loop: its best number of workers")
    peer.choose_workers()
    expected = torch.tensor(first_losses(peer))
    kinds: list[Literal["float32", "bf16"]] = ["float32", "bf16"] if arithmetic.has_bf16(device) else ["float32"]
    for kind in kinds:
        for compile in ("never", "always"):
            variant = kind + (", eager" if compile == "never" else "")
            tell(f"our step: {variant}")
            ours = Ours(images, labels, order, device, kind, compile)
            ours.some(3)  # compiles
            ours.restart()
            difference = (torch.stack(ours.some(LOSSES)).cpu() - expected).abs().max().item()
            if kind == "float32":
                assert difference < TOLERANCE, f"{variant}: losses differ by {difference:.2g} from the authors' loop"
            yield {
                "path": "warmstart/step",
                "variant": variant,
                "unit": "images/s",
                **alternate(ours.turn, peer.turn, turns=turns).row(),
                "workers": peer.workers,
                "note": f"first {LOSSES} losses within {difference:.1g}",
            }
            if device.type == "cpu" and compile == "always":
                continue  # runs train alone on a CPU; the eager row shows why
            count = company.PLACES if device.type == "cuda" else 2
            tell(f"{count} networks together: {variant}")
            many = Together(ours.pool, ours.order, count, kind, compile == "always")
            first = torch.stack(many.some(LOSSES if device.type == "cuda" else 4)).cpu()
            difference = (first - expected[: len(first)]).abs().max().item()
            yield {
                "path": "warmstart/company",
                "variant": f"{count} networks, {variant}",
                "unit": "images/s",
                **alternate(many.turn, peer.turn, turns=turns).row(),
                "workers": peer.workers,
                "note": f"first losses within {difference:.1g}",
            }
