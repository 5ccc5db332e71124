"""What the pages use to prove a claim: modules compared, numbers handed to the prose."""

import copy
import dataclasses
import math
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from archbook.running import device_name, environment, read_results
from archbook.timing import precisions

__all__ = ["assert_same_module"]  # the rest writes the book's pages


def assert_same_module(mine: nn.Module, reference: nn.Module, *inputs: Any, **kwargs: Any) -> None:
    """Fail unless both modules give equal outputs and equal gradients, in float64.

    Works on copies. The reference's weights are redrawn so that every part of it matters (an
    initial weight of 0.001 would hide a mistake below the tolerance) and are loaded into `mine`:
    same names, same shapes. Compared are all outputs, in tuples, lists, dicts and dataclasses,
    and the gradients of all parameters and of all floating-point inputs. `kwargs` go to forward.

    >>> mine = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU())
    >>> reference = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Tanh())
    >>> assert_same_module(mine, mine, torch.randn(5, 3))
    >>> assert_same_module(mine, reference, torch.randn(5, 3))
    Traceback (most recent call last):
        ...
    AssertionError: output: Tensor-likes are not close!
    ...
    """
    for module in (mine, reference):
        if not isinstance(module, nn.Module):
            raise TypeError(f"wanted two torch modules, given {type(module).__name__}")
    mine, reference = copy.deepcopy(mine).double(), copy.deepcopy(reference).double()
    for module in (mine, reference):
        module.requires_grad_()  # weights that training leaves alone are compared all the same
    _redraw(reference)
    _load(mine, reference)
    arguments = _map((inputs, kwargs), _leaf)
    my_output, my_gradients = _outputs_and_gradients(mine, arguments)
    output, gradients = _outputs_and_gradients(reference, arguments)
    _assert_close(my_output, output)
    _assert_close(my_gradients, gradients)


def _redraw(module: nn.Module) -> None:
    """Random weights that keep the outputs of every layer at order one."""
    generator = torch.Generator().manual_seed(0)  # the reader's own random numbers stay
    for parameter in module.parameters():
        fan_in = parameter[0].numel() if parameter.dim() > 1 else 1
        drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            parameter.copy_(drawn / math.sqrt(max(1, fan_in)))


def _load(mine: nn.Module, reference: nn.Module) -> None:
    own = {name: tuple(value.shape) for name, value in mine.state_dict().items()}
    wanted = {name: tuple(value.shape) for name, value in reference.state_dict().items()}
    faults = [f"{name} {wanted[name]} is missing" for name in wanted.keys() - own.keys()]
    faults += [f"{name} {own[name]} is too much" for name in own.keys() - wanted.keys()]
    faults += [
        f"{name} has shape {own[name]}, wanted {wanted[name]}"
        for name in own.keys() & wanted.keys()
        if own[name] != wanted[name]
    ]
    if faults:
        raise AssertionError(
            f"the weights of {type(mine).__name__} are not those of {type(reference).__name__}: "
            + "; ".join(sorted(faults))
        )
    mine.load_state_dict(reference.state_dict(), strict=True)


def _leaf(value: Any) -> Any:
    """A float64 copy that collects a gradient; integers and masks are copied as they are."""
    if not isinstance(value, Tensor):
        return value
    copied = value.detach().clone()
    if value.is_floating_point():
        return copied.double().requires_grad_()
    return copied.to(torch.complex128).requires_grad_() if value.is_complex() else copied


