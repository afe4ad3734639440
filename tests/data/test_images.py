"""Image data sets are read from the layouts in which people keep them, and a damaged file is named."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bench.data import images
from bench.errors import UserError

CLASSES = ("n01443537", "n01629819", "n02002556")


@pytest.fixture(autouse=True)
def nothing_in_memory() -> None:
    images._load.cache_clear()


def picture(path: Path, shade: int, size: tuple[int, int] = (64, 64)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), shade, np.uint8)).save(path, "JPEG")


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """Tiny ImageNet with two training pictures and one validation picture of each of three classes, by shades."""
    folder = tmp_path / "tiny-imagenet-200"
    lines = []
    for index, name in enumerate(CLASSES):
        for number in range(2):
            picture(folder / "train" / name / "images" / f"{name}_{number}.JPEG", 20 * index + number)
        picture(folder / "val" / "images" / f"val_{index}.JPEG", 200 + index)
        lines.append(f"val_{index}.JPEG\t{name}\t0\t0\t63\t63\n")
    (folder / "val" / "val_annotations.txt").write_text("".join(reversed(lines)))
    return folder


def load(folder: Path) -> images.Images:
    images._load.cache_clear()
    return images.load("tinyimagenet", folder.parent)


def sort_into(val: Path, inner: str = "") -> None:
    """What common scripts make of ``val``: a folder for each class."""
    for line in (val / "val_annotations.txt").read_text().splitlines():
        name, label = line.split("\t")[:2]
        (val / label / inner).mkdir(parents=True, exist_ok=True)
        shutil.move(val / "images" / name, val / label / inner / name)


def test_tiny_imagenet_as_it_comes(tiny: Path) -> None:
    data = load(tiny)
    assert data.num_classes == 3 and data.train_labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert data.train[:, 0, 0, 0].tolist() == [0, 1, 20, 21, 40, 41]
    assert data.test_labels.tolist() == [2, 1, 0] and data.test[:, 0, 0, 0].tolist() == [202, 201, 200]
    assert data.train.shape == (6, 3, 64, 64) and data.train.dtype == torch.uint8


@pytest.mark.parametrize("inner", ["", "images"])
@pytest.mark.parametrize("keeps_annotations", [True, False])
def test_tiny_imagenet_with_val_sorted_into_class_folders(tiny: Path, inner: str, keeps_annotations: bool) -> None:
    sort_into(tiny / "val", inner)
    if not keeps_annotations:
        (tiny / "val" / "val_annotations.txt").unlink()
        (tiny / "val" / "images").rmdir()
    data = load(tiny)
    assert data.test_labels.tolist() == [0, 1, 2] and data.test[:, 0, 0, 0].tolist() == [200, 201, 202]


def test_pictures_that_were_copied_into_class_folders_count_once(tiny: Path) -> None:
    kept = tiny / "val" / "kept"
    shutil.copytree(tiny / "val" / "images", kept)
    sort_into(tiny / "val")
    (tiny / "val" / "images").rmdir()
    kept.rename(tiny / "val" / "images")
    assert len(load(tiny).test) == 3


def test_replaced_pictures_and_labels_are_seen(tiny: Path) -> None:
    """Even where name, length and time of a file are what they were."""
    before = load(tiny)
    path = tiny / "train" / CLASSES[0] / "images" / f"{CLASSES[0]}_0.JPEG"
    times = path.stat()
    picture(path, 100)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    after = load(tiny)
    assert after.train[0, 0, 0, 0] == 100 and after.checksum != before.checksum
    notes = tiny / "val" / "val_annotations.txt"
    notes.write_text(
        notes.read_text().replace(CLASSES[0], "x").replace(CLASSES[1], CLASSES[0]).replace("x", CLASSES[1])
    )
    swapped = load(tiny)
    assert swapped.test_labels.tolist() == [2, 0, 1] and swapped.checksum != after.checksum


def test_what_an_older_version_decoded_is_not_used(tiny: Path) -> None:
    (tiny / "decoded.npz").write_bytes(b"PK\x03\x04 cut short")
    assert load(tiny).num_classes == 3


def test_blank_lines_and_pictures_that_a_reduced_copy_lacks_are_skipped(tiny: Path) -> None:
    notes = tiny / "val" / "val_annotations.txt"
    notes.write_text("\n" + notes.read_text() + "\n  \nval_9.JPEG\tn09999999\t0\t0\t63\t63\n\n")
    assert load(tiny).test_labels.tolist() == [2, 1, 0]


@pytest.mark.parametrize(
    "line", ["val_0.JPEG", "val_0.JPEG n01443537", "val_0.JPEG\tn09999999", f"val_2.JPEG\t{CLASSES[0]}"]
)
def test_a_wrong_line_of_the_annotations_is_named(tiny: Path, line: str) -> None:
    notes = tiny / "val" / "val_annotations.txt"
    lines = notes.read_text().splitlines()
    notes.write_text("\n".join([lines[0], line, *lines[1:]]))
    with pytest.raises(UserError, match=r"val_annotations\.txt, line 2: ") as caught:
        load(tiny)
    assert len(str(caught.value).splitlines()) == 1


def test_a_damaged_or_foreign_picture_is_named(tiny: Path) -> None:
    path = tiny / "train" / CLASSES[1] / "images" / f"{CLASSES[1]}_1.JPEG"
    content = path.read_bytes()
    for wrong in (content[: len(content) // 2], b"", b"<html>"):
        path.write_bytes(wrong)
        with pytest.raises(UserError, match=rf"{path.name}: not a readable JPEG"):
            load(tiny)
    picture(path, 0, size=(32, 64))
    with pytest.raises(UserError, match=rf"{path.name}: 64 x 32 pixels, expected 64 x 64"):
        load(tiny)


def test_missing_parts_are_named(tiny: Path) -> None:
    (tiny / "val" / "foreign").mkdir()
    shutil.move(tiny / "val" / "images" / "val_0.JPEG", tiny / "val" / "foreign")
    (tiny / "val" / "val_annotations.txt").unlink()
    with pytest.raises(UserError, match=r"'foreign' is not a class"):
        load(tiny)
    shutil.rmtree(tiny / "val")
    (tiny / "val").mkdir()
    with pytest.raises(UserError, match=r"no pictures .* in val"):
        load(tiny)


@pytest.mark.realdata
def test_real_tiny_imagenet_in_both_layouts(tmp_path: Path) -> None:
    from bench import paths

    source = paths.data_root() / "tiny-imagenet-200"
    if not source.is_dir():
        pytest.skip("tiny-imagenet-200 is not below BENCH_DATA")
    data = images.load("tinyimagenet", source.parent)
    assert data.num_classes == 200 and data.test_labels.bincount().min() > 0
    copy = tmp_path / "tiny-imagenet-200"
    copy.mkdir()
    (copy / "train").symlink_to(source / "train", target_is_directory=True)
    shutil.copytree(source / "val", copy / "val")
    sort_into(copy / "val", "images")
    other = images.load("tinyimagenet", tmp_path)
    assert torch.equal(other.train, data.train)
    order = other.test_labels.bincount().cumsum(0)
    assert len(other.test) == len(data.test) == order[-1]
    assert other.test.long().sum() == data.test.long().sum()
