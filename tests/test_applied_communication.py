"""Remedies of exchanges on two ranks: what is left out or made smaller, and what is trained."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
    pytest.skip("this torch has no gloo", allow_module_level=True)

from speedprof.mitigations.applied.process import Process  # noqa: E402
from speedprof.mitigations.tuning.proof import prove  # noqa: E402
from speedprof.profiler.fence import Fence  # noqa: E402
from speedprof.tests import communication_cases as cases  # noqa: E402
from speedprof.tests import launching  # noqa: E402
from speedprof.tests.gloo_ranks import together  # noqa: E402

FOURS = [4] * 10
ODD = [3, 3, 3, 2] * 5
no_sync = functools.partial(cases.compared, "no-sync")
bf16 = functools.partial(cases.compared, "bf16-gradients")
WHOLE = {
    "fours": functools.partial(no_sync, counts=FOURS),
    "odd": functools.partial(no_sync, counts=ODD),
    "one": functools.partial(no_sync, counts=[1] * 12),
    "static": functools.partial(no_sync, counts=ODD, static_graph=True),
    "views": functools.partial(no_sync, counts=ODD, gradient_as_bucket_view=True),
    "unused": functools.partial(
        no_sync, counts=[3] * 8, branching=True, find_unused_parameters=True
    ),
    "seldom used": cases.seldom_used,
    "clipped": functools.partial(no_sync, counts=ODD, clip=0.05),
    "scaled": functools.partial(no_sync, counts=ODD, clip=0.05, scaled=True),
    "fewer later": functools.partial(no_sync, counts=[4] * 6 + [2] * 20),
    "more later": functools.partial(no_sync, counts=[2] * 6 + [4] * 8),
    "alone": functools.partial(no_sync, counts=FOURS, alone=True, broadcast_buffers=False),
    "peeks": functools.partial(no_sync, counts=FOURS, peeks=True, broadcast_buffers=False),
    "peeks odd": functools.partial(no_sync, counts=ODD, peeks=True, broadcast_buffers=False),
    "undone": cases.undone_within_an_update,
    "own": functools.partial(no_sync, counts=FOURS, own=True),
    "closure": functools.partial(no_sync, counts=[2] * 10, closure=True),
    "known hook": functools.partial(no_sync, counts=ODD, prepare=cases.registers),
    "other hook": functools.partial(no_sync, counts=FOURS, prepare=cases.registers_its_own),
    "together": functools.partial(
        cases.compared, "no-sync", "bf16-gradients", "ddp-buckets", counts=ODD
    ),
    "halves": functools.partial(bf16, counts=[1] * 12),
    "registers": functools.partial(bf16, counts=[1] * 8, prepare=cases.registers),
    "built in": functools.partial(bf16, counts=[1] * 8, prepare=cases.registers_built_in),
    "twice": cases.registered_twice,
    "wrongly": cases.wrongly_registered,
    "refused": cases.on_a_backend_without_bfloat16,
    "in half": cases.in_half_precision,
    "taken back": cases.while_it_trains,
    "seeds": cases.seeds,
}
RUN = """\
import time, torch
from torch.nn.parallel import DistributedDataParallel

torch.set_num_threads(1)
torch.distributed.init_process_group("gloo")
torch.manual_seed(0)
model = DistributedDataParallel(torch.nn.Linear(8, 8))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(1, 62):
    loss = (model(torch.randn(4, 8)) - 1.0).square().mean()
    (loss / 3).backward()
    if step % 3 == 0 or step == 61:
        optimizer.step()
        optimizer.zero_grad()
if torch.distributed.get_rank() == 0:
    print(loss.item(), flush=True)