def _outputs_and_gradients(
    module: nn.Module, arguments: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    given = _map(arguments, lambda value: value.clone() if isinstance(value, Tensor) else value)
    inputs, kwargs = given
    with torch.random.fork_rng():  # dropout draws the same numbers in both modules
        torch.manual_seed(0)
        outputs = dict(_leaves(module(*inputs, **kwargs), "output"))
    before, after = dict(_leaves(arguments, "input")), dict(_leaves(given, "input"))
    for name, value in before.items():
        if isinstance(value, Tensor) and not torch.equal(value, after[name]):
            raise AssertionError(f"{type(module).__name__} changed its {name}")
    sources = {f"gradient of {name}": value for name, value in module.named_parameters()}
    sources |= {f"gradient of {name}": value for name, value in before.items() if _grows(value)}
    results = [value for value in outputs.values() if _grows(value)]
    if not results or not sources:
        return outputs, {}
    total = torch.stack([_weighted_sum(value) for value in results]).sum()
    found = torch.autograd.grad(total, list(sources.values()), allow_unused=True)
    # a source that the output does not depend on has the gradient zero
    return outputs, {
        name: torch.zeros_like(source) if gradient is None else gradient
        for (name, source), gradient in zip(sources.items(), found, strict=True)
    }


def _grows(value: Any) -> bool:
    return isinstance(value, Tensor) and value.requires_grad


def _weighted_sum(value: Tensor) -> Tensor:
    """A number whose gradient sees every entry: the plain sum of a softmax would see none."""
    value = torch.view_as_real(value.resolve_conj()) if value.is_complex() else value
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(value.shape, generator=generator, dtype=torch.float64)
    return (value.double() * weights.to(value.device)).sum()


def _map(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_map(item, change) for item in value))
    if isinstance(value, list | tuple):
        return type(value)(_map(item, change) for item in value)
    if isinstance(value, dict):
        return {key: _map(item, change) for key, item in value.items()}
    return change(value)


def _leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """The tensors and numbers inside a nested value, each with its place in it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from _leaves(getattr(value, field.name), f"{name}.{field.name}")
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, f"{name}[{key!r}]")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _leaves(item, f"{name}[{index}]")
    else:
        yield name, value


def _assert_close(mine: dict[str, Any], reference: dict[str, Any]) -> None:
    if mine.keys() != reference.keys():
        raise AssertionError(f"wanted {sorted(reference)}, given {sorted(mine)}")
    for name, wanted in reference.items():
        if isinstance(wanted, Tensor | int | float):
            torch.testing.assert_close(
                mine[name], wanted, msg=lambda text, at=name: f"{at}: {text}"
            )
        elif mine[name] != wanted:
            raise AssertionError(f"{name}: wanted {wanted!r}, given {mine[name]!r}")


def glue(name: str, value: Any) -> None:
    """Hand a value to the prose of the page, which shows it with {glue}; displays nothing.

    Where myst-nb is not installed, as on Colab, there is no page to hand it to.
    """
    try:
        from myst_nb import glue as glue_into_page
    except ImportError:
        return
    glue_into_page(name, value, display=False)


def show_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Display a table, first column left, the others right; plain text where Markdown is not."""
    from IPython.display import display

    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"wanted rows of {len(header)} entries, given {list(row)}")
    lines = [header, [":--"] + ["--:"] * (len(header) - 1), *rows]
    text = "\n".join("| " + " | ".join(str(entry) for entry in line) + " |" for line in lines)
    display({"text/markdown": text, "text/plain": text}, raw=True)


def show_environment(device: torch.device | str = "cpu") -> None:
    """Print on what a page was run: device, threads, versions. One cell, at its end."""
    found = environment(device)
    print(f"device   {found['device']} ({found['device_name']}), {found['threads']} CPU threads")
    versions = (f"{name} {found[name]}" for name in ("torch", "numpy", "archbook"))
    print(f"versions Python {found['python']}, {', '.join(versions)}")


def show_card(stem: str, work: Callable[[], tuple[Tensor, ...]], device: torch.device) -> None:
    """What a GPU makes of a forward pass: launches, time and error of fewer bits, its kernel.

    Measured now where `device` is one; else what the chapter's benchmark measured on another, and
    nothing where it has not. `work` returns the pass's tensors, the output first.
    """
    if device.type == "cuda":
        where, candidates = device_name(device), precisions(work, 1.0, device=str(device))
    else:
        try:
            tables = read_results(stem, "bench_cuda")["tables"]
        except FileNotFoundError:
            tables = []
        found = next((table for table in tables if table["name"] == "precision"), None)
        if found is None:
            return
        row = found["rows"][0]
        size = ", ".join(f"{name} {value:,}" for name, value in row["size"].items())
        title = textwrap.fill(found["title"], 72)
        where = "\n".join([found["environment"]["device_name"], title, size])
        candidates = row["candidates"]
    print(where)
    rows = [
        [
            name,
            f"{one['ratio']['median']:.2f}",
            one["launches"],
            f"{one['error']:.0e}" if one["error"] else "–",
        ]
        for name, one in candidates.items()
    ]
    show_table(["", "time", "launches", "relative error"], rows)
    print("longest kernel:", next(iter(candidates.values()))["kernels"][0][:50])
