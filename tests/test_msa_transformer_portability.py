"""The MSA Transformer in every dtype, place and form of running that torch knows.

What turns red when the code is broken (each was tried on a copy):
- a tensor made on the CPU, values read on the meta device:
  test_a_model_built_on_the_meta_device_runs_there_and_can_be_brought_back
- values read while compiling: test_every_model_compiles_to_one_graph_with_the_same_gradients
- a scale that stays float32: test_a_bfloat16_model_stays_near_the_float32_one
- the skip added in place: test_an_input_is_never_modified_and_two_runs_are_equal_to_the_bit
"""

import copy
import io

import pytest
import torch
from safetensors.torch import load, save
from slow_msa_transformer import SILENT, alignment, block_mask, padded
from torch import Tensor, nn

from archbook.msa_transformer import (
    AxialBlock,
    ColumnAttention,
    ContactHead,
    MSAOutput,
    MSATransformer,
    TiedRowAttention,
    diversity_subsample,
    mask_tokens,
)

NET = {"layers": 2, "hidden": 12, "heads": 3, "ffn": 20, "max_rows": 8, "max_columns": 9, **SILENT}
MODELS = {
    "TiedRowAttention": lambda: TiedRowAttention(12, 3),
    "TiedRowAttention-mean": lambda: TiedRowAttention(12, 3, tie="mean"),
    "TiedRowAttention-none": lambda: TiedRowAttention(12, 3, tie="none"),
    "ColumnAttention": lambda: ColumnAttention(12, 3),
    "AxialBlock": lambda: AxialBlock(12, 3, 20),
    "ContactHead": lambda: ContactHead(6),
    "MSATransformer": lambda: MSATransformer(**NET),
    "MSATransformer-query": lambda: MSATransformer(**NET, row_positions="query"),
    "MSATransformer-none": lambda: MSATransformer(**NET, row_positions="none", tie="none"),
}
every_model = pytest.mark.parametrize("name", MODELS)
every_form = pytest.mark.parametrize("form", ["whole", "ragged", "maps", "ragged maps", "chunks"])
SIZES = (4, 6)  # rows and columns


def build(name: str) -> nn.Module:
    """The model with weights that hide no path."""
    torch.manual_seed(0)
    model = MODELS[name]()
    for part in model.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
    return model


def inputs(name: str, form: str = "ragged maps", sizes: tuple[int, int] = SIZES) -> dict:
    """Two examples; where ragged, the second has two rows and columns less."""
    rows, columns = sizes
    generator = torch.Generator().manual_seed(1)
    ragged = form.startswith("ragged")
    small = (rows - 2, columns - 2)
    if name == "ContactHead":
        maps = torch.randn(2, 2, 3, columns, columns, generator=generator).softmax(-1)
        real = torch.arange(columns) < torch.tensor([columns, small[1]])[:, None]
        return {"attentions": maps, **({"columns": real} if ragged else {})}
    given: dict = {"chunk": 7} if form == "chunks" else {}
    if name.startswith("MSA"):
        examples = [alignment(1, rows, columns)[0], alignment(1, *small)[0]]
        given["tokens"] = padded(examples) if ragged else alignment(2, rows, columns)
        if "maps" in form:
            given |= {"need_attention": True, "return_contacts": True}
        return given
    given["x"] = torch.randn(2, rows, columns, 12, generator=generator)
    if ragged:
        given["mask"] = block_mask([sizes, small], rows, columns)
    if "maps" in form:
        given["need_attention" if name == "AxialBlock" else "need_weights"] = True
    return given


def to(given: dict, where) -> dict:
    """Tensors to a device, or the floating ones to a dtype."""

    def moved(value):
        if not isinstance(value, Tensor):
            return value
        floating = value.is_floating_point()
        return value.to(where) if floating or not isinstance(where, torch.dtype) else value

    return {key: moved(value) for key, value in given.items()}


def run(model: nn.Module, given: dict) -> tuple[Tensor, ...]:
    out = model(**given)
    if isinstance(out, MSAOutput):
        out = (out.logits, out.contacts, out.row_attentions, out.column_attentions)
    out = out if isinstance(out, tuple) else (out,)
    return tuple(part for part in out if part is not None)


def same(found, wanted) -> bool:
    return all(torch.equal(f, w) for f, w in zip(found, wanted, strict=True))


