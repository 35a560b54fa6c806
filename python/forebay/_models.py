"""Forms of types with named parts: dataclasses, named tuples, typed dicts, and the models of pydantic and
msgspec, which are looked for among what is imported already."""  # noqa: D205, D209

from __future__ import annotations

import sys
from typing import Any, NamedTuple, get_args

from forebay._forms import Form, Misfit, _member


class Part(NamedTuple):
    """A named part."""

    name: str
    form: Form
    required: bool


class Named(Form):
    """Of a type with named parts. They are filled in later, as one of them may be of the same type."""

    typed = True
    shapes = frozenset({"object"})
    record = True

    def __init__(self, cls: type, name: str) -> None:
        """Of this class."""
        self.cls = cls
        self.name = name
        self.parts: list[Part] = []

    def fits(self, value: object) -> bool:
        # One of a derived class would come back as one of this.
        return type(value) is self.cls

    def _made(self, value: dict[str, Any]) -> Any:
        """The value of which these are the parts. Others are of a newer version, and left out."""
        given = {}
        for name, form, required in self.parts:
            if name in value:
                given[name] = _member(form.read, name, value[name])
            elif required:
                raise Misfit(f"expected {self.name}: the member {name!r} is missing")
        try:
            return self.cls(**given)
        except Exception as error:
            raise Misfit(f"{self.name} does not take it: {type(error).__name__}: {error}") from None


class Record(Named):
    """A dataclass, as an object. Parts that `__init__` does not take are not written."""

    def write(self, value: Any) -> Any:
        if type(value) is not self.cls:
            raise self.refuse(value)
        written = {}
        name = ""
        try:
            for name, form, _ in self.parts:
                written[name] = form.write(getattr(value, name))
        except Misfit as misfit:
            raise misfit.at(f".{name}") from None
        except AttributeError as error:
            raise Misfit(str(error), f".{name}") from None
        return written

    def read(self, value: Any) -> Any:
        if not isinstance(value, dict):
            raise self.reject(value)
        return self._made(value)


class NamedRow(Named):
    """A named tuple, as the array that it is without an annotation; an object is read too."""

    shapes = frozenset({"array"})
    record = False

    def write(self, value: Any) -> Any:
        if not self.fits(value):
            raise self.refuse(value)
        return [_member(part.form.write, part.name, value[i]) for i, part in enumerate(self.parts)]

    def read(self, value: Any) -> Any:
        if isinstance(value, dict):
            return self._made(value)
        if not isinstance(value, list | tuple) or len(value) > len(self.parts):
            raise self.reject(value)
        return self._made({part.name: item for part, item in zip(self.parts, value, strict=False)})


class Typed(Named):
    """A typed dict. What it does not name stays as it is."""

    record = False

    def __init__(self, cls: type, name: str) -> None:
        """Of this class."""
        super().__init__(cls, name)
        self._names: dict[str, Part] = {}

    def fill(self, parts: list[Part]) -> None:
        """These are its parts."""
        self.parts = parts
        self._names = {part.name: part for part in parts}
        # As often as not it says no more than JSON knows by itself.
        self.typed = any(part.form.typed for part in parts)

    def write(self, value: Any) -> Any:
        if not isinstance(value, dict):
            raise self.refuse(value)
        return self._converted(value, "write")

    def read(self, value: Any) -> Any:
        if not isinstance(value, dict):
            raise self.reject(value)
        return self._converted(value, "read")

    def _converted(self, value: dict[str, Any], way: str) -> dict[str, Any]:
        for name, _, required in self.parts:
            if required and name not in value:
                raise Misfit(f"expected {self.name}: the member {name!r} is missing")
        names = self._names
        return {
            key: _member(getattr(names[key].form, way), key, part) if key in names else part
            for key, part in value.items()
        }

    def fits(self, value: object) -> bool:
        return isinstance(value, dict) and all(part.name in value for part in self.parts if part.required)


