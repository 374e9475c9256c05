"""Optimizers whose cost per step depends on the rows of a batch, never on the length of a table."""

from collections.abc import Iterable
from typing import Any

import tensorflow as tf

from recsys.config import AdagradConfig, OptimizerConfig, ScheduleConfig

# Variables beside the weights, and the new values of some of their rows.
_Slots = list[tuple[tf.Variable, tf.Tensor]]


class RowSparse(tf.keras.optimizers.Optimizer):
    """What optimizers of tables have in common: of a sparse gradient, they touch only the rows that it has.

    A row that is not in the batch keeps its weights and its slots. Several gradients of one row in a batch, from
    several replicas too, are added up to one first, so that a row takes one step. Dense gradients take the stock step.

    Weight decay is decoupled (Loshchilov & Hutter, "Decoupled weight decay regularization", ICLR 2019): a weight loses
    the share η · `decay` of itself at each of its steps, which for a row of a table are the steps of that row. A scalar
    loses nothing: a learned temperature is not to tend to 1.
    """

    def __init__(self, *options: Any, decay: float, static_shapes: bool, **further_options: Any) -> None:
        """Takes the stock optimizer's options, and two more.

        Args:
          *options: of the stock optimizer.
          decay: the rate of the decoupled weight decay.
          static_shapes: whether no shape may depend on how many of a batch's rows are distinct, as XLA compiles anew
            for each shape.
          **further_options: of the stock optimizer.
        """
        # On a GPU Keras would compile updates by XLA: for each number of distinct rows, which changes at every step.
        super().__init__(*options, jit_compile=False, **further_options)
        self._decay = decay
        self._static_shapes = static_shapes

    def update_step(self, gradient: tf.Tensor | tf.IndexedSlices, variable: tf.Variable) -> None:
        """Updates one variable."""
        if not isinstance(gradient, tf.IndexedSlices):
            if self._decay and variable.shape.rank:
                variable.assign_sub(self._lost(variable))
            super().update_step(gradient, variable)
            return
        rows = gradient.indices
        step, slots = self._step_of_rows(gradient.values, rows, self._index_dict[self._var_key(variable)])
        weights = tf.gather(variable, rows)
        if self._decay:
            step += self._lost(weights)
        for target, values in ((variable, weights - step), *slots):
            target.scatter_update(tf.IndexedSlices(values, rows))

    def _step_of_rows(self, gradient: tf.Tensor, rows: tf.Tensor, slot: int) -> tuple[tf.Tensor, _Slots]:
        """Returns what rows lose, and what their slots become.

        Args:
          gradient: [number, dim], of each row its whole gradient.
          rows: [number]; a row may come several times, with the same gradient each time.
          slot: the variable's number.
        """
        raise NotImplementedError

    def _deduplicate_sparse_grad(self, gradients: Iterable[tf.Tensor | tf.IndexedSlices]) -> list[Any]:
        """Adds up the gradients of a row."""
        if not self._static_shapes:
            return super()._deduplicate_sparse_grad(gradients)
        return [_each_its_total(g) if isinstance(g, tf.IndexedSlices) else g for g in gradients]

    def _lost(self, weights: tf.Tensor) -> tf.Tensor:
        return self.learning_rate * self._decay * weights


def _each_its_total(gradient: tf.IndexedSlices) -> tf.IndexedSlices:
    """As many rows, in ascending order, and for each the sum of all gradients of that row."""
    order = tf.argsort(gradient.indices, stable=True)
    rows = tf.gather(gradient.indices, order)
    begins = tf.concat([[0], tf.cast(rows[1:] != rows[:-1], tf.int32)], axis=0)
    number = tf.cumsum(begins)
    totals = tf.math.unsorted_segment_sum(tf.gather(gradient.values, order), number, tf.size(rows))
    return tf.IndexedSlices(tf.gather(totals, number), rows, gradient.dense_shape)


