"""What the memory and its networks refuse, with the wanted and the given named."""

import pytest
import torch
from refusals import INF, NAN, each_raises, spoiled

from archbook.checks import value_checks
from archbook.lmu import LMU, LegendreMemory, LinearMemory, LMUCell

memory = LegendreMemory(4, 12.0)  # float32
model = LMU(3, 5, 2, 4, 12.0)
cell = LMUCell(3, 5, 4, 12.0)
ones, eye = torch.ones, torch.eye
h, m = ones(2, 5), ones(2, 4)


test_no_module_is_built_from = each_raises(
    [
        (lambda: LegendreMemory(0, 4.0), ValueError, "order must be at least 1, got 0"),
        (lambda: LegendreMemory(True, 4.0), TypeError, "order must be an int, got True"),
        (lambda: LegendreMemory(4, -1.0), ValueError, "theta must be positive .*got -1.0"),
        (lambda: LegendreMemory(4, 8.0, "foh"), ValueError, "'zoh', 'euler', got 'foh'"),
        (lambda: LinearMemory(eye(3), 1.0), TypeError, "B_bar must be a tensor, got float"),
        (lambda: LinearMemory(eye(3), eye(3)), ValueError, r"B_bar must have shape \(order\)"),
        (lambda: LinearMemory(eye(3), ones(2)), ValueError, r"shape \(2, 2\), got \(3, 3\)"),
        (lambda: LinearMemory(eye(2) + 0j, ones(2)), TypeError, "real, got torch.complex64"),
        (lambda: LinearMemory(eye(2) * NAN, ones(2)), ValueError, "A_bar must be finite, got 4"),
        (lambda: LinearMemory(eye(2), ones(2) * INF), ValueError, "B_bar must be finite, got 2"),
        (lambda: LMU(0, 5, 2, 4, 12.0), ValueError, "input_size must be at least 1, got 0"),
        (lambda: LMU(3, 5.0, 2, 4, 12.0), TypeError, "hidden_size must be an int, got 5.0"),
        (lambda: LMU(3, 5, -2, 4, 12.0), ValueError, "memory_size must be at least 1, got -2"),
        (lambda: LMU(3, 5, 2, 0, 12.0), ValueError, "order must be at least 1, got 0"),
        (lambda: LMU(3, 5, 2, 4, NAN), ValueError, "theta must be positive .*got nan"),
        (lambda: LMUCell(0, 5, 4, 12.0), ValueError, "input_size must be at least 1, got 0"),
        (lambda: LMUCell(3, True, 4, 12.0), TypeError, "hidden_size must be an int, got True"),
        (lambda: LMUCell(3, 5, -4, 12.0), ValueError, "order must be at least 1, got -4"),
        (lambda: LMUCell(3, 5, 4.5, 12.0), TypeError, "order must be an int, got 4.5"),
    ]
)


def test_a_window_under_two_steps_warns():
    with pytest.warns(UserWarning, match="theta is 0.5: .*in steps, not in seconds"):
        LMU(1, 2, 1, 3, 0.5)


bad_signals = [
    ([[[1.0]]], TypeError, "u must be a tensor, got list"),
    (ones(9, 1), ValueError, r"u must have shape \(batch, time, channels\), got \(9, 1\)"),
    (ones(2, 0, 1), ValueError, r"got \(2, 0, 1\) \(no axis may be empty\)"),
    (ones(0, 9, 1), ValueError, r"got \(0, 9, 1\) \(no axis may be empty\)"),
    (ones(2, 9, 0), ValueError, r"got \(2, 9, 0\) \(no axis may be empty\)"),
    (ones(2, 9, 1).double(), TypeError, "u must be torch.float32 like the memory, got .*float64"),
    (ones(2, 9, 1).long(), TypeError, "u must be torch.float32 like the memory, got torch.int64"),
    (ones(2, 9, 1, device="meta"), ValueError, "u must be on cpu like the memory, .* on meta"),
    (spoiled(NAN, 2, 9, 1), ValueError, "u must be finite, got 1 NaN or infinite of 18"),
    (spoiled(-INF, 2, 9, 1), ValueError, "u must be finite, got 1 NaN or infinite of 18"),
]
bad_states = [
    (ones(2, 4), ValueError, r"state must have shape \(2, 1, 4\), got \(2, 4\)"),
    (ones(2, 1, 5), ValueError, r"state must have shape \(2, 1, 4\), got \(2, 1, 5\)"),
    (ones(3, 1, 4), ValueError, r"state must have shape \(2, 1, 4\), got \(3, 1, 4\)"),
    (ones(2, 1, 4).double(), TypeError, "state must be torch.float32 like the memory, got .*64"),
    (ones(2, 1, 4, device="meta"), ValueError, "state must be on cpu like the memory, .* on meta"),
    (spoiled(NAN, 2, 1, 4), ValueError, "state must be finite, got 1 NaN or infinite of 8"),
    ((1, 2), TypeError, "state must be a tensor, got tuple"),
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
        (lambda: memory(ones(2, 9, 1), "fast"), ValueError, "'fft', 'chunked', got 'fast'"),
        (lambda: memory(ones(2, 9, 1), None), ValueError, "mode must be one of .*got None"),
        (lambda: memory.step(ones(2)), ValueError, r"u must have shape \(batch, channels\)"),
        (lambda: memory.step(ones(2, 1), m), ValueError, r"state .* \(2, 1, 4\), got \(2, 4\)"),
        (lambda: memory.step(spoiled(NAN, 2, 1)), ValueError, "u must be finite, got 1"),
        (
            lambda: LegendreMemory(4, 12.0).double()(ones(2, 9, 1)),
            TypeError,
            "torch.float64 like the memory, got",
        ),
        (
            lambda: LegendreMemory(4, 12.0).double()(ones(2, 9, 1).half()),
            TypeError,
            "like the memory, got .*16",
        ),
    ]
)

