"""`index_report.html`: what tuning chose, what it measured, and what the index takes, for a person who will rely on it.

One file, without scripts and without anything to load.
"""

from typing import Any

import jinja2
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter, ScalarFormatter

from recsys.config import IndexConfig
from recsys.page_figures import CARD, TEXT, page_figure
from serving.autotune import Tuned

_POINT, _CHOSEN = "#000011", "#000012"
_VARIABLES = {_POINT: "var(--point)", _CHOSEN: "var(--chosen)"}


def render_index_report(tuned: Tuned, config: IndexConfig, title: str, num_confirming: int) -> str:
    """Renders the report as one HTML page.

    Args:
      tuned: what was chosen.
      config: what was asked for.
      title: of the bundle.
      num_confirming: queries that confirmed the choice.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("serving"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("index_report.html.j2").render(
        tuned=tuned, config=config, title=title, num_confirming=num_confirming, curve=_curve(tuned, config)
    )


def _curve(tuned: Tuned, config: IndexConfig) -> Markup:
    """The points that no other beats, the chosen one and the target."""

    def draw(axes: Axes) -> None:
        times, recalls = zip(*((point.batched_query_ms, point.recall) for point in tuned.curve), strict=True)
        chosen = tuned.chosen
        axes.plot(
            times, recalls, "o-", color=_POINT, linewidth=1.6, markersize=5, markeredgecolor=CARD, label="fastest"
        )
        below = [[chosen.recall - chosen.recall_low], [0.0]]
        look: dict[str, Any] = {
            "fmt": "D",
            "color": _CHOSEN,
            "markersize": 7,
            "markeredgecolor": CARD,
            "capsize": 4,
            "zorder": 3,
        }
        axes.errorbar(chosen.batched_query_ms, chosen.recall, below, label="chosen, on other queries", **look)
        axes.axhline(config.recall_target, linestyle="--", linewidth=1.2, color=TEXT, label="target")
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_formatter(ScalarFormatter())
        axes.tick_params(axis="x", which="minor", labelsize=7)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
        axes.set_xlabel("milliseconds per query in batches of 256")
        axes.set_ylabel(f"of the {tuned.k} best found")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3, handlelength=1.8, columnspacing=1.6)

    alt = (
        f"Recall against time: {len(tuned.curve)} settings, and the chosen one, which finds {tuned.chosen.recall:.4f} "
        f"where {config.recall_target} was asked for. The table below has the numbers."
    )
    return page_figure("curve", alt, draw, _VARIABLES)
