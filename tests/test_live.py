"""Figures that a reader can change: they show what torch computes. Run by `make pages`.

The constants are compared without a browser.
"""

import json
import re

import pytest
import torch
from built_book import HTML
from chromium import PATIENCE
from scripts import script
from tools import live
from torch import nn

from archbook.data import nrmse
from archbook.dca import top_pairs
from archbook.egnn import EGNN, GNN, complete_edges
from archbook.lmu import LegendreMemory, LinearMemory, legendre_delay_matrices, legendre_readout

every_figure = pytest.mark.parametrize("name", live.FIGURES)
f64 = torch.float64
PAGES = {
    "lmu_window": "book/lmu",
    "egnn_turn": "book/egnn",
    "msa_pair": "book/msa_transformer",
}


def constants(name: str) -> dict:
    return json.loads((live.FOLDER / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name == "msa_pair")) for name in live.FIGURES],
)
def test_the_constants_are_those_of_the_package(name: str):
    assert (live.FOLDER / f"{name}.json").read_text(encoding="utf-8") == live.text_of(name)


@pytest.mark.parametrize("path", sorted(live.FOLDER.glob("*.js")), ids=lambda path: path.stem)
def test_a_script_is_small_plain_and_moves_nothing_by_itself(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.encode()) <= 10_000
    for word in ("fetch(", "XMLHttpRequest", "import ", "setInterval", "setTimeout", "Animation"):
        assert word not in text


# ---- what the build refuses ----


@pytest.mark.book
@pytest.mark.parametrize(
    ("options", "content", "message"),
    [
        ({"alt": "words"}, "", "wanted the option figure, given none"),
        ({"figure": "fig"}, "", "wanted the option alt, given none"),
        ({"figure": "fig-other", "alt": "words"}, "", "wanted a figure fig-other on its page"),
        ({"figure": "fig-bare", "alt": "words"}, "", "wanted a picture with an alternative text"),
    ],
)
def test_the_build_refuses(options, content, message, monkeypatch, tmp_path):
    pytest.importorskip("sphinx")
    from sphinx.application import Sphinx

    root = live.FOLDER.parents[2]
    (tmp_path / "book" / "_static").mkdir(parents=True)
    (tmp_path / "book" / "_static" / "live").symlink_to(live.FOLDER)
    (tmp_path / "dot.png").write_bytes((root / "book" / "_static" / "page.png").read_bytes())
    lines = [f":{key}: {value}" for key, value in options.items()]
    page = ["# Page", "", "```{figure} dot.png", ":name: fig-bare", "A caption.", "```", ""]
    page += ["```{live} lmu_window", *lines, "```", ""]
    (tmp_path / "index.md").write_text("\n".join(page), encoding="utf-8")
    monkeypatch.syspath_prepend(root / "book" / "_ext")
    settings = {"extensions": ["myst_parser", "live"], "root_doc": "index"}
    out = tmp_path / "out"
    app = Sphinx(tmp_path, None, out, out / ".doctrees", "html", settings, status=None)
    with pytest.raises(script("book/_ext/live.py").ExtensionError, match=message):
        app.build()


# ---- in the browser ----


def put(page, label: str, value) -> None:
    """Sets the control of that label, as a reader does."""
    control = page.locator(".live-controls label", has_text=label).locator("input, select")
    if isinstance(value, bool):
        control.set_checked(value)
    elif control.evaluate("one => one.tagName") == "SELECT":
        control.select_option(value)
    else:
        control.evaluate(
            "(one, value) => { one.value = value; one.dispatchEvent(new Event('input')) }", value
        )


def numbers(page) -> list[float]:
    """The numbers with a decimal point that the figure says."""
    said = page.locator(".live output").text_content()
    return [float(text) for text in re.findall(r"-?\d+\.\d+(?:e[+-]?\d+)?", said)]


def window_error(kind: str, *, period=60, d=24, theta=200, euler=False) -> float:
    """What the figure of the LMU prints, in percent, from the package."""
    given = constants("lmu_window")
    t = torch.arange(given["steps"], dtype=f64)
    wave = torch.sin(2 * torch.pi * t / period)
    signal = {
        "sine": wave,
        "two sines": wave + torch.sin(2 * torch.pi * t / (2.5 * period)),
        "step": (t >= given["steps"] - 100).double(),
        "noise": torch.tensor(given["noise"], dtype=f64),
    }[kind]
    memory = LegendreMemory(d, float(theta)).double()
    if euler:
        memory = LinearMemory(*legendre_delay_matrices(d, theta, "euler")).double()
    m = memory(signal[None, :, None], "recurrent")[0, -1, 0]
    window = legendre_readout(d, (torch.arange(theta, dtype=f64) + 0.5) / theta) @ m
    return 100 * nrmse(window, signal[-theta:].flip(0))


