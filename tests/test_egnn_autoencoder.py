"""The graph autoencoder: its loss by hand, its laws, and the symmetry that noise must break."""

import copy
import math

import pytest
import torch
from drawing import largest, normal, order_one, seeded
from plain_egnn import rotation
from torch import Tensor

from archbook.egnn.autoencoder import (
    ENCODERS,
    DistanceDecoder,
    FeatureDecoder,
    GraphAutoencoder,
    equal_codes_floor,
    reconstruction_loss,
    reconstruction_scores,
)

K = 3
NOISY = tuple(kind for kind in ENCODERS if kind != "gnn")
SIZES = (5, 3, 1, 6)  # nodes of the graphs of a padded batch
every_encoder = pytest.mark.parametrize("kind", ENCODERS)


def model_of(kind: str, seed: int = 0) -> GraphAutoencoder:
    return order_one(GraphAutoencoder(kind, hidden=5, layers=2, embedding=K), seed)


def graph(nodes: int, seed: int = 0) -> Tensor:
    """A random adjacency (nodes, nodes)."""
    lower = (normal(nodes, nodes, seed=seed) > 0).tril(-1)
    return lower | lower.T


def padded() -> tuple[Tensor, Tensor, Tensor]:
    """(adjacency, mask, noise) of graphs of SIZES, padded to 7 nodes; the noise covers padding."""
    adjacency = torch.zeros(len(SIZES), 7, 7, dtype=torch.bool)
    for b, n in enumerate(SIZES):
        adjacency[b, :n, :n] = graph(n, seed=b)
    mask = torch.arange(7) < torch.tensor(SIZES)[:, None]
    return adjacency, mask, normal(len(SIZES), 7, K, seed=1)


def noise_for(kind: str, noise: Tensor) -> Tensor | None:
    return None if kind == "gnn" else noise


# ---- the decoders, the loss, the scores ----


@pytest.mark.shapes
def test_the_distance_decoder_is_the_equation():
    decoder, z = order_one(DistanceDecoder()), normal(2, 4, K)
    w, b = decoder.w.detach(), decoder.b.detach()
    wanted = [[[w * ((i - j) ** 2).sum() + b for j in g] for i in g] for g in z]
    assert largest([decoder(z)], [torch.tensor(wanted).double()]) < 1e-12


def test_the_distance_decoder_starts_where_the_authors_start():
    assert {name: round(p.item(), 6) for name, p in DistanceDecoder().named_parameters()} == {
        "w": -0.1,
        "b": 1.0,
    }


@pytest.mark.shapes
def test_the_feature_decoder_is_linear_in_each_squared_difference():
    decoder, z = order_one(FeatureDecoder(K)), normal(2, 4, K)
    weight, bias = decoder.linear.weight[0].detach(), decoder.linear.bias[0].detach()
    wanted = [[[weight @ (i - j) ** 2 + bias for j in g] for i in g] for g in z]
    assert largest([decoder(z)], [torch.tensor(wanted).double()]) < 1e-12


def slow_loss(logits: Tensor, adjacency: Tensor, sizes) -> float:
    """The sum over ordered pairs of each graph, one at a time; the mean over graphs."""
    totals = []
    for b, n in enumerate(sizes):
        total = 0.0
        for i in range(n):
            for j in range(n):
                p = 0.0 if i == j else 1 / (1 + math.exp(-logits[b, i, j]))
                total -= math.log(p if adjacency[b, i, j] else 1 - p)
        totals.append(total)
    return sum(totals) / len(totals)


@pytest.mark.shapes
def test_the_loss_equals_a_slow_loop():
    adjacency, mask, _ = padded()
    logits = 2 * normal(*adjacency.shape, seed=3)
    found = reconstruction_loss(logits, adjacency, mask).item()
    assert found == pytest.approx(slow_loss(logits, adjacency, SIZES), rel=1e-12)


