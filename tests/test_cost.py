"""The cost model: counts against torch's and the chapters', times against known machines."""

import argparse
import shlex
from dataclasses import replace

import pytest
import torch
from refusals import each_raises
from scripts import script
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.flop_counter import FlopCounterMode

from archbook.attention import Full
from archbook.checks import value_checks
from archbook.cost.counting import Count, Growing, Part, count_step
from archbook.cost.machines import CARDS, Card, Machine, calibrated
from archbook.cost.published import WORKLOADS
from archbook.cost.rows import rows
from archbook.cost.sharing import Step, all_reduce, largest_batch, link, step
from archbook.egnn import EGNN
from archbook.folded_cnn import GAME_CNNS, GameCNN, cost
from archbook.gfnn import GridFunctionedNetwork
from archbook.gfnn.cost import multiply_adds
from archbook.lmu import LMU
from archbook.msa_transformer import MSATransformer
from archbook.omninet import OmniNet
from archbook.omninet.cost import network_flops
from archbook.running import read_results
from archbook.running.options import build_parser

CROP = GAME_CNNS["lol-gold1"]
EDGES = torch.tensor([[0, 1, 2], [1, 2, 0]])
SMALL = {
    "lmu": lambda: (LMU(2, 5, 3, order=4, theta=9.0, return_sequences=False), torch.randn(2, 9, 2)),
    "egnn": lambda: (EGNN(2, 8, 2), torch.randn(3, 2), torch.randn(3, 3), EDGES),
    "msa_transformer": lambda: (
        MSATransformer(33, 1, 8, heads=2, ffn=16).eval(),
        torch.zeros(1, 3, 5, dtype=torch.long),
    ),
    "gfnn": lambda: (
        GridFunctionedNetwork(3, 6, 2, grid_shape=(4, 4)),
        torch.randn(5, 3),
        torch.rand(5, 2),
        "experts",
    ),
    "folded_cnn": lambda: (
        GameCNN(**CROP, fold=2).eval(),
        torch.randn(2, 6, CROP["height"], CROP["width"]),
    ),
    "omninet": lambda: (
        OmniNet(2, 8, 2, partition=2, meta=Full(), length=6, dropout=0.0),
        torch.randn(2, 6, 8),
    ),
}


def made(stem: str) -> tuple[nn.Module, tuple]:
    model, *inputs = SMALL[stem]()
    return model, tuple(inputs)


@pytest.mark.slow
@pytest.mark.parametrize("stem", ["lmu", "egnn", "gfnn", "folded_cnn"])
def test_operations_without_numbers_are_those_that_torch_counts_in_a_real_step(stem):
    model, inputs = made(stem)
    with value_checks(False):
        model(*inputs)  # its tables
        with FlopCounterMode(display=False) as counter:
            outputs = model(*inputs)
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            sum(output.sum() for output in outputs if output.requires_grad).backward()
    assert count_step(lambda: made(stem)).flops == counter.get_total_flops() > 0


@pytest.mark.slow
@pytest.mark.parametrize("stem", ["msa_transformer", "omninet"])
def test_so_they_are_where_torch_counts_attention_only_if_it_is_spelled_out(stem):
    model, inputs = made(stem)
    counter = FlopCounterMode(display=False)
    with value_checks(False), torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        model(*inputs)
    counted = count_step(lambda: made(stem), backward=False).flops
    assert counted == counter.get_total_flops() > 0


@pytest.mark.slow
def test_the_chapters_count_the_same_by_their_formulas():
    omninet = count_step(lambda: made("omninet"), backward=False).flops
    assert omninet == 2 * network_flops(2, 6, 8, heads=2, partition=2, meta=Full())
    folded = cost(made("folded_cnn")[0], images=4, dtype=torch.float32)
    assert count_step(lambda: made("folded_cnn"), backward=False).flops == folded.flops


def test_blending_a_grid_costs_what_the_chapter_says():
    def blended() -> tuple[nn.Module, tuple]:
        model, (x, g, _) = made("gfnn")
        return model, (x, g, "blend")

    network = made("gfnn")[0]
    assert isinstance(network, GridFunctionedNetwork)
    assert count_step(blended, backward=False).flops == 2 * 5 * multiply_adds(network)


def test_a_training_step_costs_three_forward_passes_of_a_linear_layer_that_is_fed_by_another():
    def two() -> tuple[nn.Module, tuple]:
        return nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)), (torch.randn(4, 8),)

    forward = count_step(two, backward=False)
    assert forward.flops == 2 * 2 * 4 * 8 * 8
    # the first layer's input needs no gradient
    assert count_step(two).flops == 3 * forward.flops - 2 * 4 * 8 * 8


def test_fused_attention_costs_two_products_forward_and_five_backward():
    class Attends(nn.Module):
        def __init__(self):
            super().__init__()
            self.x = nn.Parameter(torch.randn(1, 2, 6, 4))

        def forward(self, keys):
            return scaled_dot_product_attention(self.x, keys, keys)

    def made_attention() -> tuple[nn.Module, tuple]:
        return Attends(), (torch.randn(1, 2, 5, 4).requires_grad_(),)

    product = 2 * (2 * 6 * 5 * 4)
    assert count_step(made_attention, backward=False).flops == 2 * product
    assert count_step(made_attention).flops == 7 * product


