"""The table in which a chapter says which claims of its paper held: four words, nothing else."""

import re

from archbook.verdicts import NOT_REPRODUCED, NOT_TESTABLE, REPRODUCED, SMALL_SCALE

SIGNS = {REPRODUCED: "✓", SMALL_SCALE: "◐", NOT_REPRODUCED: "✗", NOT_TESTABLE: "–"}
HEADER = ("claim", "verdict", "what was found", "where")
LINK = re.compile(r"\[[^\]]+\]\(#[\w-]+\)|–")


def read_claims(text: str) -> list[tuple[str, str, str, str]]:
    """Claim, verdict, finding and link of each claim in a text such as

        psMNIST: 98.49 % | [Permuted digits](#lmu-psmnist)
          reproduced: 98.51 ± 0.04 %, mean of three seeds.

    A claim stands at the margin, its indented lines say what was found. Where nothing could be
    tested a dash may stand for the link.
    """
    claims: list[tuple[str, str]] = []
    found: list[list[str]] = []
    for line in text.strip("\n").splitlines():
        if not line.startswith(" "):
            claim, bar, where = line.rpartition(" | ")
            if not bar or not LINK.fullmatch(where):
                raise ValueError(f"wanted `CLAIM | [TEXT](#label)`, given {line!r}")
            claims.append((claim, where))
            found.append([])
        elif found:
            found[-1].append(line.strip())
        else:
            raise ValueError(f"wanted a claim before its finding, given {line!r}")
    rows = []
    for (claim, where), lines in zip(claims, found, strict=True):
        verdict, _, sentence = " ".join(lines).partition(": ")
        if verdict not in SIGNS:
            raise ValueError(f"{claim}: wanted one of {list(SIGNS)}, given {verdict!r}")
        if not sentence.endswith("."):
            raise ValueError(f"{claim}: wanted a finding that ends in a full stop: {sentence!r}")
        if "|" in claim + sentence:
            raise ValueError(f"{claim}: wanted no bar within a cell of the table")
        rows.append((claim, verdict, sentence, where))
    return rows


def show_claims(text: str) -> None:
    """Display the table of `read_claims`, all columns left; the pages count its verdicts."""
    from IPython.display import display

    rows = [(claim, f"{SIGNS[word]} {word}", *rest) for claim, word, *rest in read_claims(text)]
    lines = [HEADER, [":--"] * len(HEADER), *rows]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    display({"text/markdown": table, "text/plain": table}, raw=True)
