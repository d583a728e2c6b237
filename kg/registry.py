"""One registry for every family: a member registers by subclassing, in a file of its own."""

import importlib
import pkgutil
from typing import Any, ClassVar, Self

from kg.errors import UnknownNameError, did_you_mean


class Registered:
    """Base of a family whose members are found by name.

    A family names the package that holds its members: `class Source(Registered, package="kg.sources")`.
    A member names itself: `class RecBole(Source, name="recbole")`. Abstract helpers in between name nothing.

    Raises:
        TypeError: at import, if two members of one family take the same name.
    """

    name: ClassVar[str] = ""
    _members: ClassVar[dict[str, type[Any]]]
    _package: ClassVar[str]

    def __init_subclass__(cls, *, name: str | None = None, package: str | None = None, **kwargs: Any) -> None:
        """Open a new family (`package`) or enter a member into its family (`name`)."""
        super().__init_subclass__(**kwargs)
        if package is not None:
            cls._members, cls._package = {}, package
        if name is not None:
            if (taken := cls._members.get(name)) is not None:
                msg = f"`{name}` is already the name of {taken.__qualname__}; {cls.__qualname__} needs another"
                raise TypeError(msg)
            cls.name = name
            cls._members[name] = cls

    @classmethod
    def members(cls) -> dict[str, type[Self]]:
        """Import the family's package and return its members by name, sorted."""
        package = importlib.import_module(cls._package)
        for module in pkgutil.iter_modules(package.__path__, cls._package + "."):
            if not module.name.endswith(".__main__"):
                importlib.import_module(module.name)
        return dict(sorted(cls._members.items()))

    @classmethod
    def find(cls, name: str) -> type[Self]:
        """Return the member called `name`.

        Raises:
            UnknownNameError: if there is none; the text suggests the nearest.
        """
        members = cls.members()
        if name not in members:
            msg = f"unknown {cls.__name__.lower()} `{name}`; {did_you_mean(name, members)}"
            raise UnknownNameError(msg)
        return members[name]
