"""What the RNA experiment decides itself: who is tested, what a read-out sees, what is asked."""

from types import ModuleType

import pytest
import torch
from drawing import seeded
from scripts import script

from archbook.data.rna_folds import rna_groups
from archbook.vocabulary import FIRST_LETTER, PADDING

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
    asked = dict(config=rna.Config(mask_rate=1.0), draw=seeded(0), device=torch.device("cpu"))
    assert rna.loss_of(model, tokens, **asked).isnan()
    tokens[0, 0, 0] = FIRST_LETTER
    assert rna.loss_of(model, tokens, **asked).isfinite()


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
    declared = rna.SIZES["full"] | rna.SIZES["more"]
    count = {
        name: sum(p.numel() for p in rna.network(declared[name]).parameters())
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


@pytest.mark.parametrize("along", [-1, 1])
def test_a_map_of_stems_is_told_from_one_of_runs_beside_the_diagonal(rna, along):
    """The broken twin: runs in which both columns go forwards are no stems."""
    noise = torch.randn(40, 40, 2, generator=seeded(0))
    planted = noise.clone()
    for start, end in ((3, 25), (10, 33)):
        for step in range(6):
            planted[start + step, end + along * step, 1] += 8
    found = rna.stems(planted)
    assert (found[1] > found[0] + 0.2) == (along == -1)


def test_stems_help_the_pair_whose_neighbours_are_sure(rna):
    score = torch.zeros(12, 12)
    score[2, 9] = score[4, 7] = 1.0
    score = score + score.T
    score[5, 6] = score[6, 5] = 1.0
    found = rna.along_stems({"x": score})
    assert found["x_stacked"][3, 8] == found["x_stacked"][8, 3] == 2
    assert found["x_stem"][3, 8] == found["x_stem"][8, 3] == 3
