"""Digests: every number is that of its account, no more than five lines, safe in every channel."""

from __future__ import annotations

import json
import random
import re
import socketserver
import threading
from dataclasses import replace
from datetime import UTC, date, datetime
from email import message_from_bytes
from email.policy import default as mail_policy

import pytest

from configs.runtime.errors import ConfigError, UnavailableError
from configs.runtime.formatting import day, money, percent
from configs.schema.plays import load_plays
from serving.integrations.digest_messages import (
    Digest,
    Line,
    as_html,
    as_slack,
    as_teams,
    as_text,
    mail,
    send,
)
from serving.pages.portfolio.sums import whole
from serving.workflow.digest import (
    LINES,
    Situation,
    Totals,
    digest_of_leader,
    digest_of_manager,
    digest_of_owner,
    owners_of,
)
from serving.workflow.escalations import Escalation
from serving.workflow.risk_cases import Event, open_risks
from serving.workflow.updates import Update

TODAY = date(2026, 3, 2)
AT = datetime(2026, 2, 20, tzinfo=UTC)
NUMBER = re.compile(r"[€$£]?\d+(?:[,.]\d+)*(?:k|m|bn)?(?:\N{NO-BREAK SPACE}%)?")


@pytest.fixture(scope="module")
def plays(tmp_path_factory):
    return load_plays(tmp_path_factory.mktemp("company"))


def situation(plays, rows, updates=(), histories=None, escalations=(), totals=None) -> Situation:
    now = totals or Totals(0.0, 0.0)
    risks = open_risks(histories or {})
    return Situation(rows, now, totals, updates, risks, escalations, plays, TODAY, "EUR")


def account(name: str, draw: random.Random, owner: str = "ada") -> dict:
    """An account with random values; letters only in its name, so that numbers can be told."""
    days = draw.choice([None, *range(-5, 60)])
    return {
        "account_id": name, "name": f"Name {name}", "owner_id": owner, "owner": owner,
        "status": draw.choice(["scored", "scored", "scored", "closed"]),
        "risk_band": draw.choice(["high", "elevated", "low"]),
        "churn_risk": draw.random(), "arr": draw.choice([None, draw.uniform(10, 5e6)]),
        "expected_arr_lost_91d": draw.uniform(0, 1e5),
        "renews_on": "2026-07-01", "days_to_notice": days,
        "notice_on": None if days is None else date.fromordinal(
            TODAY.toordinal() + days).isoformat(),
        "top_reason": draw.choice([None, "Urgent tickets up"]),
        "expansion_is_eligible": draw.choice([True, False, None]),
        "expansion_band": draw.choice(["high", "low"]),
        "expansion_propensity": draw.random(),
        "expansion_arr_expected": draw.choice([None, draw.uniform(0, 1e5)]),
        "expansion_until": "2026-06-01", "expansion_evidence": None,
    }  # fmt: skip


def letters(n: int) -> str:
    return "".join(chr(97 + int(digit)) for digit in str(n))


def test_every_number_of_ten_thousand_digests_is_that_of_its_account(plays):
    draw = random.Random(7)
    for number in range(10_000):
        rows = [account(letters(n), draw) for n in range(draw.randrange(1, 9))]
        by_id = {row["account_id"]: row for row in rows}
        updates = [
            Update(
                row["account_id"], row["name"],
                f"risk from {percent(0.5)} to {percent(row['churn_risk'])}",
                draw.choice(["worse", "notice"]), 1.0,
            )
            for row in rows if draw.random() < 0.5
        ]  # fmt: skip
        made = digest_of_owner(situation(plays, rows, updates), "ada")
        assert len(made.lines) <= LINES
        for line in made.lines:
            row = by_id[line.account_id]
            allowed = " ".join([
                money(row["arr"], "EUR"), percent(row["churn_risk"]), percent(0.5),
                percent(row["expansion_propensity"]), day(row["renews_on"]),
                day(row["notice_on"]) if row["notice_on"] else "", day(row["expansion_until"]),
            ])  # fmt: skip
            assert set(NUMBER.findall(line.text)) <= set(NUMBER.findall(allowed)), (number, line)


def test_the_lines_come_in_order_and_the_rest_is_counted(plays):
    draw = random.Random(1)
    base = account("base", draw) | {"status": "scored", "risk_band": "high", "arr": 1000.0}
    quiet = {"days_to_notice": None, "expansion_is_eligible": None, "top_reason": None}
    rows = [base | quiet | {"account_id": letters(n), "name": letters(n)} for n in range(8)]
    rows[5] |= {"days_to_notice": 3, "notice_on": "2026-03-05"}
    rows[6] |= {"expansion_is_eligible": True, "expansion_band": "high"}
    histories = {
        rows[4]["account_id"]: [
            Event("1", rows[4]["account_id"], AT, "x", "opened", "open"),
            Event("2", rows[4]["account_id"], AT, "x", "moved", "plan", on=date(2026, 2, 25)),
        ]
    }
    updates = [Update(rows[n]["account_id"], rows[n]["name"], "risk up", "worse", 1.0)
               for n in range(3)]  # fmt: skip
    updates.append(Update(rows[3]["account_id"], rows[3]["name"], "x", "notice", 1.0))
    made = digest_of_owner(situation(plays, rows, updates, histories), "ada")
    assert [line.kind for line in made.lines] == ["notice", "overdue", "deadline", "rise", "growth"]
    assert made.n_more == 2
    assert "is 5 days late" in made.lines[1].text
    urgent = digest_of_owner(situation(plays, rows, updates, histories), "ada", urgent_only=True)
    assert [line.kind for line in urgent.lines] == ["notice"]
    assert digest_of_owner(situation(plays, rows, updates, histories), "bob").lines == ()
    assert owners_of([*rows, rows[0] | {"owner_id": "zed", "status": "closed"}]) == ["ada"]


