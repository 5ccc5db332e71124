"""The network: its equations, symmetries, ragged batches, chunks, dropout, and that it learns."""

import math
from pathlib import Path

import pytest
import torch
from drawing import gap, normal, order_one, seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_msa_transformer import (
    FIRST_LETTER,
    GAP,
    PADDING,
    SILENT,
    SMALL,
    TIES,
    alignment,
    gradients,
    network_of,
    slow_block,
    slow_network,
)
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from archbook.msa_transformer import (
    AxialBlock,
    MSAOutput,
    MSATransformer,
    TiedRowAttention,
    mask_tokens,
    pad_alignments,
)
from archbook.timing.memory import peak_bytes

every_tie = pytest.mark.parametrize("tie", TIES)
POSITIONS = ("learned", "query", "none")
ALL = {"need_attention": True, "return_contacts": True}


def parts(output: MSAOutput) -> list[Tensor]:
    """Logits, row maps, column maps and contacts, as far as they were asked for."""
    given = (output.logits, output.row_attentions, output.column_attentions, output.contacts)
    return [part for part in given if part is not None]


def seen(outputs: list[Tensor]) -> Tensor:
    """One number that depends on everything."""
    return sum((out * normal(*out.shape, seed=9 + k)).sum() for k, out in enumerate(outputs))


# ---- the equations ----


@pytest.mark.shapes
@pytest.mark.parametrize("positions", POSITIONS)
@every_tie
def test_the_network_equals_the_papers_loops(tie, positions):
    net, tokens = network_of(tie=tie, row_positions=positions), alignment(2, 3, 4)
    found = parts(net(tokens, **ALL))
    with torch.no_grad():
        for b in range(2):
            assert gap([part[b] for part in found], [*slow_network(net, tokens[b], tie)]) < 1e-11


@every_tie
def test_the_block_equals_the_papers_loops(tie):
    block, x = order_one(AxialBlock(6, 3, 7, tie=tie)), normal(1, 3, 4, 6)
    found = block(x, None, True)
    with torch.no_grad():
        assert gap([part[0] for part in found], [*slow_block(block, x[0], tie)]) < 1e-12


def test_without_a_start_token_the_first_column_has_contacts_too():
    net = network_of(start_token=False)
    tokens = torch.randint(FIRST_LETTER, GAP, (2, 3, 4))
    found = net(tokens, **ALL)
    assert found.contacts.shape == (2, 4, 4)
    with torch.no_grad():
        wanted = slow_network(net, tokens[1])
    assert gap([part[1] for part in parts(found)], [*wanted]) < 1e-11


@pytest.mark.shapes
def test_what_is_not_asked_for_is_none_and_what_is_has_these_shapes():
    net, tokens = network_of(), alignment(2, 3, 5)
    assert parts(net(tokens))[0].shape == (2, 3, 5, 33)
    assert len(parts(net(tokens))) == 1
    some = net(tokens, return_contacts=True)
    assert some.contacts.shape == (2, 4, 4)
    assert some.row_attentions is None
    assert some.column_attentions is None
    other = net(tokens, need_attention=True)
    assert other.row_attentions.shape == (2, 2, 3, 5, 5)
    assert other.column_attentions.shape == (2, 2, 3, 5, 3, 3)
    assert other.contacts is None


def test_the_fused_form_gives_the_logits_of_the_map_form():
    net, tokens = network_of(), pad_alignments([alignment(1, 4, 6)[0], alignment(1, 2, 3)[0]])
    real = tokens != 1
    assert gap(net(tokens).logits[real], net(tokens, **ALL).logits[real]) < 1e-11


def test_logits_come_from_the_last_hidden_states():
    net, tokens = network_of(), alignment(2, 3, 4)
    x = net.encode(tokens)
    assert x.shape == (2, 3, 4, 12)
    chosen = tokens == tokens[0, 1, 2]
    assert gap(net.letter_logits(x[chosen]), net(tokens).logits[chosen]) < 1e-12


