"""The command line of an experiment, made from the fields of its configuration.

Ours, not tyro's: "only what was typed overrides every variant" has no form there, and a wheel that
readers install should not grow a dependency for it.
"""

import argparse
import dataclasses
import inspect
import io
import re
import textwrap
import tokenize
import types
import typing
from collections.abc import Sequence
from typing import Any

RUNNER_OPTIONS = ("size", "seeds", "device", "variants", "again", "shard", "fsdp")


def build_parser(
    config_class: type, sizes: Sequence[str], description: str | None = None
) -> argparse.ArgumentParser:
    """The runner's own options, then one for each field, explained by the field's comment."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    runner = parser.add_argument_group("what to run")
    runner.add_argument("--size", choices=sizes, default="tiny", help="default: tiny")
    runner.add_argument("--seeds", type=int, nargs="+", help="default: the experiment's own")
    runner.add_argument("--variants", nargs="+", help="default: all of the size")
    runner.add_argument(
        "--shard",
        type=shard,
        default=(1, 1),
        metavar="K/N",
        help="only the k-th of n equal shares of the cells, for a job of a cluster",
    )
    runner.add_argument("--device", help="cpu, cuda, ...; default: cuda where there is one")
    runner.add_argument(
        "--again", action="store_true", help="run finished cells anew, drop their checkpoints"
    )
    runner.add_argument(
        "--fsdp", action="store_true", help="under torchrun: a transformer's weights are shared out"
    )
    fields = parser.add_argument_group(
        "settings", "a changed setting makes a custom run, kept apart from the results"
    )
    comments = field_comments(config_class)
    hints = typing.get_type_hints(config_class)
    for field in dataclasses.fields(config_class):
        if field.name in RUNNER_OPTIONS:
            raise ValueError(f"a Config field may not be named {field.name!r}: the runner's option")
        default = _default_of(field)
        text = f"{comments.get(field.name, '')} [{default}]".strip().replace("%", "%%")
        fields.add_argument(
            f"--{field.name}",
            default=argparse.SUPPRESS,  # only what was typed overrides a variant's own setting
            help=text,
            **_argument_kind(field.name, hints[field.name]),
        )
    return parser


def shard(text: str) -> tuple[int, int]:
    """(3, 16) of "3/16"."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"wanted k/n with 1 <= k <= n, given {text!r}")
    return int(match[1]), int(match[2])


def _default_of(field: dataclasses.Field) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return "set by the variant"


def _argument_kind(name: str, hint: Any) -> dict[str, Any]:
    """argparse's keywords for an annotation; the error lists what a field may be."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is bool:
        return {"action": argparse.BooleanOptionalAction}
    if hint in (int, float, str):
        return {"type": hint, "metavar": hint.__name__.upper()}
    if origin is typing.Literal:
        return {"choices": inner, "type": type(inner[0])}
    if origin is tuple and inner:
        return {**_argument_kind(name, inner[0]), "nargs": "*", "action": _StoreTuple}
    if origin in (types.UnionType, typing.Union) and len(inner) == 2 and type(None) in inner:
        (present,) = (part for part in inner if part is not type(None))
        if present in (int, float, str):
            return {"type": _Optional(present), "metavar": f"{present.__name__.upper()}|none"}
    wanted = "bool, int, float, str, Literal, `X | None` or tuple[X, ...]"
    raise TypeError(f"Config field {name}: wanted {wanted}, given {hint}")


class _Optional:
    """Reads a value of one type, or the word none."""

    def __init__(self, kind: type):
        self.kind = kind
        self.__name__ = f"{kind.__name__} or none"  # argparse names it in its message

    def __call__(self, text: str) -> Any:
        return None if text.lower() == "none" else self.kind(text)


class _StoreTuple(argparse.Action):
    def __call__(self, parser, namespace, values, option_string=None):
        setattr(namespace, self.dest, tuple(values or ()))


def field_comments(config_class: type) -> dict[str, str]:
    """The comment of each field, inherited ones too: at its line's end or on the lines above it."""
    inherited = [field_comments(base) for base in config_class.__bases__ if base is not object]
    return {name: text for found in inherited for name, text in found.items()} | _own_comments(
        config_class
    )


def _own_comments(config_class: type) -> dict[str, str]:
    try:
        source = textwrap.dedent(inspect.getsource(config_class))
    except (OSError, TypeError):  # a class typed at a prompt has no source
        return {}
    comments: dict[int, tuple[bool, str]] = {}  # line -> (stands alone, text)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            alone = not token.line[: token.start[1]].strip()
            comments[token.start[0]] = (alone, token.string.lstrip("# ").strip())
    found: dict[str, str] = {}
    for number, line in enumerate(source.splitlines(), start=1):
        if not (match := re.match(r"\s+(\w+)\s*:", line)):
            continue
        words, above = [], number - 1
        while comments.get(above, (False, ""))[0]:
            words.insert(0, comments[above][1])
            above -= 1
        words += [comments[number][1]] if number in comments else []
        found.setdefault(match[1], " ".join(words))
    return found
