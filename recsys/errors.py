"""Every error that a user can mend.

Each message is one line: what was expected, what was received, what to do. The command line prints it and exits
with code 2; a library caller catches `RecsysError` or the subclass of the part that failed.
"""


class RecsysError(Exception):
    """The base of all errors below."""


class ConfigError(RecsysError):
    """A configuration file or an override is wrong; all wrong fields are named together."""


class SourceError(RecsysError):
    """Raw input is missing, unreadable, empty or lacks a column."""


class DatasetError(RecsysError):
    """A DATASET directory is missing, damaged or of another format version."""


class RunError(RecsysError):
    """A RUN directory is missing, unfinished or belongs to another dataset."""


class TrainingError(RecsysError):
    """Training went astray: the loss, or a score, is no finite number."""


class BundleError(RecsysError):
    """A bundle is missing, damaged or was made by other versions."""


class IndexQualityError(RecsysError):
    """An index misses its recall target and is therefore not published."""


class RequestError(RecsysError):
    """A request cannot be answered as asked, for example with `k` beyond the catalogue."""


class OutputError(RecsysError):
    """An output directory cannot be written."""


class OutputExistsError(OutputError):
    """An output directory is already there and would be overwritten."""
