"""Families of known contacts: the sampler against exact probabilities, and what a seed decides."""

import itertools

import numpy as np
import pytest
import torch
from drawing import seeded
from torch import Tensor

from archbook.data import potts
from archbook.data.potts import (
    PottsDesign,
    PottsFamilies,
    PottsModels,
    coupling_table,
    draw_models,
    potts_families,
    sample_sequences,
    shuffle_within_columns,
)

SMALL = PottsDesign(columns=8, letters=4, contacts=5, beta=2.0)
TINY = PottsDesign(
    columns=4, letters=3, contacts=4, beta=1.0, shared=False, field_std=0.5, min_separation=1
)


def slow_energy(models: PottsModels, k: int, x: list[int]) -> float:
    """E of one sequence of family k, one term at a time."""
    energy = 0.0
    for i, letter in enumerate(x):
        energy -= models.fields[k, i, letter].item()
    for (i, j), J in zip(models.pairs[k].tolist(), models.couplings[k], strict=True):
        energy -= J[x[i], x[j]].item()
    return energy


def exact_probabilities(models: PottsModels, k: int) -> Tensor:
    """p of every sequence of family k, (letters, .., letters), by enumeration."""
    _, columns, letters = models.fields.shape
    states = itertools.product(range(letters), repeat=columns)
    p = torch.tensor([-slow_energy(models, k, list(x)) for x in states]).double().exp()
    return (p / p.sum()).view([letters] * columns)


def shares(sequences: Tensor, letters: int) -> Tensor:
    """How often each possible sequence occurs among the rows, (letters, .., letters)."""
    columns = sequences.shape[1]
    place = torch.tensor([letters ** (columns - 1 - i) for i in range(columns)])
    counts = torch.bincount(sequences.long() @ place, minlength=letters**columns)
    return (counts / len(sequences)).double().view([letters] * columns)


def apart(p: Tensor, q: Tensor) -> float:
    """Total variation distance."""
    return 0.5 * (p - q).abs().sum().item()


def pair_counts(sequences: Tensor, i: int, j: int) -> Tensor:
    """How often letters a, b stand in columns i, j of the rows of all families, (20, 20)."""
    code = 20 * sequences[..., i].long() + sequences[..., j]
    return torch.bincount(code.flatten(), minlength=400).view(20, 20)


# ---- models ----


@pytest.mark.shapes
@pytest.mark.parametrize(
    "design",
    [
        SMALL,
        PottsDesign(),
        PottsDesign(columns=9, contacts=9, min_separation=2),  # every column in two contacts
        PottsDesign(columns=12, contacts=6, max_degree=1, min_separation=4),
    ],
)
def test_contacts_keep_separation_and_degree(design):
    contacts = draw_models(30, design).contact_map()
    assert contacts.shape == (30, design.columns, design.columns)
    assert torch.equal(contacts, contacts.mT)
    assert contacts.sum((1, 2)).tolist() == [2 * design.contacts] * 30
    assert contacts.sum(2).max() == design.max_degree
    i, j = torch.triu_indices(design.columns, design.columns, 0)
    assert not contacts[:, i, j][:, j - i < design.min_separation].any()


def test_every_pair_far_enough_apart_may_be_a_contact():
    met = draw_models(300, SMALL).contact_map().any(0)
    i, j = torch.triu_indices(8, 8, SMALL.min_separation)
    assert met[i, j].all()


def test_fields_have_the_designs_spread_and_mean_zero():
    fields = draw_models(300, PottsDesign(field_std=0.3)).fields
    assert fields.mean().item() == pytest.approx(0, abs=0.01)
    assert fields.std().item() == pytest.approx(0.3, abs=0.01)


@pytest.mark.parametrize("letters", [2, 5, 6, 20])
def test_a_letter_likes_its_mirror_image_and_the_table_prefers_none(letters):
    C = coupling_table(letters)
    assert C.argmax(1).tolist() == list(range(letters))[::-1]
    assert C.sum(0).abs().max() < 1e-12
    assert C.sum(1).abs().max() < 1e-12
    R = torch.eye(letters).double().flip(1)
    P = torch.eye(letters).double() - 1 / letters
    torch.testing.assert_close(C, P @ R @ P)


def test_of_the_same_a_letter_likes_itself_and_twice_the_table_is_the_table():
    C = coupling_table(6, "same")
    assert C.argmax(1).tolist() == list(range(6))
    torch.testing.assert_close(C @ C, C)
    opposite = coupling_table(6)
    torch.testing.assert_close(opposite @ opposite, C)  # partners of a partner like the same
    models = draw_models(1, PottsDesign(letters=6, beta=3.0, likes="same"))
    torch.testing.assert_close(models.couplings[0, 0], 3 * C)


def test_families_share_the_table_of_all_their_contacts():
    models = draw_models(3, SMALL)
    wanted = 2.0 * coupling_table(4)
    torch.testing.assert_close(models.couplings, wanted.expand(3, 5, 4, 4))