def test_without_a_mask_every_node_is_real():
    adjacency, logits = graph(5)[None], normal(1, 5, 5, seed=3)
    found = reconstruction_loss(logits, adjacency).item()
    assert found == pytest.approx(slow_loss(logits, adjacency, (5,)), rel=1e-12)


def test_the_diagonal_and_the_padding_do_not_count():
    adjacency, mask, _ = padded()
    logits = 2 * normal(*adjacency.shape, seed=3)
    other = logits + 100 * torch.eye(7)
    other[~mask] = -50.0
    other.mT[~mask] = 70.0
    assert reconstruction_scores(other, adjacency, mask) == pytest.approx(
        reconstruction_scores(logits, adjacency, mask), rel=1e-12
    )


def test_extreme_logits_keep_the_loss_and_its_gradient_finite():
    adjacency = graph(4)[None]
    logits = torch.full((1, 4, 4), 1e4).requires_grad_()
    loss = reconstruction_loss(logits, adjacency)
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()


def test_scores_of_a_path_of_four_nodes_by_hand():
    # edges 0-1, 1-2, 2-3; found 0-1, 0-2: three of six pairs wrong, precision 1/2, recall 1/3
    adjacency = torch.diag(torch.ones(3), 1).bool()
    adjacency = (adjacency | adjacency.T)[None]
    logits = torch.full((1, 4, 4), -2.0)
    logits[0, [0, 1, 0, 2], [1, 0, 2, 0]] = 2.0
    scores = reconstruction_scores(logits, adjacency)
    assert scores["wrong_percent"] == pytest.approx(50)
    assert scores["f1"] == pytest.approx(0.4)
    right, wrong = math.log(1 + math.exp(-2)), math.log(1 + math.exp(2))
    assert scores["bce"] == pytest.approx(6 * right + 6 * wrong, rel=1e-6)


def test_a_perfect_reconstruction_has_no_wrong_pair():
    adjacency, mask, _ = padded()
    scores = reconstruction_scores(60.0 * adjacency - 30.0, adjacency, mask)
    assert scores == {"bce": pytest.approx(0, abs=1e-6), "wrong_percent": 0.0, "f1": 1.0}


def test_who_finds_no_edge_errs_on_every_edge_and_has_an_f1_of_zero():
    adjacency, mask, _ = padded()
    scores = reconstruction_scores(torch.full(adjacency.shape, -1.0), adjacency, mask)
    pairs = sum(n * (n - 1) for n in SIZES)
    assert scores["wrong_percent"] == pytest.approx(100 * int(adjacency.sum()) / pairs)
    assert scores["f1"] == 0.0


def test_a_graph_of_one_node_has_nothing_to_rebuild():
    none = torch.zeros(1, 1, 1, dtype=torch.bool)
    scores = reconstruction_scores(torch.ones(1, 1, 1), none)
    assert scores == {"bce": 0.0, "wrong_percent": 0.0, "f1": 0.0}


# ---- the laws ----


def turned_gap(kind: str, mirrored: bool) -> float:
    """How far the logits move when the noise turns."""
    model = model_of(kind)
    adjacency, mask, noise = padded()
    Q = rotation(K, mirrored=mirrored)
    still, turned = model(adjacency, mask, noise), model(adjacency, mask, noise @ Q.T)
    real = mask[:, :, None] & mask[:, None]
    return largest([turned[real]], [still[real]])


@pytest.mark.shapes
@pytest.mark.parametrize("mirrored", [False, True], ids=["turned", "mirrored"])
@pytest.mark.parametrize("kind", ["egnn", "radial_field"])
def test_the_reconstruction_does_not_see_how_the_noise_is_turned(kind, mirrored):
    assert turned_gap(kind, mirrored) < 1e-10


def test_the_check_notices_noise_as_features():
    assert turned_gap("noise_gnn", False) > 1e-2


