"""The documentation matches the code: generated pages, links, named files and settings."""

from __future__ import annotations

import ast
import doctest
import importlib.util
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote, urlsplit

import pytest

import bellwether
import configs
from configs.schema.company import Company
from configs.schema.settings import settings_table
from features.quality.codes import CODES
from features.signals import declare, feature_catalogue, payments
from features.tables.source_tables import TABLES
from serving.http.problems import TYPES
from training.checks.base import Check
from training.checks.registry import check_catalogue
from training.model.reason_text import reason_catalogue

ROOT = Path(configs.__file__).resolve().parents[1]
DOCS = ROOT / "docs"
LAYERS = ("configs", "features", "training", "serving")
WRITTEN = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
    *sorted(DOCS.rglob("*.md")),
    *sorted((ROOT / ".github").rglob("*.md")),
]
"""Pages that people write; the others are generated when the site is built."""


def hook(name: str) -> ModuleType:
    """Load a MkDocs hook as MkDocs does, by its path."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / "hooks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


REFERENCE, PYTHON, ARCHITECTURE = map(hook, ("reference", "python_api", "architecture"))


@pytest.fixture(scope="module")
def generated() -> dict[str, str]:
    pages = {path: page() for path, page in REFERENCE.PAGES.items()}
    return {**pages, PYTHON.PAGE: PYTHON.page(), ARCHITECTURE.PAGE: ARCHITECTURE.page()}


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site as `make docs` builds it: a broken link, anchor or page list fails the build."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def commands() -> Iterator[str]:
    def walk(command, words: tuple[str, ...]) -> Iterator[str]:
        inner = getattr(command, "commands", {})
        yield from () if inner else [" ".join(words)]
        for name, item in inner.items():
            yield from walk(item, (*words, name))

    return walk(REFERENCE.command_line(), ("bellwether",))


def headings(page: str) -> set[str]:
    return {line.strip(" `") for line in re.findall(r"^#+ (.+)$", page, re.MULTILINE)}


def first_cells(page: str) -> set[str]:
    return set(re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE))


def test_every_command_is_described(generated):
    assert set(commands()) <= headings(generated["reference/cli.md"])


def test_every_setting_is_described(generated):
    names = set(re.findall(r"`(BELLWETHER_[^`]+)`", settings_table()))
    assert len(names) > 15
    assert names <= first_cells(generated["reference/settings.md"])


def test_what_the_package_exports_is_described(generated):
    found = headings(generated[PYTHON.PAGE])
    assert {"bellwether.open", "Company.train", "Scores.top"} <= found
    for name in bellwether.__all__:
        assert {name, f"bellwether.{name}"} & found, name


def test_every_key_of_the_configuration_is_described(generated):
    page = generated["reference/company.md"]
    assert set(Company.model_fields) <= first_cells(page)
    sections = {
        "grid": "every",
        "gates": "min_auc_lower",
        "serving": "capacity_per_month",
        "training.tuning": "trials",
        "targets.NAME": "horizon_days",
        "tables.NAME": "from",
        "rules.own.NAME.when[]": "at_least",
        "plays[].when": "days_to_notice",
    }
    for section, key in sections.items():
        assert section in headings(page)
        body = page.split(f" {section}\n", 1)[1].split("\n#", 1)[0]
        assert key in first_cells(body), section


def test_every_operation_and_schema_of_the_api_is_described(generated):
    document, found = REFERENCE.openapi_document(), headings(generated["reference/api.md"])
    operations = [
        f"{method.upper()} {path}"
        for path, methods in document["paths"].items()
        for method in methods
    ]
    assert len(operations) >= 15
    assert set(operations) <= found
    assert set(document["components"]["schemas"]) <= found


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("reasons", {item.code for item in reason_catalogue()}),
        ("problems", {item.uri for item in TYPES.values()}),
        ("data-quality", set(CODES)),
        ("features", {item.name for item in feature_catalogue()}),
        ("source-tables", {column for item in TABLES.values() for column in item.columns}),
    ],
)
def test_every_name_of_a_catalogue_has_a_row(generated, page, names):
    assert names <= first_cells(generated[f"reference/{page}.md"])


def test_every_shipped_example_has_its_page():
    assert set(REFERENCE.EXAMPLES) == {path.name for path in REFERENCE.SHIPPED.iterdir()}


@pytest.mark.parametrize("module", [REFERENCE, PYTHON, ARCHITECTURE], ids=lambda it: it.__name__)
def test_the_examples_of_the_hooks_hold(module):
    found = doctest.testmod(module)
    assert found.attempted >= 1
    assert found.failed == 0


def test_every_check_and_source_table_has_a_section(generated):
    assert {check.code for check in check_catalogue()} <= headings(generated["reference/checks.md"])
    assert set(TABLES) <= headings(generated["reference/source-tables.md"])


def packages() -> list[Path]:
    return sorted(path for layer in LAYERS for path in (ROOT / layer).rglob("__init__.py"))


@pytest.mark.parametrize("path", packages(), ids=lambda path: str(path.parent.relative_to(ROOT)))
def test_every_package_has_one_sentence(path):
    text = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n\n")[0]
    assert re.fullmatch(r"[A-Z][^\n]{20,95}\.", text)
    assert ". " not in text


def test_the_architecture_shows_every_package_with_its_imports(generated):
    page, found = generated[ARCHITECTURE.PAGE], ARCHITECTURE.packages()
    direct = {f"{path.parent.parent.name}.{path.parent.name}" for path in packages()
              if path.parents[2] == ROOT}  # fmt: skip
    assert direct <= set(found)
    for name, unit in found.items():
        assert f'<a id="{name.replace(".", "-")}"></a>' in page
        assert unit.about, name
        assert unit.about in page
    assert found["training.checks"].imports["training.evaluation"] >= 3
    assert page.count("<svg") == len(LAYERS)


def test_arrows_of_the_architecture_go_down():
    order = list(ARCHITECTURE.LAYERS)
    for name, unit in ARCHITECTURE.packages().items():
        for other in unit.imports:
            assert order.index(name.split(".")[0]) <= order.index(other.split(".")[0])


class References(HTMLParser):
    """What a built page loads, and what it links to."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.ids: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.ids |= {values["id"] or ""} if "id" in values else set()
        if tag in {"script", "img", "iframe", "source"} and values.get("src"):
            self.loaded.append(values["src"] or "")
        if tag == "link" and values.get("href"):
            self.loaded.append(values["href"] or "")


