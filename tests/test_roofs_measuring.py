"""The measurements themselves, small and in this process: what they count and when they refuse."""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path

import pytest

from speedprof.profiler.roofs import cpu_memory, dispatch, files, pictures, products, repeats
from speedprof.profiler.roofs.order import PARTS, Absent, Order, decoded, first_line

torch = pytest.importorskip("torch")
# torchvision 0.29 says of its decoders that they will go; until then they are measured
pytestmark = pytest.mark.filterwarnings("ignore:The image decoding:DeprecationWarning")
SHARED_MEMORY = Path("/dev/shm")


def test_the_best_the_median_and_the_worst_of_the_repeats_are_told() -> None:
    rates = iter([100.0, 3.0, 1.0, 2.0])
    found = repeats.level(lambda: next(rates), budget_s=0.0)
    assert found == {"best": 3.0, "median": 2.0, "worst": 1.0, "repeats": 3}


def test_a_warm_up_does_not_count() -> None:
    rates = iter([9.0, 9.0, 1.0, 1.0, 1.0])
    assert repeats.level(lambda: next(rates), budget_s=0.0, warmups=2)["best"] == 1.0


def test_repeats_end_before_a_fast_measurement_fills_the_budget() -> None:
    assert repeats.level(lambda: 1.0, budget_s=60.0)["repeats"] == repeats.MOST


