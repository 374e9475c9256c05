"""The report's three charts."""

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.ticker import EngFormatter, MaxNLocator, NullLocator, PercentFormatter

from data_prep.moments import UNITS_PER_SECOND, Unit
from recsys.page_figures import CARD, TEXT, page_figure
from recsys.schema import SPLITS, SplitRule

_TRAIN, _VALIDATION, _TEST = "#000011", "#000012", "#000013"
_VARIABLES = {_TRAIN: "var(--train)", _VALIDATION: "var(--validation)", _TEST: "var(--test)"}
_COLOURS = dict(zip(SPLITS, (_TRAIN, _VALIDATION, _TEST), strict=True))
_MARKERS = dict(zip(SPLITS, "os^", strict=True))
_DASHES = dict(zip(SPLITS, ("-", "--", ":"), strict=True))
_SECONDS_PER_DAY = 86_400


def time_figure(histogram: dict[str, list[int]], rule: SplitRule, unit: Unit | None, alt: str) -> Markup:
    """Interactions per bin of time, stacked by split, with the cut points of a temporal split.

    Args:
      histogram: `edges`, and one count fewer for each split.
      rule: its cut points are drawn.
      unit: what the edges count since 1970; None where they are no dates.
      alt: what a person who cannot see the drawing reads.
    """
    scale = 1 if unit is None else _SECONDS_PER_DAY * UNITS_PER_SECOND[unit]
    edges = np.asarray(histogram["edges"], np.float64) / scale

    def draw(axes: Axes) -> None:
        below = np.zeros(len(edges) - 1)
        for split in SPLITS:
            counts = np.asarray(histogram[split], np.float64)
            axes.stairs(below + counts, edges, baseline=below, fill=True, color=_COLOURS[split], label=split)
            below = below + counts
        _time_axis(axes, dates=unit is not None)
        axes.set_ylim(0, max(1.0, below.max() * 1.05))
        cuts = {"validation": rule.validation_start, "test": rule.test_start}
        _cuts(axes, {split: at / scale for split, at in cuts.items() if at is not None})
        _legend(axes)

    return page_figure("time", alt, draw, _VARIABLES)


def _time_axis(axes: Axes, dates: bool) -> None:
    axes.grid(visible=False, axis="x")
    axes.set_ylabel("interactions")
    axes.yaxis.set_major_formatter(EngFormatter(sep=""))
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    if dates:
        locator = AutoDateLocator(minticks=3, maxticks=7)  # type: ignore[no-untyped-call]
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
        axes.set_xlabel("date (UTC)")
        return
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlabel("timestamp")


def _cuts(axes: Axes, cuts: dict[str, float]) -> None:
    """Dashed lines, each with its name above the axes on a line of its own: cuts often stand close together."""
    low, high = axes.get_xlim()
    for row, (split, at) in enumerate(cuts.items()):
        height = 1.02 + 0.09 * row
        axes.plot([at, at], [0, height + 0.05], transform=axes.get_xaxis_transform(), color=TEXT, linestyle="--",
                  linewidth=1, clip_on=False)  # fmt: skip
        side, pad = ("right", -4) if at > (low + high) / 2 else ("left", 4)
        axes.annotate(f"{split} from here", (at, height), xycoords=("data", "axes fraction"),
                      xytext=(pad, 0), textcoords="offset points", ha=side, va="bottom")  # fmt: skip


def popularity_figure(ranks: Sequence[int], counts: Sequence[int], alt: str) -> Markup:
    """Train interactions of an item by its rank in popularity, both axes logarithmic.

    Args:
      ranks: from 1, ascending.
      counts: train interactions of the item at each rank; items without any are left out.
      alt: what a person who cannot see the drawing reads.
    """
    drawn = [(rank, count) for rank, count in zip(ranks, counts, strict=True) if count > 0]

    def draw(axes: Axes) -> None:
        axes.set_xscale("log")
        axes.set_yscale("log")
        x, y = zip(*drawn, strict=True) if drawn else ((), ())
        axes.fill_between(x, y, 0.8, color=_TRAIN, alpha=0.15, linewidth=0)
        axes.plot(x, y, color=_TRAIN, linewidth=2)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_minor_locator(NullLocator())
            axis.set_major_formatter(EngFormatter(sep=""))
        axes.set_ylim(bottom=0.8)
        axes.set_xlabel("rank of the item, most popular first")
        axes.set_ylabel("train interactions")

    return page_figure("popularity", alt, draw, _VARIABLES)


def history_figure(lengths: dict[str, list[int]], longest: int, alt: str) -> Markup:
    """What share of each split's interactions has a history of which length.

    Args:
      lengths: `length`, the lower bounds of the bins, and a count for each of them and each split.
      longest: where the last bin ends.
      alt: what a person who cannot see the drawing reads.
    """
    labels = bin_labels(lengths["length"], longest)

    def draw(axes: Axes) -> None:
        for split in SPLITS:
            total = sum(lengths[split])
            if total:
                shares = [count / total for count in lengths[split]]
                axes.plot(range(len(shares)), shares, color=_COLOURS[split], linestyle=_DASHES[split], linewidth=1.8,
                          marker=_MARKERS[split], markersize=5, markeredgecolor=CARD, label=split)  # fmt: skip
        step = -(-len(labels) // 9)
        axes.set_xticks(range(0, len(labels), step), labels[::step])
        axes.grid(visible=False, axis="x")
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel("earlier items known")
        axes.set_ylabel("share of the split")
        _legend(axes)

    return page_figure("history", alt, draw, _VARIABLES)


def bin_labels(lower: Sequence[int], longest: int) -> list[str]:
    """Names bins of whole numbers by their lower bounds, `longest` being the end of the last: 0, 1, 2–3."""
    upper = [*(bound - 1 for bound in lower[1:]), max(longest, *lower)] if lower else []
    return [str(low) if low == high else f"{low}–{high}" for low, high in zip(lower, upper, strict=True)]


def _legend(axes: Axes) -> None:
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3, handlelength=1.8, columnspacing=1.6)