def test_couplings_that_are_not_shared_are_normal_numbers_times_beta():
    design = PottsDesign(columns=32, letters=8, contacts=24, beta=0.5, shared=False)
    couplings = draw_models(5, design).couplings
    assert couplings.mean().item() == pytest.approx(0, abs=0.02)
    assert couplings.std().item() == pytest.approx(0.5, abs=0.02)
    assert len(couplings.unique()) == couplings.numel()


def test_the_energy_equals_a_slow_loop():
    models = draw_models(3, TINY)
    sequences = torch.randint(3, (3, 6, 4), dtype=torch.uint8)
    energy = models.energy(sequences)
    assert energy.shape == (3, 6)
    for k in range(3):
        for row in range(6):
            wanted = slow_energy(models, k, sequences[k, row].tolist())
            assert energy[k, row].item() == pytest.approx(wanted, abs=1e-12)


# ---- sampling ----


@pytest.mark.parametrize("k", [0, 1])
def test_gibbs_sampling_reaches_the_exact_distribution(k):
    models = draw_models(2, TINY)
    assert models.contact_map().sum(2).max() == 2  # a column with two neighbours
    p = exact_probabilities(models, k)
    q = shares(sample_sequences(models, rows=15_000, sweeps=15)[k], 3)
    # 81 states: chance alone gives about 0.025
    assert apart(p, q) < 0.04
    # what a transposed coupling, no fields or independent columns would give is further off
    turned = PottsModels(models.fields, models.pairs, models.couplings.mT)
    flat = PottsModels(0 * models.fields, models.pairs, models.couplings)
    free = PottsModels(models.fields, models.pairs, 0 * models.couplings)
    assert min(apart(p, exact_probabilities(m, k)) for m in (turned, flat, free)) > 0.1


def test_without_sweeps_letters_are_uniform():
    sequences = sample_sequences(draw_models(4, SMALL), rows=5000, sweeps=0)
    share = torch.bincount(sequences.flatten().long()) / sequences.numel()
    torch.testing.assert_close(share, torch.full((4,), 0.25), atol=0.01, rtol=0)


@pytest.mark.slow
def test_the_energy_falls_and_then_stays():
    models = draw_models(40, PottsDesign())
    start, settled, later = (
        models.energy(sample_sequences(models, 48, sweeps)).mean().item() for sweeps in (0, 30, 60)
    )
    assert start == pytest.approx(0, abs=0.5)
    assert settled < -16.5
    assert later == pytest.approx(settled, abs=0.03 * (start - settled))


@pytest.mark.shapes
def test_sequences_are_rows_of_letters():
    families = potts_families(3, SMALL, rows=7, sweeps=5)
    assert families.sequences.shape == (3, 7, 8)
    assert families.sequences.dtype == torch.uint8
    assert families.contacts.dtype == torch.bool
    assert sorted(families.sequences.unique().tolist()) == [0, 1, 2, 3]


def test_letters_in_contact_are_mirror_images_more_often_than_others():
    families = potts_families(20, PottsDesign())
    mirrored = families.sequences[..., None] + families.sequences[:, :, None] == 5
    frequency = mirrored.double().mean(1)
    assert frequency[families.contacts].mean() > 0.5  # two of three to one: e^2 / (e^2 + 5) = 0.6
    far = ~families.contacts & ~torch.eye(24, dtype=torch.bool)
    assert frequency[far].mean() < 0.25  # one in six, and a little through neighbours


@pytest.mark.parametrize("shared", [True, False])
def test_more_families_leave_the_first_ones_alone(shared, monkeypatch):
    monkeypatch.setattr(potts, "CHUNK", 3)
    design = PottsDesign(columns=8, letters=4, contacts=5, shared=shared)
    few, many = (potts_families(count, design, 6, sweeps=4) for count in (2, 7))
    assert torch.equal(few.sequences, many.sequences[:2])
    assert torch.equal(few.contacts, many.contacts[:2])
    monkeypatch.setattr(potts, "CHUNK", 100)
    assert torch.equal(potts_families(7, design, 6, sweeps=4).sequences, many.sequences)


def test_no_two_families_are_alike():
    families = potts_families(50, SMALL, rows=6, sweeps=1)
    assert len({tuple(s.flatten().tolist()) for s in families.sequences}) == 50
    assert len({tuple(c.flatten().tolist()) for c in families.contacts}) > 40


def test_the_seed_decides_the_families():
    one, again, two = (potts_families(3, SMALL, 6, sweeps=3, seed=s) for s in (1, 1, 2))
    assert torch.equal(one.sequences, again.sequences)
    assert not torch.equal(one.sequences, two.sequences)
    assert not torch.equal(one.contacts, two.contacts)
    parts = [potts_families(3, SMALL, 6, sweeps=3, seed=[1, part]).sequences for part in (0, 1)]
    assert not torch.equal(*parts)


