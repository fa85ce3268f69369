"""A run beside its machine's roofs: each place by hand, and silence where something is unknown."""

from __future__ import annotations

import json
from dataclasses import replace

import jsonschema
import msgspec
import pytest
import runs
from pages import parse
from roofs_made import level, nothing, roofs, storage
from views import loader_bound

from speedprof.profiler.roofs.placing import Place, mixed, places
from speedprof.profiler.run import Arithmetic, ArithmeticKind, Rank, Run, Transform
from speedprof.reports import to_html, to_json, to_text
from speedprof.reports.view import View


def _place(run: Run, name: str) -> Place | None:
    return next((place for place in places(run) if place.name == name), None)


def _reading(**facts: object) -> Run:
    loaders = [runs.loader(disk_bytes=50e6, read_bytes=90e6)]
    return runs.run(**({"loaders": loaders, "roofs": roofs(), "cwd": "/home/ada"} | facts))


def test_what_came_from_the_device_is_held_against_the_storage_below_the_working_directory() -> (
    None
):
    place = _place(_reading(), "storage")
    assert place is not None
    assert place.value == pytest.approx(0.5)  # 50 MB a step of 100 ms
    assert place.roof == 4.0
    assert place.share == pytest.approx(0.125)
    assert "8 readers" in place.roof_of
    elsewhere = _place(_reading(cwd="/data/flowers"), "storage")
    assert elsewhere is not None
    assert elsewhere.roof == 1.0
    assert "one reader" in elsewhere.roof_of


def test_a_folder_is_not_below_another_that_only_begins_alike() -> None:
    found = roofs().storage_of("/database")
    assert found is not None
    assert found.mount == "/"


def test_an_unmeasured_file_system_is_compared_with_the_one_that_was() -> None:
    known = roofs(storage=[storage("/data", sequential_gb_per_s=level(1.0))])
    place = _place(_reading(roofs=known), "storage")
    assert place is not None
    assert place.roof_of.endswith("below /data")


def test_all_ranks_of_a_node_read_from_its_storage() -> None:
    ranks = [
        Rank(rank=n, node=node, pid=n, device="cpu", steps=9, step_ms=None, phases=None)
        for n, node in enumerate(["a", "a", "b"])
    ]
    place = _place(_reading(ranks=ranks), "storage")
    assert place is not None
    assert place.value == pytest.approx(1.0)


def test_bytes_that_were_not_seen_have_no_place() -> None:
    assert _place(_reading(loaders=[runs.loader(read_bytes=90e6)]), "storage") is None
    assert _place(_reading(roofs=roofs(storage=[])), "storage") is None
    unstepped = msgspec.structs.replace(_reading(), step_ms=None)
    assert _place(unstepped, "storage") is None


def test_pictures_are_held_against_decoding_alone() -> None:
    loader = runs.loader(getitem_cpu_ms=256.0)
    place = _place(runs.run(loaders=[loader], roofs=roofs()), "decoding")
    assert place is not None
    assert place.value == pytest.approx(250.0)  # 64 in 256 ms
    assert place.roof == 500.0
    assert "500 × 375" in place.roof_of


def test_what_are_no_pictures_is_not_held_against_decoding() -> None:
    numbers = runs.loader(dataset="TensorDataset", getitem_cpu_ms=256.0)
    assert _place(runs.run(loaders=[numbers], roofs=roofs()), "decoding") is None
    flipped = msgspec.structs.replace(
        numbers, transforms=[Transform(name="RandomHorizontalFlip", ms_per_sample=1.0, calls=9)]
    )
    assert _place(runs.run(loaders=[flipped], roofs=roofs()), "decoding") is not None


def test_only_decoders_that_use_a_core_count_for_a_core() -> None:
    known = roofs()
    assert known.decoding is not None
    on_gpu = msgspec.structs.replace(known.decoding, images_per_s={"dali-gpu": level(9_000.0)})
    loader = runs.loader(getitem_cpu_ms=256.0)
    run = runs.run(loaders=[loader], roofs=roofs(decoding=on_gpu))
    assert _place(run, "decoding") is None


@pytest.mark.parametrize(("memory", "roof"), [("pinned_ms", 25.0), ("pageable_ms", 8.0)])
def test_copies_are_held_against_the_memory_they_come_from(memory: str, roof: float) -> None:
    copies = runs.copies(gb_per_s=4.0, **{memory: 3.0})
    place = _place(runs.run(device="cuda", copies=copies, roofs=roofs()), "copies")
    assert place is not None
    assert (place.value, place.roof) == (4.0, roof)


