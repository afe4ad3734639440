"""Formatting of settings and departures."""

from __future__ import annotations

import json

import pytest

from bench import config, words
from bench.workflow import plan as planning


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "as published"),
        ({}, "as published"),
        (2 / 255, "0.00784314"),
        (512, "512"),
        (True, "yes"),
        ("adam", "adam"),
        ([0.1, "sgd", None], "[0.1, sgd, as published]"),
        ({"mnist": {"zero": 0, "milestones": [5]}}, "{mnist: {zero: 0, milestones: [5]}}"),
    ],
)
def test_a_setting_is_formatted_without_quotes_or_null(value: object, text: str) -> None:
    assert words.setting(value) == text


@pytest.mark.parametrize("scale", ["ci", "small", "paper", "paper-cpu"])
def test_departures_are_plain_data_on_both_sides(scale: str) -> None:
    """Nested settings of the paper would be named by their class otherwise."""
    plan = planning.make(config.load(scale))
    for name, settings in plan.settings.items():
        departures = settings.departures()
        assert json.loads(json.dumps(departures)) == {field: list(pair) for field, pair in departures.items()}, name
        assert all(paper != here for paper, here in departures.values()), name
