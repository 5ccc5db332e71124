"""Shakespeare as numbers, and numbers in words: what is in them and who agrees."""

import random
from importlib.metadata import version

import pytest
import torch

from archbook.data import shakespeare, shipped
from archbook.data.numbers import LARGEST, english, german, vocabulary


def test_the_three_parts_are_the_text_in_order():
    text = shakespeare()
    whole = shipped("text/tinyshakespeare.txt").read_text(encoding="utf-8")
    assert text.decode(torch.cat([text.train, text.valid, text.test])) == whole
    assert (len(text.train), len(text.valid), len(text.test)) == (1003855, 55769, 55770)
    assert len(text.characters) == 65


@pytest.mark.parametrize(
    ("number", "in_english", "in_german"),
    [
        (0, "zero", "null"),
        (1, "one", "eins"),
        (13, "thirteen", "dreizehn"),
        (21, "twenty one", "einundzwanzig"),
        (30, "thirty", "dreißig"),
        (100, "one hundred", "einhundert"),
        (101, "one hundred and one", "einhunderteins"),
        (716, "seven hundred and sixteen", "siebenhundertsechzehn"),
        (1000, "one thousand", "eintausend"),
        (2005, "two thousand and five", "zweitausendfünf"),
        (
            21_347,
            "twenty one thousand three hundred and forty seven",
            "einundzwanzigtausenddreihundertsiebenundvierzig",
        ),
        (
            999_999,
            "nine hundred and ninety nine thousand nine hundred and ninety nine",
            "neunhundertneunundneunzigtausendneunhundertneunundneunzig",
        ),
    ],
)
def test_known_numbers_are_spelled_right(number, in_english, in_german):
    assert " ".join(english(number)) == in_english
    assert "".join(german(number)) == in_german


def test_different_numbers_have_different_words_all_of_them_in_the_vocabulary():
    known = {language: set(vocabulary(language)) for language in ("english", "german")}
    seen = set()
    for number in range(0, LARGEST, 331):
        words = tuple(english(number)), tuple(german(number))
        assert set(words[0]) <= known["english"]
        assert set(words[1]) <= known["german"]
        seen |= {words[0], words[1]}
    assert len(seen) == 2 * len(range(0, LARGEST, 331))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: english(-1), ValueError, "number to be at least 0, given -1"),
        (lambda: german(1.5), TypeError, "number to be an int, given 1.5"),
        (lambda: german(1_000_000), ValueError, "up to 999999, given 1000000"),
        (lambda: vocabulary("latin"), ValueError, "english, german, given 'latin'"),
    ],
)
def test_what_has_no_words_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parity
def test_the_words_are_those_of_num2words():
    """An independent package (`make parity`), which writes hyphens and commas besides.

    It also keeps the s of eins before tausend (dreihunderteinstausend), which German drops.
    """
    peer = pytest.importorskip("num2words", reason="num2words is not installed: see `make parity`")
    assert version("num2words") == "0.5.14"
    draw = random.Random(0)
    for number in [*range(1200), *(draw.randrange(LARGEST + 1) for _ in range(2000))]:
        theirs = peer.num2words(number, lang="en").replace("-", " ").replace(",", "")
        assert " ".join(english(number)) == theirs
        theirs = peer.num2words(number, lang="de").replace("einstausend", "eintausend")
        assert "".join(german(number)) == theirs
