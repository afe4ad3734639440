"""Generated images for scale ``ci``: classes of smooth random colour fields on which the papers' effects show.

A class has several prototypes, so that a network must generalise. A sample is a prototype shifted at random, mirrored,
scaled in contrast, mixed with a field of no class, and covered with noise.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from bench import seeds
from bench.errors import UserError, closest
from bench.run import StrictModel

if TYPE_CHECKING:
    from bench.data.images import Images


class Recipe(StrictModel):
    """How a generated data set is made; lengths in pixels, colours in the range 0 to 1."""

    classes: int = Field(10, ge=2, description="number of classes")
    prototypes: int = Field(3, ge=1, description="colour fields of a class")
    coarse: int = Field(4, ge=2, description="random colours along a side of a field, which is enlarged bicubically")
    size: int = Field(12, ge=8, description="side of an image")
    margin: int = Field(4, ge=0, description="largest shift in each direction")
    amplitude: float = Field(0.2, gt=0, description="standard deviation of the coarse colours")
    mix: float = Field(
        0.0, ge=0, description="amplitude of a field of no class that is added, relative to the class's field"
    )
    contrast: tuple[float, float] = Field((0.6, 1.4), description="range of the factor on the amplitude")
    noise: float = Field(0.1, ge=0, description="standard deviation of the noise of each pixel")
    train: int = Field(3000, ge=1, description="training samples")
    test: int = Field(1000, ge=1, description="test samples")


RECIPES = {
    # Settled on seeds other than those that are judged: a ResNet's warm starts end some 10 points behind.
    "synthetic": Recipe(prototypes=5, margin=2, noise=0.15),
    # Other fields of the same kind: a second data set, and a target of transfer.
    "synthetic_b": Recipe(prototypes=5, margin=2, noise=0.15),
    "synthetic_100": Recipe(classes=20, prototypes=2, noise=0.12),
    # bench/certified/protocol.md, section f: measured effects of normalisation and initialisation.
    "synthetic_certified": Recipe(classes=5, prototypes=3, margin=2, amplitude=0.3, noise=0.08, train=800, test=5000),
}
"""Data sets by name."""


def _fields(count: int, recipe: Recipe, draw: torch.Generator) -> Tensor:
    """Smooth random colour fields, [count, 3, side, side] with room for the shifts."""
    coarse = torch.randn(count, 3, recipe.coarse, recipe.coarse, generator=draw) * recipe.amplitude
    side = recipe.size + 2 * recipe.margin
    return F.interpolate(coarse, size=(side, side), mode="bicubic", align_corners=False)


def _samples(count: int, prototypes: Tensor, recipe: Recipe, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """uint8 images [count, 3, size, size] and labels [count], classes equally often."""
    labels = torch.arange(count) % recipe.classes
    labels = labels[torch.randperm(count, generator=draw)]
    prototype = torch.randint(0, recipe.prototypes, (count,), generator=draw)
    span = 2 * recipe.margin + 1
    rows = torch.randint(0, span, (count,), generator=draw)
    columns = torch.randint(0, span, (count,), generator=draw)
    steps = torch.arange(recipe.size)
    mirror = torch.rand(count, generator=draw) < 0.5
    low, high = recipe.contrast
    contrast = low + (high - low) * torch.rand(count, 1, 1, 1, generator=draw)
    images = torch.empty(count, 3, recipe.size, recipe.size, dtype=torch.uint8)
    for begin in range(0, count, 1000):
        part = slice(begin, min(begin + 1000, count))
        size = part.stop - part.start
        fields = prototypes[labels[part], prototype[part]]
        if recipe.mix:
            fields = fields + recipe.mix * _fields(size, recipe, draw)
        index = torch.arange(size).reshape(-1, 1, 1, 1)
        channel = torch.arange(3).reshape(1, 3, 1, 1)
        y = (rows[part, None] + steps)[:, None, :, None]
        x = (columns[part, None] + steps)[:, None, None, :]
        crops = fields[index, channel, y, x]
        crops = torch.where(mirror[part].reshape(-1, 1, 1, 1), crops.flip(3), crops)
        noise = recipe.noise * torch.randn(crops.shape, generator=draw)
        images[part] = ((0.5 + contrast[part] * crops + noise).clamp(0, 1) * 255).round().to(torch.uint8)
    return images, labels


def make(name: str) -> Images:
    """A generated data set; equal on every machine with the same release of torch.

    Raises:
        UserError: there is no recipe of that name.
    """
    from bench.data.images import Images

    if name not in RECIPES:
        raise UserError(f"generated data set '{name}' does not exist{closest(name, RECIPES)}")
    recipe = RECIPES[name]
    draw = seeds.generator("synthetic images", name)
    fields = _fields(recipe.classes * recipe.prototypes, recipe, draw)
    prototypes = fields.reshape(recipe.classes, recipe.prototypes, *fields.shape[1:])
    train, train_labels = _samples(recipe.train, prototypes, recipe, draw)
    test, test_labels = _samples(recipe.test, prototypes, recipe, draw)
    digest = hashlib.sha256(train.numpy().tobytes() + test.numpy().tobytes()).hexdigest()[:16]
    return Images(name, train, train_labels, test, test_labels, recipe.classes, digest)
