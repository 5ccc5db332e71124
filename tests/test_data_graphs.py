"""Random graphs: their sizes and densities, and that no two share what a seed once made equal."""

import pytest
import torch
from torch import Tensor

from archbook.data.graphs import GraphSet, community_graphs, erdos_renyi_graphs

FAMILIES = pytest.mark.parametrize(
    ("draw", "nodes"), [(community_graphs, 20), (erdos_renyi_graphs, 16)]
)


def sizes(graphs: GraphSet) -> Tensor:
    return graphs.mask.sum(1)


def density(graphs: GraphSet) -> float:
    """Edges over pairs, of all graphs together."""
    n = sizes(graphs)
    return float(graphs.adjacency.sum() / (n * (n - 1)).sum())


def fewest_across(adjacency: Tensor, nodes: int) -> tuple[int, int]:
    """(edges across, size of the first part) where nodes 0..k-1 | k.. are least linked."""
    splits = range(max(6, nodes - 10), min(10, nodes - 6) + 1)
    return min((int(adjacency[:k, k:].sum()), k) for k in splits)


def inside_patterns(graphs: GraphSet) -> set[tuple[bool, ...]]:
    """The different subgraphs of the first six nodes, which are of one community."""
    return {tuple(a[:6, :6].flatten().tolist()) for a in graphs.adjacency}


@pytest.mark.shapes
@FAMILIES
def test_graphs_are_undirected_without_self_loops_nor_edges_at_padding(draw, nodes):
    graphs = draw(200)
    assert graphs.adjacency.dtype == graphs.mask.dtype == torch.bool
    assert graphs.adjacency.shape == (200, nodes, nodes)
    assert torch.equal(graphs.adjacency, graphs.adjacency.mT)
    assert not graphs.adjacency.diagonal(dim1=1, dim2=2).any()
    assert not graphs.adjacency[~graphs.mask].any()


@FAMILIES
def test_the_real_nodes_come_first(draw, nodes):
    graphs = draw(50)
    assert torch.equal(graphs.mask, torch.arange(nodes) < sizes(graphs)[:, None])


def test_two_communities_have_twelve_to_twenty_nodes_as_two_fair_draws_from_six_to_ten():
    n = sizes(community_graphs(4000))
    share = torch.bincount(n, minlength=21)[12:] / 4000
    fair = torch.tensor([1, 2, 3, 4, 5, 4, 3, 2, 1]) / 25
    torch.testing.assert_close(share, fair, atol=0.03, rtol=0)


def test_seven_of_ten_pairs_inside_a_community_are_edges():
    graphs = community_graphs(2000)
    inside = graphs.adjacency[:, :6, :6].sum() / (2000 * 30)  # the first six are always of one
    assert inside == pytest.approx(0.7, abs=0.01)


def test_every_community_graph_holds_together_by_few_edges():
    graphs = community_graphs(1000)
    n = sizes(graphs).tolist()
    across = [fewest_across(a, k)[0] for a, k in zip(graphs.adjacency, n, strict=True)]
    assert min(across) == 1
    # 0.01 of 64 pairs, and one more where there is none: 0.64 + 0.53
    assert sum(across) / 1000 == pytest.approx(1.17, abs=0.1)


def test_an_edge_that_was_forced_may_lie_anywhere_across():
    graphs = community_graphs(500)
    senders, receivers = set(), set()
    for adjacency, n in zip(graphs.adjacency, sizes(graphs).tolist(), strict=True):
        links, k = fewest_across(adjacency, n)
        if links == 1:
            i, j = adjacency[:k, k:].nonzero()[0].tolist()
            senders.add(i)
            receivers.add(j)
    assert senders == receivers == set(range(10))


def test_more_pairs_are_edges_than_in_the_papers_communities():
    # its table says 31.79 % for predicting no edge; fresh graphs: (2 * 29 * 0.7 + 1.17) / 122
    assert density(community_graphs(4000)) == pytest.approx(0.342, abs=0.003)


def shares_no_insides(graphs: GraphSet) -> bool:
    """Whether the insides of 500 graphs are about as many as chance gives (the files had 25)."""
    return len(inside_patterns(graphs)) > 450


def test_every_graph_has_communities_of_its_own():
    assert shares_no_insides(community_graphs(500))


def test_the_check_notices_insides_drawn_from_one_seed():
    once = community_graphs(25)
    repeated = GraphSet(once.adjacency.repeat(20, 1, 1), once.mask.repeat(20, 1))
    assert not shares_no_insides(repeated)


def test_erdos_renyi_graphs_cycle_through_seven_to_sixteen_nodes():
    assert sizes(erdos_renyi_graphs(23)).tolist() == [*range(7, 17), *range(7, 17), 7, 8, 9]


@pytest.mark.parametrize("p", [0.0, 0.2, 0.25, 1.0])
def test_the_pairs_of_an_erdos_renyi_graph_are_edges_with_chance_p(p):
    assert density(erdos_renyi_graphs(3000, p=p)) == pytest.approx(p, abs=0.004)


@FAMILIES
def test_the_seed_decides_the_graphs(draw, nodes):
    assert torch.equal(draw(20, seed=1).adjacency, draw(20, seed=1).adjacency)
    assert not torch.equal(draw(20, seed=1).adjacency, draw(20, seed=2).adjacency)
    assert not torch.equal(draw(20, seed=[1, 0]).adjacency, draw(20, seed=[1, 1]).adjacency)


@FAMILIES
def test_more_graphs_leave_the_first_ones_alone(draw, nodes):
    few, many = draw(10), draw(70)
    assert torch.equal(few.adjacency, many.adjacency[:10])
    assert torch.equal(few.mask, many.mask[:10])


@FAMILIES
@pytest.mark.parametrize("count", [0, -3])
def test_fewer_than_one_graph_is_refused(draw, nodes, count):
    with pytest.raises(ValueError, match=f"wanted count to be at least 1, given {count}"):
        draw(count)


@pytest.mark.parametrize("p", [-0.1, 1.5, float("nan")])
def test_a_chance_outside_zero_to_one_is_refused(p):
    with pytest.raises(ValueError, match=f"wanted 0 <= p <= 1, given {p}"):
        erdos_renyi_graphs(5, p=p)
