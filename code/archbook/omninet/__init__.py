"""OmniNet (Tay et al., 2021): attention over all tokens of all layers of a partition."""

from archbook.omninet.block import Block
from archbook.omninet.cost import block_flops, meta_flops, network_flops
from archbook.omninet.meta import AUTO_TOKENS, MetaLearner, choose_meta
from archbook.omninet.models import (
    Classifier,
    LanguageModel,
    LMState,
    OmniNetLM,
    PatchEmbedding,
    TokenEmbedding,
)
from archbook.omninet.network import OmniNet, StackState, Transformer
from archbook.omninet.stacking import index_sort, index_unsort
from archbook.omninet.translation import (
    Decoder,
    DecoderState,
    EncoderDecoder,
    Memory,
)
from archbook.omninet.variants import Design, controls, equal_flops, equal_weights, grid

__all__ = [
    "AUTO_TOKENS",
    "Block",
    "Classifier",
    "Decoder",
    "DecoderState",
    "Design",
    "EncoderDecoder",
    "LMState",
    "LanguageModel",
    "Memory",
    "MetaLearner",
    "OmniNet",
    "OmniNetLM",
    "PatchEmbedding",
    "StackState",
    "TokenEmbedding",
    "Transformer",
    "block_flops",
    "choose_meta",
    "controls",
    "equal_flops",
    "equal_weights",
    "grid",
    "index_sort",
    "index_unsort",
    "meta_flops",
    "network_flops",
]
