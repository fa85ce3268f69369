"""What Perfetto shows of our answer: pieces that meet, and that add up to their step."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from speedprof.profiler.labels import LABEL, LABELS
from speedprof.profiler.trace_tracks import Pieces, tracks

BASE = 1_623_142_623_460_016.0  # us since 1970, as traces before PyTorch 2.4 have them


def window(edges: list[int], label: list[int], boundaries: list[int]) -> Pieces:
    return Pieces(
        edges=np.array(edges, np.int64),
        label=np.array(label, np.int64),
        boundaries=np.array(boundaries, np.int64),
        first_step=3,
    )


def test_neighbours_of_one_label_are_one_piece_but_never_across_steps() -> None:
    data, host = LABEL["data_loading"], LABEL["host.launch"]
    made = window([0, 1000, 2000, 3000, 4000], [data, data, host, host], [0, 3000, 4000])
    phases, steps = (list(track.pieces) for track in tracks([made], base=0.0, unit_ns=1e3))
    assert phases == [(0, 2, "data loading"), (2, 3, "host: launch"), (3, 4, "host: launch")]
    assert steps == [(0, 3, "step 3"), (3, 4, "step 4")]


@given(
    some.lists(
        some.tuples(some.integers(1, 10**7), some.integers(0, len(LABELS) - 1)), min_size=1
    ),
    some.sets(some.integers(0, 40)),
)
def test_the_pieces_of_a_step_add_up_to_it(cells: list[tuple[int, int]], cuts: set[int]) -> None:
    edges = np.concatenate(([0], np.cumsum([length for length, _ in cells]))).tolist()
    inner = sorted(edges[cut] for cut in cuts if 0 < cut < len(cells))
    made = window(edges, [label for _, label in cells], [0, *inner, edges[-1]])
    phases, steps = (list(track.pieces) for track in tracks([made], base=BASE, unit_ns=1e3))
    assert [piece[0] for piece in phases[1:]] == [piece[1] for piece in phases[:-1]]
    for start, end, _ in steps:
        inside = sum(b - a for a, b, _ in phases if start <= a < end)
        assert inside == pytest.approx(end - start, abs=1e-9)
