"""One sample of a data set, recorded once, and made again from what was the same each time.

A record holds what each transform of the data set was given, behind its first steps if these are
the same each time, and the sample with holes for what the transforms returned. Made again, the
transforms run on copies from there on, and draw what they would have drawn.
"""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import get_ident
from typing import Any

from speedprof.mitigations.applied.exact_copies import REFUSALS, Hole, Part, pack, unpack
from speedprof.mitigations.applied.random_states import RandomStates
from speedprof.mitigations.applied.transform_chains import Parts, Step
from speedprof.profiler.fence import Fence

ATOMS = (bool, int, float, complex, str, bytes, type(None))
OUTSIDE = "it draws random numbers outside its transforms"
CHANGES = "it changes what its transforms return"
NOT_UNDERSTOOD = "it was not understood"


@dataclass(frozen=True)
class Call:
    """One call of a transform while a sample was made."""

    name: str
    cut: int  # steps that are the same each time, and were not recorded
    given: list[Part]  # behind them
    returned: Any
    state: list[Any] = field(default_factory=list)  # what was returned, as it was then


class Recording:
    """What happens while one sample is made; `fault` says why it cannot be made again."""

    def __init__(
        self, chains: Mapping[str, Parts], cuts: Mapping[str, int], fence: Fence, *, weigh: bool
    ) -> None:
        self.chains, self.cuts, self.weigh = chains, cuts, weigh
        self.weights: dict[str, list[float]] = {}  # bytes in front of and behind each such step
        self.fault: str | None = None
        self._calls: list[Call] = []
        self._thread = get_ident()
        self._arrive = fence.guard("remedy cache-samples: record", self._arrived)
        self._keep = fence.guard("remedy cache-samples: record", self._kept)
        self._leave = fence.guard("remedy cache-samples: record", self._left)
        self._states = RandomStates()

    def stands_in(self, name: str) -> Any:
        """Return what takes a transform's place meanwhile."""
        return _StandIn(self, name)

    def run(self, name: str, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """Run a transform, and remember what it was given and what it returned."""
        chain = self.chains[name]
        if get_ident() != self._thread or self.fault is not None:
            return chain.whole(*inputs, **keywords)
        cut = 0 if keywords else self.cuts[name]
        arrived = self._arrive(chain, cut)
        if arrived is None:
            self.fault = self.fault or NOT_UNDERSTOOD
            return chain.whole(*inputs, **keywords)
        before, after = arrived
        given = self._same(name, before, inputs)
        if after is None:
            return given[0] if len(inputs) == 1 else given
        kept = self._keep(given, keywords)
        if kept is None:
            self.fault = self.fault or NOT_UNDERSTOOD
            return after(*given, **keywords)
        returned = after(*given, **keywords)
        left = self._leave(Call(name, cut, kept, returned), given)
        if left is None:
            self.fault = self.fault or NOT_UNDERSTOOD
            return returned
        return left.returned

    def record(self, sample: Any) -> list[Part] | None:
        """Return the record of the sample that was made, None where it cannot be made again."""
        self._check(OUTSIDE)
        if self.fault is not None:
            return None
        if any(_state(call.returned) != call.state for call in self._calls):
            self.fault = CHANGES  # in place
            return None
        holes: dict[int, Hole] = {}
        for place, call in enumerate(self._calls):
            holes.update(_holes(place, call.returned))
        try:
            template, filled = pack(sample, holes)
        except REFUSALS as error:
            self.fault = f"its samples cannot be kept ({error})"
            return None
        if filled != set(range(len(self._calls))):
            self.fault = CHANGES
            return None
        return _joined(self._calls, template)

    def _same(self, name: str, before: Step | None, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Run the steps that are the same each time."""
        if before is None:
            return inputs
        if not self.weigh:
            return _several(inputs, before(*inputs))
        given, weights = inputs, [_weight(inputs)]
        chain = self.chains[name]
        for step in chain.steps[: self.cuts[name]]:
            given = _several(given, chain.joined((step,))(*given))
            weights.append(_weight(given))
        self.weights[name] = weights
        return given

    # -- behind the fence

    def _arrived(self, chain: Parts, cut: int) -> tuple[Step | None, Step | None] | None:
        self._check(OUTSIDE)
        return chain.before(cut), chain.after(cut)

    def _kept(self, given: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """Return what a transform is given, as parts."""
        self._check("it draws random numbers in a step that should draw none")
        try:
            packed, _ = pack((given, keywords))
        except REFUSALS as error:
            self.fault = f"what its transforms are given cannot be kept ({error})"
            return None
        if self._calls and self._calls[-1].given == packed:
            packed = self._calls[-1].given  # two views of one image
        return packed

    def _left(self, call: Call, given: tuple[Any, ...]) -> Call:
        """Remember a call; what it returned is found in the sample again by what object it is."""
        if isinstance(call.returned, ATOMS):  # a number is none of its own
            self._check("it draws random numbers for a plain value")
            return call
        if any(call.returned is one for one in given):  # as it is, or changed in place
            try:
                call = replace(call, returned=unpack(pack(call.returned)[0]))
            except REFUSALS as error:
                self.fault = f"what its transforms return cannot be kept ({error})"
        self._calls.append(replace(call, state=_state(call.returned)))
        self._states = RandomStates()
        return call

    def _check(self, fault: str) -> None:
        if self.fault is None and self._states.moved():
            self.fault = fault


class _StandIn:
    """A transform under observation: called, it runs the transform; asked, it is the transform."""

    def __init__(self, recording: Recording, name: str) -> None:
        vars(self).update(_StandIn__recording=recording, _StandIn__name=name)  # none of its own

    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # what `isinstance` asks
        return type(self.__whole())

    def __call__(self, *inputs: Any, **keywords: Any) -> Any:
        return self.__recording.run(self.__name, inputs, keywords)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__whole(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.__whole(), name, value)

    def __bool__(self) -> bool:
        return bool(self.__whole())

    def __len__(self) -> int:
        return len(self.__whole())

    def __iter__(self) -> Any:
        return iter(self.__whole())

    def __getitem__(self, key: Any) -> Any:
        return self.__whole()[key]

    def __whole(self) -> Any:
        return self.__recording.chains[self.__name].whole


@dataclass(frozen=True)
class Replay:
    """A record that was read: what its transforms are given, in memory of its own."""

    calls: list[tuple[str, int, Any, Any]]  # name, cut, inputs and keywords
    template: Sequence[Part]

    def results(self, chains: Mapping[str, Parts]) -> list[Any]:
        """Run the transforms from where they were recorded; raises what they raise."""
        return [
            (chains[name].after(cut) or chains[name].whole)(*inputs, **keywords)
            for name, cut, inputs, keywords in self.calls
        ]

    def sample(self, results: list[Any]) -> Any:
        return unpack(self.template, results)


def replay(parts: Sequence[Part]) -> Replay:
    """Read a record."""
    calls, begin = pickle.loads(parts[0])  # noqa: S301 - what this process has written
    return Replay(
        [(name, cut, *unpack(parts[first:last])) for name, cut, first, last in calls],
        parts[begin:],
    )


def _joined(calls: list[Call], template: list[Part]) -> list[Part]:
    """Return a record: its table of contents, what the transforms were given, the sample."""
    parts: list[Part] = []
    contents, last = [], None
    for call in calls:
        if call.given is not last:
            parts += call.given
        last = call.given
        contents.append((call.name, call.cut, 1 + len(parts) - len(last), 1 + len(parts)))
    return [pickle.dumps((contents, 1 + len(parts)), protocol=5), *parts, *template]


def _holes(place: int, returned: Any) -> dict[int, Hole]:
    """Return where what a transform returned, or a part of it, will be put, by its id."""
    holes: dict[int, Hole] = {id(returned): (place, None)}
    named = type(returned) in (tuple, list, dict)
    items = (
        returned.items() if isinstance(returned, dict) else enumerate(returned) if named else ()
    )
    for key, value in items:
        if not isinstance(value, ATOMS):
            holes[id(value)] = (place, key)
    return holes


def _state(returned: Any) -> list[Any]:
    """Return what tells that a transform's result, or a part of it, was changed in place."""
    named = type(returned) in (tuple, list)
    parts = returned if named else returned.values() if type(returned) is dict else ()
    return [_count(one) for one in (returned, *parts)]


def _count(value: Any) -> Any:
    if hasattr(value, "_version"):
        return value._version  # noqa: SLF001 - torch counts what is written into a tensor
    return zlib.crc32(value.tobytes()) if hasattr(value, "tobytes") else None


def _several(inputs: tuple[Any, ...], returned: Any) -> tuple[Any, ...]:
    return tuple(returned) if len(inputs) > 1 else (returned,)


def _weight(values: tuple[Any, ...]) -> float:
    """Return the bytes of images, arrays and tensors, as far as they tell."""
    total = 0.0
    for value in values:
        if hasattr(value, "nbytes"):
            total += float(value.nbytes)
        elif hasattr(value, "getbands"):
            total += float(value.width * value.height * len(value.getbands()))
    return total
