"""A record is whole, sealed and finite, or it is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bench import checkpoint, record
from bench.errors import FailedRun, UserError
from bench.record import Record
from bench.run import Result


def sample(**metrics: float) -> Record:
    result = Result(metrics={"val_acc": 51.7, **metrics}, series={"epochs": {"epoch": [1, 2], "val_acc": [40.0, 51.7]}})
    return Record("abc-def", {"seed": 3}, "sample", result, {}, {"threads": 1})


def test_it_comes_back_as_written(tmp_path: Path) -> None:
    path = tmp_path / "abc-def.json"
    record.write(path, sample())
    assert record.read(path) == sample()


def test_an_edit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "abc-def.json"
    record.write(path, sample())
    path.write_text(path.read_text().replace("51.7", "61.7"))
    with pytest.raises(UserError, match="changed after it was written"):
        record.read(path)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"seal": 1}'])
def test_half_a_record_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "abc-def.json"
    path.write_text(text)
    with pytest.raises(UserError, match="not a record"):
        record.read(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nothing_that_is_not_finite_becomes_a_result(tmp_path: Path, value: float) -> None:
    with pytest.raises(FailedRun, match="val_acc is"):
        record.write(tmp_path / "x.json", sample(val_acc=value))
    ragged = Record("k", {"seed": 0}, "r", Result({}, {"epochs": {"a": [1], "b": [1, 2]}}), {}, {})
    with pytest.raises(FailedRun, match="differ in length"):
        record.write(tmp_path / "x.json", ragged)
    hidden = Record("k", {"seed": 0}, "r", Result({}, {"epochs": {"a": [1.0, value]}}), {}, {})
    with pytest.raises(FailedRun, match=r"epochs\.a is .* in row 1"):
        record.write(tmp_path / "x.json", hidden)
    assert not list(tmp_path.iterdir())


def test_times_are_left_out_of_comparisons() -> None:
    slow, fast = sample(seconds_training=9.0), sample(seconds_training=1.0)
    assert slow.results() == fast.results()


def test_weights_are_checked_against_their_record(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    digest = checkpoint.save_tensors(path, {"w": torch.arange(3.0)})
    assert torch.equal(checkpoint.load_tensors(path, expected_sha256=digest)["w"], torch.arange(3.0))
    with pytest.raises(UserError, match="its record says"):
        checkpoint.load_tensors(path, expected_sha256="0" * 64)
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(UserError, match="not a readable safetensors file"):
        checkpoint.load_tensors(path)


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    checkpoint.write_text(path, "before")
    with pytest.raises(RuntimeError), checkpoint.atomic(path) as stream:
        stream.write(b"half")
        raise RuntimeError
    assert path.read_text() == "before"
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_records_of_an_older_version_are_named_by_every_command_that_plans(
    invented: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And stay where they are, also beside new ones."""
    from bench.cli.main import main

    runs = results / "toy" / "runs"
    runs.mkdir(parents=True)
    for number in range(3):
        (runs / f"{number:016x}-abcdef01.json").write_text(
            '{"format":1,"key":"k","label":"größer"}\n', encoding="utf-8"
        )
    (runs / "fedcba9876543210-abcdef01.json").write_text("{")  # no record at all is the business of who reads it
    for words in (["plan"], ["status"], ["plan", "--freeze"], ["run", "--limit", "1"], ["plan"]):
        assert main([*words, "--scale", str(invented)]) == 0
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("note: ") and f"{runs}: 3 records" in line and "older" in line
    assert len(list(runs.glob("*-abcdef01.json"))) == 4


def test_a_record_of_an_older_version_is_refused_where_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    path.write_text('{"format":1,"key":"k","seal":"x"}\n')
    with pytest.raises(UserError, match=r"format 1, this one writes 2.*move the folder aside"):
        record.read(path)
