"""Who comes in, what they may do and see: keys, tokens, the proxy, and the open door."""

from __future__ import annotations

import base64
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from configs.runtime.errors import ConfigError, StateError
from configs.runtime.state_directory import State
from configs.schema.company import Access
from configs.schema.settings import SignIn
from configs.schema.workspace import Environment, Workspace
from serving.auth.api_keys import ApiKeys, Key, KeyStore
from serving.auth.authenticate import Authenticator, is_public
from serving.auth.oidc import SignInSessions
from serving.auth.permissions import LOCAL, SCOPES, Caller
from serving.http.problems import ProblemError
from serving.online.server_state import ServerState
from serving.run.servers import serve_command

NOW = datetime(2026, 3, 2, tzinfo=UTC)
PROXY = "s3cret-of-the-proxy-which-is-long"
MANAGERS = {"csm-0": "boss", "csm-1": "boss", "csm-2": "other"}


def signing_in(secret: str, issuer: str, jwks: str) -> SignIn:
    return SignIn(
        proxy_secret=secret, oidc_issuer=issuer, oidc_audience="bellwether", oidc_jwks=jwks
    )


@pytest.fixture
def store(world, tmp_path, url) -> Iterator[KeyStore]:
    places = Environment(ledger_url=url or None)
    opened = KeyStore(
        Workspace(world.workspace.company, tmp_path, tmp_path, State(tmp_path), places)
    )
    yield opened
    opened.close()


def refused(store: KeyStore, key: str, now: datetime) -> str:
    with pytest.raises(ProblemError) as caught:
        ApiKeys(store.every()).caller(key, now)
    assert caught.value.kind.status == 401
    return caught.value.what


def test_a_key_is_shown_once_and_kept_hashed(store):
    key = store.create("crm", ["score", "read"], NOW, 30)
    prefix, key_id, secret = key.split("_", 2)
    assert (prefix, len(secret)) == ("bw", 43)
    kept = store.every()
    assert [(item.key_id, item.scopes) for item in kept] == [(key_id, "read score")]
    assert secret not in repr(kept)
    caller = ApiKeys(kept).caller(key, NOW)
    assert caller.scopes == {"read", "score"}
    assert secret not in repr(caller)


def test_a_wrong_an_unknown_and_an_expired_key_are_refused(store):
    key = store.create("crm", ["read"], NOW, 30)
    assert "unknown API key" in refused(store, key[:-2] + "zz", NOW)
    assert "unknown API key" in refused(store, "bw_nobody_x", NOW)
    assert "unknown API key" in refused(store, "bw_", NOW)
    assert "expired at" in refused(store, key, NOW + timedelta(days=31))


def test_a_rotated_key_works_beside_its_successor_for_a_while(store):
    old = store.create("crm", ["read"], NOW, 30)
    new = store.rotate(old, NOW + timedelta(days=1), timedelta(hours=2))
    ring = ApiKeys(store.every())
    soon, later = NOW + timedelta(days=1, hours=1), NOW + timedelta(days=1, hours=3)
    assert ring.caller(old, soon).scopes == ring.caller(new, soon).scopes == {"read"}
    refused(store, old, later)
    assert ring.caller(new, later)


def test_a_revoked_key_ends_at_once_and_the_door_stays_shut(store):
    key = store.create("crm", ["read"], NOW, 30)
    store.revoke(key.split("_")[1], NOW)
    refused(store, key, NOW)
    assert not ApiKeys(store.every()).is_empty
    with pytest.raises(StateError, match="expired or revoked"):
        store.revoke(key, NOW)
    with pytest.raises(StateError, match="does not exist"):
        store.rotate("nobody", NOW)


def test_a_scope_nobody_knows_gets_a_hint(store):
    with pytest.raises(ConfigError, match='did you mean "score"'):
        store.create("crm", ["scor"], NOW, 30)


# ---------------------------------------------------------------- people


@pytest.fixture(scope="module")
def private_key():
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def jwks_of(private_key) -> dict:
    plain = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(private_key.public_key()))
    return {"keys": [{**plain, "kid": "k1", "alg": "RS256", "use": "sig"}]}


