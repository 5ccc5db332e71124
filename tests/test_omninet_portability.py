"""OmniNet in every dtype, place and form of running that torch knows."""

import pytest
import torch
from plain_attention import end_mask
from plain_omninet import HEADS, HIDDEN, METAS, kind, pictures, texts, translator
from portability import Portability, compiled

from archbook.omninet import OmniNet, OmniNetLM, Transformer

SEQ = 7
FULL = {"dropout": 0.0}


def omni(**options) -> OmniNet:
    return OmniNet(2, HIDDEN, HEADS, partition=2, **options, **FULL)


def lm(meta: str) -> OmniNetLM:
    sizes = {"hidden": HIDDEN, "heads": HEADS, "partition": 2}
    return OmniNetLM(9, SEQ, 2, **sizes, meta=METAS[meta], **FULL)


MODELS = {
    **{f"OmniNet-{meta}": lambda meta=meta: omni(**kind(meta)) for meta in METAS},
    **{f"LM-{meta}": lambda meta=meta: lm(meta) for meta in METAS if meta != "linformer"},
    "learned": lambda: omni(pool="learned", depth_vectors=True),
    "top": lambda: omni(query="top", causal=True),
    "Transformer": lambda: Transformer(2, HIDDEN, HEADS, **FULL),
    "texts": lambda: texts(9, SEQ, "token"),
    "images": lambda: pictures((2, 4, 4)),
    "Translator": lambda: translator(9, 9, SEQ),
}


class TestPortability(Portability):
    models = MODELS
    only = {
        Portability.test_every_model_compiles_to_one_graph_with_the_same_gradients: [
            *((name, "") for name in MODELS if "relu" not in name),
            ("OmniNet-full", "all tokens"),
        ]
    }
    dtype_under_autocast = None  # a stack keeps its inputs' dtype, a head gives bfloat16
    near_on_cuda = (1e-9, 1e-9)

    def inputs(self, name, form=""):
        mask = None if form else end_mask([SEQ, SEQ - 3], SEQ)
        tokens = torch.randint(9, (2, SEQ))
        if name == "images":
            return {"inputs": torch.randn(2, 2, 4, 4)}
        if name == "Translator":
            return {"source": tokens, "target": tokens.flip(1), "mask": mask}
        if name == "texts":
            return {"inputs": tokens, "mask": mask}
        if name.startswith("LM"):
            return {"tokens": tokens, "mask": mask}
        return {"x": torch.randn(2, SEQ, HIDDEN), "mask": mask}


@pytest.mark.parametrize("name", [n for n in MODELS if n.startswith("LM")])
def test_steps_run_on_the_meta_device(name):
    with torch.device("meta"):
        model = MODELS[name]()
        tokens = torch.zeros(2, 5, dtype=torch.int64)
        state = model.step(tokens[:, 0], model.prefill(tokens))
    assert state.logits.is_meta
    assert state.logits.shape == (2, 9)


@pytest.mark.compile
@pytest.mark.parametrize("name", ["LM-full", "LM-performer", "LM-bigbird"])
def test_prefill_and_step_compile(name):
    model, tokens = MODELS[name](), torch.randint(9, (2, SEQ))
    with torch.no_grad():
        state = compiled(model.prefill)(tokens[:, :4])
        found = compiled(model.step)(tokens[:, 4], state)
        wanted = model.step(tokens[:, 4], model.prefill(tokens[:, :4]))
    torch.testing.assert_close(found.logits, wanted.logits)
