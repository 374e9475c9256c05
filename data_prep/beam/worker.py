"""What a worker process on this machine runs: Beam's own program, whose remarks do not reach the terminal."""

import sys

from data_prep.beam import require_beam

if __name__ == "__main__":
    require_beam()
    from apache_beam.runners.worker import sdk_worker_main

    sdk_worker_main.main(sys.argv)
