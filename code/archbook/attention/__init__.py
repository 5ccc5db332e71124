"""Attention and its cheaper substitutes, with one interface: q, k, v, key mask, causal group."""

from archbook.attention.bigbird import BigBirdAttention
from archbook.attention.features import gaussian_projection, relu_features, softmax_features
from archbook.attention.full import CachedAttention, FullAttention, KeyValueCache
from archbook.attention.interface import Attention
from archbook.attention.linear import LinearState
from archbook.attention.linformer import LinformerAttention
from archbook.attention.performer import PerformerAttention

__all__ = [
    "Attention",
    "BigBirdAttention",
    "CachedAttention",
    "FullAttention",
    "KeyValueCache",
    "LinearState",
    "LinformerAttention",
    "PerformerAttention",
    "gaussian_projection",
    "relu_features",
    "softmax_features",
]