def gradients(model: nn.Module, outputs) -> tuple[Tensor, ...]:
    """Of all parameters; zero where what was asked for does not depend on one."""
    total = sum(out.float().square().sum() for out in outputs)
    weights = list(model.parameters())
    grads = torch.autograd.grad(total, weights, allow_unused=True)
    return tuple(
        torch.zeros_like(w) if g is None else g for w, g in zip(weights, grads, strict=True)
    )


# ---- dtypes ----


@every_form
@every_model
def test_float64_in_gives_float64_out_near_float32(name, form):
    model, given = build(name), inputs(name, form)
    wanted = run(model, given)
    found = run(model.double(), to(given, torch.float64))
    assert all(out.dtype == torch.float64 for out in found)
    torch.testing.assert_close([f.float() for f in found], list(wanted), atol=1e-4, rtol=1e-4)


@every_model
def test_the_default_dtype_is_followed(name):
    torch.set_default_dtype(torch.float64)
    try:
        model = build(name)
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(out.dtype == torch.float64 for out in run(model, to(inputs(name), torch.float64)))


@every_form
@every_model
def test_a_bfloat16_model_stays_near_the_float32_one(name, form):
    model, given = build(name), to(inputs(name, form), torch.bfloat16)
    wanted = run(model, to(given, torch.float32))
    found = run(model.bfloat16(), given)
    assert all(out.dtype == torch.bfloat16 for out in found)
    torch.testing.assert_close([f.float() for f in found], list(wanted), atol=0.1, rtol=0.1)


@every_form
@every_model
def test_under_autocast_a_model_stays_near_the_float32_one_and_trains(name, form):
    model, given = build(name), inputs(name, form)
    wanted = run(model, given)
    with torch.autocast("cpu", torch.bfloat16):
        found = run(model, given)
        grads = gradients(model, found)
    torch.testing.assert_close([f.float() for f in found], list(wanted), atol=0.1, rtol=0.1)
    assert all(grad.isfinite().all() for grad in grads)


# ---- storage ----


@every_model
def test_safetensors_restore_the_outputs_to_the_bit(name):
    model, other, given = build(name), build(name), inputs(name)
    for weight in other.parameters():
        nn.init.normal_(weight)
    other.load_state_dict(load(save(model.state_dict())), strict=True)
    assert same(run(other, given), run(model, given))


@every_model
def test_a_state_dict_restores_the_outputs_to_the_bit(name):
    model, other, given = build(name), build(name), inputs(name)
    for weight in other.parameters():
        nn.init.normal_(weight)
    stored = io.BytesIO()
    torch.save(model.state_dict(), stored)
    stored.seek(0)
    other.load_state_dict(torch.load(stored, weights_only=True), strict=True)
    assert same(run(other, given), run(model, given))


@every_model
def test_a_deep_copy_gives_the_same_and_shares_nothing(name):
    model, given = build(name), inputs(name)
    wanted = run(model, given)
    twin = copy.deepcopy(model)
    for tensor in model.parameters():
        tensor.data.zero_()
    assert same(run(twin, given), wanted)


# ---- places ----


@every_form
@every_model
def test_a_model_built_on_the_meta_device_runs_there_and_can_be_brought_back(name, form):
    with torch.device("meta"):
        model = MODELS[name]()
    given = inputs(name, form)
    outputs = run(model, to(given, "meta"))
    wanted = run(build(name), given)
    assert all(out.is_meta for out in outputs)
    assert [out.shape for out in outputs] == [out.shape for out in wanted]
    model.to_empty(device="cpu").load_state_dict(build(name).state_dict())
    assert same(run(model, given), wanted)


# ---- running ----


@every_form
@every_model
def test_an_input_is_never_modified_and_two_runs_are_equal_to_the_bit(name, form):
    model, given = build(name), inputs(name, form)
    before = copy.deepcopy(given)
    assert same(run(model, given), run(model, given))
    tensors = [key for key, value in given.items() if isinstance(value, Tensor)]
    assert all(torch.equal(given[key], before[key]) for key in tensors)


@every_model
def test_a_model_first_run_in_inference_mode_can_be_trained_after(name):
    model = build(name)
    with torch.inference_mode():
        inferred = run(model, inputs(name))
    trained = run(model, inputs(name))
    torch.testing.assert_close([*trained], [*inferred])
    assert all(grad.isfinite().all() for grad in gradients(model, trained))


