"""Peak memory of one piece of work: on the CPU measured in a fresh process of its own.

Our own, since asv's peakmem counts a process from its start, imports and preparation included.
"""

import gc
import importlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

_CHILD = "from archbook.timing.memory import report; report()"


def peak_bytes(
    target: str,
    given: Mapping[str, Any],
    *,
    before: Mapping[str, Any] | None = None,
    device: str = "cpu",
    timeout: float = 600.0,
) -> int:
    """Bytes by which the memory grows at its highest while the target's work runs once.

    `target` is "module:function" or "path/to/file.py:function". The function is called with
    the arguments `given` (numbers, text, lists, dicts), prepares everything, and returns a callable
    without arguments: that call alone is measured. `before`, arguments of a small work, which is
    run first, lets libraries load what they need once. On the CPU this is the growth of the
    resident set (Linux only). On a card it is that of the memory which torch has allocated there;
    torch counts it exactly, so no process of its own is needed.

    >>> peak_bytes("math", {})
    Traceback (most recent call last):
        ...
    ValueError: wanted "module:function" or "file.py:function", given 'math'
    """
    if not all(target.rpartition(":")):
        raise ValueError(f'wanted "module:function" or "file.py:function", given {target!r}')
    if torch.device(device).type == "cuda":
        return growth_of(_built(target, given, before))
    settings = {
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
        # Freed blocks go back to the system at once: else a later piece of work would reuse
        # them, and its own growth would look smaller than it is.
        "MALLOC_MMAP_THRESHOLD_": "65536",
        "MALLOC_TRIM_THRESHOLD_": "65536",
    }
    process = subprocess.run(
        [sys.executable, "-c", _CHILD, target, json.dumps([given, before])],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if process.returncode != 0:
        raise RuntimeError(
            f"{target} with {given} ended with code {process.returncode}:\n{process.stderr[-4000:]}"
        )
    return int(process.stdout.split()[-1])  # the work itself may have printed something before


def report() -> None:
    """What the fresh process does: prepare, measure one call, print the bytes."""
    target, arguments = sys.argv[1:]
    print(growth_of(_built(target, *json.loads(arguments))))


def _built(
    target: str, given: Mapping[str, Any], before: Mapping[str, Any] | None
) -> Callable[[], Any]:
    place, _, name = target.rpartition(":")
    build = getattr(_load(place), name)
    if before is not None:
        build(**before)()
    return build(**given)


def _load(place: str) -> ModuleType:
    if not place.endswith(".py"):
        return importlib.import_module(place)
    spec = importlib.util.spec_from_file_location(Path(place).stem, place)
    assert spec is not None  # a name that ends in .py always has a loader
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


def growth_of(work: Callable[[], Any]) -> int:
    """Bytes by which memory grows at its highest during one call, in this process."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    _warm_libraries()
    gc.collect()
    # 5 makes the highest resident set start again from the present one; getrusage would tell
    # the peak of the imports
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = _resident("VmRSS")
    work()
    return max(0, _resident("VmHWM") - before)


def _warm_libraries() -> None:
    """Let torch make its threads and work spaces now: they are no part of the work."""
    weight = torch.ones(64, 64, requires_grad=True)
    torch.fft.rfft(torch.ones(64, 64) @ weight).abs().sum().backward()


def _resident(name: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"this system does not tell {name}")
