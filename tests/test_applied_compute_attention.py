"""Attention that is written out becomes one kernel where that was proved, and only there."""

from __future__ import annotations

import copy
import io
import pickle
from functools import partial
from typing import Any

import attentions
import in_force
import pytest
import torch
from attentions import BATCH, LEFT, LENGTH, UNDERSTOOD, WIDTH, Model
from torch import Tensor, nn

from speedprof.mitigations.applied.process import Process

NAME = "fused-attention"
KERNEL = "scaled_dot_product_attention"
applied = partial(in_force.applied, name=NAME)


def losses(kind: Any, *arguments: Any, steps: int = 4, length: int = LENGTH) -> list[float]:
    """Train from a fixed seed; return the losses."""
    torch.manual_seed(0)
    model = Model(kind, *arguments)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    found = []
    for _ in range(steps):
        loss = model(torch.randn(BATCH, length, WIDTH)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


class Kernels(torch.overrides.TorchFunctionMode):
    """Counts calls of the fused attention, and what they were told."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if getattr(function, "__name__", "") == KERNEL:
            self.told.append(dict(kwargs or {}))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", UNDERSTOOD)
def test_attention_is_found_and_trains_alike(process: Process, kind: Any) -> None:
    bare = losses(kind)
    one = applied(process)
    fused = losses(kind)
    assert one.notes == []
    assert one.effects == 2
    assert fused == pytest.approx(bare, rel=1e-5)


@pytest.mark.parametrize("kind", [attentions.NanoGPT, attentions.Flat, attentions.Built])
def test_a_mask_that_hides_the_future_becomes_a_flag_of_the_kernel(
    process: Process, kind: Any
) -> None:
    applied(process)
    model = Model(kind)
    x = torch.randn(BATCH, LENGTH, WIDTH)
    model(x)
    with Kernels() as kernels:
        model(x)
    assert [one["is_causal"] for one in kernels.told] == [True, True]
    assert {one["attn_mask"] for one in kernels.told} == {None}


def test_other_lengths_are_understood_anew_and_the_last_ones_with_their_mask(
    process: Process,
) -> None:
    lengths = [LENGTH - shorter for shorter in range(10)]
    bare = [losses(attentions.NanoGPT, steps=1, length=length)[0] for length in lengths]
    torch.manual_seed(0)
    model = Model(attentions.NanoGPT)
    one = applied(process)
    causal = []
    for length, expected in zip(lengths, bare, strict=True):
        torch.manual_seed(0)
        Model(attentions.NanoGPT)  # draws what the bare one drew
        x = torch.randn(BATCH, length, WIDTH)
        with Kernels() as kernels:
            assert model(x).square().mean().item() == pytest.approx(expected, rel=1e-5)
        causal.append(kernels.told[-1]["is_causal"])
    assert causal == [True] * 7 + [False] * 3
    assert one.notes == []


def test_dropout_drops_as_much_as_before(process: Process) -> None:
    applied(process)
    model = Model(attentions.NanoGPT, 0.3)
    x = torch.randn(BATCH, LENGTH, WIDTH)
    model(x)
    with Kernels() as kernels:
        first, second = model(x), model(x)
    assert {one["dropout_p"] for one in kernels.told} == {0.3}
    assert not torch.equal(first, second)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.eval()  # dropout alone, as some do for their last steps
    assert torch.equal(model(x), model(x))


def test_dropout_is_the_same_on_average(process: Process) -> None:
    model = Model(attentions.NanoGPT, 0.5)
    x = torch.randn(BATCH, LENGTH, WIDTH)

    def mean() -> Tensor:
        with torch.no_grad():
            return torch.stack([model.layers[0](x) for _ in range(4000)]).mean(0)

    bare, again = mean(), mean()
    one = applied(process)
    model(x)
    assert one.effects == 2
    noise = (again - bare).abs().mean()
    assert (mean() - bare).abs().mean() < 1.5 * noise


def test_the_random_numbers_of_the_script_are_the_same(process: Process) -> None:
    def drawn() -> float:
        torch.manual_seed(3)
        model = Model(attentions.NanoGPT)
        model(torch.randn(BATCH, LENGTH, WIDTH)).sum().backward()
        return torch.rand(()).item()

    bare = drawn()
    applied(process)
    assert drawn() == bare


def test_evaluation_runs_as_it_is_written(process: Process) -> None:
    one = applied(process)
    torch.manual_seed(0)
    model = Model(attentions.NanoGPT)
    x = torch.randn(BATCH, LENGTH, WIDTH)
    bare = model.eval()(x)
    model.train()(x)
    assert one.effects == 2
    assert torch.equal(model.eval()(x), bare)


@pytest.mark.parametrize("kind", LEFT)
def test_what_is_not_certain_stays_as_it_is_and_says_why(process: Process, kind: Any) -> None:
    bare = losses(kind)
    one = applied(process)
    assert losses(kind) == bare
    assert one.effects == 0
    assert f"{kind.__name__} stays as it is: " in one.notes[0]


def test_a_given_mask_is_obeyed_also_where_the_first_one_hides_nothing(process: Process) -> None:
    lost = ["Hiding stays as it is: its argument mask was lost in tracing"]
    for kind, notes in ((attentions.Masked, []), (attentions.Hiding, lost)):
        model = Model(kind)
        x = torch.randn(BATCH, LENGTH, WIDTH)
        nothing = torch.zeros(BATCH, 1, 1, LENGTH, dtype=torch.bool)
        some = nothing.clone()
        some[:, :, :, LENGTH // 2 :] = True
        some[0] = kind is attentions.Masked  # a sample that is hidden wholly: all weights alike
        bare = [model(x, nothing), model(x, some), model(x)]
        one = applied(process)
        found = [model(x, nothing), model(x, some), model(x)]
        for expected, got in zip(bare, found, strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
        assert one.effects == 2  # Hiding is understood where it is given no mask
        assert one.notes == notes
        process.undo()


def test_a_setting_that_changes_meanwhile_is_obeyed(process: Process) -> None:
    one = applied(process)
    model = Model(attentions.NanoGPT)
    x = torch.randn(BATCH, LENGTH, WIDTH)
    model(x)
    for layer in model.layers:
        layer.heads = 2
    changed = model(x)
    process.undo()
    assert torch.equal(model(x), changed)
    assert one.notes == ["NanoGPT changed meanwhile; it runs as it is written"]


def test_a_mask_that_is_written_over_is_obeyed(process: Process) -> None:
    applied(process)
    model = Model(attentions.NanoGPT)
    x = torch.randn(BATCH, LENGTH, WIDTH)
    model(x)
    for layer in model.layers:
        layer.past.fill_(1.0)
    changed = model(x)
    process.undo()
    assert torch.equal(model(x), changed)


def test_hooks_that_look_at_the_weights_see_them(process: Process) -> None:
    one = applied(process)
    model = Model(attentions.Layered)
    seen: list[Tensor] = []
    for layer in model.layers:
        layer.attend.register_forward_hook(lambda _module, _inputs, out: seen.append(out))
    for _ in range(2):
        model(torch.randn(BATCH, LENGTH, WIDTH))
    assert len(seen) == 4
    assert one.notes == ["Layered stays as it is: hooks look at its weights"]


def test_a_changed_model_pickles_copies_and_saves_as_before(process: Process) -> None:
    one = applied(process)
    model = Model(attentions.NanoGPT)
    names = list(Model(attentions.NanoGPT).state_dict())
    x = torch.randn(BATCH, LENGTH, WIDTH)
    model(x)
    assert one.effects == 2
    assert list(model.state_dict()) == names
    again = pickle.loads(pickle.dumps(model))
    twin = copy.deepcopy(model)
    torch.testing.assert_close(again(x), model(x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(twin(x), model(x), rtol=1e-4, atol=1e-5)
    held = io.BytesIO()
    torch.save(model, held)
    assert b"speedprof.mitigations" not in held.getvalue()
    assert not [name for name in vars(model.layers[0]) if "speedprof" in name]


@pytest.mark.parametrize("kind", [attentions.NanoGPT, attentions.Separate, attentions.Masked])
def test_it_goes_together_with_autocast_and_checkpoints_of_the_script(
    process: Process, kind: Any
) -> None:
    from torch.utils.checkpoint import checkpoint

    def trained() -> list[float]:
        torch.manual_seed(0)
        model = Model(kind)
        found = []
        for _ in range(3):
            x = torch.randn(BATCH, LENGTH, WIDTH)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = checkpoint(model, x, use_reentrant=False).float().square().mean()
            loss.backward()
            found.append(loss.item())
        return found

    bare = trained()
    one = applied(process)
    assert trained() == pytest.approx(bare, rel=0.02)
    assert one.notes == []
    assert one.effects == 2


def test_after_undoing_training_is_as_it_was(process: Process) -> None:
    bare = losses(attentions.NanoGPT, 0.2)
    applied(process)
    losses(attentions.NanoGPT, 0.2)
    process.undo()
    assert losses(attentions.NanoGPT, 0.2) == bare


def test_a_model_without_attention_says_so(process: Process) -> None:
    one = applied(process)
    losses(attentions.Choosing)
    assert one.effects == 0
    assert one.notes == ["no module of Model writes attention out"]


@pytest.mark.filterwarnings("ignore")
def test_models_of_transformers_switch_to_their_fused_attention(process: Process) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        n_layer=2, n_head=2, n_embd=16, vocab_size=50, n_positions=32, attn_implementation="eager"
    )

    def trained() -> tuple[Any, list[float]]:
        torch.manual_seed(0)
        model = transformers.GPT2LMHeadModel(config).train()
        model.set_attn_implementation("eager")
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        model.config.attn_pdrop = 0.0
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        found = []
        for _ in range(4):
            ids = torch.randint(0, 50, (2, 10))
            loss = model(input_ids=ids, labels=ids).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            found.append(loss.item())
        return model, found

    _, bare = trained()
    one = applied(process)
    model, fused = trained()
    assert one.notes == []
    assert one.effects == 1
    assert model.config._attn_implementation == "sdpa"
    assert fused == pytest.approx(bare, rel=1e-4)
    process.undo()
    assert model.config._attn_implementation == "eager"


@pytest.mark.gpu
def test_on_a_gpu_the_flash_kernel_runs(process: Process) -> None:
    from torch.nn.attention import SDPBackend, sdpa_kernel

    one = applied(process)
    model = Model(attentions.NanoGPT, 0.1).cuda()
    x = torch.randn(BATCH, LENGTH, WIDTH, device="cuda")
    with torch.autocast("cuda", dtype=torch.bfloat16):
        model(x)
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            model(x).sum().backward()
    assert one.effects == 2
