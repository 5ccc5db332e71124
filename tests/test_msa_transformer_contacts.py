"""From maps to contacts: the background taken out, the read-out, and its fit."""

import copy
import io
import pickle

import pytest
import torch
from drawing import gap, normal, order_one, seeded
from plain_msa_transformer import slow_contact_features
from torch import Tensor

from archbook.checks import value_checks
from archbook.msa_transformer import ContactHead, MSATransformer, contact_features

BATCH, LAYERS, HEADS, COLUMNS = 3, 2, 3, 6


def maps(columns: int = COLUMNS, seed: int = 0) -> Tensor:
    return (2 * normal(BATCH, LAYERS, HEADS, columns, columns, seed=seed)).softmax(-1)


def head_of(seed: int = 0) -> ContactHead:
    """A read-out whose probabilities are neither all small nor all a half."""
    head = order_one(ContactHead(LAYERS * HEADS), seed)
    head.regression.weight.data *= 10
    return head


# ---- features ----


@pytest.mark.shapes
def test_the_features_equal_the_papers_loops():
    attentions = maps()
    found = contact_features(attentions)
    wanted = torch.stack([slow_contact_features(example) for example in attentions])
    assert gap(found, wanted) < 1e-12


def test_a_background_of_rank_one_leaves_nothing():
    u = normal(BATCH, LAYERS, HEADS, COLUMNS).exp()
    background = u[..., :, None] * u[..., None, :]
    assert gap(contact_features(background), torch.zeros(BATCH, COLUMNS, COLUMNS, 6)) < 1e-12


def test_rows_and_columns_sum_to_zero_and_the_features_are_symmetric():
    found = contact_features(maps())
    zeros = torch.zeros(BATCH, COLUMNS, LAYERS * HEADS)
    assert gap(found.sum(1), zeros) < 1e-12
    assert gap(found.sum(2), zeros) < 1e-12
    assert gap(found, found.transpose(1, 2)) < 1e-12


def test_of_one_column_nothing_is_left():
    """As where the other columns of a padded batch are no columns."""
    one = maps(1)
    assert (contact_features(one) == 0).all()
    real = torch.zeros(BATCH, COLUMNS, dtype=torch.bool)
    real[:, 0] = True
    assert contact_features(maps(), real).abs().max() < 1e-15


def test_a_coupled_pair_stands_out_of_its_background():
    u = normal(1, 1, 1, COLUMNS).exp()
    a = u[..., :, None] * u[..., None, :]
    a[..., 1, 4] += 0.5
    found = contact_features(a)[0, ..., 0]
    top = found.triu(1).flatten().argmax()
    assert divmod(int(top), COLUMNS) == (1, 4)


# ---- the head ----


@pytest.mark.shapes
def test_the_head_is_a_logistic_regression_on_the_features():
    head, attentions = head_of(), maps()
    logits = contact_features(attentions) @ head.regression.weight[0] + head.regression.bias
    assert gap(head(attentions), 1 / (1 + torch.exp(-logits))) < 1e-12
    assert head.regression.bias.abs() > 0.1


def test_contacts_are_symmetric_and_lie_between_zero_and_one():
    found = head_of()(maps())
    assert gap(found, found.mT) < 1e-12
    assert found.min() > 0
    assert found.max() < 1
    assert found.std() > 0.01


SIZES = [6, 4, 2]


@pytest.mark.shapes
@pytest.mark.parametrize("columns", [6, 9])
def test_padded_columns_are_cut_off_before_the_background(columns):
    head, attentions = head_of(), maps(columns)
    real = torch.arange(columns) < torch.tensor(SIZES)[:, None]
    features, contacts = contact_features(attentions, real), head(attentions, real)
    for b, size in enumerate(SIZES):
        cropped = attentions[b : b + 1, ..., :size, :size]
        assert gap(features[b, :size, :size], contact_features(cropped)[0]) < 1e-12
        assert gap(contacts[b, :size, :size], head(cropped)[0]) < 1e-12
        for padded in (features[b].clone(), contacts[b].clone()):
            padded[:size, :size] = 0
            assert not padded.any()


