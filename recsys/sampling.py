"""Items drawn from the catalogue, for all queries or for one."""

import numpy as np
import numpy.typing as npt
import tensorflow as tf

NO_ITEM = -1


class ItemSampler(tf.keras.__internal__.layers.BaseRandomLayer):
    """Draws items with replacement; each replica draws its own.

    Attributes:
      number: how many are drawn at once.
    """

    def __init__(self, number: int, name: str) -> None:
        """Takes how many to draw."""
        super().__init__(name=name)
        self.number = number
        self.build(())

    def draw(self) -> tf.Tensor:
        """Returns item rows, [number] int32."""
        raise NotImplementedError

    def expected(self, item_row: tf.Tensor) -> tf.Tensor:
        """Returns how many times each item is drawn in the mean, [batch] float32 for [batch] int32 rows."""
        raise NotImplementedError


class UniformItems(ItemSampler):
    """Each item is as likely as any other."""

    def __init__(self, number: int, num_items: int) -> None:
        """Takes how many to draw, and the size of the catalogue."""
        super().__init__(number, "uniform_items")
        self._num_items = num_items

    def draw(self) -> tf.Tensor:
        """Returns item rows, [number] int32."""
        return self._random_generator.random_uniform((self.number,), 0, self._num_items, dtype=tf.int32)

    def expected(self, item_row: tf.Tensor) -> tf.Tensor:
        """Returns how many times each item is drawn in the mean, [batch] float32."""
        return tf.fill(tf.shape(item_row), self.number / self._num_items)


class PopularItems(ItemSampler):
    """Each item is as likely as a power of how often it is a target makes it. Each draw is a binary search."""

    def __init__(self, number: int, train_counts: npt.NDArray[np.int64], power: float) -> None:
        """Takes how many to draw, how often each item is a target, [num_items], and the power, above 0."""
        super().__init__(number, "popular_items")
        upper_ends = np.cumsum(train_counts.astype(np.float64) ** power)
        probability = np.diff(upper_ends, prepend=0) / upper_ends[-1]
        self._expected = tf.constant(number * probability, tf.float32)
        self._upper_ends = tf.constant(upper_ends / upper_ends[-1], tf.float64)

    def draw(self) -> tf.Tensor:
        """Returns item rows, [number] int32."""
        points = self._random_generator.random_uniform((self.number,), dtype=tf.float64)
        return tf.searchsorted(self._upper_ends, points, side="right")

    def expected(self, item_row: tf.Tensor) -> tf.Tensor:
        """Returns how many times each item is drawn in the mean, [batch] float32."""
        return tf.gather(self._expected, item_row)


class HardItems(tf.keras.__internal__.layers.BaseRandomLayer):
    """Draws from each user's hardest items, with replacement; each replica draws its own.

    Every replica holds a table of [num_users, depth] int32 item rows, in which nothing is until it is filled.

    Attributes:
      number: how many are drawn for a query.
      depth: how many a user has.
    """

    def __init__(self, number: int, depth: int, num_users: int) -> None:
        """Takes how many to draw for a query, from how many, and the number of users."""
        super().__init__(name="hard_items")
        self.number = number
        self.depth = depth
        start = tf.keras.initializers.Constant(NO_ITEM)
        self._table = self.add_weight("table", (num_users, depth), tf.int32, start, trainable=False)
        self.build(())

    def fill(self, user_row: npt.NDArray[np.int32], item_row: npt.NDArray[np.int32]) -> None:
        """Replaces the hardest items of all users.

        Args:
          user_row: [num_queries] int32 distinct users; others get no item.
          item_row: [num_queries, depth] int32; -1 is no item.
        """
        table = np.full(self._table.shape, NO_ITEM, np.int32)
        table[user_row] = item_row
        self._table.assign(table)

    def draw(self, user_row: tf.Tensor) -> tf.Tensor:
        """Returns [batch, number] int32 item rows, -1 where there is none, for [batch] int32 user rows."""
        place = self._random_generator.random_uniform(
            (tf.shape(user_row)[0], self.number), 0, self.depth, dtype=tf.int32
        )
        # Of whole rows, as XLA gathers nothing else from a variable.
        return tf.gather(tf.gather(self._table, user_row), place, batch_dims=1)