def test_what_the_work_holds_at_once_is_counted_as_it_comes_and_goes():
    class Twice(nn.Module):
        def __init__(self, keep: bool):
            super().__init__()
            self.keep = keep

        def forward(self, x):
            y = x + 1
            return y + 1 if not self.keep else (y, y + 1)

    size = 4 * 1000
    for keep in (False, True):
        given = count_step(lambda keep=keep: (Twice(keep), (torch.randn(1000),)), backward=False)
        assert given.peak == 2 * size  # y, then what is made of it
    three = nn.Sequential(nn.ReLU(), nn.ReLU(), nn.ReLU())  # the first is gone by the third
    assert count_step(lambda: (three, (torch.randn(1000),)), backward=False).peak == 2 * size


# ---- memory, against what the benchmarks measured ----

ROWS = {
    "egnn": {"nodes": 4096, "k": 8, "layers": 4},
    "msa_transformer": {"rows": 64, "columns": 128},
    "gfnn": {"dims": 2, "nodes": 16, "hidden": 64, "batch": 1024, "inputs": 64, "outputs": 64},
    "omninet": {"batch": 1, "tokens": 2048},
    "lmu": {"order": 468, "T": 784, "batch": 100},
    "folded_cnn": {"threads": 2, "images": 4096},
}


@pytest.mark.slow
@pytest.mark.parametrize("stem", ROWS)
def test_memory_is_within_an_eighth_of_the_measured_peak(stem):
    found = [
        row
        for row in rows(stem, read_results(stem, "bench"))
        if row.peak and row.peak > 2**24 and row.size.items() <= ROWS[stem].items()
    ]
    assert found
    for row in found:
        assert row.count().peak == pytest.approx(row.peak, rel=1 / 8), row.name


# ---- machines whose rates are known ----

MACHINE = Machine("simulated", products=1e9, bandwidth=1e8, call=1e-3, packed=5e7, fresh=2e7)


def counted(*parts: tuple[int, int], calls: int = 1, peak: int = 0, weights: int = 0) -> Count:
    return Count(tuple(Part(*part) for part in parts), calls, peak, weights)


def test_an_operation_waits_for_the_slower_of_its_products_and_its_bytes():
    assert MACHINE.seconds(counted((10**9, 0), calls=0)) == pytest.approx(1)
    assert MACHINE.seconds(counted((10**6, 10**8), calls=0)) == pytest.approx(2)  # operands
    assert MACHINE.seconds(counted((0, 10**7), calls=0)) == pytest.approx(0.1)
    assert MACHINE.seconds(counted((0, 10**8), calls=0)) == pytest.approx(5)  # new pages
    assert MACHINE.seconds(counted((10**9, 0), calls=500)) == pytest.approx(1.5)


def test_a_card_hides_its_calls_behind_its_work_or_its_work_behind_its_calls():
    card = replace(MACHINE, runs_ahead=True)
    assert card.seconds(counted((10**9, 0), calls=500)) == pytest.approx(1)
    assert card.seconds(counted((10**9, 0), calls=2000)) == pytest.approx(2)


def test_rates_are_found_again_from_simulated_times():
    draw = torch.Generator().manual_seed(0)

    def some() -> Count:
        flops, small, large = (
            int(10 ** (3 + 6 * torch.rand((), generator=draw))) for _ in range(3)
        )
        many = int(1000 * torch.rand((), generator=draw))
        return counted((flops, 0), (0, small % 2**24), (0, 2**25 + large), calls=many)

    counts = [some() for _ in range(40)]
    times = [MACHINE.seconds(one) for one in counts]
    rates = ("products", "bandwidth", "call", "fresh")
    start = replace(MACHINE, products=3e9, bandwidth=2e7, call=1e-4, fresh=1e8)
    found = calibrated(start, counts, times, rates)
    for rate in rates:
        assert getattr(found, rate) == pytest.approx(getattr(MACHINE, rate), rel=1e-2)
    held = calibrated(start, counts, times, ("products",))  # a machine that may not tell the rest
    assert held.call == start.call


# ---- several cards ----

CARD = Card("simulated", 1e12, 1e12, 1e9, inside=1e9, outside=1e8, source="none")


def test_a_ring_passes_every_byte_twice_and_a_slow_network_slows_it():
    assert all_reduce(8e9, 8) == pytest.approx(14e9)
    assert all_reduce(8e9, 1) == 0
    assert (link(CARD, 8), link(CARD, 64)) == (1e9, 8e8)


