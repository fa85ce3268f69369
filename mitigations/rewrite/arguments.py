"""Arguments of a call: read by name, added in the call's own style, replaced, taken away."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import libcst as cst

from speedprof.mitigations.rewrite.code import Code, Refused

NOTHING, SPACE = cst.SimpleWhitespace(""), cst.SimpleWhitespace(" ")
PLAIN = cst.AssignEqual(whitespace_before=NOTHING, whitespace_after=NOTHING)
Layout = cst.BaseParenthesizableWhitespace


@dataclass(frozen=True, slots=True)
class Given:
    """An argument of the script's own."""

    place: int
    value: cst.BaseExpression


def given(code: Code, call: cst.Call, positional: Sequence[str] = ()) -> dict[str, Given]:
    """Return a call's arguments by name; Refused where they cannot be told.

    `positional` are the names of the function's parameters, as far as every version of it has
    them in this order.
    """
    named: dict[str, Given] = {}
    for place, argument in enumerate(call.args):
        if argument.star:
            raise Refused(
                f"the call in line {code.line(call)} takes arguments from "
                f"{argument.star}{code.words(argument.value)}; write it there"
            )
        if argument.keyword is None and place >= len(positional):
            raise Refused(
                f"the call in line {code.line(call)} gives argument {place + 1} by position; "
                "give it by name"
            )
        name = argument.keyword.value if argument.keyword else positional[place]
        named[name] = Given(place, argument.value)
    return named


def set_in(
    code: Code,
    call: cst.Call,
    own: Mapping[str, Given],
    wanted: Mapping[str, str],
    *,
    spread: bool = True,
) -> None:
    """Give a call these arguments: replaced where it has them, else added at its end.

    `spread`: where the line becomes too long, the arguments get a line each, or the new ones a
    line of their own where the call has several already.
    """

    def edit(updated: cst.Call) -> cst.Call:
        changed = _given(updated, own, wanted, None)
        if not spread or not _is_too_long(code, call, changed):
            return changed
        layout = _line_break(updated)
        if layout is None:
            return changed if _ends_in_a_comment(updated) else _one_a_line(changed, code)
        return _given(updated, own, wanted, layout)

    code.edit(call, edit)


def _given(
    call: cst.Call, own: Mapping[str, Given], wanted: Mapping[str, str], before: Layout | None
) -> cst.Call:
    """Return the call with these arguments, `before` the first new one."""
    arguments = list(call.args)
    for name, text in wanted.items():
        value = cst.parse_expression(text)
        if name in own:
            place = own[name].place
            arguments[place] = arguments[place].with_changes(value=value)
            continue
        new = cst.Arg(keyword=cst.Name(name), value=value, equal=PLAIN)
        arguments = _added(arguments, new, call.whitespace_before_args, before)
        before = None if before is None else SPACE
    return call.with_changes(args=arguments)


def _line_break(call: cst.Call) -> Layout | None:
    """Return how the call breaks its lines, None where it has one."""
    commas = [one.comma for one in call.args[:-1] if isinstance(one.comma, cst.Comma)]
    layouts = [*(comma.whitespace_after for comma in commas), call.whitespace_before_args]
    return next((one for one in layouts if isinstance(one, cst.ParenthesizedWhitespace)), None)


def _ends_in_a_comment(call: cst.Call) -> bool:
    """Tell whether a comment stands between the last argument and the bracket."""
    last = call.args[-1]
    comma = last.comma if isinstance(last.comma, cst.Comma) else cst.Comma()
    return any(
        layout.first_line.comment is not None or any(one.comment for one in layout.empty_lines)
        for layout in (comma.whitespace_after, last.whitespace_after_arg)
        if isinstance(layout, cst.ParenthesizedWhitespace)
    )


def remove_from(
    code: Code, call: cst.Call, own: Mapping[str, Given], names: Iterable[str]
) -> None:
    """Take arguments away; not together with `set_in` of new ones before it."""
    places = {own[name].place for name in names if name in own}

    def edit(updated: cst.Call) -> cst.Call:
        kept = [one for place, one in enumerate(updated.args) if place not in places]
        last = len(updated.args) - 1
        if kept and last in places:
            ending = updated.args[last]
            kept[-1] = kept[-1].with_changes(
                comma=_ending(kept[-1].comma, ending.comma),
                whitespace_after_arg=ending.whitespace_after_arg,
            )
        return updated.with_changes(args=kept)

    if places:
        code.edit(call, edit)


