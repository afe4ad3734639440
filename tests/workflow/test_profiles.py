"""Profiles say what each setting is for, and share what resuming and drawing rely on."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
import yaml

PROFILES = Path(__file__).resolve().parent.parent.parent / "configs" / "profiles"
NAMES = sorted(path.parent.name for path in PROFILES.glob("*/config.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_has_a_comment_above_it(name: str) -> None:
    lines = (PROFILES / name / "config.yaml").read_text(encoding="utf-8").splitlines()
    for before, line in itertools.pairwise(lines):
        if re.match(r"\s*[a-z]", line):
            assert before.lstrip().startswith("#"), f"{name}: {line}"


@pytest.mark.parametrize("name", NAMES)
def test_what_all_profiles_share(name: str) -> None:
    content = yaml.safe_load((PROFILES / name / "config.yaml").read_text(encoding="utf-8"))
    assert content["keep-going"] and content["rerun-incomplete"] and content["nolock"]
    assert content["rerun-triggers"] == ["mtime", "params"]
    assert content["latency-wait"] >= 10, "files that another node wrote may be late"