def _computing(device: str = "cuda", **precisions: float) -> Run:
    kind = ArithmeticKind(ms=50.0, counted_ms=50.0, flops=3e12, tflops_per_s=60.0)
    counted = Arithmetic(
        flops=3e12, tflops_per_s=60.0, coverage=1.0, precisions=precisions, kinds={"matmul": kind}
    )
    compute = runs.compute(arithmetic=counted, operators_per_step=2_000.0)
    return runs.run(device=device, compute=compute, roofs=roofs())


def test_products_are_held_against_the_type_they_are_done_in() -> None:
    place = _place(_computing(bf16=3e12), "matmul")
    assert place is not None
    assert (place.value, place.roof, place.share) == (60.0, 240.0, 0.25)
    assert _place(_computing(bf16=3e12), "convolution") is None


def test_work_in_two_types_has_the_roof_of_the_time_that_both_take() -> None:
    assert mixed({"bf16": 240.0, "fp32": 18.0}, roofs().gpu.matmul_tflops) == 129.0  # type: ignore[union-attr]


def test_a_type_without_a_roof_has_no_place() -> None:
    assert _place(_computing(fp8=3e12), "matmul") is None
    assert mixed({}, {}) is None


def test_operators_are_held_against_the_device_they_run_on() -> None:
    on_gpu, on_cpu = (_place(_computing(device), "operators") for device in ("cuda", "cpu"))
    assert on_gpu is not None
    assert on_cpu is not None
    assert on_gpu.value == on_cpu.value == pytest.approx(20_000.0)
    assert (on_gpu.roof, on_cpu.roof) == (200_000.0, 1e6)


def test_exchanged_gradients_are_held_against_the_nearest_size() -> None:
    spent = runs.communication(bytes=8e6, collectives=8.0, transfer_ms=4.0)
    run = runs.run(communication=spent, world_size=2, roofs=roofs())
    place = _place(run, "all-reduce")
    assert place is not None
    assert (place.value, place.roof) == (2.0, 4.0)
    assert _place(msgspec.structs.replace(run, world_size=4), "all-reduce") is None


def test_without_roofs_and_in_traces_nothing_has_a_place() -> None:
    assert places(_reading(roofs=None)) == ()
    assert places(_reading(roofs=nothing())) == ()
    assert places(_reading(kind="trace")) == ()


def _view(**changes: object) -> View:
    view = loader_bound()
    loader = msgspec.structs.replace(view.run.loaders[0], disk_bytes=4e6, dataset="ImageFolder")
    run = msgspec.structs.replace(view.run, loaders=[loader], **changes)
    return replace(view, run=run)


def test_the_page_has_a_section_with_the_run_beside_the_roofs() -> None:
    elements = parse(to_html.render(_view(roofs=roofs())))
    section = next(e for e in elements if e.attributes.get("id") == "roofs")
    words = " ".join(section.text.split())
    assert "read from storage" in words
    assert "a roof is the best that was seen" in words
    assert "torch 2.9.0" in words
    assert any(e.tag == "desc" for e in elements if _inside(e, "roofs"))


def _inside(element: object, name: str) -> bool:
    parent = getattr(element, "parent", None)
    if parent is None:
        return False
    return parent.attributes.get("id") == name or _inside(parent, name)


def test_without_roofs_the_page_says_what_measures_them() -> None:
    elements = parse(to_html.render(_view(roofs=None)))
    section = next(e for e in elements if e.attributes.get("id") == "roofs")
    assert "speedprof roofs` measures it" in section.text


def test_a_machine_with_no_roof_at_all_is_shown_all_the_same() -> None:
    elements = parse(to_html.render(_view(roofs=nothing())))
    section = next(e for e in elements if e.attributes.get("id") == "roofs")
    assert "nothing of this run was measured that has a roof here" in section.text.lower()


def test_json_has_the_places_and_keeps_to_its_schema() -> None:
    report = json.loads(to_json.render(_view(roofs=roofs())))
    jsonschema.validate(report, to_json.schema())
    named = {place["name"]: place for place in report["roofs"]["places"]}
    assert named["storage"]["roof"] == 4
    assert report["roofs"]["machine"] == roofs().machine
    assert "roofs" not in json.loads(to_json.render(_view(roofs=None)))


def test_the_terminal_has_one_line_of_it() -> None:
    text = to_text.render(_view(roofs=roofs()))
    lines = [line for line in text.splitlines() if "this machine's roofs" in line]
    assert len(lines) == 1
    assert "decoding" in lines[0]
    assert "roofs" not in to_text.render(_view(roofs=None))
