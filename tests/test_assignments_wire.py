"""Values that travel between the grader and a submission, and messages that mean nothing."""

import numpy as np
import pytest
import torch
from tools.assignments.wire import HEAD, decode, encode

VALUES = [
    None,
    True,
    3,
    2.5,
    float("inf"),
    "text",
    1 + 2j,
    [1, (2, "a"), {"k": [None]}],
    {1: "number as key", "b": torch.float32},
]


def there_and_back(value):
    data = encode(value, id)
    size, _ = HEAD.unpack(data[: HEAD.size])
    text, body = data[HEAD.size : HEAD.size + size], data[HEAD.size + size :]
    return decode(text, body, lambda number, kind: (number, kind))


@pytest.mark.parametrize("value", VALUES, ids=str)
def test_plain_values_come_back_as_they_were(value):
    found = there_and_back(value)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.bool, torch.complex64])
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)])
def test_tensors_come_back_as_they_were(dtype, shape):
    value = torch.randn(shape).to(dtype)
    found, _, other = there_and_back([value, 1, value.movedim(0, -1) if shape else value])
    assert found.dtype == dtype
    assert torch.equal(found, value)
    assert torch.equal(other.movedim(-1, 0) if shape else other, value)


def test_arrays_come_back_as_they_were():
    value = np.arange(6, dtype=np.int32).reshape(2, 3).T
    np.testing.assert_array_equal(there_and_back(value), value)


def test_what_is_no_plain_value_stays_and_its_number_travels():
    value = object()
    assert there_and_back([value]) == [(id(value), "object")]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b'["eval", "1 + 1"]',
        b'["tensor", "load", [1], 1]',
        b'["tensor", "float32", [10], 4]',
        b'["array", "O", [1], 8]',
        b"[" * 100_000,
    ],
)
def test_a_message_that_means_nothing_is_refused(text: bytes):
    with pytest.raises((ValueError, TypeError, RuntimeError, RecursionError)):
        decode(text, b"12345678", lambda number, kind: None)
