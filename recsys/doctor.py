"""`recsys doctor`: do the installed packages fit together? Imports none of those it examines."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from packaging.specifiers import SpecifierSet

_SETUP = "run `make setup`, or pip install --no-deps --require-hashes -r requirements.lock"


@dataclass(frozen=True)
class Requirement:
    """What a package must be, and why.

    Attributes:
      package: its name in the package index.
      expected: a version specifier; empty accepts any.
      reason: what goes wrong otherwise.
    """

    package: str
    expected: str
    reason: str


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
      subject: what was looked at.
      ok: whether it fits.
      text: what was found; for what does not fit also what was expected and what to do.
    """

    subject: str
    ok: bool
    text: str


REQUIREMENTS = (
    Requirement("tensorflow", "~=2.20.0", "scann 1.4.2's operations are compiled for TensorFlow 2.20"),
    Requirement("scann", "==1.4.2", "its operations are compiled for TensorFlow 2.20"),
    Requirement("tf-keras", "~=2.20.0", "tensorflow-recommenders 0.7.7 needs Keras 2 of tensorflow's release"),
    Requirement("tensorflow-recommenders", "==0.7.7", "the losses build on this release"),
    Requirement("protobuf", ">=5.28,<7", "TensorFlow 2.20's generated code is refused by others"),
    Requirement("numpy", ">=2,<3", "scann 1.4.2 is compiled for NumPy 2"),
    Requirement("pandas", ">=2.2,<3", "data preparation relies on its string type"),
    Requirement("pydantic", ">=2.10,<3", "schemas and configurations are written for it"),
    Requirement("pyarrow", "", "datasets are Parquet and TFRecord files"),
    Requirement("tensorflow-datasets", "", "tfds: sources are read with it"),
    Requirement("importlib-resources", "", "tensorflow-datasets imports it without asking for it"),
    Requirement("typer", "", "the command line is made of it"),
)


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def examine(installed: Callable[[str], str | None] = _installed) -> list[Finding]:
    """Compares Python and each package with what this release needs.

    Args:
      installed: gives a package's version; None when it is absent.
    """
    findings = [_examine_python(sys.version_info[:2])]
    for requirement in REQUIREMENTS:
        found = installed(requirement.package)
        fits = found is not None and SpecifierSet(requirement.expected).contains(found)
        findings.append(Finding(requirement.package, fits, f"{found}" if fits else _advice(requirement, found)))
    return findings


def _advice(requirement: Requirement, found: str | None) -> str:
    expected = requirement.expected or "any version"
    return f"{found or 'absent'}: expected {expected}, because {requirement.reason}; {_SETUP}"


def _examine_python(running: tuple[int, ...]) -> Finding:
    text = ".".join(map(str, running))
    if running in ((3, 11), (3, 12)):
        return Finding("python", True, text)
    return Finding("python", False, f"{text}: expected 3.11 or 3.12, which this release is tested with; {_SETUP}")
