"""Remedies of exchanges: which of them comes first, and what they write."""

from __future__ import annotations

import pytest
import runs
from case_runs import DDP, talking
from remedies_communication import accumulating, connected, exchanging, ranks, sharded, timed
from test_mitigations import assess

from speedprof.advisor.judgement import judge
from speedprof.mitigations.catalogue import advise, find
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Environment, Exchange, Run


def fit(name: str, run: Run) -> Fit:
    answer = assess(name, run)
    assert isinstance(answer, Fit), answer
    return answer


def names(run: Run) -> list[str]:
    return [one.mitigation.name for one in advise(run, judge(run))]


def test_accumulated_gradients_are_exchanged_once_before_anything_is_changed() -> None:
    assert names(needing())[0] == "no-sync"
    assert "fewer-exchanges" not in names(needing())


def test_of_four_exchanges_three_go() -> None:
    told = fit("no-sync", accumulating(0.0))
    assert told.parameters == {"every": 4}
    assert "last = number % 4 == 0" in told.by_hand
    assert told.gain is not None
    assert told.gain.high <= 1.0 / (1.0 - 0.75 * 0.42) + 1e-9


def test_half_of_the_exchanges_skipped_leaves_the_other_half() -> None:
    told = fit("no-sync", accumulating(0.5))  # two exchanges for an update
    assert "50 % are not used" in told.reason


def test_what_the_rule_of_needless_exchanges_found_goes_as_a_whole() -> None:
    found = next(one for one in judge(needing()).findings if one.rule == "needless-exchange")
    told = find("no-sync").assess(needing(), found)
    assert isinstance(told, Fit)
    assert told.gain is not None
    assert told.gain.high == pytest.approx(1.0 / (1.0 - found.high))


def needing() -> Run:
    exchange = runs.communication(transfer_ms=40.0, waiting_ms=0.0)
    return accumulating(0.0, communication=exchange)


def test_several_exchanges_hide_behind_a_backward_pass_each() -> None:
    once = fit("ddp-buckets", timed(100.0)).gain
    four = fit("ddp-buckets", timed(100.0, backwards_per_step=4.0)).gain
    assert once is not None
    assert four is not None
    assert four.high == pytest.approx(once.high, rel=0.05)


def test_who_skips_exchanges_already_may_accumulate_more() -> None:
    told = fit("fewer-exchanges", accumulating(0.75))
    assert told.parameters == {"every": 8}
    assert told.gain is not None
    assert told.gain.high <= 1.0 / (1.0 - 0.5 * 0.42) + 1e-9


def test_a_search_for_unused_parameters_is_named_and_turned_off() -> None:
    told = fit("ddp-buckets", exchanging(Exchange(find_unused_parameters=True)))
    assert "walks the graph" in told.reason
    assert "find_unused_parameters=False" in told.by_hand
    assert "find_unused" not in fit("ddp-buckets", talking(**DDP)).by_hand


def test_one_huge_bucket_is_split_where_backward_can_hide_the_pieces() -> None:
    told = fit("ddp-buckets", timed(100.0))
    assert told.parameters["bucket_cap_mb"] < 100
    assert "in buckets of 1,000 MB" in told.reason


def test_buckets_are_left_alone_where_backward_is_too_short() -> None:
    told = assess("ddp-buckets", timed(1.0))
    assert isinstance(told, Misfit)
    assert "no buckets hide more" in told.reason


def test_what_disables_fast_links_is_named() -> None:
    flags = {"NCCL_P2P_DISABLE": "1", "backend": "nccl"}
    told = fit("nccl-network", connected(environment=Environment(flags=flags)))
    assert "NCCL_P2P_DISABLE is set" in told.reason
    assert "unset NCCL_P2P_DISABLE" in told.by_hand.splitlines()[-1]


def test_a_link_between_nodes_is_asked_less_than_one_within() -> None:
    between = runs.communication(transfer_ms=10.0, bytes=4e7)  # 4 GB/s
    assert isinstance(assess("nccl-network", connected(communication=between)), Fit)
    assert isinstance(assess("nccl-network", connected(nodes=2, communication=between)), Misfit)


def test_replicas_are_as_many_as_nodes() -> None:
    told = fit("hybrid-sharding", sharded(8, 2))
    assert told.parameters == {"replicate": 2, "shard": 4}
    assert '"cuda", (2, 4)' in told.by_hand


def test_a_replica_must_fit_in_what_is_free() -> None:
    assert isinstance(assess("hybrid-sharding", sharded(8, 2, peak=50)), Fit)
    assert isinstance(assess("hybrid-sharding", sharded(8, 2, peak=100)), Misfit)


def test_error_feedback_that_fits_does_not_hinder() -> None:
    assert isinstance(assess("powersgd", exchanging(ranks=ranks(2, peak=50))), Fit)


def test_each_gpu_gets_a_process() -> None:
    four = runs.machine(16, gpus=["NVIDIA H100"] * 4)
    told = fit("ddp-instead-of-dp", exchanging(wrapped="DataParallel", machines=[four]))
    assert "--nproc-per-node=4" in told.by_hand


def test_selecting_single_gradients_is_explained_and_never_advised() -> None:
    assert isinstance(assess("sparse-gradients", talking(**DDP)), Fit)
    assert "sparse-gradients" not in names(talking(**DDP))
