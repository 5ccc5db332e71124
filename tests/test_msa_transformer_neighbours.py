"""Letters that know their neighbours: the equation, edges, padding, and what a map can see."""

import pytest
import torch
from drawing import seeded
from refusals import each_raises
from torch.nn.functional import pad

from archbook.msa_transformer import MSATransformer, NeighbourEmbedding
from archbook.vocabulary import PADDING

TOKENS = torch.randint(4, 9, (2, 6, 3), generator=seeded(0))  # (batch, columns, rows)


@pytest.mark.parametrize("neighbours", [1, 2, 7])
def test_a_place_holds_its_letter_and_those_beside_it(neighbours):
    layer = NeighbourEmbedding(33, 8, neighbours).double()
    found = layer(TOKENS)
    offsets = [d for d in range(-neighbours, neighbours + 1) if d]
    for i in range(6):
        wanted = layer.weight[TOKENS[:, i]]
        for table, d in zip(layer.near, offsets, strict=True):
            if 0 <= i + d < 6:
                wanted = wanted + table[TOKENS[:, i + d]]
        torch.testing.assert_close(found[:, i], wanted)


def test_padding_says_what_the_edge_says():
    layer = NeighbourEmbedding(33, 8, 2)
    wide = pad(TOKENS, (0, 0, 0, 4), value=PADDING)
    torch.testing.assert_close(layer(wide)[:, :6], layer(TOKENS))


def test_padding_learns_nothing():
    layer = NeighbourEmbedding(33, 8, 1)
    layer(pad(TOKENS, (0, 0, 0, 4), value=PADDING)).square().sum().backward()
    assert layer.near.grad is not None
    assert layer.near.grad[:, PADDING].abs().max() == 0
    assert layer.near.grad.abs().max() > 0


def network(neighbours: int) -> MSATransformer:
    torch.manual_seed(0)
    return MSATransformer(
        layers=1,
        hidden=16,
        heads=2,
        ffn=16,
        row_positions="none",
        column_positions=False,
        start_token=False,
        neighbours=neighbours,
    ).eval()


@pytest.mark.parametrize("neighbours", [0, 1])
def test_without_neighbours_columns_may_change_places(neighbours):
    """The broken twin: with them, their order is known."""
    order = torch.randperm(6, generator=seeded(1))
    tokens = TOKENS.transpose(1, 2)
    model = network(neighbours)
    maps = model.row_attentions(tokens)[..., order, :][..., order]
    moved = model.row_attentions(tokens[..., order])
    assert torch.allclose(maps, moved, atol=1e-6) == (neighbours == 0)


def test_new_weights_are_drawn_for_the_neighbours_too():
    model = network(1)
    assert isinstance(model.letters, NeighbourEmbedding)
    before = model.letters.near.clone()
    model.reset_parameters()
    assert not torch.equal(model.letters.near, before)
    assert model.letters.near[:, PADDING].abs().max() == 0


test_no_embedding_is_built_from = each_raises(
    [
        (lambda: NeighbourEmbedding(33, 8, 0), ValueError, "neighbours to be at least 1, given 0"),
        (lambda: network(-1), ValueError, "neighbours to be at least 1, given -1"),
    ]
)
