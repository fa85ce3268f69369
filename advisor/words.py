"""Phases and causes in the words of a sentence."""

from __future__ import annotations

PHASE_WORDS = {
    "data_loading": "Data loading",
    "host_to_device": "Copying to the device",
    "compute": "Computing",
    "communication": "Communication",
    "host": "The host",
    "outside": "Work between steps",
}

CAUSE_WORDS: dict[tuple[str, str | None], str] = {
    ("data_loading", "storage"): "waiting for storage",
    ("data_loading", "cpu_preparation"): "preparing samples on the CPU",
    ("data_loading", "worker_handoff"): "handing batches over from the workers",
    ("data_loading", "startup"): "starting the workers again every epoch",
    ("host_to_device", "pageable_memory"): "the batches lie in pageable memory",
    ("host_to_device", "bandwidth"): "more bytes than the link carries in time",
    ("host_to_device", "blocking_copy"): "the host waits for each copy",
    ("compute", "arithmetic"): "arithmetic",
    ("compute", "memory_bandwidth"): "memory bandwidth",
    ("communication", "transfer"): "exchanging gradients",
    ("communication", "straggler"): "waiting for a late rank",
    ("host", "launch"): "launching operators one by one",
    ("host", "python"): "Python code in the training loop",
    ("host", "synchronisation"): "calls that wait for the device",
    ("host", "allocator"): "allocating memory",
    ("outside", "checkpoint"): "writing checkpoints",
    ("outside", "evaluation"): "evaluation",
    ("outside", "logging"): "logging",
    ("outside", "other"): "other work of the script",
    ("data_loading", None): "what it waits for could not be told",
    ("host_to_device", None): "what slows the copies down could not be told",
    ("compute", None): "whether arithmetic or memory bandwidth limits it could not be told",
    ("communication", None): "exchange and waiting could not be told apart",
    ("host", None): "what the host does meanwhile could not be told",
    ("outside", None): "what is done there could not be told",
}


def cause_words(phase: str, cause: str | None, *, device: str) -> str:
    """Return the words for a cause; where there is no device, nobody waits for one."""
    if device == "cpu" and (phase, cause) == ("host", "synchronisation"):
        return "waiting for something else (a lock, a queue, a sleep, another process)"
    return CAUSE_WORDS[phase, cause]
