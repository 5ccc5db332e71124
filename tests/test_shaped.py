"""Weights and arguments travel together: those of another function are refused, whatever the model.

The law: a model of other arguments takes a model's weights only where it then computes the same.
"""

import copy
import importlib
import inspect
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from refusals import each_raises
from torch import Tensor, nn

from archbook.attention import (
    BigBird,
    BigBirdAttention,
    Full,
    FullAttention,
    LinformerAttention,
    Performer,
    PerformerAttention,
)
from archbook.egnn import (
    EGCL,
    EGNN,
    GNN,
    EGNNRegressor,
    NBodyEGNN,
    RadialField,
    SchNet,
    complete_edges,
)
from archbook.folded_cnn import FoldedClassifier, FoldedNet, FoldedResNet18, GameCNN, NoScopeCNN
from archbook.gfnn import (
    MLP,
    FourierMLP,
    GridFunctionedNetwork,
    GridLinear,
    ModeAdaptiveNetwork,
    PhaseFunctionedNetwork,
)
from archbook.lmu import LMU, LegendreMemory, LinearMemory, LMUCell, LMUClassifier
from archbook.msa_transformer import (
    AxialBlock,
    ColumnAttention,
    ContactHead,
    MSATransformer,
    NeighbourEmbedding,
    TiedRowAttention,
)
from archbook.omninet import (
    Block,
    Classifier,
    Decoder,
    EncoderDecoder,
    LanguageModel,
    MetaLearner,
    OmniNet,
    OmniNetLM,
    PatchEmbedding,
    TokenEmbedding,
    Transformer,
)
from archbook.shaped import Shaped, record

Model = Callable[..., nn.Module]
DRAW = torch.Generator().manual_seed(0)


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=DRAW)


QKV = tuple(drawn(3, 1, 2, 16, 8))
POINTS = (drawn(5, 4), 3 * drawn(5, 3), complete_edges([5]))
ONE_GRAPH = {"graph": torch.zeros(5, dtype=torch.long), "graphs": 1}
TOKENS = torch.randint(0, 11, (2, 8), generator=DRAW)
LETTERS = torch.randint(4, 24, (1, 4, 6), generator=DRAW)
LETTERS[..., 0] = 0
IMAGES = drawn(2, 3, 16, 16)
MSA = {"layers": 2, "hidden": 16, "heads": 2, "ffn": 32}


def matrices(scale: float) -> tuple[Tensor, Tensor]:
    return scale * torch.eye(3), torch.ones(3)


def language_model(**options: Any) -> LanguageModel:
    return LanguageModel(Transformer(2, 16, options.pop("heads", 2), causal=True), 11, 20)


def classifier(meta: Any = None, pool: str = "max", readout: str = "mean") -> Classifier:
    body = OmniNet(2, 16, 2, partition=2, meta=meta or Full(), pool=pool, length=20)
    return Classifier(TokenEmbedding(11, 20, 16), body, 3, readout=readout)


def translator(heads: int = 2, partition: int = 2) -> EncoderDecoder:
    encoder = OmniNet(2, 16, heads, partition=partition)
    decoder = Decoder(11, 20, 2, hidden=16, heads=2)
    return EncoderDecoder(TokenEmbedding(11, 20, 16), encoder, decoder)


