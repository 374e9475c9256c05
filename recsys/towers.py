"""Schema and configuration → the query tower and the candidate tower, as Keras functional models."""

from dataclasses import dataclass

import tensorflow as tf

from recsys.config import ModelConfig, TowerConfig
from recsys.embeddings import EmbeddingBag, IdDropout
from recsys.errors import ConfigError
from recsys.schema import HISTORY, Feature, Schema


@dataclass(frozen=True)
class Towers:
    """Both towers of a retrieval model.

    Attributes:
      query: user features, [batch] or [batch, max_length] int32, or float32 where dense, and `history`
        [batch, history_length] int32 item ids where the schema has some → [batch, embedding_dim] float32.
      candidate: item features, likewise → [batch, embedding_dim] float32.
    """

    query: tf.keras.Model
    candidate: tf.keras.Model

    @property
    def query_inputs(self) -> list[str]:
        """The names of the query tower's features."""
        return list(self.query.input)

    @property
    def candidate_inputs(self) -> list[str]:
        """The names of the candidate tower's features."""
        return list(self.candidate.input)

    def embed_query(self, features: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Returns [batch, embedding_dim] float32; features that the tower does not use are ignored."""
        return self.query({name: features[name] for name in self.query_inputs}, training=training)

    def embed_candidate(self, features: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Returns [batch, embedding_dim] float32; features that the tower does not use are ignored."""
        return self.candidate({name: features[name] for name in self.candidate_inputs}, training=training)


def build_towers(schema: Schema, config: ModelConfig) -> Towers:
    """Builds both towers with fresh weights.

    Raises:
      ConfigError: a tower would have no feature.
    """
    item_table = EmbeddingBag(schema.item_id.num_ids, config.embedding_dim, name="item_id_embedding")
    candidate = _tower("candidate", schema.item_features, config.candidate, config, item_table, {})

    user_table = EmbeddingBag(schema.user_id.num_ids, config.embedding_dim, name="user_id_embedding")
    encoded = _history(schema, config, item_table) if schema.history_length else {}
    return Towers(_tower("query", schema.user_features, config.query, config, user_table, encoded), candidate)


def _history(schema: Schema, config: ModelConfig, item_table: EmbeddingBag) -> dict[str, tuple[tf.Tensor, tf.Tensor]]:
    """The input of a user's latest items, and their mean embedding."""
    history = tf.keras.Input((schema.history_length,), dtype=tf.int32, name=HISTORY)
    table = item_table
    if not config.history.share_item_table:
        table = EmbeddingBag(schema.item_id.num_ids, config.embedding_dim, name="history_embedding")
    kept = IdDropout(schema.item_id, config.history.id_dropout, name="history_dropout")(history)
    return {HISTORY: (history, table(kept))}


def _tower(
    name: str,
    features: tuple[Feature, ...],
    tower: TowerConfig,
    model: ModelConfig,
    id_table: EmbeddingBag,
    encoded: dict[str, tuple[tf.Tensor, tf.Tensor]],
) -> tf.keras.Model:
    """Sums the embeddings of all features and of what is already `encoded` (name → input and its embedding)."""
    inputs = {key: symbolic for key, (symbolic, _) in encoded.items()}
    parts = [embedding for _, embedding in encoded.values()]
    id_feature, *content = features
    if tower.use_id:
        inputs[id_feature.name] = _input(id_feature)
        kept = IdDropout(id_feature, tower.id_dropout, name=f"{id_feature.name}_dropout")(inputs[id_feature.name])
        parts.append(id_table(kept))
    if tower.content_features:
        for feature in content:
            inputs[feature.name] = _input(feature)
            parts.append(_embedding(feature, model.embedding_dim)(inputs[feature.name]))
    if not parts:
        raise ConfigError(
            f"the {name} tower has no feature: expected use_id, or content_features and a schema with some"
        )
    output = tf.keras.layers.Add(name=f"{name}_features")(parts) if len(parts) > 1 else parts[0]
    for number, units in enumerate(tower.hidden_units):
        output = tf.keras.layers.Dense(units, activation="relu", name=f"{name}_hidden_{number}")(output)
        output = tf.keras.layers.Dropout(tower.dropout, name=f"{name}_dropout_{number}")(output)
    if tower.hidden_units:
        output = tf.keras.layers.Dense(model.embedding_dim, name=f"{name}_projection")(output)
    if model.normalize:
        output = tf.keras.layers.UnitNormalization(name=f"{name}_normalization")(output)
    return tf.keras.Model(inputs, output, name=name)


def _embedding(feature: Feature, embedding_dim: int) -> tf.keras.layers.Layer:
    """A table for ids, a linear map for numbers."""
    name = feature.name + "_embedding"
    if feature.is_dense:
        return tf.keras.layers.Dense(embedding_dim, use_bias=False, name=name)
    return EmbeddingBag(feature.num_ids, embedding_dim, name=name)


def _input(feature: Feature) -> tf.Tensor:
    shape = (feature.max_length,) if feature.is_bag or feature.is_dense else ()
    return tf.keras.Input(shape, dtype=tf.float32 if feature.is_dense else tf.int32, name=feature.name)
