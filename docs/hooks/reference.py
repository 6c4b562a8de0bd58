"""MkDocs hook: adds reference pages generated from the code when the site is built."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Literal, Union, get_args, get_origin

import httpx
import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python
from typer.cli import get_docs_for_click
from typer.main import get_command

from configs.runtime.errors import BellwetherError
from configs.schema.company import SHIPPED, Company
from configs.schema.plays import Plays
from configs.schema.settings import settings_table
from features.quality.codes import CODES
from features.signals import feature_catalogue
from features.sources.loaded_tables import MISSING_TABLES
from features.tables.catalog import THEMES
from features.tables.source_tables import ROW, TABLES, VERSIONS, SourceColumn
from serving.api import create_app
from serving.auth.permissions import SCOPES
from serving.commands.app import app
from serving.http.problems import TYPES
from serving.http.prometheus import Metrics
from serving.privacy.database_columns import ACTIONS, HOLDINGS
from serving.privacy.inventory import FILES, KINDS, source_columns
from training.checks.base import OUTCOMES, SECTIONS
from training.checks.registry import as_dicts
from training.model.reason_text import reason_catalogue

Json = dict[str, Any]

HELP_NOISE = (
    r"\* `--help`: .*\n",
    r"\*\*Options\*\*:\n\n(?=\n)",
    r"\*\*Commands\*\*:\n\n(\* .*\n)+\n",
)
"""Text that Typer repeats for every command: the help option, and lists of shortened help texts."""

SIGNS = {1: "raises", -1: "lowers", 0: "free"}


OTHER_EXITS = (
    (0, "", "Done. For `refresh`: scored, also when the readiness is degraded."),
    (2, "", "Also a wrong option or argument, or a package that is not installed."),
    (70, "", "An unexpected error; `bellwether --debug` prints it in full."),
    (74, "", "A file or folder cannot be read or written."),
    (130, "", "Interrupted from the keyboard."),
)
"""Exit codes that belong to no class of errors."""


def table(headers: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Return a Markdown table; line breaks and pipes in cells are escaped."""
    names = list(headers)
    lines = [names, ["---"] * len(names), *rows]
    return "".join(f"| {' | '.join(_cell(cell) for cell in line)} |\n" for line in lines)


def _cell(value: object) -> str:
    return escaped(" ".join(str(value).split())).replace("|", "\\|")


def escaped(text: str) -> str:
    """Return Markdown in which `<` outside of code is text, not the start of an HTML tag.

    >>> escaped("./state/<company>, or `<name>`")
    './state/&lt;company>, or `<name>`'
    """
    parts = text.split("`")
    parts[::2] = [part.replace("<", "&lt;") for part in parts[::2]]
    return "`".join(parts)


def code(value: object) -> str:
    """Return a value in code font; empty stays empty."""
    return f"`{value}`" if str(value) else ""


def command_line() -> Any:
    """Return the command line as Typer's command tree."""
    return get_command(app)


def cli_page() -> str:
    """Return every command with its arguments and options, as `--help` prints them."""
    command = command_line()
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name="bellwether")
    for noise in HELP_NOISE:
        text = re.sub(noise, "", text)
    errors = table(
        ("exit code", "error", "meaning"),
        [
            *(
                (kind.exit_code, code(kind.__name__), (kind.__doc__ or "").splitlines()[0])
                for kind in BellwetherError.__subclasses__()
            ),
            *OTHER_EXITS,
        ],
    )
    return f"# Command line{escaped(text.removeprefix('# `bellwether`'))}## Exit codes\n\n{errors}"


def settings_page() -> str:
    """Return every setting that is read from the environment."""
    return (
        "# Settings\n\nSettings name places and secrets and come from environment variables. "
        "Behaviour is configured in [company.yaml](company.md) and is part of the identity of "
        f"every model. Empty variables count as not set.\n\n{escaped(settings_table())}"
    )


def company_page() -> str:
    """Return every key of company.yaml and plays.yaml, from the typed models."""
    return (
        "# company.yaml\n\n"
        "Unknown keys are refused. `bellwether init FOLDER` writes a file with every key, and "
        "`bellwether check FOLDER` reports every mistake at once.\n\n"
        + "\n".join(_model_section("", Company))
        + "\n## plays.yaml\n\nPlays and escalations of a company, in a file next to company.yaml. "
        "They change no score.\n\n" + "\n".join(_model_section("", Plays, level=3))
    )


