"""Writes what other languages know our events by: a JSON Schema, and the types of the JavaScript client made of it.

    python -m tools.event_schema

Both come from the structs of `tailrace.events` and `tailrace.fold`: run it after a change there. A test compares the
files with what this would write.
"""

import inspect
import re
from pathlib import Path
from typing import Any, TypeAlias, cast, get_args

import msgspec

from tailrace import fold
from tailrace.events import TERMINALS, Event, Opaque
from tools.typescript import constant, declarations, union

__all__ = ["files", "main", "schema"]

ROOT = Path(__file__).parents[1]

Schema: TypeAlias = dict[str, Any]

_EVENTS = [struct for struct in get_args(Event) if struct is not Opaque]
_REFERENCE = "#/$defs/{name}"

_ENTRY = {
    "description": "What the data of a frame of the native dialect holds: an event, when the producer took it, and "
    "which events were merged into it.",
    "allOf": [{"$ref": "#/$defs/Event"}, {"$ref": "#/$defs/Place"}],
}
_PLACE = {
    "type": "object",
    "properties": {
        "at_ms": {"type": "integer", "description": "When the producer took it, in Unix milliseconds."},
        "first": {
            "type": "integer",
            "description": "Set on a merged entry: the number of the first event it covers; its own is the last one.",
        },
    },
    "required": ["at_ms"],
}

_GENERATED = "// Written by tools/event_schema.py from spec/events.schema.json. Do not edit.\n"
_ENTRY_TYPE = """\
/** An event in its place: `seq` counts 1, 2, 3 … and comes as the id of the frame, 0 is in no log. */
export type Entry = Event & Place & { seq: number };
"""
_DOCUMENT_TYPE = """\
/** As JSON has it: a field whose value is the one it begins with is left out. */
export type Sparse<T> = T extends (infer Item)[]
  ? Sparse<Item>[]
  : T extends object
    ? { [Key in keyof T]?: Sparse<T[Key]> }
    : T;

/** A run as one document: `status` and `text`, all its text, are always there. */
export type RunDocument = Sparse<Reduced> & { status: Reduced['status']; text: string };
"""


def schema() -> Schema:
    """Every event, the entry that a frame holds, and the reduced run, each under its name in `$defs`."""
    references, components = msgspec.json.schema_components([*_EVENTS, fold.Reduced], ref_template=_REFERENCE)
    definitions = {name: _definition(component) for name, component in components.items()}
    events = list(references[: len(_EVENTS)])
    types = {_tag(definitions[_name(reference)]): reference["$ref"] for reference in events}
    event = {
        "description": "One fact of a run. A reader passes over a type it does not know.",
        "oneOf": events,
        "discriminator": {"propertyName": "type", "mapping": types},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Events of tailrace",
        "$ref": "#/$defs/Entry",
        "$defs": {"Entry": _ENTRY, "Place": _PLACE, "Event": event, **definitions},
    }


def files() -> dict[Path, str]:
    """What each generated file holds."""
    whole = schema()
    definitions: dict[str, Schema] = whole["$defs"]
    reduced = [name for name in definitions if name in fold.__all__]
    events = [name for name in definitions if name not in {"Entry", "Event", *reduced}]
    tags = {name: _tag(definition) for name, definition in definitions.items() if name in events}
    terminals = [tags[struct.__name__] for struct in TERMINALS]
    names = [struct.__name__ for struct in _EVENTS]
    own = {name: definitions[name] for name in reduced}
    types = ROOT / "js" / "client" / "src"
    return {
        ROOT / "spec" / "events.schema.json": msgspec.json.format(msgspec.json.encode(whole)).decode() + "\n",
        types / "events.gen.ts": "\n".join(
            [
                _GENERATED,
                declarations({name: definitions[name] for name in events}),
                union("Event", names, definitions["Event"]["description"]),
                _ENTRY_TYPE,
                "export type EventType = Event['type'];\n",
                constant("TERMINAL_TYPES", terminals, "Types of which one, and only one, ends a run."),
                "export type TerminalType = (typeof TERMINAL_TYPES)[number];\n",
                "export type Terminal = Extract<Event, { type: TerminalType }>;\n",
            ]
        ),
        types / "reduced.gen.ts": "\n".join(
            [
                _GENERATED,
                f"import type {{ {', '.join(_foreign(own))} }} from './events.gen.js';\n",
                declarations(own, filled=True),
                union("Part", [part.__name__ for part in get_args(fold.Part)], "What a message is made of."),
                _DOCUMENT_TYPE,
            ]
        ),
    }


def _foreign(definitions: dict[str, Schema]) -> list[str]:
    """The definitions these refer to, beside each other."""
    named = re.findall(r'"#/\$defs/(\w+)"', msgspec.json.encode(definitions).decode())
    return sorted({*named} - definitions.keys())


def _definition(component: Schema) -> Schema:
    """A struct as it is on the wire: absent, never null, unless any value may stand there."""
    about, described = _described(component.get("description", ""))
    properties = {
        name: {**_present(member), **({"description": described[name]} if name in described else {})}
        for name, member in component["properties"].items()
    }
    shape = {"description": about} if about else {}
    return {**shape, "type": "object", "properties": properties, "required": component["required"]}


def _present(member: Schema) -> Schema:
    """What stands there if something does."""
    if member.get("default", ...) is None:
        del member["default"]
    match member:
        case {"anyOf": [one, {"type": "null"}]}:
            return cast("Schema", one)
        case {"enum": [tag]}:
            return {"const": tag}
        case _:
            return member


def _described(docstring: str) -> tuple[str, dict[str, str]]:
    """A docstring, and what its section on attributes says of each."""
    about, _, section = inspect.cleandoc(docstring).partition("\n\nAttributes:\n")
    attributes = re.findall(r"^ *(\w+): (.+(?:\n {8,}.+)*)", section, re.MULTILINE)
    return about, {name: re.sub(r"\s+", " ", text) for name, text in attributes}


def _tag(definition: Schema) -> str:
    return str(definition["properties"].get("type", {}).get("const", ""))


def _name(reference: Schema) -> str:
    return str(reference["$ref"]).rpartition("/")[2]


def main() -> None:
    """Write the files."""
    for path, text in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
