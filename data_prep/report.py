"""`report.html`: what a dataset holds and whether it can be trusted, for a person who has never seen it.

One file, without scripts and without anything to load; the same manifest gives the same bytes.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import jinja2
from markupsafe import Markup

from data_prep.moments import UNITS_PER_SECOND, Unit
from recsys.schema import SPLITS, Feature, Manifest, NumericFit, SplitRule

# Where nobody said what timestamps count, they are dates if that puts all of them between 1973 and 2100; smaller
# numbers are rather counts or positions.
_GUESSED_DATES = (100_000_000, 4_102_444_800)
# Seconds of the years 1 to 9999.
_ALL_DATES = (-62_135_596_800, 253_402_300_800)


@dataclass(frozen=True)
class Check:
    """One line of the leak audit.

    Attributes:
      question: what was counted.
      count: how many were found.
      share: of what could have been; None where that is not known.
      verdict: `clean`, `leak`, or `note` for what is worth knowing and no fault of the split.
      meaning: why it matters, and what to do.
    """

    question: str
    count: int
    share: float | None
    verdict: Literal["clean", "leak", "note"]
    meaning: str


@dataclass(frozen=True)
class Bar:
    """One bar of a chart: its name, its length as a share of the whole and what stands beside it."""

    label: str
    share: float
    text: str


def render_report(manifest: Manifest) -> str:
    """Renders a dataset's report as one HTML page.

    Args:
      manifest: with `statistics` as `recsys prepare` gathers them.
    """
    checks = audit(manifest)
    return _environment().get_template("report.html.j2").render(
        manifest=manifest,
        statistics=manifest.statistics,
        splits={split: manifest.num_rows(split) for split in SPLITS},
        rule=rule_in_words(manifest.split_rule, _unit(manifest)),
        span=_span(manifest),
        checks=checks,
        leaks=sum(check.verdict == "leak" for check in checks),
        charts=_charts(manifest),
        coverage={entity: _coverage_bars(manifest, entity) for entity in ("item", "user")},
        cold=_cold_bars(manifest),
        quarantine=_quarantine_bars(manifest.quarantine),
        features=_feature_rows(manifest),
    )  # fmt: skip


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("data_prep"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(thousands=thousands, percent=percent)
    return environment


def thousands(number: int) -> str:
    """Writes a whole number with its thousands apart: 1,234,567."""
    return f"{number:,}"


def percent(share: float) -> str:
    """Writes a share as a percentage that never rounds something to nothing, nor nearly all to all."""
    value = 100 * share
    if value in (0, 100):
        return f"{value:.0f} %"
    if value >= 99.95:
        return "> 99.9 %"
    if value >= 0.1:
        return f"{value:.1f} %"
    return f"{value:.{1 - math.floor(math.log10(value))}f} %"


def moment(timestamp: int, unit: Unit | None) -> str:
    """Writes a timestamp, as a date and time in UTC, or without a unit as the number it is."""
    if unit is None:
        return thousands(timestamp)
    return f"{datetime.fromtimestamp(timestamp // UNITS_PER_SECOND[unit], UTC):%Y-%m-%d %H:%M} UTC"


def _unit(manifest: Manifest) -> Unit | None:
    """What timestamps count since 1970; None where they are no dates."""
    if manifest.split_rule.order == "row":
        return None
    known = manifest.timestamp_unit
    first, last = (manifest.statistics[f"{end}_timestamp"] for end in ("first", "last"))
    start, end = _GUESSED_DATES if known is None else _ALL_DATES
    for unit in UNITS_PER_SECOND if known is None else (known,):
        if start <= first // UNITS_PER_SECOND[unit] and last // UNITS_PER_SECOND[unit] < end:
            return unit
    return None


def _span(manifest: Manifest) -> tuple[str, str] | None:
    """The first and the last moment; None where rows have no time."""
    if manifest.split_rule.order == "row":
        return None
    first, last = (moment(manifest.statistics[f"{end}_timestamp"], _unit(manifest)) for end in ("first", "last"))
    return first, last


def rule_in_words(rule: SplitRule, unit: Unit | None) -> str:
    """Says how interactions were divided, and what "earlier" means."""
    if rule.rule == "temporal":
        start = {s: moment(at, unit) for s in ("validation", "test") if (at := getattr(rule, f"{s}_start")) is not None}
        cuts = [f"{split} begins at {at}" for split, at in start.items()]
        said = f"One cut in time for all users: {' and '.join(cuts)}; everything before is train."
    elif rule.rule == "leave_one_out":
        before = " and the one before it validates" if rule.validation else ""
        said = f"Of every user with three or more interactions the last one tests{before}."
    elif rule.rule == "random":
        validate = f"{percent(rule.validation_fraction or 0)} of them validate and " if rule.validation else ""
        said = (
            f"Interactions are divided by chance, whenever they happened: {validate}"
            f"{percent(rule.test_fraction or 0)}{'' if rule.validation else ' of them'} test."
        )
    else:
        validates = f"; {percent(rule.validation_fraction or 0)} of the train table validates, drawn by chance"
        said = f"Train and test came as tables of their own{validates if rule.validation else ''}."
    if not rule.validation:
        said += " Nothing validates: the rows that would train."
    order = {
        "timestamp": "Earlier and later are by timestamp.",
        "row": "There are no times: rows are taken to stand in their order of time.",
    }
    return f"{said} {order[rule.order]}"


def audit(manifest: Manifest) -> list[Check]:
    """Reads the leak audit: a leak is whatever lets a model know in training what it is tested on."""
    found, rule = manifest.statistics["audit"], manifest.split_rule
    rows = {split: manifest.num_rows(split) for split in SPLITS}
    pairs = (
        "The same user and item in both. Evaluation leaves out what a user has seen already, so no model can find "
        'these again, and every figure is too low by them. filters.duplicates = "first" keeps one of each pair.'
    )
    ties = f"It is not known which of these came first. What becomes of them: {rule.ties.rstrip('.')}."
    cold_users = "Nothing was learned of their users but what their features say; evaluation reports them apart."
    cold_items = "Nothing was learned of these items but what their features say; a model without features misses them."
    leaks = [
        ("Train interactions not older than the first test interaction", "future_in_train", "train", _future(rule)),
        ("Validation pairs that are also in train", "validation_pairs_in_train", "validation", pairs),
        ("Test pairs that are also in train", "test_pairs_in_train", "test", pairs),
        ("Users with interactions of one moment on both sides of a cut", "users_with_ties_across_cuts", None, ties),
    ]
    notes = [
        ("Test interactions of users without a train interaction", "test_interactions_of_cold_users", cold_users),
        ("Test interactions with items without a train interaction", "test_interactions_of_cold_items", cold_items),
    ]
    checks = []
    for question, key, split, meaning in leaks:
        if found[key] is None:  # what compares times, where there are none
            continue
        share = None if split is None else _share(found[key], rows[split])
        checks.append(Check(question, found[key], share, "leak" if found[key] else "clean", meaning))
    for question, key, meaning in notes:
        verdict: Literal["note", "clean"] = "note" if found[key] else "clean"
        checks.append(Check(question, found[key], _share(found[key], rows["test"]), verdict, meaning))
    return checks


def _future(rule: SplitRule) -> str:
    why = "A model trained on these knows what no service could know yet at the moment it is tested for."
    return {
        "temporal": f"{why} A split by time should have none.",
        "leave_one_out": f"{why} This rule cannot avoid it, because every user is cut at a moment of their own: such "
        'figures compare models, but promise more than a service will see. rule = "temporal" avoids it.',
        "random": f"{why} This rule cannot avoid it: such figures compare models, but promise more than a service will "
        'see. rule = "temporal" avoids it.',
        "given": f"{why} The split came with the source: such figures compare with others on the same split, but "
        "promise more than a service will see.",
    }[rule.rule]


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _charts(manifest: Manifest) -> dict[str, Markup | None]:
    # matplotlib takes a second to import, and only a report needs it.
    from data_prep.report_figures import history_figure, popularity_figure, time_figure

    statistics, span = manifest.statistics, _span(manifest)
    popularity, lengths = statistics["popularity"], statistics["history_lengths"]
    longest = manifest.schema_.history_length
    return {
        "time": time_figure(
            statistics["time_histogram"],
            manifest.split_rule,
            _unit(manifest),
            f"Stacked histogram of interactions from {span[0]} to {span[1]}, by split.",
        )
        if span
        else None,
        "popularity": popularity_figure(
            popularity["rank"],
            popularity["interactions"],
            f"Falling curve of train interactions by popularity rank. {_popularity_in_words(popularity)}",
        ),
        "history": history_figure(lengths, longest, _histories_in_words(lengths)) if longest else None,
    }


def _popularity_in_words(popularity: Mapping[str, Any]) -> str:
    top_1, top_10 = percent(popularity["top_1_percent"]), percent(popularity["top_10_percent"])
    return f"The most popular 1 % of items hold {top_1} of train interactions, the most popular 10 % hold {top_10}."


def _histories_in_words(lengths: Mapping[str, list[int]]) -> str:
    empty = [
        f"{percent(_share(count, sum(lengths[split])))} in {split}"
        for split in SPLITS
        for length, count in zip(lengths["length"], lengths[split], strict=True)
        if length == 0
    ]
    return f"Lines of the share of interactions by length of history. Without any history: {', '.join(empty)}."


def _coverage_bars(manifest: Manifest, entity: str) -> list[Bar]:
    covered = manifest.statistics["feature_coverage"][entity]
    return [Bar(name, share, percent(share)) for name, share in covered.items()]


def _cold_bars(manifest: Manifest) -> list[Bar]:
    statistics, found, test = manifest.statistics, manifest.statistics["audit"], manifest.num_rows("test")
    parts = [
        ("test users", found["test_cold_users"], statistics["test_users"]),
        ("test interactions, by their users", found["test_interactions_of_cold_users"], test),
        ("test interactions, by their items", found["test_interactions_of_cold_items"], test),
        ("items of the catalogue", statistics["items_without_train_interaction"], manifest.items.num_rows),
    ]
    return [
        Bar(label, _share(cold, whole), f"{percent(_share(cold, whole))} · {thousands(cold)} of {thousands(whole)}")
        for label, cold, whole in parts
    ]


def _quarantine_bars(reasons: Mapping[str, int]) -> list[Bar]:
    most = max(reasons.values(), default=0)
    ordered = sorted(reasons.items(), key=lambda reason: (-reason[1], reason[0]))
    return [Bar(reason, _share(rows, most), thousands(rows)) for reason, rows in ordered]


def _feature_rows(manifest: Manifest) -> list[dict[str, Any]]:
    schema = manifest.schema_
    of = {"user": schema.user_features, "item": schema.item_features}
    return [
        {"entity": entity, "feature": feature, "learned": _learned(feature, manifest.numeric_fits.get(feature.name))}
        for entity, features in of.items()
        for feature in features
    ]


def _learned(feature: Feature, fit: NumericFit | None) -> str:
    """What was fitted for a feature, beside its table of ids."""
    if fit is None:
        return ""
    if feature.type == "bucketized":
        return f"boundaries {', '.join(f'{boundary:.4g}' for boundary in fit.boundaries)}"
    return f"mean {fit.mean:.4g}, standard deviation {fit.standard_deviation:.4g}"
