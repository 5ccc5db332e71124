"""The MSA Transformer in every dtype, place and form of running that torch knows."""

import pytest
import torch
from plain_msa_transformer import SILENT, alignment, block_mask
from portability import Portability, compiled, run, to
from torch.nn.functional import layer_norm

from archbook.checks import value_checks
from archbook.msa_transformer import (
    AxialBlock,
    ColumnAttention,
    ContactHead,
    MSATransformer,
    TiedRowAttention,
    diversity_subsample,
    mask_tokens,
    pad_alignments,
)

NET = {"layers": 2, "hidden": 12, "heads": 3, "ffn": 20, "max_rows": 8, "max_columns": 9, **SILENT}


def fitted(model):
    """As if its contact head had been fitted: else it refuses."""
    head = model if isinstance(model, ContactHead) else model.contact_head
    torch.nn.init.normal_(head.regression.weight)
    return model


MODELS = {
    "TiedRowAttention": lambda: TiedRowAttention(12, 3),
    "TiedRowAttention-mean": lambda: TiedRowAttention(12, 3, tie="mean"),
    "TiedRowAttention-none": lambda: TiedRowAttention(12, 3, tie="none"),
    "ColumnAttention": lambda: ColumnAttention(12, 3),
    "AxialBlock": lambda: AxialBlock(12, 3, 20),
    "ContactHead": lambda: fitted(ContactHead(6)),
    "MSATransformer": lambda: fitted(MSATransformer(**NET)),
    "MSATransformer-query": lambda: fitted(MSATransformer(**NET, row_positions="query")),
    "MSATransformer-none": lambda: fitted(
        MSATransformer(**NET, row_positions="none", tie="none", neighbours=1)
    ),
}
FORMS = ("ragged maps", "ragged", "whole", "maps", "chunks")
SIZES = (4, 6)  # rows and columns


class TestPortability(Portability):
    models = MODELS
    cases = [(name, form) for name in MODELS for form in FORMS]
    only = {
        Portability.test_every_model_compiles_to_one_graph_with_the_same_gradients: [
            *((name, "ragged maps") for name in MODELS if name != "MSATransformer-query"),
            *((name, "whole") for name in MODELS if not name.startswith("MSA")),
            ("AxialBlock", "chunks"),
            ("MSATransformer-query", "ragged"),
        ]
    }
    dtype_under_autocast = None  # a block adds to what came in, which is float32
    unused_parameters = True  # those of the contact head, where no contacts are asked for
    not_called = dict.fromkeys(MODELS, ("contact_head",))  # where no contacts are asked for
    near_on_cuda = (1e-9, 1e-6)

    def inputs(self, name, form="ragged maps", sizes=SIZES):
        """Two examples; where ragged, the second has two rows and columns less."""
        rows, columns = sizes
        ragged = form.startswith("ragged")
        small = (rows - 2, columns - 2)
        if name == "ContactHead":
            maps = torch.randn(2, 2, 3, columns, columns).softmax(-1)
            real = torch.arange(columns) < torch.tensor([columns, small[1]])[:, None]
            return {"attentions": maps, **({"columns": real} if ragged else {})}
        given: dict = {"chunk": 7} if form == "chunks" else {}
        if name.startswith("MSA"):
            examples = [alignment(1, rows, columns)[0], alignment(1, *small)[0]]
            given["tokens"] = pad_alignments(examples) if ragged else alignment(2, rows, columns)
            if "maps" in form:
                given |= {"need_attention": True, "return_contacts": True}
            return given
        given["x"] = torch.randn(2, rows, columns, 12)
        if ragged:
            given["mask"] = block_mask([sizes, small], rows, columns)
        if "maps" in form:
            given["need_attention" if name == "AxialBlock" else "need_weights"] = True
        return given

    def to_compile(self, name, form):
        model = self.build(name)
        if name.startswith("MSA"):
            del model.blocks[1]
            model.contact_head = fitted(ContactHead(3))
        return model, self.inputs(name, form)

    @pytest.mark.compile
    def test_a_compiled_network_takes_alignments_of_other_sizes_in_one_graph(self):
        model, graphs = fitted(MSATransformer(**{**NET, "layers": 1})), []

        def count(graph, _):
            graphs.append(graph)
            return graph.forward

        fast = compiled(model, backend=count, dynamic=True)
        for sizes in (SIZES, (6, 8), (3, 5), (7, 8)):  # torch 2.6: a whole table is another graph
            given = self.inputs("MSATransformer", "ragged maps", sizes)
            torch.testing.assert_close(run(fast, given), run(model, given))
        assert len(graphs) == 1

    @pytest.mark.compile
    @pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # raised inside
    def test_a_block_compiles_ahead_of_time(self):
        model, given = self.build("AxialBlock"), self.inputs("AxialBlock", "ragged")
        found = run(compiled(model, backend="aot_eager"), given)
        wanted = run(model, given)
        torch.testing.assert_close(found, wanted)
        found, wanted = (self.gradients(outputs, model, given) for outputs in (found, wanted))
        torch.testing.assert_close(found, wanted)

    @pytest.mark.gpu
    @pytest.mark.parametrize("kind", FORMS)
    def test_on_cuda_the_network_trains_in_bfloat16_without_waiting_for_values(self, kind):
        model = self.build("MSATransformer").cuda()
        given = to(self.inputs("MSATransformer", kind), "cuda")
        wanted = run(model, given)
        if "tokens" in given and "mask" not in given:
            given["mask"] = given["tokens"] != 1
        torch.cuda.set_sync_debug_mode("error")
        try:
            with value_checks(False), torch.autocast("cuda", torch.bfloat16):
                found = run(model, given)
                grads = self.gradients(found, model, given)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        torch.testing.assert_close([f.float() for f in found], [*wanted], atol=0.15, rtol=0.15)
        assert all(grad.isfinite().all() for grad in grads)


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_torch_s_hessian_loses_what_a_layer_norm_s_weight_shares_with_its_input():
    """Torch's fault, which the docstring of AxialBlock names: it can go when this is red."""
    x, way, weight, along = torch.randn(4, 3, dtype=torch.float64)

    def loss(steps):
        normed = layer_norm(x + steps[0] * way, (3,), weight + steps[1] * along)
        return normed.pow(4).sum()

    here = torch.zeros(2, dtype=torch.float64)
    wanted = torch.autograd.functional.hessian(loss, here)
    torch.testing.assert_close(torch.func.jacfwd(torch.func.grad(loss))(here), wanted)
    assert (torch.func.hessian(loss)(here) - wanted).abs().max() > 0.1 * wanted.abs().max()


@pytest.mark.gpu
def test_masking_and_choosing_rows_run_on_the_gpu():
    tokens = alignment(1, 9, 20)[0]
    generator = torch.Generator("cuda").manual_seed(0)
    changed, chosen = mask_tokens(tokens.cuda(), generator)
    assert changed.is_cuda
    assert not chosen[:, 0].any()
    rows = diversity_subsample(tokens.cuda(), 4)
    assert torch.equal(rows.cpu(), diversity_subsample(tokens, 4))
