"""The samples of one data set that are kept, for this process and those that it forks."""

from __future__ import annotations

import operator
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any

from speedprof.mitigations.applied.exact_copies import Part, lengths, parted, same
from speedprof.mitigations.applied.random_states import RandomStates
from speedprof.mitigations.applied.sample_replay import Recording, Replay, replay
from speedprof.mitigations.applied.shared_memory import Shared, whole
from speedprof.mitigations.applied.transform_chains import Parts, chains, parts
from speedprof.mitigations.applied.unchanged import alike, attributes, changed
from speedprof.profiler.fence import Fence

Own = Callable[[Any, Any], Any]  # the data set's own __getitem__
LOOKED = 3  # samples of each process that are made twice, and once from their record
CHECKED = 128  # of so many that were kept, one is made by the data set and compared
REPAID = 0.8  # of the time that making a sample takes, reading its record may take
SLOTS = 64  # counters: of the parent and its workers
GIVEN_UP, TEXT, COUNTERS = 0, 1, 33  # words of a shelf: a flag, a reason of 256 bytes
TABLE = COUNTERS + 2 * SLOTS  # then where each sample begins
READ, KEPT = 0, 1  # what is counted


class Shelf:
    """Keeps samples as records; whatever is not exactly the same each time ends it."""

    def __init__(self, dataset: Any, own: Own, shared: Shared, fence: Fence) -> None:
        """Take the table from the shared memory; raises MemoryError where it has no room."""
        self._held, self._own, self._shared, self._fence = weakref.ref(dataset), own, shared, fence
        self.length = len(dataset)
        self.passes = 0  # that began over the data set
        begin = shared.reserve(8 * (TABLE + self.length))
        if begin is None:
            raise MemoryError("the budget is too small")
        self._words = shared.words[begin // 8 : begin // 8 + TABLE + self.length]
        self._chains: dict[str, Parts] = {n: parts(c) for n, c in chains(dataset).items()}
        self._all_cuts = {name: chain.same for name, chain in self._chains.items()}
        self._cuts: dict[str, int] | None = None  # chosen with the first sample
        self._attributes = attributes(dataset, self._chains)
        self._alone = threading.Lock()  # of one thread, and of samples made of others
        self._full = False
        self._looked = self._since_check = 0
        self._made_s = self._read_s = 0.0
        self._read = fence.guard("remedy cache-samples: read", self._record_at)
        self._filled = fence.guard("remedy cache-samples: fill", _filled)
        self._end = fence.guard("remedy cache-samples: keep", self._ended)
        self._unchanged = fence.guard("remedy cache-samples: compare", self._is_unchanged)

    def sample(self, dataset: Any, index: Any) -> Any:
        """Return a sample of the data set, as it would make it."""
        place = _place(index, self.length)
        if place is None or self._words[GIVEN_UP] or not self._alone.acquire(blocking=False):
            return self._own(dataset, index)
        try:
            if not self._unchanged(self._looked == 0):
                return self._own(dataset, index)
            begin = self._words[TABLE + place]
            if not begin:
                return self._own(dataset, index) if self._full else self._made(index, place)
            self._since_check += 1
            if self._since_check >= CHECKED:
                self._since_check = 0
                return self._compared(index, begin)
            return self._again(index, begin)
        finally:
            self._alone.release()

    def forget(self) -> None:
        """Let go of what the data set holds, which is gone."""
        self._attributes, self._chains = [], {}

    def close(self) -> None:
        self._words.release()

    def counts(self) -> tuple[int, int]:
        """Return how often samples were read, and how many are kept."""
        counted = self._words[COUNTERS:TABLE].tolist()
        return sum(counted[READ::2]), sum(counted[KEPT::2])

    @property
    def why_given_up(self) -> str | None:
        if not self._words[GIVEN_UP]:
            return None
        text = self._words[TEXT:COUNTERS].cast("B").tobytes()
        return text.rstrip(b"\0").decode(errors="replace")

    def give_up(self, why: str) -> None:
        """Keep nothing of this data set from now on, in any process."""
        text = why.encode()[: 8 * (COUNTERS - TEXT)]
        self._words[TEXT:COUNTERS].cast("B")[: len(text)] = text
        self._words[GIVEN_UP] = 1

    # -- one sample

    def _again(self, index: Any, begin: int) -> Any:
        found = self._read(begin)
        if found is None:
            self.give_up("what was kept cannot be read")
            return self._own(self._held(), index)
        made = self._filled(found, found.results(self._chains))
        if made is None:
            self.give_up("what its transforms return has other parts each time")
            return self._own(self._held(), index)
        self._count(READ)
        return made[0]

    def _made(self, index: Any, place: int) -> Any:
        """Let the data set make a sample, and keep it."""
        before = RandomStates() if self._looked < LOOKED else None
        recording, sample = self._recorded(index, self._cuts or self._all_cuts)
        self._end(index, place, recording, sample, before)
        return sample

    def _compared(self, index: Any, begin: int) -> Any:
        """Let the data set make a sample that is kept, and give up where it is another one."""
        kept = self._read(begin)
        if kept is None:
            return self._own(self._held(), index)
        cuts = self._all_cuts | {name: cut for name, cut, *_ in kept.calls}
        recording, sample = self._recorded(index, cuts)
        now = self._fence.guard("remedy cache-samples: keep", recording.record)(sample)
        if now != [bytes(part) for part in parted(self._shared.view(begin))]:
            self.give_up(recording.fault or "a sample is no longer what it was")
        return sample

    def _recorded(self, index: Any, cuts: Mapping[str, int]) -> tuple[Recording, Any]:
        recording = Recording(self._chains, cuts, self._fence, weigh=self._cuts is None)
        dataset = self._held()
        held = vars(dataset)
        standing = {name: recording.stands_in(name) for name in self._chains}
        held.update(standing)
        try:
            return recording, self._own(dataset, index)
        finally:
            for name, one in standing.items():
                if held.get(name) is one:  # and not what the data set has put there meanwhile
                    held[name] = self._chains[name].whole

    def _ended(
        self, index: Any, place: int, recording: Recording, sample: Any, before: Any
    ) -> None:
        """See to what was recorded."""
        record = recording.record(sample)
        if record is None:
            self.give_up(recording.fault or "it was not understood")
            return
        if before is not None:
            self._looked += 1
            why = self._looked_at(index, recording.cuts, record, sample, before)
            if why is not None:
                self.give_up(why)
                return
        if self._cuts is None:
            self._cuts = self._chosen(recording)
        self._keep(place, record)

    def _chosen(self, recording: Recording) -> dict[str, int]:
        """Choose how many steps of each transform are kept.

        All of them if the data set then has room; else the most that leave it room; else those
        behind which samples are smallest.
        """
        room = (self._shared.size - self._shared.used) / max(self.length, 1)
        chosen = dict(self._all_cuts)
        for name, weights in recording.weights.items():
            fit = [cut for cut, weight in enumerate(weights) if weight <= room]
            chosen[name] = fit[-1] if fit else min(range(len(weights)), key=weights.__getitem__)
        return chosen

    def _keep(self, place: int, record: list[Part]) -> None:
        table = [lengths(record), *record]
        size = sum(whole(len(part)) for part in table)
        begin = self._shared.reserve(size)
        if begin is None:
            self._full = self._shared.size - self._shared.used < 2 * size
            return
        self._shared.write(begin, table)
        self._words[TABLE + place] = begin
        self._count(KEPT)

    def _record_at(self, begin: int) -> Replay:
        return replay(parted(self._shared.view(begin)))

    # -- whether it is exact, and worth it

    def _looked_at(
        self, index: Any, cuts: Mapping[str, int], record: list[Part], sample: Any, before: Any
    ) -> str | None:
        """Make a sample from its record and by the data set again; return what tells against it.

        The generators stand afterwards where they stood.
        """
        after = RandomStates()
        try:
            before.restore()
            begin = time.perf_counter()
            found = replay([memoryview(part) for part in record])
            made = found.sample(found.results(self._chains))
            self._read_s += time.perf_counter() - begin
            if after.moved() or not same(made, sample):
                return "a sample made from what was kept is another one"
            after.restore()
            begin = time.perf_counter()
            recording, second = self._recorded(index, cuts)
            self._made_s += time.perf_counter() - begin
            if recording.record(second) != record:
                return recording.fault or "a sample is another one each time"
        finally:
            after.restore()
        if self._looked == LOOKED and self._read_s > REPAID * self._made_s:
            each = 1e3 * self._made_s / LOOKED
            return f"they are made in {each:.2g} ms each, and keeping them gains nothing"
        self._is_unchanged(self._looked == 1)
        return self.why_given_up

    def _is_unchanged(self, opening: bool) -> bool:
        """Tell whether the data set and its transforms hold what they held, and give up if not.

        What was None may be `opening`: with its first sample in a process.
        """
        now = attributes(self._held(), self._chains)
        if alike(self._attributes, now):
            return True
        name = changed(self._attributes, now, opening=opening)
        if name is not None:
            self.give_up(f"{name} changes while it is read")
            return False
        self._attributes = now
        return True

    def _count(self, which: int) -> None:
        from torch.utils.data import get_worker_info

        worker = get_worker_info()
        slot = 0 if worker is None else 1 + worker.id % (SLOTS - 1)
        self._words[COUNTERS + 2 * slot + which] += 1


def _filled(found: Replay, results: list[Any]) -> tuple[Any] | None:
    """Return a sample made again; None where a part of a result is not there this time."""
    try:
        return (found.sample(results),)
    except LookupError:
        return None


def _place(index: Any, length: int) -> int | None:
    """Return which sample is meant, None where it is not said by one number from 0 on."""
    if isinstance(index, bool) or not hasattr(index, "__index__"):
        return None
    try:
        place = operator.index(index)
    except TypeError:  # a tensor of several
        return None
    return place if 0 <= place < length else None
