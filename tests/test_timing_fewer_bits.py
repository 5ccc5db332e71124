"""What a card makes of a forward pass in fewer bits."""

import pytest
import torch

from archbook.timing import precision_tables, precisions
from archbook.timing.fewer_bits import launches


@pytest.mark.slow
def test_fewer_bits_are_timed_and_their_errors_told():
    torch.manual_seed(0)
    x, weight = torch.randn(64, 64), torch.randn(64, 64)
    before = torch.get_float32_matmul_precision()
    found = precisions(lambda: (x @ weight,), 0.01, device="cpu")
    assert list(found) == ["float32", "TF32", "bfloat16"]
    assert found["float32"]["error"] == 0
    assert 1e-4 < found["bfloat16"]["error"] < 2e-2
    assert torch.get_float32_matmul_precision() == before


def test_the_table_of_fewer_bits_is_of_a_card_alone():
    def passes():
        raise AssertionError("a CPU needs no work")
        yield

    assert precision_tables("a CPU has none", passes(), 0.01, device="cpu") == []


@pytest.mark.gpu
def test_the_table_of_fewer_bits_has_a_row_for_each_pass():
    x = torch.randn(64, 64, device="cuda")
    passes = (({"rows": rows}, lambda rows=rows: (x[:rows] @ x,)) for rows in (32, 64))
    (table,) = precision_tables("a card", passes, 0.01, device="cuda")
    assert [row["size"] for row in table["rows"]] == [{"rows": 32}, {"rows": 64}]
    assert table["baseline"] == "float32"


@pytest.mark.gpu
def test_launches_are_those_of_the_work_alone():
    x = torch.ones(1000, device="cuda")
    number, kernels = launches(lambda: x.add_(1).mul_(2).exp_())
    assert number == 3
    assert len(kernels) == 3