WINDOWS = [
    dict(kind="two sines"),
    dict(kind="sine", period=25, d=12, theta=300),
    dict(kind="noise", d=48, theta=150),
    dict(kind="step", d=1, theta=50),
    dict(kind="two sines", d=10, theta=50, euler=True),
]


@pytest.mark.browser
@pytest.mark.parametrize("setting", WINDOWS, ids=str)
def test_the_window_is_recalled_as_torch_recalls_it(setting: dict, visit):
    page = visit("book/lmu.html").page
    put(page, "signal", setting["kind"])
    put(page, "steps a period", setting.get("period", 60))
    put(page, "numbers d", setting.get("d", 24))
    put(page, "window θ", setting.get("theta", 200))
    put(page, "time step", "Euler" if setting.get("euler") else "zero-order hold")
    wanted = window_error(**setting)
    shown = f"{wanted:.2f}" if wanted < 1000 else f"{wanted:.2e}"
    assert numbers(page)[0] == float(shown)


def loaded(network: nn.Module, weights: dict) -> nn.Module:
    """The network with the weights of the page, in float64."""

    def fill(module: nn.Module, given) -> None:
        if isinstance(module, nn.Linear):
            for name, value in given.items():
                getattr(module, name).data = torch.tensor(value, dtype=f64)
        elif isinstance(given, list):
            parts = [part for part in module if list(part.parameters())]
            for part, one in zip(parts, given, strict=True):
                fill(part, one)
        else:
            for name, one in given.items():
                fill(getattr(module, name), one)

    fill(network, weights)
    return network.double()


class PerAxis(nn.Module):
    """The broken twin: the second axis of every difference counts twice."""

    def __init__(self, net: EGNN):
        super().__init__()
        self.net = net
        for layer in net.layers:
            moved = layer.moved
            layer.moved = lambda pairs, x, difference, moved=moved, **rest: moved(
                pairs, x, difference * torch.tensor([1.0, 2.0], dtype=f64), **rest
            )

    def forward(self, h, x, edges):
        return self.net(h, x, edges)


def answers(kind: str, *, angle: float, mirror: bool) -> tuple[float, float]:
    """What the figure of the EGNN prints: the miss, and the longest arrow."""
    given = constants("egnn_turn")
    x, h = (torch.tensor(given[key], dtype=f64) for key in ("x", "h"))
    edges = complete_edges([len(x)])
    if kind == "plain GNN":
        gnn = loaded(GNN(h.shape[1] + 2, live.HIDDEN, 2, out_features=2), given["networks"]["gnn"])

        def f(x):
            return gnn(torch.cat([h, x], -1), edges)
    else:
        egnn = loaded(EGNN(h.shape[1], live.HIDDEN, 2), given["networks"]["egnn"])
        net = PerAxis(egnn) if "axis" in kind else egnn

        def f(x):
            return net(h, x, edges)[1] - x

    turn = torch.deg2rad(torch.tensor(angle, dtype=f64))
    Q = torch.stack(
        [torch.stack([turn.cos(), -turn.sin()]), torch.stack([turn.sin(), turn.cos()])]
    ) @ torch.diag(torch.tensor([-1.0 if mirror else 1.0, 1.0], dtype=f64))
    with torch.no_grad():
        still, moved = f(x), f(x @ Q.T)
        miss = (moved - still @ Q.T).norm() / still.norm()
    return float(miss), float(still.norm(dim=1).max())


TURNS = [
    dict(kind="plain GNN", angle=120, mirror=False),
    dict(kind="plain GNN", angle=35, mirror=True),
    dict(kind="EGNN", angle=75, mirror=True),
    dict(kind="EGNN, a gate per axis", angle=90, mirror=False),
]


@pytest.mark.browser
@pytest.mark.parametrize("setting", TURNS, ids=str)
def test_the_molecules_answer_is_that_of_torch(setting: dict, visit):
    """The longest arrow too: an EGNN misses by nothing, whatever its weights."""
    page = visit("book/egnn.html").page
    put(page, "network", setting["kind"])
    put(page, "turn by", setting["angle"])
    put(page, "mirror", setting["mirror"])
    assert numbers(page) == [float(f"{value:.3f}") for value in answers(**setting)]


SCORES = ("covariance", "mean field", "learned likings")  # as the sentence has them


