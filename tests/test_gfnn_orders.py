"""Three orders of the same sums: equal results, what each costs, and when which is taken."""

import weakref

import pytest
import torch
from drawing import largest, normal, order_one, seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from archbook.gfnn import GridFunctionedNetwork, GridLinear, orders
from archbook.gfnn.weights import Grid

ORDERS = ("blend", "experts", "cells")
every_order = pytest.mark.parametrize("order", ORDERS)


def places(batch: int, dims: int, seed: int = 1) -> Tensor:
    """Places on the grid, some of them beyond its ends."""
    generator = seeded(seed)
    return 1.4 * torch.rand(batch, dims, generator=generator).double() - 0.2


def values_and_gradients(module, x: Tensor, g: Tensor, order: str) -> list[Tensor]:
    leaves = [x.clone().requires_grad_(), g.clone().requires_grad_()]
    y = module(*leaves, order)
    weight = normal(*y.shape, seed=9).to(y.dtype)
    sources = [*leaves, *module.parameters()]
    found = torch.autograd.grad((y * weight).sum(), sources, materialize_grads=True)
    return [y.detach(), *found]


# ---- equal ----


@pytest.mark.slow
@pytest.mark.shapes
@settings(max_examples=60)
@given(
    sizes=st.tuples(*[st.integers(1, 6)] * 3),
    shape=st.lists(st.integers(1, 7), min_size=1, max_size=3),
    cyclic=st.lists(st.booleans(), min_size=3, max_size=3),
    edges=st.sampled_from(["clamp", "linear"]),
    batch=st.sampled_from([1, 2, 17, 60]),
    seed=st.integers(0, 10**6),
)
def test_every_order_gives_the_same_values_and_gradients(sizes, shape, cyclic, edges, batch, seed):
    inputs, hidden, outputs = sizes
    module = GridFunctionedNetwork(
        inputs,
        (hidden,),
        outputs,
        grid_shape=shape,
        cyclic=cyclic[: len(shape)],
        edges=edges,
        activation="tanh",
    )
    order_one(module, seed)
    x, g = normal(batch, inputs, seed=seed + 7), places(batch, len(shape), seed + 8)
    wanted = values_and_gradients(module, x, g, "blend")
    for order in ("experts", "cells", "auto"):
        assert largest(values_and_gradients(module, x, g, order), wanted) < 1e-12


@pytest.mark.shapes
@every_order
def test_float32_is_near_float64(order):
    module, x, g = order_one(GridLinear(5, 4, (6, 5))), normal(60, 5), places(60, 2)
    wanted = values_and_gradients(module, x, g, "blend")
    found = values_and_gradients(module.float(), x.float(), g.float(), order)
    assert all(value.dtype == torch.float32 for value in found)
    assert largest([value.double() for value in found], wanted) < 1e-4


@pytest.mark.slow
@pytest.mark.shapes
@every_order
@pytest.mark.parametrize("sizes", [(2, 3), (3, 2)], ids=["widening", "narrowing"])
def test_the_gradients_equal_finite_differences_twice(order, sizes):
    module = order_one(GridLinear(*sizes, (5, 2), cyclic=(False, True)))
    x, g = normal(3, sizes[0]).requires_grad_(), places(3, 2, seed=3).requires_grad_()
    arguments = (x, g, *module.parameters())

    def run(x, g, *parameters):
        named = dict(zip(("W", "b"), parameters, strict=True))
        return torch.func.functional_call(module, named, (x, g, order))

    assert torch.autograd.gradcheck(run, arguments)
    assert torch.autograd.gradgradcheck(run, arguments, fast_mode=True)


@every_order
def test_samples_do_not_see_each_other(order):
    module, x, g = order_one(GridLinear(3, 4, (6, 5))), normal(30, 3), places(30, 2)
    alone = torch.cat([module(x[i : i + 1], g[i : i + 1], order) for i in range(30)])
    torch.testing.assert_close(module(x, g, order), alone, atol=1e-12, rtol=0)


@every_order
def test_two_runs_are_equal_to_the_bit_and_no_input_is_modified(order):
    module, x, g = order_one(GridLinear(3, 4, (6, 5))), normal(30, 3), places(30, 2)
    before = x.clone(), g.clone()
    first = values_and_gradients(module, x, g, order)
    second = values_and_gradients(module, x, g, order)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert torch.equal(x, before[0])
    assert torch.equal(g, before[1])


# ---- blocks ----


@pytest.mark.parametrize(
    ("shape", "cyclic", "blocks"),
    [((8, 8), None, 25), ((6, 6, 6), None, 27), ((8,), (True,), 8), ((4, 4), None, 1)],
)
def test_cells_that_read_the_same_nodes_are_one_block(shape, cyclic, blocks):
    grid = Grid(shape, cyclic)
    cells = orders.Cells(grid, places(20_000, len(shape)))
    assert len(cells.sizes) == len(cells.experts) == grid.blocks == blocks


@pytest.mark.parametrize("cyclic", [(False, False, False), (True, False, True)])
def test_a_block_holds_different_experts_with_the_weights_of_the_grid(cyclic):
    grid, g = Grid((7, 2, 5), cyclic), places(200, 3)
    first, weights = grid.block_of(g)
    experts = grid.experts_of(first)
    assert experts.shape == weights.shape == (200, 4 * 2 * 4)
    assert all(len(row.unique()) == len(row) for row in experts)
    found = torch.zeros(200, 70).double().scatter(1, experts, weights)
    torch.testing.assert_close(found, grid.weights(g), atol=1e-15, rtol=0)


# ---- what they cost ----


