"""Which machine, which versions, which seed: what a measured number depends on.

Ours: the reporters at hand (torch.utils.collect_env, watermark) print for people, with folders of
the machine; a results file needs eleven plain values without any.
"""

import platform
import random
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

import archbook
from archbook.checks import as_size


def pick_device(name: str | torch.device | None = None) -> torch.device:
    """The device to work on: the one named, else a CUDA card where there is one, else the CPU.

    Apple's "mps" is used only when named: it has no float64, which the chapters' checks need.

    >>> pick_device("cpu")
    device(type='cpu')
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    # torch refuses a missing device with any of these, depending on how it was built
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"wanted one of the devices {available_devices()}, given {name!r} ({reason})"
        ) from None
    return device


def available_devices() -> list[str]:
    """Names that `pick_device` accepts on this machine."""
    cards = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    return ["cpu", *cards, *(["mps"] if torch.backends.mps.is_available() else [])]


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, NumPy and torch (every device).

    >>> seed_everything(3)
    >>> first = torch.rand(2)
    >>> seed_everything(3)
    >>> torch.equal(torch.rand(2), first)
    True
    """
    seed = as_size("seed", seed, least=0)
    if seed >= 2**32:
        raise ValueError(f"wanted a seed from 0 to 2**32 - 1, given {seed}")
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  the global generator is the one that libraries draw from
    torch.manual_seed(seed)


def synchronize(device: torch.device | str | None) -> None:
    """Wait until the device has done what it was asked to do; nothing to wait for on a CPU.

    >>> synchronize("cpu")  # nothing to wait for
    """
    kind = torch.device(device).type if device is not None else "cpu"
    if kind == "cuda":
        torch.cuda.synchronize(device)
    elif kind == "mps":
        torch.mps.synchronize()


def environment(device: torch.device | str = "cpu", root: Path | None = None) -> dict:
    """What a results file says about the machine and the code behind a number.

    `root` is the repository; without it, the checkout that this package runs from. Nothing here
    names a folder of the machine: the command is written relative to the repository.

    >>> told = environment("cpu")
    >>> told["device"], "torch" in told, "git_commit" in told
    ('cpu', True, True)
    """
    root = root if root is not None else repository_root()
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "archbook": archbook.__version__,
        "platform": f"{platform.system()} {platform.machine()}",
        "device": str(torch.device(device)),
        "device_name": device_name(device),
        "threads": torch.get_num_threads(),
        "git_commit": git_commit(root),
        "command": command_line(root),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def device_name(device: torch.device | str) -> str:
    """The model of the processor or of the card.

    >>> device_name("cpu") == environment("cpu")["device_name"]
    True
    """
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def repository_root() -> Path | None:
    """The checkout that this package runs from; None when it was installed as a wheel."""
    code = Path(__file__).resolve().parents[2]
    return code.parent if code.name == "code" else None


def git_commit(root: Path | None) -> str:
    """The commit, with "+dirty" where a file that numbers depend on differs from it."""
    head = _git(root, "rev-parse", "HEAD")
    if not head:
        return "unknown"
    changed = _git(root, "status", "--porcelain", "--", "code", "experiments", "benchmarks")
    return head + ("+dirty" if changed else "")


def _git(root: Path | None, *arguments: str) -> str:
    if root is None:
        return ""
    try:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def command_line(root: Path | None) -> str:
    """This process's command, every path in it relative to the repository."""
    return " ".join(["python", *(_relative(word, root) for word in sys.argv)])


def _relative(word: str, root: Path | None) -> str:
    option, equals, value = word.rpartition("=") if word.startswith("-") else ("", "", word)
    if Path(value).is_absolute():
        # a path outside the repository is somebody's own place: only its last part is told
        if root is not None and Path(value).is_relative_to(root):
            value = Path(value).relative_to(root).as_posix()
        else:
            value = Path(value).name
    return option + equals + value
