"""One line on stderr, drawn over and over; nothing where stderr is no terminal."""

from __future__ import annotations

import sys

import click

from speedprof.commands.closing import width


class StatusLine:
    """Says what goes on until it is cleared."""

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown and sys.stderr.isatty()
        self._last = ""

    def tell(self, text: str) -> None:
        if not self._shown or text == self._last:
            return
        self._last = text
        room = width(2) - 1
        click.echo(f"\r\x1b[K{f'speedprof: {text}'[:room]}", nl=False, err=True)

    def clear(self) -> None:
        if self._last:
            click.echo("\r\x1b[K", nl=False, err=True)
            self._last = ""
