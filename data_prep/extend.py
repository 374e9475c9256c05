"""`prepare --extend`: an older dataset whose ids and fits a new one keeps, so that trained rows keep their meaning."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from data_prep.config import DataConfig
from recsys.dataset import Dataset, open_dataset
from recsys.errors import ConfigError
from recsys.schema import Feature, NumericFit, Source


@dataclass(frozen=True)
class OldDataset:
    """What a new dataset takes over from an old one."""

    dataset: Dataset

    def values(self, feature: str) -> pa.StringArray | None:
        """A feature's known values in the order of their ids; None when it has no vocabulary."""
        if feature not in self.dataset.manifest.vocabularies:
            return None
        return pa.array(self.dataset.vocabulary(feature), pa.string())

    def numeric_fit(self, feature: str) -> NumericFit | None:
        """What was learned of a number."""
        return self.dataset.manifest.numeric_fits.get(feature)

    @property
    def source(self) -> Source:
        """What a manifest says of it; where it lies is not the same on every machine."""
        return Source(spec=self.dataset.path.resolve().name, fingerprint=self.dataset.fingerprint)

    def require_same(self, features: Sequence[Feature]) -> None:
        """Raises `ConfigError` when user or item features differ from the old ones in more than new ids."""
        schema = self.dataset.schema
        kind = schema.user_features if features[0].name == schema.user_id.name else schema.item_features
        unrecorded = {feature.name for feature in kind if feature.column is None}
        ours, theirs = ([_kept_part(f, f.name not in unrecorded) for f in part] for part in (features, kind))
        if ours != theirs:
            raise ConfigError(
                f"{self.dataset.path} has the features {'; '.join(theirs)}: expected the same to extend it, received "
                f"{'; '.join(ours)}; use its data.toml, or prepare without --extend and train anew"
            )


def open_old(path: Path | None, config: DataConfig) -> OldDataset | None:
    """Opens the dataset to extend.

    Raises:
      DatasetError: it is none.
      ConfigError: it divides a number into other buckets than `config` asks for.
    """
    if path is None:
        return None
    old = OldDataset(open_dataset(path))
    for feature in (*config.users.features, *config.items.features):
        fit = old.numeric_fit(feature.name)
        if fit is not None and fit.quantiles != feature.quantiles:
            raise ConfigError(
                f"{path} has {feature.name} with quantiles = {fit.quantiles}: expected the same to extend it, received "
                f"{feature.quantiles}; use its data.toml, or prepare without --extend and train anew"
            )
    return old


def _kept_part(feature: Feature, with_reading: bool) -> str:
    """What must stay as it is; how the values are read only where it is known of both datasets."""
    width = f" × {feature.max_length}" if feature.max_length > 1 else ""
    buckets = f", {feature.num_ids - 1} buckets" if feature.type == "text" else ""
    oov = f", {feature.num_oov} out of vocabulary" if feature.num_oov else ""
    reading = _reading(feature) if with_reading else ""
    return f"{feature.name} ({feature.type}{width}{buckets}{oov}{reading})"


def _reading(feature: Feature) -> str:
    column = f", of column {feature.column}" if feature.column not in (None, feature.name) else ""
    separator = f", separated by {feature.separator!r}" if feature.separator is not None else ""
    ngrams = f", up to {feature.max_ngram} words" if feature.max_ngram > 1 else ""
    return column + separator + ngrams
