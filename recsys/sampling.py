"""Items drawn from the catalogue."""

import tensorflow as tf


class UniformItems(tf.keras.__internal__.layers.BaseRandomLayer):
    """Draws items, each as likely as any other, with replacement; each replica draws its own."""

    def __init__(self, number: int, num_items: int) -> None:
        """Takes how many to draw, and the size of the catalogue."""
        super().__init__(name="uniform_items")
        self._number = number
        self._num_items = num_items
        self.build(())

    def draw(self) -> tf.Tensor:
        """Returns item rows, [number] int32."""
        return self._random_generator.random_uniform((self._number,), 0, self._num_items, dtype=tf.int32)
