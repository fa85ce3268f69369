"""What speedprof can apply by itself: names, parameters and where the change is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Value = bool | int | float | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One thing that a plan may set."""

    kind: type  # bool, int, float or str
    default: Value | None = None  # None: left as it is unless the plan sets it
    least: float | None = None
    choices: tuple[Value, ...] = ()

    def fault(self, value: object) -> str | None:
        """Return what is wrong with a value, None where it can be used."""
        fits = isinstance(value, self.kind) and (self.kind is bool) == isinstance(value, bool)
        if not fits and not (self.kind is float and type(value) is int):
            return f"must be {_ARTICLE[self.kind]}, not {value!r}"
        if self.least is not None and isinstance(value, (int, float)) and value < self.least:
            return f"must be at least {self.least:g}, not {value!r}"
        if self.choices and value not in self.choices:
            return f"must be one of {', '.join(map(str, self.choices))}, not {value!r}"
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Automatic:
    """A remedy that can be applied at run time; `module` has `apply(process, parameters)`."""

    name: str
    module: str  # in this folder
    main: str | None = None  # the parameter that `NAME=VALUE` sets
    parameters: Mapping[str, Parameter] = field(default_factory=dict)


_ARTICLE = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
_FLAG = Parameter(kind=bool, default=True)

AUTOMATIC: dict[str, Automatic] = {
    one.name: one
    for one in (
        Automatic(
            name="loader-workers",
            module="loader_arguments",
            main="num_workers",
            parameters={
                "num_workers": Parameter(kind=int, default=2, least=0),
                "persistent_workers": Parameter(kind=bool, default=True),
                "prefetch_factor": Parameter(kind=int, least=1),
            },
        ),
        Automatic(
            name="in-process-loading",
            module="loader_arguments",
            main="num_workers",
            parameters={"num_workers": Parameter(kind=int, default=0, choices=(0,))},
        ),
        Automatic(
            name="persistent-workers",
            module="loader_arguments",
            main="persistent_workers",
            parameters={"persistent_workers": _FLAG},
        ),
        Automatic(
            name="deeper-prefetch",
            module="loader_arguments",
            main="prefetch_factor",
            parameters={"prefetch_factor": Parameter(kind=int, default=4, least=1)},
        ),
        Automatic(
            name="pin-memory",
            module="loader_arguments",
            main="pin_memory",
            parameters={"pin_memory": _FLAG},
        ),
        Automatic(name="non-blocking-copies", module="non_blocking"),
        Automatic(name="prefetch-to-device", module="device_prefetch"),
        Automatic(
            name="cache-samples",
            module="sample_cache",
            main="budget_mb",
            parameters={"budget_mb": Parameter(kind=int, least=1)},
        ),
        Automatic(name="set-epoch", module="sampler_epochs"),
        Automatic(
            name="dali-loading",
            module="dali_loading",
            main="threads",
            parameters={
                "threads": Parameter(kind=int, least=1),
                "prefetch": Parameter(kind=int, default=2, least=1),
                "validation": Parameter(kind=bool, default=False),
                "gpu": Parameter(kind=bool, default=False),
                "shrink": Parameter(kind=bool, default=True),
            },
        ),
        Automatic(
            name="fewer-threads",
            module="threads",
            main="threads",
            parameters={"threads": Parameter(kind=int, default=1, least=1)},
        ),
        Automatic(
            name="tf32",
            module="matmul_precision",
            main="precision",
            parameters={
                "precision": Parameter(kind=str, default="high", choices=("high", "medium"))
            },
        ),
        Automatic(
            name="bf16-autocast",
            module="autocast",
            main="dtype",
            parameters={"dtype": Parameter(kind=str, default="bfloat16", choices=("bfloat16",))},
        ),
        Automatic(name="fp16-autocast", module="loss_scaling"),
        Automatic(name="channels-last", module="channels_last"),
        Automatic(name="cudnn-benchmark", module="cudnn_benchmark"),
        Automatic(name="expandable-segments", module="allocator"),
        Automatic(name="activation-checkpointing", module="checkpointing"),
        Automatic(name="fused-attention", module="attention"),
        Automatic(
            name="compile-model",
            module="compiling",
            main="mode",
            parameters={
                "mode": Parameter(
                    kind=str,
                    default="default",
                    choices=("default", "reduce-overhead", "max-autotune"),
                )
            },
        ),
        Automatic(
            name="fused-optimizer",
            module="fused_optimizer",
            parameters={"foreach": Parameter(kind=bool)},
        ),
        Automatic(
            name="set-to-none",
            module="zero_grad",
            main="set_to_none",
            parameters={"set_to_none": _FLAG},
        ),
        Automatic(name="collect-garbage-less", module="garbage"),
        Automatic(name="no-sync", module="no_sync"),
        Automatic(name="bf16-gradients", module="gradient_compression"),
        Automatic(
            name="ddp-buckets",
            module="ddp_arguments",
            main="bucket_cap_mb",
            parameters={
                "bucket_cap_mb": Parameter(kind=float, default=100.0, least=0.1),
                "gradient_as_bucket_view": _FLAG,
                "static_graph": Parameter(kind=bool),
            },
        ),
    )
}


def in_words(name: str, parameters: Mapping[str, object]) -> str:
    """Return a remedy as `--apply` takes it: "loader-workers=2", or the name alone."""
    automatic = AUTOMATIC.get(name)
    if automatic is None or automatic.main is None or automatic.main not in parameters:
        return name
    value = parameters[automatic.main]
    return f"{name}={str(value).lower() if isinstance(value, bool) else value}"
