"""How the book's figures look, and how they are shown with a text for who cannot see them."""

import base64
import io
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend

# Okabe and Ito's colours, told apart with any colour vision. Their yellow is left out: too pale
# on white.
COLORS = {
    "blue": "#0072B2",
    "vermilion": "#D55E00",
    "green": "#009E73",
    "purple": "#CC79A7",
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "black": "#000000",
}
CSS_DPI = 100  # a figure of 6.4 inches is 640 pixels wide on the page
PIXEL_RATIO = 2
NARROW = 342  # CSS pixels that a page gives a figure on a phone 390 wide
FEWEST_PIXELS = 11  # of the smallest text, as a phone shows it
SLACK = 0.05  # inches that something may stick out of a picture without being cut visibly
MOST_BYTES = 100_000
PALETTE_FROM = 30_000  # bytes: a larger figure is drawn in 256 colours, so that a page stays small

# A white card: dark pages show it as a card, slightly dimmed by the theme, on light pages it
# melts into the page. Lines in mid-tones on a transparent ground would be weak on both.
SETTINGS: dict[str, Any] = {
    "figure.figsize": (6.4, 3.6),
    "figure.dpi": CSS_DPI,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "savefig.dpi": CSS_DPI * PIXEL_RATIO,
    "savefig.facecolor": "white",
    "axes.facecolor": "white",
    "axes.edgecolor": "#444444",
    "axes.labelcolor": "#222222",
    "axes.titlesize": "medium",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.8,
    "text.color": "#222222",
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "xtick.labelcolor": "#222222",
    "ytick.labelcolor": "#222222",
    "font.size": 11.0,
    "font.family": ["DejaVu Sans"],  # matplotlib brings it: the same figure on every machine
    "lines.linewidth": 1.8,
    "lines.markersize": 5.0,
    "errorbar.capsize": 3.0,
    "legend.framealpha": 0.85,  # a line under the legend must not cross its text
    "legend.edgecolor": "none",
    "image.cmap": "cividis",
}


class _Restore:
    """Puts matplotlib's settings back at the end of a `with`."""

    def __init__(self, before: dict[str, Any]):
        self._before = before

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        import matplotlib

        present: Any = matplotlib.rcParams  # its stubs want every key as a literal
        present.update(self._before)


def style() -> _Restore:
    """The book's look from here on; as `with style():` only inside."""
    import matplotlib
    from cycler import cycler

    present: Any = matplotlib.rcParams
    wanted = {**SETTINGS, "axes.prop_cycle": cycler(color=list(COLORS.values()))}
    before = {name: present[name] for name in wanted}
    present.update(wanted)
    return _Restore(before)


