"""Small facts about all rows, by name: what the driver looks at between two stages."""

from collections.abc import Iterable, Sequence

import apache_beam as beam

from data_prep.beam.stages import Stage

Facts = dict[str, int]
LEAST = "least\t"


def add_facts(parts: Iterable[Facts]) -> Facts:
    """Adds up the numbers of each name; of a name that begins with `LEAST`, the smallest number counts."""
    total: Facts = {}
    for part in parts:
        for name, number in part.items():
            if name not in total:
                total[name] = number
            else:
                total[name] = min(total[name], number) if name.startswith(LEAST) else total[name] + number
    return total


def store_facts(stage: Stage, facts: Sequence[beam.PCollection]) -> None:
    """Stores the sum of several PCollection[Facts], of which one has an element, as the value `facts`."""
    total = facts | "All facts" >> beam.Flatten() | "Add facts" >> beam.CombineGlobally(add_facts).without_defaults()
    stage.store_value("facts", total)
