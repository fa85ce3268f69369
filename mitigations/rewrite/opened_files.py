"""Data sets of a script that keep a file or a database open, which forked workers cannot share."""

from __future__ import annotations

import libcst as cst

from speedprof.mitigations.rewrite.code import Code, Refused, body_of

OPENING = (
    "h5py.File", "lmdb.open", "netCDF4.Dataset", "sqlite3.connect", "tarfile.open",
    "zipfile.ZipFile",
)  # fmt: skip
BUILDING = ("__init__", "__post_init__")


def refuse(code: Code) -> None:
    """Refuse workers where a class with samples opens something as it is built, and keeps it."""
    for assign in code.all(cst.Assign):
        if not isinstance(assign.value, cst.Call) or not _opens(code, assign.value):
            continue
        function = code.function(assign)
        kept = any(code.words(one.target).startswith("self.") for one in assign.targets)
        built = isinstance(function, cst.FunctionDef) and function.name.value in BUILDING
        if kept and built and _has_samples(code, function):
            opening = code.words(assign.value.func)
            raise Refused(
                f"line {code.line(assign)} keeps what {opening}() opens, and "
                "forked workers would read on from each other's position; open it at the first "
                "sample"
            )


def _opens(code: Code, call: cst.Call) -> bool:
    return code.words(call.func) == "open" or bool(code.qualified(call.func) & set(OPENING))


def _has_samples(code: Code, function: cst.CSTNode) -> bool:
    home = next((one for one in code.ancestors(function) if isinstance(one, cst.ClassDef)), None)
    return home is not None and any(
        isinstance(one, cst.FunctionDef) and one.name.value == "__getitem__"
        for one in body_of(home.body)
    )
