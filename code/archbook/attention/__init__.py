"""Attention and its cheaper substitutes, with one interface: q, k, v, key mask, causal group."""

from archbook.attention.bigbird import BigBird, BigBirdAttention
from archbook.attention.features import gaussian_projection, relu_features, softmax_features
from archbook.attention.full import CachedAttention, Full, FullAttention, KeyValueCache
from archbook.attention.interface import Attention, Kind, SteppedAttention
from archbook.attention.linear import LinearState
from archbook.attention.linformer import Linformer, LinformerAttention
from archbook.attention.performer import Performer, PerformerAttention

__all__ = [
    "Attention",
    "BigBird",
    "BigBirdAttention",
    "CachedAttention",
    "Full",
    "FullAttention",
    "KeyValueCache",
    "Kind",
    "LinearState",
    "Linformer",
    "LinformerAttention",
    "Performer",
    "PerformerAttention",
    "SteppedAttention",
    "gaussian_projection",
    "relu_features",
    "softmax_features",
]
