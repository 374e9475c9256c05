"""What `recsys bench NAME` runs: each module but `harness` is a benchmark, with a function `measure() -> Report`."""
