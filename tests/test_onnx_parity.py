"""ONNX: every public model, exported and run by onnxruntime, answers as torch does.

It runs in an environment of its own: `make parity`. Outputs are compared relative to their largest
entry; measured with torch 2.13 and onnxruntime 1.32: below 1e-6 for all. One form has no ONNX: the
LMU's FFT, since ONNX knows no complex numbers beside its own transforms; so memories run in chunks.
"""

import inspect
import io
from typing import Any

import pytest
import torch
from test_shaped import MODELS, built
from torch import Tensor

pytestmark = [pytest.mark.parity, pytest.mark.compile, pytest.mark.filterwarnings("ignore")]

IN_CHUNKS = {"mode": "chunked"}
WITHOUT_FFT = {"LMU": IN_CHUNKS, "LegendreMemory": IN_CHUNKS, "LinearMemory": IN_CHUNKS}
# A decoder alone reads a NamedTuple of keys and values; in an EncoderDecoder it exports.
NAMES = [name for name in MODELS if name != "Decoder"]


@pytest.fixture(scope="module")
def onnxruntime():
    pytest.importorskip("onnxscript", reason="onnxscript is not installed: see `make parity`")
    return pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")


def exported(model: torch.nn.Module, inputs: tuple, more: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    program = torch.onnx.export(model, inputs, kwargs=more, dynamo=True, verbose=False)
    assert program is not None
    program.save(file)
    return file.getvalue()


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_onnxruntime_answers_as_torch_does(name: str, onnxruntime):
    *_, inputs, more = MODELS[name]
    model, more = built(name), more | WITHOUT_FFT.get(name, {})
    wanted = model(*inputs, **more)
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    file = exported(model, inputs, more)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    given = inspect.signature(model.forward).bind(*inputs, **more).arguments
    found = session.run(None, {one.name: given[one.name].numpy() for one in session.get_inputs()})
    tensors = [one for one in wanted if isinstance(one, Tensor)]
    assert len(found) == len(tensors)
    for one, other in zip(found, tensors, strict=True):
        assert (torch.as_tensor(one) - other).abs().max() <= 1e-5 * other.abs().max()


def test_an_fft_has_no_onnx(onnxruntime):
    *_, inputs, _ = MODELS["LegendreMemory"]
    with pytest.raises(Exception, match="complex|ONNX"):
        exported(built("LegendreMemory"), inputs, {"mode": "fft"})