def test_an_order_comes_through_a_command_line_as_it_was() -> None:
    order = Order(
        parts=list(PARTS), scratch="/tmp/ä b", cores=3, memory_bytes=7, starter=1, answers=9
    )
    assert decoded(order.encoded()) == order


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        (RuntimeError("first\nsecond"), "first"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_an_error_is_told_on_one_line(error: BaseException, line: str) -> None:
    assert first_line(error) == line


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the storage test small and short."""
    monkeypatch.setattr(files, "LARGE_BYTES", 9 << 20)
    monkeypatch.setattr(files, "SMALL_FILES", 20)
    monkeypatch.setattr(files, "LEVEL_S", 0.05)


@pytest.mark.usefixtures("small")
def test_storage_is_read_whole_by_one_and_by_several(tmp_path: Path) -> None:
    found = files.measure(str(tmp_path))
    assert found["large_bytes"] == 9 << 20
    assert found["small_files"] == 20
    assert found["cold"] is None or 0 <= found["cold"] <= 1
    for name in ("sequential", "parallel"):
        assert found[f"{name}_gb_per_s"]["best"] > 0
    for name in ("small_files_per_s", "parallel_files_per_s"):
        assert found[name]["best"] > 0


def test_readers_read_all_of_a_file_between_them(tmp_path: Path) -> None:
    path = str(tmp_path / "file")
    size = files._write(path, 9_000_001)
    assert size == os.path.getsize(path) == 9_000_001
    part = -(-size // files.READERS)
    parts = [files._read_part(path, at, min(at + part, size)) for at in range(0, size, part)]
    assert sum(parts) == size
    assert files._read_part(path, 0, size) == size


def test_files_in_memory_are_told_from_cold_ones(tmp_path: Path) -> None:
    if not SHARED_MEMORY.is_dir() or not os.access(SHARED_MEMORY, os.W_OK):
        pytest.skip("no file system in memory")
    path = SHARED_MEMORY / f"speedprof-test-{os.getpid()}"
    try:
        files._write(str(path), 1 << 20)
        assert files.coldness(str(path), 1 << 20) == 0.0
    finally:
        path.unlink(missing_ok=True)


def test_a_disk_with_little_room_is_refused_with_the_remedy(full_disk: Path) -> None:
    folder = full_disk / "scratch"
    folder.mkdir()
    with pytest.raises(Absent, match=r"only 0 MB are free .* --storage DIR"):
        files.measure(str(folder))
    assert list(folder.iterdir()) == []


@pytest.mark.usefixtures("small")
def test_half_of_the_room_stays_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LARGE_BYTES", shutil.disk_usage(tmp_path).total)
    monkeypatch.setattr(files, "LEAST_FREE", 0)
    usage = shutil.disk_usage(tmp_path)._replace(free=2 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert files.measure(str(tmp_path))["large_bytes"] == 1 << 20


def test_little_memory_is_refused() -> None:
    with pytest.raises(Absent, match="only 100 MB of memory are free"):
        cpu_memory.measure(1, 100 << 20)


def test_memory_is_copied_by_one_thread_and_by_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_memory, "BUDGET_S", 0.05)
    before = torch.get_num_threads()
    found = cpu_memory.measure(2, 320 << 20)
    assert torch.get_num_threads() == before
    assert (found["bytes"], found["threads"]) == (40 << 20, 2)
    assert 0 < found["one_thread_gb_per_s"]["best"] < 5_000


def test_a_cache_that_cores_share_counts_once(tmp_path: Path) -> None:
    for core, (shared, size) in enumerate([("0-1", "32M"), ("0-1", "32M"), ("2", "512K")]):
        folder = tmp_path / f"cpu{core}" / "cache" / "index3"
        folder.mkdir(parents=True)
        (folder / "shared_cpu_list").write_text(f"{shared}\n")
        (folder / "size").write_text(f"{size}\n")
    (tmp_path / "cpu3" / "cache" / "index3").mkdir(parents=True)  # tells nothing
    assert cpu_memory.caches_bytes(str(tmp_path)) == (32 << 20) + (512 << 10)
    assert cpu_memory.caches_bytes(str(tmp_path / "nowhere")) == 0


def test_pictures_are_jpeg_files_of_the_size_that_is_told() -> None:
    image = pytest.importorskip("PIL.Image")
    made = pictures.pictures()
    assert len(made) == pictures.PICTURES
    assert 60_000 < sum(map(len, made)) / len(made) < 160_000
    for file in made:
        opened = image.open(io.BytesIO(file))
        assert (opened.format, opened.size) == ("JPEG", (pictures.WIDTH, pictures.HEIGHT))


def test_torchvision_makes_such_pictures_where_there_is_no_pillow() -> None:
    image = pytest.importorskip("PIL.Image")
    pytest.importorskip("torchvision")
    file = pictures._by_torchvision()
    assert image.open(io.BytesIO(file)).size == (pictures.WIDTH, pictures.HEIGHT)
    assert 40_000 < len(file) < 160_000


def test_decoders_that_are_not_installed_are_absent_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("PIL.Image")
    monkeypatch.setattr(pictures, "BUDGET_S", 0.02)
    monkeypatch.setitem(__import__("sys").modules, "nvidia.dali", None)
    found, absent = pictures.measure()
    assert found["images_per_s"]["pillow"]["best"] > 0
    assert absent["decode: dali"] == pictures.NO_DALI
    assert 60_000 < found["bytes"] < 160_000


def test_dali_decodes_without_a_gpu_where_it_is_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("nvidia.dali")
    monkeypatch.setattr(pictures, "BUDGET_S", 0.02)
    assert pictures._dali_on_the_cpu(pictures.pictures())["best"] > 0


def test_flops_are_two_for_each_multiply_add() -> None:
    assert products._flops("matmul", 10) == 2_000
    spots, weights = products.SPOTS**2, products.KERNEL**2 * products.CHANNELS**2
    assert products._flops("convolution", 3) == 2 * 3 * spots * weights


@pytest.mark.parametrize("what", ["matmul", "convolution"])
def test_products_run_in_every_type_that_a_cpu_has(
    monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setitem(products.BUDGET_S, "cpu", 0.01)
    monkeypatch.setitem(products.SIDES, "cpu", (64, 128))
    monkeypatch.setitem(products.BATCHES, "cpu", (1,))
    found, absent = products.measure(what, "cpu")
    assert set(found) | {name.split()[-1] for name in absent} == {"fp32", "bf16", "fp16"}
    assert 0 < found["fp32"]["best"] < 1_000


def test_torchs_settings_are_as_before_after_a_measurement() -> None:
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark
    with products._settings(tf32=not before[0]):
        assert matmul.allow_tf32 is not before[0]
    assert (matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark) == before


def test_operators_are_counted_by_the_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "BUDGET_S", 0.01)
    assert 0 < dispatch.measure("cpu")["best"] < 1e8
