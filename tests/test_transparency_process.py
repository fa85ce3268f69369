"""What a script can see of its process, and every number that it trains, bare and measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from speedprof.tests.transparency import INJECTED, Outcome, assert_same, both, write

pytestmark = pytest.mark.slow
pytest.importorskip("torch")

OURS = {"KINETO_LOG_LEVEL", "PYTHONPATH", "SPEEDPROF_OPTIONS", "SPEEDPROF_RUN"}

LOOK = """
import atexit, faulthandler, gc, json, locale, os, random, resource, signal, sys, threading, warnings

def look():
    main = sys.modules["__main__"]
    return {
        "environment": dict(os.environ),
        "path": sys.path,
        "argv": sys.argv,
        "orig_argv": sys.orig_argv,
        "flags": repr(sys.flags),
        "executable": [sys.executable, sys.prefix, sys.base_prefix],
        "main": [main.__name__, main.__file__, main.__spec__ is None, main.__package__, sorted(vars(main))],
        "modules": sorted(sys.modules),
        "hooks": [
            sys.excepthook is sys.__excepthook__, sys.displayhook is sys.__displayhook__,
            sys.unraisablehook is sys.__unraisablehook__, threading.excepthook is threading.__excepthook__,
            sys.breakpointhook is sys.__breakpointhook__, repr(sys.gettrace()), repr(sys.getprofile()),
            len(sys.path_hooks), sys.flags.dev_mode, repr(sys.warnoptions), len(warnings.filters),
        ],
        "threads": [thread.name for thread in threading.enumerate()],
        "native threads": len(os.listdir("/proc/self/task")),
        "descriptors": sorted(int(name) for name in os.listdir("/proc/self/fd"))[:-1],
        "streams": [
            [type(s).__name__, s.encoding, s.errors, s.line_buffering, s.isatty(), s.name]
            for s in (sys.stdin, sys.stdout, sys.stderr)
        ],
        "cwd": os.getcwd(),
        "umask": os.umask(os.umask(0o022)) ,
        "priority": os.getpriority(os.PRIO_PROCESS, 0),
        "affinity": sorted(os.sched_getaffinity(0)),
        "signals": {s.name: str(getattr(signal.getsignal(s), "__qualname__", signal.getsignal(s))) for s in signal.Signals},
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "limits": [resource.getrlimit(limit) for limit in range(16)],
        "collector": [gc.get_threshold(), gc.isenabled(), gc.get_freeze_count(), gc.get_debug()],
        "recursion": sys.getrecursionlimit(),
        "switch interval": sys.getswitchinterval(),
        "locale": locale.setlocale(locale.LC_ALL),
        "faulthandler": faulthandler.is_enabled(),
    }

first = look()
"""

TRAINING = (
    LOOK
    + """
import hashlib, torch
from torch.utils.data import DataLoader, TensorDataset

def digest(tensors):
    whole = hashlib.sha256()
    for tensor in tensors:
        whole.update(tensor.detach().contiguous().numpy().tobytes())
    return whole.hexdigest()

torch.manual_seed(0)
random.seed(0)
model = torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.Dropout(0.5), torch.nn.BatchNorm1d(32), torch.nn.Linear(32, 1))
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
data = TensorDataset(torch.randn(256, 16), torch.randn(256, 1))
after_import = look()
losses = []
for epoch in range(3):
    model.train()
    for x, y in DataLoader(data, batch_size=8, shuffle=True, num_workers=epoch):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    model.eval()
    with torch.no_grad():
        losses.append(torch.nn.functional.mse_loss(model(data.tensors[0]), data.tensors[1]))
torch.save(model.state_dict(), os.environ["CHECKPOINT"])
numbers = {
    "weights": digest(model.state_dict().values()),
    "losses": digest(losses),
    "optimizer": digest(value for state in optimizer.state.values() for value in state.values()),
    "torch random": digest([torch.get_rng_state()]),
    "random": [random.random(), torch.initial_seed()],
    "settings": [
        torch.get_num_threads(), torch.get_num_interop_threads(), torch.get_default_dtype() is torch.float32,
        torch.is_grad_enabled(), torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark,
        torch.get_float32_matmul_precision(), torch.cuda.is_initialized(), torch.autograd._profiler_enabled(),
    ],
    "checkpoint": hashlib.sha256(open(os.environ["CHECKPOINT"], "rb").read()).hexdigest(),
}
print(json.dumps({"first": first, "after import": after_import, "last": look(), "numbers": numbers}))
"""
)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the script saw bare, and what it saw measured."""
    folder = tmp_path_factory.mktemp("script")
    script = write(folder, TRAINING)
    environment = {"PYTHONHASHSEED": "0", "CHECKPOINT": "/dev/shm/speedprof-test.pt"}
    outcomes = [
        outcome
        for outcome in both(
            folder, [script.name, "--steps", "3", "--out", "x"], environment=environment
        )
    ]
    _as_expected(outcomes[1])
    first, second = (json.loads(outcome.stdout) for outcome in outcomes)
    return first, second


