"""How models are wrapped for several ranks, and what is known of their exchange."""

from __future__ import annotations

from speedprof.profiler.run import Exchange, Model, Run

DDP = "DistributedDataParallel"
NOT_DDP = "no model was seen inside DistributedDataParallel"


def ddp_models(run: Run) -> list[Model]:
    """Return the models inside DistributedDataParallel."""
    return [model for model in run.models if model.wrapped == DDP]


def exchange_of(run: Run) -> Exchange | None:
    """Return how the largest model in DDP exchanges, None where that was not recorded."""
    told = [model for model in ddp_models(run) if model.exchange is not None]
    return max(told, key=lambda model: model.bytes).exchange if told else None


def sharded_models(run: Run) -> list[Model]:
    """Return the models whose parameters are sharded: FSDP, by class or by `fully_shard`."""
    names = ("FSDP", "FullySharded")
    return [model for model in run.models if any(name in (model.wrapped or "") for name in names)]


def accumulated(run: Run) -> float | None:
    """Return the backward passes per update, None where they were not counted.

    Several optimizers may take turns (as in a GAN): then passes are not told apart by optimizer.
    """
    passes = run.backwards_per_step or run.batches_per_step
    if passes is None or len(run.optimizers) > 1:
        return None
    return passes / max(run.updates_per_step or 1.0, 1.0)


def exchanges(run: Run) -> float:
    """Return how often gradients are exchanged per update, 1 where that is not known."""
    told = exchange_of(run)
    skipped = (told.unsynchronised if told else None) or 0.0
    return max((accumulated(run) or 1.0) * (1.0 - skipped), 1.0)


def hooked(run: Run) -> bool:
    """Tell whether a communication hook is known to be registered already."""
    exchange = exchange_of(run)
    return bool(exchange and exchange.hooked)


def nodes(run: Run) -> int | None:
    """Return on how many nodes the ranks run, None where not all of them were seen."""
    if not run.ranks or len(run.ranks) < run.world_size:
        return None
    return len({rank.node for rank in run.ranks})


def link_gb_per_s(run: Run) -> float | None:
    """Return the bytes of gradients per time of exchange, None where either was not measured."""
    exchange = run.communication
    if exchange is None or not exchange.bytes or not exchange.transfer_ms:
        return None
    return exchange.bytes / exchange.transfer_ms / 1e6
