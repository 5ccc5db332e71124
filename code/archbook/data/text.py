"""Text as character numbers: the shipped Shakespeare."""

from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

from archbook.data.manifest import shipped


@dataclass(frozen=True)
class TextSet:
    """One text cut into three stretches, in reading order; `characters[i]` is the sign of id i."""

    characters: str
    train: Int64[Tensor, " train"]
    valid: Int64[Tensor, " valid"]
    test: Int64[Tensor, " test"]

    def decode(self, tokens: Int64[Tensor, " seq"]) -> str:
        return "".join(self.characters[i] for i in tokens.tolist())


def shakespeare() -> TextSet:
    """1,115,394 characters of Shakespeare, 65 different ones: the first 90 %, 5 %, and the tail.

    The tail is held out as a stretch, so no test character lies between two training ones.

    >>> text = shakespeare()
    >>> text.decode(text.train[:14])
    'First Citizen:'
    """
    text = shipped("text/tinyshakespeare.txt").read_text(encoding="utf-8")
    characters = "".join(sorted(set(text)))
    index = {sign: number for number, sign in enumerate(characters)}
    ids = torch.tensor([index[sign] for sign in text])
    first, second = round(0.9 * len(ids)), round(0.95 * len(ids))
    return TextSet(characters, ids[:first], ids[first:second], ids[second:])
