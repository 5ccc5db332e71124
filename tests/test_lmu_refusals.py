"""What the memory and its networks refuse, with the wanted and the given named."""

import pytest
import torch
from refusals import INF, NAN, each_raises, spoiled

from archbook.checks import value_checks
from archbook.lmu import LMU, LegendreMemory, LinearMemory, LMUCell, LMUClassifier

memory = LegendreMemory(4, 12.0)  # float32
model = LMU(3, 5, 2, order=4, theta=12.0)
cell = LMUCell(3, 5, 4, theta=12.0)
ones, eye = torch.ones, torch.eye
h, m = ones(2, 5), ones(2, 4)


test_no_module_is_built_from = each_raises(
    [
        (lambda: LegendreMemory(0, 4.0), ValueError, "order to be at least 1, given 0"),
        (lambda: LegendreMemory(True, 4.0), TypeError, "order to be an int, given True"),
        (lambda: LegendreMemory(4, -1.0), ValueError, "theta to be positive .*given -1.0"),
        (lambda: LegendreMemory(4, 8.0, "foh"), ValueError, "'zoh', 'euler', given 'foh'"),
        (lambda: LinearMemory(eye(3), 1.0), TypeError, "B_bar to be a tensor, given float"),
        (lambda: LinearMemory(eye(3), eye(3)), ValueError, r"B_bar to have shape \(order\)"),
        (lambda: LinearMemory(eye(3), ones(2)), ValueError, r"shape \(2, 2\), given \(3, 3\)"),
        (lambda: LinearMemory(eye(2) + 0j, ones(2)), TypeError, "real, given torch.complex64"),
        (lambda: LinearMemory(eye(2) * NAN, ones(2)), ValueError, "A_bar to be finite, given 4"),
        (lambda: LinearMemory(eye(2), ones(2) * INF), ValueError, "B_bar to be finite, given 2"),
        (
            lambda: LMUClassifier(1, 5, 0, order=4, theta=12.0),
            ValueError,
            "classes to be at least 1, given 0",
        ),
        (
            lambda: LMUClassifier(1, 5, 3, order=4, theta=12.0, dropout=1.5),
            ValueError,
            "between 0 and 1, but got 1.5",
        ),
        (
            lambda: LMU(0, 5, 2, order=4, theta=12.0),
            ValueError,
            "input_size to be at least 1, given 0",
        ),
        (
            lambda: LMU(3, 5.0, 2, order=4, theta=12.0),
            TypeError,
            "hidden_size to be an int, given 5.0",
        ),
        (
            lambda: LMU(3, 5, -2, order=4, theta=12.0),
            ValueError,
            "memory_size to be at least 1, given -2",
        ),
        (lambda: LMU(3, 5, 2, order=0, theta=12.0), ValueError, "order to be at least 1, given 0"),
        (lambda: LMU(3, 5, 2, order=4, theta=NAN), ValueError, "theta to be positive .*given nan"),
        (lambda: LMUCell(0, 5, 4, theta=12.0), ValueError, "input_size to be at least 1, given 0"),
        (
            lambda: LMUCell(3, True, 4, theta=12.0),
            TypeError,
            "hidden_size to be an int, given True",
        ),
        (lambda: LMUCell(3, 5, -4, theta=12.0), ValueError, "order to be at least 1, given -4"),
        (lambda: LMUCell(3, 5, 4.5, theta=12.0), TypeError, "order to be an int, given 4.5"),
    ]
)


def test_a_window_under_two_steps_warns():
    with pytest.warns(UserWarning, match="theta is 0.5: .*in steps, not in seconds"):
        LMU(1, 2, 1, order=3, theta=0.5)


