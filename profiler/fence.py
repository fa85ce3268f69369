"""The one place where any error of ours is caught.

Training goes on without the probe that failed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Fence:
    """Runs our code on the user's time.

    What raises is switched off once and said in the record.
    """

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._down: set[str] = set()

    def guard(self, probe: str, action: Callable[..., Any]) -> Callable[..., Any]:
        """Return `action` as a function that raises none of our errors and, failed, does nothing.

        SystemExit and KeyboardInterrupt pass: the first is how `--stop-after` ends a script, the
        second the user's.
        """
        down = self._down

        def guarded(*arguments: Any) -> Any:
            if probe in down:
                return None
            try:
                return action(*arguments)
            except Exception as error:  # noqa: BLE001
                self._trip(probe, error)
                return None

        return guarded

    def _trip(self, probe: str, error: Exception) -> None:
        self._down.add(probe)
        try:
            self._report(
                f"probe {probe!r} failed and was switched off: {type(error).__name__}: {error}"
            )
        except OSError:
            return  # the record cannot be written either; the launcher says so


def unreported(_sentence: str) -> None:
    """Stand in for a report while there is no record."""
