"""The graph of a bundle: raw strings → query tower → index → raw strings."""

from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf

from recsys.config import MAX_K
from recsys.dataset import Dataset
from recsys.schema import HISTORY, ITEM_ID, USER_ID, Feature
from recsys.towers import Towers
from serving.categories import Categories
from serving.chunks import in_chunks
from serving.exclusion import search_allowed
from serving.index import ExactIndex, Index
from serving.index_quality import Search
from serving.popularity import RecentPopularity
from serving.reasons import nearest_of
from serving.user_states import NoUserStates, UserStates

_DEFAULT_K = 100
# Of a user's items, only so many of the latest may be what a recommendation is explained by.
_EXPLAINING = 100
_STRINGS = tf.TensorSpec([None], tf.string)
_STRING_LISTS = tf.TensorSpec([None, None], tf.string)
_INT = tf.TensorSpec([], tf.int32)
_FLOAT = tf.TensorSpec([], tf.float32)

# What a bundle can be asked: methods of `Recommender`, and the inputs they take, in order.
SIGNATURES: dict[str, list[tf.TensorSpec]] = {
    "serving_default": [_STRINGS],
    "recommend": [_STRINGS, _STRING_LISTS, _STRING_LISTS, _INT],
    "recommend_with_options": [_STRINGS, *[_STRING_LISTS] * 3, _INT, _INT, _FLOAT],
    "recommend_exactly": [_STRINGS, _STRING_LISTS, _STRING_LISTS, _INT],
    "embed_query": [_STRINGS, _STRING_LISTS],
    "similar_items": [_STRINGS, _INT],
    "explain": [_STRINGS, _STRING_LISTS, _STRINGS, _INT],
}
Signatures = dict[str, tf.types.experimental.ConcreteFunction]


@dataclass(frozen=True)
class Parts:
    """What a bundle and its twin have in common.

    Attributes:
      towers: trained.
      dataset: what they were trained on.
      states: the items of each of its users, if they may be known.
      popularity: of its items.
      categories: of its items.
      exact: brute force over the embeddings of its items.
    """

    towers: Towers
    dataset: Dataset
    states: UserStates | NoUserStates
    popularity: RecentPopularity
    categories: Categories
    exact: ExactIndex

    @property
    def default_k(self) -> int:
        """The k of `serving_default`."""
        return min(_DEFAULT_K, self.exact.num_candidates)

    @property
    def max_k(self) -> int:
        """The largest k that is answered."""
        return min(MAX_K, self.exact.num_candidates)