@pytest.fixture(scope="module")
def issuer(private_key) -> Iterator[str]:
    """An identity provider on the loopback interface."""
    body = json.dumps(jwks_of(private_key)).encode()

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            is_moved = self.path == "/moved"
            self.send_response(302 if is_moved else 200)
            if is_moved:
                self.send_header("Location", "/jwks")
            self.end_headers()
            self.wfile.write(b"[]" if self.path == "/list" else body)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def people(issuer) -> SignInSessions:
    access = Access(
        groups={"cs": "csm", "cs-leads": "leader"},
        people={"bo@x": {"role": "manager", "owner_id": "boss"}},
    )
    made = SignInSessions(access, signing_in(PROXY, issuer, f"{issuer}/jwks"))
    assert made.refresh(0.0) == ""
    return made


def token(private_key, issuer, *, kid="k1", algorithm="RS256", key=None, **claims) -> str:
    now = datetime.now(UTC)
    told = {
        "iss": issuer,
        "aud": "bellwether",
        "exp": now + timedelta(minutes=5),
        "email": "csm-1",
        "groups": ["cs"],
        **claims,
    }
    whole = {name: value for name, value in told.items() if value is not None}
    return jwt.encode(whole, key or private_key, algorithm=algorithm, headers={"kid": kid})


def test_a_token_names_a_person_and_a_role(people, private_key, issuer):
    ada = people.of_token(token(private_key, issuer))
    assert (ada.role, ada.owner_id) == ("csm", "csm-1")
    boss = people.of_token(token(private_key, issuer, email="bo@x", groups=None))
    assert (boss.role, boss.owner_id) == ("manager", "boss")
    most = people.of_token(token(private_key, issuer, groups=["cs", "cs-leads"]))
    assert most.role == "leader"
    late = token(private_key, issuer, exp=datetime.now(UTC) - timedelta(seconds=30))
    assert people.of_token(late), "clocks may differ by a minute"


def test_tokens_that_are_not_for_us_are_refused(people, private_key, issuer):
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    bad = {
        "of another": token(stranger, issuer),
        "signed with an unknown key": token(private_key, issuer, kid="k2"),
        "expired": token(private_key, issuer, exp=datetime.now(UTC) - timedelta(minutes=5)),
        "without end": token(private_key, issuer, exp=None),
        "for another": token(private_key, issuer, aud="other"),
        "by another": token(private_key, "https://elsewhere"),
        "of tomorrow": token(private_key, issuer, nbf=datetime.now(UTC) + timedelta(hours=1)),
        "nameless": token(private_key, issuer, email=None),
        "with a shared secret": token(private_key, issuer, key="x" * 40, algorithm="HS256"),
        "none": "eyJhbGciOiJub25lIn0.e30.",
        "rubbish": "rubbish",
    }
    for what, text in bad.items():
        with pytest.raises(ProblemError) as caught:
            people.of_token(text)
        assert caught.value.kind.status == 401, what
        assert text not in caught.value.what
    with pytest.raises(ProblemError) as caught:
        people.of_token(token(private_key, issuer, groups=["sales"]))
    assert caught.value.kind.status == 403


def said_of(people, text) -> tuple[int, str]:
    with pytest.raises(ProblemError) as caught:
        people.of_token(text)
    assert text not in caught.value.what
    return caught.value.kind.status, caught.value.what


@pytest.mark.parametrize("value", [False, "false", "", "no", 0, 1.5, None, [], [True], {}])
def test_an_address_that_is_not_verified_names_nobody(people, private_key, issuer, value):
    now = datetime.now(UTC) + timedelta(minutes=5)
    claims = {"iss": issuer, "aud": "bellwether", "exp": now, "email": "csm-1", "groups": ["cs"]}
    text = jwt.encode(
        claims | {"email_verified": value}, private_key, "RS256", headers={"kid": "k1"}
    )
    assert said_of(people, text) == (401, "the token's e-mail address is not verified")


