"""What the toy experiment measures by itself: learned tables, a frozen scale, two-step pairs."""

import pytest
import torch
from scripts import script

from archbook.data.potts import coupling_table
from archbook.msa_transformer import TiedRowAttention

potts = script("experiments/msa_transformer/potts.py")


def small(tie: str = "sqrt", **more):
    torch.manual_seed(0)
    sizes = dict(rows=8, letters=4, layers=2, hidden=8, heads=2, ffn=16)
    config = potts.Config(tie, **sizes | more)
    return potts.MSATransformer(**potts.arguments(config)).eval(), config


def maps_of(model, rows: int):
    tokens = torch.randint(4, 8, (1, rows, 5), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return model.row_attentions(tokens)


def test_a_frozen_scale_changes_nothing_up_to_the_rows_of_training(monkeypatch):
    monkeypatch.setattr(potts.FrozenScale, "most", 8)
    model, _ = small()
    late = potts.frozen(model)
    for rows in (3, 8):
        torch.testing.assert_close(maps_of(late, rows), maps_of(model, rows), rtol=0, atol=0)
    assert not torch.equal(maps_of(late, 16), maps_of(model, 16))


def test_beyond_them_a_frozen_scale_is_a_mean(monkeypatch):
    """The same row 8 or 32 times over: the mean gives one map, the root a sharper one."""
    monkeypatch.setattr(potts.FrozenScale, "most", 8)
    model, _ = small()
    row = torch.tensor([4, 5, 6, 7, 4]).repeat(32, 1)[None]
    few, many = (potts.frozen(model).row_attentions(row[:, :rows]) for rows in (8, 32))
    torch.testing.assert_close(few, many)
    few, many = (model.row_attentions(row[:, :rows]) for rows in (8, 32))
    assert (few - many).abs().max() > 1e-4


def test_freezing_leaves_the_network_as_it_was():
    model, _ = small()
    assert potts.frozen(model) is not model
    assert all(type(block.row) is TiedRowAttention for block in model.blocks)


@pytest.mark.parametrize(("likes", "sign"), [("opposite", 1), ("same", 1), ("opposite", -1)])
def test_a_network_whose_heads_hold_the_table_is_like_it(monkeypatch, likes, sign):
    model, config = small(likes=likes)
    held = sign * coupling_table(4, likes) / 3
    monkeypatch.setattr(potts, "letter_likings", lambda *_: torch.stack([held, 2 * held]))
    found = potts.learned_table(model, config)
    assert found["likeness"] == pytest.approx(sign)
    assert torch.tensor(found["liking"]).abs().max() == 1


def test_two_steps_share_a_partner_and_are_no_contacts():
    contacts = torch.zeros(5, 5, dtype=torch.bool)
    for i, j in ((0, 1), (1, 2), (2, 0), (2, 3)):  # a triangle with a tail; column 4 is alone
        contacts[i, j] = contacts[j, i] = True
    found = potts.two_steps(contacts[None])[0].triu().nonzero().tolist()
    assert found == [[0, 3], [1, 3]]


def test_each_family_is_kept_beside_the_mean():
    found = potts.summary("x", torch.tensor([0.25, 0.5, 1.0]))
    assert found["each_x"] == [0.25, 0.5, 1.0]
    assert found["precision_x"] == pytest.approx(7 / 12)
