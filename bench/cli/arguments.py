"""Command-line arguments: a wrong one is a line as any other bad input, without the list of all options."""

from __future__ import annotations

import argparse
from typing import NoReturn

from bench.errors import UserError


class Parser(argparse.ArgumentParser):
    """Raises `UserError` where argparse prints its usage and exits."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see `{self.prog} --help`")


def count(text: str) -> int:
    """A whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number from 1 on")
    return int(text)
