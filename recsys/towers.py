"""Schema and configuration → the query tower and the candidate tower, as Keras functional models."""

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

import tensorflow as tf

from recsys.config import MeanEncoder, ModelConfig, RuntimeConfig, TowerConfig
from recsys.dataset import Features
from recsys.embeddings import AttentionBag, EmbeddingTable, IdDropout, ItemContent, MeanBag, SharedMean, SumBag
from recsys.errors import ConfigError
from recsys.history_encoders import make_history_encoder
from recsys.item_bias import BiasedUnits
from recsys.schema import HISTORY, ITEM_ID, PADDING_ID, Feature, Schema

# Dropout layers then draw from generators, whose states can be saved.
tf.keras.backend.experimental.enable_tf_random_generator()

NO_FEATURES: Features = MappingProxyType({})  # type: ignore[assignment]
DEFAULT_RUNTIME = RuntimeConfig()

_POLICIES = {"none": "float32", "bfloat16": "mixed_bfloat16"}
_BAGS = {"mean": MeanBag, "sum": SumBag, "attention": AttentionBag}

# Symbolic inputs by name, and the embeddings that are summed.
_Parts = tuple[dict[str, tf.Tensor], list[tf.Tensor]]


@dataclass(frozen=True)
class Towers:
    """Both towers of a retrieval model.

    Attributes:
      query: user features, [batch] or [batch, max_length] int32, or float32 where dense, and `history`
        [batch, history_length] int32 item ids where the schema has some → [batch, embedding_dim] float32.
      candidate: item features, likewise → [batch, embedding_dim] float32.
      positions: the query tower's inputs → [batch, history_length, embedding_dim] float32, what it would say after
        each item of the history; made of the same weights. None where the schema has no history.
    """

    query: tf.keras.Model
    candidate: tf.keras.Model
    positions: tf.keras.Model | None

    @property
    def query_inputs(self) -> list[str]:
        """The names of the query tower's features."""
        return list(self.query.input)

    @property
    def candidate_inputs(self) -> list[str]:
        """The names of the candidate tower's features."""
        return list(self.candidate.input)

    @property
    def history_length(self) -> int:
        """How many of a user's latest items the query tower sees."""
        return int(self.query.input[HISTORY].shape[1]) if HISTORY in self.query.input else 0

    @property
    def item_bias(self) -> bool:
        """Whether the last unit of embeddings is the items' bias."""
        return any(isinstance(layer, BiasedUnits) for layer in self.candidate.layers)

    def embed_query(self, features: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Returns [batch, embedding_dim] float32; features that the tower does not use are ignored."""
        return self.query({name: features[name] for name in self.query_inputs}, training=training)

    def embed_positions(self, features: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Returns [batch, history_length, embedding_dim] float32, the query after each item of the history.

        Raises:
          ConfigError: there is no history.
        """
        if self.positions is None:
            raise ConfigError("the dataset has no histories: expected history_length above 0; prepare it again")
        return self.positions({name: features[name] for name in self.query_inputs}, training=training)

    def embed_candidate(self, features: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Returns [batch, embedding_dim] float32; features that the tower does not use are ignored."""
        return self.candidate({name: features[name] for name in self.candidate_inputs}, training=training)


def build_towers(
    schema: Schema, config: ModelConfig, items: Features = NO_FEATURES, runtime: RuntimeConfig = DEFAULT_RUNTIME
) -> Towers:
    """Builds both towers with fresh weights.

    Args:
      schema: of the dataset.
      config: of the towers.
      items: the catalogue's features, for a query tower that sees the content of histories.
      runtime: whether XLA compiles them, and the precision of hidden layers and of the history's encoder. Weights,
        embeddings and a tower's last layers are float32 always.

    Raises:
      ConfigError: a tower would have no feature.
    """
    policy = _POLICIES[runtime.mixed_precision]
    item_tables = _tables(schema.item_features, config.candidate, config, runtime.xla)
    inputs, parts = _embedded(schema.item_features, config.candidate, item_tables)
    candidate = tf.keras.Model(inputs, _head("candidate", config.candidate, config, policy)(parts), name="candidate")

    user_tables = _tables(schema.user_features, config.query, config, runtime.xla)
    inputs, parts = _embedded(schema.user_features, config.query, user_tables)
    head = _head("query", config.query, config, policy)
    if not schema.history_length:
        return Towers(tf.keras.Model(inputs, head(parts), name="query"), candidate, None)
    history = tf.keras.Input((_history_length(schema, config),), dtype=tf.int32, name=HISTORY)
    inputs = {HISTORY: history, **inputs}
    table = item_tables[ITEM_ID]
    if not config.history.share_item_table:
        table = _table(schema.item_id, config.candidate, config, runtime.xla, "history_embedding")
    now, everywhere = _encoded_history(history, schema, config, {**item_tables, ITEM_ID: table}, items, policy)
    return Towers(
        query=tf.keras.Model(inputs, head([now, *parts]), name="query"),
        candidate=candidate,
        positions=tf.keras.Model(
            inputs, head([everywhere, *(part[:, tf.newaxis] for part in parts)]), name="positions"
        ),
    )


def _history_length(schema: Schema, config: ModelConfig) -> int:
    wanted = config.history.length
    return schema.history_length if wanted is None else min(wanted, schema.history_length)


def _encoded_history(
    history: tf.Tensor,
    schema: Schema,
    config: ModelConfig,
    item_tables: dict[str, tf.keras.layers.Layer],
    items: Features,
    policy: str,
) -> tuple[tf.Tensor, tf.Tensor]:
    """What is known after the whole history, [batch, embedding_dim], and after each item, [batch, length, …]."""
    id_feature, *content = schema.item_features
    table = item_tables[ITEM_ID]
    kept = IdDropout(id_feature, config.history.id_dropout, name="history_dropout")(history)
    parts = [table(kept)]
    for feature in content if config.history.content_features else []:
        values = ItemContent(id_feature, items[ITEM_ID], items[feature.name], name=f"history_{feature.name}")(history)
        parts.append(item_tables[feature.name](values))
    encoder = make_history_encoder(config.history, config.embedding_dim, policy)
    embedded = tf.keras.layers.Add(name="history_features")(parts) if len(parts) > 1 else parts[0]
    present = tf.not_equal(history, PADDING_ID)
    everywhere = encoder(embedded, present, every_position=True)
    if isinstance(config.history.encoder, MeanEncoder) and len(parts) == 1:
        # The same as the encoder's, without an embedding of every item.
        return SharedMean(table, name="history_mean")(kept), everywhere
    return encoder(embedded, present), everywhere


def _embedded(features: tuple[Feature, ...], tower: TowerConfig, tables: dict[str, tf.keras.layers.Layer]) -> _Parts:
    """The inputs of a tower's features, and their embeddings, [batch, embedding_dim] each."""
    inputs, parts = {}, []
    id_feature, *content = features
    if tower.use_id:
        inputs[id_feature.name] = _input(id_feature)
        kept = IdDropout(id_feature, tower.id_dropout, name=f"{id_feature.name}_dropout")(inputs[id_feature.name])
        parts.append(tables[id_feature.name](kept))
    if tower.content_features:
        for feature in content:
            inputs[feature.name] = _input(feature)
            parts.append(tables[feature.name](inputs[feature.name]))
    return inputs, parts


def _head(name: str, tower: TowerConfig, model: ModelConfig, policy: str) -> Callable[[list[tf.Tensor]], tf.Tensor]:
    """Returns what a tower does to its embeddings: [..., embedding_dim] each → [..., embedding_dim]."""
    layers = []
    for number, units in enumerate(tower.hidden_units):
        layers.append(tf.keras.layers.Dense(units, activation="relu", name=f"{name}_hidden_{number}", dtype=policy))
        layers.append(tf.keras.layers.Dropout(tower.dropout, name=f"{name}_dropout_{number}", dtype=policy))
    if tower.hidden_units:
        layers.append(tf.keras.layers.Dense(model.embedding_dim, name=f"{name}_projection"))
    if model.item_bias:
        layers.append(BiasedUnits(name == "query", model.normalize, name=f"{name}_bias"))
    elif model.normalize:
        layers.append(tf.keras.layers.UnitNormalization(name=f"{name}_normalization"))
    add = tf.keras.layers.Add(name=f"{name}_features")

    def apply(parts: list[tf.Tensor]) -> tf.Tensor:
        if not parts:
            raise ConfigError(
                f"the {name} tower has no feature: expected use_id, or content_features and a schema with some"
            )
        output = add(parts) if len(parts) > 1 else parts[0]
        for layer in layers:
            output = layer(output)
        return output

    return apply


def _tables(
    features: tuple[Feature, ...], tower: TowerConfig, model: ModelConfig, static_shapes: bool
) -> dict[str, tf.keras.layers.Layer]:
    """By feature what embeds it: a table for ids, a linear map for numbers."""
    return {f.name: _table(f, tower, model, static_shapes, f"{f.name}_embedding") for f in features}


def _table(
    feature: Feature, tower: TowerConfig, model: ModelConfig, static_shapes: bool, name: str
) -> tf.keras.layers.Layer:
    if feature.is_dense:
        return tf.keras.layers.Dense(model.embedding_dim, use_bias=False, name=name)
    kind = _BAGS[tower.pooling] if feature.is_bag else EmbeddingTable
    return kind(feature.num_ids, model.embedding_dim, model.initial_stddev, name, static_shapes)


def _input(feature: Feature) -> tf.Tensor:
    shape = (feature.max_length,) if feature.is_bag or feature.is_dense else ()
    return tf.keras.Input(shape, dtype=tf.float32 if feature.is_dense else tf.int32, name=feature.name)
