"""Beam's options, and the runner that they choose."""

import logging
import os
import shlex
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import apache_beam as beam
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions
from apache_beam.portability.api import beam_provision_api_pb2
from apache_beam.runners.portability.fn_api_runner.fn_runner import ExtendedProvisionInfo, FnApiRunner
from apache_beam.runners.portability.portable_runner import JobServiceHandle
from apache_beam.transforms.environments import SubprocessSDKEnvironment

from recsys.errors import ConfigError

_LOCAL_RUNNERS = (None, "DirectRunner", "FnApiRunner")


def parse_options(arguments: Sequence[str]) -> PipelineOptions:
    """Reads Beam's options from a command line.

    A cluster's runner may know more options than Beam; on this machine an unknown one is a mistake, which Beam itself
    would pass over.

    Raises:
      ConfigError: an option is unknown, or its value is wrong.
    """
    try:
        options = PipelineOptions(list(arguments))
        unknown = set(options.get_all_options(retain_unknown_options=True)) - set(options.get_all_options())
    except SystemExit as error:
        raise ConfigError(f"Beam cannot read its options {' '.join(arguments)}: the line above says why") from error
    if unknown and is_local(options):
        raise ConfigError(f"Beam has no option --{', --'.join(sorted(unknown))}: correct or remove it")
    return options


def is_local(options: PipelineOptions) -> bool:
    """Whether pipelines run on this machine, in this process or in several."""
    return options.view_as(StandardOptions).runner in _LOCAL_RUNNERS


@contextmanager
def open_pipeline(arguments: Sequence[str]) -> Iterator[beam.Pipeline]:
    """A pipeline, which runs at the end of the block. Beam's remarks do not reach the terminal.

    Whoever sets a level for the logger `apache_beam` reads them.

    Args:
      arguments: Beam's options, as on a command line.
    """
    options = parse_options(arguments)
    runner = _local_runner(options) if is_local(options) else None
    with _quiet(), beam.Pipeline(runner=runner, options=options) as pipeline:
        yield pipeline


def _local_runner(options: PipelineOptions) -> FnApiRunner:
    """The runner that `DirectRunner` stands for, once it has tried to download another one.

    Worker processes are started by a program of ours, because Beam's own writes remarks to the terminal. The runner
    would replace it, did the options still name `multi_processing`.
    """
    encoded = JobServiceHandle.encode_pipeline_options(options.get_all_options())
    provision = ExtendedProvisionInfo(beam_provision_api_pb2.ProvisionInfo(pipeline_options=encoded))
    direct = options.view_as(DirectOptions)
    environment = None
    if direct.direct_running_mode == "multi_processing":
        direct.direct_running_mode = "in_memory"
        command = f"exec {shlex.quote(sys.executable)} -m data_prep.beam.worker {os.getpid()}"
        environment = SubprocessSDKEnvironment.from_command_string(command)
    return FnApiRunner(default_environment=environment, provision_info=provision)


@contextmanager
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("apache_beam")
    level = logger.level
    if level == logging.NOTSET:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"apache_beam\.")
            yield
    finally:
        logger.setLevel(level)
