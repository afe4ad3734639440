"""Formatting of settings and departures."""

from __future__ import annotations

import json

import pytest

from bench import words


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
def test_departures_are_plain_data_on_both_sides(scale: str, plan_of) -> None:
    """Nested settings of the paper would be named by their class otherwise."""
    for name, settings in plan_of(scale).settings.items():
        departures = settings.departures()
        assert json.loads(json.dumps(departures)) == {field: list(pair) for field, pair in departures.items()}, name
        assert all(paper != here for paper, here in departures.values()), name
