"""Uploads and forms that are not as they should be: refused, with nothing left behind."""

from __future__ import annotations

import errno
import gzip
import io
import zipfile

import pytest

from serving.run.start_app import start_application, start_desk
from serving.setup import uploads
from tests.serving.pages.test_pages import Reader
from tests.serving.setup.conftest import HOME, Client

GOOD = ("clients.csv", b"id,created_at\nA,2025-01-01\n")


def stored(pages) -> list[str]:
    folder = pages.desk.exports
    return sorted(path.name for path in folder.rglob("*")) if folder.is_dir() else []


def zipped(name: str, content: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return out.getvalue()


BOMB = b"0" * 300
"""Repeated until it counts as a bomb, see `small_limits`."""


@pytest.fixture
def small_limits(monkeypatch):
    """Archives count as bombs from a few bytes on, so that no test unpacks gigabytes."""
    for module in ("serving.setup.uploads", "features.sources.files.formats.zip_files"):
        monkeypatch.setattr(f"{module}.SMALL", 50_000)


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("notes.pdf", b"%PDF", "an ending that is not read"),
        ("old.xls", b"x", "save it as .xlsx"),
        ("x", b"id\n1\n", "an ending that is not read"),
        ("../../x", b"id\n1\n", "an ending that is not read"),
        ("empty.csv", b"", "empty.csv is empty"),
        ("blank.csv", b"\n\n", "it has no header"),
        ("renamed.csv", zipped("a.csv", b"id\n1\n"), "is a workbook or ZIP file"),
        ("plain.csv.gz", b"id\n1\n", "not a readable gzip file"),
        ("cut.csv.gz", gzip.compress(b"id\n1\n" * 99, mtime=0)[:-9], "not a readable gzip file"),
        ("bomb.csv.gz", gzip.compress(BOMB * 1000, mtime=0), "may be a ZIP bomb"),
        ("bomb.zip", zipped("a.csv", BOMB * 1000), "may be a ZIP bomb"),
        ("bomb.xlsx", zipped("xl/workbook.xml", BOMB * 1000), "may be a ZIP bomb"),
        ("nested.zip", zipped("inner.zip", b"PK"), "another archive inside"),
        ("broken.zip", b"PK\x03\x04 nothing", "not a readable ZIP file"),
        ("wrong.parquet", b"id\n1\n", "not a Parquet file"),
        ("binary.csv", b"id\0\0\0\n1\0\n", "NUL bytes"),
    ],
)
def test_an_unusable_file_is_refused_with_the_reason(pages, small_limits, name, content, why):
    answer = pages.upload((name, content))
    assert answer.status_code == 422
    assert "No file was stored" in answer.text
    assert why in Reader(answer.text).text
    assert stored(pages) == []


def test_good_files_are_kept_although_another_is_refused(pages):
    answer = pages.upload(GOOD, ("empty.csv", b""))
    page = Reader(answer.text).text
    assert answer.status_code == 200
    assert "1 file stored, 1 refused" in page
    assert stored(pages) == ["clients.csv"]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("../../clients.csv", "clients.csv"),
        ("..\\..\\clients.csv", "clients.csv"),
        ("/etc/passwd.csv", "passwd.csv"),
        (".hidden.csv", "hidden.csv"),
        ("a*b?[c].csv", "a_b__c_.csv"),
        ("Kunden Übersicht (2).csv", "Kunden Übersicht (2).csv"),
        ("x" * 300 + ".csv", "x" * 97 + ".csv"),
    ],
)
def test_names_are_made_safe(pages, given, kept):
    pages.upload((given, GOOD[1]))
    assert stored(pages) == [kept]
    outside = [path for path in pages.desk.folder.parent.iterdir() if path != pages.desk.folder]
    assert outside == []


def test_a_file_over_the_limit_is_cut_off_and_removed(pages, monkeypatch):
    monkeypatch.setattr(uploads, "MAX_FILE_BYTES", 2**20)
    answer = pages.upload(("big.csv", b"id\n" + b"1\n" * 2**20), GOOD)
    assert "it is larger than 1 MB" in Reader(answer.text).text
    assert stored(pages) == ["clients.csv"]


def test_two_files_of_one_name_are_not_mixed_up(pages):
    answer = pages.upload(GOOD, ("folder/clients.csv", b"id,created_at\nB,2025-01-01\n"))
    assert "two files have this name" in answer.text
    assert (pages.desk.exports / "clients.csv").read_bytes() == GOOD[1]


def test_a_newer_export_replaces_the_file_of_its_name(pages):
    pages.upload(GOOD)
    pages.upload(("clients.csv", b"id,created_at\nB,2026-01-01\n"))
    assert b"B,2026" in (pages.desk.exports / "clients.csv").read_bytes()


