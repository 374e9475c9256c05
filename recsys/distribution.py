"""`tf.distribute` strategies from configuration, and what replicas share."""

import functools

import tensorflow as tf

from recsys.config import RuntimeConfig
from recsys.errors import ConfigError


def make_strategy(config: RuntimeConfig) -> tf.distribute.Strategy:
    """Makes the strategy that a runtime file names.

    Raises:
      ConfigError: the CPU cannot be divided any more, because TensorFlow has already been used in this process.
    """
    if config.strategy == "one_device":
        # Unlike the default strategy this one has the next batch on the GPU before it is asked for.
        has_gpu = tf.config.list_physical_devices("GPU")
        return tf.distribute.OneDeviceStrategy("GPU:0") if has_gpu else tf.distribute.get_strategy()
    # Asking for logical devices would set up the CPU as one.
    if config.logical_cpus == 1 and tf.config.list_physical_devices("GPU"):
        return _mirrored(tuple(device.name for device in tf.config.list_logical_devices("GPU")))
    return _mirrored(_logical_cpus(config.logical_cpus))


@functools.cache
def _mirrored(devices: tuple[str, ...]) -> tf.distribute.Strategy:
    """One strategy per process: each numbers its collectives from the start, and two would mix up their tensors."""
    return tf.distribute.MirroredStrategy(devices)


def _logical_cpus(number: int) -> tuple[str, ...]:
    cpu = tf.config.list_physical_devices("CPU")[0]
    if len(tf.config.get_logical_device_configuration(cpu) or [None]) != number:
        try:
            tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * number)
        except RuntimeError as error:
            raise ConfigError(
                f"logical_cpus = {number}: the CPU was already set up as "
                f"{len(tf.config.list_logical_devices('CPU'))} devices in this process; start a new one"
            ) from error
    return tuple(f"CPU:{index}" for index in range(number))


def device_names(strategy: tf.distribute.Strategy) -> tuple[str, ...]:
    """Names the devices that a strategy trains on, one per replica."""
    if isinstance(strategy, tf.distribute.MirroredStrategy):
        return tuple(strategy.extended.worker_devices)
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return (devices[0].name,)


def gather_across_replicas(value: tf.Tensor) -> tf.Tensor:
    """Joins each replica's [batch, …] tensor along axis 0 into [replicas · batch, …], in the order of replicas.

    Differentiable: the gradient of a replica's part is the sum of what all replicas send back to it. Outside of a
    replica, and with one replica, the value itself.
    """
    if num_replicas() == 1:
        return value
    return tf.distribute.get_replica_context().all_gather(value, axis=0)


def num_replicas() -> int:
    """How many replicas share a step; 1 outside of a replica."""
    context = tf.distribute.get_replica_context()
    return 1 if context is None else int(context.num_replicas_in_sync)


def sum_across_replicas(value: tf.Tensor) -> tf.Tensor:
    """Returns the sum of a tensor over replicas."""
    if num_replicas() == 1:
        return value
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, value)


def first_global_row(batch_size: tf.Tensor) -> tf.Tensor:
    """Returns where this replica's `batch_size` rows begin in what `gather_across_replicas` returns; int32."""
    if num_replicas() == 1:
        return tf.zeros_like(batch_size)
    context = tf.distribute.get_replica_context()
    sizes = context.all_gather(batch_size[tf.newaxis], axis=0)
    return tf.reduce_sum(sizes[: context.replica_id_in_sync_group])
