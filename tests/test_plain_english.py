"""Texts in plain English: idioms that slow a reader down are banned from texts, code and docs.

`CLEAN` lists the files and folders that are checked. Add a package when its texts are clean.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

CLEAN = (
    "configs",
    "features",
    "training",
    "serving",
    "bellwether.py",
    "README.md",
    "docs",
    "CONTRIBUTING.md",
    "SECURITY.md",
)
"""Files and folders whose texts are checked: Python, templates and Markdown."""

IDIOMS = re.compile(
    r"\b(?:nobody|no one|whoever|whomever|somebody|someone|everybody|anew|beside|"
    r"tells?|told|telling|stands?|stood|by lot|dearest|earns? its place|"
    r"in 100|of 100|in 1,000|\d+ in 10|out of 100|at (?:its|their) word|on its own account|"
    r"the (?:wrong|other) way round|cannot be told|set beforehand|learnt)\b",
    re.IGNORECASE,
)
"""Persons where programs act, old words, and numbers that should be percentages."""

ALLOWED = {
    "features/signals/sentiment.py": {"nobody"},  # words of customers
    "features/simulator/tables/contacts.py": {"nobody"},  # words of simulated customers
    "serving/monitoring/monitor.py": {"tell"},  # the stored verdict "too few to tell"
    "serving/monitoring/report.py": {"tell"},
    "training/evaluation/drift.py": {"tell"},
    "training/report/limits.py": {"of 100"},
    "training/tabular/column_kinds.py": {"told"},  # a field of saved label contracts
}
"""Per file, idioms that are used correctly there or are not ours to change."""

QUESTION = re.compile(r"(?:What|Who|Whose|Where|When|Why|How|Which)\b")
"""Openings of docstrings that put a question in place of a noun."""

DEFINITIONS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def files(*kinds: str) -> list[Path]:
    """Return the checked files of some kinds."""
    found = [ROOT / name for name in CLEAN]
    inside = [path for item in found if item.is_dir() for path in item.rglob("*")]
    return sorted(path for path in (*found, *inside) if path.suffix in kinds)


def documentation(tree: ast.Module) -> set[ast.Constant]:
    """Return the docstrings: of modules, classes and functions, and below constants."""
    return {
        statement.value
        for node in ast.walk(tree)
        if isinstance(node, DEFINITIONS)
        for statement in node.body
        if isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    }


def texts(source: str) -> Iterator[tuple[int, str]]:
    """Yield line and text of every string that can reach a user: sentences, not single words."""
    tree = ast.parse(source)
    hidden = documentation(tree)
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if is_text and node not in hidden and " " in node.value.strip():
            yield node.lineno, node.value


def comments(source: str) -> Iterator[tuple[int, str]]:
    """Yield line and text of every docstring, without its examples, and of every comment."""
    for node in documentation(ast.parse(source)):
        lines = str(node.value).splitlines()
        kept = [line for line in lines if not line.strip().startswith((">>>", "..."))]
        yield node.lineno, "\n".join(kept)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def template_text(source: str) -> str:
    """Return the text of a template with the strings of its expressions, without tags."""
    without_tags = re.sub(r"<style.*?</style>|<[^<>{}]*>", " ", source, flags=re.DOTALL)
    return re.sub(r"\{#.*?#\}", " ", without_tags, flags=re.DOTALL)


def idioms(path: Path, text: str) -> list[str]:
    """Return the idioms in a text that its file is not allowed to use."""
    allowed = ALLOWED.get(path.relative_to(ROOT).as_posix(), set())
    return [found for found in IDIOMS.findall(text) if found.lower() not in allowed]


def places(found: Iterator[tuple[int, str]], path: Path) -> list[str]:
    """Return ``file:line: idiom`` for every idiom in numbered texts."""
    name = path.relative_to(ROOT)
    return [f"{name}:{line}: {word}" for line, text in found for word in idioms(path, text)]


def test_the_scope_exists():
    assert [name for name in CLEAN if not (ROOT / name).exists()] == []
    assert len(files(".py")) > 40
    assert len(files(".j2")) > 10


@pytest.mark.parametrize("path", files(".py"), ids=lambda path: str(path.relative_to(ROOT)))
def test_texts_for_users(path):
    assert places(texts(path.read_text(encoding="utf-8")), path) == []


@pytest.mark.parametrize(
    "path", files(".j2", ".html", ".md"), ids=lambda path: str(path.relative_to(ROOT))
)
def test_templates_and_docs(path):
    lines = template_text(path.read_text(encoding="utf-8")).splitlines()
    assert places(enumerate(lines, 1), path) == []


@pytest.mark.parametrize("path", files(".py"), ids=lambda path: str(path.relative_to(ROOT)))
def test_docstrings_and_comments(path):
    assert places(comments(path.read_text(encoding="utf-8")), path) == []


@pytest.mark.parametrize("path", files(".py"), ids=lambda path: str(path.relative_to(ROOT)))
def test_docstrings_name_a_thing_first(path):
    found = documentation(ast.parse(path.read_text(encoding="utf-8")))
    assert [str(item.value)[:60] for item in found if QUESTION.match(str(item.value))] == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('"""Nobody."""\nx = "nobody is let in"', ["nobody"]),
        ('x = f"{n} in 100 such accounts"', ["in 100"]),
        ('x = {"told": 1}', []),
        ('raise E(f"{n} accounts stand on one level")', ["stand"]),
    ],
)
def test_idioms_in_strings_are_found(source, found):
    path = ROOT / "x.py"
    assert [word.strip() for _, text in texts(source) for word in idioms(path, text)] == found


def test_idioms_in_docstrings_comments_and_templates_are_found():
    path = ROOT / "x.py"
    source = 'X = 1\n"""Kept for whoever asks."""\n# nobody reads this\n'
    assert [word for _, text in comments(source) for word in idioms(path, text)] == [
        "whoever",
        "nobody",
    ]
    page = '<p class="beside">{{ "nobody" if x else "a" }}</p>'
    assert idioms(path, template_text(page)) == ["nobody"]
