"""`recsys bench`: what the harness computes from durations, what the command prints, and the input benchmark, small."""

import functools
import json
import sys
from collections.abc import Sequence

import pytest

from experiments.benchmarks import evaluate as evaluate_benchmark
from experiments.benchmarks import harness, train_step, vocabulary_growth
from experiments.benchmarks import input as input_benchmark
from experiments.benchmarks.harness import Pairs, Report, pairs_table, row, time_pairs
from recsys.cli import main
from recsys.evaluation import Outcome, Scorer, evaluate
from recsys.metrics import split_name
from recsys.queries import Queries


class Clock:
    """Time that passes only when work is done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.log: list[str] = []
        monkeypatch.setattr(harness.time, "perf_counter", lambda: self.now)

    def way(self, name: str, durations: list[float], units: int = 5) -> harness.Way:
        left = iter(durations)

        def work() -> int:
            self.log.append(name)
            self.now += next(left)
            return units

        return work


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_pairs_alternate_after_a_warm_up(clock: Clock) -> None:
    ours = clock.way("ours", [100, 1, 2, 3, 4, 5, 6])
    peers = {"a": clock.way("a", [100, 10, 10, 10]), "b": clock.way("b", [100, 8, 8, 8])}
    pairs = time_pairs(ours, peers, repeats=3)
    assert clock.log[:3] == ["ours", "a", "b"]
    assert clock.log[3:7] == ["a", "ours", "b", "ours"]
    assert clock.log[7:11] == ["ours", "a", "ours", "b"]
    assert clock.log[11:] == ["a", "ours", "b", "ours"]
    assert pairs["a"] == Pairs(5, (1, 3, 5), (10, 10, 10))
    assert pairs["b"] == Pairs(5, (2, 4, 6), (8, 8, 8))


def test_the_ratio_is_the_median_of_pairs_not_the_ratio_of_medians() -> None:
    """10, 2 and 1; the medians would give 8 / 4."""
    assert Pairs(1, (1, 4, 100), (10, 8, 100)).ratio == 2
    assert Pairs(1, (1, 4, 5), (10, 20, 15)).ratio == 5


def test_unequal_work_is_refused(clock: Clock) -> None:
    with pytest.raises(RuntimeError) as error:
        time_pairs(clock.way("ours", [1, 1], 1000), {"other": clock.way("other", [1], 999)}, repeats=1)
    assert str(error.value) == "other did 999 units of work: expected 1,000, as our first run"


@pytest.mark.parametrize(("higher_is_better", "weakest"), [(True, 3.0), (False, 4.568)])
def test_the_row_quotes_the_weakest_case(higher_is_better: bool, weakest: float) -> None:
    made = row("some", Report({"one": 4.56789, "two": 3.0}, [], higher_is_better))
    assert list(made) == ["bench", "ratio", "cases", "versions", "cpu"]
    assert (made["bench"], made["ratio"], made["cases"]) == ("some", weakest, {"one": 4.568, "two": 3.0})
    assert {"python", "tensorflow", "recsys"} <= set(made["versions"])
    assert isinstance(made["cpu"], str)
    assert made["cpu"]


def test_the_table_shows_rates_and_ratios() -> None:
    table = pairs_table("title", "rows", {"peer": Pairs(1000, (1, 2, 4), (10, 10, 10))})
    cells = [next(iter(column.cells)) for column in table.columns]
    assert cells == ["peer", "500", "100", "5.00", "2.50", "10.00"]


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["recsys", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.mark.filterwarnings(r"ignore:label\(\) is deprecated:DeprecationWarning")  # TFDS, by protobuf
def test_bench_ends_with_a_row_of_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The input benchmark, so small that its ratios mean nothing; that all ways yield the same rows, it checks."""
    monkeypatch.setattr(input_benchmark, "measure", functools.partial(input_benchmark.measure, rows=3000, repeats=1))
    assert command(monkeypatch, "bench", "input") == 0
    *table, last = capsys.readouterr().out.splitlines()
    result = json.loads(last)
    assert result["bench"] == "input"
    assert set(result["cases"]) == {"tfds_style", "parse_example", "parse_example_history"}
    assert result["ratio"] == min(result["cases"].values())
    assert table[0].startswith("2,400 train rows in batches of 4,096, 1 pairs")
    assert any(line.startswith("parse_example_history ") for line in table)


def test_both_ways_of_a_train_step_have_one_loss() -> None:
    """Small: that the losses are equal, it checks; here that it would tell, when they are not."""
    report = train_step.measure(batch_sizes=(64,), rows_per_run=128, repeats=1)
    assert set(report.cases) == {"batch_64"}
    counts = train_step.train_counts()
    batch = next(iter(train_step.random_batches(counts, 64, 1)))
    ours, stock = train_step.our_model(counts), train_step.StockModel(train_step.id_towers(), counts)
    train_step.require_equal_losses(ours, stock, batch)
    ours.query_tower.set_weights([2 * table for table in ours.query_tower.get_weights()])
    ours.candidate_tower.set_weights([table[::-1] for table in ours.candidate_tower.get_weights()])
    with pytest.raises(RuntimeError) as error:
        train_step.require_equal_losses(ours, stock, batch)
    assert str(error.value).endswith("expected a difference of 1e-05 at most")


def test_growth_is_of_each_optimizer_and_the_highest_counts() -> None:
    report = vocabulary_growth.measure(rows=20_000, num_steps=2, repeats=1)
    assert set(report.cases) == {"adagrad", "adam"}
    assert report.ratio == max(report.cases.values())


def test_the_evaluation_benchmark_compares_equal_figures(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = functools.partial(evaluate_benchmark.measure, users=300, items=500, repeats=1)
    monkeypatch.setattr(evaluate_benchmark, "measure", small)
    assert command(monkeypatch, "bench", "evaluate") == 0
    *table, last = capsys.readouterr().out.splitlines()
    result = json.loads(last)
    assert result["bench"] == "evaluate"
    assert list(result["cases"]) == ["factorized_top_k"]
    assert {"batches of 4,096", "BruteForce"} <= {line.split("  ")[0] for line in table}


def test_figures_that_differ_from_factorized_top_k_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate_benchmark, "evaluate", one_rank_too_deep)
    with pytest.raises(RuntimeError, match=r"^FactorizedTopK finds .*: expected .*, as we do$"):
        evaluate_benchmark.measure(users=300, items=500, repeats=1)


def one_rank_too_deep(scorer: Scorer, queries: Queries, names: Sequence[str]) -> Outcome:
    return evaluate(scorer, queries, [f"recall@{split_name(name)[1] + 1}" for name in names])


def test_an_unknown_benchmark_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(monkeypatch, "bench", "inputs") == 2
    output = capsys.readouterr()
    assert output.out == ""
    known = ", ".join(harness.benchmark_names())
    assert output.err == f"recsys: no benchmark is called inputs: expected one of {known}\n"
    assert "input" in known.split(", ")
    assert "harness" not in known
