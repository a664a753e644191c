"""Checks of answers against an OpenAPI 3.0 description: status, headers, JSON by its schema. No more than it uses."""

from __future__ import annotations

import json
import re
from typing import Any

_TYPES = {"string": str, "object": dict, "array": list, "boolean": bool, "number": (int, float), "integer": int}


class OpenApi:
    def __init__(self, document: dict):
        self.document = document
        assert document["openapi"].startswith("3.0.")
        self.used: set[tuple[str, str, int]] = set()

    def operations(self) -> list[tuple[str, str]]:
        """(method, path) of every operation."""
        methods = ("get", "put", "post", "delete", "head")
        return [(method, path) for path, item in self.document["paths"].items() for method in methods if method in item]

    def resolve(self, value: Any) -> Any:
        while isinstance(value, dict) and "$ref" in value:
            at = self.document
            for part in value["$ref"].removeprefix("#/").split("/"):
                at = at[part]
            value = at
        return value

    def check_references(self, value: Any = None) -> None:
        value = self.document if value is None else value
        if isinstance(value, dict):
            self.resolve(value)
            for inner in value.values():
                self.check_references(inner)
        elif isinstance(value, list):
            for inner in value:
                self.check_references(inner)

    def check(self, method: str, path: str, status: int, headers: Any, body: bytes) -> None:
        operation = self.document["paths"][path][method.lower()]
        where = f"{method} {path}: {status}"
        assert str(status) in operation["responses"], f"{where} is not described; {body[:300]!r}"
        self.used.add((method.lower(), path, status))
        response = self.resolve(operation["responses"][str(status)])
        for name, header in response.get("headers", {}).items():
            header = self.resolve(header)
            if headers.get(name) is None:
                assert not header.get("required"), f"{where} has no {name}"
                continue
            value = headers[name]
            if header["schema"]["type"] == "integer":
                assert value.isdigit(), f"{where}: {name} is {value!r}"
                value = int(value)
            self.check_value(header["schema"], value, f"{where}: {name}")
        content = response.get("content")
        if content is None or method == "HEAD":
            assert not body, where
            return
        found = headers.get("Content-Type", "").split(";")[0]
        assert found in content, f"{where}: {found}"
        if found == "application/json":
            self.check_value(content[found]["schema"], json.loads(body), where)

    def check_value(self, schema: Any, value: Any, where: str) -> None:
        schema = self.resolve(schema)
        if value is None and schema.get("nullable"):
            return
        kind = schema["type"]
        assert isinstance(value, _TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool)), f"{where}: {value!r}"
        if "enum" in schema:
            assert value in schema["enum"], f"{where}: {value!r}"
        if "pattern" in schema:
            assert re.search(schema["pattern"], value), f"{where}: {value!r}"
        if "minimum" in schema:
            assert value >= schema["minimum"], f"{where}: {value!r}"
        if "maxLength" in schema:
            assert len(value) <= schema["maxLength"], f"{where}: {value!r}"
        if kind == "array":
            assert schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)), f"{where}: {value!r}"
            for item in value:
                self.check_value(schema["items"], item, where)
        if kind == "object" and "properties" in schema:
            missing = set(schema.get("required", ())) - set(value)
            assert not missing, f"{where} lacks {missing}"
            unknown = set(value) - set(schema["properties"])
            assert not unknown, f"{where} has {unknown}, which is not described"
            for name, inner in value.items():
                self.check_value(schema["properties"][name], inner, f"{where}.{name}")
