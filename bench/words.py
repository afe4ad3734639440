"""Formatting of numbers, durations and settings. Imports nothing, so that everything may use it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:,.1f} h"


def rate(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def setting(value: Any) -> str:
    """A setting as plain data, for people; one that is not set is as in the paper.

    ``0.00784314``, ``[0.1, 0.2]``, ``{mnist: 0.1}``, ``as published``.
    """
    if value is None or value == {}:
        return "as published"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {setting(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(setting, value)) + "]"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