@pytest.mark.parametrize("kind", ["egnn", "radial_field"])
def test_the_embedding_turns_with_the_noise(kind):
    model = model_of(kind)
    adjacency, mask, noise = padded()
    Q = rotation(K, mirrored=True)
    found = model.encode(adjacency, mask, noise @ Q.T)
    assert largest([found], [model.encode(adjacency, mask, noise) @ Q.T]) < 1e-10


@every_encoder
def test_renumbered_nodes_give_renumbered_logits(kind):
    model, adjacency, noise = model_of(kind), graph(6)[None], normal(1, 6, K)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    renumbered = model(adjacency[:, order][:, :, order], None, noise_for(kind, noise[:, order]))
    wanted = model(adjacency, None, noise_for(kind, noise))[:, order][:, :, order]
    assert largest(renumbered, wanted) < 1e-12


@pytest.mark.shapes
@every_encoder
def test_a_graph_alone_equals_the_graph_in_a_padded_batch(kind):
    model = model_of(kind)
    adjacency, mask, noise = padded()
    logits = model(adjacency, mask, noise_for(kind, noise))
    for b, n in enumerate(SIZES):
        one = slice(b, b + 1)
        alone = model(adjacency[one, :n, :n], None, noise_for(kind, noise[one, :n]))
        assert largest([logits[one, :n, :n]], [alone]) < 1e-12


@every_encoder
def test_padding_embeds_as_zero(kind):
    adjacency, mask, noise = padded()
    z = model_of(kind).encode(adjacency, mask, noise_for(kind, noise))
    assert z.shape == (*mask.shape, K)
    assert not z[~mask].any()
    assert z[mask].abs().min() > 0


@every_encoder
def test_logits_are_those_of_an_undirected_graph(kind):
    adjacency, mask, noise = padded()
    logits = model_of(kind)(adjacency, mask, noise_for(kind, noise))
    assert largest(logits, logits.mT) < 1e-12


@every_encoder
def test_the_edges_reach_the_encoder(kind):
    model, noise = model_of(kind), noise_for(kind, normal(1, 6, K))
    some, others = (model.encode(graph(6, seed)[None], None, noise) for seed in (0, 1))
    assert largest(some, others) > 1e-2


@pytest.mark.parametrize("kind", NOISY)
def test_the_generator_decides_the_noise(kind):
    model = model_of(kind)
    adjacency, mask, _ = padded()

    def drawn(seed: int) -> Tensor:
        return model(adjacency, mask, generator=seeded(seed))

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))


@pytest.mark.parametrize("kind", NOISY)
def test_without_a_generator_the_global_one_draws_standard_normal_noise(kind):
    model, adjacency = model_of(kind), graph(6)[None]
    torch.manual_seed(5)
    found = model(adjacency)
    torch.manual_seed(5)
    noise = torch.randn(1, 6, K, dtype=torch.float64)
    assert torch.equal(found, model(adjacency, None, noise))


@every_encoder
def test_inputs_are_left_as_they_are(kind):
    given = adjacency, mask, noise = padded()
    before = copy.deepcopy(given)
    model_of(kind)(adjacency, mask, noise_for(kind, noise))
    assert all(torch.equal(now, then) for now, then in zip(given, before, strict=True))


@every_encoder
def test_every_weight_that_the_embedding_needs_gets_a_gradient(kind):
    model = model_of(kind)
    adjacency, mask, noise = padded()
    reconstruction_loss(model(adjacency, mask, noise_for(kind, noise)), adjacency, mask).backward()
    idle = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    # z = x^L: the last layer's phi_h is not asked
    dead = "encoder.layers.1.phi_h." if kind == "egnn" else None
    assert all(dead and name.startswith(dead) for name in idle), idle


