"""Drawings by matplotlib as SVG within a page, which take their colours from the page around them.

Every colour stands for a CSS variable, so that one drawing serves light and dark pages. Texts stay texts: they are set
in the reader's font and can be selected. The same numbers give the same bytes.
"""

import io
import re
from collections.abc import Callable, Mapping
from typing import Any

import matplotlib
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# matplotlib knows no CSS variables: these stand for them, and are exchanged in the finished drawing.
TEXT, GRID, CARD = "#000001", "#000002", "#000003"
_VARIABLES = {TEXT: "var(--muted)", GRID: "var(--line)", CARD: "var(--card)"}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "font.family": "DejaVu Sans",  # comes with matplotlib, so texts measure the same everywhere
    "font.size": 9,
    "text.color": TEXT,
    "axes.labelcolor": TEXT,
    "axes.edgecolor": GRID,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": GRID,
    "xtick.labelcolor": TEXT,
    "ytick.color": GRID,
    "ytick.labelcolor": TEXT,
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "timezone": "UTC",
}


def page_figure(name: str, alt: str, draw: Callable[[Axes], None], variables: Mapping[str, str]) -> Markup:
    """Draws a figure for a page.

    Args:
      name: its own within the page.
      alt: what a person who cannot see the drawing reads.
      draw: what draws it.
      variables: by the colour that `draw` uses, the page's CSS variable that it stands for; those of this module apart.
    """
    out = io.StringIO()
    no_metadata: dict[str, Any] = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a user's own settings would change the bytes
        # The salt makes ids the same at every run, and different between the charts of one page.
        matplotlib.rcParams.update({**_STYLE, "svg.hashsalt": name})
        figure = Figure(figsize=(4.7, 3.0))
        draw(figure.add_subplot())
        figure.savefig(out, format="svg", bbox_inches="tight", pad_inches=0.04, metadata=no_metadata)
    return _inlined(out.getvalue(), alt, {**_VARIABLES, **variables})


def _inlined(svg: str, alt: str, variables: Mapping[str, str]) -> Markup:
    """Makes a drawing part of a page: as wide as its place, in the page's font and colours, its ids its own."""
    opening = re.search(r'<svg[^>]*(viewBox="[^"]*")[^>]*>', svg)
    assert opening is not None, "matplotlib wrote an SVG without a viewBox"  # noqa: S101
    body = svg[opening.end() :]
    body = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", body, count=1, flags=re.DOTALL)  # would style the page
    body = re.sub(r'<g id="[A-Za-z0-9._]+_\d+"', "<g", body)  # every chart has an axes_1
    body = body.replace("font-family: 'DejaVu Sans'; ", "").replace("<g/>", "")
    for colour, variable in variables.items():
        body = body.replace(colour, variable)
    return Markup(f'<svg {opening[1]} role="img" aria-label="{escape(alt)}">{body}')  # noqa: S704  our own drawing