def test_row_maps_alone_are_those_of_the_whole_pass():
    net, tokens = network_of(), pad_alignments([alignment(1, 4, 6)[0], alignment(1, 2, 3)[0]])
    alone = net.row_attentions(tokens)
    assert gap(alone, net(tokens, **ALL).row_attentions) < 1e-12
    with pytest.raises(ValueError, match="wanted tokens in"):
        net.row_attentions(tokens.masked_fill(tokens == 1, 33))


def test_the_published_size_has_the_published_number_of_parameters():
    """Ours has no two rows of column positions for padding."""
    with torch.device("meta"):
        numbers = sum(weight.numel() for weight in MSATransformer().parameters())
    assert numbers == 115_616_434 - 2 * 768


# ---- symmetries ----


def row_law_error(net: MSATransformer, order: list[int]) -> tuple[float, float]:
    """How far permuted rows are from permuted logits, and from the same row maps and contacts."""
    tokens = alignment(2, 5, 7)
    still, moved = net(tokens, **ALL), net(tokens[:, order], **ALL)
    return gap(moved.logits, still.logits[:, order]), gap(
        [moved.row_attentions, moved.contacts], [still.row_attentions, still.contacts]
    )


MIXED, OTHERS_MIXED = [3, 0, 4, 1, 2], [0, 3, 4, 1, 2]


@every_tie
def test_without_row_positions_rows_may_be_permuted(tie):
    net = network_of(row_positions="none", tie=tie)
    assert max(row_law_error(net, MIXED)) < 1e-11


def test_with_the_query_marked_the_other_rows_may_be_permuted():
    net = network_of(row_positions="query")
    assert max(row_law_error(net, OTHERS_MIXED)) < 1e-11
    assert min(row_law_error(net, MIXED)) > 1e-3


@pytest.mark.parametrize("order", [MIXED, OTHERS_MIXED])
def test_with_learned_row_positions_the_order_of_rows_is_seen(order):
    assert min(row_law_error(network_of(row_positions="learned"), order)) > 1e-3


def column_law_error(net: MSATransformer) -> float:
    order = torch.tensor([0, 4, 2, 5, 1, 3])
    residues = order[1:] - 1
    tokens = alignment(2, 3, 6)
    still, moved = net(tokens, **ALL), net(tokens[..., order], **ALL)
    return gap(
        parts(moved),
        [
            still.logits[:, :, order],
            still.row_attentions[..., order, :][..., order],
            still.column_attentions[:, :, :, order],
            still.contacts[:, residues][:, :, residues],
        ],
    )


def test_without_column_positions_columns_may_be_permuted_and_with_them_not():
    assert column_law_error(network_of(column_positions=False)) < 1e-11
    assert column_law_error(network_of()) > 1e-3


def test_row_positions_of_one_number_are_removed_by_the_norm():
    """The first release's mistake: x + c and x have the same layer norm."""
    net, tokens = network_of(), alignment(2, 5, 7)
    net.row_positions.data.zero_()
    wanted = parts(net(tokens, **ALL))
    net.row_positions.data += normal(16, 1)
    assert gap(parts(net(tokens, **ALL)), wanted) < 1e-11
    net.row_positions.data += normal(16, 12)
    assert gap(parts(net(tokens, **ALL)), wanted) > 1e-2


def test_doubled_rows_multiply_the_first_blocks_scores_by_the_root_of_two():
    net, tokens = network_of(row_positions="none"), alignment(1, 3, 6)

    def scores(tokens: Tensor) -> Tensor:
        logits = net(tokens, need_attention=True).row_attentions[:, 0].log()
        return logits - logits.mean(-1, keepdim=True)

    doubled = scores(torch.cat([tokens, tokens], 1))
    assert gap(doubled, math.sqrt(2) * scores(tokens)) < 1e-10


# ---- layers and maps by choice ----


@pytest.mark.parametrize("chunk", [None, 7])
def test_the_states_of_a_layer_are_those_that_its_block_gives(chunk):
    net, tokens, seen = network_of(), alignment(2, 3, 5), []
    for block in net.blocks:
        block.register_forward_hook(lambda _, x, y: seen.extend([x[0], y[0]]))
    found = net.representations(tokens, [0, 2, 1], chunk=chunk)
    assert gap([found[0], found[1]], [seen[0], seen[2]]) == 0
    assert gap(found[2], net.encode(tokens)) < 1e-12
    assert gap(found[2], net.norm_after(seen[3])) < 1e-12
    assert list(net.representations(tokens, [1])) == [1]


