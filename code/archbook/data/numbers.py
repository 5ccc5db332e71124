"""Numbers in words, English and German, by rules of our own: a miniature of translation.

German says the ones before the tens (23 is drei-und-zwanzig), so words change places, and it drops
or bends some: eins at the end, ein before und, hundert and tausend.
"""

from archbook.checks import as_size

LARGEST = 999_999
ENGLISH_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
).split()
ENGLISH_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
GERMAN_SMALL = (
    "null ein zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn "
    "sechzehn siebzehn achtzehn neunzehn"
).split()
GERMAN_TENS = "zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig".split()


def english(number: int) -> list[str]:
    """1234 is one, thousand, two, hundred, and, thirty, four (British: with "and")."""
    number = _checked(number)
    if number < 20:
        return [ENGLISH_SMALL[number]]
    if number < 100:
        tens, ones = divmod(number, 10)
        return [ENGLISH_TENS[tens - 2], *([ENGLISH_SMALL[ones]] if ones else [])]
    if number < 1000:
        hundreds, rest = divmod(number, 100)
        return [ENGLISH_SMALL[hundreds], "hundred", *(["and", *english(rest)] if rest else [])]
    thousands, rest = divmod(number, 1000)
    link = ["and"] if 0 < rest < 100 else []
    return [*english(thousands), "thousand", *link, *(english(rest) if rest else [])]


def german(number: int) -> list[str]:
    """The parts of one German word: 1234 is ein, tausend, zwei, hundert, vier, und, dreißig."""
    parts = _german(_checked(number))
    return [*parts[:-1], "eins"] if parts[-1] == "ein" else parts


def _german(number: int) -> list[str]:
    """With ein at the end, as before another part."""
    if number < 20:
        return [GERMAN_SMALL[number]]
    if number < 100:
        tens, ones = divmod(number, 10)
        return [*([GERMAN_SMALL[ones], "und"] if ones else []), GERMAN_TENS[tens - 2]]
    size, name = (100, "hundert") if number < 1000 else (1000, "tausend")
    count, rest = divmod(number, size)
    return [*_german(count), name, *(_german(rest) if rest else [])]


def vocabulary(language: str) -> list[str]:
    """Padding, start, stop, then the words or parts."""
    words = {
        "english": [*ENGLISH_SMALL, *ENGLISH_TENS, "hundred", "thousand", "and"],
        "german": [*GERMAN_SMALL, *GERMAN_TENS, "hundert", "tausend", "und", "eins"],
    }
    if language not in words:
        raise ValueError(f"wanted language to be one of {', '.join(words)}, given {language!r}")
    return ["<pad>", "<start>", "<stop>", *words[language]]


def _checked(number: int) -> int:
    number = as_size("number", number, least=0)
    if number > LARGEST:
        raise ValueError(f"wanted a number up to {LARGEST}, given {number}")
    return number
