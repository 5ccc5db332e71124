"""Six neural architectures of 2021, each derived, built, tested and measured in one chapter."""

__version__ = "0.1.0"
