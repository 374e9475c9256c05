"""ScaNN's operations for TensorFlow, with the vector instructions that the processor has.

The wheel of ScaNN 1.4.2 carries kernels for AVX2, but its test of the processor's features was left out when it was
compiled and always says no, so that searches run without them and take about a fifth longer. Here Linux is asked
instead, and the library's switch set. Answers are the same but for the rounding of float32 sums.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scann.scann_ops.py import scann_ops
from scann.scann_ops.py.scann_builder import ReorderType

__all__ = ["ReorderType", "as_without_this_module", "scann_ops"]

_CPU_INFO = Path("/proc/cpuinfo")
_LIBRARY = Path(scann_ops.__file__).parents[1] / "cc" / "_scann_ops.so"
# A variable of type bool: research_scann::flags_internal::should_use_avx2.
_SWITCH = "_ZN14research_scann14flags_internal15should_use_avx2E"


def _has_avx2() -> bool:
    """Whether this is a Linux with AVX2 and FMA, which ScaNN's kernels use together."""
    if not _CPU_INFO.is_file():
        return False
    lines = _CPU_INFO.read_text(encoding="utf-8").splitlines()
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    return {"avx2", "fma"} <= set(flags)


def _find_switch() -> ctypes.c_bool:
    try:
        return ctypes.c_bool.in_dll(ctypes.CDLL(str(_LIBRARY)), _SWITCH)
    except (OSError, ValueError):  # another build, which has to know by itself
        return ctypes.c_bool()


@contextmanager
def as_without_this_module() -> Iterator[None]:
    """Searches of this process are for a while those of one that has not imported this module."""
    used = _switch.value
    _switch.value = _found
    try:
        yield
    finally:
        _switch.value = used


_switch = _find_switch()
_found = _switch.value
_switch.value = _found or _has_avx2()