def test_models_and_chains_draw_from_different_streams():
    model, chains = (potts._streams(1, 0, kind)[0].random(50) for kind in (0, 1))
    assert not np.isin(model, chains).any()


def test_letters_are_the_published_residues():
    vocabulary = ["<cls>", "<pad>", "<eos>", "<unk>", *"LAGVSERTIDPKQNFYMHWC"]
    letters = torch.arange(20, dtype=torch.uint8).view(1, 1, 20)
    families = PottsFamilies(letters, torch.zeros(1, 20, 20, dtype=torch.bool))
    tokens = families.tokens()
    assert tokens.dtype == torch.int64
    assert "".join(vocabulary[t] for t in tokens.flatten().tolist()) == "LAGVSERTIDPKQNFYMHWC"


# ---- the control ----


@pytest.mark.shapes
@pytest.mark.parametrize("shape", [(30, 5), (2, 30, 5)])
def test_the_null_control_keeps_every_columns_letters_exactly(shape):
    sequences = torch.randint(7, shape, dtype=torch.uint8)
    shuffled = shuffle_within_columns(sequences, seeded(1))
    assert shuffled.dtype == torch.uint8
    assert not torch.equal(shuffled, sequences)
    assert torch.equal(shuffled.sort(-2).values, sequences.sort(-2).values)


def test_the_null_control_makes_columns_independent():
    column = torch.arange(4, dtype=torch.uint8).repeat(2000)[:, None]
    sequences = column.expand(8000, 3)  # all columns alike
    assert pair_counts(sequences, 0, 2)[:4, :4].count_nonzero() == 4
    shuffled = shuffle_within_columns(sequences, seeded(1))
    for i, j in ((0, 1), (0, 2), (1, 2)):
        counts = pair_counts(shuffled, i, j)[:4, :4]
        torch.testing.assert_close(counts, torch.full((4, 4), 500), atol=90, rtol=0)


def test_the_null_control_obeys_its_generator():
    sequences = torch.randint(7, (2, 30, 5), dtype=torch.uint8)
    one, again, two = (shuffle_within_columns(sequences, seeded(s)) for s in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, two)


# ---- refusals ----


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: PottsDesign(columns=0), "wanted columns to be at least 1, given 0"),
        (lambda: PottsDesign(contacts=0), "wanted contacts to be at least 1, given 0"),
        (lambda: PottsDesign(min_separation=0), "wanted min_separation to be at least 1, given 0"),
        (lambda: PottsDesign(max_degree=-1), "wanted max_degree to be at least 1, given -1"),
        (lambda: PottsDesign(letters=1), "wanted letters to be at least 2, given 1"),
        (lambda: PottsDesign(letters=21), "wanted 2 to 20 letters, given 21"),
        (lambda: PottsDesign(beta=-1.0), "wanted beta >= 0 and finite, given -1"),
        (lambda: PottsDesign(field_std=np.inf), "wanted field_std >= 0 and finite, given inf"),
        (lambda: PottsDesign(beta=np.nan), "wanted beta >= 0 and finite, given nan"),
        (lambda: PottsDesign(contacts=25), "wanted at most 24 contacts .*, given 25"),
        (lambda: PottsDesign(columns=5, contacts=4), "wanted at most 3 contacts .*, given 4"),
        (lambda: PottsDesign(columns=3, contacts=1), "wanted at most 0 contacts .*, given 1"),
        # room for three by counting; but columns 2 and 3 have no partner
        (
            lambda: draw_models(
                1, PottsDesign(columns=6, contacts=3, max_degree=1, letters=2, min_separation=4)
            ),
            "wanted contacts that fit at random .*, given 3",
        ),
        (lambda: PottsDesign(likes="none"), "wanted likes .*, given 'none'"),
        (lambda: coupling_table(4, "all"), "wanted likes .*, given 'all'"),
        (lambda: coupling_table(1), "wanted letters to be at least 2, given 1"),
        (lambda: draw_models(0, SMALL), "wanted count to be at least 1, given 0"),
        (lambda: potts_families(-2, SMALL), "wanted count to be at least 1, given -2"),
        (lambda: potts_families(2, SMALL, rows=0), "wanted rows to be at least 1, given 0"),
        (lambda: potts_families(2, SMALL, sweeps=-1), "wanted sweeps to be at least 0, given -1"),
        (
            lambda: draw_models(2, SMALL).energy(torch.zeros(2, 5, 7, dtype=torch.uint8)),
            r"wanted sequences of shape \(2, rows, 8\), given \(2, 5, 7\)",
        ),
        (
            lambda: draw_models(2, SMALL).energy(torch.zeros(1, 5, 8, dtype=torch.uint8)),
            r"wanted sequences of shape \(2, rows, 8\), given \(1, 5, 8\)",
        ),
        (
            lambda: shuffle_within_columns(torch.zeros(5, dtype=torch.uint8)),
            r"wanted shape \(.., rows, columns\), given \(5,\)",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