# Each public model: how it is built, other values of its arguments, and what it is called with.
MODELS: dict[str, tuple[Model, dict[str, Any], dict[str, list], tuple, dict[str, Any]]] = {
    "BigBirdAttention": (
        BigBirdAttention,
        {"length": 16, "block": 4},
        {"block": [3, 8], "window": [1], "global_blocks": [0], "length": [17]},
        QKV,
        {},
    ),
    "LinformerAttention": (LinformerAttention, {"keys": 16}, {"rank": [3]}, QKV, {}),
    "PerformerAttention": (
        PerformerAttention,
        {"head_dim": 8},
        {"kernel": ["relu"], "features": [9], "orthogonal": [False]},
        QKV,
        {},
    ),
    "EGCL": (
        EGCL,
        {"hidden": 4},
        {
            "normalize": [True],
            "aggregation": ["sum"],
            "attention": [True],
            "update_positions": [False],
        },
        POINTS,
        {},
    ),
    "EGNN": (
        EGNN,
        {"in_features": 4, "hidden": 4, "layers": 2},
        {"normalize": [True], "aggregation": ["sum"], "attention": [True], "layers": [1]},
        POINTS,
        {},
    ),
    "EGNNRegressor": (
        EGNNRegressor,
        {"in_features": 4, "hidden": 4, "layers": 2},
        {"out_features": [2]},
        POINTS,
        ONE_GRAPH,
    ),
    "GNN": (
        GNN,
        {"in_features": 4, "hidden": 4, "layers": 2, "out_features": 1},
        {"layers": [3], "edge_features": [1]},
        (POINTS[0], POINTS[2]),
        {},
    ),
    "NBodyEGNN": (
        NBodyEGNN,
        {"hidden": 4, "layers": 2},
        {
            "edge_distance": [False],
            "edge_angles": [True],
            "normalize": [True],
            "aggregation": ["sum"],
        },
        (drawn(2, 5, 3), drawn(2, 5, 3), torch.ones(2, 5)),
        {},
    ),
    "RadialField": (
        RadialField,
        {"hidden": 4, "layers": 2},
        {"velocity": [True], "layers": [1], "tanh": [False]},
        POINTS[1:],
        {},
    ),
    "SchNet": (
        SchNet,
        {"in_features": 4, "hidden": 4, "layers": 2},
        {"reach": [5.0], "gaussians": [20]},
        POINTS,
        ONE_GRAPH,
    ),
    "FoldedResNet18": (
        FoldedResNet18,
        {"classes": 2, "filters": 4, "fold": 4},
        {"classes": [8], "round_to": [3], "filters": [8]},
        (drawn(1, 12, 32, 32),),
        {},
    ),
    "GameCNN": (
        GameCNN,
        {"height": 16, "width": 16, "classes": 2, "units": 1, "filters": 4},
        {"height": [15, 17], "width": [20], "classes": [3], "units": [2], "convs": [2]},
        (IMAGES,),
        {},
    ),
    "NoScopeCNN": (
        NoScopeCNN,
        {"height": 16, "width": 16, "classes": 2, "filters": 4, "dense": 8, "channels": 3},
        {"height": [17], "width": [17], "convs": [4], "fold": [4]},
        (IMAGES,),
        {},
    ),
    "FoldedClassifier": (
        lambda height: FoldedClassifier(NoScopeCNN(height, 16, 2, filters=4, dense=8)),
        {"height": 16},
        {"height": [17]},
        (IMAGES,),
        {},
    ),
    "MLP": (
        MLP,
        {"in_features": 4, "hidden": 8, "out_features": 2},
        {"activation": ["relu", "tanh"], "hidden": [(8, 8), 9]},
        POINTS[:1],
        {},
    ),
    "FourierMLP": (
        FourierMLP,
        {"in_features": 4, "hidden": 8, "out_features": 2},
        {"activation": ["relu"], "scale": [2.0], "frequencies": [9]},
        POINTS[:1],
        {},
    ),
    "GridFunctionedNetwork": (
        GridFunctionedNetwork,
        {"in_features": 4, "hidden": 8, "out_features": 2, "grid_shape": (4, 5)},
        {
            "grid_shape": [(5, 4), (20,), (4, 6)],
            "cyclic": [(True, False)],
            "edges": ["linear"],
            "activation": ["tanh"],
            "init": ["tied"],
        },
        (POINTS[0], torch.rand(5, 2, generator=DRAW)),
        {},
    ),
    "GridLinear": (
        GridLinear,
        {"in_features": 4, "out_features": 2, "grid_shape": (4, 5)},
        {"grid_shape": [(5, 4)], "cyclic": [(True, False)], "edges": ["linear"]},
        (POINTS[0], torch.rand(5, 2, generator=DRAW)),
        {},
    ),
    "ModeAdaptiveNetwork": (
        ModeAdaptiveNetwork,
        {"in_features": 4, "hidden": 8, "out_features": 2, "gate_features": 3},
        {"activation": ["relu"], "experts": [6]},
        (POINTS[0], drawn(5, 3)),
        {},
    ),
    "PhaseFunctionedNetwork": (
        PhaseFunctionedNetwork,
        {"in_features": 4, "hidden": 8, "out_features": 2},
        {"activation": ["relu"]},
        (POINTS[0], torch.rand(5, generator=DRAW)),
        {},
    ),
    "LMU": (
        LMU,
        {"input_size": 1, "hidden_size": 6, "memory_size": 2, "order": 4, "theta": 20.0},
        {
            "theta": [30.0],
            "order": [3],
            "activation": [torch.tanh, nn.Identity()],
            "write_activation": [torch.tanh],
        },
        (drawn(2, 30, 1),),
        {},
    ),
    "LMUCell": (
        LMUCell,
        {"input_size": 1, "hidden_size": 6, "order": 4, "theta": 20.0},
        {"theta": [30.0], "order": [3]},
        (drawn(2, 1),),
        {},
    ),
    "LMUClassifier": (
        LMUClassifier,
        {"input_size": 1, "hidden_size": 6, "classes": 3, "order": 4, "theta": 20.0},
        {"theta": [30.0], "order": [3]},
        (drawn(2, 30, 1),),
        {},
    ),
    "LegendreMemory": (
        LegendreMemory,
        {"order": 4, "theta": 20.0},
        {"theta": [20.5], "order": [5], "discretization": ["euler"]},
        (drawn(2, 30, 1),),
        {},
    ),
    "LinearMemory": (
        lambda scale: LinearMemory(*matrices(scale)),
        {"scale": 0.5},
        {"scale": [0.6]},
        (drawn(2, 30, 1),),
        {},
    ),
    "AxialBlock": (
        AxialBlock,
        {"hidden": 16, "heads": 2, "ffn": 32},
        {"heads": [4], "tie": ["mean", "none"], "ffn": [16]},
        (drawn(1, 4, 6, 16),),
        {},
    ),
    "ColumnAttention": (
        ColumnAttention,
        {"hidden": 16, "heads": 2},
        {"heads": [4]},
        (drawn(1, 4, 6, 16),),
        {},
    ),
    "ContactHead": (ContactHead, {"features": 4}, {"features": [6]}, (drawn(1, 2, 2, 5, 5),), {}),
    "MSATransformer": (
        MSATransformer,
        MSA,
        {
            "heads": [4],
            "tie": ["mean"],
            "start_token": [False],
            "row_positions": ["query", "none"],
            "neighbours": [1],
            "max_rows": [1023],
        },
        (LETTERS,),
        {"return_contacts": True},
    ),
    "NeighbourEmbedding": (
        NeighbourEmbedding,
        {"vocab_size": 33, "hidden": 4, "neighbours": 1},
        {"neighbours": [2]},
        (LETTERS,),
        {},
    ),
    "TiedRowAttention": (
        TiedRowAttention,
        {"hidden": 16, "heads": 2},
        {"heads": [4], "tie": ["mean", "none"]},
        (drawn(1, 4, 6, 16),),
        {},
    ),
    "Block": (
        Block,
        {"hidden": 16, "heads": 2, "ffn": 32, "dropout": 0.1, "causal": False},
        {"heads": [4], "causal": [True], "dropout": [0.0]},
        (drawn(2, 6, 16),),
        {},
    ),
    "Classifier": (
        classifier,
        {},
        {"meta": [BigBird(2), Performer(4)], "pool": ["mean", "last"], "readout": ["token"]},
        (TOKENS,),
        {},
    ),
    "Decoder": (
        Decoder,
        {"vocab_size": 11, "max_length": 20, "layers": 2, "hidden": 16, "heads": 2},
        {"heads": [4], "layers": [1]},
        (),
        {},
    ),
    "EncoderDecoder": (
        translator,
        {},
        {"heads": [4], "partition": [1]},
        (TOKENS, TOKENS),
        {},
    ),
    "LanguageModel": (language_model, {}, {"heads": [4]}, (TOKENS,), {}),
    "MetaLearner": (
        MetaLearner,
        {"hidden": 16, "heads": 2, "depth": 3},
        {
            "heads": [4],
            "pool": ["mean", "last", "learned"],
            "query": ["top"],
            "causal": [True],
            "meta": [Performer(4), Performer(4, "relu")],
        },
        (drawn(2, 6, 3, 16),),
        {},
    ),
    "OmniNet": (
        OmniNet,
        {"layers": 4, "hidden": 16, "heads": 2, "partition": 2},
        {"heads": [4], "partition": [4, 1], "causal": [True], "pool": ["mean"], "query": ["top"]},
        (drawn(2, 6, 16),),
        {},
    ),
    "OmniNetLM": (
        OmniNetLM,
        {
            "vocab_size": 11,
            "max_length": 20,
            "layers": 2,
            "hidden": 16,
            "heads": 2,
            "partition": 2,
        },
        {"heads": [4], "partition": [1], "meta": [Performer(4)]},
        (TOKENS,),
        {},
    ),
    "PatchEmbedding": (
        PatchEmbedding,
        {"image": (3, 16, 16), "patch": 8, "hidden": 4},
        {"image": [(3, 32, 8), (12, 8, 8)], "patch": [4]},
        (IMAGES,),
        {},
    ),
    "TokenEmbedding": (
        TokenEmbedding,
        {"vocab_size": 11, "max_length": 20, "hidden": 4},
        {"vocab_size": [12], "max_length": [21]},
        (TOKENS,),
        {},
    ),
    "Transformer": (
        Transformer,
        {"layers": 2, "hidden": 16, "heads": 2},
        {"heads": [4], "causal": [True], "ffn": [32]},
        (drawn(2, 6, 16),),
        {},
    ),
}
# What has neither weights nor arguments that shape it, or is there to be built upon.
WITHOUT = {"Attention", "CachedAttention", "FullAttention", "FoldedNet", "SteppedAttention"}
PARTS = ("attention", "egnn", "folded_cnn", "gfnn", "lmu", "msa_transformer", "omninet")
CASES = [
    pytest.param(name, argument, value, id=f"{name}-{argument}-{number}")
    for name, (_, _, others, _, _) in MODELS.items()
    for argument, values in others.items()
    for number, value in enumerate(values)
]


