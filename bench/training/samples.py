"""Images on the device as one tensor: gathered, normalised and augmented in batches, without loader workers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

EVAL_BATCH = 500

READY_BYTES = 1_000_000_000
"""Sets that are smaller as float32 are normalised once, larger ones batch by batch."""


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copies a CPU tensor; a copy to a GPU goes on beside what the host does next, which takes pinned memory."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


@dataclass
class Pool:
    """Samples on a device.

    Attributes:
        images: uint8 [N, C, H, W], or float32 already normalised.
        labels: int64 [N].
        mean: [1, C, 1, 1] of the 0-to-1 range, on the device.
        std: [1, C, 1, 1].
        channels_last: whether batches come in channels-last memory, which CPU and GPU convolutions prefer.
    """

    images: Tensor
    labels: Tensor
    mean: Tensor
    std: Tensor
    channels_last: bool

    @classmethod
    def make(
        cls,
        images: Tensor,
        labels: Tensor,
        *,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        device: torch.device,
        channels_last: bool = True,
    ) -> Pool:
        """Moves samples to the device and normalises them if they are few."""
        centre = torch.tensor(mean, device=device).reshape(1, -1, 1, 1)
        scale = torch.tensor(std, device=device).reshape(1, -1, 1, 1)
        pool = cls(images.to(device), labels.to(device), centre, scale, channels_last)
        if 4 * images.numel() <= READY_BYTES:
            pool.images = pool.normalised(pool.images)
        return pool

    def __len__(self) -> int:
        return len(self.labels)

    def normalised(self, images: Tensor) -> Tensor:
        """uint8 images to normalised float32, in the pool's memory layout."""
        if images.dtype == torch.uint8:
            images = (images.float() / 255 - self.mean) / self.std
        return images.contiguous(memory_format=torch.channels_last) if self.channels_last else images

    def take(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """A batch: float32 [B, C, H, W] and int64 [B]; `index` is int64 [B] on the device."""
        return self.normalised(self.images[index]), self.labels[index]


@torch.no_grad()
def population_statistics(model: nn.Module, pool: Pool, batch_size: int, samples: int | None = None) -> None:
    """BatchNorm's running statistics as means over batches of the first `samples` of the pool, for fixed weights.

    Running averages lag where an epoch has few steps and the weights change much in each (Wu & Johnson 2021,
    "Rethinking 'Batch' in BatchNorm", section 3). The model keeps its mode, and its parameters are not touched.
    """
    count = len(pool) if samples is None else samples
    device = pool.labels.device
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    momenta, was_training = [norm.momentum for norm in norms], model.training
    for norm in norms:
        norm.reset_running_stats()
    model.train()
    # A last batch of one sample has no variance.
    for number, start in enumerate(range(0, max(1, count - 1), batch_size), start=1):
        for norm in norms:
            # What momentum None means; a norm would ask the device for the number.
            norm.momentum = 1.0 / number
        model(pool.take(torch.arange(start, min(start + batch_size, count), device=device))[0])
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.train(was_training)


@torch.inference_mode()
def accuracy(model: nn.Module, pool: Pool, samples: int | None = None) -> float:
    """Accuracy in percent in eval mode, on the first `samples` of the pool."""
    was_training = model.training
    model.eval()
    count = len(pool) if samples is None else samples
    device = pool.labels.device
    right = torch.zeros((), dtype=torch.int64, device=device)
    for start in range(0, count, EVAL_BATCH):
        images, labels = pool.take(torch.arange(start, min(start + EVAL_BATCH, count), device=device))
        right += (model(images).argmax(1) == labels).sum()
    model.train(was_training)
    return 100 * right.item() / count
