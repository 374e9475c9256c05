"""The report: every number of a manifest that was written by hand is on the page, and leaks cannot be overlooked."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from data_prep.report import percent, render_report
from data_prep.report_figures import bin_labels
from recsys.schema import Manifest

_DAY = 86_400


def manifest(**changes: Any) -> Manifest:
    """A dataset like MovieLens, split by time; `audit` updates the leak audit, everything else replaces a part."""
    audit = {
        "future_in_train": 0,
        "validation_pairs_in_train": 0,
        "test_pairs_in_train": 0,
        "users_with_ties_across_cuts": 0,
        "test_cold_users": 41,
        "test_cold_items": 913,
        "test_interactions_of_cold_users": 7_912,
        "test_interactions_of_cold_items": 1_204,
    } | changes.pop("audit", {})
    start, bins = 828_124_615, 60
    edges = [start + n * 140 * _DAY for n in range(bins + 1)]
    waves = [700 + 431 * (n % 7) + 97 * (n % 5) + (1_900 if n in (4, 30) else 0) for n in range(bins)]
    statistics = {
        "interactions": 100_836,
        "users": 610,
        "items": 9_742,
        "first_timestamp": edges[0],
        "last_timestamp": edges[-1] - 1,
        "test_users": 108,
        "test_users_seen_in_train": 67,
        "items_without_train_interaction": 1_398,
        "users_without_interactions": 0,
        "items_without_interactions": 18,
        "users_not_listed": 0,
        "items_not_listed": 3,
        "time_histogram": {
            "edges": edges,
            "train": [n if i < 50 else n // 3 if i == 50 else 0 for i, n in enumerate(waves)],
            "validation": [n - n // 3 if i == 50 else n if 50 < i < 54 else 0 for i, n in enumerate(waves)],
            "test": [n if i >= 54 else 0 for i, n in enumerate(waves)],
        },
        "popularity": {
            "rank": [1, 2, 4, 7, 13, 24, 45, 84, 156, 290, 539, 1002, 1863, 3463, 6437, 8344],
            "interactions": [301, 290, 264, 219, 190, 171, 141, 109, 82, 55, 33, 19, 9, 4, 1, 1],
            "top_1_percent": 0.168,
            "top_10_percent": 0.617,
        },
        "history_lengths": {
            "length": [0, 1, 2, 4, 8, 16, 32, 50],
            "train": [569, 560, 1_090, 2_130, 4_001, 7_340, 8_003, 56_977],
            "validation": [60, 55, 110, 190, 402, 755, 803, 7_708],
            "test": [51, 49, 99, 180, 390, 760, 788, 7_767],
        },
        "feature_coverage": {
            "user": {},
            "item": {"genres": 0.9965, "title_words": 1.0, "release_year": 0.4321},
        },
        "audit": audit,
    }
    shard = {"name": "x", "num_rows": 0, "sha256": "0" * 64}
    parts = {
        "format_version": 2,
        "schema_": {
            "user_features": [{"name": "user_id", "type": "id", "num_ids": 571, "num_oov": 1}],
            "item_features": [
                {"name": "item_id", "type": "id", "num_ids": 8_346, "num_oov": 1},
                {"name": "genres", "type": "multi_categorical", "num_ids": 22, "num_oov": 1, "max_length": 8},
                {"name": "title_words", "type": "text", "num_ids": 16_385, "num_oov": 0, "max_length": 12},
                {"name": "release_year", "type": "numeric", "num_ids": 0, "num_oov": 0},
                {"name": "length", "type": "bucketized", "num_ids": 6, "num_oov": 1},
            ],
            "history_length": 50,
        },
        "splits": {
            "train": [{**shard, "num_rows": 40_335}, {**shard, "num_rows": 40_335}],
            "validation": [{**shard, "num_rows": 10_083}],
            "test": [{**shard, "num_rows": 10_083}],
        },
        "items": {**shard, "num_rows": 9_742},
        "users": {**shard, "num_rows": 610},
        "vocabularies": {"item_id": {**shard, "num_rows": 8_344}},
        "numeric_fits": {
            "release_year": {"mean": 1994.6, "standard_deviation": 18.5},
            "length": {"boundaries": [80, 95, 110]},
        },
        "split_rule": {
            "rule": "temporal",
            "seed": 7,
            "validation_fraction": 0.1,
            "test_fraction": 0.1,
            "validation_start": edges[50] + 40 * _DAY,
            "test_start": edges[54],
            "order": "timestamp",
            "ties": "interactions of one moment stay on one side of a cut.",
        },
        "quarantine": {"missing user_id": 12, "unreadable timestamp": 3, "invalid UTF-8": 1},
        "filtered": {"min_label": 4_120, "duplicates": 77},
        "statistics": statistics,
        "seed": 7,
        "sources": {
            "interactions": {"spec": "data/ratings.csv.gz", "fingerprint": "3f" * 32},
            "items": {"spec": "data/movies.csv", "fingerprint": "a1" * 32},
        },
        "tool_versions": {"recsys": "0.1.0", "pyarrow": "21.0.0", "numpy": "2.4.1"},
    }
    return Manifest.model_validate(parts | changes)


class _Page(HTMLParser):
    """Every tag, attribute and text of a page; fails where tags are not closed in order."""

    _VOID = ("meta", "br", "hr")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[tuple[tuple[str, ...], str]] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self._VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((tuple(self.open), " ".join(data.split())))

    @property
    def text(self) -> str:
        """What a person reads, without the style sheet."""
        return " ".join(text for path, text in self.texts if "style" not in path)


@pytest.fixture(scope="module")
def page() -> str:
    return render_report(manifest())


@pytest.mark.parametrize(
    "expected",
    [
        "interactions 100,836 users 610 items 9,742 density 1.7 % per user 165.3 history 50 items",
        "train 80,670 (80.0 %) validation 10,083 (10.0 %) test 10,083 (10.0 %)",
        "validation begins at 2015-07-08 18:36 UTC and test begins at 2016-12-09 18:36 UTC",
        "Equal timestamps: interactions of one moment stay on one side of a cut. Seed 7.",
        "The top 1 % of items hold 16.8 % of the interactions, the top 10 % hold 61.7 %.",
        "genres 99.7 % title_words 100 % release_year 43.2 %",
        "test users 38.0 % · 41 of 108 test interactions, by their users 78.5 % · 7,912 of 10,083",
        "test interactions, by their items 11.9 % · 1,204 of 10,083 items of the catalogue 14.4 % · 1,398 of 9,742",
        "Test asks for 913 such items.",
        "missing user_id 12 unreadable timestamp 3 invalid UTF-8 1",
        "16 rows were refused, by reason: 0.159 for every 1,000",
        "left out by min_label 4,120 left out by duplicates 77",
        "items of the item table without an interaction 18",
        "items that interactions name and the item table lacks 3",
        "item_id item id 8,346 1 1",
        "genres item multi categorical 22 1 8",
        "release_year item numeric – – 1 mean 1995, standard deviation 18.5",
        "length item bucketized 6 1 1 boundaries 80, 95, 110",
        "items data/movies.csv " + "a1" * 32,
        "recsys 0.1.0 · pyarrow 21.0.0 · numpy 2.4.1 · dataset format 2 · seed 7",
    ],
)
def test_the_manifests_numbers_are_on_the_page(page: str, expected: str) -> None:
    assert expected in _Page(page).text


def test_the_page_loads_nothing_and_runs_nothing(page: str) -> None:
    tags = _Page(page).tags
    assert not {tag for tag, _ in tags} & {"script", "link", "img", "iframe", "object", "embed", "base", "form"}
    for _, attributes in tags:
        assert not {name for name in attributes if name in ("src", "srcset", "action") or name.startswith("on")}
        assert all((attributes.get(name) or "#").startswith("#") for name in ("href", "xlink:href"))
    assert re.findall(r"@import|url\((?!#)|https?:", page) == []


def test_charts_are_named_for_those_who_cannot_see_them_and_keep_their_ids_apart(page: str) -> None:
    tags = _Page(page).tags
    charts = [attributes for tag, attributes in tags if tag == "svg"]
    assert [(chart["role"], (chart["aria-label"] or "")[:29]) for chart in charts] == [
        ("img", "Stacked histogram of interact"),
        ("img", "Falling curve of train intera"),
        ("img", "Lines of the share of interac"),
    ]
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', page))
    assert used <= set(ids)
    assert "Without any history: 0.7 % in train, 0.6 % in validation, 0.5 % in test." in (charts[2]["aria-label"] or "")


def test_the_same_manifest_gives_the_same_bytes_elsewhere(page: str, tmp_path: Path) -> None:
    """In another process, time zone and hash order, and with the user's own matplotlib settings."""
    (tmp_path / "matplotlibrc").write_text("font.size: 30\naxes.grid: False\ntimezone: Asia/Tokyo\n")
    code = (
        "import sys; from data_prep.report import render_report; from recsys.schema import Manifest;"
        "assert 'matplotlib' not in sys.modules, 'only a report needs it';"
        "sys.stdout.buffer.write(render_report(Manifest.model_validate_json(sys.stdin.buffer.read())).encode())"
    )
    other = {
        "TZ": "Asia/Tokyo",
        "PYTHONHASHSEED": "5",
        "MATPLOTLIBRC": str(tmp_path),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        input=manifest().model_dump_json().encode(),
        env={**os.environ, **other},
        check=True,
        capture_output=True,
    )
    assert done.stdout.decode() == page


