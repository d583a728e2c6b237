"""Domain schemas: the entity types and relations that a method may use; one TOML file each."""

from importlib.resources import as_file, files
from pathlib import Path

from kg.errors import UnknownNameError, did_you_mean
from kg.schema import DomainSchema


def load_domain(name: str) -> DomainSchema:
    """Load a domain that kglift brings, or one's own.

    Args:
        name: a name such as `movies`, or the path of a TOML file (`FILE.toml`) as `DomainSchema.read` takes it.

    Raises:
        UnknownNameError: if kglift brings no such domain.
        ConfigError: if the file is absent or not TOML.
        SchemaError: if it does not describe a schema.
    """
    if name.endswith(".toml"):
        return DomainSchema.read(Path(name))
    folder = files("extract.domains")
    known = [entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml")]
    if name not in known:
        msg = f"unknown domain `{name}`; {did_you_mean(name, known)} Or give the path of your own `FILE.toml`"
        raise UnknownNameError(msg)
    with as_file(folder / f"{name}.toml") as path:
        return DomainSchema.read(path)