def test_a_verified_address_does_and_a_missing_word_is_the_companys_to_decide(
    people, private_key, issuer
):
    for value in (True, "true"):
        assert people.of_token(token(private_key, issuer, email_verified=value)).role == "csm"
    assert people.of_token(token(private_key, issuer)).role == "csm"
    access = Access(groups={"cs": "csm"}, require_email_verified=True)
    strict = SignInSessions(access, signing_in("", issuer, f"{issuer}/jwks"))
    strict.refresh(0.0)
    assert said_of(strict, token(private_key, issuer))[0] == 401
    assert strict.of_token(token(private_key, issuer, email_verified=True)).role == "csm"


def test_another_claim_than_an_address_needs_no_verification(private_key, issuer):
    access = Access(groups={"cs": "csm"}, user_claim="sub")
    by_subject = SignInSessions(access, signing_in("", issuer, f"{issuer}/jwks"))
    by_subject.refresh(0.0)
    text = token(private_key, issuer, sub="u-17", email_verified=False)
    assert by_subject.of_token(text).owner_id == "u-17"


@pytest.mark.parametrize("groups", ["cs", ["cs"], ["sales", "cs"]])
def test_one_group_may_come_as_a_text(people, private_key, issuer, groups):
    assert people.of_token(token(private_key, issuer, groups=groups)).role == "csm"


@pytest.mark.parametrize(
    "groups", [7, 1.5, True, {"cs": True}, [["cs"]], [{"name": "cs"}], ["cs", None], ["cs", 7]]
)
def test_groups_of_another_type_are_refused_with_a_reason(people, private_key, issuer, groups):
    status, words = said_of(people, token(private_key, issuer, groups=groups))
    assert (status, "claim groups" in words) == (403, True)


@pytest.mark.parametrize("groups", [[], "", 0, "cs,cs-leads", "CS"])
def test_no_group_is_no_role(people, private_key, issuer, groups):
    assert said_of(people, token(private_key, issuer, groups=groups))[0] == 403


@pytest.mark.parametrize(
    "claims",
    [
        {"email": ["csm-1"]},
        {"email": {"value": "csm-1"}},
        {"email": 7},
        {"email": "  "},
        {"exp": "soon"},
        {"exp": [9999999999]},
        {"exp": {"at": 1}},
        {"exp": float("inf")},
        {"exp": float("nan")},
        {"nbf": ["now"]},
        {"nbf": float("inf")},
        {"iat": {"at": 1}},
        {"iat": float("inf")},
        {"aud": []},
        {"aud": ["other"]},
        {"aud": [["bellwether"]]},
        {"aud": {"bellwether": 1}},
        {"aud": 7},
        {"iss": ["elsewhere"]},
        {"iss": 7},
        {"iss": {}},
        {"sub": ["csm-1"]},
        {"jti": 7},
    ],
)
def test_claims_of_odd_types_are_refused_not_failed_over(private_key, issuer, people, claims):
    now = datetime.now(UTC) + timedelta(minutes=5)
    told = {"iss": issuer, "aud": "bellwether", "exp": now.timestamp(), "email": "csm-1"}
    body = json.dumps(told | {"groups": ["cs"]} | claims).encode()
    text = jwt.PyJWS().encode(body, private_key, "RS256", headers={"kid": "k1"})
    assert said_of(people, text)[0] == 401


def test_an_audience_among_several_is_ours(people, private_key, issuer):
    assert people.of_token(token(private_key, issuer, aud=["other", "bellwether"])).role == "csm"


@pytest.mark.parametrize("payload", [b"[]", b"7", b"null", b'"x"', b"{", b"\xff", b"[" * 20_000])
def test_a_payload_that_is_no_object_is_refused(people, private_key, payload):
    text = jwt.PyJWS().encode(payload, private_key, "RS256", headers={"kid": "k1"})
    assert said_of(people, text)[0] == 401


