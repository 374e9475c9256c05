"""Asks what was written in a process of its own, as a client would, before anybody else does."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recsys.errors import BundleError
from serving import answer_check
from serving.every_signature import Inputs
from serving.recommender import Signatures
from serving.scann_library import as_without_this_module

_ROUNDING = 1e-4

Answers = dict[str, npt.NDArray[Any]]


def check(written: list[tuple[Signatures, Path]], requests: dict[str, Inputs]) -> None:
    """Compares what SavedModels answer in a process that imports only TensorFlow, and later ScaNN, with the originals.

    Args:
      written: the functions that were saved, and where; the first ones are asked before ScaNN is imported.
      requests: the inputs to ask with, by signature.

    Raises:
      BundleError: one does not answer, or answers otherwise.
    """
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "requests.npz"
        flat: dict[str, Any] = {
            f"{name}/{key}": value for name, inputs in requests.items() for key, value in inputs.items()
        }
        np.savez(file, **flat)
        # -P keeps this package's folder, whose modules are named after protocols, off the module search path.
        command = [sys.executable, "-P", answer_check.__file__, str(file), scratch, *(str(p) for _, p in written)]
        # This process may hold all of the accelerator's memory.
        environment = os.environ | {"CUDA_VISIBLE_DEVICES": "-1"}
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as process:
            with as_without_this_module():
                in_memory = [answer_check.answers(signatures, flat) for signatures, _ in written]
            _, stderr = process.communicate()
        if process.returncode:
            last_words = [f"exit code {process.returncode}", *stderr.strip().splitlines()][-1]
            raise BundleError(f"the exported model does not answer in a fresh process: {last_words}")
        for number, expected in enumerate(in_memory):
            found = dict(np.load(Path(scratch) / f"answers-{number}.npz"))
            differing = [name for name in requests if not same_answers(_of(name, expected), _of(name, found))]
            if differing:
                raise BundleError(
                    f"the exported model answers {', '.join(differing)} otherwise than the model in memory; "
                    "it is not published"
                )


def _of(signature: str, answers: Answers) -> Answers:
    return {name.partition("/")[2]: values for name, values in answers.items() if name.startswith(f"{signature}/")}


def same_answers(one: Answers, other: Answers) -> bool:
    """Whether two answers of a signature agree: numbers up to rounding, and items but where scores are that close.

    Args:
      one: outputs by name; `item_ids` and `scores`, where there are any, [batch, k].
      other: likewise.
    """
    for name in one.keys() - {"item_ids"}:
        if one[name].dtype.kind != "f":
            if not np.array_equal(one[name], other[name]):
                return False
        elif not np.allclose(one[name], other[name], rtol=_ROUNDING, atol=_ROUNDING):
            return False
    return "item_ids" not in one or _same_items(one, other)


def _same_items(one: Answers, other: Answers) -> bool:
    """Whether items differ only where scores, which are known to agree, are so close that they may."""
    columns = (one["item_ids"], one["scores"], other["item_ids"], other["scores"])
    for ids, scores, other_ids, other_scores in zip(*columns, strict=True):
        score_of = dict(zip(ids, scores, strict=True))
        for item, score in zip(other_ids, other_scores, strict=True):
            # An item that is not among the first k may only tie with the last of them.
            if not np.isclose(score_of.get(item, scores[-1]), score, rtol=_ROUNDING, atol=_ROUNDING):
                return False
    return True
