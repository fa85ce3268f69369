"""Sources and remedies for tests of rewriting: text in, text and outcome out."""

from __future__ import annotations

import textwrap
from dataclasses import replace

from speedprof.mitigations.applied.automatic import AUTOMATIC
from speedprof.mitigations.rewrite.order import Known, Order, Outcome, Value
from speedprof.mitigations.rewrite.rewriting import rewrite

LOOP = """\
    for images, labels in loader:
        loss = nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""


def order(name: str, known: Known | None = None, **parameters: Value) -> Order:
    """Return a remedy with the defaults of a plan and these parameters by name."""
    automatic = AUTOMATIC.get(name)
    allowed = automatic.parameters if automatic is not None else {}
    defaults = {n: one.default for n, one in allowed.items() if one.default is not None}
    return Order(
        name=name,
        parameters={**defaults, **parameters},
        named=frozenset(parameters),
        known=known or Known(),
    )


def outcome(
    source: str, name: str, known: Known | None = None, **parameters: Value
) -> tuple[str, Outcome]:
    """Rewrite once, and once more to see that it changes nothing."""
    source = textwrap.dedent(source)
    one = order(name, known, **parameters)
    changed, (made,) = rewrite(source, [one])
    again = replace(one, known=replace(one.known, loader_line=None))
    if one.known.loader_line is None:
        assert rewrite(changed, [again])[0] == changed, "not idempotent"
    compile(changed, "<rewritten>", "exec")
    return changed, made


def written(source: str, name: str, known: Known | None = None, **parameters: Value) -> str:
    """Return the source with a remedy that must be writable."""
    changed, made = outcome(source, name, known, **parameters)
    assert made.state == "written", made.why
    return changed


def refused(source: str, name: str, known: Known | None = None, **parameters: Value) -> str:
    """Return why a remedy is refused; nothing may have changed."""
    changed, made = outcome(source, name, known, **parameters)
    assert made.state == "refused", made.state
    assert changed == textwrap.dedent(source)
    assert "\n" not in made.why
    return made.why


def unchanged(source: str, name: str, known: Known | None = None, **parameters: Value) -> None:
    """Assert that the source is found to do it already."""
    changed, made = outcome(source, name, known, **parameters)
    assert (made.state, changed) == ("unchanged", textwrap.dedent(source)), made.why


def added(before: str, after: str) -> list[str]:
    """Return the lines that are new, stripped; the others must all be there in their order."""
    old, new = textwrap.dedent(before).splitlines(), after.splitlines()
    left, found = list(old), []
    for line in new:
        if left and line == left[0]:
            left.pop(0)
        else:
            found.append(line.strip())
    assert not left, f"gone: {left[0]!r}"
    return [line for line in found if line]