class RowSparseAdagrad(RowSparse, tf.keras.optimizers.Adagrad):
    """Adagrad of a batch's rows.

    With the gradients g of the rows in the batch,

        sums ← sums + g²,  row ← row - η g / √(sums + ε)

    (Duchi et al., "Adaptive subgradient methods for online learning and stochastic optimization", JMLR 2011). As zeros
    would change nothing, this is the stock optimizer, weight decay apart.
    """

    def __init__(
        self,
        learning_rate: float | tf.keras.optimizers.schedules.LearningRateSchedule,
        initial_accumulator: float = 0.1,
        decay: float = 0.0,
        static_shapes: bool = False,
    ) -> None:
        """Takes the step size, where sums of squares start, and what `RowSparse` does."""
        super().__init__(learning_rate, initial_accumulator, decay=decay, static_shapes=static_shapes)

    def _step_of_rows(self, gradient: tf.Tensor, rows: tf.Tensor, slot: int) -> tuple[tf.Tensor, _Slots]:
        sums = self._accumulators[slot]
        new_sums = tf.gather(sums, rows) + tf.square(gradient)
        return self.learning_rate * gradient / tf.sqrt(new_sums + self.epsilon), [(sums, new_sums)]


class RowSparseAdam(RowSparse, tf.keras.optimizers.Adam):
    """Adam of a batch's rows.

    Every row of a table is an Adam of its own, which takes a step exactly when the row is in the batch: with a row's
    own count of steps t and its own gradients g,

        m ← β₁ m + (1 - β₁) g,  v ← β₂ v + (1 - β₂) g²,  row ← row - η √(1 - β₂ᵗ) / (1 - β₁ᵗ) · m / (√v + ε)

    (Kingma & Ba, "Adam", ICLR 2015, section 2, per row). Unlike in stock Adam, a row that is not in the batch does not
    move on from momentum alone; and unlike in variants that count steps globally, a row that is seen late starts with
    a step of η, not one of η √((1 - β₁)² / (1 - β₂)).

    Where moments fade by all steps, those of the whole training, as in stock Adam, a row that was last in the batch n
    of them ago (counted in float32: exactly up to 2²⁴) has

        m ← β₁ⁿ m + (1 - β₁) g,  w ← β₁ⁿ w + 1 - β₁,  v ← β₂ⁿ v + (1 - β₂) g²
        row ← row - η √(1 - β₂ᵀ) / w · m / (√v + ε)

    with the number T of all steps, and w in place of 1 - β₁ᵗ: m / w is a mean of the row's gradients in which the old
    ones hardly weigh. Steps are longer the rarer a row is, about as the root of its share of the batches falls, up to
    η / √(1 - β₂). For a row of every batch that is stock Adam, and with β₁ = 0 for any row.
    """

    def __init__(
        self,
        learning_rate: float | tf.keras.optimizers.schedules.LearningRateSchedule,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        decay: float = 0.0,
        static_shapes: bool = False,
        moments_fade_by_all_steps: bool = False,
    ) -> None:
        """Takes Adam's own options, what `RowSparse` does, and by which steps moments fade."""
        super().__init__(learning_rate, beta_1, beta_2, decay=decay, static_shapes=static_shapes)
        self._moments_fade_by_all_steps = moments_fade_by_all_steps

    def build(self, var_list: list[tf.Variable]) -> None:
        """Makes the moments, like the variables, and for each of their rows t, or w and its latest step."""
        super().build(var_list)
        if not hasattr(self, "_corrections"):
            self._corrections = self._numbers_of_rows("correction", var_list)
            self._latest_steps = self._numbers_of_rows("latest", var_list) if self._moments_fade_by_all_steps else []

    def _step_of_rows(self, gradient: tf.Tensor, rows: tf.Tensor, slot: int) -> tuple[tf.Tensor, _Slots]:
        m, v, corrections = self._momentums[slot], self._velocities[slot], self._corrections[slot]
        per_row = [-1] + [1] * (gradient.shape.rank - 1)
        if self._moments_fade_by_all_steps:
            now = tf.fill(tf.shape(rows), tf.cast(self.iterations + 1, tf.float32))
            ago = now - tf.gather(self._latest_steps[slot], rows)
            keep_m, keep_v = tf.pow(self.beta_1, ago), tf.pow(self.beta_2, ago)
            correction_m = keep_m * tf.gather(corrections, rows) + 1 - self.beta_1
            correction_v = 1 - tf.pow(self.beta_2, now)
            slots = [(corrections, correction_m), (self._latest_steps[slot], now)]
        else:
            steps = tf.gather(corrections, rows) + 1
            keep_m, keep_v = (tf.fill(tf.shape(rows), beta) for beta in (self.beta_1, self.beta_2))
            correction_m, correction_v = (1 - tf.pow(beta, steps) for beta in (self.beta_1, self.beta_2))
            slots = [(corrections, steps)]
        new_m = tf.reshape(keep_m, per_row) * tf.gather(m, rows) + (1 - self.beta_1) * gradient
        new_v = tf.reshape(keep_v, per_row) * tf.gather(v, rows) + (1 - self.beta_2) * tf.square(gradient)
        rate = tf.reshape(self.learning_rate * tf.sqrt(correction_v) / correction_m, per_row)
        return rate * new_m / (tf.sqrt(new_v) + self.epsilon), [(m, new_m), (v, new_v), *slots]

    def _numbers_of_rows(self, name: str, variables: list[tf.Variable]) -> list[tf.Variable]:
        return [self.add_variable_from_reference(variable, name, shape=variable.shape[:1]) for variable in variables]