def multiply_adds(shape: tuple[int, ...], order: str, batch: int = 500) -> int:
    module = GridLinear(16, 16, shape)
    with FlopCounterMode(display=False) as counter:
        module(torch.ones(batch, 16), places(batch, len(shape)).float(), order)
    return counter.get_total_flops() // 2


@pytest.mark.slow
def test_sorted_by_cell_the_cost_does_not_grow_with_the_grid():
    batch, nodes = 500, 16
    wanted = batch * nodes * (16 * 16 + 16)  # every expert of a block, then their weights
    assert {multiply_adds((n, n), "cells") for n in (4, 5, 8, 16, 32)} == {wanted}


@pytest.mark.parametrize("order", ["blend", "experts"])
def test_in_the_other_orders_the_cost_grows_as_the_number_of_experts(order):
    costs = [multiply_adds((n, n), order) for n in (4, 8, 16)]
    assert costs[1] / costs[0] == pytest.approx(4, rel=0.1)
    assert costs[2] / costs[1] == pytest.approx(4, rel=0.1)


class Memory(TorchDispatchMode):
    """Bytes alive at the worst moment, and the largest single tensor, of what is made inside."""

    def __init__(self):
        super().__init__()
        self.alive = self.peak = self.largest = 0
        self.known = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self.count(tensor.untyped_storage())
        return out

    def count(self, storage):
        key, size = storage._cdata, storage.nbytes()
        if key not in self.known:
            self.known.add(key)
            self.alive += size
            self.peak, self.largest = max(self.peak, self.alive), max(self.largest, size)
            weakref.finalize(storage, self.forget, key, size)

    def forget(self, key, size):
        self.known.discard(key)
        self.alive -= size


def memory_of(module, batch: int, dims: int, order: str) -> Memory:
    x, g = torch.ones(batch, 3), places(batch, dims).float()
    with Memory() as memory:
        module(x, g, order).sum().backward()
    return memory


def test_the_measure_of_memory_sees_what_lives_and_forgets_what_is_gone():
    with Memory() as memory:
        for _ in range(3):
            torch.ones(1000).exp_()  # one tensor of 4000 bytes at a time
        kept = torch.ones(500)
    assert (memory.peak, memory.largest, memory.alive) == (4000, 4000, 2000)
    assert kept.sum() == 500


@pytest.mark.slow
def test_a_large_grid_of_three_axes_trains_in_less_than_4_gigabytes():
    module = GridFunctionedNetwork(3, 64, 1, grid_shape=(6, 6, 6))
    assert memory_of(module, 4096, 3, "auto").peak < 4e9


def test_sorted_by_cell_no_tensor_is_larger_than_one_block_or_the_parameters():
    """What a gather would make, (batch, 4^D, parameters), is 16 times larger than the bound."""
    module, batch = GridFunctionedNetwork(3, 24, 1, grid_shape=(12, 12)), 150
    found = memory_of(module, batch, 2, "cells")
    parameters = module.layers[1].W.numel() * 4
    gathered = batch * 16 * 24 * 24 * 4
    assert found.largest == parameters
    assert found.peak < 3 * sum(p.numel() for p in module.parameters()) * 4 < gathered


# ---- which is taken ----


def taken(monkeypatch, call) -> str:
    """The names of the orders that `call` goes through."""
    names = []
    for name in ("blend", "experts", "Cells"):
        true = getattr(orders, name)
        monkeypatch.setattr(
            orders, name, lambda *a, true=true, name=name: names.append(name) or true(*a)
        )
    call()
    return " ".join(sorted(set(names)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("batch", "shape", "hidden", "wanted"),
    [
        (4096, (8, 8), 32, "Cells experts"),  # sorted; then every expert of a block
        (64, (8, 8), 32, "blend"),
        (64, (4, 4), 32, "experts"),
        (1, (8, 8), 32, "blend"),
        (1, (64, 64), 64, "Cells experts"),
    ],
)
def test_auto_takes(batch, shape, hidden, wanted, monkeypatch):
    module = GridFunctionedNetwork(hidden, hidden, hidden, grid_shape=shape)
    x, g = torch.ones(batch, hidden), places(batch, len(shape)).float()
    assert taken(monkeypatch, lambda: module(x, g)) == wanted


def test_auto_does_not_sort_on_the_meta_device(monkeypatch):
    module = GridLinear(32, 32, (8, 8)).to("meta")
    x, g = torch.ones(4096, 32, device="meta"), torch.ones(4096, 2, device="meta")
    assert taken(monkeypatch, lambda: module(x, g)) == "blend"


def test_a_layer_uses_the_order_it_is_asked_for(monkeypatch):
    module, x, g = GridLinear(3, 2, (5, 5)), torch.ones(9, 3), places(9, 2).float()
    assert taken(monkeypatch, lambda: module(x, g, "blend")) == "blend"
    assert taken(monkeypatch, lambda: module(x, g, "cells")) == "Cells experts"


# ---- one sample ----


@pytest.mark.parametrize(("batch", "form"), [(1, "blend"), (2, "experts")])
def test_a_single_sample_is_blended_where_a_batch_runs_all_experts(batch, form, monkeypatch):
    """At PFNN's size: experts are narrower than they are few."""
    used = []
    for name in ("blend", "experts"):
        plain = getattr(orders, name)
        monkeypatch.setattr(
            orders, name, lambda *given, plain=plain, name=name: used.append(name) or plain(*given)
        )
    net = GridFunctionedNetwork(6, 8, 5, grid_shape=(4,))
    net(torch.randn(batch, 6), torch.rand(batch, 1))
    assert used == [form] * 3
