"""The checks that the pages end with: they pass for equal modules and bite for others."""

import builtins
import sys
from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
from torch import nn

import archbook.teaching
from archbook.teaching import (
    assert_same_module,
    glue,
    show_card,
    show_environment,
    show_table,
)

X = torch.randn(3, 4)


class Layer(nn.Module):
    """y = tanh(W x + b) * g, with ways to go wrong."""

    def __init__(self, fault=None, width=4):
        super().__init__()
        self.fault = fault
        self.linear = nn.Linear(4, width)
        self.gain = nn.Parameter(torch.full((width,), 1e-3))
        self.register_buffer("scale", torch.tensor(2.0))
        if fault == "extra":
            self.surplus = nn.Parameter(torch.zeros(1))

    def forward(self, x, mask=None):
        if self.fault == "in place":
            x.mul_(2)
        gain = self.gain.detach() if self.fault == "gradient" else self.gain
        y = torch.tanh(self.linear(x)) * gain
        if self.fault == "value":
            y = torch.tanh(self.linear(x))  # forgets the gain, which starts at 0.001
        return y if mask is None else y * mask


def test_a_module_is_the_same_as_itself():
    assert assert_same_module(Layer(), Layer(), X) is None


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("value", r"output: Tensor-likes are not close"),
        ("gradient", r"gradient of gain: Tensor-likes are not close"),
        ("in place", r"Layer changed its input\[0\]\[0\]"),
        ("extra", r"not those of Layer: surplus \(1,\) is too much"),
    ],
)
def test_a_module_with_a_fault_is_told_apart(fault, message):
    with pytest.raises(AssertionError, match=message):
        assert_same_module(Layer(fault), Layer(), X)


def test_missing_and_misshapen_weights_are_named():
    class Other(Layer):
        def __init__(self):
            super().__init__(width=2)
            del self.scale

    with pytest.raises(AssertionError) as caught:
        assert_same_module(Other(), Layer(), X)
    assert "the weights of Other are not those of Layer" in str(caught.value)
    assert "linear.weight has shape (2, 4), wanted (4, 4)" in str(caught.value)
    assert "scale () is missing" in str(caught.value)


def test_modules_inputs_and_random_numbers_stay_as_they_were():
    mine, reference, x = Layer(), Layer(), X.clone()
    weights = mine.linear.weight.clone(), reference.linear.weight.clone()
    state = torch.get_rng_state()
    assert_same_module(mine, reference, x)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(mine.linear.weight, weights[0])
    assert torch.equal(reference.linear.weight, weights[1])
    assert x.dtype == torch.float32
    assert not x.requires_grad


def test_keyword_inputs_and_masks_are_passed_on():
    assert_same_module(Layer(), Layer(), X, mask=None)
    assert_same_module(Layer(), Layer(), X, mask=torch.tensor([True, False, True, True]))
    with pytest.raises(AssertionError, match="output"):
        assert_same_module(Layer(), _Unmasked(), X, mask=torch.zeros(4, dtype=torch.bool))


class _Unmasked(Layer):
    def forward(self, x, mask=None):
        return super().forward(x)


def test_dropout_draws_the_same_numbers_in_both():
    class Noisy(Layer):
        def forward(self, x, mask=None):
            return nn.functional.dropout(super().forward(x))

    assert assert_same_module(Noisy(), Noisy(), X) is None


class Pair(NamedTuple):
    first: torch.Tensor
    second: torch.Tensor


@dataclass
class Answer:
    pair: Pair
    parts: dict
    note: str
    size: int


class Nested(nn.Module):
    """Every kind of nest in and out; `change` alters one leaf."""

    def __init__(self, change=None):
        super().__init__()
        self.change = change
        self.weight = nn.Parameter(torch.ones(4))

    def forward(self, pair, parts):
        y = pair.first * self.weight + parts["more"][0]
        z = torch.complex(y, pair.second)
        note = "other" if self.change == "note" else "note"
        size = 2 if self.change == "size" else 1
        wave = z.conj() if self.change == "wave" else z
        inner = {"wave": wave, "list": [y, None]}
        if self.change == "key":
            inner["surplus"] = y
        return Answer(Pair(y, y.softmax(-1)), inner, note, size)


NEST = (Pair(X, X + 1), {"more": [X - 1, torch.tensor(3)]})


def test_nested_inputs_and_outputs_are_compared_leaf_by_leaf():
    assert assert_same_module(Nested(), Nested(), *NEST) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("note", "output.note: wanted 'note', given 'other'"),
        ("size", "output.size: "),
        ("wave", r"output.parts\['wave'\]: "),
        ("key", r"wanted \[.*given \[.*surplus"),
    ],
)
def test_a_changed_leaf_is_named(change, message):
    with pytest.raises(AssertionError, match=message):
        assert_same_module(Nested(change), Nested(), *NEST)


