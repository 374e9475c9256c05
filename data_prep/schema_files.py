"""Finds and reads the `data.toml` that describes a source: the user's own, or one that is shipped."""

import re
from importlib import resources
from pathlib import Path

from data_prep.config import DataConfig, EntityConfig
from recsys.errors import ConfigError
from recsys.toml_config import load_toml

_VARIANT = "{variant}"
_FOLDER = "{source_folder}"


def load_data_config(path: Path | None, source: str) -> DataConfig:
    """Reads `path`, a file or the name of a shipped one, or else the shipped file whose `matches` fits `source`.

    Further sources are resolved: relative paths against the file's folder, `{source_folder}` by the folder of the
    interactions, and `{variant}` by what stood for it in the source.

    Raises:
      ConfigError: the file is wrong, or no shipped file describes the source.
    """
    shipped = _shipped()
    if path is not None:
        path = path if path.is_file() else shipped.get(str(path), path)
        own = load_toml(DataConfig, path)
        return _resolve(own, path.parent, source, _variant(own, source) or "")
    for file in shipped.values():
        config = load_toml(DataConfig, file)
        variant = _variant(config, source)
        if variant is not None:
            return _resolve(config, file.parent, source, variant)
    raise ConfigError(
        f"no schema is known for {source}: say which column is what in a file, --schema data.toml (--infer drafts "
        f"one), or name a shipped one: {', '.join(shipped)}"
    )


def _shipped() -> dict[str, Path]:
    folder = Path(str(resources.files("data_prep") / "schemas"))
    return {file.stem: file for file in sorted(folder.glob("*.toml"))}


def _variant(config: DataConfig, source: str) -> str | None:
    """What stands for `{variant}` in a source that `matches` describes; None when it describes another."""
    if config.matches is None:
        return None
    pattern = re.escape(config.matches).replace(re.escape(_VARIANT), "([^/]*)")
    match = re.fullmatch(pattern, source)
    return "".join(match.groups()) if match else None


def _resolve(config: DataConfig, folder: Path, source: str, variant: str) -> DataConfig:
    def located(spec: str | None) -> str | None:
        if spec is None:
            return None
        spec = spec.replace(_VARIANT, variant)
        if _FOLDER in spec:
            return spec.replace(_FOLDER, str(Path(source).parent))
        return spec if spec.startswith(("tfds:", "synthetic:")) else str(folder / spec)

    def of(entity: EntityConfig) -> EntityConfig:
        return entity.model_copy(update={"source": located(entity.source)})

    split = config.split.model_copy(update={"test": located(config.split.test)})
    return config.model_copy(update={"items": of(config.items), "users": of(config.users), "split": split})
