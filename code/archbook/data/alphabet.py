"""The letters of the MSA Transformer's alphabet, and rows of them as tokens and back."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from archbook.vocabulary import FIRST_LETTER, START

LETTERS = "LAGVSERTIDPKQNFYMHWCXBUZO.-"  # tokens 4 to 30; X B U Z O: unknown, mixed and rare ones
GAP = FIRST_LETTER + LETTERS.index("-")

UNKNOWN_SIGNS = "J*?"  # leucine or isoleucine, a stop, anything: what rows hold and no token has

_NO_LETTER = 255
_TOKEN_OF_BYTE = np.full(256, _NO_LETTER, np.uint8)
_TOKEN_OF_BYTE[list(LETTERS.encode())] = FIRST_LETTER + np.arange(len(LETTERS))


def encode(rows: Sequence[str], unknown: str | None = None) -> Int64[Tensor, "rows columns"]:
    """The tokens of aligned rows: one letter, one token; no start token is added (`with_start`).

    A gap is "-". The alphabet also holds ".", with a token of its own, as in fair-esm: the readers
    of `archbook.data.alignments` never return it. J, "*" and "?" have no token; with `unknown`, a
    letter such as "X", they get that letter's. Errors: ValueError if there are no rows or no
    columns, if rows differ in length, and for other letters, with row and column counted from 0.
    """
    if unknown is not None and (len(unknown) != 1 or unknown not in LETTERS):
        raise ValueError(f"wanted unknown to be one letter out of {LETTERS}, given {unknown!r}")
    if isinstance(rows, str):
        raise ValueError("wanted a sequence of rows, given one string; encode([row]) takes one row")
    if not rows or not rows[0]:
        shape = (len(rows), 0) if rows else (0,)
        raise ValueError(f"wanted at least one row and one column, given shape {shape}")
    for r, row in enumerate(rows):
        if len(row) != len(rows[0]):
            raise ValueError(
                f"wanted rows of {len(rows[0])} columns, as row 0 has, given {len(row)} in row {r}"
            )
    whole = "".join(rows)
    if unknown is not None:
        whole = whole.translate(dict.fromkeys(map(ord, UNKNOWN_SIGNS), unknown))
    text = whole.encode("ascii", "replace")  # one byte a letter, "?" for foreign ones
    tokens = _TOKEN_OF_BYTE[np.frombuffer(text, np.uint8)].reshape(len(rows), -1)
    if (wrong := np.argwhere(tokens == _NO_LETTER)).size:
        r, c = map(int, wrong[0])
        letter = rows[r][c]
        hint = "; lower case is an insertion: read_a3m deletes it" if letter.islower() else ""
        if letter in UNKNOWN_SIGNS:
            hint = '; unknown="X" reads it as X'
        raise ValueError(
            f"wanted letters out of {LETTERS}, given {letter!r} in row {r}, column {c}{hint}"
        )
    return torch.from_numpy(tokens.astype(np.int64))


def decode(tokens: Int64[Tensor, "rows columns"]) -> tuple[str, ...]:
    """The rows that `encode` turns into these tokens. ValueError at a token without a letter."""
    if tokens.ndim != 2:
        raise ValueError(f"wanted tokens of shape (rows, columns), given {tuple(tokens.shape)}")
    places = tokens.detach().cpu().numpy() - FIRST_LETTER
    if (wrong := np.argwhere((places < 0) | (places >= len(LETTERS)))).size:
        r, c = map(int, wrong[0])
        raise ValueError(
            f"wanted tokens {FIRST_LETTER} to {GAP}, which have letters, "
            f"given {int(tokens[r, c])} in row {r}, column {c}"
        )
    letters = np.frombuffer(LETTERS.encode(), np.uint8)[places]
    return tuple(row.tobytes().decode() for row in letters)


def with_start(tokens: Int64[Tensor, "*batch columns"]) -> Int64[Tensor, "*batch columns_and_one"]:
    """The start token before every row, as the model reads them; there is no end token.

    ValueError if some row has one already.
    """
    if bool((tokens == START).any()):
        raise ValueError(f"wanted tokens without the start token {START}, given some with it")
    return torch.nn.functional.pad(tokens, (1, 0), value=START)
