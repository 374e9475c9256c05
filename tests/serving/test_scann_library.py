"""ScaNN runs with the processor's vector instructions."""

import ctypes
from pathlib import Path

import numpy as np
import pytest
import scann
import tensorflow as tf

from serving import scann_library
from serving.index import ExactIndex, ScannIndex

LIBRARY = Path(scann.__file__).parent / "scann_ops" / "cc" / "_scann_ops.so"


def switch() -> ctypes.c_bool:
    return ctypes.c_bool.in_dll(ctypes.CDLL(str(LIBRARY)), "_ZN14research_scann14flags_internal15should_use_avx2E")


def test_avx2_is_used_where_numpy_finds_it() -> None:
    features = np._core._multiarray_umath.__cpu_features__
    if not (features["AVX2"] and features["FMA3"]):
        pytest.skip("the processor has no AVX2")
    assert switch().value is True


def test_without_avx2_the_library_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for content, expected in (
        ("processor\t: 0\nflags\t\t: fpu sse4_2 avx2 fma\n", True),
        ("processor\t: 0\nflags\t\t: fpu sse4_2 avx\n", False),
        ("Features\t: fp asimd\n", False),
    ):
        (tmp_path / "cpuinfo").write_text(content, encoding="utf-8")
        monkeypatch.setattr(scann_library, "_CPU_INFO", tmp_path / "cpuinfo")
        assert scann_library._has_avx2() is expected
    monkeypatch.setattr(scann_library, "_CPU_INFO", tmp_path / "none")
    assert scann_library._has_avx2() is False


def test_answers_are_the_same_with_and_without_avx2(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all leaves: which are nearest, float sums decide. Products of small integers have no rounding."""
    rng = np.random.default_rng(0)
    candidates = rng.integers(-30, 31, (3000, 32)).astype(np.float32)
    queries = tf.constant(rng.integers(-30, 31, (64, 32)), tf.float32)
    index = ScannIndex(ExactIndex(candidates), 55)
    used = switch()
    with_it, before = [answer.numpy() for answer in index.search(queries, 20, 55, 3)], used.value
    try:
        used.value = not before
        without = [answer.numpy() for answer in index.search(queries, 20, 55, 3)]
    finally:
        used.value = before
    for one, other in zip(with_it, without, strict=True):
        np.testing.assert_array_equal(one, other)


def test_for_a_while_it_searches_as_where_this_module_is_not_imported() -> None:
    used = switch().value
    with scann_library.as_without_this_module():
        assert switch().value is False
    assert switch().value is used
