"""What is done to each script of the scoreboard when its advice is followed."""

from __future__ import annotations

import changes_loading
from remedied import Change, lines

OPTIMIZER = "    optimizer = "
BF16 = "with torch.autocast('cpu', dtype=torch.bfloat16):"
LAST = "memory_format=torch.channels_last)"
VIEWS = "bucket_cap_mb=<bucket_cap_mb>, gradient_as_bucket_view=True, static_graph=True)"
BUCKETS = "bucket_cap_mb=<bucket_cap_mb>, gradients as views, static graph"
OFTEN = "every <every> steps"
ASK = "service.submit(ask_service, "
FIRST_ASKED = f"[{ASK}number) for number in range(<ahead>)]"
NEXT_ASKED = f"pending.append({ASK}step + <ahead>))"


def autocast(line: str) -> Change:
    """Return the change that puts a line of the loop under autocast."""
    indent = line[: len(line) - len(line.lstrip())]
    under = f"{indent}{BF16}\n    {line}\n"
    return lines("autocast around the forward pass", (f"{line}\n", under))


def before_optimizer(words: str, line: str) -> Change:
    return lines(words, (OPTIMIZER, f"    {line}\n{OPTIMIZER}"))


COMPILED = before_optimizer("torch.compile", "model = torch.compile(model)")
CHANGES: dict[str, dict[str, Change]] = {
    **changes_loading.CHANGES,
    "arithmetic": {
        "bf16-autocast": autocast("            loss = model(batch).square().mean()"),
        "compile-model": COMPILED,
    },
    "convolution": {
        "bf16-autocast": autocast(
            "        loss = nn.functional.cross_entropy(model(images), labels)"
        ),
        "channels-last": lines(
            "channels last",
            (OPTIMIZER, f"    model = model.to({LAST}\n{OPTIMIZER}"),
            ("torch.randn(8, 3, 48, 48),", f"torch.randn(8, 3, 48, 48).to({LAST},"),
        ),
        "compile-model": COMPILED,
    },
    "memory_bandwidth": {"compile-model": COMPILED},
    "optimizer_state": {"fused-optimizer": lines("fused=True", ("1e-3)", "1e-3, fused=True)"))},
    "transfer": {"ddp-buckets": lines(BUCKETS, ("bias=False)))", f"bias=False)), {VIEWS}"))},
    "straggler": {
        "balanced-ranks": lines(
            "half of the words on each rank",
            ("        if dist.get_rank() == 1:\n    ", ""),
            ("range(60)", "range(30)"),
        ),
        "rarer-work": lines(
            OFTEN,
            ("for (batch,) in loader:", "for step, (batch,) in enumerate(loader):"),
            ("if dist.get_rank() == 1:", "if step % <every> == 0 and dist.get_rank() == 1:"),
            ("8 * 80", "8 * 410"),
        ),
    },
    "python_work": {
        "rarer-work": lines(
            OFTEN,
            ("        worst = max(", "        if step % <every> == 0:\n            worst = max("),
            ("32 * 100", "32 * 410"),
        ),
    },
    "synchronisation": {
        "deferred-reading": lines(
            "asked <ahead> steps ahead, as many at once",
            ("ThreadPoolExecutor(1)", "ThreadPoolExecutor(<ahead>)"),
            ("        for step, ", f"        pending = {FIRST_ASKED}\n        for step, "),
            ("            loss = ", f"            {NEXT_ASKED}\n            loss = "),
            (f"{ASK}step)", "pending.pop(0)"),
        ),
    },
    "checkpoint": {
        "rarer-checkpoints": lines(
            "<times_rarer> times rarer",
            ("step % 2 == 1", "step % (2 * <times_rarer>) == 1"),
            ("32 * 100", "32 * 1000"),
        ),
    },
    "evaluation": {
        "rarer-evaluation": lines(
            "half as often, in inference mode",
            ("step % 5 == 0", "step % 10 == 0"),
            ("torch.no_grad()", "torch.inference_mode()"),
        ),
    },
    "slow_logging": {
        "rarer-work": lines(
            OFTEN,
            ("        log.info(", "        if step % <every> == 0:\n            log.info("),
            ("32 * 100", "32 * 410"),
        ),
    },
    "charlm": {
        "bf16-autocast": lines("--amp", arguments=("--amp",)),
        "compile-model": lines("--compile", arguments=("--compile",)),
    },
    "ddp": {
        "fused-optimizer": lines("fused=True", ("lr=options.lr)", "lr=options.lr, fused=True)")),
        "ddp-buckets": lines(
            BUCKETS, ("DistributedDataParallel(model)", f"DistributedDataParallel(model, {VIEWS}")
        ),
    },
    "balanced": {
        "bf16-autocast": autocast("        loss = model(batch).square().mean()"),
        "rarer-work": lines(
            OFTEN,
            ("for batch in", "for step, batch in enumerate("),
            ("batch_size=None):", "batch_size=None)):"),
            ("        log.info(", "        if step % <every> == 0:\n            log.info("),
        ),
    },
}