def test_column_maps_are_kept_unless_they_are_not_wanted():
    net, tokens = network_of(), alignment(2, 3, 5)
    rows = net(tokens, need_attention=True, need_column=False)
    assert rows.column_attentions is None
    assert gap(rows.row_attentions, net.row_attentions(tokens)) == 0
    columns = net(tokens, need_column=True)
    assert columns.row_attentions is None
    assert columns.column_attentions.shape == (2, 2, 3, 5, 3, 3)


# ---- ragged batches ----


def ragged_error(net, examples, rows=0, columns=0, chunk=None, flags=ALL) -> float:
    """How far alignments in one batch are from themselves alone: outputs and gradients."""
    together = net(pad_alignments(examples, rows, columns), chunk=chunk, **flags)
    worst, total, total_alone = 0.0, 0.0, 0.0
    first = int(net.start_token)
    for b, example in enumerate(examples):
        r, c = example.shape
        alone = parts(net(example[None], **flags))
        inside = [together.logits[b : b + 1, :r, :c]]
        if flags:
            inside += [
                together.row_attentions[b : b + 1, ..., :c, :c],
                together.column_attentions[b : b + 1, :, :, :c, :r, :r],
                together.contacts[b : b + 1, : c - first, : c - first],
            ]
            padding = together.contacts[b].clone()
            padding[: c - first, : c - first] = 0
            assert not padding.any()
        worst = max(worst, gap(inside, alone))
        total, total_alone = total + seen(inside), total_alone + seen(alone)
    assert all(part.isfinite().all() for part in parts(together))
    found, wanted = gradients(net, total), gradients(net, total_alone)
    return max(worst, gap(found.values(), wanted.values()))


EXAMPLES = [alignment(1, r, c, seed=r + c)[0] for r, c in [(4, 5), (2, 7), (1, 4), (4, 3)]]


@pytest.mark.parametrize("chunk", [None, 9])
@pytest.mark.parametrize("flags", [ALL, {}], ids=["maps", "fused"])
@pytest.mark.parametrize("positions", POSITIONS)
@every_tie
def test_a_ragged_batch_gives_what_each_alignment_gives_alone(tie, positions, flags, chunk):
    net = network_of(tie=tie, row_positions=positions)
    assert ragged_error(net, EXAMPLES, 5, 8, chunk, flags) < 1e-9


@pytest.mark.slow
@pytest.mark.shapes
@settings(max_examples=12)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 5), st.integers(3, 6)), min_size=1, max_size=3),
    more=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    chunk=st.none() | st.integers(1, 40),
    seed=st.integers(0, 10**6),
)
def test_at_any_size_a_ragged_batch_gives_what_each_gives_alone(sizes, more, chunk, seed):
    examples = [alignment(1, r, c, seed + k)[0] for k, (r, c) in enumerate(sizes)]
    rows, columns = (max(s[axis] for s in sizes) + more[axis] for axis in (0, 1))
    assert ragged_error(network_of(seed, layers=1), examples, rows, columns, chunk) < 1e-9


class CountsPadding(TiedRowAttention):
    """A broken twin, as published: padded rows are counted in the scale."""

    def query_scale(self, x, mask):
        scale = super().query_scale(x, mask)
        return scale if mask is None else mask.rows * super().query_scale(x, None)


class BlindHead(nn.Module):
    """A broken twin, as published: the contact head takes the background over padding, too."""

    def __init__(self, head: nn.Module):
        super().__init__()
        self.head = head

    def forward(self, maps, columns=None):
        p = self.head(maps)
        return p if columns is None else p * (columns[:, None] & columns[:, :, None])


def test_the_law_of_ragged_batches_notices_what_the_published_code_does():
    counts, blind = network_of(), network_of()
    for block in counts.blocks:
        block.row.__class__ = CountsPadding
    assert ragged_error(counts, EXAMPLES) > 1e-3
    blind.contact_head = BlindHead(blind.contact_head)
    assert ragged_error(blind, EXAMPLES, columns=9) > 1e-3