def _model_section(prefix: str, model: type[BaseModel], level: int = 2) -> Iterator[str]:
    if prefix:
        yield f"{'#' * level} {prefix}\n\n{_first_line(model)}\n"
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    inner = {
        name: [
            (f"{prefix}.{name}{suffix}" if prefix else f"{name}{suffix}", item)
            for item, suffix in models_in(field.annotation)
        ]
        for name, field in fields.items()
    }
    yield table(
        ("key", "type", "default", "meaning"),
        (
            (
                code(name),
                code(_type(field.annotation)),
                _default(field),
                _meaning(field, inner[name]),
            )
            for name, field in fields.items()
        ),
    )
    for sections in inner.values():
        for path, item in sections:
            yield from _model_section(path, item, level)


def _first_line(model: type[BaseModel]) -> str:
    return inspect.cleandoc(model.__doc__ or "").splitlines()[0]


def _meaning(field: FieldInfo, sections: list[tuple[str, type[BaseModel]]]) -> str:
    texts = [
        f"{(field.description or _first_line(item)).rstrip('.')}. "
        f"See [{path}](#{re.sub(r'[^a-z0-9_-]', '', path.lower())})."
        for path, item in sections
    ]
    return " ".join(texts) or field.description or ""


def models_in(annotation: Any, suffix: str = "") -> Iterator[tuple[type[BaseModel], str]]:
    """Return the models inside an annotation, each with what is appended to the key's path."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation, suffix
        return
    if hasattr(annotation, "__metadata__"):
        # A list that may also be written as its only item has the path of the item.
        whole = annotation.__origin__
        single = get_args(whole)[0] if get_origin(whole) is tuple else whole
        yield from models_in(single, suffix)
        return
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is dict:
        yield from models_in(inner[1], f"{suffix}.NAME")
    elif origin in (tuple, list):
        yield from models_in(inner[0], f"{suffix}[]")
    elif origin in (Union, types.UnionType):
        for item in inner:
            yield from models_in(item, suffix)


NAMES = {str: "text", int: "whole number", float: "number", bool: "true or false"}


def _type(annotation: Any) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if hasattr(annotation, "__metadata__"):
        return _type(annotation.__origin__)
    if origin is Literal:
        return " or ".join(str(item) for item in inner)
    if origin is dict:
        return f"{_type(inner[0])}: {_type(inner[1])}"
    if origin in (tuple, list):
        return "list of " + _type(inner[0])
    if origin in (Union, types.UnionType):
        return " or ".join(_type(item) for item in inner if item is not type(None))
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return "section"
    return NAMES.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel) or value in (None, "", (), {}):
        return ""
    return code(value if isinstance(value, str) else json.dumps(to_jsonable_python(value)))


def openapi_document() -> Json:
    """Return the OpenAPI document, read from the application as a client reads it."""
    metrics = Metrics()
    service = create_app(lambda _: None, lambda _: metrics, ("docs",))  # type: ignore[arg-type,return-value]

    async def read() -> httpx.Response:
        transport = httpx.ASGITransport(service)
        async with httpx.AsyncClient(transport=transport, base_url="http://docs") as client:
            return await client.get("/openapi.json")

    document: Json = asyncio.run(read()).raise_for_status().json()
    return document


def api_page() -> str:
    """Return every operation of the HTTP API with parameters, body and answers."""
    document = openapi_document()
    scopes = table(("scope", "allows"), ((code(name), text) for name, text in SCOPES.items()))
    parts = [
        f"# HTTP API\n\n{document['info']['description'].strip()}\n\n"
        "A running service publishes the same description, with examples, as `/openapi.json`.\n\n"
        f"## Scopes of API keys\n\n{scopes}"
    ]
    for tag in document["tags"]:
        parts.append(f"## {tag['name'].capitalize()}\n\n{tag['description']}\n")
        parts += [
            _operation(method, path, operation)
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
            if tag["name"] in operation["tags"]
        ]
    parts.append("## Schemas\n")
    parts += [_schema(*item) for item in sorted(document["components"]["schemas"].items())]
    return "\n".join(parts)


def _operation(method: str, path: str, operation: Json) -> str:
    lines = [f"### `{method.upper()} {path}`", "", f"**{operation['summary']}.** "]
    lines[-1] += operation.get("description", "")
    if parameters := operation.get("parameters"):
        rows = (
            (code(item["name"]), item["in"], _schema_type(item["schema"]), _about(item))
            for item in parameters
        )
        lines += ["", table(("parameter", "in", "type", "meaning"), rows)]
    for body in operation.get("requestBody", {}).get("content", {}).values():
        lines += ["", f"Body: {_schema_type(body['schema'])}"]
    answers = (
        (status, _answer_type(answer), answer["description"])
        for status, answer in operation["responses"].items()
    )
    return "\n".join([*lines, "", table(("status", "body", "meaning"), answers)])


def _about(parameter: Json) -> str:
    schema = parameter["schema"]
    default = f" Default `{schema['default']}`." if schema.get("default") not in (None, "") else ""
    return parameter.get("description", "") + default


def _answer_type(answer: Json) -> str:
    kinds = [_schema_type(item["schema"]) for item in answer.get("content", {}).values()]
    return kinds[0] if kinds else ""


def _schema_type(schema: Json) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{name.lower()})"
    if options := schema.get("anyOf"):
        return " or ".join(dict.fromkeys(_schema_type(item) for item in options))
    if schema.get("type") == "array":
        return f"list of {_schema_type(schema.get('items', {}))}"
    if "enum" in schema:
        return " or ".join(f"`{item}`" for item in schema["enum"] if item != "")
    if isinstance(inner := schema.get("additionalProperties"), dict):
        return f"object of {_schema_type(inner)}"
    return str(schema.get("format") or schema.get("type", "any"))


def _schema(name: str, schema: Json) -> str:
    properties = schema.get("properties", {})
    about = " ".join(schema.get("description", "").split("\n\n")[0].split())
    required = set(schema.get("required", ()))
    rows = (
        (code(key), _schema_type(item), "" if key in required else "optional", _text(item))
        for key, item in properties.items()
    )
    return f"### {name}\n\n{about}\n\n{table(('field', 'type', '', 'meaning'), rows)}"


def _text(schema: Json) -> str:
    return str(schema.get("description", ""))


def reasons_page() -> str:
    """Return every reason code with the sentence that pages and answers show."""
    rows = ((code(item.code), item.theme, item.sentence) for item in reason_catalogue())
    themes = table(("theme", "meaning"), THEMES.items())
    return (
        "# Reason codes\n\nA code is `<outcome>.<theme>.<direction>` and stays the same across "
        "releases. A reason is an association, not a cause.\n\n"
        f"## Themes\n\n{themes}\n## Codes\n\n{table(('code', 'theme', 'sentence'), rows)}"
    )


def problems_page() -> str:
    """Return every problem type that the service answers with."""
    rows = (
        (code(item.uri), item.status, item.title, item.about)
        for item in sorted(TYPES.values(), key=lambda item: (item.status, item.slug))
    )
    return (
        "# Problem types\n\nEvery error of the service is an "
        "[RFC 9457](https://www.rfc-editor.org/rfc/rfc9457) document with one of these types. "
        "A running service publishes the same list at `/v1/problems`.\n\n"
        + table(("type", "status", "title", "meaning and what to do"), rows)
    )


def checks_page() -> str:
    """Return every methodological check with its method and what to do."""
    parts = [
        "# Checks\n\nEach training runs every check below, after the model is evaluated and before "
        "its bundle is written. An issue of a blocking check lets the model be published only as "
        "provisional. `bellwether checks` prints this list, and `company.yaml` may ignore a check "
        "with a reason:\n\n```yaml\nchecks:\n  ignore:\n    BW-L09: the warehouse loads every "
        "table on the day\n```\n",
        table(("outcome", "meaning"), OUTCOMES.items()),
    ]
    for section in SECTIONS.values():
        parts.append(f"## {section.capitalize()}\n")
        parts += [
            f"### {item['code']}\n\n**{item['title']}** · {item['severity']}\n\n"
            f"{item['about'].replace('``', '`')}\n\nTo do: {item['to_do']}\n"
            for item in as_dicts()
            if item["section"] == section
        ]
    return "\n".join(parts)


def quality_page() -> str:
    """Return every issue code of the data-quality report."""
    parts = [
        "# Data-quality issues\n\nThe report of `bellwether check COMPANY` names each issue by one "
        "of these codes. An error makes predictions wrong where it occurs, a warning makes them "
        "weaker, an info needs no action.\n"
    ]
    for severity in ("error", "warning", "info"):
        rows = (
            (code(name), item.title, item.to_do)
            for name, item in CODES.items()
            if item.severity == severity
        )
        parts.append(
            f"## {severity.capitalize()}\n\n{table(('code', 'issue', 'what to do'), rows)}"
        )
    return "\n".join(parts)


def source_tables_page() -> str:
    """Return every source table with its grain, key and columns."""
    intro = (
        "# Source tables\n\n`accounts` and one activity table are required. Every other table is "
        "optional: without it, signals are missing and shown as a gap. Every table may carry "
        "`known_at`, the instant at which the row became visible "
        "([known time](../concepts/known-time.md)).\n"
    )
    return "\n".join([intro, *(_source_table(name) for name in TABLES)])


def _source_table(name: str) -> str:
    item = TABLES[name]
    facts = [
        f"One row per {item.grain}.",
        f"Key: {', '.join(code(column) for column in item.key)}." if item.key else "No key.",
        f"Happened at: {code(item.happened)}." if item.happened else "",
        "An activity table." if item.activity else "",
        f"Without it: {MISSING_TABLES[name]}." if name in MISSING_TABLES else "",
    ]
    rows = (
        (
            code(column),
            it.kind,
            "required" if it.required else "",
            visible_from(it),
            column_about(it),
        )
        for column, it in item.columns.items()
    )
    headers = ("column", "kind", "", "visible from", "meaning")
    return f"## {name}\n\n{' '.join(filter(None, facts))}\n\n{table(headers, rows)}"


def visible_from(column: SourceColumn) -> str:
    """Return when the value of a column becomes visible, in words."""
    words = {ROW: "the row", VERSIONS: "only with `history: true`"}
    return words.get(column.visible_from, code(column.visible_from))


def column_about(column: SourceColumn) -> str:
    """Return the meaning of a column with its allowed values."""
    allowed = ", ".join(code(value) for value in column.values)
    return f"{column.meaning}; one of {allowed}" if allowed else column.meaning


def features_page() -> str:
    """Return the feature catalogue by family."""
    catalogue = feature_catalogue()
    families = list(dict.fromkeys(item.family for item in catalogue))
    parts = [
        f"# Features\n\n{len(catalogue)} features in {len(families)} families, each declared in "
        "one file of `features/signals/`. The columns churn and expansion give the direction that "
        "the model is held to when the value rises; free means that the data decides.\n"
    ]
    for family in families:
        rows = (
            (
                code(item.name),
                item.meaning,
                item.unit,
                f"{item.window_days} d" if item.window_days else "",
                item.theme,
                SIGNS[item.churn_sign],
                SIGNS[item.expansion_sign],
            )
            for item in catalogue
            if item.family == family
        )
        headers = ("feature", "meaning", "unit", "window", "theme", "churn", "expansion")
        parts.append(f"## {family.capitalize()}\n\n{table(headers, rows)}")
    return "\n".join(parts)


def example_page(name: str) -> str:
    """Return the description of a shipped example company."""
    return (SHIPPED / name / "README.md").read_text(encoding="utf-8")


EXAMPLES = ("simulated", "simulated_products", "online_retail", "ravenstack", "telco")


def personal_data_page() -> str:
    """Return where personal data lies: source columns, files, SQL tables."""
    columns = table(
        ("table", "column", "kind"),
        ((code(name), code(column), KINDS[kind]) for name, column, kind in source_columns()),
    )
    files = table(
        ("files below the state directory", "hold", "`bellwether forget`"),
        (
            (
                code(item.pattern),
                ", ".join(KINDS[kind] for kind in sorted(item.kinds)),
                item.on_forget,
            )
            for item in FILES
        ),
    )
    sql = table(
        ("table", "columns", "rows of an account", "reason"),
        (
            (
                code(item.table.name),
                ", ".join(f"{code(name)} ({KINDS[kind]})" for name, kind in item.columns.items()),
                ACTIONS[item.of_account],
                item.why,
            )
            for item in HOLDINGS
        ),
    )
    return (
        "# Personal data\n\nWhere personal data lies, and what `bellwether forget` does there. "
        "[Personal data](../concepts/privacy.md) explains it.\n\n"
        f"## Source tables\n\n{columns}\n## Files\n\n{files}\n"
        f"## Tables of the ledger\n\n{sql}"
    )


PAGES: Mapping[str, Callable[[], str]] = {
    **{f"examples/{name}.md": partial(example_page, name) for name in EXAMPLES},
    "reference/cli.md": cli_page,
    "reference/settings.md": settings_page,
    "reference/company.md": company_page,
    "reference/api.md": api_page,
    "reference/reasons.md": reasons_page,
    "reference/problems.md": problems_page,
    "reference/checks.md": checks_page,
    "reference/data-quality.md": quality_page,
    "reference/source-tables.md": source_tables_page,
    "reference/features.md": features_page,
    "reference/personal-data.md": personal_data_page,
}
"""Generated pages by their path in the site."""


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the generated pages to the site."""
    for path, page in PAGES.items():
        files.append(File.generated(config, path, content=page()))
    return files
