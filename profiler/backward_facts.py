"""What is seen as backward begins: mixed precision, kept gradients, skipped exchanges.

`look` is called at the beginning of each backward pass while there is something to see, and is
None otherwise, which is nearly always.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from typing import Any

from speedprof.profiler.graph_facts import Graph

LOOKS = 4  # graphs that are walked
Guard = Callable[[str, Callable[..., Any]], Callable[..., Any]]


class BackwardFacts:
    """Facts of the first backward passes, and counts of those of DistributedDataParallel."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._graph = Graph()
        self._looks = LOOKS
        self._gradients: list[_Gradient] = []
        self._exchange: weakref.ref[Any] | None = None
        self._walk = guard("graph", self._look_at_graph)
        self.anomaly = False
        self.backwards = self.unsynchronised = 0
        self.kept: dict[
            int, bool
        ] = {}  # optimizer, by number -> its gradients are zeroed in place
        self.look: Callable[..., Any] | None = guard("backward", self._look)

    def flags(self) -> dict[str, str]:
        """Return what the graphs walked so far tell."""
        found = {"anomaly_detection": "True"} if self.anomaly else {}
        autocast = self._graph.autocast()
        return found if autocast is None else found | {"autocast": autocast}

    def checkpointed(self) -> bool | None:
        return self._graph.checkpointed()

    def updated(self, number: int, parameters: list[Any]) -> None:
        """Remember the gradients with which an optimizer made its first step."""
        self._looks = 0
        trained = next((p for p in parameters if p.grad is not None), None)
        if trained is not None:
            self._gradients.append(_Gradient(number, trained))
        self.look = self._guard("backward", self._look)

    def exchanges(self, wrapper: Any) -> None:
        """Count from now on how often a DistributedDataParallel leaves out its exchange."""
        self._exchange = weakref.ref(wrapper)
        self.look = self._guard("backward", self._look)

    def _look(self, roots: Any) -> None:
        if self._exchange is not None:
            self._count(self._exchange())
        if self._looks:
            self._looks -= 1
            self._walk(roots)
        for gradient in self._gradients:
            gradient.settle(self.kept)
        self._gradients = []
        if not (self._looks or self._exchange):
            self.look = None

    def _count(self, wrapper: Any) -> None:
        """Count this backward; DDP decides in forward whether it will exchange gradients."""
        if wrapper is None:
            self._exchange = None
            return
        self.backwards += 1
        if not wrapper.require_backward_grad_sync or not wrapper.require_forward_param_sync:
            self.unsynchronised += 1

    def _look_at_graph(self, roots: Any) -> None:
        torch = sys.modules["torch"]
        self.anomaly = self.anomaly or torch.is_anomaly_enabled()
        first = roots[0] if isinstance(roots, (tuple, list)) and roots else roots
        device = getattr(getattr(first, "device", None), "type", None)
        if device is not None and torch.is_autocast_enabled(device):
            self._graph.around = str(torch.get_autocast_dtype(device)).removeprefix("torch.")
        self._graph.look(roots)


class _Gradient:
    """The gradient of one parameter after an update, until the next backward pass begins.

    Its version tells what was done to it, without looking at its values, which would wait for the
    device.
    """

    def __init__(self, optimizer: int, parameter: Any) -> None:
        self._optimizer = optimizer
        self._parameter = weakref.ref(parameter)
        self._gradient = weakref.ref(parameter.grad)
        self._version = _version(parameter.grad)

    def settle(self, kept: dict[int, bool]) -> None:
        """Note whether it was let go or changed in place; neither, where it was not zeroed."""
        parameter, before = self._parameter(), self._gradient()
        if parameter is None:
            return
        now = parameter.grad
        if now is None:
            kept[self._optimizer] = False
        elif now is before and _version(now) != self._version:
            kept[self._optimizer] = True


def _version(tensor: Any) -> int:
    """Return how often a tensor was changed in place, as torch counts it."""
    return int(tensor._version)  # noqa: SLF001
