"""Optimizers whose cost per step depends on the rows of a batch, never on the length of a table."""

import tensorflow as tf

from recsys.config import AdagradConfig, OptimizerConfig, ScheduleConfig


class RowSparseAdam(tf.keras.optimizers.Adam):
    """Adam that, where a gradient is sparse, touches only the rows that have one.

    Every row of a table is an Adam of its own, which takes a step exactly when the row is in the batch: with a row's
    own count of steps t and its own gradients g,

        m ← β₁ m + (1 - β₁) g,  v ← β₂ v + (1 - β₂) g²,  row ← row - η √(1 - β₂ᵗ) / (1 - β₁ᵗ) · m / (√v + ε)

    (Kingma & Ba, "Adam", ICLR 2015, section 2, per row). A row that is not in the batch keeps its weights and its
    moments: unlike stock Adam, it does not move on from momentum alone, and unlike variants that count steps globally,
    a row that is seen late starts with a step of η, not one of η √((1 - β₁)² / (1 - β₂)). Several gradients of one row
    in a batch, from several replicas too, are added up to one first. Dense gradients take the stock step.

    Weight decay is decoupled (Loshchilov & Hutter, "Decoupled weight decay regularization", ICLR 2019): a weight loses
    the share η · `decay` of itself at each of its steps, which for a row of a table are the steps of that row. A scalar
    loses nothing: a learned temperature is not to tend to 1.
    """

    def __init__(
        self,
        learning_rate: float | tf.keras.optimizers.schedules.LearningRateSchedule,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        decay: float = 0.0,
    ) -> None:
        """Takes Adam's own options, and the rate of the decoupled weight decay."""
        super().__init__(learning_rate, beta_1, beta_2)
        self._decay = decay

    def build(self, var_list: list[tf.Variable]) -> None:
        """Makes the moments, like the variables, and a step count for each of their rows."""
        super().build(var_list)
        if not hasattr(self, "_row_steps"):
            self._row_steps = [
                self.add_variable_from_reference(variable, "steps", shape=variable.shape[:1]) for variable in var_list
            ]

    def update_step(self, gradient: tf.Tensor | tf.IndexedSlices, variable: tf.Variable) -> None:
        """Updates one variable; the rows of a sparse gradient are distinct."""
        if isinstance(gradient, tf.IndexedSlices):
            self._update_rows(gradient.values, gradient.indices, variable)
            return
        if self._decay and variable.shape.rank:
            variable.assign_sub(self._lost(variable))
        super().update_step(gradient, variable)

    def _update_rows(self, gradient: tf.Tensor, rows: tf.Tensor, variable: tf.Variable) -> None:
        slot = self._index_dict[self._var_key(variable)]
        m, v = self._momentums[slot], self._velocities[slot]
        new_m = self.beta_1 * tf.gather(m, rows) + (1 - self.beta_1) * gradient
        new_v = self.beta_2 * tf.gather(v, rows) + (1 - self.beta_2) * tf.square(gradient)
        steps = tf.gather(self._row_steps[slot], rows) + 1
        correction = tf.sqrt(1 - tf.pow(self.beta_2, steps)) / (1 - tf.pow(self.beta_1, steps))
        rate = tf.reshape(self.learning_rate * correction, [-1] + [1] * (gradient.shape.rank - 1))
        step = rate * new_m / (tf.sqrt(new_v) + self.epsilon)
        if self._decay:
            step += self._lost(tf.gather(variable, rows))
        for target, values in ((m, new_m), (v, new_v), (self._row_steps[slot], steps)):
            target.scatter_update(tf.IndexedSlices(values, rows))
        variable.scatter_sub(tf.IndexedSlices(step, rows))

    def _lost(self, weights: tf.Tensor) -> tf.Tensor:
        return self.learning_rate * self._decay * weights


def make_optimizer(config: OptimizerConfig, num_steps: int) -> tf.keras.optimizers.Optimizer:
    """Makes the configured optimizer.

    Keras's Adagrad is row-sparse as it stands: it adds to the accumulators of a batch's rows only.

    Args:
      config: which one, and its options.
      num_steps: of the whole training; a decaying learning rate ends with them.
    """
    chosen = config.chosen
    rate = _learning_rate(chosen.learning_rate, config.schedule, num_steps)
    if isinstance(chosen, AdagradConfig):
        return tf.keras.optimizers.Adagrad(rate, initial_accumulator_value=chosen.initial_accumulator)
    return RowSparseAdam(rate, chosen.beta_1, chosen.beta_2, chosen.weight_decay)


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
