"""Prints results as tables that a person reads."""

import sys
from typing import Any

from rich.console import Console
from rich.table import Table

from recsys import beyond_accuracy, metrics
from recsys.schema import Manifest

_WITH_INTERVAL = ("recall", "ndcg")
_OF_SLICES = "ndcg"
_WIDTH_OF_FILES = 130
_LEAKS = ("future_in_train", "validation_pairs_in_train", "test_pairs_in_train", "users_with_ties_across_cuts")


def stdout() -> Console:
    """A console that prints titles and ids as they are, whatever brackets and colons they hold.

    Where it is no terminal, lines are wide enough for every table.
    """
    width = None if sys.stdout.isatty() else _WIDTH_OF_FILES
    return Console(markup=False, emoji=False, highlight=False, width=width)


def print_dataset(console: Console, manifest: Manifest) -> None:
    """Prints what a dataset holds."""
    s = manifest.statistics
    table = Table(box=None, pad_edge=False, show_header=False)
    sizes = ", ".join(f"{name} {manifest.num_rows(name):,}" for name in manifest.splits)
    table.add_row("interactions", f"{s['interactions']:,}: {sizes}")
    table.add_row(
        "users", f"{s['users']:,}; {s['test_users']:,} in test, {s['test_users_seen_in_train']:,} of them in train"
    )
    table.add_row("items", f"{s['items']:,}; {s['items_without_train_interaction']:,} without train interaction")
    features = [f"{f.name} ({f.type}, {f.num_ids:,} ids)" for f in manifest.schema_.item_features]
    table.add_row("item features", ", ".join(features))
    rule = manifest.split_rule
    starts = {"validation": rule.validation_start, "test": rule.test_start}
    cuts = "".join(f", {split} from {start}" for split, start in starts.items() if start is not None)
    table.add_row("split", rule.rule.replace("_", "-") + cuts + ("" if rule.validation else ", no validation"))
    leaks = {name.replace("_", " "): count for name in _LEAKS if (count := s["audit"][name])}
    table.add_row("leak audit", _counted(leaks))
    table.add_row("filtered rows", _counted(manifest.filtered))
    table.add_row("refused rows", _counted(manifest.quarantine))
    console.print(table)


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} × {reason}" for reason, count in counts.items() if count) or "none"


def print_evaluation(console: Console, result: dict[str, Any]) -> None:
    """Prints each protocol's rows at every k, and at the largest k what is recommended, and the slices."""
    for protocol, part in result["protocols"].items():
        console.print(
            f"\n{result['split']} split, {protocol} protocol: {part['queries']:,} queries of {part['users']:,} users, "
            f"whole catalogue, seen items excluded, {part['repeats_left_out']:,} repeats left out; ± is 95 % over users"
        )
        for k in result["ks"]:
            console.print()
            console.print(_rows_table(part["rows"], metrics.NAMES, k))
        console.print()
        console.print(_rows_table(part["rows"], beyond_accuracy.NAMES, result["ks"][-1]))
        console.print()
        console.print(_slices_table(part["slices"], result["ks"][-1]))
    for name, reason in result["skipped"].items():
        console.print(f"\n{name} left out: {reason}")


def _rows_table(rows: dict[str, dict[str, Any]], names: tuple[str, ...], k: int) -> Table:
    table = _plain_table()
    table.add_column(f"k = {k}", no_wrap=True)
    for name in names:
        table.add_column(name.replace("_", " "), justify="right")
    for label, figures in rows.items():
        table.add_row(label, *(_figure(figures[f"{name}@{k}"], name) for name in names))
    return table


def _slices_table(slices: dict[str, dict[str, Any]], k: int) -> Table:
    table = _plain_table()
    table.add_column(f"{_OF_SLICES}@{k}", no_wrap=True)
    table.add_column("queries", justify="right")
    labels = [label for label in next(iter(slices.values()))["rows"] if label != "random"]  # chance knows no slices
    for label in labels:
        table.add_column(label, justify="right")
    for name, piece in slices.items():
        figures = (piece["rows"][label][f"{_OF_SLICES}@{k}"] for label in labels)
        table.add_row(name, f"{piece['queries']:,}", *(f"{figure:.4f}" for figure in figures))
    return table


def _figure(value: Any, name: str) -> str:
    if value is None:
        return "–"
    if not isinstance(value, dict):
        return f"{value:.3f}"
    if name not in _WITH_INTERVAL:
        return f"{value['mean']:.4f}"
    return f"{value['mean']:.4f} ±{(value['high'] - value['low']) / 2:.4f}"


def _plain_table() -> Table:
    return Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")


def print_recommendations(console: Console, title: str, items: list[dict[str, Any]]) -> None:
    """Prints ranked items: `rank`, `item_id`, what is `shown`, and `score`."""
    console.print(f"\n{title}")
    table = _plain_table()
    table.add_column("rank", justify="right")
    table.add_column("item_id")
    for name in items[0]["shown"] if items else ():
        table.add_column(name)
    table.add_column("score", justify="right")
    for item in items:
        table.add_row(str(item["rank"]), item["item_id"], *item["shown"].values(), f"{item['score']:.4f}")
    console.print(table)
