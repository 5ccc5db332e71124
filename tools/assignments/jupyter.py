"""What a notebook understands beyond Python: magics, shell commands, help, `await` in a cell.

A submission's process runs its cells with this. What is Python is executed as it stands, however it
is laid out; only what is none is handed to IPython's own transformer, so that the same lines are
magics here and in Jupyter. Magics that run code run it; what others draw or install is left out.
"""

import __future__

import ast
import asyncio
import inspect
import os
import re
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from types import CodeType
from typing import Any

import IPython
from IPython.core import getipython
from IPython.core.inputtransformer2 import TransformerManager
from IPython.utils.text import DollarFormatter, SList

RUN_THEIR_CODE = ("time", "timeit", "prun", "capture")
SHELLS = ("bash", "sh", "script", "sx", "system", "!")
SHELL_SECONDS = 10  # on the clock, for a shell command that waits for what is not there
FUTURES = sum(getattr(__future__, n).compiler_flag for n in __future__.all_feature_names)
OPTIONS = re.compile(r"\s*(-\w+\s*\d*\s+)*")  # of %timeit -n 10 f(x)


def plain_python(source: str) -> str:
    """The cell as Python: unchanged where it is that already, else by IPython's rules."""
    try:
        ast.parse(source)
    except (SyntaxError, ValueError):
        magic = re.match(rf"\s*%%({'|'.join(RUN_THEIR_CODE)})\b(.*)\n", source)
        if magic is None:
            return TransformerManager().transform_cell(source)
        # in the place of the magic stands a line, so that the others keep their numbers
        names = magic[2].split() if magic[1] == "capture" else []
        kept = [f"{name} = get_ipython().captured" for name in names if name.isidentifier()]
        return "\n".join(["; ".join(kept), plain_python(source[magic.end() :])])
    return source


class Notebook:
    """Runs cells one after the other, all in the dictionary `names`."""

    def __init__(self, names: dict[str, Any]):
        self.names = names
        self.flags = 0  # what cells so far have imported from __future__
        self.last: Any = None
        self.loop = asyncio.new_event_loop()
        shell = Shell(self)
        names["get_ipython"] = lambda: shell
        for module in (IPython, getipython):  # for who imports it
            vars(module)["get_ipython"] = names["get_ipython"]

    def run(self, source: str, name: str) -> None:
        """One cell; the value of its last expression is `_` in the next."""
        codes = self.compiled(source, name, ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        task = self.loop.create_task(self._run(codes))
        try:
            value = self.loop.run_until_complete(task)
        finally:
            task.cancel()  # where it was stopped: not to go on in the next cell
        if value is not None and self.names.get("_") is self.last:
            self.names["_"] = self.last = value

    async def _run(self, codes: list[CodeType]) -> Any:
        value = None
        for code in codes:
            value = eval(code, self.names)
            if code.co_flags & inspect.CO_COROUTINE:
                value = await value
        return value

    def value_of(self, source: str) -> Any:
        """Of the last expression of what a magic runs."""
        value = None
        for code in self.compiled(source, "<magic>"):
            value = eval(code, self.names)
        return value

    def compiled(self, source: str, name: str, more: int = 0) -> list[CodeType]:
        """The statements, and apart from them a last expression."""
        tree = ast.parse(source, name)
        last = []
        if tree.body and isinstance(end := tree.body[-1], ast.Expr):
            last = [ast.Expression(end.value)]
            del tree.body[-1]
        codes = []
        for part, mode in [(tree, "exec"), *((expression, "eval") for expression in last)]:
            code = compile(part, name, mode, self.flags | more, dont_inherit=True)
            self.flags |= code.co_flags & FUTURES
            codes.append(code)
        return codes if last else [*codes, compile("None", name, "eval")]


class Nothing:
    """Stands for what only a running Jupyter has: whatever is asked of it does nothing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *_: Any, **__: Any) -> Any:
        return self


class Shell:
    """What `get_ipython()` gives a submission."""

    def __init__(self, notebook: Notebook):
        self.notebook, self.user_ns = notebook, notebook.names

    def __getattr__(self, name: str) -> Any:
        return getattr(Nothing(), name)

    def run_line_magic(self, name: str, line: str, *_: Any, **__: Any) -> Any:
        words = line.split()
        if name in RUN_THEIR_CODE:
            return self.notebook.value_of(OPTIONS.sub("", line, count=1))
        if name == "pwd":
            return str(Path.cwd())
        if name == "run" and words:
            return self.notebook.value_of(Path(words[0]).read_text(encoding="utf-8"))
        if name == "cd":
            with suppress(OSError):
                os.chdir(Path(*words[-1:]).expanduser())
        elif name in ("env", "set_env") and words:
            key, equals, value = line.partition("=") if "=" in line else line.partition(" ")
            if not equals:
                return os.environ.get(words[0])
            os.environ[key.strip()] = value.strip()
        elif name in SHELLS:
            return self.getoutput(line)
        return None

    def magic(self, line: str) -> Any:
        name, _, rest = line.lstrip("%").partition(" ")
        return self.run_line_magic(name, rest)

    def run_cell_magic(self, name: str, line: str, cell: str) -> Any:
        if name in ("writefile", "file"):
            how = "a" if "-a" in line.split() else "w"
            with Path(line.split()[-1]).open(how, encoding="utf-8") as file:
                file.write(cell)
        elif name in SHELLS:
            self.system(cell)

    def run_cell(self, source: str, *_: Any, **__: Any) -> None:
        self.notebook.value_of(plain_python(source))

    def system(self, command: str) -> None:
        self.getoutput(command)

    def getoutput(self, command: str, *_: Any, **__: Any) -> SList:
        """The lines that a shell command prints; without network, pip does not try."""
        with suppress(Exception):  # as IPython: braces of the shell's own stay
            command = DollarFormatter().vformat(command, (), self.user_ns)
        with tempfile.TemporaryFile() as printed:
            with suppress(subprocess.TimeoutExpired):
                subprocess.run(
                    command,
                    shell=True,
                    stdin=subprocess.DEVNULL,
                    stdout=printed,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, "PIP_NO_INDEX": "1"},
                    timeout=SHELL_SECONDS,
                    check=False,
                )
            printed.seek(0)
            return SList(printed.read().decode(errors="replace").splitlines())