def test_the_papers_size_has_these_many_weights():
    weights = {k: sum(p.numel() for p in GraphAutoencoder(k).parameters()) for k in ENCODERS}
    layer = (130 * 64 + 64) + 2 * (64 * 64 + 64) + (128 * 64 + 64)  # phi_e with a_ij, phi_h, + 64
    per_egcl = layer + 64 * 64 + 64 + 64
    assert weights["egnn"] == 4 * per_egcl + 128 + 2
    assert weights["radial_field"] == 4 * (2 * 64 + 64 + 64) + 2


# ---- the symmetry problem ----

CYCLE = torch.tensor([[[0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0]]]).bool()
PAIRS = ~torch.eye(4, dtype=torch.bool)[None]  # 12 ordered pairs, 8 of them edges
ENTROPY = -(8 / 12) * math.log(8 / 12) - (4 / 12) * math.log(4 / 12)  # 0.6365 a pair


def tells_edges_from_diagonals(logits: Tensor) -> bool:
    edges, diagonals = logits[CYCLE.expand_as(logits)], logits[(PAIRS & ~CYCLE).expand_as(logits)]
    return (edges.mean() - diagonals.mean()).abs().item() > 1e-6


def test_a_deterministic_encoder_embeds_all_nodes_of_the_four_cycle_alike():
    z = model_of("gnn").encode(CYCLE)[0]
    assert largest([z], [z[:1].expand_as(z)]) < 1e-12


def test_a_deterministic_encoder_gives_every_pair_of_the_four_cycle_one_score():
    logits = model_of("gnn")(CYCLE)
    assert not tells_edges_from_diagonals(logits)
    assert (logits[PAIRS].max() - logits[PAIRS].min()).item() < 1e-10


def test_one_score_for_every_pair_costs_at_least_the_entropy_of_eight_in_twelve():
    logits = [torch.full((1, 4, 4), score) for score in torch.linspace(-5, 5, 201).tolist()]
    losses = [reconstruction_loss(logit, CYCLE).item() / 12 for logit in logits]
    assert min(losses) >= ENTROPY - 1e-6
    assert pytest.approx(0.6365, abs=1e-4) == ENTROPY
    best = reconstruction_loss(torch.full((1, 4, 4), math.log(2)), CYCLE).item() / 12
    assert best == pytest.approx(ENTROPY, rel=1e-6)


@pytest.mark.parametrize("kind", NOISY)
def test_noise_breaks_the_tie_of_the_four_cycle(kind):
    logits = model_of(kind)(CYCLE, noise=normal(1, 4, K))
    assert tells_edges_from_diagonals(logits)


@pytest.mark.slow
def test_an_egnn_on_noise_learns_the_four_cycle_beyond_what_one_score_can():
    torch.manual_seed(0)
    model = GraphAutoencoder("egnn", hidden=16, layers=3, embedding=4)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    cycles = CYCLE.expand(32, 4, 4)
    for _ in range(200):
        loss = reconstruction_loss(model(cycles), cycles)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    fresh = model(cycles, generator=seeded(1))
    assert reconstruction_loss(fresh, cycles).item() / 12 < 0.8 * ENTROPY


# ---- refusals ----

