"""The retrieval model: its loss in NumPy, and one replica against two on the same global batch."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

from recsys.config import ModelConfig, RuntimeConfig
from recsys.dataset import Dataset
from recsys.distribution import make_strategy
from recsys.input_pipeline import training_batches
from recsys.interactions import load_interactions
from recsys.loss_config import FullLossConfig, InBatchLossConfig, LossConfig, UnseenLossConfig
from recsys.retrieval import RetrievalModel
from recsys.sequence_pipeline import training_sequences
from recsys.set_pipeline import training_sets
from recsys.towers import build_towers

BATCH = 256
# Nothing random in a step, so that replicas can be compared; a hidden layer, so that not all weights are tables.
MODEL = ModelConfig.model_validate(
    {
        "embedding_dim": 8,
        "history": {"id_dropout": 0},
        "query": {"id_dropout": 0},
        "candidate": {"id_dropout": 0, "hidden_units": [6]},
    }
)

Batch = dict[str, npt.NDArray[Any]]


@contextmanager
def one_device() -> Iterator[tf.distribute.Strategy]:
    yield tf.distribute.get_strategy()


@contextmanager
def two_replicas() -> Iterator[tf.distribute.Strategy]:
    strategy = make_strategy(RuntimeConfig(strategy="mirrored", logical_cpus=2))
    with strategy.scope():
        yield strategy


@pytest.fixture(scope="module")
def batches(tiny_dataset: Dataset) -> list[Batch]:
    return list(training_batches(tiny_dataset, BATCH, seed=3).as_numpy_iterator())


def fresh_model(dataset: Dataset, learning_rate: float, **loss: Any) -> RetrievalModel:
    tf.keras.utils.set_random_seed(1)
    towers = build_towers(dataset.schema, MODEL)
    interactions = load_interactions(dataset)
    model = RetrievalModel(towers, InBatchLossConfig(**loss), dataset.train_counts, interactions=interactions)
    model.compile(optimizer=tf.keras.optimizers.Adagrad(learning_rate))
    return model


def taken_by(dataset: Dataset) -> list[set[int]]:
    """Each user's train items."""
    taken: list[set[int]] = [set() for _ in range(dataset.users.num_rows)]
    interactions = load_interactions(dataset)
    for user, item, split in zip(interactions.user_row, interactions.item_row, interactions.split, strict=True):
        if split == 0:
            taken[user].add(int(item))
    return taken


def numpy_losses(
    model: RetrievalModel, batch: Batch, dataset: Dataset, config: InBatchLossConfig, q: Any = None
) -> npt.NDArray[np.float64]:
    """Each row's loss, written as a loop; q is that of train counts where it is not given."""
    counts, taken = dataset.train_counts, taken_by(dataset)
    query = model.query_tower({name: batch[name] for name in model.query_tower.input}).numpy().astype(np.float64)
    inputs = {name: batch[name] for name in model.candidate_tower.input}
    candidate = model.candidate_tower(inputs).numpy().astype(np.float64)
    item, weight = batch["item_row"], batch["weight"]
    losses = np.zeros(len(item))
    for i in range(len(item)):
        logits = candidate @ query[i] / config.temperature
        if config.log_q != "none":
            logits -= np.log(counts[item] / counts.sum() if q is None else q)
        kept = weight > 0
        if config.mask == "accidental_hits":
            kept &= item != item[i]
        if config.mask == "known_positives":
            kept &= ~np.isin(item, list(taken[batch["user_row"][i]]))
        kept[i] = True
        losses[i] = np.log(np.exp(logits[kept]).sum()) - logits[i]
    return losses