bad_signals = [
    ([[[1.0]]], TypeError, "u to be a tensor, given list"),
    (ones(9, 1), ValueError, r"u to have shape \(batch, time, channels\), given \(9, 1\)"),
    (ones(2, 0, 1), ValueError, r"given \(2, 0, 1\) \(no axis may be empty\)"),
    (ones(0, 9, 1), ValueError, r"given \(0, 9, 1\) \(no axis may be empty\)"),
    (ones(2, 9, 0), ValueError, r"given \(2, 9, 0\) \(no axis may be empty\)"),
    (ones(2, 9, 1).double(), TypeError, "u to be torch.float32 like the memory, given .*float64"),
    (ones(2, 9, 1).long(), TypeError, "u to be torch.float32 like the memory, given torch.int64"),
    (ones(2, 9, 1, device="meta"), ValueError, "u to be on cpu like the memory, .* on meta"),
    (spoiled(NAN, 2, 9, 1), ValueError, "u to be finite, given 1 NaN or infinite of 18"),
    (spoiled(-INF, 2, 9, 1), ValueError, "u to be finite, given 1 NaN or infinite of 18"),
]
bad_states = [
    (ones(2, 4), ValueError, r"state to have shape \(2, 1, 4\), given \(2, 4\)"),
    (ones(2, 1, 5), ValueError, r"state to have shape \(2, 1, 4\), given \(2, 1, 5\)"),
    (ones(3, 1, 4), ValueError, r"state to have shape \(2, 1, 4\), given \(3, 1, 4\)"),
    (ones(2, 1, 4).double(), TypeError, "state to be torch.float32 like the memory, given .*64"),
    (ones(2, 1, 4, device="meta"), ValueError, "state to be on cpu like the memory, .* on meta"),
    (spoiled(NAN, 2, 1, 4), ValueError, "state to be finite, given 1 NaN or infinite of 8"),
    ((1, 2), TypeError, "state to be a tensor, given tuple"),
]


@pytest.mark.parametrize("run", [memory, memory.last], ids=["forward", "last"])
@pytest.mark.parametrize(("u", "error", "message"), bad_signals)
def test_the_memory_refuses_the_signal(run, u, error, message):
    with pytest.raises(error, match=message):
        run(u)


@pytest.mark.parametrize("run", [memory, memory.last], ids=["forward", "last"])
@pytest.mark.parametrize(("state", "error", "message"), bad_states)
def test_the_memory_refuses_the_state(run, state, error, message):
    with pytest.raises(error, match=message):
        run(ones(2, 9, 1), state=state)


test_the_memory_refuses = each_raises(
    [
        (lambda: memory(ones(2, 9, 1), "fast"), ValueError, "'fft', 'chunked', given 'fast'"),
        (lambda: memory(ones(2, 9, 1), None), ValueError, "mode to be one of .*given None"),
        (lambda: memory.step(ones(2)), ValueError, r"u to have shape \(batch, channels\)"),
        (lambda: memory.step(ones(2, 1), m), ValueError, r"state .* \(2, 1, 4\), given \(2, 4\)"),
        (lambda: memory.step(spoiled(NAN, 2, 1)), ValueError, "u to be finite, given 1"),
        (
            lambda: LegendreMemory(4, 12.0).double()(ones(2, 9, 1)),
            TypeError,
            "torch.float64 like the memory, given",
        ),
        (
            lambda: LegendreMemory(4, 12.0).double()(ones(2, 9, 1).half()),
            TypeError,
            "like the memory, given .*16",
        ),
    ]
)

x, good_mask = ones(2, 9, 3), ones(2, 9).bool()


