"""How the book's figures look, and how they are shown with a text for who cannot see them."""

import base64
import io
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
MOST_BYTES = 100_000
PALETTE_FROM = 60_000  # bytes: a larger figure is drawn in 256 colours, so that a page stays small

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


def show(fig: "Figure", alt: str, name: str | None = None, *, caption: str | None = None) -> None:
    """Display the figure as a PNG at twice the page's pixels, and close it.

    `alt` says in a sentence or two what the figure shows, for who cannot see it. `name` and
    `caption` make it a numbered figure that the text can cite as {numref}`name`. All three lie
    in the output's metadata, from where `make notebooks` brings them onto the page: so at most
    one figure a cell.
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
    finally:
        plt.close(fig)
    told = {"alt": " ".join(alt.split()), "name": name, "caption": caption}
    about = {"width": png_width(data) // PIXEL_RATIO}
    about |= {key: text for key, text in told.items() if text is not None}
    bundle = {"image/png": base64.b64encode(data).decode(), "text/plain": told["alt"]}
    display(bundle, raw=True, metadata={"image/png": about})


def png(fig: "Figure") -> bytes:
    """The figure's PNG, at most 100 kB; above 60 kB its colours are reduced to 256."""
    buffer = io.BytesIO()
    # no software version inside: the same figure is the same bytes
    fig.savefig(buffer, format="png", dpi=CSS_DPI * PIXEL_RATIO, metadata={"Software": None})
    data = buffer.getvalue()
    if len(data) > min(PALETTE_FROM, MOST_BYTES):
        data = _with_palette(data)
    if len(data) > MOST_BYTES:
        raise ValueError(
            f"wanted a figure of at most {MOST_BYTES} bytes, given one of {len(data)}: "
            "draw fewer points, or make it smaller"
        )
    return data


def _with_palette(data: bytes) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    image = Image.open(io.BytesIO(data)).convert("RGB")
    image.quantize(256, dither=Image.Dither.NONE).save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def png_width(data: bytes) -> int:
    """Pixels a row, from the header."""
    return int.from_bytes(data[16:20], "big")