def test_a_mask_says_the_same_as_padding_tokens_whatever_stands_there():
    net, tokens = network_of(), pad_alignments(EXAMPLES)
    mask = tokens != 1
    junk = torch.where(mask, tokens, torch.randint(33, tokens.shape))
    wanted, found = net(tokens, **ALL), net(junk, mask, **ALL)
    assert gap(found.logits[mask], wanted.logits[mask]) < 1e-11
    assert gap(found.contacts, wanted.contacts) < 1e-12
    assert gap(net.encode(junk, mask)[mask], net.encode(tokens)[mask]) < 1e-11


def test_a_mask_without_padding_changes_nothing():
    net, tokens = network_of(), alignment(2, 3, 5)
    everything = torch.ones(2, 3, 5, dtype=torch.bool)
    assert gap(parts(net(tokens, everything, **ALL)), parts(net(tokens, **ALL))) < 1e-12


# ---- chunks ----


@pytest.mark.parametrize("chunk", [1, 7, 15, 1000])
@pytest.mark.parametrize("flags", [ALL, {}], ids=["maps", "fused"])
@pytest.mark.parametrize("ragged", [False, True], ids=["whole", "ragged"])
@every_tie
def test_chunks_change_nothing(tie, ragged, flags, chunk):
    net = network_of(tie=tie).requires_grad_()  # the contact head too
    tokens = pad_alignments(EXAMPLES[:2]) if ragged else alignment(2, 3, 5)
    results = []
    for size in (None, chunk):
        outputs = parts(net(tokens, chunk=size, **flags))
        results.append([*outputs, *gradients(net, seen(outputs)).values()])
    assert gap(*results) < 1e-9
    assert gap(net.encode(tokens, chunk=chunk), net.encode(tokens)) < 1e-11


def longest(net: MSATransformer, tokens: Tensor) -> int:
    """The most tokens that the feed-forward of the first block gets at once."""
    seen = []
    hook = net.blocks[0].ffn.register_forward_hook(
        lambda _, x, y: seen.append(x[0][..., 0].numel())
    )
    net(tokens, return_contacts=True)
    hook.remove()
    return max(seen)


@pytest.mark.parametrize("ragged", [False, True], ids=["whole", "ragged"])
@every_tie
def test_without_gradients_many_tokens_come_in_chunks_that_change_nothing(tie, ragged, monkeypatch):
    net, tokens = (
        network_of(tie=tie),
        pad_alignments(EXAMPLES[:2]) if ragged else alignment(2, 3, 5),
    )
    wanted = parts(net(tokens, return_contacts=True))
    monkeypatch.setattr("archbook.msa_transformer.network.CHUNK", 12)
    with torch.no_grad():
        assert gap(parts(net(tokens, return_contacts=True)), wanted) < 1e-11
        assert gap(net.encode(tokens), net.encode(tokens, chunk=1000)) < 1e-11
        assert longest(net, tokens) <= 12
    assert longest(net, tokens) == tokens.numel()


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [None, 2**20])
def test_without_gradients_a_long_alignment_needs_less_than_twice_its_largest_tensor(chunk):
    """The inner layer of the feed-forward, of all tokens at once; without chunks it needs more."""
    given = {"rows": 128, "columns": 513, "hidden": 96, "chunk": chunk}
    target = f"{Path(__file__).parent / 'long_alignment.py'}:contacts"
    needed = peak_bytes(target, given, before={**given, "rows": 64})  # libraries take work space
    assert (needed < 2 * 4 * (128 * 513 * 4 * 96)) == (chunk is None)


# ---- dropout ----


def test_what_joins_the_skip_is_dropped_in_all_three_places():
    """Else every number changes."""
    block, x = AxialBlock(12, 3, 20, dropout=0.9).train(), torch.randn(2, 5, 6, 12)
    changed = (block(x)[0] != x).float().mean()
    assert 0.2 < changed < 0.35  # 1 - 0.9^3 = 0.271