def riboswitch(rows: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What the figure of the MSA Transformer starts from: states, likings, pairs."""
    given = constants("msa_pair")
    states = torch.tensor([[live.LETTERS.index(letter) for letter in row] for row in given["rows"]])
    likings = torch.tensor(given["likings"], dtype=f64)
    return states[:rows], likings, torch.tensor(given["pairs"])


def right_of(rows: int, stems: bool = False) -> dict[str, float]:
    """The share of base pairs among as many best ones, by each score."""
    states, likings, pairs = riboswitch(rows)
    found = live.right_shares(states, likings, pairs)[int(stems)].tolist()
    return dict(zip(live.SCORES, found, strict=True))


def ranks(rows: int, i: int, j: int, stems: bool = False) -> dict[str, tuple[float, int]]:
    """Of two columns: each score's value, and their place in its ranking."""
    states, likings, _ = riboswitch(rows)
    found = {}
    for name, score in zip(live.SCORES, live.pair_scores(states, likings), strict=True):
        score = live.along_stems(score) if stems else score
        ranked = top_pairs(score, score.numel(), live.SEPARATION).tolist()
        found[name] = (float(score[i, j]), ranked.index([i, j]) + 1)
    return found


COLUMNS = [
    dict(rows=4, i=28, j=52),
    dict(rows=2, i=0, j=95),
    dict(rows=17, i=11, j=80),
    dict(rows=64, i=20, j=60),
    dict(rows=9, i=93, j=95 - 6, stems=True),
    dict(rows=64, i=27, j=53, stems=True),
]


@pytest.mark.browser
@pytest.mark.parametrize("setting", COLUMNS, ids=str)
def test_two_columns_score_as_torch_scores_them(setting: dict, visit):
    """And stand at the same place, and as many of the best pairs are right."""
    rows, i, j, stems = (setting.get(key, False) for key in ("rows", "i", "j", "stems"))
    page = visit("book/msa_transformer.html").page
    put(page, "sum along stems", stems)
    put(page, "column", i)
    put(page, "and", j)
    put(page, "rows", rows)
    found, right = ranks(rows, min(i, j), max(i, j), stems), right_of(rows, stems)
    values = [float(f"{found[name][0]:.3f}") for name in SCORES]
    assert numbers(page) == values + [float(f"{right[name]:.2f}") for name in SCORES]
    said = page.locator(".live output").text_content()
    assert [int(place) for place in re.findall(r"place (\d+)", said)] == [
        found[name][1] for name in SCORES
    ]


def test_what_the_page_says_of_the_riboswitch_holds():
    given = constants("msa_pair")
    first, second = given["first"]["value"], given["second"]["value"]
    places = {name: place for name, (_, place) in ranks(4, first, second).items()}
    assert places["learned likings"] == 1
    assert min(places["covariance"], places["mean field"]) > 200
    plain, stems = (dict(zip(live.SCORES, curves, strict=True)) for curves in given["curves"])
    lead = torch.tensor(plain["learned likings"]) - torch.tensor(plain["mean field"])
    assert (lead.sign() == torch.tensor([1, 1, 1, 1, 0, -1])).all()
    assert right_of(19)["mean field"] < right_of(19)["learned likings"]
    assert right_of(21)["mean field"] == right_of(21)["learned likings"]
    for name in SCORES:
        assert all(more > one for one, more in zip(plain[name], stems[name], strict=True))
    assert len({stems[name][given["depths"].index(8)] for name in SCORES}) == 1


@pytest.mark.browser
def test_a_click_takes_the_columns_of_the_nearest_arc(visit):
    page = visit("book/msa_transformer.html").page
    put(page, "column", 20)
    put(page, "and", 60)
    picture = page.locator(".live svg")
    picture.scroll_into_view_if_needed()
    picture.click(position={"x": picture.bounding_box()["width"] / 2, "y": 10})
    assert "Columns 0 and 95, a pair" in page.locator(".live output").text_content()


@pytest.mark.browser
@every_figure
def test_the_keyboard_alone_changes_a_figure(name: str, visit):
    page = visit(f"{PAGES[name]}.html").page
    page.locator(".live select").first.select_option(index=0)
    page.locator(".live input[type=range]:visible").last.focus()
    page.keyboard.press("Home")  # wherever another test left it, there is room to the right
    before = page.locator(".live output").text_content()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.locator(".live output").text_content() != before


@pytest.mark.browser
def test_a_pointer_draws_a_signal(visit):
    page = visit("book/lmu.html").page
    put(page, "signal", "sine")
    picture = page.locator(".live svg")
    picture.scroll_into_view_if_needed()
    box = picture.bounding_box()
    page.mouse.move(box["x"] + 150, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 170, box["y"] + 60)
    page.mouse.up()
    control = page.locator(".live-controls label", has_text="signal").locator("select")
    assert control.input_value() == "drawn by you"


@pytest.mark.browser
@every_figure
def test_without_a_script_the_picture_stays(name: str, browser):
    page = browser.new_page(java_script_enabled=False)
    page.goto((HTML / f"{PAGES[name]}.html").as_uri())
    figure = page.locator("figure", has=page.locator(f".live[data-live={name}]"))
    assert figure.locator("img").is_visible()
    assert not figure.locator(".live").is_visible()
    page.close()


@pytest.mark.browser
@every_figure
def test_from_a_file_a_figure_works_too(name: str, browser):
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto((HTML / f"{PAGES[name]}.html").as_uri())
    page.locator(".live output").filter(has_text=re.compile(r"\d\.\d")).wait_for()
    page.close()