def make_optimizer(
    config: OptimizerConfig, num_steps: int, static_shapes: bool = False
) -> RowSparseAdagrad | RowSparseAdam:
    """Makes the configured optimizer.

    Args:
      config: which one, and its options.
      num_steps: of the whole training; a decaying learning rate ends with them.
      static_shapes: as `RowSparse` has it.
    """
    chosen = config.chosen
    rate = _learning_rate(chosen.learning_rate, config.schedule, num_steps)
    if isinstance(chosen, AdagradConfig):
        return RowSparseAdagrad(rate, chosen.initial_accumulator, chosen.weight_decay, static_shapes)
    by_all_steps = chosen.moments_fade_by == "all_steps"
    return RowSparseAdam(rate, chosen.beta_1, chosen.beta_2, chosen.weight_decay, static_shapes, by_all_steps)


def _learning_rate(
    peak: float, schedule: ScheduleConfig, num_steps: int
) -> float | tf.keras.optimizers.schedules.LearningRateSchedule:
    if schedule.decay == "none" and not schedule.warmup_steps:
        return peak
    return WarmupThenDecay(peak, schedule.warmup_steps, schedule.decay, num_steps)


class WarmupThenDecay(tf.keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that grows linearly to its peak, and then falls to 0 along half a cosine, or stays.

    At step s = 0, 1, … of `num_steps`, with `warmup_steps` = w: peak · (s + 1) / (w + 1) while s < w; then
    peak · (1 + cos π (s - w) / (num_steps - w)) / 2 (Loshchilov & Hutter, "SGDR", ICLR 2017, equation 5), or the peak.
    """

    def __init__(self, peak: float, warmup_steps: int, decay: str, num_steps: int) -> None:
        """Takes the highest rate, the steps before it, `cosine` or `none`, and the steps of the whole training."""
        self._peak = peak
        self._warmup_steps = warmup_steps
        self._decay = decay
        self._num_steps = num_steps

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Returns the rate at `step`, a scalar float32."""
        step = tf.cast(step, tf.float32)
        growing = (step + 1) / (self._warmup_steps + 1)
        return self._peak * tf.where(step < self._warmup_steps, growing, self._after_warmup(step))

    def get_config(self) -> dict[str, float | int | str]:
        """Returns the arguments."""
        return {
            "peak": self._peak,
            "warmup_steps": self._warmup_steps,
            "decay": self._decay,
            "num_steps": self._num_steps,
        }

    def _after_warmup(self, step: tf.Tensor) -> tf.Tensor:
        if self._decay == "none":
            return tf.ones_like(step)
        done = (step - self._warmup_steps) / max(1, self._num_steps - self._warmup_steps)
        return (1 + tf.cos(3.141592653589793 * tf.clip_by_value(done, 0, 1))) / 2