def test_a_planned_account_is_no_deadline(plays):
    row = account("a", random.Random(2)) | {
        "status": "scored", "risk_band": "high", "days_to_notice": 3, "notice_on": "2026-03-05",
        "expansion_is_eligible": None,
    }  # fmt: skip
    plan = [Event("1", "a", AT, "x", "opened", "open"),
            Event("2", "a", AT, "x", "moved", "plan", on=date(2026, 3, 4))]  # fmt: skip
    assert [line.kind for line in digest_of_owner(situation(plays, [row]), "ada").lines] == [
        "deadline"
    ]
    assert digest_of_owner(situation(plays, [row], histories={"a": plan}), "ada").lines == ()


def test_managers_get_the_escalations_of_their_team(plays):
    fields = dict.fromkeys(Escalation.__dataclass_fields__)
    mine = Escalation(**fields | {
        "account_id": "A", "name": "Acme", "owner": "Ada", "manager_id": "bo", "title": "Late",
        "arr": 50_000.0, "overdue_days": 3,
    })  # fmt: skip
    found = situation(plays, [], escalations=[mine, replace(mine, manager_id="else")])
    made = digest_of_manager(found, "bo")
    assert [line.text for line in made.lines] == ["Acme (Ada): Late, €50k ARR; plan 3 days late"]


def test_leaders_get_the_totals_of_the_portfolio(plays, live):
    table = live.book.table
    rows = table.to_pylist()
    total = whole(table)
    totals = Totals(total.lost_91d, total.arr_high)
    made = digest_of_leader(situation(plays, rows, totals=totals), "lea")
    assert made.lines[0].text == (
        f"Expected loss within 91 days: {money(total.lost_91d, 'EUR')}"
        f" (before: {money(total.lost_91d, 'EUR')})"
    )
    assert money(total.arr_high, "EUR") in made.lines[1].text


HOSTILE = Digest(
    "ada", "csm", "<b>&\r\nBcc: all@example.org",
    (Line("rise", "A", "<script>x</script> & [link](http://evil.example)", "/accounts/A%2F1"),), 2,
)  # fmt: skip
HOME = "https://cs.example.org"


def test_names_are_text_in_every_channel():
    page = as_html(HOSTILE, HOME)
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert f'href="{HOME}/accounts/A%2F1"' in page
    slack = as_slack(HOSTILE, HOME)
    assert slack["blocks"][0]["text"]["text"].startswith(
        f"• <{HOME}/accounts/A%2F1|&lt;script&gt;x&lt;/script&gt; &amp; [link]"
    )
    card = json.dumps(as_teams(HOSTILE, HOME))
    assert "\\\\[link\\\\]\\\\(http://evil.example\\\\)" in card
    assert "and 2 more" in as_text(HOSTILE, HOME)
    made = mail(HOSTILE, "b@example.org", "ada@example.org", HOME)
    assert made["Bcc"] is None
    assert made["Subject"] == "Bellwether: <b>& Bcc: all@example.org"


class Sink(socketserver.StreamRequestHandler):
    """As much of SMTP as a client needs to hand over mails."""

    def handle(self) -> None:
        self.say("220 sink")
        while line := self.rfile.readline().decode().strip():
            if line.upper().startswith(("EHLO", "HELO")):
                self.say("250 sink")
            elif line.upper() == "DATA":
                self.say("354 go on")
                parts = []
                while (part := self.rfile.readline()) != b".\r\n":
                    parts.append(part[1:] if part.startswith(b"..") else part)
                self.server.mails.append(b"".join(parts))
                self.say("250 kept")
            elif line.upper() == "QUIT":
                self.say("221 bye")
                return
            else:
                self.say("250 ok")

    def say(self, words: str) -> None:
        self.wfile.write(f"{words}\r\n".encode())


@pytest.fixture
def sink():
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Sink)
    server.mails = []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def test_mails_reach_the_server_with_text_and_html(sink):
    address = f"smtp://127.0.0.1:{sink.server_address[1]}"
    send([mail(HOSTILE, "b@example.org", f"{name}@example.org", HOME) for name in "ab"], address)
    first, second = (message_from_bytes(raw, policy=mail_policy) for raw in sink.mails)
    assert (first["To"], second["To"]) == ("a@example.org", "b@example.org")
    text, page = (first.get_body([kind]).get_content() for kind in ("plain", "html"))
    assert f"{HOME}/accounts/A%2F1" in text
    assert "&lt;script&gt;" in page


def test_a_password_is_never_sent_in_the_clear(sink):
    address = f"smtp://ada:secret@127.0.0.1:{sink.server_address[1]}"
    with pytest.raises(ConfigError, match="no encryption") as told:
        send([mail(HOSTILE, "b@example.org", "a@example.org", HOME)], address)
    assert "secret" not in str(told.value)
    assert sink.mails == []


@pytest.mark.parametrize("address", ["http://127.0.0.1", "smtp://", "mail.example.org"])
def test_a_wrong_address_is_told(address):
    with pytest.raises(ConfigError, match="mail server's address is wrong"):
        send([], address)


def test_a_server_that_is_down_is_told_without_the_password():
    with pytest.raises(UnavailableError, match="did not take the digest") as told:
        send([], "smtp://ada:secret@127.0.0.1:9")
    assert "secret" not in str(told.value)
