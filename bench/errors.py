"""The errors that a user can cause or must act on: each is one line saying what, where, what was expected, what to do."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """Bad input: the command line prints it without a traceback and exits with 2."""


class ParentFailed(UserError):
    """A run cannot start, since the one that it starts from failed; that one's line says why."""


class FailedRun(Exception):
    """A run that must not become a result: NaN, an exploding loss, out of memory.

    Args:
        run: label of the run.
        step: step or epoch at which it failed, or ``None`` before the first.
        why: what was seen.
    """

    def __init__(self, run: str, step: int | None, why: str):
        where = "" if step is None else f" at step {step}"
        super().__init__(f"{run}: failed{where}: {why}")
        self.run, self.step, self.why = run, step, why


class OutOfTime(Exception):
    """The time budget is over; everything needed to go on has been saved."""


def closest(name: str, known: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` or a list of what is allowed, to end an error about an unknown name."""
    known = sorted(known)
    near = get_close_matches(name, known, n=1)
    return f"; did you mean '{near[0]}'?" if near else f"; known: {', '.join(known)}"