def same(code: Code, own: Given, text: str) -> bool:
    """Tell whether the script's own argument is this text already."""
    return code.words(own.value).replace("'", '"') == text


def _is_too_long(code: Code, call: cst.Call, changed: cst.Call) -> bool:
    """Tell whether new arguments make a line longer than any that the source has."""
    before, after = code.words(call), code.words(changed)
    if len(call.args) == 0 or len(call.args) == len(changed.args):
        return False
    if "\n" not in before:
        return code.line_length(call) + len(after) - len(before) > code.longest
    old = before.splitlines()
    return any(
        code.indent(call) + len(line) > code.longest
        for line in after.splitlines()
        if line not in old
    )


def _one_a_line(call: cst.Call, code: Code) -> cst.Call:
    """Lay out arguments one a line, the bracket on a line of its own."""
    inner = cst.ParenthesizedWhitespace(
        indent=True, last_line=cst.SimpleWhitespace(code.module.default_indent)
    )
    outer = cst.ParenthesizedWhitespace(indent=True)
    last = len(call.args) - 1
    arguments = [
        one.with_changes(
            comma=cst.Comma(whitespace_after=outer if place == last else inner),
            whitespace_after_arg=NOTHING,
        )
        for place, one in enumerate(call.args)
    ]
    return call.with_changes(whitespace_before_args=inner, args=arguments)


def _added(
    arguments: list[cst.Arg], new: cst.Arg, opening: Layout, before: Layout | None
) -> list[cst.Arg]:
    """Append an argument as the others stand, one a line or behind the last, or as told."""
    if not arguments:
        return [new]
    *earlier, last = arguments
    between = earlier[-1].comma if earlier else None
    model = between.whitespace_after if isinstance(between, cst.Comma) else opening
    model = model if before is None else before
    if isinstance(last.comma, cst.Comma):  # a trailing comma: what follows it closes the call
        closing = last.comma.whitespace_after
        comma = last.comma.with_changes(whitespace_after=_between(model, closing))
        new = new.with_changes(comma=cst.Comma(whitespace_after=_closing(closing)))
        return [*earlier, last.with_changes(comma=comma), new]
    closing = last.whitespace_after_arg
    comma = cst.Comma(whitespace_after=_between(model, closing))
    last = last.with_changes(comma=comma, whitespace_after_arg=NOTHING)
    return [*earlier, last, new.with_changes(whitespace_after_arg=_closing(closing))]


def _between(model: Layout, closing: Layout) -> Layout:
    """Return what stands between the old last argument and the new one.

    A comment behind the old one stays behind it.
    """
    comment = _comment(closing)
    if isinstance(model, cst.ParenthesizedWhitespace):
        first = comment or cst.TrailingWhitespace(newline=model.first_line.newline)
        return model.with_changes(first_line=first, empty_lines=[])
    if comment is not None and isinstance(closing, cst.ParenthesizedWhitespace):
        inner = cst.SimpleWhitespace(closing.last_line.value + "    ")
        return closing.with_changes(empty_lines=[], last_line=inner)
    return SPACE


def _closing(closing: Layout) -> Layout:
    """Return what stands between the last argument and the bracket, without its comment."""
    if _comment(closing) is None or not isinstance(closing, cst.ParenthesizedWhitespace):
        return closing
    bare = cst.TrailingWhitespace(newline=closing.first_line.newline)
    return closing.with_changes(first_line=bare)


def _comment(layout: Layout) -> cst.TrailingWhitespace | None:
    if isinstance(layout, cst.ParenthesizedWhitespace) and layout.first_line.comment is not None:
        return layout.first_line
    return None


def _ending(own: cst.Comma | cst.MaybeSentinel, last: cst.Comma | cst.MaybeSentinel) -> object:
    """Return the comma of an argument that becomes the last one."""
    if not isinstance(own, cst.Comma) or not isinstance(last, cst.Comma):
        return last
    comment = _comment(own.whitespace_after)
    closing = last.whitespace_after
    if comment is not None and isinstance(closing, cst.ParenthesizedWhitespace):
        return last.with_changes(whitespace_after=closing.with_changes(first_line=comment))
    return last
