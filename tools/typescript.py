"""JSON Schema as TypeScript: as much of both as the definitions of a vocabulary need, formatted as Biome would."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

__all__ = ["constant", "declarations", "union"]

Schema: TypeAlias = Mapping[str, Any]

_LINE_WIDTH = 120
_PRIMITIVES = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean"}


def declarations(definitions: Mapping[str, Schema], *, filled: bool = False) -> str:
    """Each definition of an object as an exported type.

    Args:
        definitions: Objects by name; what they refer to goes by its name too.
        filled: A field that has a default is always there, as in a value that is built up; else it may be absent, as in
            JSON.
    """
    return "\n".join(_declaration(name, schema, filled=filled) for name, schema in definitions.items())


def union(name: str, members: Iterable[str], about: str) -> str:
    """One of several types."""
    names = list(members)
    line = f"export type {name} = {' | '.join(names)};"
    if len(line) > _LINE_WIDTH:
        line = "\n  | ".join([f"export type {name} =", *names]) + ";"
    return f"{_comment(about)}{line}\n"


def constant(name: str, values: Iterable[str], about: str) -> str:
    """A tuple of strings that is there when the program runs."""
    items = [f"'{value}'" for value in values]
    line = f"export const {name} = [{', '.join(items)}] as const;"
    if len(line) > _LINE_WIDTH:
        line = "\n  ".join([f"export const {name} = [", *(f"{item}," for item in items)]) + "\n] as const;"
    return f"{_comment(about)}{line}\n"


def _declaration(name: str, schema: Schema, *, filled: bool) -> str:
    required = schema["required"]
    lines = [
        f"{_comment(member.get('description', ''), indent='  ')}"
        f"  {field}{'' if field in required or (filled and 'default' in member) else '?'}: {_type(member)};\n"
        for field, member in schema["properties"].items()
    ]
    return f"{_comment(schema.get('description', ''))}export type {name} = {{\n{''.join(lines)}}};\n"


def _type(schema: Schema) -> str:
    match schema:
        case {"$ref": str(reference)}:
            written = reference.rpartition("/")[2]
        case {"const": value}:
            written = f"'{value}'"
        case {"enum": values}:
            written = " | ".join(f"'{value}'" for value in values)
        case {"anyOf": schemas}:
            written = " | ".join(map(_type, schemas))
        case {"type": "array"}:
            item = _type(schema.get("items", {}))
            written = f"({item})[]" if " | " in item else f"{item}[]"
        case {"type": "object"}:
            written = f"Record<string, {_type(schema.get('additionalProperties', {}))}>"
        case _:
            written = _PRIMITIVES[schema["type"]] if "type" in schema else "unknown"
    return written


def _comment(text: str, indent: str = "") -> str:
    if not text:
        return ""
    lines = text.splitlines()
    if len(lines) == 1:
        return f"{indent}/** {text} */\n"
    body = "".join(f"{indent} * {line}".rstrip() + "\n" for line in lines)
    return f"{indent}/**\n{body}{indent} */\n"