def built(name: str, **changed: Any) -> nn.Module:
    make, arguments, *_ = MODELS[name]
    torch.manual_seed(1)
    return redrawn(make(**(arguments | changed))).eval()


def redrawn(model: nn.Module) -> nn.Module:
    """Weights of order one, so that every argument matters."""
    for parameter in model.parameters():
        nn.init.normal_(parameter.data, std=0.5)
    return model


def answers(name: str, model: nn.Module) -> tuple:
    """What the model computes, or the sentence with which it refuses its inputs."""
    *_, inputs, more = MODELS[name]
    if isinstance(model, Decoder):
        inputs = (TOKENS, model.remember(INSIDE, None))
    try:
        found = model(*inputs, **more)
    except ValueError as error:
        return (str(error),)
    return found if isinstance(found, tuple) else (found,)


INSIDE = drawn(2, 7, 16)


def same(one: tuple, other: tuple) -> bool:
    def equal(a: Any, b: Any) -> bool:
        if isinstance(a, Tensor) and isinstance(b, Tensor):
            return a.shape == b.shape and torch.allclose(a, b, atol=1e-6)
        return a is b or (isinstance(a, str) and a == b)

    return len(one) == len(other) and all(map(equal, one, other))


@pytest.mark.parametrize(("name", "argument", "value"), CASES)
def test_weights_are_taken_only_where_they_make_the_same_function(name, argument, value):
    model, other = built(name), built(name, **{argument: value})
    try:
        other.load_state_dict(model.state_dict())
    except (ValueError, RuntimeError):
        return
    assert same(answers(name, model), answers(name, other))


