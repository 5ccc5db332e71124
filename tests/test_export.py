"""One exported program serves batches and lengths that it was not exported with.

That every model exports, is saved and gives the same is in portability.py. Two lengths stay fixed:
the LMU's, whose tables are made for one, and that of a causal BigBird's blocks.
"""

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim, export

from archbook.attention import BigBird, Full, Kind, Performer
from archbook.egnn import EGNN, EGNNRegressor, complete_edges
from archbook.folded_cnn import FoldedClassifier, GameCNN
from archbook.gfnn import GridFunctionedNetwork
from archbook.lmu import LMU
from archbook.msa_transformer import MSATransformer
from archbook.omninet import OmniNet, OmniNetLM

pytestmark = pytest.mark.compile
Inputs = dict[str, Tensor]


def graphs(*sizes: int) -> Inputs:
    nodes = sum(sizes)
    return {
        "h": torch.randn(nodes, 5),
        "x": torch.randn(nodes, 3),
        "edges": complete_edges(sizes),
    }


def padded(batch: int, nodes: int) -> Inputs:
    return {"h": torch.randn(batch, nodes, 5), "x": torch.randn(batch, nodes, 3)}


def places(batch: int) -> Inputs:
    return {"x": torch.randn(batch, 3), "g": torch.rand(batch, 2)}


def letters(*shape: int, low: int = 0, high: int = 11) -> Inputs:
    return {"tokens": torch.randint(low, high, shape)}


def language_model(meta: Kind) -> OmniNetLM:
    return OmniNetLM(11, 64, 2, hidden=16, heads=2, partition=2, meta=meta)


def lmu(sequences: bool) -> LMU:
    return LMU(2, 5, 3, order=4, theta=12.0, return_sequences=sequences)


ALIGNMENT = {"layers": 1, "hidden": 12, "heads": 3, "ffn": 16, "start_token": False}
# model, what it is exported with, what it then serves, axes of each input that may change
CASES = {
    "LMU": (lambda: lmu(True), {"x": torch.randn(3, 9, 2)}, {"x": torch.randn(5, 9, 2)}, 1),
    "LMU-last": (lambda: lmu(False), {"x": torch.randn(3, 9, 2)}, {"x": torch.randn(5, 9, 2)}, 1),
    "EGNN": (lambda: EGNN(5, 6, 2), graphs(4, 2), graphs(4, 5), 1),
    "EGNN-dense": (lambda: EGNN(5, 6, 2), padded(2, 4), padded(3, 6), 2),
    "GFNN": (
        lambda: GridFunctionedNetwork(3, 6, 4, grid_shape=(6, 5)),
        places(7),
        places(11),
        1,
    ),
    "OmniNet": (
        lambda: OmniNet(2, 16, 2, partition=2, meta=Performer(features=8)),
        {"x": torch.randn(3, 24, 16)},
        {"x": torch.randn(5, 32, 16)},
        2,
    ),
    "LM-full": (lambda: language_model(Full()), letters(3, 24), letters(5, 32), 2),
    "LM-bigbird": (lambda: language_model(BigBird()), letters(3, 24), letters(5, 24), 1),
    "MSATransformer": (
        lambda: MSATransformer(**ALIGNMENT),
        letters(2, 4, 7, low=4, high=24),
        letters(3, 6, 9, low=4, high=24),
        3,
    ),
    "FoldedClassifier": (
        lambda: FoldedClassifier(GameCNN(22, 30, 5, units=1, fold=2)),
        {"images": torch.rand(4, 3, 22, 30)},
        {"images": torch.rand(8, 3, 22, 30)},
        1,
    ),
}


# What torch 2.6 exports of these serves the sizes that it saw alone.
AS_SEEN = ("LMU", "EGNN", "FoldedClassifier") if torch.__version__.startswith("2.6.") else ()


def first(found) -> Tensor:
    return found[0] if isinstance(found, tuple) else found


def exported(model: nn.Module, given: Inputs, axes: int):
    def axes_of(name: str, x: Tensor) -> range | list[int]:
        if name == "edges":
            return [1]
        return range(1 if "edges" in given else min(axes, x.ndim))

    free = {name: dict.fromkeys(axes_of(name, x), Dim.AUTO) for name, x in given.items()}
    return export(model, (), given, dynamic_shapes=free).module()


@pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr", "ignore:Node self___")  # 2.6
@pytest.mark.parametrize("name", [name for name in CASES if name not in AS_SEEN])
def test_a_program_serves_other_sizes(name):
    torch.manual_seed(0)
    make, given, other, axes = CASES[name]
    model = make().eval()
    with torch.no_grad():
        wanted = first(model(**given))  # which also makes the LMU's tables
        program = exported(model, given, axes)
        torch.testing.assert_close(first(program(**given)), wanted)
        torch.testing.assert_close(first(program(**other)), first(model(**other)))


def test_a_regressor_is_exported_with_its_graphs():
    model = EGNNRegressor(5, 6, 2).eval()
    given = graphs(4, 2) | {"graph": torch.tensor([0, 0, 0, 0, 1, 1])}
    program = export(model, (), given | {"graphs": 2}).module()
    torch.testing.assert_close(program(**given, graphs=2), model(**given, graphs=2))
