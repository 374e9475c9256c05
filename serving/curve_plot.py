"""Draws what tuning an index measured: recall against time."""

from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from recsys.config import IndexConfig
from serving.autotune import Tuned

CURVE = "assets.extra/index_curve.svg"


def plot_curve(tuned: Tuned, config: IndexConfig, folder: Path) -> None:
    """Writes the points that no other beats, the chosen one and the target as an SVG into a bundle's folder."""
    with mpl.rc_context({"svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(6.4, 3.6), layout="constrained")
        axes = figure.subplots()
        times, recalls = zip(*((point.batched_query_ms, point.recall) for point in tuned.curve), strict=True)
        axes.plot(times, recalls, "o-", markersize=4, linewidth=1, label="fastest of its recall")
        axes.plot(
            tuned.chosen.batched_query_ms, tuned.chosen.recall, "D", markersize=8, label="chosen, on other queries"
        )
        axes.axhline(config.recall_target, linestyle="--", linewidth=1, color="0.4", label="target")
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_formatter(ScalarFormatter())
        axes.set_xlabel("milliseconds per query in batches of 256, median")
        axes.set_ylabel(f"recall@{tuned.k} against exact search")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(linewidth=0.4)
        axes.legend(frameon=False)
        figure.savefig(folder / CURVE, format="svg", metadata={"Date": None})
