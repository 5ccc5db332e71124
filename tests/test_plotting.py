"""Figures: one look, a text for who cannot see them, a bounded size."""

import base64
import io
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("matplotlib").use("agg")
display_module = pytest.importorskip("IPython.display")

import matplotlib.pyplot as plt  # noqa: E402  after the backend is chosen

from archbook import plotting  # noqa: E402
from archbook.plotting import (  # noqa: E402
    COLORS,
    NARROW,
    png,
    png_width,
    show,
    stacked,
    style,
    text_pixels,
)


@pytest.fixture(autouse=True)
def _clean():
    with style():
        yield
    plt.close("all")


@pytest.fixture
def shown(monkeypatch):
    """What was sent to the notebook."""
    sent = []

    def display(data, raw, metadata):
        assert raw
        sent.append((data, metadata))

    monkeypatch.setattr(display_module, "display", display)
    return sent


def curve():
    fig, ax = plt.subplots()
    ax.plot([0, 1, 2], [0, 1, 4], label="a curve")
    ax.legend()
    return fig


def luminance(color):
    """Relative luminance, WCAG 2."""
    levels = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in levels]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def test_a_figure_is_shown_at_twice_the_pixels_with_its_text(shown):
    show(curve(), alt="A parabola,\n   rising.")
    ((data, metadata),) = shown
    pixels = png_width(base64.b64decode(data["image/png"]))
    narrow = metadata["image/png"].pop("narrow")
    assert metadata == {"image/png": {"width": 640, "alt": "A parabola, rising."}}
    assert png_width(base64.b64decode(narrow["png"])) == 2 * NARROW
    assert narrow["text"] == pytest.approx(8 * 100 / 72, abs=0.1)
    assert pixels == 2 * 640
    assert data["text/plain"] == "A parabola, rising."


def test_a_numbered_figure_carries_its_name_and_caption(shown):
    show(curve(), "A parabola.", name="fig-curve", caption="The curve $x^2$.")
    about = shown[0][1]["image/png"]
    assert (about["name"], about["caption"]) == ("fig-curve", "The curve $x^2$.")


def test_a_shown_figure_is_closed_so_that_it_is_not_shown_twice(shown):
    show(curve(), alt="A parabola.")
    assert plt.get_fignums() == []


@pytest.mark.parametrize(
    ("about", "error", "message"),
    [
        ({"alt": " \n"}, ValueError, "wanted an alternative text"),
        ({"alt": None}, TypeError, "given NoneType"),
        ({"alt": "A curve.", "name": "fig-a"}, ValueError, "wanted name and caption or neither"),
        ({"alt": "A curve.", "caption": "A."}, ValueError, "wanted name and caption or neither"),
    ],
)
def test_a_figure_without_its_texts_is_refused(shown, about, error, message):
    with pytest.raises(error, match=message):
        show(curve(), **about)
    assert shown == []


@pytest.mark.slow
def test_the_same_figure_is_the_same_bytes():
    assert png(curve()) == png(curve())


@pytest.mark.slow
def test_a_figure_above_the_limit_has_its_colours_reduced(monkeypatch):
    monkeypatch.setattr(plotting, "PALETTE_FROM", plotting.MOST_BYTES)
    full = png(curve())
    monkeypatch.setattr(plotting, "MOST_BYTES", len(full) - 1)
    reduced = png(curve())
    assert len(reduced) < len(full)
    assert png_width(reduced) == png_width(full)
    difference = plt.imread(io.BytesIO(full))[..., :3] - plt.imread(io.BytesIO(reduced))[..., :3]
    assert np.abs(difference).max() < 0.1


def test_a_figure_that_stays_too_large_is_refused_and_closed(shown, monkeypatch):
    monkeypatch.setattr(plotting, "MOST_BYTES", 1000)
    with pytest.raises(ValueError, match="wanted a figure of at most 1000 bytes"):
        show(curve(), alt="A parabola.")
    assert plt.get_fignums() == []
    assert shown == []


def test_a_figure_may_weigh_no_more_than_the_books_limit():
    assert len(png(curve())) < plotting.MOST_BYTES == 100_000


# ---- the picture for phones ----


def panels(rows, columns, **options):
    fig, axes = plt.subplots(rows, columns, figsize=(8, 3), **options)
    for axis in axes.flat:
        axis.plot([0, 1, 2], [0, 1, 4], label="a curve")
    return fig, axes


