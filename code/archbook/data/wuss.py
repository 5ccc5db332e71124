"""Structures of RNA as a line of signs: WUSS, the notation of Infernal and Rfam, and its pairs."""

from collections.abc import Sequence
from itertools import pairwise

BRACKETS = {">": "<", ")": "(", "]": "[", "}": "{"}
UNPAIRED = ".,;:_-~"


def wuss_pairs(structure: str) -> list[tuple[int, int]]:
    """The pairs (i, j) of a line in WUSS notation, i < j, in reading order.

    < > ( ) [ ] { } nest, each kind with its own; A a, B b and so on are pseudoknots.
    """
    opened: dict[str, list[int]] = {}
    pairs = []
    for column, sign in enumerate(structure):
        if sign in BRACKETS.values() or (sign.isascii() and sign.isupper()):
            opened.setdefault(sign, []).append(column)
        elif sign in BRACKETS or (sign.isascii() and sign.islower()):
            left = opened.get(BRACKETS.get(sign, sign.upper()))
            if not left:
                raise ValueError(f"wanted an opening sign before {sign!r} in column {column}")
            pairs.append((left.pop(), column))
        elif sign not in UNPAIRED:
            raise ValueError(f"wanted a sign of WUSS, given {sign!r} in column {column}")
    if left := sorted(column for columns in opened.values() for column in columns):
        raise ValueError(
            f"wanted every pair closed, given {structure[left[0]]!r} in column {left[0]}"
        )
    return sorted(pairs)


def wuss_on(structure: str, columns: Sequence[int]) -> str:
    """The signs of these columns, with "." where the partner of a pair is not among them.

    Left as it stands, the other half of such a pair would find a wrong partner: of "<<>>" without
    columns 0 and 2 would remain "<>". A line that is no WUSS, such as a protein's secondary
    structure, is cut sign by sign. Errors: ValueError where columns of pairs do not ascend.
    """
    try:
        pairs = wuss_pairs(structure)
    except ValueError:
        pairs = []
    if pairs and any(b <= a for a, b in pairwise(columns)):
        raise ValueError(f"wanted ascending columns, since some are paired, given {list(columns)}")
    kept, signs = set(columns), list(structure)
    for i, j in pairs:
        if not {i, j} <= kept:
            signs[i] = signs[j] = "."
    return "".join(signs[c] for c in columns)