def test_an_upload_without_a_file_says_so(pages):
    answer = pages.upload(("", b""))
    assert answer.status_code == 422
    assert "No file was chosen" in Reader(answer.text).text


def raw_form(*parts: tuple[str, str | None, bytes], end: bytes = b"--b--\r\n") -> bytes:
    body = b""
    for name, file, content in parts:
        named = f'; filename="{file}"' if file is not None else ""
        head = f'--b\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'
        body += head.encode() + content + b"\r\n"
    return body + end


@pytest.mark.parametrize("end", [b"", b"--b", b"--b\r\nContent-Disp"])
def test_an_interrupted_upload_stores_nothing(pages, end):
    token = pages.desk.token().encode()
    body = raw_form(("token", None, token), ("files", *GOOD), end=end)
    headers = {**HOME, "Content-Type": "multipart/form-data; boundary=b"}
    answer = pages.client.post("/start/upload", content=body, headers=headers)
    assert answer.status_code == 422
    assert stored(pages) == []


@pytest.mark.parametrize("token", ["", "x" * 43])
def test_files_without_the_token_of_the_page_are_refused(pages, token):
    body = raw_form(("token", None, token.encode()), ("files", *GOOD))
    headers = {**HOME, "Content-Type": "multipart/form-data; boundary=b"}
    answer = pages.client.post("/start/upload", content=body, headers=headers)
    assert answer.status_code == 403
    late = raw_form(("files", *GOOD), ("token", None, pages.desk.token().encode()))
    assert pages.client.post("/start/upload", content=late, headers=headers).status_code == 403
    assert stored(pages) == []


POSTS = ["/start/folder", "/start/mapping", "/start/confirm", "/start/check", "/start/agree",
         "/start/run", "/start/stop", "/start/book"]  # fmt: skip


@pytest.mark.parametrize("path", POSTS)
def test_every_form_needs_its_token_and_its_origin(pages, path):
    assert pages.client.post(path, data={"x": "1"}, headers=HOME).status_code == 403
    fields = {"token": pages.desk.token()}
    for headers in (
        {},
        {"Origin": "http://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", **HOME},
    ):
        assert pages.client.post(path, data=fields, headers=headers).status_code == 403, headers


def test_uploads_of_other_sites_are_refused(pages):
    for path in ("/start/upload", "/start/audit"):
        fields = {"token": pages.desk.token()}
        answer = pages.client.post(
            path, data=fields, files={"files": GOOD}, headers={"Origin": "http://evil.example"}
        )
        assert answer.status_code == 403
    assert stored(pages) == []


def test_the_application_answers_to_this_machine_and_its_name_only(pages, desk):
    named = {**HOME, "Host": "bellwether.example"}
    assert pages.client.get("/start", headers=named).status_code == 421
    forwarded = {**HOME, "X-Forwarded-For": "192.0.2.1"}
    assert pages.client.get("/start", headers=forwarded).status_code == 401
    far = Client(start_application(desk), near="192.0.2.1")
    assert far.get("/start", headers=HOME).status_code == 401
    assert pages.get("/nothing").status_code == 404


def test_the_token_is_random_and_private(desk):
    token = desk.token()
    assert len(token) >= 43
    assert desk.token() == token
    assert (desk.work / "token").stat().st_mode & 0o077 == 0
    assert not desk.has_token("")
    assert not desk.has_token("é")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_said_in_plain_words(pages, monkeypatch, code):
    def full(*_):
        raise OSError(code, "No space left on device", "clients.csv")

    monkeypatch.setattr(uploads, "_store", full)
    answer = pages.upload(GOOD)
    page = Reader(answer.text).text
    assert answer.status_code == 507
    assert "The disk or quota is full" in page
    assert "free disk space" in page
    assert stored(pages) == []


def test_a_folder_that_cannot_be_written_is_said_in_plain_words(uploaded, monkeypatch):
    def refused(*_, **__):
        raise OSError(errno.EACCES, "Permission denied", "company.yaml")

    form = uploaded.form()
    monkeypatch.setattr("features.sources.proposal.company_file._swap", refused)
    answer = uploaded.post("/start/mapping", form)
    assert answer.status_code == 422
    assert "company.yaml cannot be written: Permission denied" in answer.text
    assert not uploaded.desk.company_file.exists()


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    from configs.runtime.errors import ConfigError

    (tmp_path / "acme").write_text("")
    with pytest.raises(ConfigError, match="is a file"):
        start_desk(tmp_path / "acme")


def test_the_root_of_the_environment_replaces_the_others(tmp_path, monkeypatch):
    monkeypatch.setenv("BELLWETHER_START_ROOT", str(tmp_path))
    assert start_desk(tmp_path / "acme").roots == (tmp_path,)