@pytest.mark.parametrize("name", MODELS)
def test_weights_of_the_same_arguments_are_taken_through_a_file(name, tmp_path):
    model, other = built(name), redrawn(built(name))
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    assert same(answers(name, model), answers(name, other))


SILENT = [
    ("LMU", {"theta": 30.0}, "theta=30.0 for memory (LegendreMemory), given theta=20.0"),
    ("LMU", {"activation": torch.tanh}, "activation='tanh' for a LMU, given activation='relu'"),
    ("LinearMemory", {"scale": 0.6}, "given matrices=[0.866025, 1.5, 1.73205, 1.5]"),
    ("EGNN", {"normalize": True}, "normalize=True for layers.0 (EGCL), given normalize=False"),
    ("SchNet", {"reach": 5.0}, "reach=5.0 for distances (Gaussians), given reach=10.0"),
    (
        "GridFunctionedNetwork",
        {"grid_shape": (5, 4)},
        "grid_shape=[5, 4] for layers.0 (GridLinear), given grid_shape=[4, 5]",
    ),
    (
        "GridFunctionedNetwork",
        {"cyclic": (True, False)},
        "cyclic=[True, False] for layers.0 (GridLinear), given cyclic=[False, False]",
    ),
    ("MLP", {"activation": "relu"}, "activation='relu' for a MLP, given activation='elu'"),
    ("NoScopeCNN", {"height": 17}, "height=17 for a NoScopeCNN, given height=16"),
    ("AxialBlock", {"tie": "mean"}, "tie='mean' for row (TiedRowAttention), given tie='sqrt'"),
    ("Transformer", {"heads": 4}, "heads=4 for blocks.0.heads (Heads), given heads=2"),
    ("Transformer", {"causal": True}, "causal=True for blocks.0 (Block), given causal=False"),
    ("MetaLearner", {"pool": "mean"}, "pool='mean' for a MetaLearner, given pool='max'"),
    (
        "PerformerAttention",
        {"kernel": "relu"},
        "kernel='relu' for a PerformerAttention, given kernel='softmax'",
    ),
    ("BigBirdAttention", {"window": 1}, "window=1 for a BigBirdAttention, given window=3"),
]


