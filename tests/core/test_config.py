"""Wrong configuration stops before any job, with one line for each wrong key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench import config, exhibit
from bench.errors import UserError


def write(folder: Path, text: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("scale: x\nthread: 2\n", "unknown key 'thread'; did you mean 'threads'?"),
        ("scale: x\nthreads: many\n", "threads: Input should be a valid integer"),
        ("scale: x\nthreads: true\n", "threads: Input should not be true or false"),
        ("scale: x\nthreads: 0\n", "threads: Input should be greater than or equal to 1"),
        ("scale: ../up\n", "scale: String should match pattern"),
        ("scale: [\n", "not YAML"),
        ("just text\n", "expected keys and values"),
        ("scale: x\nexhibits: {}\nseeds: 1\nexhibits: {}\n", ":4: duplicate key 'exhibits'"),
        ("scale: x\nexhibits:\n  a: {b: 1}\n  a:\n", ":4: duplicate key 'a'"),
        ("scale: x\nthreads: !!python/object/apply:os.getpid []\n", "not YAML"),
    ],
)
def test_wrong_scale_file_names_file_and_key(tmp_path: Path, text: str, expected: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(UserError) as caught:
        config.load(path)
    assert expected in str(caught.value)
    assert path in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("value", "meaning"),
    [
        ("010", "8"),
        ("-017", "-15"),
        ("0_10", "8"),
        ("1:30", "a time"),
        ("1:30.5", "a time"),
        ("yes", "true"),
        ("NO", "false"),
        ("On", "true"),
        ("off", "false"),
    ],
)
@pytest.mark.parametrize("where", ["threads: {}", "common: {{warmstart: {{seeds: {}}}}}", "only: [{}]", "{}: 1"])
def test_what_yaml_takes_for_something_else_is_refused(tmp_path: Path, where: str, value: str, meaning: str) -> None:
    path = write(tmp_path, f"scale: x\n{where.format(value)}\n")
    with pytest.raises(UserError) as caught:
        config.load(path)
    assert f"{path}:2: '{value}' means {meaning}" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "threads", "about"),
    [
        ("threads: 10\nabout: 'no'", 10, "no"),
        ('threads: 07\nabout: "1:30"', 7, "1:30"),
        ("threads: 0x10\nabout: at 1:30 yes", 16, "at 1:30 yes"),
        ("threads: 1_0\nabout: |\n  010\n", 10, "010\n"),
    ],
)
def test_what_yaml_takes_for_what_it_says_is_read(tmp_path: Path, text: str, threads: int, about: str) -> None:
    suite = config.load(write(tmp_path, f"scale: x\n{text}\n"))
    assert (suite.threads, suite.about) == (threads, about)


def test_a_number_with_an_exponent_is_one(tmp_path: Path) -> None:
    # YAML 1.1 takes `1e-9`, without a point, for text.
    assert config.load(write(tmp_path, "scale: x\njob_minutes: 1e-9\n")).job_minutes == 1e-9


def test_a_scale_file_in_another_encoding_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes("scale: x\nabout: für mich\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"mine\.yaml: not text in UTF-8 \(byte 17\)"):
        config.load(str(path))


def test_missing_scale_file_names_the_closest() -> None:
    with pytest.raises(UserError, match="did you mean 'small'"):
        config.load("smal")


def test_at_most_ten_lines(tmp_path: Path) -> None:
    path = write(tmp_path, "scale: x\n" + "".join(f"wrong{n}: 1\n" for n in range(30)))
    with pytest.raises(UserError) as caught:
        config.load(path)
    assert len(str(caught.value).splitlines()) == 10
    assert "and 21 more" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "exhibits: {invented/distence: {}}",
            "exhibit 'invented/distence' does not exist; did you mean 'invented/distance'?",
        ),
        ("exhibits: {invented/distance: {drift: [1]}}", "unknown key 'drift'; did you mean 'drifts'?"),
        ("exhibits: {invented/distance: {drifts: [true]}}", "drifts: Input should not be true or false"),
        ("common: {invented: {sed: 1}}", "common.invented: unknown key 'sed'; did you mean 'seeds'?"),
        ("common: {inventet: {}}", "unknown paper 'inventet'"),
        ("exhibits: {warmstart: {seeds: 1}}", "'warmstart' is a paper; what its exhibits share goes below `common`"),
        ("exhibits: {invented/curve: {steps: 0}}", "steps: Input should be greater than or equal to 1"),
    ],
)
def test_wrong_exhibit_settings(invented: Path, tmp_path: Path, text: str, expected: str) -> None:
    suite = config.load(write(tmp_path, f"scale: x\n{text}\n"))
    with pytest.raises(UserError) as caught:
        exhibit.check(suite)
    assert expected in str(caught.value)


def test_a_paper_that_does_not_exist_names_the_closest() -> None:
    with pytest.raises(UserError, match="'warmstrt' does not exist; did you mean 'warmstart'"):
        exhibit.select(config.load("ci"), ["warmstrt"])


def test_settings_take_paper_wide_then_own_values(invented: Path, tmp_path: Path) -> None:
    suite = config.load(
        write(tmp_path, "scale: x\ncommon: {invented: {seeds: 2, steps: 7}}\nexhibits: {invented/curve: {steps: 9}}\n")
    )
    exhibits = exhibit.registry()
    curve = exhibit.settings_of(suite, exhibits["invented/curve"])
    assert (curve.seeds, curve.steps) == (2, 9)
    assert not curve.at_protocol()
    table = exhibit.settings_of(suite, exhibits["invented/distance"])
    assert table.seeds == 2
    assert table.at_protocol()  # fewer seeds leave each number comparable


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "common: {invented: {seeds: 0}}\nexhibits: {invented/curve: {}, invented/distance: {}}",
            ["scale x, common.invented: seeds: "],
        ),
        (
            "exhibits: {warmstart/architecture: {networks: [thinn]}}",
            ["networks.0: Input should be 'thin', 'wide' or 'group_norm' (found 'thinn')"],
        ),
        ("exhibits: {warmstart/table2: {datasets: [cifar11]}}", ["datasets", "cifar10"]),
        ("exhibits: {warmstart/fig13: {pairs: [{dataset: svhn, model: resnet19}]}}", ["model", "thin_resnet18"]),
    ],
    ids=["a shared key", "an item of a list", "a data set", "a model"],
)
def test_a_wrong_value_is_told_once_with_what_is_allowed(
    invented: Path, tmp_path: Path, text: str, words: list[str]
) -> None:
    with pytest.raises(UserError) as caught:
        exhibit.check(config.load(write(tmp_path, f"scale: x\n{text}\n")))
    (line,) = str(caught.value).splitlines()
    assert all(word in line for word in words), line


def wrong(value: Any) -> list[Any]:
    """Values of the same form that make no sense; none where there is nothing to spoil."""
    if isinstance(value, bool | str) or value is None:
        return ["nonsense"]
    if isinstance(value, int | float):
        return [-1, 1e12]
    if isinstance(value, dict):
        return [dict.fromkeys(value, -1)] if value else []
    return [[-1], [0]] if isinstance(value, tuple) else []


def test_what_only_the_runs_make_impossible_is_said_without_their_specification(tmp_path: Path) -> None:
    suite = config.load(write(tmp_path, "scale: x\ncommon:\n  certified: {classes: {mnist: 12}}\n"))
    table = exhibit.registry()["certified/table1"]
    with pytest.raises(UserError) as caught:
        exhibit.runs_of(suite, table, exhibit.settings_of(suite, table))
    assert str(caught.value) == "scale x, certified/table1: mnist has 10 classes, not 12"


def test_a_wrong_value_of_any_setting_is_a_line_of_text() -> None:
    """Also where only the runs that it makes are impossible, and not the setting by itself."""
    suite = config.load("ci")
    refused = 0
    for name, declared in exhibit.registry().items():
        settings = exhibit.settings_of(suite, declared)
        for key in type(settings).model_fields:
            for value in wrong(getattr(settings, key)):
                own = {**suite.exhibits.get(name, {}), key: value}
                spoiled = suite.model_copy(update={"exhibits": {**suite.exhibits, name: own}})
                try:
                    exhibit.runs_of(spoiled, declared, exhibit.settings_of(spoiled, declared))
                except UserError as error:
                    refused += 1
                    assert str(error).startswith("scale ci, ")
    assert refused > 500
