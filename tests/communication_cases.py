"""Trainings of two ranks, bare and with a remedy of their exchanges, and what each rank saw."""

from __future__ import annotations

import contextlib
import copy
import importlib
import io
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import distributed, nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.nn.parallel import DistributedDataParallel

from speedprof.mitigations.applied.process import Process
from speedprof.profiler.fence import Fence


class Net(nn.Module):
    """Two branches behind a norm; told which, it uses one of them only."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 16)
        self.norm = nn.BatchNorm1d(16)
        self.left = nn.Linear(16, 3)
        self.right = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor, branch: int | None = None) -> torch.Tensor:
        hidden = torch.relu(self.norm(self.first(x)))
        if branch is None:
            return self.left(hidden) + self.right(hidden)
        return (self.right if branch else self.left)(hidden)


@contextlib.contextmanager
def remedies(*names: str) -> Iterator[Process]:
    """Put remedies in force; nothing of them may fail, or be left."""
    failures: list[str] = []
    process = Process(Fence(failures.append), {})
    process.apply([{"name": name} for name in names])
    yield process
    process.finish()
    assert process.undo() == []
    assert failures == [], failures


class Training:
    """A training of one rank, in updates of several backward passes."""

    def __init__(
        self,
        *,
        branching: bool = False,
        own: bool = False,
        scaled: bool = False,
        alone: bool = False,
        peeks: bool = False,
        clip: float | None = None,
        seed: int = 0,
        device: str = "cpu",
        prepare: Callable[[Any], None] | None = None,
        **wrapping: Any,
    ) -> None:
        rank = distributed.get_rank()
        torch.manual_seed(0)
        self.model = DistributedDataParallel(Net().to(device), **wrapping)
        if prepare is not None:
            prepare(self.model)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.05, momentum=0.9)
        self.data = torch.Generator().manual_seed(10 + 100 * seed + rank)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=8.0, enabled=scaled)
        self.rank, self.branching, self.own, self.clip = rank, branching, own, clip
        self.evaluates, self.updates = alone and rank == 0, 0
        self.losses: list[float] = []
        self.peeks = peeks and rank == 0

    def backward(self, number: int, count: int) -> torch.Tensor:
        x = torch.randn(8, 6, generator=self.data).to(self.model.device)
        branch = (self.rank + number) % 2 if self.branching else None
        quiet = self.own and number < count - 1
        with self.model.no_sync() if quiet else contextlib.nullcontext():
            loss = (self.model(x, branch) - x[:, :3]).square().mean() / count
            self.peek()
            self.scaler.scale(loss).backward()
            self.peek()
        self.losses.append(loss.item() * count)
        return loss

    def peek(self) -> None:
        """Look at what the model says, on one rank alone and without a backward pass."""
        if self.peeks:
            self.model(torch.ones(2, 6))
            self.model.eval()(torch.ones(2, 6))
            self.model.train()

    def passes(self, count: int) -> torch.Tensor:
        self.optimizer.zero_grad()
        return [self.backward(number, count) for number in range(count)][-1]

    def update(self, count: int) -> None:
        self.passes(count)
        if self.clip is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.updates += 1
        if self.evaluates and self.updates > 1:  # one rank alone, and no backward pass
            self.model.eval()(torch.ones(2, 6))
            self.model.train()


def train(counts: list[int], *, closure: bool = False, **how: Any) -> dict[str, Any]:
    """Train one update for each count of backward passes."""
    training = Training(**how)
    reduced, begun = [], _collectives()
    for count in counts:
        if closure:
            training.optimizer.step(lambda count=count: training.passes(count))
        else:
            training.update(count)
        reduced.append(_collectives() - begun)
        begun += reduced[-1]
    return {
        "losses": training.losses,
        "parameters": [p.detach().flatten().tolist() for p in training.model.parameters()],
        "reduced": reduced,
        "kept": _kept(training.model),
    }


def _collectives() -> int:
    """Return how many collectives there were so far, as gloo numbers them."""
    world: Any = distributed.group.WORLD
    return int(world._get_sequence_number_for_group())


def _kept(model: Any) -> bool:
    """Tell whether a model saves, copies and pickles without a trace of the remedy."""
    held = io.BytesIO()
    torch.save(model.state_dict(), held)
    copied = copy.deepcopy(model.module)
    written = pickle.dumps(model) + pickle.dumps(copied) + held.getvalue()
    return b"speedprof.mitigations" not in written


def compared(*names: str, counts: list[int], **how: Any) -> dict[str, Any]:
    """Train bare, with the remedies, and bare again."""
    bare = train(counts, **how)
    with remedies(*names) as process:
        treated = train(counts, **how)
    again = train(counts, **how)
    told = [one.fact() for one in process.applied]
    return {"bare": bare, "treated": treated, "again": again, "told": told}


# -- what a script does with hooks


def registers(model: Any) -> None:
    model.register_comm_hook(None, default_hooks.allreduce_hook)


def registers_built_in(model: Any) -> None:
    model._register_builtin_comm_hook(distributed.BuiltinCommHookType.ALLREDUCE)


def registers_its_own(model: Any) -> None:
    model.register_comm_hook(None, averaging)


def averaging(group, bucket):  # type: ignore[no-untyped-def]  # DDP judges by annotations
    return default_hooks.allreduce_hook(group, bucket)


def registered_twice() -> list[str]:
    """Return what torch says to a second hook of the script, without and with the remedy."""
    said = []
    for names in ((), ("bf16-gradients",)):
        with remedies(*names):
            model = DistributedDataParallel(Net())
            registers(model)
            try:
                registers(model)
            except RuntimeError as error:
                said.append(str(error).splitlines()[0])
    return said


def wrongly_registered() -> list[str]:
    """Return what torch says to something that is no hook, without and with the remedy."""
    said = []
    for names in ((), ("bf16-gradients",)):
        with remedies(*names):
            try:
                DistributedDataParallel(Net()).register_comm_hook(None, "no hook")
            except TypeError as error:
                said.append(str(error))
    return said


def on_a_backend_without_bfloat16() -> dict[str, Any]:
    """Train where sums of bfloat16 are refused as a backend refuses them."""
    whole = distributed.all_reduce

    def refusing(tensor: torch.Tensor, *arguments: Any, **keywords: Any) -> Any:
        if tensor.dtype == torch.bfloat16:
            raise RuntimeError("Invalid scalar type")
        return whole(tensor, *arguments, **keywords)

    bare = train([1] * 8)
    with remedies("bf16-gradients") as process:
        distributed.all_reduce = refusing
        try:
            treated = train([1] * 8)
        finally:
            distributed.all_reduce = whole
    return {"bare": bare, "treated": treated, "told": [process.applied[0].fact()]}


def in_half_precision() -> list[str]:
    """Return what is said of a model whose gradients are in bfloat16 already."""
    with remedies("bf16-gradients") as process:
        DistributedDataParallel(Net().to(torch.bfloat16))
    return process.applied[0].notes


def seldom_used() -> list[list[float]]:
    """Train where a branch is used in the updates that come early alone, bare and treated."""
    found = []
    for names in ((), ("no-sync",)):
        with remedies(*names):
            training = Training(find_unused_parameters=True)
            for number in range(24):
                count = 2 if number % 6 == 5 else 3
                training.optimizer.zero_grad()
                for _ in range(count):
                    x = torch.randn(8, 6, generator=training.data)
                    loss = training.model(x, int(count == 2)).square().mean()
                    loss.backward()
                training.optimizer.step()
                training.losses.append(loss.item())
        found.append(training.losses)
    return found


def while_it_trains() -> dict[str, Any]:
    """Take the remedy back between two updates; return gradients' errors before and after."""
    with remedies("bf16-gradients"):
        training = Training()
        training.passes(1)
        before = _rounded(training.model)
    training.passes(1)
    return {"before": before, "after": _rounded(training.model)}


