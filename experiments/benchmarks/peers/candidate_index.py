"""What `recsys bench index` asks of another library's index."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import cpu_count

import numpy as np
import numpy.typing as npt

THREADS = cpu_count()  # as many as ScaNN and TensorFlow take

# Values of an index's knobs, by name.
Setting = Mapping[str, float]


@dataclass(frozen=True)
class CandidateIndex:
    """An index that is built, and how it is tuned.

    Attributes:
      name: the library, its version and how the index was built.
      num_bytes: what it holds, the candidates included.
      search: queries [batch, embedding_dim] float32, k and a setting → rows [batch, k], best first.
      reorderings: settings that find the less, the later they come.
      widths: settings that find the more, the later they come; one of each kind makes a setting.
    """

    name: str
    num_bytes: int
    search: Callable[[npt.NDArray[np.float32], int, Setting], npt.NDArray[np.int64]]
    reorderings: Sequence[Setting] = ({},)
    widths: Sequence[Setting] = ({},)
