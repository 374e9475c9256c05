"""The report of an index: every number that was written by hand is on the page, which loads nothing."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from recsys.config import IndexConfig
from serving.autotune import Measured, Tuned
from serving.index import Effort, ExactIndex, ScannIndex
from serving.index_report import render_index_report

CANDIDATES = np.random.default_rng(0).normal(size=(1234, 8)).astype(np.float32)


class Page(HTMLParser):
    """The text of a page, and what it would load."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.loads = "", set[str]()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loads |= {tag} & {"script", "link", "img", "iframe", "object"}
        self.loads |= {name for name, value in attrs if name in ("src", "href") and not (value or "").startswith("#")}

    def handle_data(self, data: str) -> None:
        self.text += f" {' '.join(data.split())}"


def measured(leaves: int, factor: float, recall: float, milliseconds: float) -> Measured:
    return Measured(35, "float32", leaves, factor, recall, recall - 0.0021, 10 * milliseconds, milliseconds)


def page(index: ScannIndex, title: str = "films, version 7") -> Page:
    curve = (measured(2, 1.25, 0.9123, 0.0111), measured(3, 2.0, 0.9512, 0.0222), measured(21, 4.0, 0.9934, 0.0999))
    tuned = Tuned(index, measured(3, 2.0, 0.9543, 0.0234), 100, curve)
    html = render_index_report(tuned, IndexConfig(recall_target=0.951), title, 987)
    assert "http" not in re.sub("http://www.w3.org/[a-zA-Z0-9/]*", "", html)
    return Page(html)


@pytest.fixture(scope="module")
def of_partitions() -> Page:
    index = ScannIndex(ExactIndex(CANDIDATES), 35)
    index.effort = Effort(3, 2.0, 100)
    return page(index)


def test_it_says_what_is_found_and_what_was_asked_for(of_partitions: Page) -> None:
    assert of_partitions.loads == set()
    for words in (
        "Index report: films, version 7",
        "1,234 candidates",
        "95.43 % of the 100 best candidates are found",
        "987 held-out queries that the index was not tuned on",
        "more than 95.22 %; 95.1 % was asked for",
        "3 of 35",
        "2 × k, float32",
    ):
        assert words in of_partitions.text


def test_the_table_has_every_point_and_the_chosen_one(of_partitions: Page) -> None:
    table = of_partitions.text[of_partitions.text.index("recall@100") :]
    for row in (
        "35 2 float32 1.25 × k 0.9123 0.9102 0.011 0.11",
        "35 3 float32 2 × k 0.9512 0.9491 0.022 0.22",
        "35 21 float32 4 × k 0.9934 0.9913 0.100 1.00",
        "35 3 float32 2 × k 0.9543 0.9522 0.023 0.23",
    ):
        assert row in re.sub(" +", " ", table)


def test_a_small_catalogue_is_searched_as_a_whole() -> None:
    text = page(ScannIndex(ExactIndex(CANDIDATES))).text
    assert "searched everything" in re.sub(" +", " ", text)
    assert "leaves searched 3 of" not in re.sub(" +", " ", text)


def test_a_title_is_text() -> None:
    assert "<b>&amp;" in page(ScannIndex(ExactIndex(CANDIDATES)), "<b>&amp;").text