class PydanticModel(Form):
    """A model of pydantic, as it writes itself."""

    typed = True
    shapes = frozenset({"object"})
    record = True

    def __init__(self, cls: Any) -> None:
        """Of this class."""
        from pydantic import VERSION, RootModel

        self.cls = cls
        self.name = cls.__name__
        # Older ones read by a field's own name only where a model says so.
        new = tuple(map(int, VERSION.split(".")[:2])) >= (2, 11)
        self._by_alias = not new or not _reads_other_names(cls, set())
        self._names = {} if self._by_alias else {"by_alias": True, "by_name": True}
        if issubclass(cls, RootModel):
            self.record = False
            self.shapes = frozenset({"null", "boolean", "integer", "number", "string", "array", "object"})

    def write(self, value: Any) -> Any:
        if type(value) is not self.cls:
            raise self.refuse(value)
        try:
            return value.model_dump(mode="json", by_alias=self._by_alias, round_trip=True)
        except Exception as error:
            raise Misfit(f"{self.name} cannot be written: {error}") from None

    def read(self, value: Any) -> Any:
        from pydantic import ValidationError

        from forebay._forebay import to_json

        try:
            # As text: a strict model takes a date from JSON that it does not take from Python.
            return self.cls.model_validate_json(to_json(value), **self._names)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            where = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in first["loc"])
            raise Misfit(f"{self.name} does not take it: {first['msg']}", where) from None
        except Exception as error:
            raise Misfit(f"{self.name} does not take it: {type(error).__name__}: {error}") from None

    def fits(self, value: object) -> bool:
        return type(value) is self.cls


def _reads_other_names(model: Any, seen: set[Any]) -> bool:
    """Whether a model, or one within it, has a field that it writes by one alias and reads by another."""
    if model in seen:
        return False
    seen.add(model)
    for field in model.model_fields.values():
        if field.validation_alias != field.serialization_alias:
            return True
        hints = [field.annotation]
        while hints:
            hint = hints.pop()
            hints += get_args(hint)
            if hasattr(hint, "model_fields") and _reads_other_names(hint, seen):
                return True
    return False


class MsgspecStruct(Form):
    """A struct of msgspec, as it writes itself."""

    typed = True
    shapes = frozenset({"object"})
    record = True

    def __init__(self, hint: Any, cls: Any) -> None:
        """Of this class, which may have arguments."""
        self.hint = hint
        self.cls = cls
        self.name = cls.__name__
        if cls.__struct_config__.array_like:
            self.record = False
            self.shapes = frozenset({"array"})

    def write(self, value: Any) -> Any:
        import msgspec

        if type(value) is not self.cls:
            raise self.refuse(value)
        try:
            return msgspec.to_builtins(value, str_keys=True)
        except Exception as error:
            raise Misfit(f"{self.name} cannot be written: {error}") from None

    def read(self, value: Any) -> Any:
        import msgspec

        try:
            return msgspec.convert(value, self.hint, str_keys=True)
        except msgspec.ValidationError as error:
            text, _, where = str(error).partition(" - at `$")
            raise Misfit(f"{self.name} does not take it: {text}", where.rstrip("`")) from None
        except Exception as error:
            raise Misfit(f"{self.name} does not take it: {type(error).__name__}: {error}") from None

    def fits(self, value: object) -> bool:
        return type(value) is self.cls


def of_library(hint: Any, cls: type) -> Form | None:
    """The form of a class that a library made, which then is imported already."""
    pydantic: Any = sys.modules.get("pydantic")
    if (
        pydantic is not None
        and hasattr(cls, "__pydantic_validator__")
        and issubclass(cls, pydantic.BaseModel)
    ):
        return PydanticModel(cls)
    msgspec: Any = sys.modules.get("msgspec")
    if msgspec is not None and issubclass(cls, msgspec.Struct):
        return MsgspecStruct(hint, cls)
    return None
