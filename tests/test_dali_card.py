"""The card of dali-loading knows what the remedy knows, and promises less where it does less."""

from __future__ import annotations

from typing import Any

import pytest
import runs
from remedies_loading import FOLDER, loading

from speedprof.advisor.finding import Finding
from speedprof.mitigations.loading import dali_loading
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Transform


def judged(**changes: Any) -> Fit | Misfit:
    run = loading(runs.preparing(0, 50.0, **{**FOLDER, **changes}))
    finding = Finding(
        rule="rule", phase="data_loading", cause="cpu_preparation", share=0.5, low=0.4,
        high=0.6, evidence="it was seen",
    )  # fmt: skip
    return dali_loading.assess(run, finding)


def gain(**changes: Any) -> float:
    found = judged(**changes)
    assert isinstance(found, Fit), found
    assert found.gain is not None
    return found.gain.low


def with_one_more(name: str) -> list[Transform]:
    return [*FOLDER["transforms"], Transform(name=name, ms_per_sample=0.01, calls=50)]


def test_policies_gain_less_than_the_same_chain_without() -> None:
    plain = gain(transforms=with_one_more("RandomHorizontalFlip"))
    assert gain(transforms=with_one_more("RandAugment")) < plain


def test_files_in_lists_are_as_good_as_a_folder() -> None:
    assert gain(dataset="Food101") == gain(dataset="ImageFolder")


def test_transforms_without_an_equal_are_named() -> None:
    found = judged(transforms=with_one_more("RandomPerspective"))
    assert isinstance(found, Misfit)
    assert "RandomPerspective" in found.reason


def test_the_card_and_the_remedy_know_the_same_names() -> None:
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    from speedprof.mitigations.dali.datasets import LISTS
    from speedprof.mitigations.dali.translation import CHOICES
    from speedprof.mitigations.dali.translators import TRANSLATORS

    unseen = {"Identity", "ImageClassification"}  # never a step of a recorded Compose
    assert set(dali_loading.TRANSLATED) == {*TRANSLATORS, *CHOICES} - unseen
    assert set(LISTS) < set(dali_loading.DATASETS)