@pytest.mark.parametrize(
    ("key", "question"),
    [
        ("future_in_train", "Train interactions not older than the first test interaction"),
        ("validation_pairs_in_train", "Validation pairs that are also in train"),
        ("test_pairs_in_train", "Test pairs that are also in train"),
        ("users_with_ties_across_cuts", "Users with interactions of one moment on both sides of a cut"),
    ],
)
def test_a_leak_is_marked_in_words_at_the_top_and_in_its_line(page: str, key: str, question: str) -> None:
    clean = _Page(page).text
    assert "✓ Leak audit: clean." in clean
    assert f"✓ none {question} 0" in clean
    assert "⚠ leak" not in clean
    leaking = _Page(render_report(manifest(audit={key: 1_234}))).text
    assert "⚠ Leak audit: 1 of 4 checks found something." in leaking
    assert re.search(rf"⚠ leak {question} .* 1,234 ", leaking)
    assert leaking.count("⚠ leak") == 1
    assert leaking.count("✓ none") == 3
    assert "Leak audit: clean" not in leaking


def test_cold_interactions_are_notes_and_not_leaks(page: str) -> None:
    assert "● note Test interactions of users without a train interaction" in _Page(page).text
    warm = manifest(audit={"test_interactions_of_cold_users": 0, "test_interactions_of_cold_items": 0})
    assert "● note" not in _Page(render_report(warm)).text