@pytest.mark.parametrize(
    "head",
    [
        b"[]",
        b"{",
        b"\xff",
        b'{"a":' * 20_000,
        b'{"alg": "RS256", "kid": ["k1"]}',
        b'{"alg": "RS256", "kid": {"k1": 1}}',
        b'{"alg": "RS256", "kid": 7}',
        b'{"alg": ["RS256"], "kid": "k1"}',
        b'{"alg": "ES256", "kid": "k1"}',
        b'{"alg": "EdDSA", "kid": "k1"}',
        b'{"alg": "HS256", "kid": "k1"}',
        b'{"alg": "none", "kid": "k1"}',
        b'{"alg": null, "kid": "k1"}',
        b'{"alg": "RS256", "kid": "k1", "crit": "x"}',
        b'{"alg": "RS256", "kid": "k1", "crit": ["x"]}',
        b'{"alg": "RS256", "kid": "k1", "b64": false}',
    ],
)
def test_a_header_of_odd_types_is_refused(people, private_key, issuer, head):
    _, body, signature = token(private_key, issuer).split(".")
    text = f"{base64.urlsafe_b64encode(head).decode().rstrip('=')}.{body}.{signature}"
    assert said_of(people, text)[0] == 401


def test_an_unknown_signing_key_is_looked_for_but_not_at_every_request(people, private_key, issuer):
    with pytest.raises(ProblemError):
        people.of_token(token(private_key, issuer, kid="of tomorrow"))
    assert people.refresh(1.0) == ""
    assert people._looked_at == 0.0
    assert people.refresh(20.0) == ""
    assert people._looked_at == 20.0


@pytest.mark.parametrize("path", ["moved", "list"])
def test_signing_keys_that_are_moved_or_malformed_are_not_trusted(private_key, issuer, path):
    made = SignInSessions(Access(), signing_in("", issuer, f"{issuer}/{path}"))
    assert "cannot be read" in made.refresh(0.0)
    assert said_of(made, token(private_key, issuer))[0] == 401


def test_signing_keys_come_from_a_file_too(private_key, issuer, tmp_path):
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps(jwks_of(private_key)))
    made = SignInSessions(Access(groups={"cs": "csm"}), signing_in("", issuer, str(path)))
    assert made.refresh(0.0) == ""
    assert made.of_token(token(private_key, issuer)).role == "csm"
    gone = SignInSessions(Access(), signing_in("", issuer, str(tmp_path / "none.json")))
    assert "cannot be read" in gone.refresh(0.0)
    with pytest.raises(ConfigError):
        SignInSessions(Access(), signing_in("", issuer, "http://keys.example/jwks"))


def test_half_told_sign_in_is_refused():
    with pytest.raises(ConfigError, match="BELLWETHER_OIDC_AUDIENCE"):
        SignIn.from_environment({"BELLWETHER_OIDC_ISSUER": "x", "BELLWETHER_OIDC_JWKS": "y"})
    with pytest.raises(ConfigError, match="6 characters"):
        SignIn.from_environment({"BELLWETHER_PROXY_SECRET": "secret"})
    assert PROXY not in repr(SignIn(proxy_secret=PROXY))


# ---------------------------------------------------------------- through the service


@pytest.fixture
def guarded(live, people, world) -> Iterator[tuple[ServerState, dict[str, str]]]:
    """The service with keys and sign-in, and one key per scope."""
    store = KeyStore(replace(world.workspace, state=State(world.workspace.state.root / "guard")))
    now = datetime.now(UTC)
    keys = {scope: store.create(scope, [scope], now, 1) for scope in SCOPES}
    before = live._door, live.managers
    live._door, live.managers = Authenticator(ApiKeys(store.every()), people), MANAGERS
    yield live, keys
    live._door, live.managers = before
    store.close()


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_without_a_key_nothing_is_told_but_what_is_everybodys(guarded, client):
    document = client.get("/openapi.json").json()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            answer = client.request(method.upper(), path.replace("{", "").replace("}", ""))
            if is_public(path):
                assert operation["security"] == []
                assert answer.status_code in {200, 404}, path
            else:
                assert operation["security"], path
                assert answer.json()["type"] == "/v1/problems/unauthenticated", path
                assert answer.headers["www-authenticate"].startswith("Bearer")
    for page in (
        "/",
        "/portfolio",
        "/portfolio.json",
        "/book.json",
        "/book.csv",
        "/book.xlsx",
        "/changes",
        "/search?q=a",
        "/search.json?q=a",
        "/data",
        "/me",
        "/accounts/A-0030",
        "/reading",
        "/report",
        "/audits",
        "/audits/any",
    ):
        assert client.get(page).status_code == 401, page
    assert client.get("/nothing").status_code == 401
    assert client.get("/metrics").status_code == 401
    for path in ("/openapi.json", "/v1/problems", "/static/style.css"):
        assert client.get(path).status_code == 200, path


