"""What every model must bear: each dtype, place and form of running that torch knows.

A chapter's test file names its models and says what they are called with; the tests are these:

    class TestPortability(Portability):
        models = {"EGCL": lambda: EGCL(5), "RadialField": lambda: RadialField(6, 2)}

        def inputs(self, name, form=""):
            given = {"x": torch.randn(4, 3), "edges": complete_edges([4])}
            return given | {"h": torch.randn(4, 5)} if name == "EGCL" else given

The other attributes of the class say what else may differ. What one chapter alone promises it
tests itself.
"""

import contextlib
import copy
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
import torch
import torch.distributed as dist
from parallel_work import FSDP_ON_CPU
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import prune

# They hold other modules and are never called themselves.
SHELVES = (nn.ModuleList, nn.ModuleDict, nn.ParameterList)
Given = dict[str, Any]  # what a model is called with, by the names of its arguments


def is_floating(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def to(given: Given, where: torch.dtype | str) -> Given:
    """Tensors to a device, or the floating ones to a dtype."""
    moves = is_floating if isinstance(where, torch.dtype) else torch.is_tensor
    return {key: value.to(where) if moves(value) else value for key, value in given.items()}


def as_leaves(given: Given) -> Given:
    """The same, with floating inputs that take gradients."""
    return {k: v.detach().requires_grad_() if is_floating(v) else v for k, v in given.items()}


def run(call: Callable, given: Given) -> list[Tensor]:
    """All tensors that come out, of one tensor or a tuple of them."""
    out = call(**given)
    return [part for part in (out if isinstance(out, tuple) else [out]) if part is not None]


def same(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> bool:
    return all(torch.equal(f, w) for f, w in zip(found, wanted, strict=True))


def assert_near(found: Sequence[Tensor], wanted: Sequence[Tensor], near: float) -> None:
    torch.testing.assert_close([f.float() for f in found], [*wanted], atol=near, rtol=near)


def compiled(call: Callable, **options) -> Callable:
    torch.compiler.reset()
    return torch.compile(call, fullgraph=True, **{"backend": "eager", **options})


class Adapted(nn.Module):
    """A linear layer and what was learned beside it, as adapters do it. It has no weight."""

    def __init__(self, layer: nn.Linear, seed: int):
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        self.layer, self.rank = layer, 2
        like = {"generator": draw, "dtype": layer.weight.dtype}
        self.down = nn.Parameter(torch.randn(2, layer.in_features, **like) / 5)
        self.up = nn.Parameter(torch.randn(layer.out_features, 2, **like) / 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + x @ self.down.mT @ self.up.mT


def linear_layers(model: nn.Module) -> dict[str, nn.Linear]:
    return {name: part for name, part in model.named_modules() if type(part) is nn.Linear}


def adapted(model: nn.Module) -> list[Adapted]:
    """An adapter around every linear layer of the model."""
    found = []
    for number, name in enumerate(linear_layers(model)):
        parent, _, own = name.rpartition(".")
        found.append(Adapted(model.get_submodule(name), number))
        setattr(model.get_submodule(parent), own, found[-1])
    return found


@contextlib.contextmanager
def sharded(model: nn.Module) -> Iterator[None]:
    """The model as FSDP2 shares it out, as finely as it can.

    Among one process, which is enough: no part's weights are plain tensors but while it is called.
    """
    from torch.distributed.fsdp import fully_shard

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        for part in reversed([*model.modules()]):  # the inner ones first
            # A table is the read-out's too, so it is shared out with the whole.
            tables = any(isinstance(inner, nn.Embedding) for inner in part.modules())
            if part is model or ([*part.parameters(recurse=False)] and not tables):
                fully_shard(part)
        yield
    finally:
        dist.destroy_process_group()


def every_second(x: Tensor) -> Tensor:
    """The same numbers, each followed in memory by one that is not read."""
    return torch.stack([x, x], -1)[..., 0]


def swapped(x: Tensor) -> Tensor:
    """The same numbers with two axes swapped in memory; not the batch, where there is a choice."""
    i = 1 if x.ndim > 2 else 0
    j = min(i + 1, x.ndim - 1)
    return x.transpose(i, j).contiguous().transpose(i, j)


def direction(tensors: Given, draw: torch.Generator) -> Given:
    """One way to go for each that is floating."""
    return {
        key: torch.randn(value.shape, generator=draw, dtype=value.dtype) / 10
        for key, value in tensors.items()
        if is_floating(value)
    }


def moved(tensors: Given, step: Tensor, along: Given) -> Given:
    return tensors | {key: tensors[key] + step * way for key, way in along.items()}


class Portability:
    models: Mapping[str, Callable[[], nn.Module]]
    cases: Sequence[tuple[str, str]] = ()  # (model, form) pairs; () is every model in form ""
    only: Mapping[Callable, Sequence[tuple[str, str]]] = {}  # test: the pairs that it runs for

    near_float64 = 1e-4
    near_bfloat16 = 0.05
    near_gradients: float | None = None  # under autocast, of the largest entry; None: finite
    dtype_under_autocast: torch.dtype | None = torch.bfloat16  # None: outputs differ in it
    layouts: Sequence[Callable[[Tensor], Tensor]] = (every_second, swapped)
    near_on_cuda = (1e-10, 1e-9)  # outputs and gradients, in float64
    not_called: Mapping[str, tuple[str, ...]] = {}  # model: its parts that a pass goes without
    not_vmapped: Sequence[str] = ()  # models whose forward has to read values
    unused_parameters = False  # whether some outputs do without some parameters

    def inputs(self, name: str, form: str = "") -> Given:
        """On the CPU in float32. A form is a way to call the model; without one, the usual way."""
        raise NotImplementedError

    def given(self, *case: str) -> Given:
        """The inputs, the same numbers each time."""
        torch.manual_seed(1)
        return self.inputs(*case)

    def build(self, name: str, seed: int = 0) -> nn.Module:
        """The model with weights that hide no path: fresh ones may be close to zero."""
        torch.manual_seed(seed)
        model = self.models[name]()
        for part in model.modules():
            if isinstance(part, nn.Linear):
                nn.init.xavier_uniform_(part.weight)
        return model

    def to_compile(self, name: str, form: str) -> tuple[nn.Module, Given]:
        """The model and its inputs; smaller ones where tracing would take long."""
        return self.build(name), self.given(name, form)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Tests that take a `form` run for every case, those that take a `name` for every model."""
        if "form" in metafunc.fixturenames:
            cases = self.cases or [(name, "") for name in self.models]
            cases = self.only.get(SAME_CASES.get(metafunc.function, metafunc.function), cases)
            ids = ["-".join(filter(None, case)) for case in cases]
            metafunc.parametrize(("name", "form"), cases, ids=ids)
        elif "name" in metafunc.fixturenames:
            metafunc.parametrize("name", self.models)

    def gradients(self, outputs, model: nn.Module, given: Given, **options) -> list[Tensor]:
        """Of the inputs that take them and of all parameters, zero where there may be none."""
        leaves = [value for value in given.values() if is_floating(value) and value.requires_grad]
        total = sum(out.double().square().sum() for out in outputs)
        options["materialize_grads"] = self.unused_parameters
        trained = [weight for weight in model.parameters() if weight.requires_grad]
        return [*torch.autograd.grad(total, [*leaves, *trained], **options)]

    # ---- dtypes ----

    def test_float64_in_gives_float64_out_near_float32(self, name, form):
        model, given = self.build(name), self.given(name, form)
        wanted = run(model, given)
        found = run(model.double(), to(given, torch.float64))
        assert all(out.dtype == torch.float64 for out in found)
        assert_near(found, wanted, self.near_float64)

    def test_the_default_dtype_is_followed(self, name):
        torch.set_default_dtype(torch.float64)
        try:
            model = self.models[name]()
        finally:
            torch.set_default_dtype(torch.float32)
        outputs = run(model, to(self.given(name), torch.float64))
        assert all(out.dtype == torch.float64 for out in outputs)

    def test_a_bfloat16_model_stays_near_the_float32_one(self, name, form):
        """With the numbers that bfloat16 can hold in both."""
        model = self.build(name).bfloat16()
        given = as_leaves(to(self.given(name, form), torch.bfloat16))
        wanted = run(copy.deepcopy(model).float(), to(given, torch.float32))
        found = run(model, given)
        assert all(out.dtype == torch.bfloat16 for out in found)
        assert_near(found, wanted, self.near_bfloat16)
        assert all(grad.isfinite().all() for grad in self.gradients(found, model, given))

    def test_under_autocast_a_model_stays_near_the_float32_one_and_trains(self, name, form):
        model, given = self.build(name), as_leaves(self.given(name, form))
        wanted = run(model, given)
        with torch.autocast("cpu", torch.bfloat16):
            found = run(model, given)
            inside = self.gradients(found, model, given, retain_graph=True)
        outside = self.gradients(found, model, given)
        if self.dtype_under_autocast:
            assert all(out.dtype == self.dtype_under_autocast for out in found)
        assert_near(found, wanted, self.near_bfloat16)
        for grads in (inside, outside):
            assert all(grad.dtype == torch.float32 and grad.isfinite().all() for grad in grads)
        if self.near_gradients is None:
            return
        for w, *grads in zip(self.gradients(wanted, model, given), inside, outside, strict=True):
            near = self.near_gradients * float(w.abs().max())
            torch.testing.assert_close(grads, [w, w], atol=near, rtol=0)

    def test_under_autocast_inputs_may_be_bfloat16_already(self, name, form):
        model, given = self.build(name), to(self.given(name, form), torch.bfloat16)
        wanted = run(model, to(given, torch.float32))
        with torch.autocast("cpu", torch.bfloat16):
            found = run(model, given)
        assert_near(found, wanted, self.near_bfloat16)

    # ---- storage ----

    def with_other_numbers(self, name: str) -> nn.Module:
        other = self.build(name, seed=1)
        for value in other.state_dict().values():
            value.add_(1)
        return other

    def test_safetensors_restore_the_outputs_to_the_bit(self, name):
        model, other = self.build(name), self.with_other_numbers(name)
        other.load_state_dict(load(save(model.state_dict())), strict=True)
        assert same(run(other, self.given(name)), run(model, self.given(name)))

    def test_a_state_dict_restores_the_outputs_to_the_bit(self, name):
        model, other, stored = self.build(name), self.with_other_numbers(name), io.BytesIO()
        torch.save(model.state_dict(), stored)
        stored.seek(0)
        other.load_state_dict(torch.load(stored, weights_only=True), strict=True)
        assert same(run(other, self.given(name)), run(model, self.given(name)))

    def test_a_deep_copy_gives_the_same_and_shares_nothing(self, name):
        model, given = self.build(name), self.given(name)
        wanted = run(model, given)
        twin = copy.deepcopy(model)
        for tensor in [*model.parameters(), *model.buffers()]:
            tensor.data.zero_()
        assert same(run(twin, given), wanted)
        assert same(run(twin.double().float(), given), wanted)

    # ---- places ----

    def test_a_model_built_on_the_meta_device_runs_there_and_can_be_brought_back(self, name, form):
        real, given = self.build(name), self.given(name, form)
        with torch.device("meta"):
            model = self.models[name]().train(real.training)
        outputs, wanted = run(model, to(given, "meta")), run(real, given)
        assert all(out.is_meta for out in outputs)
        assert [out.shape for out in outputs] == [out.shape for out in wanted]
        model.to_empty(device="cpu").load_state_dict(real.state_dict())
        assert same(run(model, given), wanted)

    # ---- running ----

    def test_an_input_is_never_modified_and_two_runs_are_equal_to_the_bit(self, name, form):
        model, given = self.build(name), self.given(name, form)
        before = copy.deepcopy(given)
        assert same(run(model, given), run(model, given))
        tensors = [key for key, value in given.items() if torch.is_tensor(value)]
        assert all(torch.equal(given[key], before[key]) for key in tensors)

    def test_a_model_first_run_in_inference_mode_can_be_trained_after(self, name, form):
        model, given = self.build(name), as_leaves(self.given(name, form))
        with torch.inference_mode():
            inferred = run(model, self.given(name, form))
        trained = run(model, given)
        assert same(trained, inferred)
        assert all(grad.isfinite().all() for grad in self.gradients(trained, model, given))

    def test_strided_inputs_give_the_same_as_contiguous_ones(self, name, form):
        model, given = self.build(name), self.given(name, form)
        wanted = run(model, given)
        for layout in self.layouts:
            strided = {k: layout(v) if torch.is_tensor(v) else v for k, v in given.items()}
            assert any(not v.is_contiguous() for v in strided.values() if torch.is_tensor(v))
            torch.testing.assert_close(run(model, strided), wanted)

    # ---- what others attach ----

    def test_a_hook_on_every_part_fires_and_changes_nothing(self, name, form):
        model, given = self.build(name), self.given(name, form)
        wanted, seen = run(model, given), set()
        parts = {n: part for n, part in model.named_modules() if type(part) not in SHELVES}
        for own, part in parts.items():
            part.register_forward_hook(lambda *_, own=own: seen.add(own))
        torch.testing.assert_close(run(model, given), wanted)
        silent = set(parts) - seen
        assert not {own for own in silent if not own.startswith(self.not_called.get(name, ()))}

    def test_an_adapter_on_every_linear_layer_acts_and_learns(self, name, form):
        model = self.build(name).double()
        if not linear_layers(model):
            return
        given = as_leaves(to(self.given(name, form), torch.float64))
        merged = copy.deepcopy(model)
        layers = [one for one in adapted(model) if one.layer.weight.requires_grad]
        with torch.no_grad():
            for layer in adapted(merged):
                layer.layer.weight += layer.up @ layer.down
                layer.up.zero_()
        found = run(model, given)
        torch.testing.assert_close(found, run(merged, given))
        learned = [weight for one in layers for weight in (one.down, one.up)]
        total = sum(out.square().sum() for out in found)
        torch.autograd.grad(total, learned, materialize_grads=self.unused_parameters)

    def test_pruned_layers_act_in_every_pass(self, name):
        model, given = self.build(name), as_leaves(self.given(name))
        pruned = copy.deepcopy(model)
        for network in (model, pruned):
            for layer in linear_layers(network).values():
                prune.l1_unstructured(layer, "weight", 0.5)
        for layer in linear_layers(pruned).values():
            prune.remove(layer, "weight")  # the zeros stay in its weights
        for _ in range(2):
            found = run(model, given)
            torch.testing.assert_close(found, run(pruned, given))
            sum(out.square().sum() for out in found).backward()

    @pytest.mark.slow
    @pytest.mark.skipif(not FSDP_ON_CPU, reason="FSDP2 of this torch needs a GPU")
    @pytest.mark.filterwarnings("ignore:.*returned a view tensor", "ignore:`torch.jit")
    def test_weights_shared_out_part_by_part_give_the_same(self, name, form):
        model = self.build(name).double()
        given = as_leaves(to(self.given(name, form), torch.float64))
        wanted = run(model, given)
        gradients = self.gradients(wanted, model, given)
        with sharded(model):
            assert all(isinstance(weight, DTensor) for weight in model.parameters())
            found = run(model, given)
            sum(out.square().sum() for out in found).backward()
            leaves = [value for value in given.values() if is_floating(value)]
            trained = [weight for weight in model.parameters() if weight.requires_grad]
            grads = [*(leaf.grad for leaf in leaves), *(weight.grad for weight in trained)]
            grads = [grad.full_tensor() if isinstance(grad, DTensor) else grad for grad in grads]
        torch.testing.assert_close(found, wanted)
        for one, other in zip(grads, gradients, strict=True):
            torch.testing.assert_close(torch.zeros_like(other) if one is None else one, other)

    # ---- torch.func ----

    @pytest.mark.filterwarnings("ignore:There is a performance drop")
    def test_vmap_gives_what_a_loop_gives(self, name, form):
        model, given = self.build(name), self.given(name, form)
        if name in self.not_vmapped:
            with pytest.raises(ValueError, match=r"torch\.func"):
                torch.func.vmap(lambda x: run(model, given | {"x": x}))(given["x"][None])
            return
        keys = [key for key, value in given.items() if is_floating(value)]
        if not keys:
            keys = [key for key, value in given.items() if torch.is_tensor(value)][:1]
        stacked = [torch.stack([given[key], given[key].flip(0)]) for key in keys]

        def call(*values: Tensor) -> tuple[Tensor, ...]:
            return tuple(run(model, given | dict(zip(keys, values, strict=True))))

        found = torch.func.vmap(call)(*stacked)
        each = [call(*values) for values in zip(*stacked, strict=True)]
        torch.testing.assert_close(found, tuple(map(torch.stack, zip(*each, strict=True))))

    @pytest.mark.slow
    @pytest.mark.filterwarnings("ignore:There is a performance drop", "ignore:`torch.jit")
    def test_the_hessian_is_that_of_two_passes_back(self, name, form):
        """Along one direction of all inputs and one of all weights: no path is left out."""
        model, draw = self.build(name).double(), torch.Generator().manual_seed(2)
        given, weights = to(self.given(name, form), torch.float64), dict(model.named_parameters())
        of_given, of_weights = direction(given, draw), direction(weights, draw)
        for own, part in model.named_modules():
            if isinstance(part, nn.Embedding) and part.padding_idx is not None:
                for key, _ in part.named_parameters(prefix=own):  # padding's rows take no gradient
                    of_weights[key][..., part.padding_idx, :] = 0

        def loss(steps: Tensor) -> Tensor:
            there = moved(weights, steps[1], of_weights)
            outputs = run(
                lambda **inputs: torch.func.functional_call(model, there, (), inputs),
                moved(given, steps[0], of_given),
            )
            return sum(out.square().sum() for out in outputs)

        here = torch.zeros(2, dtype=torch.float64)
        with sdpa_kernel(SDPBackend.MATH):
            if name in self.not_vmapped:
                with pytest.raises(ValueError, match=r"torch\.func"):
                    torch.func.hessian(loss)(here)
                return
            found = torch.func.hessian(loss)(here)
            wanted = torch.autograd.functional.hessian(loss, here)
            torch.testing.assert_close(found[0, 0], wanted[0, 0])  # of the inputs alone
            if any(isinstance(part, nn.LayerNorm) for part in model.modules()):
                # torch's fault, see test_msa_transformer_portability.py; this is the way round it.
                found = torch.func.jacfwd(torch.func.grad(loss))(here)
        torch.testing.assert_close(found, wanted)

    def test_gradients_have_gradients(self, name, form):
        """As a penalty on them needs; fused attention has none, torch's plain one has."""
        model, given = self.build(name), as_leaves(self.given(name, form))
        with sdpa_kernel(SDPBackend.MATH):
            once = self.gradients(run(model, given), model, given, create_graph=True)
            penalty = sum(grad.square().sum() for grad in once if grad.requires_grad)
            penalty.backward()
        trained = [weight for weight in model.parameters() if weight.requires_grad]
        found = [weight.grad for weight in trained if weight.grad is not None]
        assert found or not trained
        assert all(grad.isfinite().all() for grad in found)

    # ---- torch.export ----

    @pytest.mark.compile
    # Both of torch 2.6, of tables.
    @pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr", "ignore:Node self___")
    def test_an_exported_model_is_saved_and_gives_the_same(self, name, form):
        model, given = self.to_compile(name, form)
        wanted, stored = run(model, given), io.BytesIO()
        with torch.no_grad():
            torch.export.save(torch.export.export(model, (), given), stored)
        stored.seek(0)
        program = torch.export.load(stored).module()
        torch.testing.assert_close(run(program, given), wanted)

    # ---- torch.compile ----

    @pytest.mark.compile
    def test_every_model_compiles_to_one_graph_with_the_same_gradients(self, name, form):
        model, given = self.to_compile(name, form)
        given = as_leaves(given)
        wanted, found = run(model, given), run(compiled(model), given)
        torch.testing.assert_close(found, wanted)
        found, wanted = (self.gradients(outputs, model, given) for outputs in (found, wanted))
        torch.testing.assert_close(found, wanted)

    # ---- CUDA ----

    @pytest.mark.gpu
    def test_on_cuda_a_model_gives_the_outputs_and_gradients_of_the_cpu(self, name, form):
        model, given = self.build(name).double(), to(self.given(name, form), torch.float64)
        other, there = copy.deepcopy(model).cuda(), as_leaves(to(given, "cuda"))
        given = as_leaves(given)
        wanted, found = run(model, given), run(other, there)
        outputs, grads = self.near_on_cuda
        assert all(out.isfinite().all() for out in found)
        torch.testing.assert_close([f.cpu() for f in found], wanted, atol=outputs, rtol=outputs)
        found, wanted = self.gradients(found, other, there), self.gradients(wanted, model, given)
        torch.testing.assert_close([f.cpu() for f in found], wanted, atol=grads, rtol=grads)


SAME_CASES = {  # what cannot be compiled cannot be exported either
    Portability.test_an_exported_model_is_saved_and_gives_the_same: (
        Portability.test_every_model_compiles_to_one_graph_with_the_same_gradients
    )
}