def test_the_cuts_are_drawn_at_their_moments(page: str) -> None:
    """Validation begins 40 of 140 days after edge 50 of 60, test at edge 54."""
    chart = page[page.index("<svg") : page.index("</svg>")]
    train = re.search(r'<path d="([^"]*)"[^>]*style="fill: var\(--train\)', chart)
    assert train is not None
    across = [float(x) for x in re.findall(r"[ML] ([\d.]+) ", train[1])]
    lines = re.findall(r'<path d="M ([\d.]+) [\d.]+ \nL ([\d.]+) [^"]*" style="fill: none; stroke-dasharray', chart)
    cuts = [(float(x) - min(across)) / (max(across) - min(across)) for x, end in lines if x == end]
    assert cuts == pytest.approx([(50 + 40 / 140) / 60, 54 / 60], abs=1e-4)


def test_a_split_without_cuts_in_time_draws_none_and_says_what_it_cannot_avoid() -> None:
    rule = {"rule": "leave_one_out", "seed": 7, "order": "timestamp", "ties": "a hash decides."}
    read = _Page(render_report(manifest(split_rule=rule, audit={"future_in_train": 5}))).text
    assert "from here" not in read
    assert "Of every user with three or more interactions the last one tests" in read
    assert "This rule cannot avoid it" in read


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"rule": "temporal", "test_start": 1_500_000_000}, "for all users: test begins at"),
        ({"rule": "leave_one_out"}, "the last one tests."),
        ({"rule": "random", "test_fraction": 0.2}, "whenever they happened: 20.0 % of them test."),
        ({"rule": "given"}, "Train and test came as tables of their own."),
    ],
)
def test_a_split_without_validation_says_so(rule: dict[str, Any], said: str) -> None:
    whole = rule | {"validation": False, "seed": 7, "order": "timestamp", "ties": "a hash decides."}
    read = _Page(render_report(manifest(split_rule=whole))).text
    assert said in read
    assert "Nothing validates: the rows that would train." in read


def test_a_source_without_times_has_no_figure_of_them_and_no_check() -> None:
    rule = {"rule": "given", "seed": 7, "validation_fraction": 0.1, "order": "row", "ties": "there are none."}
    timed = manifest(split_rule=rule)
    nothing = dict.fromkeys(("first_timestamp", "last_timestamp", "time_histogram"))
    unknown = dict.fromkeys(("future_in_train", "users_with_ties_across_cuts"))
    statistics = {**timed.statistics, **nothing, "audit": {**timed.statistics["audit"], **unknown}}
    read = _Page(render_report(timed.model_copy(update={"statistics": statistics}))).text
    assert "The source has no times." in read
    assert "Train interactions not older" not in read
    assert "both sides of a cut" not in read
    assert "There are no times: rows are taken to stand in their order of time" in read
    assert "10.0 % of the train table validates" in read
    assert "UTC" not in read