def test_a_key_may_do_what_its_scopes_say(guarded, client):
    _, keys = guarded
    wanted = {"/v1/release": "read", "/v1/accounts/A-0030/score": "score", "/metrics": "metrics"}
    for path, scope in wanted.items():
        for name, key in keys.items():
            is_right = name in {scope, "admin"}
            assert client.get(path, headers=bearer(key)).status_code == (200 if is_right else 403)
    assert client.get("/v1/release", headers={"X-API-Key": keys["read"]}).status_code == 200
    assert client.get("/v1/health", headers=bearer(keys["metrics"])).json()["access"] == "closed"


def test_a_csm_sees_their_own_accounts_and_pooled_ones(guarded, client, private_key, issuer):
    mine = bearer(token(private_key, issuer))
    rows = client.get("/v1/scores?limit=1000", headers=mine).json()["results"]
    assert {row["owner_id"] for row in rows} == {"csm-1"}
    theirs = rows[0]["account_id"]
    own = client.get(f"/v1/accounts/{theirs}/score", headers=mine)
    assert own.status_code == 200
    other = client.get("/v1/accounts/A-0030/score", headers=mine)
    assert other.json()["type"] == "/v1/problems/unknown-account"
    both = client.post("/v1/scores", json={"account_ids": [theirs, "A-0030"]}, headers=mine)
    assert both.json()["counts"] == {"scored": 1, "unknown_account": 1}
    assert client.get("/accounts/A-0030", headers=mine).status_code == 404
    assert "A-0030" not in client.get("/book.csv", headers=mine).text
    for path in ("/report", "/audits", "/audits/any", "/data", "/data.json", "/data.csv"):
        assert client.get(path, headers=mine).status_code == 403
    assert client.get("/search.json?q=A-0030", headers=mine).json() == {"rows": []}
    assert client.get("/search?q=A-0030", headers=mine).headers["location"].startswith("/?q=")
    everything = client.get("/book.json?status=any", headers=mine).json()["rows"]
    visible = {row["account_id"] for row in everything}
    told = client.get("/changes.json?since=week", headers=mine).json()["rows"]
    assert {row["account_id"] for row in told} <= visible
    me = client.get("/me.json", headers=mine).json()
    assert (me["role"], me["owner_id"]) == ("csm", "csm-1")
    assert len(me["owners"]) == 1
    assert {item["scope"] for item in me["may"]} == {"read", "score", "write"}
    assert "Signed in as" in client.get("/me", headers=mine).text
    assert "csm-1" in client.get("/book.json", headers=mine).text


def test_a_manager_sees_the_team_and_a_leader_everybody(guarded, client, private_key, issuer):
    def owners(**claims) -> set[str]:
        headers = bearer(token(private_key, issuer, **claims))
        rows = client.get("/v1/scores?limit=1000", headers=headers).json()["results"]
        return {row["owner_id"] for row in rows}

    assert owners(email="bo@x") == {"csm-0", "csm-1"}
    assert owners(groups=["cs-leads"]) == {"csm-0", "csm-1", "csm-2", "csm-3"}


def test_the_trusted_proxy_names_people(guarded, client):
    told = {"X-Forwarded-Email": "csm-2", "X-Forwarded-Groups": "sales, cs"}
    good = client.get("/v1/scores", headers={**told, "X-Bellwether-Proxy-Secret": PROXY})
    assert {row["owner_id"] for row in good.json()["results"]} == {"csm-2"}
    for secret in ("", "wrong", "ключ".encode()):
        wrong = client.get("/v1/scores", headers={**told, "X-Bellwether-Proxy-Secret": secret})
        assert wrong.status_code == 401
    assert client.get("/v1/scores", headers=told).status_code == 401
    nobody = client.get("/v1/scores", headers={"X-Bellwether-Proxy-Secret": PROXY})
    assert nobody.status_code == 401


def repeated(name, *values):
    return [(name, value) for value in values]


