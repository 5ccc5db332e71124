"""Cells of notebooks that are handed in: Python as it stands, and what Jupyter adds to it."""

import ast

import IPython
import pytest
from hypothesis import given
from hypothesis import strategies as st
from IPython.core import getipython
from tools.assignments.jupyter import Notebook
from tools.assignments.submission import TooLong, computing_at_most, plain_python


@pytest.fixture
def notebook(monkeypatch, tmp_path):
    """Runs cells, and gives the names that they leave."""
    for module in (IPython, getipython):  # which a submission's process changes for itself
        monkeypatch.setattr(module, "get_ipython", module.get_ipython)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    running = Notebook({})

    def run(*cells: str) -> dict:
        for number, cell in enumerate(cells, start=1):
            running.run(plain_python(cell), f"<cell {number}>")
        return running.names

    yield run
    running.loop.close()


LAYOUTS = [  # of black, ruff and yapf, and what looks like a magic inside of Python
    "y = (\n    7\n    % 4\n)",
    "y = (\n    7\n    != 4\n)",
    "y = (\n    a\n    @ b\n)",
    "y = f(\n    x,\n    ?\n)".replace("?", '"?"'),
    'text = """\n%time\n!ls\nhelp?\n%%bash\n"""',
    "# %%time\nx = 1",
    "x = 7 \\\n    % 4",
    "if x:\n\ty = 1",
    "'%%time'",
    "",
    "await f()",
]


@pytest.mark.parametrize("source", LAYOUTS)
def test_what_is_python_is_executed_as_it_stands(source):
    assert plain_python(source) == source


names = st.sampled_from(["a", "b", "time", "who"])
operators = st.sampled_from(["%", "!=", "@", "//", "**", "-", ","])


@given(st.lists(st.tuples(operators, names), min_size=1), st.integers(0, 8))
def test_a_long_line_broken_anywhere_is_executed_as_it_stands(parts, indent):
    lines = [f"{' ' * indent}{operator} {name}" for operator, name in parts]
    source = "y = (\na\n" + "\n".join(lines) + "\n)\n"
    ast.parse(source)
    assert plain_python(source) == source


ASSIGNED = {  # cells, and what `x` is afterwards
    "shell": (["folder = !pwd", "import os; x = folder == [os.getcwd()]"], True),
    "shell with names": (["n = 3", "x = !echo {n + 1} $n"], ["4 3"]),
    "shell on disk": (["!mkdir -p figures", "import os; x = os.path.isdir('figures')"], True),
    "help": (["?len\nlen?\nlen??\nx = 1"], 1),
    "%time of a statement": (["%time x = 2"], 2),
    "%time of an expression": (["x = %time 1 + 1"], 2),
    "%time inside": (["for i in range(3):\n    %time x = i"], 2),
    "%timeit": (["%timeit -n 10 -r3 x = 5"], 5),
    "%%time": (["%%time\n\nx = (\n    7\n    % 4\n)"], 3),
    "%%capture": (["%%capture out --no-stderr\nx = 1", "out.show()"], 1),
    "two in one cell": (["%%time\n%%capture\nx = 1"], 1),
    "magic in a cell of one": (["%%time\n%matplotlib inline\nx = 1"], 1),
    "%env": (["%env ARCHBOOK_X=7", "import os; x = os.environ['ARCHBOOK_X']"], "7"),
    "%env read": (["%set_env ARCHBOOK_X 8", "x = %env ARCHBOOK_X"], "8"),
    "%cd and %pwd": (["!mkdir there\n%cd there\nx = %pwd", "x = x.endswith('there')"], True),
    "%%writefile": (["%%writefile written.py\nX = 9\n", "from written import X as x"], 9),
    "%run": (["%%writefile run.py\nx = 6\n", "%run run.py"], 6),
    "%%bash": (["%%bash\necho 5 > five", "x = open('five', encoding='utf-8').read()"], "5\n"),
    "other magics": (["%load_ext autoreload\n%autoreload 2\n%pip install x\nx = 1"], 1),
    "other cells": (["%%html\n<b>x</b>", "%%javascript\nx = 3", "x = 1"], 1),
    "by hand": (["get_ipython().run_line_magic('time', 'x = 4')"], 4),
    "in the old way": (["get_ipython().magic('%time x = 4')"], 4),
    "imported": (["from IPython import get_ipython", "get_ipython().run_cell('x = 4')"], 4),
    "hooks": (["get_ipython().events.register('post_run_cell', print)", "x = 1"], 1),
    "await": (["async def f():\n    return 3", "x = await f()"], 3),
    "await in %%time": (["async def f():\n    return 3", "%%time\nx = await f()"], 3),
    "a task": (
        ["import asyncio", "task = asyncio.create_task(asyncio.sleep(0, 3))", "x = await task"],
        3,
    ),
    "async for": (
        ["async def g():\n    yield 3", "async for x in g():\n    pass"],
        3,
    ),
    "prompts": ([">>> y = 1\n>>> x = y + 1"], 2),
    "indented": (["    y = 1\n    x = y + 1"], 2),
    "the last value": (["1 + 1", "x = _"], 2),
    "annotations": (["from __future__ import annotations", "def x(y: Later): ...", "x = 1"], 1),
}


@pytest.mark.parametrize("name", ASSIGNED)
def test_what_runs_in_jupyter_runs_here(notebook, monkeypatch, name):
    monkeypatch.setenv("ARCHBOOK_X", "")
    cells, x = ASSIGNED[name]
    assert notebook(*cells)["x"] == x


@pytest.mark.parametrize(
    ("cell", "error"),
    [
        ("def f(:\n    pass", SyntaxError),
        ("%time 1 / 0", ZeroDivisionError),
        ("%%time\n1 / 0", ZeroDivisionError),
        ("%time await f()", SyntaxError),
        ("exit()", SystemExit),
        ("x = 1\nraise KeyError", KeyError),
    ],
)
def test_what_fails_in_jupyter_fails_here_and_the_next_cell_runs(notebook, cell, error):
    with pytest.raises(error):
        notebook(cell)
    assert notebook("x = 3")["x"] == 3


def test_an_error_has_the_number_of_its_line_in_the_cell(notebook):
    with pytest.raises(ZeroDivisionError) as caught:
        notebook("%%time\n\n1 / 0")
    assert caught.traceback[-1].lineno == 2  # counted from 0


def test_a_name_of_the_submission_s_own_is_not_the_last_value(notebook):
    assert notebook("_ = 7\n1 + 1", "x = _")["x"] == 7


def test_a_cell_that_was_stopped_does_not_go_on_in_the_next(notebook):
    names = notebook("import asyncio\nturns = 0")
    with pytest.raises(TooLong), computing_at_most(0.2):
        notebook("while True:\n    turns += 1\n    await asyncio.sleep(0)")
    turns = names["turns"]
    notebook("for _ in range(9):\n    await asyncio.sleep(0)")
    assert names["turns"] == turns > 0


def test_a_shell_command_that_waits_is_left(notebook, monkeypatch):
    monkeypatch.setattr("tools.assignments.jupyter.SHELL_SECONDS", 0.1)
    assert notebook("x = !echo 1; sleep 60")["x"] == ["1"]