def test_complex_inputs_are_compared_with_their_gradients():
    class Phase(nn.Module):
        def forward(self, z):
            return z * 1j

    class Detached(Phase):
        def forward(self, z):
            return (z.detach() + 0 * z) * 1j

    z = torch.randn(3, dtype=torch.complex64)
    assert_same_module(Phase(), Phase(), z)
    with pytest.raises(AssertionError, match=r"gradient of input\[0\]\[0\]"):
        assert_same_module(Detached(), Phase(), z)


def test_a_weight_that_the_output_ignores_has_the_gradient_zero():
    class Idle(Layer):
        def forward(self, x, mask=None):
            return super().forward(x) + 0 * self.idle.sum()

        def __init__(self):
            super().__init__()
            self.idle = nn.Parameter(torch.ones(2))

    class Unused(Idle):
        def forward(self, x, mask=None):
            return Layer.forward(self, x)

    assert assert_same_module(Unused(), Idle(), X) is None


def test_modules_without_anything_to_differentiate_are_compared_by_output():
    class Count(nn.Module):
        def forward(self, x):
            return x + 1

    assert assert_same_module(Count(), Count(), torch.arange(3)) is None


def test_what_is_no_module_is_refused():
    with pytest.raises(TypeError, match="wanted two torch modules, given function"):
        assert_same_module(lambda x: x, Layer(), X)


def test_glue_does_what_myst_nb_does_and_shows_nothing(capsys, monkeypatch):
    myst_nb_glue = pytest.importorskip("myst_nb.ext.glue")
    shown = []

    def display(data, **about):
        shown.append((data, about))

    monkeypatch.setattr(myst_nb_glue, "ipy_display", display)
    glue("accuracy", 98.5)
    myst_nb_glue.glue("accuracy", 98.5, display=False)
    assert len(shown) == 2
    assert shown[0] == shown[1]
    assert list(shown[0][0]) == ["application/papermill.record/text/plain"]


def test_without_myst_nb_glue_does_nothing(monkeypatch, capsys):
    real = builtins.__import__

    def without(name, *rest, **more):
        if name.startswith("myst_nb"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    glue("accuracy", 98.5)
    assert capsys.readouterr() == ("", "")


def test_a_table_is_shown_as_markdown_and_as_plain_text(monkeypatch):
    display_module = pytest.importorskip("IPython.display")
    shown = []
    monkeypatch.setattr(display_module, "display", lambda data, raw: shown.append((data, raw)))
    show_table(["model", "accuracy"], [["LMU", 98.5], ["MLP", 90]])
    text = "| model | accuracy |\n| :-- | --: |\n| LMU | 98.5 |\n| MLP | 90 |"
    assert shown == [({"text/markdown": text, "text/plain": text}, True)]


def test_a_table_with_a_short_row_is_refused():
    with pytest.raises(ValueError, match=r"wanted rows of 2 entries, given \['LMU'\]"):
        show_table(["model", "accuracy"], [["LMU"]])


def test_the_environment_is_told_in_two_lines(capsys):
    show_environment("cpu")
    device, versions = capsys.readouterr().out.splitlines()
    assert device.startswith("device   cpu (")
    assert f"{torch.get_num_threads()} CPU threads" in device
    python = ".".join(map(str, sys.version_info[:3]))
    assert versions.startswith(f"versions Python {python}, torch {torch.__version__}, numpy")


def no_work() -> tuple[torch.Tensor, ...]:
    raise AssertionError("nothing runs where there is no card")


def test_without_a_card_the_committed_result_of_one_is_shown(monkeypatch, capsys):
    one = {"ratio": {"median": 0.5}, "launches": 7, "error": 0.0123, "kernels": ["gemm", "relu"]}
    table = {
        "name": "precision",
        "title": "A network",
        "environment": {"device_name": "a card"},
        "rows": [{"size": {"batch": 4096}, "candidates": {"float32": one}}],
    }
    found = {"tables": [{"name": "batch"}, table]}
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data))
    monkeypatch.setattr(archbook.teaching, "read_results", lambda stem, name: found)
    show_card("lmu", no_work, torch.device("cpu"))
    assert "a card\nA network\nbatch 4,096\n" in capsys.readouterr().out
    assert "| float32 | 0.50 | 7 | 1e-02 |" in shown[0]["text/plain"]

    found["tables"].pop()
    show_card("lmu", no_work, torch.device("cpu"))
    assert capsys.readouterr().out == ""


def test_without_any_result_of_a_card_nothing_is_said(monkeypatch, capsys):
    def nothing(stem: str, name: str):
        raise FileNotFoundError

    monkeypatch.setattr(archbook.teaching, "read_results", nothing)
    show_card("lmu", no_work, torch.device("cpu"))
    assert capsys.readouterr().out == ""


@pytest.mark.gpu
def test_on_a_card_the_pass_is_measured_there(capsys):
    x = torch.ones(64, 64, device="cuda")
    show_card("lmu", lambda: (x @ x,), torch.device("cuda"))
    assert torch.cuda.get_device_name() in capsys.readouterr().out
