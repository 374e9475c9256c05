"""What a worker process on this machine runs: Beam's own program, whose remarks do not reach the terminal.

python -m data_prep.beam.worker PARENT
"""

import os
import sys
import threading
import time

from data_prep.beam import require_beam


def _end_with(parent: int) -> None:
    """Ends this process when its parent does: Beam's program would wait for ever for one that was killed."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with, args=(int(sys.argv.pop(1)),), daemon=True).start()
    require_beam()
    from apache_beam.runners.worker import sdk_worker_main

    sdk_worker_main.main(sys.argv)
