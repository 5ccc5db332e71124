"""What a results file must hold: JSON schemas, in `schemas/` for any reader in any language."""

import json
from pathlib import Path
from typing import Any

from archbook.files import as_json

SCHEMAS = Path(__file__).parent / "schemas"


def check(value: Any, schema: str, where: str) -> list[str]:
    """What `value` lacks or holds wrongly by `schemas/SCHEMA.schema.json`; empty when nothing.

    Each fault begins with `where` (the file, say) and the place inside it, as in
    "psmnist.json.runs[0].seconds: 0 is less than ...".
    """
    # Imported here: who only reads results, as a page on Colab does, needs no validator.
    from jsonschema import Draft202012Validator
    from referencing import Registry

    try:
        as_json(value, where)
    except (TypeError, ValueError) as error:  # NaN or no JSON at all: no schema can tell
        return [str(error)]
    known = {file.name: json.loads(file.read_text("utf-8")) for file in SCHEMAS.glob("*.json")}
    validator = Draft202012Validator(
        known[f"{schema}.schema.json"], registry=Registry().with_contents(known.items())
    )
    faults = sorted(validator.iter_errors(value), key=lambda fault: fault.json_path)
    return [f"{where}{fault.json_path.removeprefix('$')}: {fault.message}" for fault in faults]