def test_drawn_items_are_negatives_with_their_own_probability(
    tiny_dataset: Dataset, batches: list[Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    """q is the share of an item in all of a query's candidates: of the batch by its count, of 40 drawn evenly, and of
    24 drawn by the root of the count.
    """
    config = InBatchLossConfig.model_validate({"negatives": {"uniform": 40, "popular": 24, "popularity_power": 0.5}})
    tf.keras.utils.set_random_seed(1)
    towers, items = build_towers(tiny_dataset.schema, MODEL), tiny_dataset.item_features
    counts = tiny_dataset.train_counts
    model = RetrievalModel(towers, config, counts, items)
    rng = np.random.default_rng(0)
    drawn = [rng.integers(len(counts), size=40), rng.permutation(np.flatnonzero(counts))[:24]]
    for sampler, rows in zip(model._candidates._samplers, drawn, strict=True):
        monkeypatch.setattr(sampler, "draw", lambda rows=rows: tf.constant(rows, tf.int32))
    batch = batches[0]
    query = towers.embed_query({name: tf.constant(value) for name, value in batch.items()}).numpy().astype(np.float64)
    row = np.concatenate([batch["item_row"], *drawn])
    candidate = towers.embed_candidate({name: tf.gather(values, row) for name, values in items.items()}).numpy()
    share, popular = counts / counts.sum(), np.sqrt(counts) / np.sqrt(counts).sum()
    q = (BATCH * share[row] + 40 / len(share) + 24 * popular[row]) / (BATCH + 64)
    losses = []
    for i in range(BATCH):
        logits = candidate.astype(np.float64) @ query[i] / config.temperature - np.log(q)
        kept = np.concatenate([batch["weight"] > 0, np.ones(64, bool)]) & (row != row[i])
        kept[i] = True
        losses.append(np.log(np.exp(logits[kept]).sum()) - logits[i])
    expected = np.average(losses, weights=batch["weight"])
    assert float(model.compute_loss({n: tf.constant(v) for n, v in batch.items()})) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("config", [FullLossConfig(), InBatchLossConfig.model_validate({"negatives": {"uniform": 3}})])
def test_a_loss_that_embeds_items_needs_them(tiny_dataset: Dataset, config: LossConfig) -> None:
    with pytest.raises(ValueError, match="items") as error:
        RetrievalModel(build_towers(tiny_dataset.schema, MODEL), config, tiny_dataset.train_counts)
    names = "category, genres, item_id, title_words"
    assert str(error.value) == f"the loss embeds items: expected {names} of the catalogue, received none; pass items"


HARD = InBatchLossConfig.model_validate({"negatives": {"hard": 3, "hard_depth": 30}})


def hard_model(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> tuple[RetrievalModel, npt.NDArray[np.int32]]:
    """With hard items of each user, the last of all being none, of which the first three are always drawn."""
    tf.keras.utils.set_random_seed(1)
    towers, items = build_towers(dataset.schema, MODEL), dataset.item_features
    model = RetrievalModel(towers, HARD, dataset.train_counts, items, interactions=load_interactions(dataset))
    taken = np.flatnonzero(dataset.train_counts)
    hardest = np.array([np.random.default_rng(user).choice(taken, 30) for user in range(dataset.users.num_rows)])
    hardest[:, 2] = np.where(np.arange(len(hardest)) % 2, hardest[:, 2], -1)
    monkeypatch.setattr(model.hard_items, "draw", lambda user_row: tf.gather(hardest[:, :3].astype(np.int32), user_row))
    return model, hardest


def test_hard_negatives_join_the_softmax_of_their_user_with_their_own_probability(
    tiny_dataset: Dataset, batches: list[Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A query has 256 + 3 candidates; an item among 30 hard ones is there 3 / 30 times more often than in the batch."""
    model, hardest = hard_model(tiny_dataset, monkeypatch)
    batch, items, counts = batches[0], tiny_dataset.item_features, tiny_dataset.train_counts
    query = model.query_tower({name: batch[name] for name in model.query_tower.input}).numpy().astype(np.float64)
    catalogue = {name: items[name] for name in model.candidate_tower.input}
    embedded = model.candidate_tower(catalogue).numpy().astype(np.float64)
    losses = []
    for i, item in enumerate(batch["item_row"]):
        negatives = batch["item_row"][batch["item_row"] != item]
        own = hardest[batch["user_row"][i], :3]
        own = own[own >= 0]
        row = np.concatenate([[item], negatives, own])
        expected = BATCH * counts[row] / counts.sum()
        expected[1 + len(negatives) :] += 3 / 30
        logits = embedded[row] @ query[i] / HARD.temperature - np.log(expected / (BATCH + 3))
        losses.append(np.log(np.exp(logits).sum()) - logits[0])
    assert float(model.compute_loss({n: tf.constant(v) for n, v in batch.items()})) == pytest.approx(
        np.average(losses, weights=batch["weight"]), rel=1e-5
    )


def loss_and_gradients(strategy: Any, model: RetrievalModel, batch: Batch) -> tuple[float, list[npt.NDArray[Any]]]:
    """Both summed over replicas, gradients of tables densified."""
    number = strategy.num_replicas_in_sync

    def part(context: tf.distribute.ReplicaContext) -> dict[str, tf.Tensor]:
        replica = context.replica_id_in_sync_group
        return {name: tf.constant(np.array_split(column, number)[replica]) for name, column in batch.items()}

    @tf.function
    def on_replica(inputs: dict[str, tf.Tensor]) -> tuple[tf.Tensor, list[tf.Tensor]]:
        with tf.GradientTape() as tape:
            loss = model.compute_loss(inputs, training=True)
        gradients = tape.gradient(loss, model.trainable_variables)
        return loss, [tf.convert_to_tensor(gradient) for gradient in gradients]

    loss, gradients = strategy.run(on_replica, (strategy.experimental_distribute_values_from_function(part),))
    summed = [strategy.reduce("SUM", value, axis=None).numpy() for value in (loss, *gradients)]
    return float(summed[0]), summed[1:]


@pytest.mark.parametrize("log_q", ["train_counts", "none"])
@pytest.mark.parametrize("mask", ["nothing", "accidental_hits", "known_positives"])
def test_the_loss_is_the_weighted_mean_of_numpy_s(
    tiny_dataset: Dataset, batches: list[Batch], log_q: str, mask: str
) -> None:
    options = {"temperature": 0.2, "log_q": log_q, "mask": mask}
    model = fresh_model(tiny_dataset, 0.1, **options)
    for batch in (batches[0], batches[-1]):
        losses = numpy_losses(model, batch, tiny_dataset, InBatchLossConfig(**options))
        loss = model.compute_loss({name: tf.constant(column) for name, column in batch.items()})
        np.testing.assert_allclose(loss, np.average(losses, weights=batch["weight"]), rtol=1e-5)


@pytest.mark.parametrize("kind", ["full", "short", "odd", "hard"])
def test_two_replicas_have_the_loss_and_gradients_of_one(
    tiny_dataset: Dataset, batches: list[Batch], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A short batch is filled up with rows of weight 0, most in the second half; an odd one is shared unevenly; a hard
    one has hard negatives.
    """
    batch = batches[-1] if kind == "short" else batches[0]
    weight_of_half = batch["weight"].reshape(2, -1).sum(axis=1)
    assert (weight_of_half[0] > weight_of_half[1]) == (kind == "short")
    if kind == "odd":
        batch = {name: column[:101] for name, column in batch.items()}
    results = []
    for context in (one_device, two_replicas):
        with context() as strategy:
            hard = kind == "hard"
            model = hard_model(tiny_dataset, monkeypatch)[0] if hard else fresh_model(tiny_dataset, 0.1)
            results.append(loss_and_gradients(strategy, model, batch))
    (loss, gradients), (loss_of_two, gradients_of_two) = results
    assert loss_of_two == pytest.approx(loss, rel=1e-5)
    assert len(gradients) == len(gradients_of_two) == 5 + 4  # tables, then kernels and biases
    for one, two in zip(gradients, gradients_of_two, strict=True):
        assert np.abs(one).max() > 1e-4
        np.testing.assert_allclose(two, one, atol=1e-5, rtol=1e-4)


def test_two_replicas_take_the_steps_of_one(tiny_dataset: Dataset, batches: list[Batch]) -> None:
    """Through `fit`, two batches, the second short: the same weights and temperature, of which all have moved."""
    chosen = {name: np.concatenate([batches[0][name], batches[-1][name]]) for name in batches[0]}
    weights, losses = [], []
    for context in (one_device, two_replicas):
        with context():
            model = fresh_model(tiny_dataset, 0.5, learn_temperature=True)
            start = [variable.numpy() for variable in model.trainable_variables]
            rows = tf.data.Dataset.from_tensor_slices(chosen).batch(BATCH, drop_remainder=True)
            history = model.fit(rows, verbose=0).history
            losses.append(history["loss"] + history["temperature"])
            weights.append([variable.numpy() for variable in model.trainable_variables])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
    assert len(start) == 9 + 1  # the logarithm of the temperature
    for before, one, two in zip(start, *weights, strict=True):
        assert np.abs(one - before).max() > 1e-3
        np.testing.assert_allclose(two, one, atol=2e-4)


def test_the_reported_loss_is_the_mean_over_examples(tiny_dataset: Dataset, batches: list[Batch]) -> None:
    """All but still: the mean of each example's loss, in which the last, short batch counts by its weight."""
    epoch = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    model = fresh_model(tiny_dataset, 1e-12)
    history = model.fit(tf.data.Dataset.from_tensor_slices(epoch).batch(BATCH, drop_remainder=True), verbose=0)
    per_batch = [numpy_losses(model, batch, tiny_dataset, InBatchLossConfig()) for batch in batches]
    expected = np.average(np.concatenate(per_batch), weights=epoch["weight"])
    mean_of_means = np.mean([np.average(v, weights=b["weight"]) for v, b in zip(per_batch, batches, strict=True)])
    assert abs(expected - mean_of_means) > 1e-3
    assert set(history.history) == {"loss"}
    np.testing.assert_allclose(history.history["loss"], [expected], rtol=1e-5)


def test_the_temperature_divides_scores(tiny_dataset: Dataset, batches: list[Batch]) -> None:
    inputs = {name: tf.constant(column) for name, column in batches[0].items()}
    hot, cold = (float(fresh_model(tiny_dataset, 0.1, temperature=t).compute_loss(inputs)) for t in (1.0, 0.05))
    assert abs(hot - cold) > 0.1


def test_a_streaming_estimate_corrects_from_the_first_batch_on(tiny_dataset: Dataset, batches: list[Batch]) -> None:
    """In training, the second batch's items are expected as often as in the mean of both batches, the first time by a
    gap from the start; outside of training nothing is learned.
    """
    model = fresh_model(tiny_dataset, 0.1, log_q="streaming", mask="nothing")
    inputs = [{name: tf.constant(column) for name, column in batch.items()} for batch in batches[:2]]
    found = [float(model.compute_loss(batch, training=True)) for batch in inputs]
    found.append(float(model.compute_loss(inputs[1])))
    seen = [np.bincount(batch["item_row"], minlength=len(tiny_dataset.train_counts)) for batch in batches[:2]]
    config = InBatchLossConfig(log_q="streaming", mask="nothing")
    for loss, batch, counts, steps in zip(
        found,
        (batches[0], batches[1], batches[1]),
        (seen[0], seen[0] + seen[1], seen[0] + seen[1]),
        (1, np.where(seen[1] > 0, 2, 1), np.where(seen[1] > 0, 2, 1)),
        strict=True,
    ):
        q = (counts / steps)[batch["item_row"]] / BATCH
        assert loss == pytest.approx(np.mean(numpy_losses(model, batch, tiny_dataset, config, q)), rel=1e-5)


def test_at_a_streaming_rate_of_one_only_the_last_gap_counts(tiny_dataset: Dataset, batches: list[Batch]) -> None:
    """An item that stands c times in the second batch had a gap of 1 / c steps if it was in the first one, or 2 / c."""
    options = {"log_q": "streaming", "streaming_rate": 1.0, "mask": "nothing"}
    model = fresh_model(tiny_dataset, 0.1, **options)
    found = [
        float(model.compute_loss({name: tf.constant(column) for name, column in batch.items()}, training=True))
        for batch in batches[:2]
    ]
    first, second = (np.bincount(batch["item_row"], minlength=len(tiny_dataset.train_counts)) for batch in batches[:2])
    q = (second / np.where(first > 0, 1, 2))[batches[1]["item_row"]] / BATCH
    expected = np.mean(numpy_losses(model, batches[1], tiny_dataset, InBatchLossConfig(**options), q))
    assert found[1] == pytest.approx(expected, rel=1e-5)


def test_a_temperature_is_learned_against_the_whole_catalogue(tiny_dataset: Dataset, batches: list[Batch]) -> None:
    """An epoch of one step tells the temperature before it; with none to learn, none is told."""
    batch = tf.data.Dataset.from_tensors({name: tf.constant(column) for name, column in batches[0].items()})
    histories = []
    for learned in (True, False):
        tf.keras.utils.set_random_seed(1)
        config = FullLossConfig(temperature=0.7, learn_temperature=learned)
        towers, items = build_towers(tiny_dataset.schema, MODEL), tiny_dataset.item_features
        model = RetrievalModel(towers, config, tiny_dataset.train_counts, items)
        assert len(model.loss_state) == learned
        model.compile(optimizer=tf.keras.optimizers.Adagrad(0.1))
        histories.append(model.fit(batch, epochs=2, verbose=0).history)
    assert set(histories[1]) == {"loss"}
    first, second = histories[0]["temperature"]
    assert first == pytest.approx(0.7)
    assert abs(second - first) > 0.01


def test_an_item_without_a_train_interaction_is_corrected_as_one_that_has_one(
    tiny_dataset: Dataset, batches: list[Batch]
) -> None:
    batch, counts = batches[0], tiny_dataset.train_counts.copy()
    counts[batch["item_row"][:3]] = 0
    tf.keras.utils.set_random_seed(1)
    model = RetrievalModel(build_towers(tiny_dataset.schema, MODEL), InBatchLossConfig(), counts)
    q = np.where(counts == 0, 1, counts)[batch["item_row"]] / counts.sum()
    expected = np.mean(numpy_losses(model, batch, tiny_dataset, InBatchLossConfig(), q))
    assert float(model.compute_loss({n: tf.constant(v) for n, v in batch.items()})) == pytest.approx(expected, rel=1e-5)


def test_an_item_that_no_step_held_is_corrected_as_one_of_the_next_step(
    tiny_dataset: Dataset, batches: list[Batch]
) -> None:
    """Before the first step all are equal; after it, an item of another batch is expected in every second one."""
    config = InBatchLossConfig(log_q="streaming", mask="nothing")
    model = fresh_model(tiny_dataset, 0.1, log_q="streaming", mask="nothing")
    first, second = ({name: tf.constant(column) for name, column in batch.items()} for batch in batches[:2])
    expected = np.mean(numpy_losses(model, batches[0], tiny_dataset, config, np.full(BATCH, 0.5)))
    assert float(model.compute_loss(first)) == pytest.approx(expected, rel=1e-5)
    model.compute_loss(first, training=True)
    seen = np.bincount(batches[0]["item_row"], minlength=len(tiny_dataset.train_counts))[batches[1]["item_row"]]
    assert (seen == 0).sum() > 3
    q = np.where(seen == 0, 1 / 2, seen) / BATCH
    expected = np.mean(numpy_losses(model, batches[1], tiny_dataset, config, q))
    assert float(model.compute_loss(second)) == pytest.approx(expected, rel=1e-5)


SEQUENCE_MODEL = ModelConfig.model_validate(
    {
        "embedding_dim": 8,
        "normalize": False,
        "history": {
            "id_dropout": 0,
            "content_features": True,
            "encoder": {"name": "self_attention", "dropout": 0},
        },
        "query": {"id_dropout": 0},
        "candidate": {"id_dropout": 0},
    }
)


@pytest.fixture(scope="module")
def sequences(tiny_dataset: Dataset) -> list[Batch]:
    length = tiny_dataset.schema.history_length
    return list(training_sequences(tiny_dataset, 64, length, seed=3).as_numpy_iterator())


def sequence_model(dataset: Dataset, loss: LossConfig) -> RetrievalModel:
    tf.keras.utils.set_random_seed(1)
    towers = build_towers(dataset.schema, SEQUENCE_MODEL, dataset.item_features)
    interactions = load_interactions(dataset)
    return RetrievalModel(towers, loss, dataset.train_counts, dataset.item_features, "sequences", interactions)


def position_queries(model: RetrievalModel, batch: Batch, places: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Each place's query is asked for on its own, as a history that ends there."""
    row, position = places.T
    ended = np.arange(batch["history"].shape[1]) <= position[:, None]
    features = {"history": np.where(ended, batch["history"][row], 0), "user_id": batch["user_id"][row]}
    return model.query_tower({name: features[name] for name in model.query_tower.input}).numpy().astype(np.float64)


def test_padding_of_sequences_has_no_part_in_what_a_batch_is_expected_to_hold(
    tiny_dataset: Dataset, sequences: list[Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    """q of an item beside 40 drawn evenly: only positions of weight above 0 are candidates of the batch."""
    config = InBatchLossConfig.model_validate({"temperature": 0.7, "negatives": {"uniform": 40}})
    model, counts = sequence_model(tiny_dataset, config), tiny_dataset.train_counts
    drawn = np.random.default_rng(0).integers(len(counts), size=40)
    monkeypatch.setattr(model._candidates._samplers[0], "draw", lambda: tf.constant(drawn, tf.int32))
    batch = {name: column[:6] for name, column in sequences[-1].items()}
    places = np.argwhere(batch["weight"] > 0)
    number = len(places)
    assert 10 < number < 0.8 * batch["weight"].size
    items = np.concatenate([batch["item_row"][tuple(places.T)], drawn])
    features = {name: tiny_dataset.item_features[name][items] for name in model.candidate_tower.input}
    candidates = model.candidate_tower(features).numpy().astype(np.float64)
    log_q = np.log((number * counts[items] / counts.sum() + 40 / len(counts)) / (number + 40))
    losses = []
    for own, query in enumerate(position_queries(model, batch, places)):
        logits = candidates @ query / 0.7 - log_q
        kept = (items != items[own]) | (np.arange(len(items)) == own)
        losses.append(np.log(np.exp(logits[kept]).sum()) - logits[own])
    found = model.compute_loss({name: tf.constant(column) for name, column in batch.items()})
    np.testing.assert_allclose(found, np.average(losses, weights=batch["weight"][tuple(places.T)]), rtol=1e-5)


KNOWN_MASKED = InBatchLossConfig(temperature=0.7, mask="known_positives")


@pytest.mark.parametrize("config", [FullLossConfig(temperature=0.7), KNOWN_MASKED])
def test_the_softmax_over_sequences_is_numpy_s(
    tiny_dataset: Dataset, sequences: list[Batch], config: LossConfig
) -> None:
    """Against every item, or those of all positions that the user did not take."""
    model = sequence_model(tiny_dataset, config)
    catalogue = {name: tiny_dataset.item_features[name] for name in model.candidate_tower.input}
    candidates = model.candidate_tower(catalogue).numpy().astype(np.float64)
    batch = {name: column[:6] for name, column in sequences[0].items()}
    everywhere = np.argwhere(batch["weight"] > 0)
    in_batch, taken = batch["item_row"][tuple(everywhere.T)], taken_by(tiny_dataset)
    losses, weights = [], []
    for (row, position), query in zip(everywhere, position_queries(model, batch, everywhere), strict=True):
        logits = candidates @ query / 0.7
        rows, item = np.arange(len(logits)), batch["item_row"][row, position]
        if config is KNOWN_MASKED:
            logits -= np.log(np.maximum(tiny_dataset.train_counts, 1e-9) / tiny_dataset.train_counts.sum())
            rows = np.append(in_batch[~np.isin(in_batch, list(taken[batch["user_row"][row]]))], item)
        losses.append(np.log(np.exp(logits[rows]).sum()) - logits[item])
        weights.append(batch["weight"][row, position])
    loss = model.compute_loss({name: tf.constant(column) for name, column in batch.items()})
    assert len(losses) > 30
    np.testing.assert_allclose(loss, np.average(losses, weights=weights), rtol=1e-5)


@pytest.mark.parametrize(("loss", "number"), [(FullLossConfig(), 0), (FullLossConfig(), -1), (KNOWN_MASKED, 0)])
def test_two_replicas_have_the_loss_and_gradients_of_one_on_sequences(
    tiny_dataset: Dataset, sequences: list[Batch], loss: LossConfig, number: int
) -> None:
    """The halves of a batch weigh differently; that of the last has nothing but filling."""
    weight_of_half = sequences[number]["weight"].reshape(2, -1).sum(axis=1)
    assert weight_of_half[0] != weight_of_half[1]
    assert (weight_of_half[1] == 0) == (number == -1)
    results = []
    for context in (one_device, two_replicas):
        with context() as strategy:
            model = sequence_model(tiny_dataset, loss)
            results.append(loss_and_gradients(strategy, model, sequences[number]))
    (loss_of_one, gradients), (loss_of_two, gradients_of_two) = results
    assert loss_of_two == pytest.approx(loss_of_one, rel=1e-5)
    for one, two in zip(gradients, gradients_of_two, strict=True):
        np.testing.assert_allclose(two, one, atol=1e-5, rtol=1e-4)
    assert sum(np.abs(gradient).max() > 1e-4 for gradient in gradients) > 20


SET_MODEL = ModelConfig.model_validate(
    {
        "embedding_dim": 8,
        "item_bias": True,
        "history": {"id_dropout": 0},
        "query": {"id_dropout": 0},
        "candidate": {"id_dropout": 0},
    }
)


@pytest.fixture(scope="module")
def sets(tiny_dataset: Dataset) -> list[Batch]:
    """Targets that weigh differently; a set of which nothing is hidden, one of which everything is."""
    length, rng = tiny_dataset.schema.history_length, np.random.default_rng(0)
    found = list(training_sets(tiny_dataset, 64, length, hidden=0.4, seed=3).as_numpy_iterator())
    for batch in found:
        batch["weight"] = batch["weight"] * rng.uniform(0.5, 2, batch["weight"].shape).astype(np.float32)
    found[0]["history"] = np.where(np.arange(64)[:, None] == 0, 0, found[0]["history"])
    found[0]["weight"][1] = 0
    return found


def set_model(dataset: Dataset, negatives: int | None) -> RetrievalModel:
    tf.keras.utils.set_random_seed(1)
    towers = build_towers(dataset.schema, SET_MODEL, dataset.item_features)
    loss = UnseenLossConfig(temperature=0.7, negatives=negatives)
    interactions = load_interactions(dataset)
    model = RetrievalModel(towers, loss, dataset.train_counts, dataset.item_features, "sets", interactions)
    if negatives is not None:
        assert model._candidates._sampler.draw().shape == (negatives,)
        drawn = np.random.default_rng(0).integers(dataset.items.num_rows, size=negatives)
        model._candidates._sampler.draw = lambda: tf.constant(drawn, tf.int32)
    return model


@pytest.mark.parametrize("negatives", [None, 40])
def test_the_softmax_over_unseen_items_is_numpy_s(
    tiny_dataset: Dataset, sets: list[Batch], negatives: int | None
) -> None:
    """Each hidden item against all that its user did not take in train, or those of them that are drawn, scaled up."""
    model, num_items = set_model(tiny_dataset, negatives), tiny_dataset.items.num_rows
    drawn = np.arange(num_items)
    if negatives is not None:
        drawn = model._candidates._sampler.draw().numpy()
    catalogue = {name: tiny_dataset.item_features[name] for name in model.candidate_tower.input}
    batch, taken = sets[0], taken_by(tiny_dataset)
    candidates = model.candidate_tower(catalogue).numpy().astype(np.float64)
    queries = model.query_tower({name: batch[name] for name in model.query_tower.input}).numpy().astype(np.float64)
    losses, weights = [], []
    for row, place in np.argwhere(batch["weight"] > 0):
        logits = candidates @ queries[row] / 0.7
        unseen = drawn[~np.isin(drawn, list(taken[batch["user_row"][row]]))]
        total = np.exp(logits[unseen]).sum() * num_items / len(drawn)
        losses.append(np.log(total) - logits[batch["item_row"][row, place]])
        weights.append(batch["weight"][row, place])
    assert 30 < len(losses)
    assert (batch["weight"].sum(axis=1) == 0).any()
    loss = model.compute_loss({name: tf.constant(column) for name, column in batch.items()})
    np.testing.assert_allclose(loss, np.average(losses, weights=weights), rtol=1e-5)


@pytest.mark.parametrize(("number", "negatives"), [(0, None), (-1, 40)])
def test_two_replicas_have_the_loss_and_gradients_of_one_on_sets(
    tiny_dataset: Dataset, sets: list[Batch], number: int, negatives: int | None
) -> None:
    weight_of_half = sets[number]["weight"].reshape(2, -1).sum(axis=1)
    assert weight_of_half[0] != weight_of_half[1]
    results = []
    for context in (one_device, two_replicas):
        with context() as strategy:
            results.append(loss_and_gradients(strategy, set_model(tiny_dataset, negatives), sets[number]))
    (loss_of_one, gradients), (loss_of_two, gradients_of_two) = results
    assert loss_of_two == pytest.approx(loss_of_one, rel=1e-5)
    for one, two in zip(gradients, gradients_of_two, strict=True):
        np.testing.assert_allclose(two, one, atol=1e-5, rtol=1e-4)
    assert sum(np.abs(gradient).max() > 1e-4 for gradient in gradients) >= 3


def test_padding_of_sets_moves_no_row(tiny_dataset: Dataset, sets: list[Batch]) -> None:
    """Of drawn negatives and targets alone there are gradients."""
    model, batch = set_model(tiny_dataset, 40), {name: tf.constant(column) for name, column in sets[0].items()}
    with tf.GradientTape() as tape:
        loss = model.compute_loss(batch, training=True)
    table = model.candidate_tower.get_layer("item_id_embedding").table
    moved = set(tape.gradient(loss, table).indices.numpy().tolist())
    ids, present = tiny_dataset.item_features["item_id"], sets[0]["weight"] > 0
    drawn = model._candidates._sampler.draw().numpy()
    named = {*ids[sets[0]["item_row"][present]].tolist(), *ids[drawn].tolist(), *sets[0]["history"].ravel().tolist()}
    assert moved <= named
