"""The table of data sets: a further one is a further row, and a row that is incomplete or unknown is one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from bench import config, exhibit
from bench.certified import dataset, spec, train
from bench.certified.spec import DATA_SETS, Certified, DataSet, data_sets
from bench.data import images
from bench.errors import UserError
from bench.workflow import plan

from .conftest import MakeContext, tiny

SVHN: dict[str, Any] = {
    "shape": (3, 32, 32),
    "classes": 10,
    "train": 73_257,
    "test": 26_032,
    "eps": 4 / 255,
    "eps_code": 4 / 255,
    "batch": 64,
    "lambda_0": 0.3,
    "crop": 1,
    "flip": False,
    "mean": (0.45, 0.44, 0.47),
    "std": (0.2, 0.2, 0.2),
}


@pytest.fixture
def svhn(monkeypatch: pytest.MonkeyPatch) -> DataSet:
    row = data_sets({"svhn": SVHN})["svhn"]
    monkeypatch.setitem(spec.DATA_SETS, "svhn", row)
    return row


SCALE = """
scale: streets
common:
  certified:
    stand_in: {cifar10: svhn}
    schedules: {cifar_70: {zero: 1, ramp: 2, final: 1, milestones: [3]}}
exhibits:
  certified/table1: {seeds: 1, residual_seeds: 1, courses: [cifar_70]}
"""


def test_a_further_row_can_stand_in_for_a_data_set_of_the_paper(svhn: DataSet, tmp_path: Path) -> None:
    path = tmp_path / "streets.yaml"
    path.write_text(SCALE)
    runs = plan.make(config.load(str(path)), ["certified/table1"]).runs.values()
    trainings = [run.spec for run in runs if isinstance(run.spec, Certified)]
    assert len(trainings) == 9
    for training in trainings:
        assert training.dataset == "svhn" and training.data() == ("svhn",)
        assert (training.target, training.batch_size, training.weight) == (4 / 255, 64, 0.3)
        assert (training.train_samples(), training.test_samples()) == (73_257, 26_032)


def test_a_further_row_is_trained_on(svhn: DataSet, make_context: MakeContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "load", lambda name, root: images.generated((3, 32, 32), 10, train=80, test=20))
    training = tiny(dataset="svhn", batch=32, report_samples=10)
    result = train.train(training, make_context(training))
    assert result.notes["target_eps"] == 4 / 255
    black = dataset.Range.of("svhn", torch.device("cpu")).low.flatten()
    torch.testing.assert_close(black, torch.tensor([-2.25, -2.2, -2.35]))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"eps": None, "batch": None}, ["svhn", "lacks eps, batch"]),
        ({"mean": (0.5,)}, ["svhn", "3 channels", "1 means"]),
        ({"classes": 1}, ["svhn", "classes", "greater than or equal to 2"]),
        ({"flips": True}, ["svhn", "flips"]),
    ],
)
def test_an_incomplete_or_wrong_row_is_one_line(change: dict[str, Any], words: list[str]) -> None:
    row = {name: value for name, value in {**SVHN, **change}.items() if value is not None}
    with pytest.raises(UserError) as raised:
        data_sets({"svhn": row})
    assert "\n" not in str(raised.value)
    assert all(word in str(raised.value) for word in words)


@pytest.mark.parametrize(("name", "words"), [("cifar11", "did you mean 'cifar10'"), ("svhn", "known: cifar10, mnist")])
def test_an_unknown_data_set_is_one_line(name: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "streets.yaml"
    path.write_text(SCALE.replace("svhn", name))
    suite = config.load(str(path))
    with pytest.raises(UserError, match=words) as raised:
        exhibit.settings_of(suite, exhibit.registry()["certified/table1"])
    assert "\n" not in str(raised.value)
    with pytest.raises(ValueError, match=f"unknown data set '{name}'"):
        Certified(seed=0, dataset=name)


def test_the_schema_names_all_data_sets() -> None:
    schema = Certified.model_json_schema()["properties"]["dataset"]
    assert schema["enum"] == [*DATA_SETS]
