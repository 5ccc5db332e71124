"""What a network says of one alignment, against the steps that a reader would go by hand."""

import pytest
import torch
from drawing import gap
from plain_msa_transformer import FIRST_LETTER, START, letters, network_of
from refusals import each_raises
from torch import Tensor

from archbook.data.alignments import Alignment
from archbook.data.alphabet import LETTERS, decode
from archbook.msa_transformer import embed, letter_likings, masked_marginals, predict_contacts
from archbook.vocabulary import AMINO_ACIDS, MASK

TOKENS = letters(4, 7)
ALIGNMENT = Alignment(("q", "a", "b", "c"), decode(TOKENS))
starts = pytest.mark.parametrize("start", [True, False])


def net(start: bool = True, **options):
    return network_of(start_token=start, **options).eval()


def by_hand(tokens: Tensor, start: bool) -> Tensor:
    first = torch.full((len(tokens), int(start)), START)
    return torch.cat([first, tokens], 1)[None]


@starts
@pytest.mark.parametrize("given", [TOKENS, ALIGNMENT], ids=["tokens", "alignment"])
def test_contacts_are_those_of_the_network(given, start):
    found = predict_contacts(net(start), given)
    assert found.shape == (7, 7)
    assert gap(found, net(start)(by_hand(TOKENS, start), return_contacts=True).contacts[0]) < 1e-12
    assert gap(found, found.T) < 1e-12
    assert not found.requires_grad


@starts
@pytest.mark.parametrize("layer", [0, 1, 2, None])
def test_an_embedding_is_that_of_its_letter(layer, start):
    found = embed(net(start), ALIGNMENT, layer)
    last = 2 if layer is None else layer
    states = net(start).representations(by_hand(TOKENS, start), [last])[last][0]
    assert found.shape == (4, 7, 12)
    assert gap(found, states[:, int(start) :]) < 1e-12


def slow_marginals(start: bool) -> Tensor:
    """One column at a time, by the probabilities themselves."""
    found = []
    for c in range(TOKENS.shape[1]):
        masked = TOKENS.clone()
        masked[0, c] = MASK
        p = net(start)(by_hand(masked, start)).logits[0, 0, c + int(start)].softmax(-1)
        found.append((p[FIRST_LETTER : FIRST_LETTER + AMINO_ACIDS] / p[TOKENS[0, c]]).log())
    return torch.stack(found)


@starts
@pytest.mark.parametrize("most", [2**14, 60, 1])  # all columns in a pass, two, one
def test_a_marginal_is_the_log_odds_against_the_query_where_that_place_is_hidden(
    start, most, monkeypatch
):
    monkeypatch.setattr("archbook.msa_transformer.inference.CHUNK", most)
    found = masked_marginals(net(start), ALIGNMENT)
    assert found.shape == (7, 20)
    assert gap(found, slow_marginals(start)) < 1e-11
    own = [c for c in range(7) if TOKENS[0, c] < FIRST_LETTER + AMINO_ACIDS]
    assert not found[own, TOKENS[0, own] - FIRST_LETTER].any()


def test_a_place_that_is_seen_is_another_matter():
    """A broken twin, the wild-type marginals: the query's own letter is read off."""
    logits = net()(by_hand(TOKENS, start=True)).logits[0, 0, 1:]
    seen = logits[:, FIRST_LETTER : FIRST_LETTER + AMINO_ACIDS] - logits.gather(
        1, TOKENS[0, :, None]
    )
    assert gap(seen, slow_marginals(start=True)) > 0.1


def test_columns_and_letters_may_be_chosen():
    whole = masked_marginals(net(), ALIGNMENT)
    some = masked_marginals(net(), ALIGNMENT, (6, 9), columns=[5, 0])
    assert gap(some, whole[[5, 0], 2:5]) < 1e-12
    assert LETTERS[2:5] == "GVS"  # the letters of ids 6, 7 and 8


def test_the_answers_lie_where_the_alignment_does_and_the_tokens_stay_as_they_are():
    before = TOKENS.clone()
    for ask in (predict_contacts, embed, masked_marginals):
        assert ask(net().float(), TOKENS).device == TOKENS.device
    assert torch.equal(TOKENS, before)