def show(
    fig: "Figure",
    alt: str,
    name: str | None = None,
    *,
    caption: str | None = None,
    narrow: "Figure | None" = None,
) -> None:
    """Display the figure as a PNG at twice the page's pixels, and close it.

    `alt` says in a sentence or two what the figure shows, for who cannot see it. `name` and
    `caption` make it a numbered figure that the text can cite as {numref}`name`. All three lie
    in the output's metadata, from where `make notebooks` brings them onto the page: so at most
    one figure a cell.

    A phone is shown a second picture, 342 pixels wide: `narrow`, or by default `stacked(fig)`. It
    is refused where something is cut or a letter is smaller than 11 pixels.
    """
    import matplotlib.pyplot as plt
    from IPython.display import display

    if not isinstance(alt, str):
        raise TypeError(f"wanted the alternative text as a string, given {type(alt).__name__}")
    if not alt.strip():
        raise ValueError("wanted an alternative text that says what the figure shows, given none")
    if (name is None) != (caption is None):
        raise ValueError(f"wanted name and caption or neither, given {name!r} and {caption!r}")
    try:
        data = png(fig)
        slim = stacked(fig) if narrow is None else narrow
        small, text = png(slim, colors=64), text_pixels(slim)
        require_readable(slim)
    finally:
        plt.close(fig)
        if narrow is not None:  # plt.close(None) would close somebody else's
            plt.close(narrow)
    told = {"alt": " ".join(alt.split()), "name": name, "caption": caption}
    about: dict[str, Any] = {"width": png_width(data) // PIXEL_RATIO}
    about |= {key: value for key, value in told.items() if value is not None}
    about["narrow"] = {"png": base64.b64encode(small).decode(), "text": round(text, 1)}
    bundle = {"image/png": base64.b64encode(data).decode(), "text/plain": told["alt"]}
    display(bundle, raw=True, metadata={"image/png": about})


def stacked(fig: "Figure") -> "Figure":
    """The same figure, laid out for a phone: 342 pixels wide, its panels one below the other.

    Panels of equal aspect, such as molecules, stay two side by side, unless a colour bar needs
    the room. A legend goes above its panel, where it can hide nothing.
    """
    from matplotlib.collections import PathCollection
    from matplotlib.text import Text

    places = {axis: axis.get_subplotspec() for axis in fig.axes}
    panels = [axis for axis, place in places.items() if place is not None]
    equal = all(axis.get_aspect() == 1 for axis in panels)
    columns = 2 if equal and 1 < len(panels) == len(fig.axes) else 1
    grids = [place.get_gridspec() for place in places.values() if place is not None]
    shrunk = NARROW / CSS_DPI / columns / (fig.get_figwidth() / max(g.ncols for g in grids))
    height = min(1.9 if columns == 2 else 2.8, fig.get_figheight() / max(g.nrows for g in grids))
    for text in fig.findobj(Text):
        text.set_fontsize(max(8.0, 0.75 * float(text.get_fontsize())))
    grid = fig.add_gridspec(-(-len(panels) // columns), columns)
    lines = 0
    for place, axis in enumerate(panels):
        axis.set_subplotspec(grid[place // columns, place % columns])
        lines += _legend_above(axis)
        for dots in axis.findobj(PathCollection):
            dots.set_sizes(dots.get_sizes() * min(1, shrunk) ** 2)
        if columns == 1:  # a panel that its neighbour spoke for
            axis.tick_params(axis="y", labelleft=True)
            if axis.get_shared_y_axes().joined(axis, panels[0]) and not axis.get_ylabel():
                axis.set_ylabel(panels[0].get_ylabel(), fontsize=8.25)
    for old in fig.legends.copy():  # of the whole figure
        fig.legend(*_entries(old), loc="outside upper left", fontsize=8, ncols=2)
        lines += -(-len(old.get_texts()) // 2)
        old.remove()
    fig.set_size_inches(NARROW / CSS_DPI, height * grid.nrows + 0.17 * lines)
    fig.draw_without_rendering()  # colour bars find their place in the second round
    return fig


def _legend_above(axis: "Axes") -> int:
    """Moves the panel's legend out of it, if it has one; how many lines that takes."""
    old = axis.get_legend()
    if old is None or axis.get_title():
        return 0
    handles, names = _entries(old)
    columns = 2 if max(map(len, names)) < 18 else 1
    title = old.get_title().get_text() or None
    axis.legend(
        handles,
        names,
        title=title,
        title_fontsize=8,
        fontsize=8,
        ncols=columns,
        loc="lower left",
        bbox_to_anchor=(0, 1),
    )
    return -(-len(names) // columns) + (title is not None)


def _entries(legend: "Legend") -> tuple[list, list[str]]:
    return legend.legend_handles, [text.get_text() for text in legend.get_texts()]


def require_readable(narrow: "Figure") -> None:
    """Refuse a picture for phones that is cut, too wide, or in letters too small."""
    width, height = narrow.get_size_inches()
    if round(width * CSS_DPI) != NARROW:
        raise ValueError(
            f"wanted a narrow picture of {NARROW / CSS_DPI} inches, given one of {width:.2f}"
        )
    box = narrow.get_tightbbox()
    out = max(-box.x0, -box.y0, box.x1 - width, box.y1 - height)
    if out > SLACK:
        raise ValueError(
            f"wanted all of the narrow picture inside its edges, given parts {out:.2f} inches "
            "outside: draw one of your own and hand it over as `narrow`"
        )
    text = text_pixels(narrow)
    if text < FEWEST_PIXELS:
        raise ValueError(
            f"wanted text of at least {FEWEST_PIXELS} pixels in the narrow picture, given "
            f"{text:.1f}: 8 points are enough"
        )


def text_pixels(fig: "Figure") -> float:
    """The height of the smallest text that the figure shows, in CSS pixels as drawn."""
    from matplotlib.text import Text

    texts = [text for text in fig.findobj(Text) if text.get_visible() and text.get_text().strip()]
    return min((float(text.get_fontsize()) for text in texts), default=72.0) * CSS_DPI / 72


def png(fig: "Figure", colors: int | None = None) -> bytes:
    """The figure's PNG, at most 100 kB, of `colors` colours; by default of 256 above 30 kB."""
    buffer = io.BytesIO()
    # no software version inside: the same figure is the same bytes
    fig.savefig(buffer, format="png", dpi=CSS_DPI * PIXEL_RATIO, metadata={"Software": None})
    data = buffer.getvalue()
    if colors or len(data) > min(PALETTE_FROM, MOST_BYTES):
        data = _with_palette(data, colors or 256)
    if len(data) > MOST_BYTES:
        raise ValueError(
            f"wanted a figure of at most {MOST_BYTES} bytes, given one of {len(data)}: "
            "draw fewer points, or make it smaller"
        )
    return data


def _with_palette(data: bytes, colors: int) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    image = Image.open(io.BytesIO(data)).convert("RGB")
    image.quantize(colors, dither=Image.Dither.NONE).save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def png_width(data: bytes) -> int:
    """Pixels a row, from the header."""
    return int.from_bytes(data[16:20], "big")
