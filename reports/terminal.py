"""What text in a terminal is made with: a console that writes to memory, and safe text."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from speedprof.reports.escape import visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text


def in_memory(width: int, *, color: bool) -> Console:
    from rich.console import Console

    return Console(
        file=io.StringIO(),
        width=width,
        force_terminal=color,
        color_system="truecolor" if color else None,
        no_color=not color,
        highlight=False,
        markup=False,
        emoji=False,
        legacy_windows=False,
        _environ={},
    )


def safe(content: str, style: str = "") -> Text:
    from rich.text import Text

    return Text(visible(content), style=style)