NET = net()
test_what_is_no_question_is_refused = each_raises(
    [
        *(
            (lambda ask=ask: ask(net().train(), TOKENS), ValueError, r"`model.eval\(\)`, given one")
            for ask in (predict_contacts, embed, masked_marginals)
        ),
        *(
            (lambda ask=ask: ask(NET, "mine.a3m"), TypeError, "an Alignment or .*, given str")
            for ask in (predict_contacts, embed, masked_marginals)
        ),
        (lambda: predict_contacts(NET, TOKENS[None]), ValueError, r"\(rows, columns\), given"),
        (lambda: predict_contacts(NET, TOKENS[:0]), ValueError, "no axis may be empty"),
        (
            lambda: predict_contacts(NET, by_hand(TOKENS, True)[0]),
            ValueError,
            "without the start token 0, given some with it",
        ),
        (lambda: predict_contacts(NET, TOKENS.byte()), TypeError, "tokens to be torch.int64"),
        (lambda: predict_contacts(NET, TOKENS + 30), ValueError, r"tokens in \[0, 32\]"),
        (
            lambda: predict_contacts(NET, letters(17, 7)),
            ValueError,
            "at most max_rows = 16 rows, given 17",
        ),
        (
            lambda: predict_contacts(NET, Alignment(("q",), ("ACJ",))),
            ValueError,
            "given 'J' in row 0, column 2",
        ),
        (
            lambda: predict_contacts(unfitted(), TOKENS),
            ValueError,
            "given one that was never fitted",
        ),
        (lambda: embed(NET, TOKENS, 3), ValueError, r"out of 0 to 2, given \[3\]"),
        (lambda: masked_marginals(NET, TOKENS, columns=[7]), ValueError, r"0 to 6, given \[7\]"),
        (lambda: masked_marginals(NET, TOKENS, columns=[]), ValueError, r"0 to 6, given \[\]"),
        (lambda: masked_marginals(NET, TOKENS, columns=[-1]), ValueError, "at least 0, given -1"),
        (lambda: masked_marginals(NET, TOKENS, (4, 34)), ValueError, r"of 33, given \(4, 34\)"),
        (lambda: masked_marginals(NET, TOKENS, (9, 9)), ValueError, r"of 33, given \(9, 9\)"),
    ]
)


def unfitted():
    model = net()
    model.contact_head.forget()
    return model


BLIND = dict(start_token=False, row_positions="none", column_positions=False)


def test_the_first_tied_scores_are_the_likings_of_all_pairs_of_letters_up_to_terms_of_one_column():
    net, heads, width = network_of(**BLIND).eval(), 3, 4
    W = letter_likings(net, (4, 24))
    tokens = TOKENS.clamp(max=23)  # no gap
    x = torch.nn.functional.one_hot(tokens - 4, 20).double()
    wanted = torch.einsum("mia,hab,mjb->hij", x, W, x) / (len(tokens) * width) ** 0.5
    scores = net.row_attentions(tokens[None])[0, 0].log()  # but for what softmax takes from a row

    def centred(s):  # terms of one column, and the centring of W, are gone
        s = s - s.mean(1, keepdim=True)
        return s - s.mean(2, keepdim=True)

    assert W.shape == (heads, 20, 20)
    assert W.sum(1).abs().max() < 1e-12
    assert gap(centred(scores), centred(wanted)) < 1e-12


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (dict(row_positions="query"), "given row_positions"),
        (dict(column_positions=True), "given column_positions"),
        (dict(neighbours=1), "given neighbours"),
    ],
)
def test_letters_that_depend_on_their_place_have_no_likings(options, fault):
    with pytest.raises(ValueError, match=f"wanted a network without positions .*, {fault}"):
        letter_likings(network_of(**BLIND | options))


@pytest.mark.parametrize("letters", [(5, 5), (-1, 4), (4, 99)])
def test_letters_outside_the_vocabulary_are_refused(letters):
    with pytest.raises(ValueError, match="wanted letters 0 <= first < last <= .*, given"):
        letter_likings(network_of(**BLIND), letters)
