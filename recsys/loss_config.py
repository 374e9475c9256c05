"""Frozen, typed configuration of losses.

Imports no TensorFlow. Each default is written here and nowhere else.
"""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from recsys.idle_options import refuse_idle
from recsys.schema import Frozen


class NegativesConfig(Frozen):
    """Further candidates that each step of a replica draws from the catalogue, for all of its queries or for one.

    They are mixed with the batch's (Yang et al., "Mixed negative sampling for learning two-tower neural networks in
    recommendations", 2020): what is hardly ever taken is then pushed away as well.

    Attributes:
      uniform: so many, each item as likely as any other.
      popular: so many, each item in proportion to how often it is a target, to the power of `popularity_power`.
      popularity_power: 1 draws as batches do, less more evenly.
      hard: so many for each query alone, out of its user's `hard_depth` hardest (Xiong et al., "Approximate nearest
        neighbor negative contrastive learning for dense text retrieval", ICLR 2021). What stands in the batch as well
        counts there, too: between once and twice in the mean, where other items count once.
      hard_depth: so many items of highest score that a user did not take in train are held for each, 4 bytes apiece,
        and found anew as each epoch begins.
    """

    uniform: int = Field(default=0, ge=0)
    popular: int = Field(default=0, ge=0)
    popularity_power: float = Field(default=0.75, gt=0)
    hard: int = Field(default=0, ge=0)
    hard_depth: int = Field(default=100, ge=1)

    @model_validator(mode="after")
    def _no_option_is_idle(self) -> "NegativesConfig":
        if not self.popular:
            refuse_idle(self, "popularity_power", "popular above 0")
        if not self.hard:
            refuse_idle(self, "hard_depth", "hard above 0")
        return self


class InBatchLossConfig(Frozen):
    """Softmax over the global batch's candidates, and others that are drawn from the catalogue.

    Attributes:
      temperature: scores are divided by it.
      learn_temperature: whether it is learned, beginning there.
      log_q: where each candidate's sampling probability comes from, whose logarithm is subtracted from its score, so
        that popular items are not punished for being negatives more often: `train_counts`, or a `streaming` estimate
        from the batches themselves; or `none`.
      streaming_rate: how much of an item's mean a new observation replaces in a streaming estimate.
      mask: whose softmax weight as a negative is exactly 0. `accidental_hits`: items that are the query's own positive;
        `known_positives`: all items that the query's user took anywhere in train, too, for a search per such item.
      negatives: drawn from the catalogue.
      num_hardest: only so many negatives of each query count, those with the highest scores, as corrected; all when
        None.
    """

    name: Literal["in_batch_softmax"] = "in_batch_softmax"
    temperature: float = Field(default=0.1, gt=0)
    learn_temperature: bool = False
    log_q: Literal["none", "train_counts", "streaming"] = "train_counts"
    streaming_rate: float = Field(default=0.01, gt=0, le=1)
    mask: Literal["nothing", "accidental_hits", "known_positives"] = "accidental_hits"
    negatives: NegativesConfig = NegativesConfig()
    num_hardest: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _no_option_is_idle(self) -> "InBatchLossConfig":
        if self.log_q != "streaming":
            refuse_idle(self, "streaming_rate", "log_q = 'streaming'")
        return self


class FullLossConfig(Frozen):
    """Softmax over the whole catalogue: exact, and its cost per example grows with the catalogue.

    Attributes:
      temperature: scores are divided by it.
      learn_temperature: whether it is learned, beginning there.
    """

    name: Literal["full_softmax"] = "full_softmax"
    temperature: float = Field(default=0.1, gt=0)
    learn_temperature: bool = False


class UnseenLossConfig(Frozen):
    """Softmax of each item that is hidden from a user's set, over the items that the user did not take.

    Without a lower bound (`recsys.losses.UnseenSoftmax`), it is for cosines, at a given temperature.

    Attributes:
      temperature: scores are divided by it.
      negatives: so many items of the catalogue are drawn in each step, each as likely as any other, and perhaps several
        times; all, once, when None: exact, and the cost per step grows with the catalogue.
    """

    name: Literal["unseen_softmax"] = "unseen_softmax"
    temperature: float = Field(default=0.1, gt=0)
    negatives: int | None = Field(default=None, ge=1)


def _named(default: str) -> Discriminator:
    """Tells the members of a union apart by `name`, which is `default` where it is left out."""

    def name_of(value: Any) -> str:
        return str(value.get("name", default) if isinstance(value, dict) else getattr(value, "name", default))

    return Discriminator(name_of)


LossConfig = Annotated[
    Annotated[InBatchLossConfig, Tag("in_batch_softmax")]
    | Annotated[FullLossConfig, Tag("full_softmax")]
    | Annotated[UnseenLossConfig, Tag("unseen_softmax")],
    _named("in_batch_softmax"),
]
