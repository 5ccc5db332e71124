"""What the RNA experiment decides itself: who is tested, what a read-out sees, what is asked."""

from types import ModuleType

import pytest
import torch
from drawing import seeded
from scripts import script

from archbook.data.rna_folds import rna_groups
from archbook.vocabulary import FIRST_LETTER, MASK, PADDING

pytestmark = pytest.mark.slow  # all families are read


@pytest.fixture(scope="module")
def rna() -> ModuleType:
    return script("experiments/msa_transformer/rna.py")


def test_each_family_is_tested_once(rna):
    tested = [i for k in rna.FOLDS for i in rna.fold_of(k, 60).tested]
    usable = [i for i, one in enumerate(rna.cores()) if rna.fits(one)]
    usable = [i for i in usable if len(rna.counted_pairs(rna.cores()[i])) >= rna.FEWEST_PAIRS]
    assert sorted(tested) == usable


@pytest.mark.parametrize("k", [0, 1, 2])
def test_no_group_is_in_two_parts_of_a_fold(rna, k):
    fold = rna.fold_of(k, 60)
    parts = [{rna_groups()[i] for i in part} for part in (fold.train, fold.valid, fold.tested)]
    assert not parts[0] & parts[1]
    assert not parts[0] & parts[2]
    assert not parts[1] & parts[2]
    assert set(fold.labelled) <= set(fold.train)
    assert 60 <= len(fold.valid) <= 80


def test_a_batch_has_padding_after_its_families_alone(rna):
    config = rna.Config()
    tokens = next(rna.batches(config, rna.fold_of(0, 60).train, seeded(0)))
    real = tokens != PADDING
    assert (real == real.any(2)[:, :, None] & real.any(1)[:, None]).all()
    assert real.any(0).all()
    assert tokens[real].min() >= FIRST_LETTER


def test_a_loss_asks_for_bases_only(rna):
    """A batch of gaps and unsure letters has nothing to ask; one base more, and there is."""
    model = rna.network(rna.SIZES["tiny"]["msa.0"])
    tokens = torch.full((1, 2, 40), FIRST_LETTER + rna.GAP)
    asked = dict(config=rna.Config(column_rate=1.0), draw=seeded(0), device=torch.device("cpu"))
    assert rna.loss_of(model, tokens, **asked).isnan()
    tokens[0, 0, 0] = FIRST_LETTER
    assert rna.loss_of(model, tokens, **asked).isfinite()


def test_a_column_is_hidden_whole_but_for_its_gaps(rna, monkeypatch):
    """What the network is shown where every column is to be predicted."""
    model = rna.network(rna.SIZES["tiny"]["msa.0"])
    tokens = torch.full((1, 3, 40), FIRST_LETTER)
    tokens[0, 1, 7] += rna.GAP
    shown = []
    encode = model.encode
    monkeypatch.setattr(model, "encode", lambda given: (shown.append(given), encode(given))[1])
    config = rna.Config(mask_rate=1e-6, column_rate=1.0)
    rna.loss_of(model, tokens, config, draw=seeded(0), device=torch.device("cpu"))
    assert (shown[0] == MASK).sum() == 3 * 40 - 1
    assert shown[0][0, 1, 7] == FIRST_LETTER + rna.GAP


def test_readouts_of_network_and_table_see_the_same_pairs(rna):
    """The pairs that are sampled hang on the families alone, not on the features."""
    sample, families = rna.Readouts.sample, rna.fold_of(0, 3).labelled[:2]
    found = []
    for features in (lambda rows: torch.ones(*2 * rows.shape[1:], 2), rna.table_features):
        readouts = rna.Readouts.__new__(rna.Readouts)  # not fitted
        readouts.features = features
        found.append(sample(readouts, families, 0.2, 8)[1])
    assert torch.equal(*found)


def test_without_column_attention_there_are_as_many_weights(rna):
    full = rna.SIZES["full"]
    count = {
        name: sum(p.numel() for p in rna.network(full[name]).parameters())
        for name in ("msa.0", "no_columns.0", "single.0", "single_wide.0")
    }
    assert count["no_columns.0"] == pytest.approx(count["msa.0"], rel=0.02)
    assert count["single_wide.0"] == pytest.approx(4 * count["single.0"], rel=0.1)


def test_the_likings_of_a_planted_table_are_found(rna):
    """A head whose queries and keys are the pairing table itself has likeness 1."""
    model = rna.network(rna.Config(layers=1, hidden=8, heads=1, neighbours=0))
    wanted = torch.zeros(4, 4)
    for a, b in rna.BASE_PAIRS:
        wanted[a, b] = wanted[b, a] = 1
    with torch.no_grad():
        model.letters.weight.zero_()
        model.letters.weight[slice(*rna.BASES), :4] = torch.eye(4)
        weight = model.blocks[0].row.qkv.weight
        weight[:16].zero_()
        weight[:4, :4] = torch.eye(4)
        weight[8:12, :4] = wanted
    assert rna.likings(model)["likeness_same"] == [pytest.approx(1, abs=1e-3)]


def test_the_head_that_agrees_is_the_one_that_holds_what_is_common(rna):
    common = torch.randn(30, 30, generator=seeded(0))
    maps = torch.randn(30, 30, 5, generator=seeded(1))
    maps[..., 1:4] += 2 * common[..., None]
    maps[..., 3] += 4 * common
    assert rna.agreement(maps).argmax() == 3


def test_stems_help_the_pair_whose_neighbours_are_sure(rna):
    score = torch.zeros(12, 12)
    score[2, 9] = score[4, 7] = 1.0
    score = score + score.T
    found = rna.along_stems({"x": score})["x_stacked"]
    assert found[3, 8] == found[8, 3] == 2