class Recommender(tf.Module):
    """Answers batches of raw strings. The empty string is padding; as a user it is an unknown one.

    Every method but `signatures` is a signature of the exported SavedModel. `item_ids` are [batch, k] strings, best
    first, empty where no candidate is left; `scores` are [batch, k] float32, the smallest float32 where none is left.
    `num_items` [batch] int32 is how many items are there: fewer than `k` only where no more exist.
    """

    def __init__(self, parts: Parts, index: Index, vocabulary_dir: Path) -> None:
        """Puts the parts together.

        Args:
          parts: what to answer from.
          index: over the embeddings of the catalogue; it may be the exact one.
          vocabulary_dir: where to write the id lists that the SavedModel takes along as assets.
        """
        super().__init__()
        dataset = parts.dataset
        self._query_tower = parts.towers.query
        self._query_inputs = parts.towers.query_inputs
        self._user_id, self._item_id = dataset.schema.user_id, dataset.schema.item_id
        self._history_length = parts.towers.history_length
        self._item_bias = parts.towers.item_bias
        self._default_k, self._max_k = parts.default_k, parts.max_k
        self._states = parts.states
        self._popularity = parts.popularity
        self._categories = parts.categories
        self._index, self._exact = index, parts.exact
        self._users = _row_lookup(vocabulary_dir / "users.txt", dataset.users["user"].to_pylist())
        self._items = _row_lookup(vocabulary_dir / "items.txt", dataset.items["item"].to_pylist())
        self._item_names = tf.Variable(dataset.items["item"].to_pylist(), trainable=False)
        self._item_ids = tf.Variable(dataset.item_features[ITEM_ID], trainable=False)
        self._user_features = {
            name: tf.Variable(values, trainable=False)
            for name, values in dataset.user_features.items()
            if name in self._query_inputs
        }

    def signatures(self) -> Signatures:
        """Traces the other methods. They are no functions of TensorFlow already, which saving would trace once more."""
        return {
            name: tf.function(getattr(self, name), input_signature=inputs).get_concrete_function()
            for name, inputs in SIGNATURES.items()
        }

    def serving_default(self, user_id: tf.Tensor) -> dict[str, tf.Tensor]:
        """Recommends to users by what the bundle knows of them: {user_id [batch]} → item_ids, scores."""
        nothing = tf.fill([tf.shape(user_id)[0], 0], "")
        answer = self.recommend(user_id, nothing, nothing, tf.constant(self._default_k))
        return {"item_ids": answer["item_ids"], "scores": answer["scores"]}

    def recommend(
        self, user_id: tf.Tensor, history: tf.Tensor, exclude: tf.Tensor, k: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Recommends items that a user has not taken.

        Args:
          user_id: [batch] string.
          history: [batch, any] string; items the user took, oldest first. A row without any means: as the bundle
            knows the user. Somebody of whom the query tower is told nothing gets what is popular of late.
          exclude: [batch, any] string; further items not to recommend.
          k: scalar int32, 1 … max_k.

        Returns:
          item_ids, scores, num_items, `known` [batch] bool: whether the bundle knows the user, and `source` [batch]
          string, what the row rests on: "history" as given, "user" as known, or "popularity", whose scores are shares
          of the latest interactions.
        """
        return self._recommend(self._index.search, user_id, history, exclude, k)

    def recommend_with_options(
        self,
        user_id: tf.Tensor,
        history: tf.Tensor,
        exclude: tf.Tensor,
        categories: tf.Tensor,
        k: tf.Tensor,
        leaves: tf.Tensor,
        reorder_factor: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """Answers as `recommend` does, within categories, and with another effort of the index.

        Args:
          user_id: as for `recommend`.
          history: as for `recommend`.
          exclude: as for `recommend`.
          categories: [batch, any] string, `feature=value` of categorical item features: only items of any of them are
            recommended. A row without any means all items.
          k: as for `recommend`.
          leaves: scalar int32, partitions to search; 0 as the index is tuned.
          reorder_factor: scalar float32, candidates to score exactly as a multiple of `k`, or of what is left out and
            `k` together; 0 as the index is tuned.
        """

        def search(queries: tf.Tensor, number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return self._index.search(queries, number, leaves, reorder_factor)

        return self._recommend(search, user_id, history, exclude, k, categories)

    def recommend_exactly(
        self, user_id: tf.Tensor, history: tf.Tensor, exclude: tf.Tensor, k: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Answers as `recommend` does, by exact search: what the index is judged by while it serves."""
        return self._recommend(self._exact.search, user_id, history, exclude, k)

    def _recommend(
        self,
        search: Search,
        user_id: tf.Tensor,
        history: tf.Tensor,
        exclude: tf.Tensor,
        k: tf.Tensor,
        categories: tf.Tensor | None = None,
    ) -> dict[str, tf.Tensor]:
        user_row = self._users.lookup(user_id)
        taken = self._states.items(user_row)
        given = tf.ragged.boolean_mask(history, history != "")
        excluded = tf.concat([taken, self._rows(given), self._rows(exclude)], axis=1)
        known, asks_by_history = user_row >= 0, (given.row_lengths() > 0) & (HISTORY in self._query_inputs)
        queries = self._embed(user_id, user_row, given, taken)
        # Of a known user without any items, a tower that sees histories alone is told nothing.
        by_user = known if self._user_features else known & (taken.row_lengths() > 0)
        by_model = by_user | asks_by_history
        asked = search, queries, excluded, by_model, k
        rows, scores = self._best(*asked) if categories is None else self._best_within(*asked, categories)
        source = tf.where(asks_by_history, "history", tf.where(by_user, "user", "popularity"))
        names, number = self._names(rows), _count(rows)
        return {"item_ids": names, "scores": scores, "num_items": number, "known": known, "source": source}

    def _best(
        self,
        search: Search,
        queries: tf.Tensor,
        excluded: tf.RaggedTensor,
        by_model: tf.Tensor,
        k: tf.Tensor,
        within: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """What the index finds, or what is popular of late where `by_model` [batch] bool is false."""
        rows, scores = self._search(search, queries, excluded, k, within)
        with tf.control_dependencies([rows]):  # which has refused a k out of range
            popular_rows, popular_scores = self._popularity.best(excluded, tf.identity(k), within)
        is_found = by_model[:, tf.newaxis]
        return tf.where(is_found, rows, popular_rows), tf.where(is_found, scores, popular_scores)

    def _best_within(
        self,
        search: Search,
        queries: tf.Tensor,
        excluded: tf.RaggedTensor,
        by_model: tf.Tensor,
        k: tf.Tensor,
        categories: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """As `_best`, in chunks: of each row it marks the candidates within its categories."""

        def best_of(start: tf.Tensor, stop: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            within = self._categories.items(categories[start:stop])
            asked = queries[start:stop], excluded[start:stop], by_model[start:stop]
            return self._best(search, *asked, k, within)

        return in_chunks(best_of, tf.shape(queries)[0], self._exact.num_candidates)

    def embed_query(self, user_id: tf.Tensor, history: tf.Tensor) -> dict[str, tf.Tensor]:
        """Embeds queries, given as for `recommend`: → `embeddings` [batch, embedding_dim] float32."""
        user_row = self._users.lookup(user_id)
        given = tf.ragged.boolean_mask(history, history != "")
        return {"embeddings": self._embed(user_id, user_row, given, self._states.items(user_row))}

    def similar_items(self, item_id: tf.Tensor, k: tf.Tensor) -> dict[str, tf.Tensor]:
        """Finds the nearest other items: {item_id [batch], k} → item_ids, scores, num_items; none for an unknown."""
        row = tf.cast(self._items.lookup(item_id), tf.int32)
        itself = tf.RaggedTensor.from_tensor(row[:, tf.newaxis])
        queries = self._as_queries(row)
        rows, scores = self._search(self._index.search, queries, itself, k)
        known = row[:, tf.newaxis] >= 0
        rows, scores = tf.where(known, rows, -1), tf.where(known, scores, tf.float32.min)
        return {"item_ids": self._names(rows), "scores": scores, "num_items": _count(rows)}

    def explain(self, user_id: tf.Tensor, history: tf.Tensor, item_id: tf.Tensor, k: tf.Tensor) -> dict[str, tf.Tensor]:
        """Names what a user took that is nearest to an item: why it may have been recommended.

        Args:
          user_id: [batch] string.
          history: as for `recommend`: a row without any means the items that the bundle knows of the user.
          item_id: [batch] string; the item to explain.
          k: as for `recommend`.

        Returns:
          item_ids and scores of the nearest of the user's latest items, as `similar_items` measures nearness.
        """
        given = tf.ragged.boolean_mask(history, history != "")
        taken = self._states.items(self._users.lookup(user_id))[:, -_EXPLAINING:].to_tensor(-1)
        is_given = given.row_lengths()[:, tf.newaxis] > 0
        known = [self._rows(given)[:, -_EXPLAINING:].to_tensor(-1), tf.where(is_given, -1, taken)]
        item = tf.cast(self._items.lookup(item_id), tf.int32)[:, tf.newaxis]
        with tf.control_dependencies(self._checks(k)):
            queries, taken = self._as_queries(item[:, 0]), tf.concat(known, axis=1)
            rows, scores = nearest_of(self._exact.candidates, queries, item, taken, tf.identity(k))
        return {"item_ids": self._names(rows), "scores": scores}

    def _as_queries(self, item_row: tf.Tensor) -> tf.Tensor:
        """[batch, embedding_dim] float32: embeddings of items, -1 being any; their neighbours are near by no bias."""
        embeddings = tf.gather(self._exact.candidates, tf.maximum(item_row, 0))
        if not self._item_bias:
            return embeddings
        return tf.concat([embeddings[:, :-1], tf.zeros_like(embeddings[:, -1:])], axis=1)

    def _search(
        self,
        search: Search,
        queries: tf.Tensor,
        excluded: tf.RaggedTensor,
        k: tf.Tensor,
        within: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.control_dependencies(self._checks(k)):
            return search_allowed(search, self._exact, queries, excluded, tf.identity(k), within)

    def _checks(self, k: tf.Tensor) -> list[tf.Operation]:
        message = f"k must be between 1 and {self._max_k}"
        return [tf.debugging.assert_positive(k, message), tf.debugging.assert_less_equal(k, self._max_k, message)]

    def _embed(
        self, user_id: tf.Tensor, user_row: tf.Tensor, given: tf.RaggedTensor, taken: tf.RaggedTensor
    ) -> tf.Tensor:
        known = user_row >= 0
        features: dict[str, tf.Tensor] = {}
        for name, table in self._user_features.items():
            values = tf.gather(table, tf.maximum(user_row, 0))
            unknown = _out_of_vocabulary(user_id, self._user_id) if name == USER_ID else tf.zeros_like(values)
            mask = tf.reshape(known, [-1] + [1] * (values.shape.rank - 1))
            features[name] = tf.where(mask, values, unknown)
        features[HISTORY] = self._history(given, taken)
        return self._query_tower({name: features[name] for name in self._query_inputs})

    def _history(self, given: tf.RaggedTensor, taken: tf.RaggedTensor) -> tf.Tensor:
        """[batch, history_length] int32 item ids, oldest first: of what was given, or else of what is known."""
        flat_rows = tf.cast(self._items.lookup(given.flat_values), tf.int32)
        known_ids = tf.gather(self._item_ids, tf.maximum(flat_rows, 0))
        ids = tf.where(flat_rows >= 0, known_ids, _out_of_vocabulary(given.flat_values, self._item_id))
        from_request = self._latest(given.with_flat_values(ids))
        from_state = self._latest(tf.gather(self._item_ids, taken))
        return tf.where(given.row_lengths()[:, tf.newaxis] > 0, from_request, from_state)

    def _latest(self, ids: tf.RaggedTensor) -> tf.Tensor:
        return ids[:, -self._history_length :].to_tensor(shape=[None, self._history_length])

    def _rows(self, items: tf.Tensor | tf.RaggedTensor) -> tf.RaggedTensor:
        ragged = items if isinstance(items, tf.RaggedTensor) else tf.RaggedTensor.from_tensor(items)
        return ragged.with_flat_values(tf.cast(self._items.lookup(ragged.flat_values), tf.int32))

    def _names(self, rows: tf.Tensor) -> tf.Tensor:
        return tf.where(rows >= 0, tf.gather(self._item_names, tf.maximum(rows, 0)), "")


def _row_lookup(path: Path, values: list[str]) -> tf.lookup.StaticHashTable:
    """A table from a value to its position, int64; -1 for others. From a file, which may be larger than a graph."""
    path.write_text("".join(f"{value}\n" for value in values), encoding="utf-8", newline="\n")
    lines = tf.lookup.TextFileInitializer(
        str(path), tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
    )
    return tf.lookup.StaticHashTable(lines, default_value=-1)


def _count(rows: tf.Tensor) -> tf.Tensor:
    """How many candidates each of [batch, k] rows names, [batch] int32."""
    return tf.reduce_sum(tf.cast(rows >= 0, tf.int32), axis=1)


def _out_of_vocabulary(values: tf.Tensor, feature: Feature) -> tf.Tensor:
    """The ids of unknown strings, as data preparation gives them."""
    return tf.cast(1 + tf.strings.to_hash_bucket_fast(values, feature.num_oov), tf.int32)
