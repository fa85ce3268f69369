"""Every rule, one file each: `check(run)` answers with a finding or keeps silent."""

from __future__ import annotations

from types import ModuleType

from speedprof.advisor.rules import (
    allocator,
    arithmetic_bound,
    bandwidth_bound,
    between_steps,
    blocking_copies,
    checkpointing,
    communication_transfer,
    copy_bandwidth,
    cpu_oversubscription,
    evaluation,
    handoff_bound,
    launch_bound,
    logging_inside,
    needless_exchange,
    padding_waste,
    pageable_copies,
    preparation_bound,
    python_time,
    recorded_loading,
    slow_optimizer,
    storage_bound,
    straggler,
    synchronising_calls,
    throttled_device,
    warm_up,
    worker_startup,
)

# what may be the cause of another finding comes first
RULES: tuple[ModuleType, ...] = (
    warm_up,
    straggler,
    cpu_oversubscription,
    worker_startup,
    storage_bound,
    preparation_bound,
    handoff_bound,
    recorded_loading,
    pageable_copies,
    blocking_copies,
    copy_bandwidth,
    needless_exchange,
    communication_transfer,
    synchronising_calls,
    launch_bound,
    python_time,
    allocator,
    checkpointing,
    evaluation,
    logging_inside,
    between_steps,
    throttled_device,
    padding_waste,
    arithmetic_bound,
    bandwidth_bound,
    slow_optimizer,
)