@pytest.mark.parametrize(
    "extra",
    [
        repeated("X-Forwarded-Email", "csm-2", "csm-1"),
        repeated("X-Forwarded-Email", "csm-1", "csm-1"),
        [("X-Forwarded-Email", "csm-2"), ("x-forwarded-email", "csm-1")],
        [("X-Forwarded-Email", "csm-2, csm-1")],
        [("X-Forwarded-Email", "csm-1"), *repeated("X-Forwarded-Groups", "cs-leads", "cs")],
        [("X-Forwarded-Email", "csm-1"), ("X-Bellwether-Proxy-Secret", PROXY)],
        [("X-Forwarded-Email", "csm-1"), ("X-Bellwether-Proxy-Secret", "guess")],
    ],
)
def test_a_header_that_names_somebody_comes_once(guarded, client, extra):
    """A proxy that adds its header beside the caller's own leaves both."""
    sent = [("X-Bellwether-Proxy-Secret", PROXY), ("X-Forwarded-Groups", "cs"), *extra]
    if sum(name == "X-Forwarded-Groups" for name, _ in sent) == 3:
        sent.remove(("X-Forwarded-Groups", "cs"))
    answer = client.get("/v1/scores", headers=sent)
    assert answer.status_code == 401
    assert "replace what the caller sends" in answer.json()["detail"]


def test_keys_and_tokens_come_once(guarded, client, private_key, issuer):
    _, keys = guarded
    mine, admin = f"Bearer {token(private_key, issuer)}", f"Bearer {keys['admin']}"
    for headers in (
        repeated("Authorization", mine, admin),
        repeated("Authorization", admin, admin),
        repeated("X-API-Key", keys["read"], keys["admin"]),
    ):
        assert client.get("/v1/scores", headers=headers).status_code == 401
    both = [("Authorization", f"Bearer {keys['metrics']}"), ("X-API-Key", keys["admin"])]
    assert client.get("/v1/scores", headers=both).status_code == 403, "the first counts"


def test_a_name_without_the_proxys_secret_names_nobody(guarded, client, private_key, issuer):
    """Only the trusted proxy names people; a token still names its own."""
    forged = {"X-Forwarded-Email": "bo@x", "X-Forwarded-Groups": "cs-leads"}
    assert client.get("/v1/scores", headers=forged).status_code == 401
    own = client.get("/v1/scores", headers={**forged, **bearer(token(private_key, issuer))})
    assert {row["owner_id"] for row in own.json()["results"]} == {"csm-1"}


def test_hosts_and_lengths_are_read_strictly(client):
    twice = [("Host", "127.0.0.1"), ("Host", "elsewhere.example")]
    assert client.get("/v1/health", headers=twice).json()["type"].endswith("wrong-host")
    odd = client.post("/v1/scores", headers={"Content-Length": "\u00b2".encode("latin-1")})
    assert odd.status_code == 413


BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


def test_a_browser_that_is_not_signed_in_is_told_what_to_do(guarded, client):
    for path in ("/", "/accounts/A-0030", "/book.csv", "/nothing"):
        page = client.get(path, headers=BROWSER)
        assert page.status_code == 401, path
        assert page.headers["content-type"].startswith("text/html"), path
        assert page.headers["www-authenticate"].startswith("Bearer"), path
        assert "Open the Bellwether address of your company" in page.text
        assert "Small" not in page.text, "nobody outside is told which company it is"
        assert "/portfolio" not in page.text
    assert client.get("/v1/scores", headers=BROWSER).json()["status"] == 401


def test_a_browser_without_a_role_or_a_scope_is_told_whom_to_ask(guarded, client):
    named = {"X-Forwarded-Email": "eve", "X-Forwarded-Groups": "sales"}
    page = client.get("/", headers={**BROWSER, **named, "X-Bellwether-Proxy-Secret": PROXY})
    assert page.status_code == 403
    assert "you have no role" in page.text
    page = client.get("/week", headers={**BROWSER, **bearer(guarded[1]["metrics"])})
    assert page.status_code == 403
    assert "ask your administrator for another role" in page.text


