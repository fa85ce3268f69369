"""Plans as users write them: one line, or a TOML file that is read back as it was written."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speedprof.mitigations.applied.automatic import AUTOMATIC, Parameter, in_words
from speedprof.mitigations.catalogue import CATALOGUE
from speedprof.mitigations.plan_files import PlanFile, Remedy, read, understand, write
from speedprof.profiler.errors import SpeedprofError


def parameters(line: str) -> dict[str, dict[str, object]]:
    return {one.name: dict(one.parameters) for one in understand(line).remedies}


def test_a_line_names_remedies_and_their_main_parameter() -> None:
    assert parameters("loader-workers=4, pin-memory ,tf32") == {
        "loader-workers": {"num_workers": 4},
        "pin-memory": {},
        "tf32": {},
    }
    assert parameters("pin-memory=false,ddp-buckets=50") == {
        "pin-memory": {"pin_memory": False},
        "ddp-buckets": {"bucket_cap_mb": 50.0},
    }


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("loader-worker=2", "did you mean loader-workers"),
        ("tea", "there are loader-workers, "),
        ("loader-workers=x", "num_workers of loader-workers must be a whole number, not 'x'"),
        ("loader-workers=-1", "must be at least 0, not -1"),
        ("pin-memory=3", "pin_memory of pin-memory must be true or false, not '3'"),
        ("tf32=low", "must be one of high, medium, not 'low'"),
        ("channels-last=1", "channels-last takes no value"),
        ("tf32,tf32", "names a remedy twice"),
        ("loader-workers,in-process-loading", "do not go together; choose one"),
        ("larger-batch", "`speedprof explain larger-batch` tells how to do it"),
        (" , ", "names no remedy"),
        ("missing.toml", "cannot read the plan missing.toml"),
    ],
)
def test_a_wrong_line_gets_a_sentence(line: str, said: str) -> None:
    with pytest.raises(SpeedprofError) as told:
        understand(line)
    assert said in str(told.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("not toml [", "is no TOML file"),
        ("", "is no plan: its first line should be `format = 1`"),
        ("format = true", "is no plan"),
        ("format = 2", "was made by a newer speedprof (format 2)"),
        ("format = 1", "names no remedy"),
        ("format = 1\nremedies = 3", "remedies are tables"),
        ("format = 1\n[remedies]\ntf32 = 3", "remedies are tables"),
        ("format = 1\n[remedies.tf33]", "did you mean tf32"),
        ("format = 1\n[remedies.tf32]\nspeed = 3", "tf32 has no parameter 'speed', but precision"),
        ("format = 1\n[remedies.loader-workers]\nnum_workers = '4'", "must be a whole number"),
        ("format = 1\n[remedies.loader-workers]\nnum_workers = true", "must be a whole number"),
    ],
)
def test_a_wrong_file_gets_a_sentence(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    path.write_text(text)
    with pytest.raises(SpeedprofError) as told:
        understand(str(path))
    assert said in str(told.value)


def test_a_file_that_is_no_text_gets_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(SpeedprofError, match="is no TOML file"):
        read(path)


def values(parameter: Parameter) -> st.SearchStrategy[object]:
    if parameter.choices:
        return st.sampled_from(parameter.choices)
    least = parameter.least or 0
    numbers = {int: st.integers(int(least), 10**6), float: st.floats(least, 1e6)}
    return st.booleans() if parameter.kind is bool else numbers[parameter.kind]


@st.composite
def remedies(draw: st.DrawFn) -> PlanFile:
    names = draw(st.lists(st.sampled_from(sorted(AUTOMATIC)), min_size=1, unique=True))
    rivals = {one.name: one.conflicts for one in CATALOGUE}
    kept = [n for n in names if not any(n in rivals.get(m, ()) for m in names)]
    made = [
        Remedy(
            name=name,
            parameters={
                parameter: draw(values(known))
                for parameter, known in AUTOMATIC[name].parameters.items()
                if draw(st.booleans())
            },
        )
        for name in kept or ["tf32"]
    ]
    told = st.none() | st.text(st.characters(exclude_categories=["C"]), max_size=20)
    return PlanFile(remedies=tuple(made), made_by=draw(told), machine=draw(told), torch=draw(told))


@given(plan=remedies())
def test_a_plan_is_read_as_it_was_written(plan: PlanFile, tmp_path_factory: object) -> None:
    path = Path(tmp_path_factory.getbasetemp()) / "plan.toml"  # type: ignore[attr-defined]
    path.write_text(write(plan), encoding="utf-8")
    assert read(path) == plan


def test_every_automatic_remedy_stands_in_the_catalogue() -> None:
    missing = set(AUTOMATIC) - {one.name for one in CATALOGUE}
    assert missing <= {"cudnn-benchmark", "deeper-prefetch"}


@pytest.mark.parametrize(
    "text", ["loader-workers=2", "pin-memory=false", "tf32=medium", "no-sync"]
)
def test_what_is_shown_for_apply_is_what_it_takes(text: str) -> None:
    (remedy,) = understand(text).remedies
    assert in_words(remedy.name, remedy.parameters) == text