x, good_mask = ones(2, 9, 3), ones(2, 9).bool()


test_the_parallel_model_refuses = each_raises(
    [
        (lambda: model(ones(9, 3)), ValueError, r"x must have shape \(batch, time, 3\), got \(9"),
        (lambda: model(ones(2, 9, 4)), ValueError, r"\(batch, time, 3\), got \(2, 9, 4\)"),
        (lambda: model(ones(2, 0, 3)), ValueError, r"got \(2, 0, 3\) \(no axis may be empty"),
        (
            lambda: model(x.double()),
            TypeError,
            "x must be torch.float32 like the weights, got .*64",
        ),
        (lambda: model(x.to("meta")), ValueError, "x must be on cpu like the weights, .* on meta"),
        (lambda: model(spoiled(NAN, 2, 9, 3)), ValueError, "x must be finite, got 1"),
        (lambda: model(spoiled(INF, 2, 9, 3)), ValueError, "x must be finite, got 1"),
        (lambda: model(spoiled(-INF, 2, 9, 3)), ValueError, "x must be finite, got 1"),
        (lambda: model(x, ones(2, 1, 4)), ValueError, r"state .*\(2, 2, 4\), got \(2, 1, 4\)"),
        (lambda: model(x, mode="fast"), ValueError, "mode must be one of .*got 'fast'"),
        (lambda: model(x, mask=good_mask[:, :8]), ValueError, r"mask .*\(2, 9\), got \(2, 8\)"),
        (lambda: model(x, mask=ones(2, 9)), TypeError, "mask must be torch.bool .*got .*float32"),
        (
            lambda: model(x, mask=good_mask.to("meta")),
            ValueError,
            "mask must be on cpu, .* on meta",
        ),
        (lambda: model(x, mask=[[True]]), TypeError, "mask must be a tensor, got list"),
        (lambda: model.step(ones(2, 4)), ValueError, r"x_t .*\(batch, 3\), got \(2, 4\)"),
        (lambda: model.step(spoiled(NAN, 2, 3)), ValueError, "x_t must be finite, got 1"),
        (lambda: model.step(ones(2, 3), m), ValueError, r"state .*\(2, 2, 4\), got \(2, 4\)"),
        (lambda: model.final_state(ones(2, 9)), ValueError, r"x must have shape .*got \(2, 9\)"),
    ]
)


test_the_cell_refuses = each_raises(
    [
        (lambda: cell(ones(2, 4)), ValueError, r"x_t must have shape \(batch, 3\), got \(2, 4\)"),
        (
            lambda: cell(ones(2, 3).double()),
            TypeError,
            "x_t must be torch.float32 like the weights",
        ),
        (lambda: cell(spoiled(NAN, 2, 3)), ValueError, "x_t must be finite, got 1 .*of 6"),
        (lambda: cell(ones(2, 3), h), TypeError, r"state must be a pair \(h, m\), got Tensor"),
        (lambda: cell(ones(2, 3), (h,)), TypeError, r"state must be a pair \(h, m\), got tuple"),
        (lambda: cell(ones(2, 3), (m, m)), ValueError, r"state h .*\(2, 5\), got \(2, 4\)"),
        (lambda: cell(ones(2, 3), (h, h)), ValueError, r"state m .*\(2, 4\), got \(2, 5\)"),
        (lambda: cell(ones(2, 3), (h.double(), m)), TypeError, "state h must be torch.float32"),
        (lambda: cell(ones(2, 3), (h, m.double())), TypeError, "state m must be torch.float32"),
        (lambda: cell(ones(2, 3), (h, m.to("meta"))), ValueError, "state m must be on cpu"),
        (lambda: cell.unroll(ones(2, 3)), ValueError, r"x .*\(batch, time, 3\), got \(2, 3\)"),
        (lambda: cell.unroll(ones(2, 0, 3)), ValueError, r"got \(2, 0, 3\) \(no axis may be empty"),
        (lambda: cell.unroll(spoiled(INF, 2, 9, 3)), ValueError, "x must be finite, got 1 .*of 54"),
        (lambda: cell.unroll(x, (h * NAN, m)), ValueError, "state h must be finite, got 10"),
        (lambda: cell.unroll(x, (h, m * NAN)), ValueError, "state m must be finite, got 8"),
    ]
)


test_under_autocast_the_parallel_model_still_refuses = each_raises(
    [
        (lambda: model(x.long()), TypeError, "x must be torch.float32 .*got torch.int64"),
        (lambda: model(x.to("meta")), ValueError, "x must be on cpu like the weights, .* on meta"),
    ],
    under=torch.autocast("cpu", torch.bfloat16),
)


def test_nan_passes_through_where_value_checks_are_off():
    with value_checks(False):
        states = memory(spoiled(NAN, 1, 9, 1), "recurrent")
        assert cell.unroll(spoiled(NAN, 1, 9, 3))[:, -1].isnan().all()
    assert states[:, -1].isnan().all()
    assert states[:, :-1].isfinite().all()
    with pytest.raises(ValueError, match="u must be finite"):
        memory(spoiled(NAN, 1, 9, 1))