ones = torch.ones
adjacency, mask, noise = padded()
egnn, gnn = (GraphAutoencoder(kind, 4, 1, embedding=K) for kind in ("egnn", "gnn"))
one_way = torch.tensor([[[0, 1], [0, 0]]]).bool()
refusals = [
    (lambda: GraphAutoencoder("gcn"), ValueError, "encoder to be one of 'egnn', .*given 'gcn'"),
    (lambda: GraphAutoencoder("egnn", hidden=0), ValueError, "hidden to be at least 1, given 0"),
    (lambda: GraphAutoencoder("gnn", layers=0), ValueError, "layers to be at least 1, given 0"),
    (lambda: GraphAutoencoder("gnn", embedding=0), ValueError, "embedding to be at least 1"),
    (lambda: GraphAutoencoder("egnn", embedding=2.0), TypeError, "embedding to be an int"),
    (lambda: egnn(adjacency[0]), ValueError, r"\(batch, nodes, nodes\), given \(7, 7\)"),
    (lambda: egnn(adjacency[:, :5]), ValueError, r"to be square, given \(4, 5, 7\)"),
    (lambda: egnn(adjacency[:0]), ValueError, "no axis may be empty"),
    (lambda: egnn(adjacency.float()), TypeError, "adjacency to be torch.bool, given .*float32"),
    (lambda: egnn([[True]]), TypeError, "adjacency to be a tensor, given list"),
    (lambda: egnn(one_way), ValueError, "adjacency to be symmetric, given 2"),
    (lambda: gnn(ones(1, 2, 2).bool()), ValueError, "to hold no self loops, given 2"),
    (lambda: egnn(adjacency, mask[:, :5]), ValueError, r"mask .*\(4, 7\), given \(4, 5\)"),
    (lambda: egnn(adjacency, mask.float()), TypeError, "mask to be torch.bool"),
    (lambda: egnn(adjacency, mask, noise), TypeError, "noise to be torch.float32 .*float64"),
    (
        lambda: egnn(adjacency, mask, noise.float()[..., :2]),
        ValueError,
        r"noise .*\(4, 7, 3\), given \(4, 7, 2\)",
    ),
    (lambda: egnn(adjacency, None, noise.float() / 0), ValueError, "noise to be finite"),
    (lambda: egnn(adjacency, None, noise.to("meta").float()), ValueError, "noise to be on cpu"),
    (lambda: gnn(adjacency, mask, noise), ValueError, "noise is not for the encoder 'gnn'"),
    (
        lambda: reconstruction_loss(ones(4, 6, 6), adjacency),
        ValueError,
        r"the shape of logits, \(4, 6, 6\), given \(4, 7, 7\)",
    ),
    (lambda: reconstruction_loss(ones(7, 7), adjacency), ValueError, r"logits .* given \(7, 7\)"),
    (
        lambda: reconstruction_loss(ones(4, 7, 7), adjacency.float()),
        TypeError,
        "adjacency to be torch.bool",
    ),
    (
        lambda: reconstruction_scores(ones(4, 7, 7), adjacency, mask[:3]),
        ValueError,
        r"mask .*\(4, 7\), given \(3, 7\)",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), refusals)
def test_the_autoencoder_refuses(call, error, message):
    with pytest.raises(error, match=message):
        call()


# ---- what no encoder without noise can do ----


def graph_of(nodes: int, edges: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    adjacency = torch.zeros(1, nodes, nodes, dtype=torch.bool)
    for i, j in edges:
        adjacency[0, i, j] = adjacency[0, j, i] = True
    return adjacency, torch.ones(1, nodes, dtype=torch.bool)


@pytest.mark.parametrize(
    ("nodes", "edges", "floor"),
    [
        (4, [(0, 1), (1, 2), (2, 3), (3, 0)], 100 / 3),  # a cycle: its diagonals
        (3, [(0, 1), (1, 2)], 0.0),  # a path: the pair of ends is no edge
        (6, [(0, 1), (2, 3), (4, 5)], 20.0),  # three edges of fifteen pairs, all nodes alike
    ],
)
def test_equal_codes_cost_what_can_be_counted_by_hand(nodes, edges, floor):
    adjacency, mask = graph_of(nodes, edges)
    assert equal_codes_floor(adjacency, mask) == pytest.approx(floor)
    padded = torch.nn.functional.pad(adjacency, (0, 2, 0, 2))
    assert equal_codes_floor(padded, torch.nn.functional.pad(mask, (0, 2))) == pytest.approx(floor)


def test_graphs_of_one_kind_share_their_answers():
    pair, none = graph_of(2, [(0, 1)]), graph_of(2, [])
    both = [torch.cat(parts) for parts in zip(pair, none, strict=True)]
    assert equal_codes_floor(*both) == 0  # their nodes' colours differ
