"""The schemas of results files: sound themselves, and faults told with their place."""

import json

import pytest
from jsonschema import Draft202012Validator

from archbook.running import environment
from archbook.running.schema import SCHEMAS, check


@pytest.mark.parametrize("path", sorted(SCHEMAS.glob("*")), ids=lambda path: path.name)
def test_a_schema_is_itself_sound_and_named_for_its_file(path):
    schema = json.loads(path.read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    assert schema["$id"] == path.name
    assert schema["$schema"] == Draft202012Validator.META_SCHEMA["$id"]


def test_an_environment_of_this_machine_is_complete():
    assert check(environment(), "environment", "machine") == []


def test_every_fault_is_told_where_it_is():
    machine = environment() | {"torch": "", "threads": "two"}
    del machine["date"]
    assert check(machine, "environment", "machine") == [
        "machine: 'date' is a required property",
        "machine.threads: 'two' is not of type 'integer'",
        "machine.torch: '' should be non-empty",
    ]
    for key in environment():  # none of them may be left out
        machine = environment()
        del machine[key]
        assert check(machine, "environment", "x") == [f"x: {key!r} is a required property"]


def test_what_json_cannot_hold_is_a_fault_of_its_own():
    assert check({"torch": {1}}, "environment", "x") == [
        "x.torch: wanted a number, text, None, a list or a dict, given set"
    ]
