"""Trained networks by name: the weights behind the book's headline numbers.

`names()` lists them, `load("lmu/psmnist")` gives one back, ready to use on data of your own.
`save_weights` and `load_weights` keep networks of yours, with the arguments that no weight shows.
"""

from archbook.weights.own import load_weights, save_weights
from archbook.weights.shipped import Shipped, describe, load, names

__all__ = ["Shipped", "describe", "load", "load_weights", "names", "save_weights"]
