"""The finest parts that a step is cut into, and the parts of a loop that the probes tell apart."""

from __future__ import annotations

LABELS = (
    "data_loading",
    "host_to_device",
    "compute.forward",
    "compute.backward",
    "compute.optimizer",
    "compute.device_memory",
    "communication",
    "host.launch",
    "host.python",
    "host.allocator",
    "host.synchronisation",
    "outside.checkpoint",
    "outside.evaluation",
    "outside.logging",
    "outside.other",
)
LABEL = {name: index for index, name in enumerate(LABELS)}
PHASE_OF = tuple(name.partition(".")[0] for name in LABELS)

# Where the loop was, by the host's clock. The last one is measured on every step by the probes
# (loader, checkpoint, evaluation, between epochs); the others are the rest of the step.
SEGMENTS = ("backward", "optimizer", "tail", "other", "counted")
SEGMENT = {name: index for index, name in enumerate(SEGMENTS)}

# What a source line was seen doing, by the label of the time
KINDS = {
    "data_loading": "batches",
    "host_to_device": "copy",
    "compute.forward": "compute",
    "compute.backward": "compute",
    "compute.optimizer": "compute",
    "compute.device_memory": "compute",
    "communication": "communication",
    "host.launch": "launch",
    "host.python": "python",
    "host.allocator": "allocator",
    "host.synchronisation": "waiting",
    "outside.checkpoint": "checkpoint",
    "outside.evaluation": "evaluation",
    "outside.logging": "logging",
    "outside.other": "other",
}
