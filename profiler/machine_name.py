"""What a machine is called where something was proved on it, and whether this one is another.

The processor, the cores that may be used and the GPUs: what a plan's gain depends on. Runs in the
training process, too: the standard library, and NVIDIA's driver where there is one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from speedprof.profiler import node

DRIVER = Path("/proc/driver/nvidia/gpus")  # a folder a GPU, with a line "Model: ..."


def named(cpu: str | None, cores: float, gpus: Sequence[str]) -> str:
    """Return the machine in words: "AMD EPYC 9575F, 8 cores, NVIDIA H100"."""
    return ", ".join([cpu or "unknown CPU", f"{usable(cores)} cores", *gpus])


def here() -> str:
    """Return this machine in words."""
    return named(node.processor_name(), cores_here(), gpus_here())


def cores_here() -> int:
    """Return how many cores this process may use."""
    return usable(node.limits(None).cores)


def usable(cores: float) -> int:
    """Return whole cores; a share of one is one."""
    return max(1, int(cores))


def gpus_here(driver: Path = DRIVER) -> list[str]:
    """Return the names of the GPUs that may be used, as the driver tells them."""
    try:
        from speedprof.profiler.gpu import Gpus
    except ImportError:  # the environment that trains has nothing of ours
        return _told_by_the_kernel(driver)
    gpus = Gpus()
    gpus.close()
    return gpus.names


def _told_by_the_kernel(driver: Path) -> list[str]:
    found = []
    for file in sorted(driver.glob("*/information")):
        lines = file.read_text("utf-8", errors="replace").splitlines()
        found += [line.partition(":")[2].strip() for line in lines if line.startswith("Model:")]
    return found


def doubt(
    proved: Mapping[str, str], *, here: str, torch: str | None, where: str = "this machine"
) -> str | None:
    """Say that a plan was proved elsewhere; None where it was not, or does not say.

    `proved` has what the plan says of its `machine` and `torch`; of a torch, the minor version
    counts: 2.11.1 is no other than 2.11.0.
    """
    machine, theirs = proved.get("machine"), proved.get("torch")
    elsewhere = machine is not None and machine != here
    newer = theirs is not None and torch is not None and _minor(theirs) != _minor(torch)
    if not elsewhere and not newer:
        return None
    with_theirs = f" with torch {_minor(theirs)}" if newer and theirs is not None else ""
    with_ours = f" with torch {_minor(torch)}" if newer and torch is not None else ""
    there = f" on {machine}{with_theirs}, not on {where} ({here}{with_ours})"
    place = there if elsewhere else f"{with_theirs}, not{with_ours}"
    return f"the plan was proved{place}: `speedprof tune --plan` proves it here"


def _minor(version: str) -> str:
    """Return "2.15" of "2.15.0+cpu"."""
    return ".".join(version.partition("+")[0].split(".")[:2])
