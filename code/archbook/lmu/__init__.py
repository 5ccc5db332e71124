"""Legendre Memory Units (Voelker et al. 2019), parallel form (Chilkuri & Eliasmith 2021)."""

from archbook.lmu.classifier import LMUClassifier
from archbook.lmu.delay import impulse_response, legendre_delay_matrices, legendre_readout
from archbook.lmu.memory import LegendreMemory, LinearMemory
from archbook.lmu.network import LMU, LMUCell

__all__ = [
    "LMU",
    "LMUCell",
    "LMUClassifier",
    "LegendreMemory",
    "LinearMemory",
    "impulse_response",
    "legendre_delay_matrices",
    "legendre_readout",
]
