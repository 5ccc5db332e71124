"""Trained networks by name: the weights behind the book's headline numbers.

`names()` lists them, `load("lmu/psmnist")` gives one back, ready to use on data of your own.
"""

from archbook.weights.shipped import Shipped, describe, load, names

__all__ = ["Shipped", "describe", "load", "names"]
