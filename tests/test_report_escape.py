"""What is shown of the user's strings holds nothing that cannot be seen."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speedprof.reports import escape

ANYTHING = st.text(st.characters(codec=None))


@pytest.mark.parametrize(
    ("given_text", "shown"),
    [
        ("train.py", "train.py"),
        ("größe 漢字 é", "größe 漢字 é"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("\u202etxt.exe", "\\u202etxt.exe"),
        ("caf\udce9", "caf\\xe9"),
        ("\ud800", "\\ud800"),
        ("61\u00a0%", "61\u00a0%"),
    ],
)
def test_what_cannot_be_seen_is_written_out(given_text: str, shown: str) -> None:
    assert escape.visible(given_text) == shown


@given(ANYTHING)
def test_whatever_comes_in_is_printable_utf_8_on_one_line(text: str) -> None:
    shown = escape.visible(text)
    shown.encode("utf-8")
    assert all(c.isprintable() or unicodedata.category(c) == "Zs" for c in shown)


@given(ANYTHING)
def test_a_block_keeps_its_lines_and_nothing_else_that_moves_the_cursor(text: str) -> None:
    shown = escape.block(text)
    assert shown.count("\n") == text.count("\n")
    assert escape.visible(shown.replace("\n", "")) == shown.replace("\n", "")


@given(ANYTHING)
def test_data_for_programs_is_changed_only_where_utf_8_cannot_hold_it(text: str) -> None:
    kept = escape.encodable(text)
    kept.encode("utf-8")
    if not any("\ud800" <= c <= "\udfff" for c in text):
        assert kept == text