def test_panels_side_by_side_are_stacked():
    fig, (left, right) = panels(1, 2, sharey=True)
    left.set_ylabel("height")
    narrow = stacked(fig)
    narrow.draw_without_rendering()
    assert narrow.get_figwidth() * 100 == pytest.approx(NARROW)
    assert left.get_position().y0 > right.get_position().y1
    assert right.get_ylabel() == "height"
    assert right.yaxis.get_tick_params()["labelleft"]


def test_panels_of_equal_aspect_stay_two_side_by_side_unless_a_colour_bar_needs_the_room():
    fig, axes = panels(1, 4)
    for axis in axes:
        axis.set_aspect("equal")
    narrow = stacked(fig)
    narrow.draw_without_rendering()
    assert axes[0].get_position().y0 == pytest.approx(axes[1].get_position().y0, abs=0.01)
    assert axes[0].get_position().y0 > axes[2].get_position().y1

    fig, axes = plt.subplots(1, 2, figsize=(8, 3))
    for axis in axes:
        fig.colorbar(axis.imshow(np.eye(3)), ax=axis)
    narrow = stacked(fig)
    assert axes[0].get_position().y0 > axes[1].get_position().y1


def test_a_legend_goes_above_its_panel():
    fig = curve()
    (axis,) = fig.axes
    narrow = stacked(fig)
    narrow.draw_without_rendering()
    (legend,) = [axis.get_legend()]
    assert [text.get_text() for text in legend.get_texts()] == ["a curve"]
    assert legend.get_window_extent().y0 >= axis.get_window_extent().y1
    assert legend.get_texts()[0].get_fontsize() == 8


def test_the_smallest_text_counts_and_an_empty_or_hidden_one_does_not():
    fig = curve()
    fig.axes[0].text(0, 0, "", fontsize=2)
    fig.axes[0].text(0, 0, "hidden", fontsize=2).set_visible(False)
    assert text_pixels(fig) == pytest.approx(11 * 100 / 72)
    fig.axes[0].text(0, 0, "small", fontsize=5)
    assert text_pixels(fig) == pytest.approx(5 * 100 / 72)


@pytest.mark.parametrize(
    ("size", "fontsize", "x", "message"),
    [
        (3.42, 6, 0.5, "wanted text of at least 11 pixels in the narrow picture, given 8.3"),
        (5.0, 11, 0.5, "wanted a narrow picture of 3.42 inches, given one of 5.00"),
        (3.42, 11, 2.0, "wanted all of the narrow picture inside its edges"),
    ],
)
def test_a_narrow_picture_that_nobody_could_read_is_refused(shown, size, fontsize, x, message):
    narrow, axis = plt.subplots(figsize=(size, 2), layout="none")
    axis.text(x, 0.5, "words", fontsize=fontsize)
    with pytest.raises(ValueError, match=message):
        show(curve(), alt="A parabola.", narrow=narrow)
    assert shown == []
    assert plt.get_fignums() == []


def test_a_narrow_picture_of_the_authors_own_is_taken(shown):
    narrow = plt.figure(figsize=(3.42, 5))
    show(curve(), alt="A parabola.", narrow=narrow)
    picture = base64.b64decode(shown[0][1]["image/png"]["narrow"]["png"])
    assert int.from_bytes(picture[20:24], "big") == 1000


def test_the_style_can_be_limited_to_a_block():
    before = plt.rcParams["figure.figsize"]
    plt.rcParams["figure.figsize"] = [1.0, 1.0]
    with style():
        assert plt.rcParams["figure.figsize"] == [6.4, 3.6]
        assert plt.rcParams["axes.prop_cycle"].by_key()["color"] == list(COLORS.values())
    assert plt.rcParams["figure.figsize"] == [1.0, 1.0]
    plt.rcParams["figure.figsize"] = before


def test_text_has_contrast_on_the_figures_own_ground():
    for name in ("text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"):
        contrast = 1.05 / (luminance(plt.rcParams[name]) + 0.05)
        assert contrast >= 7
    assert plt.rcParams["figure.facecolor"] == plt.rcParams["savefig.facecolor"] == "white"


def test_every_line_colour_stands_out_from_white():
    contrasts = {name: 1.05 / (luminance(color) + 0.05) for name, color in COLORS.items()}
    assert min(contrasts.values()) > 2
    # the first three, which most figures need, reach the contrast asked of graphics
    assert all(contrasts[name] >= 3 for name in list(COLORS)[:3])


def test_importing_the_module_does_not_import_matplotlib():
    code = "import sys, archbook.plotting; print('matplotlib' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "False"