def _rounded(model: Any) -> bool:
    """Tell whether gradients have no more digits than bfloat16 holds."""
    gradients = [p.grad for p in model.parameters()]
    return all(torch.equal(one, one.to(torch.bfloat16).float()) for one in gradients)


def seeds() -> dict[str, list[float]]:
    """Return losses of two seeds and of the remedy, for the proof of trials."""
    counts = [1] * 40
    with remedies("bf16-gradients"):
        treated = train(counts)["losses"]
    return {
        "old": train(counts)["losses"],
        "new": treated,
        "other": train(counts, seed=1)["losses"],
    }


def undone_within_an_update() -> dict[str, Any]:
    """Take the remedy back between two passes of one update; train on without it."""
    bare = train([4] * 8)
    training, failures = Training(), []
    process = Process(Fence(failures.append), {})
    process.apply([{"name": "no-sync"}])
    for _ in range(5):
        training.update(4)
    training.optimizer.zero_grad()
    for number in range(2):
        training.backward(number, 4)
    remarks = process.undo()
    for number in range(2, 4):
        with training.model.no_sync():  # as it would be without an exchange at its end
            training.backward(number, 4)
    training.optimizer.step()
    for _ in range(2):
        training.update(4)
    hooks = importlib.import_module("torch.optim.optimizer")._global_optimizer_pre_hooks
    left = [key for key, hook in hooks.items() if hook.__module__.endswith("no_sync")]
    for key in left:
        del hooks[key]
    parameters = [p.detach().flatten().tolist() for p in training.model.parameters()]
    return {
        "bare": bare,
        "treated": {"losses": training.losses, "parameters": parameters},
        "said": [*remarks, *failures],
    }