def _as_expected(measured: Outcome) -> None:
    assert measured.status == 0, measured.stderr.decode()
    assert list(measured.folder.glob("rank-*.rec")), "nothing was measured, so nothing is proved"


@pytest.mark.parametrize(
    "number",
    ["weights", "losses", "optimizer", "torch random", "random", "settings", "checkpoint"],
)
def test_every_number_is_the_same_to_the_last_bit(
    seen: tuple[dict[str, Any], dict[str, Any]], number: str
) -> None:
    bare, measured = seen
    assert measured["numbers"][number] == bare["numbers"][number]


@pytest.mark.parametrize("moment", ["first", "after import", "last"])
def test_the_environment_differs_by_what_measuring_needs_alone(
    seen: tuple[dict[str, Any], dict[str, Any]], moment: str
) -> None:
    bare, measured = (dict(each[moment]["environment"]) for each in seen)
    assert measured.pop("PYTHONPATH") == INJECTED
    assert {name for name in measured if name not in bare} == OURS - {"PYTHONPATH"}
    assert {name: measured[name] for name in bare} == bare


@pytest.mark.parametrize("moment", ["first", "after import", "last"])
def test_the_process_looks_the_same(
    seen: tuple[dict[str, Any], dict[str, Any]], moment: str
) -> None:
    bare, measured = (dict(each[moment]) for each in seen)
    for each in (bare, measured):
        del each["environment"], each["modules"]
    if moment != "first":
        _allow_our_files(bare, measured)
    if moment == "last":
        _allow_kinetos_thread(bare, measured)
    assert measured == bare


def _allow_our_files(bare: dict[str, Any], measured: dict[str, Any]) -> None:
    """Allow the record, and what one look at a batch costs: its telemetry and two files of /proc."""
    extra = len(measured.pop("descriptors")) - len(bare.pop("descriptors"))
    assert 0 <= extra <= 4


def _allow_kinetos_thread(bare: dict[str, Any], measured: dict[str, Any]) -> None:
    """Allow the thread that torch starts with a process's first profile and never ends."""
    extra = measured.pop("native threads") - bare.pop("native threads")
    assert 0 <= extra <= 1


@pytest.mark.parametrize("moment", ["first", "after import", "last"])
def test_the_modules_differ_by_ours_and_pythons_own_alone(
    seen: tuple[dict[str, Any], dict[str, Any]], moment: str
) -> None:
    bare, measured = (set(each[moment]["modules"]) for each in seen)
    assert bare <= measured
    extra = {name.partition(".")[0] for name in measured - bare}
    assert extra <= ({"sitecustomize"} if moment == "first" else {"sitecustomize", "speedprof"})


def test_without_torch_nothing_is_imported_and_nothing_printed(tmp_path: Path) -> None:
    script = write(
        tmp_path, LOOK + "\nfirst.pop('environment'); print(json.dumps(first, sort_keys=True))\n"
    )
    bare, measured = both(tmp_path, [script.name], environment={"PYTHONHASHSEED": "0"})
    theirs, ours = (json.loads(outcome.stdout) for outcome in (bare, measured))
    assert set(ours.pop("modules")) - set(theirs.pop("modules")) <= {"sitecustomize"}
    assert ours == theirs
    assert measured.their_stderr == bare.stderr


def test_two_bare_runs_look_the_same_too(tmp_path: Path) -> None:
    """Hold the comparison itself: what differs between two bare runs would prove nothing."""
    script = write(
        tmp_path,
        "import sys; sys.stdout.buffer.write(b'a\\r\\n\\xff'); print('b', file=sys.stderr)",
    )
    bare, measured = both(tmp_path, [script.name])
    assert_same(bare, measured)
    assert (bare.stdout, bare.stderr) == (b"a\r\n\xff", b"b\n")
