"""Options that nothing reads where they stand."""

from recsys.schema import Frozen


def refuse_idle(config: Frozen, option: str, needs: str) -> None:
    """Refuses an option that was chosen where nothing reads it; a file that spells out its default may stay.

    Args:
      config: whose option.
      option: its name.
      needs: what would have it read.

    Raises:
      ValueError: the option is not its default.
    """
    value = getattr(config, option)
    if value != type(config).model_fields[option].default:
        raise ValueError(f"{option} = {value} changes nothing: expected {needs} beside it; add that, or remove it")
