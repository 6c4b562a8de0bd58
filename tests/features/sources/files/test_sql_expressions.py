"""SQL of the configuration reaches nothing but the rows of its inputs."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

import configs.schema.company
from configs.runtime.errors import BellwetherError, ConfigError, SourceError
from configs.schema.company import load_company
from features.sources.files.sql import open_duckdb
from features.sources.files.sql_expressions import one_expression, one_select

LOG = "customer,day,amount,Account Name\nA1,2024-03-01,10,x\nA2,2024-03-02,7,y\n"
PLAIN = {"account_id": "customer", "occurred_at": "day"}

BREAKS_OUT = [
    "customer) FROM raw.log; COPY (SELECT 42) TO '{evil}'; SELECT (1",
    "customer) FROM raw.log); COPY raw.log TO '{evil}' (FORMAT csv); SELECT * FROM (SELECT (1",
    "customer AS x FROM raw.log UNION SELECT customer",
    "1), (2",
    "a) || (b",
    "customer; SELECT 1",
    "customer, amount",
    "customer FROM log",
    "customer WHERE true",
    "customer ORDER BY 1",
    "DISTINCT customer",
    "*",
    "COLUMNS('c.*')",
    "customer /*",
]
READS = [
    "(SELECT content FROM read_text('{secret}'))",
    "(SELECT any_value(content) FROM read_blob('{secret}'))",
    "(SELECT any_value(file) FROM glob('{folder}/*'))",
    "(FROM '{secret}' LIMIT 1)",
    "(SELECT max(customer) FROM raw.log)",
    "(SELECT value FROM duckdb_settings() LIMIT 1)",
    "(SELECT count(*) FROM information_schema.tables)",
    "(SELECT max(x) FROM query('SELECT 1 AS x'))",
    "getenv('HOME')",
    "GetEnv('HOME')",
    "system.main.getenv('HOME')",
    "coalesce(customer, current_setting('temp_directory'))",
    "list_transform([1], x -> getenv('HOME'))",
    "CASE WHEN true THEN \"read_text\"('{secret}') END",
    "nextval('s')",
    "write_log(customer)",
    "$1",
]
SELECTS = [
    "SELECT content AS account_id, content AS occurred_at FROM read_text('{secret}')",
    "SELECT * FROM '{secret}'",
    "SELECT * FROM \"{secret}\"",
    "SELECT * FROM read_csv('{secret}')",
    "SELECT * FROM 'https://example.com/x.parquet'",
    "SELECT * FROM st_read('{secret}')",
    "SELECT * FROM raw.log",
    "SELECT * FROM bw_rejects_log_scan",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM (SHOW TABLES)",
    "SELECT * FROM (DESCRIBE log)",
    "SELECT customer AS account_id, getenv('HOME') AS occurred_at FROM log",
    "SELECT * REPLACE (read_text(customer) AS customer) FROM log",
    "FROM log LIMIT (SELECT count(*) FROM read_text('{secret}'))",
    "SELECT * FROM (WITH \"{secret}\" AS (SELECT 1) SELECT 1), \"{secret}\"",
    "WITH gone AS (DELETE FROM raw.log RETURNING *) SELECT * FROM gone",
    "WITH more AS (INSERT INTO raw.log VALUES (1) RETURNING *) SELECT * FROM more",
    "INSTALL httpfs",
    "LOAD httpfs",
    "ATTACH '{evil}' AS e",
    "SET threads = 1",
    "PRAGMA database_list",
    "CALL pragma_version()",
    "COPY log TO '{evil}'",
    "EXPORT DATABASE '{folder}/out'",
    "SELECT 1; COPY log TO '{evil}'",
    "SELECT 1) TO '{evil}'; COPY (SELECT 1",
]  # fmt: skip


@pytest.fixture
def places(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.csv").write_text("account_id,occurred_at\nhidden,2024-01-01\n")
    return {
        "folder": outside,
        "secret": outside / "secret.csv",
        "evil": outside / "written.csv",
    }


def refused(small, places, mapping, key):
    """Load a table with a hostile mapping: an error that names the key, and no other file."""
    with pytest.raises(BellwetherError) as caught:
        small.load({"usage_events": None, "log": LOG}, tables={"usage_events": mapping})
    assert isinstance(caught.value, ConfigError | SourceError)
    assert f"tables.usage_events.{key} in company.yaml" in caught.value.where
    assert [path.name for path in places["folder"].iterdir()] == ["secret.csv"]
    assert "hidden" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("text", BREAKS_OUT + READS)
@pytest.mark.parametrize("key", ["columns.user_id", "known_at"])
def test_an_expression_stays_an_expression(small, places, text, key):
    text = text.format(**places)
    extra = {"columns": PLAIN, "known_at": text}
    if key != "known_at":
        extra = {"columns": PLAIN | {"user_id": text}}
    refused(small, places, {"from": "log", **extra}, key)


@pytest.mark.parametrize("text", SELECTS)
def test_sql_selects_from_the_inputs_only(small, places, text):
    refused(small, places, {"sql": text.format(**places)}, "sql")


def test_what_is_refused_is_named(small, places):
    text = f"(SELECT content FROM read_text('{places['secret']}'))"
    said = refused(
        small, places, {"from": "log", "columns": PLAIN | {"user_id": text}}, "columns.user_id"
    )
    assert "the table function read_text() may not be used" in said.what
    assert "`inputs`" in said.fix
    said = refused(small, places, {"sql": "SELECT * FROM logs, log"}, "sql")
    assert 'logs is not one of its inputs, did you mean "log"?' in said.what


GOOD = [
    "Account Name",
    "upper(trim(customer)) -- as the CRM writes it",
    "CASE WHEN amount <> '' THEN 'churned' END",
    "strptime(day, '%Y-%m-%d')",
    "try_strptime(day, ['%d/%m/%Y', '%Y-%m-%d'])::DATE",
    "regexp_extract(customer, '(\\d+)', 1)",
    "list_aggregate([x || '-' for x in string_split(customer, ';')], 'max')",
    "(SELECT max(v) FROM unnest(string_split(customer, ',')) AS t(v))",
    """json_extract_string('{"a": 1}', '$.a')""",
    "timezone('Europe/Berlin', TRY_CAST(day AS TIMESTAMP))",
    "extract(year FROM TRY_CAST(day AS DATE)) || '; -- not a comment'",
    "lag(customer) OVER (ORDER BY day)",
    "$$a 'quoted' text$$",
]


@pytest.mark.parametrize("text", GOOD)
def test_expressions_people_write_are_kept(small, text):
    columns = PLAIN | {"user_id": text}
    info = small.load(
        {"usage_events": None, "log": LOG},
        tables={"usage_events": {"from": "log", "columns": columns}},
    ).tables["usage_events"]
    assert info.rows == 2


GOOD_SELECTS = [
    "SELECT customer AS account_id, day AS occurred_at FROM log; -- every line; all",
    "WITH days AS (SELECT DISTINCT customer, day FROM Log) "
    "SELECT d.customer AS account_id, d.day AS occurred_at FROM days d JOIN log USING (day)",
    "SELECT customer AS account_id, unnest(range(2))::VARCHAR AS user_id, day AS occurred_at "
    "FROM log UNION ALL BY NAME SELECT customer AS account_id, day AS occurred_at FROM log",
    "SELECT customer AS account_id, g::DATE AS occurred_at FROM log, "
    "generate_series(DATE '2024-03-01', DATE '2024-03-03', INTERVAL 1 DAY) AS t(g)",
    "SELECT customer AS account_id, day AS occurred_at FROM log "
    "QUALIFY row_number() OVER (PARTITION BY customer ORDER BY day) = 1 -- the first",
]


@pytest.mark.parametrize("text", GOOD_SELECTS)
def test_selects_people_write_are_kept(small, text):
    tables = {"usage_events": {"sql": text}}
    loaded = small.load({"usage_events": None, "log": LOG}, tables=tables)
    assert loaded.tables["usage_events"].rows >= 2


def test_an_input_that_sql_does_not_name_is_not_read(small, places):
    """Its content would not count among what the table was made from."""
    mapping = {"from": "log", "columns": PLAIN | {"user_id": "(SELECT max(name) FROM accounts)"}}
    refused(small, places, mapping, "columns.user_id")


def test_the_engine_is_locked_by_itself(tmp_path):
    """What the parser let through would still meet a closed engine."""
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    (outside / "secret.txt").write_text("hidden")
    (tmp_path / "input.csv").write_text("a\n1\n")
    with open_duckdb(inside / "w.duckdb", files=[tmp_path / "input.csv"], folders=[inside]) as c:
        assert c.execute(f"FROM read_csv('{tmp_path}/input.csv')").fetchall() == [(1,)]
        c.execute(f"COPY (SELECT 1) TO '{inside}/result.parquet'")
        for statement in (
            f"FROM read_text('{outside}/secret.txt')",
            f"COPY (SELECT 1) TO '{outside}/written.csv'",
            f"COPY (SELECT 1) TO '{inside}/../out/written.csv'",
            f"ATTACH '{outside}/other.duckdb'",
            f"FROM glob('{outside}/*')",
            f"EXPORT DATABASE '{outside}/all'",
            "INSTALL httpfs",
            "LOAD httpfs",
            "FROM 'https://example.com/x.parquet'",
            "SET enable_external_access = true",
            "SET autoinstall_known_extensions = true",
            "SET lock_configuration = false",
            "RESET lock_configuration",
            f"SET temp_directory = '{outside}'",
            "FROM statement",  # a variable of this program
        ):
            with pytest.raises(duckdb.Error):
                c.execute(statement)
    assert [path.name for path in outside.iterdir()] == ["secret.txt"]


def test_a_view_of_a_database_reads_nothing_outside_it(small, tmp_path):
    """The owner of a source database is not the owner of this machine's files."""
    secret = tmp_path / "secret.csv"
    secret.write_text("account_id,occurred_at\nA1,2024-01-01\n")
    file = small.data / "warehouse.duckdb"
    with duckdb.connect(str(file)) as connection:
        connection.execute(f"CREATE VIEW events AS FROM read_csv('{secret}')")
    small.connections["warehouse"] = f"duckdb:///{file}"
    inputs = {"usage_events": {"connection": "warehouse", "table": "events"}}
    with pytest.raises(SourceError, match="disabled by configuration"):
        small.load({"usage_events": None}, inputs=inputs)


def test_texts_are_parsed_without_being_run():
    with open_duckdb() as connection:
        assert one_expression(connection, "1/0", "here") == "(1/0)"
        assert one_select(connection, "SELECT error('run') FROM a;", "here", ["a"]).startswith(
            "SEL"
        )


SHIPPED = sorted(Path(configs.schema.company.__file__).parents[1].glob("companies/*/company.yaml"))


@pytest.mark.parametrize("file", SHIPPED, ids=lambda path: path.parent.name)
def test_the_mappings_of_shipped_companies_pass(file):
    company = load_company(file)
    with open_duckdb() as connection:
        mappings = [(name, part) for name, parts in company.tables.items() for part in parts]
        for table, mapping in mappings:
            for text in [*mapping.columns.values(), mapping.known_at or "1"]:
                one_expression(connection, text, table)
            if mapping.sql is not None:
                one_select(connection, mapping.sql, table, company.inputs)