@pytest.mark.slow
def test_the_site_builds_and_loads_nothing_from_elsewhere(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        foreign = [url for url in References(page).loaded if urlsplit(url).netloc]
        assert foreign == [], page
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert "@import" not in styles
    assert not re.search(r"url\([\"']?(https?:)?//", styles)


@pytest.mark.slow
def test_every_check_is_found_where_its_results_point(site):
    ids = References(site / "reference" / "checks" / "index.html").ids
    assert {check.code.lower() for check in check_catalogue()} <= ids


def slug(heading: str) -> str:
    plain = re.sub(r"[^\w\- ]", "", heading.strip().lower())
    return re.sub(r"[\s]+", "-", plain)


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_relative_links_lead_somewhere(path, generated):
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        parts = urlsplit(link)
        if parts.scheme:
            continue
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        is_page = target.is_relative_to(DOCS)
        page = generated.get(target.relative_to(DOCS).as_posix()) if is_page else None
        assert page is not None or target.exists(), link
        if parts.fragment and target.suffix == ".md":
            page = page or target.read_text(encoding="utf-8")
            assert parts.fragment in {slug(heading) for heading in headings(page)}, link


VAGUE = {"nobody", "whoever", "somebody", "anew", "beside", "told", "tells"}
"""Words of speech about programs; the documentation names the thing that acts."""


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_text_is_plain(path):
    words = re.findall(r"[a-z]+", path.read_text(encoding="utf-8").lower())
    assert set(words) & VAGUE == set()


NAMED = re.compile(r"`((?:[\w.-]+/)+[\w.-]*)`")
"""A path in code font; those with a word in capitals stand for a name of the reader's own."""


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_of_the_repository_that_are_named_exist(path):
    tops = {item.name for item in ROOT.iterdir()} - {"build", "state"}
    for name in NAMED.findall(path.read_text(encoding="utf-8")):
        if name.split("/")[0] in tops and not re.search(r"[A-Z]{4}", name):
            assert (ROOT / name).exists(), name


def test_workflows_call_make_targets_that_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([\w./-]+):", makefile, re.MULTILINE))
    called = {
        target
        for path in (ROOT / ".github" / "workflows").glob("*.yml")
        for step in re.findall(r"run: make (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
        for target in step.split()
    }
    assert {"check", "test", "docs"} <= called <= targets


def test_the_example_of_a_check_has_what_a_check_needs():
    text = (DOCS / "howto" / "add-a-check.md").read_text(encoding="utf-8")
    block = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
    assert set(re.findall(r"def (\w+)\(", block)) == set(Check.__abstractmethods__)
    assert set(re.findall(r"(\w+): ClassVar", block)) == set(Check.__annotations__)


def test_the_example_of_a_feature_can_be_declared():
    text = (DOCS / "howto" / "add-a-feature.md").read_text(encoding="utf-8")
    block = textwrap.dedent(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1])
    feature = eval(block, vars(declare) | {"is_overdue": payments.is_overdue})
    known = {"age", "due_day", "paid_day", "amount", "as_of_day"}
    assert declare.row_fields(feature.value) == known
    assert feature.name.endswith(f"_{feature.window_days}d")