def test_the_background_over_padding_is_another():
    """What the published code does, and the test above would notice."""
    attentions = maps()
    there = contact_features(attentions)[:, :4, :4]
    assert gap(there, contact_features(attentions[..., :4, :4])) > 1e-3


def test_the_gradient_reaches_maps_and_read_out():
    head, attentions = head_of(), maps().requires_grad_()
    real = torch.arange(COLUMNS) < torch.tensor(SIZES)[:, None]
    (head(attentions, real)[:2] * normal(2, COLUMNS, COLUMNS)).sum().backward()
    inside = real[:, None, None, :, None] & real[:, None, None, None]
    assert not attentions.grad[~inside.expand_as(attentions)].any()
    assert attentions.grad[0].all()
    assert head.regression.weight.grad.all()
    assert head.regression.bias.grad.all()


# ---- the fit ----


def planted(pairs: int, weights: list[float], bias: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Features of several sizes, and contacts drawn from the model of these weights."""
    scales = torch.linspace(0.5, 2, len(weights)).double()
    features = scales * normal(pairs, len(weights), seed=seed)
    p = (features @ torch.tensor(weights).double() + bias).sigmoid()
    return features, torch.rand(pairs, generator=seeded(seed)) < p


def fitted(features: Tensor, contacts: Tensor, **settings) -> ContactHead:
    head = ContactHead(features.shape[1]).double()
    head.fit(features, contacts, **settings)
    return head


def optimality_gap(head: ContactHead, features: Tensor, contacts: Tensor, penalty: float) -> float:
    """How far the conditions of the optimum are missed, a share of the penalty.

    With r = sigmoid(A w + b) - y and A in units of its columns' deviations: sum r = 0;
    A_h^T r = -penalty sign(w_h), or within +-penalty where w_h = 0.
    """
    w, b = head.regression.weight[0], head.regression.bias
    r = (features @ w + b).sigmoid() - contacts.double()
    slope = (features / features.std(0, correction=0)).T @ r
    gaps = torch.where(w == 0, (slope.abs() - penalty).clamp(min=0), slope + penalty * w.sign())
    return float(torch.cat([gaps, r.sum()[None]]).detach().abs().max()) / penalty


SPARSE = [1.5, 0.0, -1.0, 0.0, 0.0, 0.8, 0.0, 0.0]


@pytest.mark.parametrize("penalty", [0.5, 1 / 0.15, 80.0])
def test_a_fit_meets_the_conditions_of_the_optimum(penalty):
    features, contacts = planted(800, SPARSE, -1.0)
    head = fitted(features, contacts, penalty=penalty)
    assert optimality_gap(head, features, contacts, penalty) < 1e-4


def test_a_fit_on_attention_maps_meets_the_conditions_of_the_optimum():
    """Small, alike features, as maps give them: the fit crawls, and arrives."""
    common = normal(600, 1)
    features = 0.05 * (common + 0.3 * normal(600, 12, seed=1)).abs()
    contacts = features[:, 3] + 0.02 * normal(600, seed=2) > 0.06
    head = fitted(features, contacts, penalty=0.3, steps=20000)
    assert optimality_gap(head, features, contacts, 0.3) < 1e-3


def test_the_scale_of_a_feature_does_not_matter():
    features, contacts = planted(800, SPARSE, -1.0)
    scale = torch.tensor([1e-4, 1.0, 30.0, 1.0, 1e3, 0.1, 1.0, 7.0]).double()
    plain, scaled = (fitted(A, contacts).regression for A in (features, features * scale))
    assert gap(scaled.weight[0] * scale, plain.weight[0]) < 1e-4
    assert gap(scaled.bias, plain.bias) < 1e-4
    assert (plain.weight != 0).any()


def test_a_feature_that_never_changes_gets_no_weight():
    features, contacts = planted(800, SPARSE, -1.0)
    features[:, 1] = 0.0
    assert fitted(features, contacts).regression.weight[0, 1] == 0


def test_the_conditions_notice_another_point():
    features, contacts = planted(800, SPARSE, -1.0)
    head = fitted(features, contacts)
    head.regression.bias.data += 0.05
    assert optimality_gap(head, features, contacts, 1 / 0.15) > 0.1


def test_a_sparse_truth_is_found():
    features, contacts = planted(4000, SPARSE, -1.0)
    truth = torch.tensor(SPARSE).double()
    chosen = fitted(features, contacts, penalty=150.0).regression.weight[0]
    assert ((chosen != 0) == (truth != 0)).all()
    assert (chosen.sign() == truth.sign()).all()
    free = fitted(features, contacts, penalty=1e-3).regression
    assert gap(free.weight[0], truth) < 0.2
    assert gap(free.bias, torch.tensor([-1.0]).double()) < 0.2


def test_a_fit_that_is_cut_short_warns():
    features, contacts = planted(300, SPARSE, -1.0)
    with pytest.warns(UserWarning, match="not converged: the last of 3 steps"):
        fitted(features, contacts, steps=3)


def test_the_bias_is_not_penalised():
    features, contacts = planted(1000, SPARSE, -1.0)
    regression = fitted(features, contacts, penalty=1e6).regression
    assert not regression.weight.any()
    assert gap(regression.bias, contacts.double().mean(0, keepdim=True).logit()) < 1e-6


def test_a_fit_knows_nothing_of_the_weights_before_it_and_keeps_their_dtype():
    features, contacts = planted(300, SPARSE, -1.0)
    one, other = ContactHead(8), ContactHead(8)
    other.regression.weight.data.fill_(50.0)
    for head in (one, other):
        head.fit(features.float(), contacts)
    assert torch.equal(one.regression.weight, other.regression.weight)
    assert one.regression.weight.dtype == torch.float32
    assert one.regression.weight.requires_grad


def test_under_autocast_pairs_have_probabilities_of_their_own():
    """In bfloat16 many pairs would share one, and nobody could rank them."""
    torch.manual_seed(0)
    attentions = torch.randn(1, LAYERS, HEADS, 60, 60).softmax(-1).bfloat16()
    head = ContactHead(LAYERS * HEADS)
    torch.nn.init.normal_(head.regression.weight)
    i, j = torch.triu_indices(60, 60, 6)
    wanted = head(attentions.float())
    with torch.autocast("cpu", torch.bfloat16):
        found = head(attentions)
    assert torch.equal(found, wanted)
    assert len(found[0, i, j].unique()) > 0.95 * len(i)
    rounded = found.bfloat16()  # what came out before
    assert len(rounded[0, i, j].unique()) < 0.2 * len(i)


# ---- a head that was never fitted ----


def loaded(head: ContactHead) -> ContactHead:
    stored, other = io.BytesIO(), fitted(*planted(100, [1.0] * 6, 0.0)).float()
    torch.save(head.state_dict(), stored)
    stored.seek(0)
    other.load_state_dict(torch.load(stored, weights_only=True), strict=True)
    return other


def renewed(head: ContactHead) -> ContactHead:
    """A network's own, after its weights were drawn anew."""
    net = MSATransformer(layers=LAYERS, hidden=6, heads=HEADS, ffn=6)
    net.contact_head.load_state_dict(head_of().state_dict())
    net.reset_parameters()
    return net.contact_head


WAYS = {
    "fresh": lambda head: head,
    "copied": copy.deepcopy,
    "pickled": lambda head: pickle.loads(pickle.dumps(head)),
    "loaded": loaded,
    "renewed": renewed,
}


@pytest.mark.parametrize("way", WAYS)
def test_a_head_that_was_never_fitted_refuses(way):
    head = WAYS[way](ContactHead(LAYERS * HEADS))
    with pytest.raises(ValueError, match=r"from `ContactHead.fit` .* one that was never fitted"):
        head(maps().float())


@pytest.mark.parametrize("way", [way for way in WAYS if way != "renewed"])
def test_a_fitted_head_answers(way):
    head = fitted(*planted(100, [1.0] * 6, 0.0)).float()
    assert torch.equal(WAYS[way](head)(maps().float()), head(maps().float()))


def test_where_no_values_are_read_an_unfitted_head_says_that_it_knows_nothing():
    with value_checks(False):
        assert ContactHead(LAYERS * HEADS)(maps().float()).isnan().all()