test_the_parallel_model_refuses = each_raises(
    [
        (lambda: model(ones(9, 3)), ValueError, r"x to have shape \(batch, time, 3\), given \(9"),
        (lambda: model(ones(2, 9, 4)), ValueError, r"\(batch, time, 3\), given \(2, 9, 4\)"),
        (lambda: model(ones(2, 0, 3)), ValueError, r"given \(2, 0, 3\) \(no axis may be empty"),
        (
            lambda: model(x.double()),
            TypeError,
            "x to be torch.float32 like the weights, given .*64",
        ),
        (lambda: model(x.to("meta")), ValueError, "x to be on cpu like the weights, .* on meta"),
        (lambda: model(spoiled(NAN, 2, 9, 3)), ValueError, "x to be finite, given 1"),
        (lambda: model(spoiled(INF, 2, 9, 3)), ValueError, "x to be finite, given 1"),
        (lambda: model(spoiled(-INF, 2, 9, 3)), ValueError, "x to be finite, given 1"),
        (lambda: model(x, ones(2, 1, 4)), ValueError, r"state .*\(2, 2, 4\), given \(2, 1, 4\)"),
        (lambda: model(x, mode="fast"), ValueError, "mode to be one of .*given 'fast'"),
        (lambda: model(x, mask=good_mask[:, :8]), ValueError, r"mask .*\(2, 9\), given \(2, 8\)"),
        (lambda: model(x, mask=ones(2, 9)), TypeError, "mask to be torch.bool .*given .*float32"),
        (
            lambda: model(x, mask=good_mask.to("meta")),
            ValueError,
            "mask to be on cpu, .* on meta",
        ),
        (lambda: model(x, mask=[[True]]), TypeError, "mask to be a tensor, given list"),
        (lambda: model.step(ones(2, 4)), ValueError, r"x_t .*\(batch, 3\), given \(2, 4\)"),
        (lambda: model.step(spoiled(NAN, 2, 3)), ValueError, "x_t to be finite, given 1"),
        (lambda: model.step(ones(2, 3), m), ValueError, r"state .*\(2, 2, 4\), given \(2, 4\)"),
        (lambda: model.final_state(ones(2, 9)), ValueError, r"x to have shape .*given \(2, 9\)"),
    ]
)


test_the_cell_refuses = each_raises(
    [
        (lambda: cell(ones(2, 4)), ValueError, r"x_t to have shape \(batch, 3\), given \(2, 4\)"),
        (
            lambda: cell(ones(2, 3).double()),
            TypeError,
            "x_t to be torch.float32 like the weights",
        ),
        (lambda: cell(spoiled(NAN, 2, 3)), ValueError, "x_t to be finite, given 1 .*of 6"),
        (lambda: cell(ones(2, 3), h), TypeError, r"state to be a pair \(h, m\), given Tensor"),
        (lambda: cell(ones(2, 3), (h,)), TypeError, r"state to be a pair \(h, m\), given tuple"),
        (lambda: cell(ones(2, 3), (m, m)), ValueError, r"state h .*\(2, 5\), given \(2, 4\)"),
        (lambda: cell(ones(2, 3), (h, h)), ValueError, r"state m .*\(2, 4\), given \(2, 5\)"),
        (lambda: cell(ones(2, 3), (h.double(), m)), TypeError, "state h to be torch.float32"),
        (lambda: cell(ones(2, 3), (h, m.double())), TypeError, "state m to be torch.float32"),
        (lambda: cell(ones(2, 3), (h, m.to("meta"))), ValueError, "state m to be on cpu"),
        (lambda: cell.unroll(ones(2, 3)), ValueError, r"x .*\(batch, time, 3\), given \(2, 3\)"),
        (
            lambda: cell.unroll(ones(2, 0, 3)),
            ValueError,
            r"given \(2, 0, 3\) \(no axis may be empty",
        ),
        (lambda: cell.unroll(spoiled(INF, 2, 9, 3)), ValueError, "x to be finite, given 1 .*of 54"),
        (lambda: cell.unroll(x, (h * NAN, m)), ValueError, "state h to be finite, given 10"),
        (lambda: cell.unroll(x, (h, m * NAN)), ValueError, "state m to be finite, given 8"),
    ]
)


test_under_autocast_the_parallel_model_still_refuses = each_raises(
    [
        (lambda: model(x.long()), TypeError, "x to be torch.float32 .*given torch.int64"),
        (lambda: model(x.to("meta")), ValueError, "x to be on cpu like the weights, .* on meta"),
    ],
    under=torch.autocast("cpu", torch.bfloat16),
)


def test_nan_passes_through_where_value_checks_are_off():
    with value_checks(False):
        states = memory(spoiled(NAN, 1, 9, 1), "recurrent")
        assert cell.unroll(spoiled(NAN, 1, 9, 3))[:, -1].isnan().all()
    assert states[:, -1].isnan().all()
    assert states[:, :-1].isfinite().all()
    with pytest.raises(ValueError, match="u to be finite"):
        memory(spoiled(NAN, 1, 9, 1))
