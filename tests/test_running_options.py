"""The command line that is made from a configuration."""

from dataclasses import dataclass, field
from typing import Literal, Optional

import pytest

from archbook.running.options import build_parser, field_comments


@dataclass(frozen=True)
class Config:
    """A configuration with every kind of field."""

    order: int = 4  # Legendre coefficients
    # steps of Adam,
    # one batch each
    steps: int = 60
    rate: float = 0.5  # share of units dropped, 50 % say
    name: str | None = None  # a label
    limit: Optional[int] = 3  # noqa: UP045  the old spelling is understood as well
    widths: tuple[int, ...] = field(default_factory=lambda: (1, 2))  # hidden layers
    kind: Literal["a", "b"] = "a"  # which
    bias: bool = True  # whether there is one

    plain: float = 0.0


@dataclass(frozen=True)
class Needy:
    width: int  # must be given


@pytest.fixture
def parse():
    parser = build_parser(Config, ["tiny", "full"])
    return lambda text: vars(parser.parse_args(text.split()))


def test_help_shows_every_field_with_comment_and_default():
    text = " ".join(build_parser(Config, ["tiny"], "What it does.").format_help().split())
    assert "What it does." in text
    for piece in (
        "--order INT Legendre coefficients [4]",
        "--steps INT steps of Adam, one batch each [60]",
        "--rate FLOAT share of units dropped, 50 % say [0.5]",
        "--name STR|none a label [None]",
        "hidden layers [(1, 2)]",
        "--kind {a,b} which [a]",
        "--bias, --no-bias whether there is one [True]",
        "--plain FLOAT [0.0]",
    ):
        assert piece in text


def test_a_field_without_a_default_is_said_to_be_set_by_the_variant():
    assert "must be given [set by the variant]" in build_parser(Needy, ["tiny"]).format_help()


def test_only_what_was_typed_is_an_override(parse):
    assert set(parse("")) == {"size", "seeds", "variants", "device", "again", "shard", "fsdp"}
    assert parse("")["size"] == "tiny"


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("--order 7", "order", 7),
        ("--rate 1e-3", "rate", 1e-3),
        ("--name none", "name", None),
        ("--name big", "name", "big"),
        ("--limit none", "limit", None),
        ("--limit 5", "limit", 5),
        ("--widths 3 4 5", "widths", (3, 4, 5)),
        ("--widths", "widths", ()),
        ("--kind b", "kind", "b"),
        ("--no-bias", "bias", False),
        ("--seeds 0 2", "seeds", [0, 2]),
    ],
)
def test_a_value_has_the_type_of_its_field(parse, text, name, value):
    assert parse(text)[name] == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("--order 1.5", "invalid int value"),
        ("--limit x", "invalid int or none value"),
        ("--kind c", "invalid choice"),
        ("--size huge", "invalid choice"),
        ("--colour red", "unrecognized arguments"),
    ],
)
def test_a_wrong_option_is_refused(parse, capsys, text, message):
    with pytest.raises(SystemExit):
        parse(text)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("hint", [dict, list[int], int | str, tuple, "int | float | None"])
def test_a_field_of_another_type_is_refused(hint):
    strange = dataclass(type("Strange", (), {"__annotations__": {"x": hint}, "x": None}))
    with pytest.raises(TypeError, match="Config field x: wanted bool, int"):
        build_parser(strange, ["tiny"])


def test_a_field_may_not_take_the_name_of_a_runner_option():
    clash = dataclass(type("Clash", (), {"__annotations__": {"seeds": int}, "seeds": 1}))
    with pytest.raises(ValueError, match="may not be named 'seeds'"):
        build_parser(clash, ["tiny"])


def test_a_class_without_source_has_no_comments():
    typed = dataclass(type("Typed", (), {"__annotations__": {"x": int}, "x": 1}))
    assert field_comments(typed) == {}


def test_comments_of_inherited_fields_are_kept():
    @dataclass(frozen=True)
    class Base:
        width: int = 8  # of a layer

    @dataclass(frozen=True)
    class Longer(Base):
        steps: int = 3  # of training

    assert field_comments(Longer) == {"width": "of a layer", "steps": "of training"}
