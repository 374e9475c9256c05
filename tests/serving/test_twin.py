"""The twin of a bundle: exact search for servers that know no op but TensorFlow's own."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from oracle import Oracle

from recsys.run import Run
from serving.bundle import next_version, open_bundle

K = 25
# Whoever imports it learns that it is not there.
NO_SCANN = "raise ModuleNotFoundError('no scann in this process', name='scann')\n"


def test_tensorflow_s_own_tool_runs_it_without_scann_and_gets_what_brute_force_gives(
    tiny_models: Path, tiny_run: Run, tmp_path: Path
) -> None:
    oracle = Oracle(tiny_run)
    users = ["somebody new", *oracle.users[:20]]
    history = [oracle.items[3:6], *[["", "", ""]] * 20]
    exclude = [oracle.items[40:42], *[["", oracle.items[7]]] * 20]
    texts = {"user_id": users, "history": history, "exclude": exclude}
    np.savez(tmp_path / "asked.npz", k=np.int32(K), **{name: np.array(rows) for name, rows in texts.items()})
    (tmp_path / "scann.py").write_text(NO_SCANN, encoding="utf-8")
    command = [
        *(str(Path(sys.executable).with_name("saved_model_cli")), "run", "--tag_set", "serve"),
        *("--dir", str(tiny_models / "tiny" / "exact" / "1"), "--signature_def", "recommend"),
        *("--inputs", ";".join(f"{name}={tmp_path / 'asked.npz'}[{name}]" for name in [*texts, "k"])),
        *("--outdir", str(tmp_path / "answers")),
    ]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    outcome = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path)
    assert outcome.returncode == 0, outcome.stderr
    answer = {name: np.load(tmp_path / "answers" / f"{name}.npy", allow_pickle=True) for name in ("item_ids", "scores")}
    for i, user in enumerate(users):
        given = [item for item in history[i] if item]
        barred = {*oracle.taken.get(user, []), *given, *exclude[i]}
        oracle.assert_best(answer["item_ids"][i], answer["scores"][i], oracle.embed(user, given), barred)


def test_the_bundle_itself_is_refused_by_that_tool(tiny_models: Path, tmp_path: Path) -> None:
    """Else the test above would show nothing."""
    (tmp_path / "scann.py").write_text(NO_SCANN, encoding="utf-8")
    command = [str(Path(sys.executable).with_name("saved_model_cli")), "run", "--tag_set", "serve"]
    command += ["--dir", str(tiny_models / "tiny" / "1"), "--signature_def", "serving_default"]
    command += ["--input_exprs", "user_id=['u1']"]
    outcome = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": str(tmp_path)}
    )
    assert outcome.returncode != 0
    assert "Scann" in outcome.stderr


def test_it_has_the_signatures_of_the_bundle_and_a_record_of_its_own(tiny_models: Path) -> None:
    bundle, twin = open_bundle(tiny_models / "tiny"), open_bundle(tiny_models / "tiny" / "exact")
    described = [
        {
            name: (signature.structured_input_signature, signature.structured_outputs)
            for name, signature in one.model.signatures.items()
        }
        for one in (bundle, twin)
    ]
    assert described[0].keys() == described[1].keys()
    for name, (inputs, outputs) in described[0].items():
        assert inputs == described[1][name][0]
        assert outputs.keys() == described[1][name][1].keys()
    assert (bundle.record.versions.keys(), twin.record.versions.keys()) == ({"tensorflow", "scann"}, {"tensorflow"})
    assert (twin.record.name, twin.record.version, twin.record.kind) == ("tiny", 1, "twin")
    assert twin.record.dataset_sha256 == bundle.record.dataset_sha256
    assert (twin.record.index_recall, twin.record.index_curve) == (1, [])


@pytest.mark.parametrize(("bundles", "twins", "following"), [([], [], 1), ([1, 2], [1], 3), ([9], [10], 11)])
def test_no_number_is_used_again(tmp_path: Path, bundles: list[int], twins: list[int], following: int) -> None:
    for folder, numbers in ((tmp_path, bundles), (tmp_path / "exact", twins)):
        for number in numbers:
            (folder / str(number)).mkdir(parents=True)
    assert next_version(tmp_path) == following
