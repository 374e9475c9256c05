"""The report on installed packages."""

from importlib.metadata import version

import pytest

from recsys.doctor import examine

FITTING = {
    "tensorflow": "2.20.1",
    "scann": "1.4.2",
    "tf-keras": "2.20.0",
    "tensorflow-recommenders": "0.7.7",
    "protobuf": "6.31.1",
    "numpy": "2.1.0",
    "pandas": "2.2.3",
    "pydantic": "2.10.0",
    "pyarrow": "18.0.0",
    "tensorflow-datasets": "4.9.9",
    "importlib-resources": "6.5.2",
    "typer": "0.15.0",
}
SETUP = "run `make setup`, or pip install --no-deps --require-hashes -r requirements.lock"


def complaints(changed: dict[str, str | None]) -> dict[str, str]:
    return {finding.subject: finding.text for finding in examine((FITTING | changed).get) if not finding.ok}


def test_this_installation_is_fine() -> None:
    findings = {finding.subject: finding for finding in examine()}
    assert all(finding.ok for finding in findings.values())
    assert {name: findings[name].text for name in FITTING} == {name: version(name) for name in FITTING}


def test_packages_that_fit_are_named_with_their_versions() -> None:
    findings = examine(FITTING.get)
    assert findings[0].subject == "python"
    assert {finding.subject: finding.text for finding in findings[1:]} == FITTING


@pytest.mark.parametrize(
    ("package", "found", "complaint"),
    [
        (
            "tensorflow",
            "2.19.1",
            "2.19.1: expected ~=2.20.0, because scann 1.4.2's operations are compiled for TensorFlow 2.20; ",
        ),
        ("scann", "1.4.1", "1.4.1: expected ==1.4.2, because its operations are compiled for TensorFlow 2.20; "),
        (
            "tf-keras",
            None,
            "absent: expected ~=2.20.0, because tensorflow-recommenders 0.7.7 needs Keras 2 of tensorflow's release; ",
        ),
        (
            "protobuf",
            "7.0.0",
            "7.0.0: expected >=5.28,<7, because TensorFlow 2.20's generated code is refused by others; ",
        ),
        (
            "importlib-resources",
            None,
            "absent: expected any version, because tensorflow-datasets imports it without asking for it; ",
        ),
    ],
)
def test_a_package_that_does_not_fit_is_named(package: str, found: str | None, complaint: str) -> None:
    assert complaints({package: found}) == {package: complaint + SETUP}


def test_every_package_that_does_not_fit_is_named() -> None:
    assert set(complaints(dict.fromkeys(FITTING))) == set(FITTING)


@pytest.mark.parametrize(("package", "found"), [("scann", "1.4.20"), ("tensorflow", "2.200.0"), ("numpy", "20.0")])
def test_a_version_that_only_begins_alike_does_not_fit(package: str, found: str) -> None:
    assert set(complaints({package: found})) == {package}