@pytest.mark.parametrize(("name", "changed", "sentence"), SILENT)
def test_the_refusal_names_what_was_wanted_and_what_was_given(name, changed, sentence):
    with pytest.raises(ValueError, match="wanted weights of") as refused:
        built(name, **changed).load_state_dict(built(name).state_dict())
    assert sentence in str(refused.value)


@pytest.mark.parametrize(("name", "changed"), [(name, changed) for name, changed, _ in SILENT])
def test_without_the_record_another_function_takes_the_weights_in_silence(name, changed):
    """What the record is for: keys and shapes of the weights fit."""
    model, other = built(name), built(name, **changed)
    other.load_state_dict(dict(model.state_dict()))
    assert not same(answers(name, model), answers(name, other))


def test_every_public_model_is_in_the_table():
    public = {
        name
        for part in PARTS
        for name, value in vars(importlib.import_module(f"archbook.{part}")).items()
        if inspect.isclass(value) and issubclass(value, nn.Module)
    }
    assert public == MODELS.keys() | WITHOUT
    assert issubclass(FoldedNet, Shaped)
    assert FullAttention().state_dict() == {}


def test_the_record_is_in_the_metadata_and_no_key_is_added():
    state = built("LMU").state_dict()
    assert all(isinstance(value, Tensor) for value in state.values())
    assert state._metadata["memory"]["shaped_by"] == {
        "order": 4,
        "theta": 20.0,
        "discretization": "zoh",
    }


def test_a_copy_and_a_pickled_model_check_as_the_model_does():
    weights = built("LMU", theta=30.0).state_dict()
    model = built("LMU")
    stored = io.BytesIO()
    torch.save(model, stored)
    stored.seek(0)
    copies = [
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
        torch.load(stored, weights_only=False),
    ]
    for one in copies:
        with pytest.raises(ValueError, match="theta=20.0"):
            one.load_state_dict(weights)


def test_a_part_of_another_s_network_checks_too_and_strict_makes_no_difference():
    weights = nn.Sequential(built("MLP")).state_dict()
    with pytest.raises(ValueError, match=r"activation='relu' for 0 \(MLP\)"):
        nn.Sequential(built("MLP", activation="relu")).load_state_dict(weights, strict=False)


def test_sizes_of_numpy_and_functions_without_a_name_are_plain_values():
    numpy = pytest.importorskip("numpy")
    assert record(ColumnAttention(16, numpy.int64(2))) == {"heads": 2}  # pyright: ignore
    lmu = LMU(1, 4, 1, order=3, theta=numpy.float32(20), activation=nn.Hardtanh())
    assert record(lmu)["activation"].startswith("Hardtanh(")
    assert type(record(lmu.memory)["theta"]) is float


class Two(Shaped):
    shaped_by = {"two": "two"}

    def __init__(self, two: Any):
        super().__init__()
        self.two = two


class Older(Two):
    shaped_by = {}


test_no_weights_are_taken_of = each_raises(
    [
        (
            lambda: Two(2).load_state_dict(Two(3).state_dict()),
            ValueError,
            "two=2 for a Two, given two=3",
        ),
        (
            lambda: Two(2).load_state_dict(Older(2).state_dict()),
            ValueError,
            "wanted weights of two=2 for a Two, given some without two",
        ),
    ]
)