torch.distributed.barrier()
time.sleep(1)  # gloo aborts a rank that is still in the barrier when the other goes
torch.distributed.destroy_process_group()
"""
LEAVING = ("fours", "odd", "static", "views", "clipped", "scaled", "known hook",
           "more later", "fewer later", "alone", "peeks", "peeks odd")  # fmt: skip
COMPARED = (*LEAVING, "unused", "one", "own", "closure", "other hook", "together", "halves",
            "registers", "built in")  # fmt: skip


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    found = together(WHOLE, tmp_path_factory.mktemp("ranks"))
    for name, ranks in found.items():
        assert not any(isinstance(one, str) for one in ranks), f"{name}: {ranks}"
    return found


def close(one: dict[str, Any], other: dict[str, Any], rel: float = 1e-4) -> None:
    assert one["losses"] == pytest.approx(other["losses"], rel=rel)
    for left, right in zip(one["parameters"], other["parameters"], strict=True):
        assert left == pytest.approx(right, rel=rel, abs=rel / 10)


@pytest.mark.parametrize("name", LEAVING)
def test_leaving_exchanges_out_trains_alike(seen: dict[str, Any], name: str) -> None:
    for rank in seen[name]:
        close(rank["treated"], rank["bare"])


@pytest.mark.parametrize("name", LEAVING)
def test_ranks_stay_equal_to_the_last_bit(seen: dict[str, Any], name: str) -> None:
    first, second = (rank["treated"]["parameters"] for rank in seen[name])
    assert first == second


@pytest.mark.parametrize("name", COMPARED)
def test_after_undoing_training_is_as_it_was(seen: dict[str, Any], name: str) -> None:
    for rank in seen[name]:
        assert rank["again"] == rank["bare"]


@pytest.mark.parametrize("name", COMPARED)
def test_models_save_copy_and_pickle_as_before(seen: dict[str, Any], name: str) -> None:
    assert all(rank["treated"]["kept"] for rank in seen[name])


def test_one_of_four_exchanges_is_left(seen: dict[str, Any]) -> None:
    for rank in seen["fours"]:
        bare, treated = rank["bare"]["reduced"], rank["treated"]["reduced"]
        each = bare[-1] // 4
        assert bare[-3:] == [4 * each] * 3
        assert treated[-3:] == [each, each + 1, each]  # at pass 32 ranks ask each other again
        assert sum(treated) < 0.7 * sum(bare)
        (told,) = rank["told"]
        assert told["effects"] == 17  # two of the fifth update, and three of each after it
        assert told["notes"] == ["17 of 40 exchanges were left out"]


def test_an_update_that_comes_early_is_exchanged_before_it(seen: dict[str, Any]) -> None:
    for name in ("odd", "static", "views", "clipped", "scaled", "peeks odd"):
        for rank in seen[name]:
            (told,) = rank["told"]
            assert "updates came early and were exchanged before them" in told["notes"][0], name
            assert told["effects"] > 0


def test_an_update_that_has_begun_is_exchanged_though_the_remedy_is_undone(
    seen: dict[str, Any],
) -> None:
    for rank in seen["undone"]:
        close(rank["treated"], rank["bare"])
        assert rank["said"] == []
    first, second = (rank["treated"]["parameters"] for rank in seen["undone"])
    assert first == second


def test_scripts_that_leave_out_exchanges_themselves_are_left_alone(seen: dict[str, Any]) -> None:
    for rank in seen["own"]:
        (told,) = rank["told"]
        assert told["effects"] == 0
        assert told["notes"] == [
            "exchanges stay as they are: the script leaves exchanges out itself, by no_sync()"
        ]
        assert rank["treated"] == rank["bare"]


def test_backward_passes_inside_the_update_are_all_exchanged(seen: dict[str, Any]) -> None:
    for rank in seen["closure"]:
        (told,) = rank["told"]
        assert told["effects"] == 0
        assert "run inside the optimizer's step" in told["notes"][0]
        assert rank["treated"] == rank["bare"]


def test_models_that_do_not_use_all_parameters_are_left_alone(seen: dict[str, Any]) -> None:
    for rank in seen["unused"]:
        (told,) = rank["told"]
        assert told["effects"] == 0
        assert "which parameters are used may differ from pass to pass" in told["notes"][0]
        for trained in ("losses", "parameters"):
            assert rank["treated"][trained] == rank["bare"][trained]
    bare, treated = seen["seldom used"][0]
    assert treated == bare


def test_a_hook_that_is_not_known_decides_what_is_exchanged(seen: dict[str, Any]) -> None:
    for rank in seen["other hook"]:
        (told,) = rank["told"]
        assert told["effects"] == 0
        assert "the communication hook averaging() decides" in told["notes"][0]


def test_one_backward_pass_an_update_leaves_nothing_out(seen: dict[str, Any]) -> None:
    for rank in seen["one"]:
        (told,) = rank["told"]
        assert told["effects"] == 0
        assert told["notes"] == ["each update has one backward pass: nothing to leave out"]


def test_a_new_pattern_is_learnt(seen: dict[str, Any]) -> None:
    for name, passes in (("fewer later", 2), ("more later", 4)):
        for rank in seen[name]:
            each = rank["bare"]["reduced"][-1] // passes
            assert rank["treated"]["reduced"][-1] == each, name


def test_gradients_travel_in_bfloat16(seen: dict[str, Any]) -> None:
    for rank in seen["halves"]:
        (told,) = rank["told"]
        assert told["effects"] == 1, told
        assert rank["treated"]["losses"] != rank["bare"]["losses"]
        assert rank["treated"]["losses"] == pytest.approx(rank["bare"]["losses"], rel=0.03)
    first, second = (rank["treated"]["parameters"] for rank in seen["halves"])
    assert first == second


def test_bfloat16_gradients_train_within_the_noise_of_seeds(seen: dict[str, Any]) -> None:
    for rank in seen["seeds"]:
        proof = prove("changes_training", rank["old"], rank["new"], again=(), other=rank["other"])
        assert proof.passed, proof.sentence


@pytest.mark.parametrize("name", ["registers", "built in"])
def test_a_hook_that_the_script_registers_later_is_used(seen: dict[str, Any], name: str) -> None:
    for rank in seen[name]:
        (told,) = rank["told"]
        assert told["effects"] == 0
        assert told["notes"] == [
            "the script registers a communication hook of its own, which is used"
        ]
        close(rank["treated"], rank["bare"], rel=1e-6)


def test_a_second_hook_of_the_scripts_is_torchs_to_refuse(seen: dict[str, Any]) -> None:
    for bare, treated in seen["twice"]:
        assert "can only be called once" in bare
        assert treated == bare


def test_what_is_no_hook_is_torchs_to_refuse(seen: dict[str, Any]) -> None:
    for bare, treated in seen["wrongly"]:
        assert treated == bare


def test_a_backend_that_cannot_sum_bfloat16_sums_as_before(seen: dict[str, Any]) -> None:
    for rank in seen["refused"]:
        (told,) = rank["told"]
        assert told["effects"] == 0
        assert told["notes"] == ["gloo does not sum bfloat16 (Invalid scalar type)"]
        close(rank["treated"], rank["bare"], rel=1e-6)


def test_gradients_in_half_precision_stay_as_they_are(seen: dict[str, Any]) -> None:
    for notes in seen["in half"]:
        assert notes == ["gradients are exchanged as they are: they are in bfloat16 already"]


def test_a_model_that_goes_on_exchanges_in_full_once_it_is_undone(seen: dict[str, Any]) -> None:
    assert seen["taken back"] == [{"before": True, "after": False}] * 2


def test_all_of_them_go_together(seen: dict[str, Any]) -> None:
    for rank in seen["together"]:
        assert [one["effects"] > 0 for one in rank["told"]] == [True, True, True]
        assert rank["treated"]["losses"] == pytest.approx(rank["bare"]["losses"], rel=0.05)
    first, second = (rank["treated"]["parameters"] for rank in seen["together"])
    assert first == second


def test_one_process_alone_has_nothing_to_leave_out() -> None:
    distributed = torch.distributed
    failures: list[str] = []
    process = Process(Fence(failures.append), {})
    process.apply([{"name": "no-sync"}, {"name": "bf16-gradients"}])
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(2, 1))
        model(torch.ones(1, 2)).sum().backward()
    finally:
        distributed.destroy_process_group()
    notes = [note for one in process.finish() for note in one["notes"]]  # type: ignore[attr-defined]
    process.undo()
    assert sum("one process alone exchanges nothing" in note for note in notes) == 2
    assert failures == []


@pytest.mark.gpu
def test_on_a_gpu_ranks_leave_exchanges_out_and_send_halves_alike(tmp_path: Path) -> None:
    """Both ranks on one GPU, over gloo; backward runs in a thread of its own there."""
    found = together(
        {
            "odd": functools.partial(no_sync, counts=ODD, device="cuda"),
            "halves": functools.partial(bf16, counts=[1] * 12, device="cuda"),
        },
        tmp_path,
    )
    for rank in found["odd"]:
        close(rank["treated"], rank["bare"], rel=1e-3)
        assert rank["told"][0]["effects"] == 24
    for rank in found["halves"]:
        assert rank["treated"]["losses"] == pytest.approx(rank["bare"]["losses"], rel=0.03)


@pytest.mark.slow
def test_a_run_of_two_ranks_says_what_was_left_out(tmp_path: Path) -> None:
    launching.script(tmp_path, RUN, "train.py")
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "train.py"]
    bare = launching.bare(sys.executable, *torchrun, cwd=tmp_path)
    assert bare.returncode == 0, bare.stderr.decode()
    measured = launching.speedprof(
        "run", "--apply", "no-sync", "--", sys.executable, *torchrun, cwd=tmp_path
    )
    assert measured.returncode == 0, measured.stderr.decode()
    (told,) = launching.said(tmp_path, "report.json")["applied"]
    assert told["effects"] > 20
    assert "exchanges were left out" in told["notes"][0]
    assert float(measured.stdout) == pytest.approx(float(bare.stdout), rel=1e-5)
