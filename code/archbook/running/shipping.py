"""The one hand that writes shipped weights: the runner's, after the run whose number they carry."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

import safetensors.torch
import torch
from torch import nn

from archbook.files import write_bytes, write_json
from archbook.running.cells import Cell
from archbook.weights import shipped
from archbook.weights.own import header
from archbook.weights.shipped import Shipped

LIMIT = 1_500_000  # bytes of a chapter's weights inside the wheel


@dataclass(frozen=True)
class Ship:
    """What an experiment ships: one run's network, and the number that a reader can check.

    `recompute(network)` gives the metric anew, on the real test data, in seconds.

    >>> ship = Ship("lmu", 0, "test_accuracy", recompute=lambda network: 98.64, digits=2)
    >>> ship.variant, ship.metric
    ('lmu', 'test_accuracy')
    """

    variant: str
    seed: int
    metric: str
    recompute: Callable[[nn.Module], float]
    digits: int  # decimals to which file and run must agree


def write_weights(
    ship: Ship, cell: Cell, offered: tuple[nn.Module, dict[str, Any]] | None, metrics: dict
) -> str:
    """Write what a run offered, half as long where the number stays the same; say what was done.

    The file lies inside the package, so that the wheel has it.
    """
    if offered is None:
        raise RuntimeError(f"wanted {cell} to offer its network with run.offer, it offered none")
    (network, arguments), value = offered, metrics[ship.metric]
    place = cell.place.root / "code" / "archbook" / "weights"
    name = cell.place.experiment
    line = Shipped(
        file=f"{name}.safetensors",
        sha256="",
        network=f"{type(network).__module__.rsplit('.', 1)[0]}.{type(network).__name__}",
        arguments=arguments,
        results=name,
        variant=ship.variant,
        seed=ship.seed,
        metric=ship.metric,
        value=value,
        digits=ship.digits,
    )
    for kind in (torch.float16, torch.float32):
        weights = {key: kept.detach().cpu().to(kind) for key, kept in network.state_dict().items()}
        copy = shipped.build(line)
        copy.load_state_dict({key: kept.float() for key, kept in weights.items()})
        found = ship.recompute(copy.eval())
        if round(found, ship.digits) == round(value, ship.digits):
            break
    else:
        raise ValueError(
            f"wanted the weights of {cell} to give {ship.metric} {value}, they give {found}"
        )
    whole = {key: kept.contiguous() for key, kept in weights.items()}
    content = safetensors.torch.save(whole, metadata=header(network))
    known = shipped.manifest(place) | {name: replace(line, sha256=sha256(content).hexdigest())}
    others = [place / one.file for key, one in known.items() if key != name]
    beside = [path for path in others if path.parent.name == cell.place.stem]
    total = len(content) + sum(path.stat().st_size for path in beside)
    if total > LIMIT:
        raise ValueError(
            f"wanted at most {LIMIT:,} bytes of weights for {cell.place.stem}, given {total:,}"
        )
    write_bytes(place / line.file, content)
    write_json(place / shipped.MANIFEST, shipped.as_lines(known))
    return f"shipped {name}: {len(content):,} bytes, {str(kind).removeprefix('torch.')}"
