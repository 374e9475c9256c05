import subprocess
import sys

import pytest

from data_prep.beam import require_beam
from recsys.errors import ConfigError


def test_without_the_extra_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(ConfigError) as raised:
        require_beam()
    assert str(raised.value) == (
        "--engine beam needs Apache Beam (import of apache_beam halted; None in sys.modules): "
        "pip install 'recsys[beam]'"
    )


def test_beam_is_imported_without_remarks_and_leaves_logging_alone() -> None:
    code = "from data_prep.beam import require_beam; require_beam(); import logging; print(logging.root.handlers)"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")