@pytest.mark.parametrize("chunk", [None, 6])
@pytest.mark.parametrize("switch", SILENT)
def test_each_dropout_changes_training_and_not_evaluation(switch, chunk):
    tokens = alignment(1, 3, 5)
    wanted = network_of()(tokens).logits
    net = network_of(**{switch: 0.5})
    assert gap(net(tokens, chunk=chunk).logits, wanted) > 1e-2
    assert gap(net(tokens, chunk=chunk).logits, net(tokens, chunk=chunk).logits) > 1e-2
    assert gap(net.eval()(tokens, chunk=chunk).logits, wanted) < 1e-11


def dropped_places(switch: str) -> set[str]:
    """The modules whose results one switch changes though their inputs are the same."""
    net = network_of(layers=1, **{switch: 0.5})
    found = set()
    x = normal(1, 5, 3, 12)
    net.norm_before.register_forward_hook(lambda *_: x.transpose(1, 2))

    def compare(name):
        def hook(module, inputs, output):
            with torch.no_grad():
                silent = network_of(layers=1).get_submodule(name)
                wanted = silent.forward(*inputs)
            if gap(output, wanted) > 1e-9:
                found.add(name)

        return hook

    for name in ("drop", "blocks.0.drop", "blocks.0.ffn"):
        net.get_submodule(name).register_forward_hook(compare(name))
    if net.blocks[0].row.dropout:
        found.add("row map")
    if net.blocks[0].column.dropout:
        found.add("column map")
    net(alignment(1, 3, 5))
    return found


def test_each_dropout_acts_where_the_docstring_says():
    assert dropped_places("dropout") == {"drop", "blocks.0.drop"}
    assert dropped_places("attention_dropout") == {"row map", "column map"}
    assert dropped_places("activation_dropout") == {"blocks.0.ffn"}


# ---- training ----


def test_at_first_every_letter_is_equally_likely():
    net = MSATransformer(layers=2, hidden=128, heads=4, ffn=256).eval()
    tokens = alignment(2, 8, 20)
    with torch.no_grad():
        loss = cross_entropy(net(tokens).logits.flatten(0, 2), tokens.flatten())
    assert abs(float(loss) - math.log(33)) < 0.15


def test_every_parameter_gets_a_gradient():
    net = MSATransformer(**{**SMALL, **SILENT})
    nn.init.normal_(net.contact_head.requires_grad_(True).regression.weight)
    output = net(alignment(2, 16, 16), return_contacts=True)
    loss = output.logits.square().sum() + output.contacts.square().sum()
    loss.backward()
    silent = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


@pytest.mark.slow
def test_a_handful_of_alignments_is_learned_in_seconds():
    net = MSATransformer(**{**SMALL, **SILENT, "hidden": 24})
    tokens = alignment(4, 4, 10)
    masked, chosen = mask_tokens(tokens, seeded(0), rate=0.3)
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(60):
        loss = cross_entropy(net(masked).logits[chosen], tokens[chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.1


def test_the_table_of_letters_is_the_output_table():
    net, tokens = network_of(), alignment(1, 3, 5)
    assert sum("letters.weight" in name for name, _ in net.named_parameters()) == 1
    missing = FIRST_LETTER + 27 + 1  # the mask token, which is not in the alignment
    before = net(tokens).logits
    net.letters.weight.data[missing] += 1
    after = net(tokens).logits
    assert gap(after[..., :missing], before[..., :missing]) == 0
    assert gap(after[..., missing], before[..., missing]) > 1e-2


def test_reset_parameters_renews_everything():
    net = MSATransformer(**SMALL)
    for weight in net.parameters():
        weight.data.fill_(7.0)
    net.reset_parameters()
    fresh = MSATransformer(**SMALL)
    assert net.contact_head.regression.weight.isnan().all()  # fitted no more
    pairs = zip(net.named_parameters(), fresh.parameters(), strict=True)
    for (name, again), new in pairs:
        if name == "contact_head.regression.weight":
            continue
        assert (
            (again == new).all() if again.ndim == 1 else (again.std() / new.std() - 1).abs() < 0.5
        )
        assert again.abs().max() < 7, name
    assert not net.letters.weight[PADDING].any()