@pytest.mark.parametrize(
    ("per_second", "unit", "begins"),
    [
        (10**3, None, "From 1996-03-29 18:36 UTC"),
        (10**6, "us", "From 1996-03-29 18:36 UTC"),
        (10**9, None, "From 1996-03-29 18:36 UTC"),
        (10**9, "ns", "From 1996-03-29 18:36 UTC"),
        # Whoever names a unit is believed, until no calendar has such a year.
        (10**3, "us", "From 1970-01-10 14:02 UTC"),
        (10**3, "s", "From 828,124,615,000 to"),
    ],
)
def test_timestamps_of_any_unit_are_dates(per_second: int, unit: str | None, begins: str) -> None:
    seconds = manifest()
    statistics, rule = seconds.statistics, seconds.split_rule
    cuts = {name: getattr(rule, name) * per_second for name in ("validation_start", "test_start")}
    scaled = {name: statistics[name] * per_second for name in ("first_timestamp", "last_timestamp")}
    edges = [edge * per_second for edge in statistics["time_histogram"]["edges"]]
    scaled["time_histogram"] = {**statistics["time_histogram"], "edges": edges}
    changed = {"statistics": {**statistics, **scaled}, "split_rule": rule.model_copy(update=cuts)}
    page = render_report(seconds.model_copy(update=changed | {"timestamp_unit": unit}))
    assert begins in _Page(page).text
    assert (page == render_report(seconds)) == ("1996" in begins)


def test_timestamps_that_are_no_dates_are_numbers() -> None:
    numbered = manifest()
    histogram = numbered.statistics["time_histogram"]
    edges = list(range(0, 601, 10))
    changed = {"first_timestamp": 0, "last_timestamp": 599, "time_histogram": {**histogram, "edges": edges}}
    rule = numbered.split_rule.model_copy(update={"validation_start": 500, "test_start": 540})
    numbered = numbered.model_copy(update={"statistics": {**numbered.statistics, **changed}, "split_rule": rule})
    read = _Page(render_report(numbered)).text
    assert "From 0 to 599." in read
    assert "validation begins at 500 and test begins at 540" in read
    assert "UTC" not in read


def test_names_from_the_source_are_no_markup() -> None:
    hostile = "<script>alert(1)</script>"
    page = render_report(
        manifest(sources={"interactions": {"spec": hostile, "fingerprint": "f"}}, quarantine={f'"{hostile}': 2})
    )
    assert "script" not in {tag for tag, _ in _Page(page).tags}
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 4  # title, lead, sources, quarantine


def test_the_smallest_dataset_has_a_report() -> None:
    """One interaction, no features, no histories, nothing to validate or test."""
    full = manifest()
    shard = {"name": "x", "num_rows": 1, "sha256": "0" * 64}
    nothing = {name: 0 for name, value in full.statistics.items() if isinstance(value, int)}
    statistics = {
        **nothing,
        **{"interactions": 1, "users": 1, "items": 1, "first_timestamp": 5, "last_timestamp": 5},
        "time_histogram": {"edges": [5, 6], "train": [1], "validation": [0], "test": [0]},
        "popularity": {"rank": [1], "interactions": [1], "top_1_percent": 1.0, "top_10_percent": 1.0},
        "history_lengths": {"length": [0], "train": [1], "validation": [0], "test": [0]},
        "feature_coverage": {"user": {}, "item": {}},
        "audit": dict.fromkeys(full.statistics["audit"], 0),
    }
    schema = full.schema_.model_copy(update={"item_features": full.schema_.item_features[:1], "history_length": 0})
    small = manifest(
        schema_=schema.model_dump(), splits={"train": [shard], "validation": [], "test": []}, items=shard, users=shard,
        statistics=statistics, quarantine={}, filtered={},
    )  # fmt: skip
    read = _Page(render_report(small)).text
    assert "density 100 % per user 1.0 history none" in read
    assert "This dataset was prepared without histories" in read
    assert "There are no content features" in read
    assert "Every row could be read; none was refused." in read


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_colours_can_be_told_from_their_background(page: str, theme: int) -> None:
    """WCAG 2.2: 4.5 for text, 3 for what is drawn."""
    block = re.findall(r":root \{(.*?)\}", page, re.DOTALL)[theme]
    colour = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", block))
    for text in ("text", "muted", "clean", "leak", "note"):
        for background in ("page", "card"):
            assert _contrast(colour[text], colour[background]) >= 4.5, (text, background)
    for text in ("text", "muted", "leak"):
        assert _contrast(colour[text], colour["leak-card"]) >= 4.5, text
    for drawn in ("train", "validation", "test"):
        assert _contrast(colour[drawn], colour["card"]) >= 3, drawn


def _contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0, "0 %"), (1, "100 %"), (0.5, "50.0 %"), (0.99999, "> 99.9 %"), (0.0000123, "0.0012 %"), (0.00066, "0.066 %")],
)
def test_a_percentage_never_rounds_something_to_nothing(share: float, expected: str) -> None:
    assert percent(share) == expected


def test_bins_are_named_by_what_they_hold() -> None:
    assert bin_labels([0, 1, 2, 4, 50], 50) == ["0", "1", "2–3", "4–49", "50"]
    assert bin_labels([0, 1], 6) == ["0", "1–6"]
