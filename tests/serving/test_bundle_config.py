"""What a configuration leaves out of a bundle, and what it then answers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from oracle import Oracle

from recsys.config import ExportConfig, ModelConfig
from recsys.interactions import load_interactions
from recsys.run import Run
from recsys.towers import Towers, build_towers
from serving.bundle import open_bundle
from serving.categories import Categories
from serving.export import export
from serving.index import ExactIndex
from serving.popularity import RecentPopularity
from serving.recommender import Parts, Recommender
from serving.user_states import NoUserStates, UserStates

WITHOUT = ExportConfig.model_validate({"bundle": {"user_items": False}})
UNKNOWN = "a user nobody knows"
K = 25


def ask(recommend: Any, users: list[str], history: list[list[str]], exclude: list[list[str]]) -> dict[str, Any]:
    texts = (tf.ragged.constant(rows, tf.string, ragged_rank=1).to_tensor("") for rows in (history, exclude))
    lists = dict(zip(("history", "exclude"), texts, strict=True))
    answer = recommend(user_id=tf.constant(users), **lists, k=tf.constant(K))
    return {name: value.numpy() for name, value in answer.items()}


@pytest.fixture(scope="module")
def path(tiny_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tiny_run, tmp_path_factory.mktemp("models"), "tiny", WITHOUT).path


@pytest.mark.slow
def test_without_user_items_only_what_a_request_names_is_left_out(path: Path, tiny_run: Run) -> None:
    oracle = Oracle(tiny_run)
    users = [oracle.users[0], oracle.users[1], UNKNOWN]
    history, exclude = [[], oracle.items[5:8], oracle.items[5:8]], [oracle.items[:2], [], oracle.items[2:4]]
    answer = ask(open_bundle(path.parent).model.signatures["recommend"], users, history, exclude)
    assert answer["known"].tolist() == [True, True, False]
    assert answer["source"].tolist() == [b"user", b"history", b"history"]
    oracle.taken.clear()  # as if nobody had taken anything
    for row, (user, given, barred) in enumerate(zip(users, history, exclude, strict=True)):
        embedding = oracle.embed(user, given)
        oracle.assert_best(answer["item_ids"][row], answer["scores"][row], embedding, {*given, *barred})


@pytest.mark.slow
def test_without_user_items_no_file_holds_them(path: Path, tiny_run: Run, tiny_models: Path) -> None:
    """Of all stored tensors, only those are as long as there are interactions."""
    interactions = load_interactions(tiny_run.dataset)

    def lengths(folder: Path) -> set[int]:
        return {shape[0] for _, shape in tf.train.list_variables(str(folder / "variables" / "variables")) if shape}

    assert len(interactions.item_row) in lengths(tiny_models / "tiny" / "1")
    for folder in (path, path.parent / "exact" / path.name):
        assert len(interactions.item_row) not in lengths(folder)


def recommender(run: Run, towers: Towers, states: UserStates | NoUserStates, folder: Path) -> Recommender:
    """Answers by exact search, and is not saved."""
    dataset = run.dataset
    exact = ExactIndex(towers.embed_candidate(dataset.item_features).numpy())
    popularity, categories = RecentPopularity(load_interactions(dataset)), Categories(dataset)
    return Recommender(Parts(towers, dataset, states, popularity, categories, exact), exact, folder)


def test_a_tower_that_sees_histories_alone_is_told_nothing_by_a_known_user(tiny_run: Run, tmp_path: Path) -> None:
    config = ModelConfig.model_validate({"embedding_dim": 8, "query": {"use_id": False}})
    towers = build_towers(tiny_run.dataset.schema, config)
    answering = recommender(tiny_run, towers, NoUserStates(), tmp_path)
    users, items = tiny_run.dataset.users["user"].to_pylist(), tiny_run.dataset.items["item"].to_pylist()
    answer = ask(answering.recommend, [users[0], UNKNOWN, users[0]], [[], [], items[5:8]], [[], [], []])
    assert answer["source"].tolist() == [b"popularity", b"popularity", b"history"]
    assert answer["known"].tolist() == [True, False, True]
    np.testing.assert_array_equal(answer["item_ids"][0], answer["item_ids"][1])


def test_a_tower_that_sees_no_histories_is_told_nothing_by_one(tiny_run: Run, tmp_path: Path) -> None:
    dataset = tiny_run.dataset
    towers = build_towers(dataset.schema.model_copy(update={"history_length": 0}), ModelConfig(embedding_dim=8))
    answering = recommender(tiny_run, towers, UserStates(load_interactions(dataset)), tmp_path)
    users, items = dataset.users["user"].to_pylist(), dataset.items["item"].to_pylist()
    answer = ask(answering.recommend, [users[0], UNKNOWN], [items[5:8], items[5:8]], [[], []])
    assert answer["source"].tolist() == [b"user", b"popularity"]
    assert not set(answer["item_ids"][1].tolist()) & {item.encode() for item in items[5:8]}


def test_items_are_recommended_with_their_bias_and_are_similar_without(tiny_run: Run, tmp_path: Path) -> None:
    dataset = tiny_run.dataset
    config = ModelConfig.model_validate({"embedding_dim": 8, "initial_stddev": 5.0, "item_bias": True})
    towers = build_towers(dataset.schema, config)
    answering = recommender(tiny_run, towers, UserStates(load_interactions(dataset)), tmp_path)
    users, items = dataset.users["user"].to_pylist(), dataset.items["item"].to_pylist()
    candidates = towers.candidate(dataset.item_features).numpy().astype(np.float64)
    row = {item: number for number, item in enumerate(items)}
    assert np.ptp(candidates[:, -1]) > 1

    recommended = ask(answering.recommend, users[:1], [items[5:8]], [[]])
    ids = dataset.item_features["item_id"][5:8]
    history = np.append(ids, np.zeros(towers.history_length - 3, np.int32)).astype(np.int32)
    query = towers.query({"user_id": dataset.user_features["user_id"][:1], "history": history[None]}).numpy()[0]
    found = [row[item.decode()] for item in recommended["item_ids"][0]]
    np.testing.assert_allclose(recommended["scores"][0], candidates[found] @ query, atol=1e-5)

    similar = answering.similar_items(tf.constant(items[:1]), tf.constant(K))
    cosines = candidates[:, :-1] @ candidates[0, :-1]
    np.testing.assert_allclose(similar["scores"].numpy()[0], np.sort(cosines[1:])[::-1][:K], atol=1e-5)
    taken = items[10:40]
    reasons = answering.explain(tf.constant(["nobody"]), tf.constant([taken]), tf.constant(items[:1]), tf.constant(3))
    best = sorted(taken, key=lambda item: -cosines[row[item]])[:3]
    assert [item.decode() for item in reasons["item_ids"].numpy()[0]] == best
