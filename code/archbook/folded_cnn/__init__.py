"""FoldedCNNs: several images in one pass (Kosaian et al., 2021)."""

from archbook.folded_cnn.classifier import FoldedClassifier
from archbook.folded_cnn.cost import Cost, LayerCost, cost
from archbook.folded_cnn.curriculum import curriculum_classes
from archbook.folded_cnn.folding import fold_images, folded_cross_entropy, unfold_logits
from archbook.folded_cnn.grouping import (
    answers,
    new_neighbours,
    next_slots,
    regrouping_report,
    stream_order,
)
from archbook.folded_cnn.networks import (
    GAME_CNNS,
    NOSCOPE_CNNS,
    FoldedNet,
    GameCNN,
    NoScopeCNN,
    folded_width,
)
from archbook.folded_cnn.resnet import FoldedResNet18
from archbook.folded_cnn.separate import block_diagonal

__all__ = [
    "GAME_CNNS",
    "NOSCOPE_CNNS",
    "Cost",
    "FoldedClassifier",
    "FoldedNet",
    "FoldedResNet18",
    "GameCNN",
    "LayerCost",
    "NoScopeCNN",
    "answers",
    "block_diagonal",
    "cost",
    "curriculum_classes",
    "fold_images",
    "folded_cross_entropy",
    "folded_width",
    "new_neighbours",
    "next_slots",
    "regrouping_report",
    "stream_order",
    "unfold_logits",
]
