"""Image data sets as one uint8 tensor and labels each, checked before they are read."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench import checkpoint
from bench.data import fetch
from bench.errors import UserError, closest


@dataclass(frozen=True)
class Images:
    """A data set on the CPU.

    Attributes:
        name: its key.
        train: uint8 [N, C, H, W].
        train_labels: int64 [N].
        test: uint8 [M, C, H, W].
        test_labels: int64 [M].
        num_classes: number of classes.
        checksum: of the files, or of the tensors where they are generated.
    """

    name: str
    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor
    num_classes: int
    checksum: str


class _OnlyArrays(pickle.Unpickler):
    """Refuses everything but what the CIFAR batches hold: dictionaries, lists, bytes and numpy arrays."""

    ALLOWED = frozenset(
        {
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("_codecs", "encode"),
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed in a data file")
        return super().find_class(module, name)


def _unpickle(path: Path) -> dict[bytes, Any]:
    """A CIFAR batch, whose checksum has been verified."""
    try:
        return _OnlyArrays(io.BytesIO(path.read_bytes()), encoding="bytes").load()
    except (pickle.UnpicklingError, EOFError, AttributeError, ValueError) as error:
        raise UserError(f"{path}: not a CIFAR batch ({error}); delete it to have it fetched again") from error


def _tensors(images: np.ndarray, labels: Any) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(np.ascontiguousarray(images)), torch.as_tensor(np.asarray(labels), dtype=torch.int64)


def _cifar(name: str, root: Path) -> Images:
    files = fetch.ensure(name, root)
    label = b"labels" if name == "cifar10" else b"fine_labels"

    def read(paths: list[Path]) -> tuple[Tensor, Tensor]:
        batches = [_unpickle(path) for path in paths]
        images = np.concatenate([batch[b"data"] for batch in batches]).reshape(-1, 3, 32, 32)
        return _tensors(images, [value for batch in batches for value in batch[label]])

    train = sorted(path for path in files if path.name.startswith("data_batch") or path.name == "train")
    test = [path for path in files if path.name in ("test_batch", "test")]
    return _finish(name, *read(train), *read(test), 10 if name == "cifar10" else 100, files)


def _svhn(name: str, root: Path) -> Images:
    from scipy.io import loadmat

    files = fetch.ensure(name, root)

    def read(prefix: str) -> tuple[Tensor, Tensor]:
        path = next(path for path in files if path.name.startswith(prefix))
        content = loadmat(path)
        labels = content["y"].astype(np.int64).ravel() % 10  # the digit 0 is stored as 10
        return _tensors(content["X"].transpose(3, 2, 0, 1), labels)

    return _finish(name, *read("train"), *read("test"), 10, files)


def _idx(path: Path) -> np.ndarray:
    """An idx file of MNIST: magic number, sizes, bytes."""
    content = path.read_bytes()
    dimensions = content[3]
    shape = np.frombuffer(content, ">i4", dimensions, 4)
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions)
    if content[:3] != b"\0\0\x08" or values.size != int(np.prod(shape)):
        raise UserError(f"{path}: not an idx file of bytes, or cut short; delete it to have it fetched again")
    return values.reshape(shape).copy()


def _mnist(name: str, root: Path) -> Images:
    files = {path.name: path for path in fetch.ensure(name, root)}

    def read(prefix: str) -> tuple[Tensor, Tensor]:
        images = _idx(files[f"{prefix}-images-idx3-ubyte"])
        return _tensors(images[:, None], _idx(files[f"{prefix}-labels-idx1-ubyte"]))

    return _finish(name, *read("train"), *read("t10k"), 10, list(files.values()))


def _tiny_imagenet(name: str, root: Path) -> Images:
    """Folders of JPEG files. Reduced copies are read, and so is a ``val`` whose pictures were sorted into class folders.

    Nothing decoded is kept on disk, where it would outlive a change of the pictures: 110,000 take half a minute.
    """
    fetch.ensure(name, root)
    folder = root / "tiny-imagenet-200"
    train = _in_class_folders(folder / "train")
    classes = {class_name: index for index, class_name in enumerate(sorted(set(train.values())))}
    test = _annotated(folder / "val", classes) or _in_class_folders(folder / "val")
    for path, class_name in test.items():
        if class_name not in classes:
            raise UserError(
                f"{path}: '{class_name}' is not a class of {folder / 'train'}; restore val and its annotations"
            )
    if not train or not test:
        raise UserError(f"{folder}: has no pictures (*.JPEG) in {'val' if train else 'train'}; restore the folder")
    tensors = (*_decoded(train, classes), *_decoded(test, classes))
    checksum = hashlib.sha256()
    for tensor in tensors:
        checksum.update(tensor.numpy().data)
    return Images(name, *tensors, len(classes), checksum.hexdigest()[:16])


def _in_class_folders(folder: Path) -> dict[Path, str]:
    """Picture -> class, the name of a folder that holds its pictures or has a folder ``images`` for them."""
    pictures = [*folder.glob("*/*.JPEG"), *folder.glob("*/images/*.JPEG")]
    return {path: path.relative_to(folder).parts[0] for path in sorted(pictures)}


def _annotated(val: Path, classes: Collection[str]) -> dict[Path, str]:
    """Picture -> class of those pictures that ``val_annotations.txt`` names and that are there."""
    notes = val / "val_annotations.txt"
    lines = notes.read_text(encoding="utf-8", errors="replace").splitlines() if notes.exists() else []
    pictures: dict[Path, str] = {}
    for number, line in enumerate(lines, 1):
        fields = line.split("\t")
        path = val / "images" / fields[0]
        if not line.strip() or (len(fields) > 1 and not path.exists()):
            continue
        if len(fields) < 2 or fields[1] not in classes or path in pictures:
            raise UserError(
                f"{notes}, line {number}: expected a further picture and its class, with a tab between them, found "
                f"{line[:60]!r}; restore this file"
            )
        pictures[path] = fields[1]
    return pictures


def _decoded(pictures: dict[Path, str], classes: dict[str, int]) -> tuple[Tensor, Tensor]:
    """uint8 [N, 3, 64, 64] and int64 [N]."""
    images = np.empty((len(pictures), 3, 64, 64), np.uint8)
    for index, path in enumerate(pictures):
        images[index] = _jpeg(path)
    return _tensors(images, [classes[class_name] for class_name in pictures.values()])


def _jpeg(path: Path) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
    except OSError as error:
        raise UserError(f"{path}: not a readable JPEG ({error}); restore this file") from error
    if pixels.shape != (64, 64, 3):
        raise UserError(f"{path}: {pixels.shape[1]} x {pixels.shape[0]} pixels, expected 64 x 64; restore this file")
    return pixels.transpose(2, 0, 1)


def _finish(
    name: str, train: Tensor, labels: Tensor, test: Tensor, test_labels: Tensor, classes: int, files: list[Path]
) -> Images:
    checksums = "".join(f"{path.name}{checkpoint.sha256(path)}" for path in sorted(files))
    return Images(name, train, labels, test, test_labels, classes, hashlib.sha256(checksums.encode()).hexdigest()[:16])


READERS: dict[str, Callable[[str, Path], Images]] = {
    "cifar10": _cifar,
    "cifar100": _cifar,
    "svhn": _svhn,
    "mnist": _mnist,
    "tinyimagenet": _tiny_imagenet,
}


@lru_cache(maxsize=2)
def _load(name: str, root: Path) -> Images:
    if name.startswith("synthetic"):
        from bench.data import synthetic_images

        return synthetic_images.make(name)
    return READERS[name](name, root)


def load(name: str, root: Path) -> Images:
    """A data set, fetched first when it is absent; the last two stay in memory for the next run.

    Args:
        name: cifar10, cifar100, svhn, mnist, tinyimagenet, or a generated one (``synthetic``...).
        root: folder of the data sets, in the layouts that torchvision expects.

    Raises:
        UserError: unknown name, a file is altered, or it is absent and cannot be fetched.
    """
    if name not in READERS and not name.startswith("synthetic"):
        raise UserError(f"data set '{name}' does not exist{closest(name, [*READERS, 'synthetic'])}")
    return _load(name, Path(os.path.abspath(root)))


def generated(shape: tuple[int, int, int], classes: int, *, train: int, test: int) -> Images:
    """Random pixels and labels of a true shape, for tests that a run works at all."""
    draw = torch.Generator().manual_seed(0)

    def images(count: int) -> Tensor:
        return torch.randint(0, 256, (count, *shape), generator=draw, dtype=torch.uint8)

    def labels(count: int) -> Tensor:
        return torch.arange(count) % classes

    return Images("generated", images(train), labels(train), images(test), labels(test), classes, "generated")