def test_the_share_of_talk_is_what_the_ring_needs_beside_the_work():
    count = counted((10**12, 0), calls=0, weights=10**8)
    machine = CARD.machine(call=0.0)
    alone, eight = step(count, CARD, machine, 1), step(count, CARD, machine, 8)
    adam = 28 * 10**8 / 1e12
    assert (alone.talking, alone.share) == (0, 0)
    assert alone.seconds == pytest.approx(1 + adam)
    assert eight.talking == pytest.approx(2 * 7 / 8 * 0.4)
    assert eight.share == pytest.approx(0.7 / (1.7 + adam))


def test_sharded_weights_take_half_as_much_talk_again_and_a_fraction_of_the_memory():
    count = counted((10**12, 0), calls=0, peak=5 * 10**8, weights=10**8)
    machine = CARD.machine(call=0.0)
    whole, shared = step(count, CARD, machine, 8), step(count, CARD, machine, 8, blocks=10)
    assert shared.talking == pytest.approx(1.5 * whole.talking)
    activations = 10**8
    assert whole.memory == pytest.approx(activations + 5 * 4e8)  # and two moments, and buckets
    assert shared.memory == pytest.approx(activations + 4 * 4e8 / 8 + 2 * 4e7)


def test_as_many_examples_are_taken_as_fit():
    one, two = Step(1, 0, memory=2e8), Step(1, 0, memory=3e8)
    assert largest_batch(1e9, one, two, most=100) == 9
    assert largest_batch(1e9, one, two, most=4) == 4
    assert largest_batch(1e8, one, two, most=4) == 0


@pytest.mark.slow
def test_a_step_grows_along_a_line():
    told, counted = WORKLOADS["lmu"].growing().at(6), WORKLOADS["lmu"].count(6)
    assert (told.flops, told.weights) == (counted.flops, counted.weights)
    assert told.bytes == pytest.approx(counted.bytes, rel=1e-3)
    assert told.peak == pytest.approx(counted.peak, rel=0.02)


# ---- the published sizes ----


def parsed(command: str) -> tuple[argparse.Namespace, dict]:
    """What the experiment's own command line makes of a command, and its variants at that size."""
    words = shlex.split(command)
    (at,) = (i for i, word in enumerate(words) if word.startswith("experiments/"))
    module = script(words[at])
    config_class = type(next(iter(module.SIZES["tiny"].values())))
    options = build_parser(config_class, tuple(module.SIZES)).parse_args(words[at + 1 :])
    return options, module.SIZES[options.size]


COMMANDS = [
    (name, cards)
    for name, workload in WORKLOADS.items()
    for cards in (8, 64)
    if workload.command(cards, cards)
]


@pytest.mark.parametrize(("name", "cards"), COMMANDS)
def test_every_command_is_understood_by_its_experiment(name, cards):
    workload = WORKLOADS[name]
    options, variants = parsed(workload.command(cards, cards))
    assert set(options.variants or variants) <= set(variants)
    if workload.trains:
        assert options.batch == cards
        assert options.fsdp == (workload.blocks > 0)
        if workload.in_steps:
            assert options.steps * cards == workload.examples


def test_a_command_with_a_setting_that_no_experiment_has_is_noticed(capsys):
    with pytest.raises(SystemExit):
        parsed(WORKLOADS["msa"].command(8, 8).replace("--hidden", "--width"))
    assert "unrecognized arguments" in capsys.readouterr().err


@pytest.mark.slow
def test_the_commands_train_the_networks_that_are_counted():
    options, _ = parsed(WORKLOADS["msa"].command(8, 8))
    sizes = (options.layers, options.hidden, options.heads)
    model, (tokens,) = count_shapes("msa")
    assert sizes == (len(model.blocks), model.letters.embedding_dim, 12)
    assert tokens.shape[1:] == (options.most_rows, options.columns)
    options, variants = parsed(WORKLOADS["omninet"].command(8, 8))
    model, (text,) = count_shapes("omninet")
    assert (options.layers, options.hidden) == (len(model.body.blocks), model.body.hidden)
    assert text.shape[1] == variants["performer_2"].context
    _, variants = parsed(WORKLOADS["egnn"].command(8, 8))
    model, _ = count_shapes("egnn")
    config = variants["egnn"]
    assert (config.layers, config.hidden) == (
        len(model.body.body.layers),
        model.body.body.embed.out_features,
    )


def count_shapes(name: str) -> tuple:
    with torch.device("meta"):
        return WORKLOADS[name].make(1)


def test_cards_are_as_their_data_sheets_say_and_name_them():
    assert all("data sheet" in card.source for card in CARDS.values())
    assert all(card.inside > card.outside for card in CARDS.values())


test_refused_are = each_raises(
    [
        (lambda: calibrated(MACHINE, [], [], ("call",)), ValueError, "given 0 and 0"),
        (
            lambda: calibrated(MACHINE, [counted((1, 1))], [], ("call",)),
            ValueError,
            "given 0 and 1",
        ),
        (lambda: Growing(counted((1, 1)), counted()), ValueError, r"given \(1, 0\)"),
        (lambda: step(counted((1, 1)), CARD, MACHINE, 0), ValueError, "at least 1, given 0"),
        (lambda: step(counted((1, 1)), CARD, MACHINE, True), ValueError, "given True"),
    ]
)