def test_another_sites_page_may_not_send_anything(guarded, client):
    headers = {**bearer(guarded[1]["score"]), "Sec-Fetch-Site": "cross-site"}
    refused = client.post("/v1/scores", json={"account_ids": ["A-0030"]}, headers=headers)
    assert refused.status_code == 403


def test_secrets_are_in_no_log(guarded, client, private_key, issuer, caplog):
    _, keys = guarded
    caplog.set_level("DEBUG")
    text = token(private_key, issuer, aud="other")
    client.get("/v1/release", headers=bearer(keys["read"]))
    client.get("/v1/release", headers=bearer(keys["read"] + "x"))
    client.get("/v1/release", headers=bearer(text))
    assert keys["read"].split("_", 2)[2] not in caplog.text
    assert text not in caplog.text


def test_the_open_door_is_for_this_machine_only(live, client):
    assert live.door.is_open
    assert client.get("/v1/health").json()["access"] == "open"
    for header in ("X-Forwarded-For", "Forwarded", "X-Real-IP", "X-Forwarded-Email", "Via"):
        answer = client.get("/v1/release", headers={header: "127.0.0.1"})
        assert answer.status_code == 401
        assert "bellwether keys create" in answer.json()["detail"]
    far = httpx.ASGITransport(app=client.app, client=("192.0.2.7", 1))
    assert client.get("/v1/release", transport=far).status_code == 401


def test_a_change_reaches_a_running_worker_with_its_next_look(world, book, client_for):
    state = State(world.workspace.state.root)
    serving, store = ServerState(world.workspace), KeyStore(world.workspace)
    try:
        serving.refresh()
        http, now = client_for(serving), datetime.now(UTC)
        assert http.get("/v1/release").status_code == 200
        key = store.create("crm", ["read"], now, 1)
        serving.refresh()
        assert http.get("/v1/release").status_code == 401
        assert http.get("/v1/release", headers=bearer(key)).status_code == 200
        store.revoke(key, now)
        serving.refresh()
        assert http.get("/v1/release", headers=bearer(key)).status_code == 401
    finally:
        serving.close()
        store.close()
        for path in state.ledger.glob("keys.db*"):
            path.unlink()


def test_while_the_keys_were_never_read_nobody_is_let_in(live, client, monkeypatch):
    monkeypatch.setattr(live, "_door", None)
    answer = client.get("/v1/release")
    assert answer.status_code == 503
    assert answer.headers["retry-after"]


def test_serving_to_others_takes_keys_and_names(world, monkeypatch, tmp_path):
    monkeypatch.delenv("BELLWETHER_HOSTS", raising=False)
    with pytest.raises(ConfigError, match="access is open to everyone"):
        serve_command(world.workspace, 3000, "0.0.0.0")
    signed = replace(world.workspace, places=Environment(sign_in=SignIn(proxy_secret=PROXY)))
    with pytest.raises(ConfigError, match="names that the service answers to"):
        serve_command(signed, 3000, "0.0.0.0")
    monkeypatch.setenv("BELLWETHER_HOSTS", "bellwether.example")
    command, _ = serve_command(signed, 3000, "0.0.0.0")
    assert command[-4:] == ["--host", "0.0.0.0", "--port", "3000"]
    assert LOCAL.may("admin")
    assert not Caller("x", frozenset({"read"})).may("admin")
    assert Key("a", "", "", "", NOW, NOW).ends_at() == NOW


def test_services_on_one_machine_keep_their_metrics_apart(world, monkeypatch):
    monkeypatch.delenv("BENTOML_HOME", raising=False)
    homes = {serve_command(world.workspace, port)[1]["BENTOML_HOME"] for port in (3101, 3102)}
    assert len(homes) == 2
    assert all(home.startswith(str(world.workspace.state.root.resolve())) for home in homes)
    monkeypatch.setenv("BENTOML_HOME", "/somewhere")
    assert serve_command(world.workspace, 3101)[1]["BENTOML_HOME"] == "/somewhere"


def test_a_port_that_is_taken_is_told_before_anything_starts(world):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(ConfigError, match=f"cannot listen at 127.0.0.1:{port}") as told:
            serve_command(world.workspace, port)
    assert "--port" in told.value.fix
    assert str(port) in serve_command(world.workspace, port)[0]
