"""Live changes come back as they were, and say what they are."""

from __future__ import annotations

from speedprof.profiler.fence import Fence
from speedprof.profiler.patches import Patches


class Owner:
    def plain(self) -> str:
        return "plain"

    @staticmethod
    def static() -> str:
        return "static"


class Heir(Owner):
    pass


def test_a_replaced_method_comes_back_as_the_same_object() -> None:
    before = dict(vars(Owner))
    patches = Patches()
    patches.replace(Owner, "plain", lambda _self: "patched", reason="a test")
    assert Owner().plain() == "patched"
    assert patches.undo() == []
    assert dict(vars(Owner)) == before


def test_a_static_method_comes_back_static() -> None:
    patches = Patches()
    original = patches.replace(Owner, "static", staticmethod(lambda: "patched"), reason="a test")
    assert (original(), Owner.static()) == ("static", "patched")
    patches.undo()
    assert isinstance(vars(Owner)["static"], staticmethod)


def test_an_inherited_method_leaves_no_trace_on_the_heir() -> None:
    patches = Patches()
    patches.replace(Heir, "plain", lambda _self: "patched", reason="a test")
    patches.undo()
    assert "plain" not in vars(Heir)
    assert Heir().plain() == "plain"


def test_changes_are_undone_last_first() -> None:
    patches = Patches()
    original = Owner.plain
    patches.replace(Owner, "plain", lambda _self: "one", reason="first")
    patches.replace(Owner, "plain", lambda _self: "two", reason="second")
    assert [text.rpartition(": ")[2] for text in patches.texts()] == ["first", "second"]
    patches.undo()
    assert Owner.plain is original


def test_what_somebody_else_patched_on_top_stays_and_is_said() -> None:
    original = Owner.plain
    patches = Patches()
    patches.replace(Owner, "plain", lambda _self: "ours", reason="a test")
    theirs = Owner.plain = lambda _self: "theirs"  # type: ignore[method-assign]
    try:
        (remark,) = patches.undo()
        assert "somebody else" in remark
        assert vars(Owner)["plain"] is theirs
    finally:
        Owner.plain = original  # type: ignore[method-assign]


def test_a_probe_that_fails_is_switched_off_once_and_said_once() -> None:
    said: list[str] = []
    calls: list[int] = []

    def failing(value: int) -> None:
        calls.append(value)
        raise ValueError("no such thing")

    probe = Fence(said.append).guard("loader", failing)
    assert probe(1) is None
    assert probe(2) is None
    assert calls == [1]
    assert said == ["probe 'loader' failed and was switched off: ValueError: no such thing"]


def test_other_probes_go_on_when_one_fails() -> None:
    fence = Fence(lambda _sentence: None)
    fence.guard("one", lambda: 1 / 0)()
    assert fence.guard("two", lambda: 2)() == 2


def test_the_fence_lets_the_users_interrupt_pass() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    try:
        Fence(lambda _sentence: None).guard("loader", interrupted)()
    except KeyboardInterrupt:
        return
    raise AssertionError("the interrupt was swallowed")
