"""Models around OmniNet: texts, classes of sequences and images, translation; what they cost."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from drawing import gap, seeded
from plain_attention import end_mask
from plain_omninet import (
    CAUSAL,
    HEADS,
    HIDDEN,
    METAS,
    kind,
    pictures,
    redrawn,
    texts,
)
from plain_omninet import translator as untrained_translator
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode

from archbook.attention import BigBird, Full, Performer
from archbook.omninet import (
    Classifier,
    Decoder,
    Design,
    EncoderDecoder,
    LanguageModel,
    OmniNet,
    OmniNetLM,
    PatchEmbedding,
    TokenEmbedding,
    Transformer,
    block_flops,
    controls,
    equal_flops,
    equal_weights,
    grid,
    meta_flops,
    network_flops,
)

every_meta = pytest.mark.parametrize("meta", METAS)
VOCAB, LENGTH = 9, 8


def tokens(batch: int = 2, seq: int = LENGTH, seed: int = 3, vocab: int = VOCAB) -> torch.Tensor:
    return torch.randint(vocab, (batch, seq), generator=seeded(seed))


def lm(layers: int = 2, **options) -> OmniNetLM:
    return OmniNetLM(VOCAB, LENGTH, layers, hidden=HIDDEN, heads=HEADS, partition=2, **options)


def classifier(meta: str = "full", **options) -> Classifier:
    make = pictures if "image" in options else partial(texts, VOCAB, LENGTH)
    return redrawn(make(layers=4, meta=METAS[meta], **options))


def translator(meta: str = "full") -> EncoderDecoder:
    return redrawn(untrained_translator(VOCAB, 7, LENGTH, meta=METAS[meta]))


# ---- embeddings ----


@pytest.mark.shapes
def test_positions_are_added():
    embed = redrawn(TokenEmbedding(VOCAB, LENGTH, HIDDEN))
    given = tokens(seq=3)
    wanted = embed.tokens.weight[given] + embed.positions[2:5]
    assert gap(embed(given, first=2), wanted) < 1e-12


@pytest.mark.shapes
def test_patches_are_squares_of_the_image():
    embed = redrawn(PatchEmbedding((2, 4, 6), 2, HIDDEN))
    image = torch.randn(1, 2, 4, 6).double()
    found = embed(image)
    assert found.shape == (1, 6, HIDDEN)
    for row in range(2):
        for column in range(3):
            square = image[0, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            wanted = embed.project(square.flatten()) + embed.positions[3 * row + column]
            assert gap(found[0, 3 * row + column], wanted) < 1e-12


# ---- the language model ----


def test_logits_read_no_later_token():
    model = redrawn(lm(4))
    changed = tokens().clone()
    changed[:, 5:] = (changed[:, 5:] + 1) % VOCAB
    found, wanted = model(changed), model(tokens())
    assert gap(found[:, :5], wanted[:, :5]) < 1e-12
    assert gap(found[:, 5:], wanted[:, 5:]) > 1e-3


def test_the_table_of_the_embedding_gives_the_logits():
    model = redrawn(lm())
    y = model.norm(model.body(model.embed(tokens())))
    assert gap(model(tokens()), y @ model.embed.tokens.weight.T) < 1e-12


def test_options_reach_the_meta_learner():
    model = lm(meta=Performer(features=5))
    assert model.body.metas[0].attention.projection.shape == (5, HIDDEN // HEADS)
    sparse = lm(meta=BigBird())
    assert sparse.body.metas[0].attention.length == 2 * LENGTH


# ---- classes ----


@pytest.mark.shapes
@pytest.mark.parametrize("readout", ["mean", "token"])
@every_meta
def test_padding_changes_no_class(meta, readout):
    model, mask = classifier(meta, readout=readout), end_mask([LENGTH, 5], LENGTH)
    changed = tokens().clone()
    changed[1, 5:] = (changed[1, 5:] + 1) % VOCAB
    assert gap(model(changed, mask), model(tokens(), mask)) < 1e-9
    if meta != "linformer":
        assert gap(model(tokens(), mask)[1:], model(tokens()[1:, :5])) < 1e-9
    assert gap(model(changed), model(tokens())) > 1e-3


@pytest.mark.shapes
@pytest.mark.parametrize("readout", ["mean", "token"])
@every_meta
def test_images_are_classified_by_their_patches(meta, readout):
    model = classifier(meta, image=(1, 4, 8), readout=readout)
    images = torch.randn(2, 1, 4, 8).double()
    assert model(images).shape == (2, 3)
    assert gap(model(images)[:1], model(images[:1])) < 1e-9
    assert gap(model(images.flip(3)), model(images)) > 1e-3


def test_the_models_around_a_plain_transformer_are_those_with_a_zeroed_meta_learner():
    model = classifier()
    for meta in model.body.metas:
        meta.heads.out.weight.data.zero_()
    embed, body = TokenEmbedding(VOCAB, LENGTH, HIDDEN), Transformer(4, HIDDEN, HEADS)
    plain = redrawn(Classifier(embed, body, 3))
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if "metas" not in k})
    assert torch.equal(plain(tokens()), model(tokens()))


# ---- translation ----


@pytest.mark.shapes
@every_meta
def test_a_translation_reads_no_later_target(meta):
    model, target = translator(meta), tokens(seed=4, vocab=7)
    changed = target.clone()
    changed[:, 5:] = (changed[:, 5:] + 1) % 7
    found, wanted = (model(tokens(), given) for given in (changed, target))
    assert found.shape == (2, LENGTH, 7)
    assert gap(found[:, :5], wanted[:, :5]) < 1e-12
    assert gap(found[:, 5:], wanted[:, 5:]) > 1e-3


@every_meta
def test_every_source_token_is_read_by_every_target_token(meta):
    model, target = translator(meta), tokens(seed=4, vocab=7)
    for place in (0, LENGTH - 1):
        changed = tokens().clone()
        changed[:, place] = (changed[:, place] + 1) % VOCAB
        moved = (model(changed, target) - model(tokens(), target)).abs().amax(-1)
        assert (moved > 1e-9).all()


@pytest.mark.parametrize("meta", ["full", "performer"])
def test_padded_source_tokens_change_nothing(meta):
    model, mask = translator(meta), end_mask([LENGTH, 5], LENGTH)
    changed = tokens().clone()
    changed[1, 5:] = (changed[1, 5:] + 1) % VOCAB
    target = tokens(seed=4, vocab=7)
    assert gap(model(changed, target, mask), model(tokens(), target, mask)) < 1e-9
    alone = model(tokens()[1:, :5], target[1:])
    assert gap(model(tokens(), target, mask)[1:], alone) < 1e-9


@pytest.mark.parametrize("prefix", [1, 4])
def test_prefill_and_steps_are_the_full_translation(prefix):
    model, target, mask = translator(), tokens(seed=4, vocab=7), end_mask([LENGTH, 5], LENGTH)
    state = model.prefill(tokens(), target[:, :prefix], mask)
    found = [state.logits]
    for token in target[:, prefix:].unbind(1):
        state = model.step(token, state)
        found.append(state.logits)
    wanted = model(tokens(), target, mask)[:, prefix - 1 :]
    assert gap(torch.stack(found, 1), wanted) < 1e-9


@pytest.mark.shapes
def test_a_translation_takes_the_likeliest_token_each_time():
    model = translator()
    found = model.translate(tokens(), start=0, stop=1, length=6)
    target = torch.cat([torch.zeros(2, 1, dtype=torch.int64), found], 1)
    wanted = model(tokens(), target[:, :-1]).argmax(-1)
    for row, best in zip(found, wanted, strict=True):
        ended = (row == 1).nonzero()
        upto = int(ended[0]) + 1 if len(ended) else len(row)
        assert torch.equal(row[:upto], best[:upto])


def test_after_a_stop_only_stops_come():
    model = translator()
    first = model.translate(tokens(), start=0, stop=1, length=1)[0, 0]
    found = model.translate(tokens()[:1], start=0, stop=int(first), length=5)
    assert (found == first).all()


def test_a_plain_encoder_does_as_well():
    embed, body = TokenEmbedding(VOCAB, LENGTH, HIDDEN), Transformer(2, HIDDEN, HEADS)
    decoder = Decoder(7, LENGTH, 2, hidden=HIDDEN, heads=HEADS, dropout=0.0)
    model = redrawn(EncoderDecoder(embed, body, decoder))
    assert model(tokens(), tokens(vocab=7)).shape == (2, LENGTH, 7)


# ---- learning ----


def trained(model, loss, steps: int = 60) -> float:
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        value = loss()
        value.backward()
        optimizer.step()
    return value.item()


@pytest.mark.slow
@pytest.mark.parametrize("meta", CAUSAL)
def test_a_language_model_learns_a_handful_of_texts(meta):
    model = lm(meta=METAS[meta], dropout=0.0)
    given = tokens(4)
    given[:, 0] = torch.arange(4)  # so that the first token tells which text it is

    def loss():
        return cross_entropy(model(given[:, :-1]).flatten(0, 1), given[:, 1:].flatten())

    assert trained(model, loss) < 0.3
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.body.parameters())


@pytest.mark.slow
def test_a_classifier_and_a_translator_learn_a_handful():
    model = texts(VOCAB, LENGTH)
    given, labels = tokens(6), torch.tensor([0, 1, 2, 0, 1, 2])
    assert trained(model, lambda: cross_entropy(model(given), labels)) < 0.1
    pair = untrained_translator(VOCAB, VOCAB, LENGTH)
    source, target = tokens(3), tokens(3, seed=8)

    def loss():
        return cross_entropy(pair(source, target[:, :-1]).flatten(0, 1), target[:, 1:].flatten())

    assert trained(pair, loss) < 0.3


# ---- costs ----


def counted(call) -> int:
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        call()
    return counter.get_total_flops()


@pytest.mark.parametrize(
    ("meta", "query"),
    [(m, q) for m in METAS for q in ("all", "top") if (m, q) != ("bigbird", "top")],
)
def test_counted_operations_are_those_that_torch_counts(meta, query):
    net = OmniNet(2, HIDDEN, HEADS, partition=2, query=query, **kind(meta, 32)).eval()
    with torch.device("meta"):
        x = torch.empty(1, 32, HIDDEN)
    sizes = {"heads": HEADS, "partition": 2, "meta": METAS[meta], "query": query}
    wanted = network_flops(2, 32, HIDDEN, **sizes)
    found = counted(lambda: net.to("meta")(x))
    assert found == pytest.approx(wanted, rel=0.02)


def test_a_networks_operations_are_its_parts():
    total = network_flops(4, 32, 8, heads=2, ffn=20, partition=2)
    assert total == 4 * block_flops(32, 8, 20) + 2 * meta_flops(Full(), 32, 8, heads=2, depth=2)
    assert network_flops(4, 32, 8, heads=2) == 4 * block_flops(32, 8)


def test_full_omnidirectional_attention_costs_p_times_the_base_attention():
    """L / P partitions of (P N)^2 pairs beside L layers of N^2."""
    seq, d = 10**6, 8  # projections vanish beside the scores
    base = 4 * block_flops(seq, d)
    for partition in (1, 2, 4):
        omni = network_flops(4, seq, d, heads=2, partition=partition) - base
        assert omni / base == pytest.approx(partition, rel=0.01)


def test_model_kinds_share_their_parts():
    model = lm()
    assert isinstance(model, LanguageModel)
    assert isinstance(model.body, OmniNet)
    assert model.body.causal


# ---- what experiments compare ----

DESIGN = Design(layers=4, hidden=8, heads=2, ffn=16)


def weights(design: Design, causal: bool = False) -> int:
    return sum(p.numel() for p in design.stack(LENGTH, causal).parameters())


@pytest.mark.parametrize("partition", [1, 2, 4])
def test_the_plain_stack_of_equal_weights_has_equal_weights(partition):
    omni = replace(DESIGN, partition=partition)
    assert weights(equal_weights(DESIGN, partition)) == weights(omni) > weights(DESIGN)


@pytest.mark.parametrize("meta", ["full", "performer", "bigbird"])
def test_the_plain_stack_of_equal_operations_has_them_to_a_unit(meta):
    omni = replace(DESIGN, partition=2, meta=meta)
    plain = equal_flops(DESIGN, omni, LENGTH)
    assert isinstance(plain.stack(LENGTH), Transformer)
    assert not isinstance(plain.stack(LENGTH), OmniNet)
    unit = 4 * DESIGN.layers * LENGTH * DESIGN.hidden
    assert abs(plain.flops(LENGTH) - omni.flops(LENGTH)) <= unit / 2


@pytest.mark.parametrize("causal", [False, True])
def test_the_grid_names_what_it_builds(causal):
    found = grid(DESIGN, LENGTH, causal)
    assert ("linformer_2" in found) != causal
    for name, design in found.items():
        stack = design.stack(LENGTH, causal)
        assert stack.causal == causal
        if isinstance(stack, OmniNet):
            meta, partition, *_ = name.split("_")
            assert type(stack.metas[0].meta).__name__.lower() == meta
            assert stack.partition == int(partition)
        else:
            assert name in controls(DESIGN, LENGTH)


def test_weights_that_cannot_be_equal_are_refused():
    with pytest.raises(ValueError, match="divides 16, given 3"):
        equal_weights(DESIGN, 3)