@every_form
@every_model
def test_strided_inputs_give_the_same_as_contiguous_ones(name, form):
    model, given = build(name), inputs(name, form)
    strided = {
        key: torch.stack([value, value], -1)[..., 0] if isinstance(value, Tensor) else value
        for key, value in given.items()
    }
    torch.testing.assert_close(run(model, strided), run(model, given))


# ---- torch.compile ----


def compiled(call, **options):
    torch.compiler.reset()
    return torch.compile(call, fullgraph=True, **{"backend": "eager", **options})


COMPILED = [(name, "ragged maps") for name in MODELS if name != "MSATransformer-query"]
COMPILED += [(name, "whole") for name in MODELS if not name.startswith("MSA")]
COMPILED += [("AxialBlock", "chunks"), ("MSATransformer-query", "ragged")]


@pytest.mark.parametrize(("name", "form"), COMPILED)
def test_every_model_compiles_to_one_graph_with_the_same_gradients(name, form):
    model, given = build(name), inputs(name, form)
    if name.startswith("MSA"):
        del model.blocks[1]
        model.contact_head = ContactHead(3)
    wanted, found = run(model, given), run(compiled(model), given)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(gradients(model, found), gradients(model, wanted))


def test_a_compiled_network_takes_alignments_of_other_sizes_in_one_graph():
    model, graphs = MSATransformer(**{**NET, "layers": 1}), []

    def count(graph, _):
        graphs.append(graph)
        return graph.forward

    fast = compiled(model, backend=count, dynamic=True)
    for sizes in (SIZES, (6, 8), (3, 5), (8, 9)):
        given = inputs("MSATransformer", "ragged maps", sizes)
        torch.testing.assert_close(run(fast, given), run(model, given))
    assert len(graphs) == 1


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # raised inside
def test_a_block_compiles_ahead_of_time():
    model, given = build("AxialBlock"), inputs("AxialBlock", "ragged")
    found = run(compiled(model, backend="aot_eager"), given)
    wanted = run(model, given)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(gradients(model, found), gradients(model, wanted))


# ---- CUDA ----


@pytest.mark.gpu
@every_form
@every_model
def test_on_cuda_a_model_gives_the_outputs_and_gradients_of_the_cpu(name, form):
    model, given = build(name).double(), to(inputs(name, form), torch.float64)
    other = copy.deepcopy(model).cuda()
    wanted, found = run(model, given), run(other, to(given, "cuda"))
    if name.startswith("MSA"):  # logits and maps at padding mean nothing, and are the same still
        assert all(out.isfinite().all() for out in found)
    torch.testing.assert_close([f.cpu() for f in found], list(wanted), atol=1e-9, rtol=1e-9)
    grads = [grad.cpu() for grad in gradients(other, found)]
    torch.testing.assert_close(grads, [*gradients(model, wanted)], atol=1e-6, rtol=1e-6)


@pytest.mark.gpu
@every_form
def test_on_cuda_the_network_trains_in_bfloat16_without_waiting_for_values(form):
    from archbook.checks import value_checks

    model, given = build("MSATransformer").cuda(), to(inputs("MSATransformer", form), "cuda")
    wanted = run(model, given)
    if "tokens" in given and "mask" not in given:
        given["mask"] = given["tokens"] != 1
    torch.cuda.set_sync_debug_mode("error")
    try:
        with value_checks(False), torch.autocast("cuda", torch.bfloat16):
            found = run(model, given)
            grads = gradients(model, found)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close([f.float() for f in found], [*wanted], atol=0.15, rtol=0.15)
    assert all(grad.isfinite().all() for grad in grads)


@pytest.mark.gpu
def test_masking_and_choosing_rows_run_on_the_gpu():
    tokens = alignment(1, 9, 20)[0]
    generator = torch.Generator("cuda").manual_seed(0)
    changed, chosen = mask_tokens(tokens.cuda(), generator)
    assert changed.is_cuda
    assert not chosen[:, 0].any()
    rows = diversity_subsample(tokens.cuda(), 4)
    assert torch.equal(rows.cpu(), diversity_subsample(tokens, 4))
