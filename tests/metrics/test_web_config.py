# SPDX-License-Identifier: Apache-2.0
"""TLS, client certificates, passwords, headers and rate limits of the web configuration."""

from __future__ import annotations

import base64
import os
import shutil
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from cdi_gen.metrics.web import passwords
from cdi_gen.metrics.web.web_config import WebConfigFile
from tests.metrics.serving import PAGE, Answer, Authority, Running, get, running

TLS = "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n"
CLIENTS = f"{TLS}  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    authority = Authority(tmp_path_factory.mktemp("certificates"))
    authority.certificate("server", "DNS:localhost,IP:127.0.0.1")
    authority.certificate("client", "DNS:prometheus.example,IP:2001:db8::1,email:a@example.com")
    return authority


@pytest.fixture
def web_config(authority: Authority, tmp_path: Path) -> Callable[[str], str]:
    """Write a web configuration beside copies of the certificates, and return its path."""
    for path in authority.directory.iterdir():
        shutil.copy(path, tmp_path)

    def write(text: str) -> str:
        replace(tmp_path / "web.yml", text)
        return str(tmp_path / "web.yml")

    return write


def replace(path: Path, text: str) -> None:
    """Replace a file in one step."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.rename(path)


def users(**names: str) -> str:
    """``basic_auth_users`` with cheap hashes."""
    import bcrypt

    lines = [
        f"  {name}: {bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()}\n"
        for name, password in names.items()
    ]
    return "basic_auth_users:\n" + "".join(lines)


def authorization(user: str, password: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}


def tls(server: Running, authority: Authority) -> ssl.SSLSocket:
    """A client's connection after the handshake."""
    return authority.client().wrap_socket(server.connect(), server_hostname="localhost")


WebConfig = Callable[[str], str]


class TestTls:
    def test_a_page_is_served(self, authority: Authority, web_config: WebConfig) -> None:
        with running(web_config=web_config(TLS)) as server:
            assert get(server.port, tls=authority.client()).body == PAGE

    def test_a_client_without_tls_gets_nothing(self, web_config: WebConfig) -> None:
        with running(web_config=web_config(TLS)) as server, server.connect() as client:
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            received = client.recv(1 << 16)
        assert b"HTTP" not in received
        assert server.findings == []

    def test_certificate_and_key_in_the_file_itself(
        self, authority: Authority, web_config: WebConfig
    ) -> None:
        def block(name: str) -> str:
            lines = (authority.directory / name).read_text().splitlines()
            return "|\n" + "".join(f"    {line}\n" for line in lines)

        text = f"tls_server_config:\n  cert: {block('server.pem')}  key: {block('server.key')}"
        with running(web_config=web_config(text)) as server:
            assert get(server.port, tls=authority.client()).body == PAGE

    @pytest.mark.parametrize(
        ("text", "version"),
        [
            (f"{TLS}  max_version: TLS12\n", "TLSv1.2"),
            (f"{TLS}  min_version: TLS13\n", "TLSv1.3"),
            (TLS, "TLSv1.3"),
        ],
    )
    def test_versions(
        self, authority: Authority, web_config: WebConfig, text: str, version: str
    ) -> None:
        with running(web_config=web_config(text)) as server, tls(server, authority) as client:
            assert client.version() == version

    def test_an_older_version_than_the_lowest_is_refused(
        self, authority: Authority, web_config: WebConfig
    ) -> None:
        client = authority.client()
        client.maximum_version = ssl.TLSVersion.TLSv1_2
        refused = pytest.raises((ssl.SSLError, ConnectionError))
        with running(web_config=web_config(f"{TLS}  min_version: TLS13\n")) as server, refused:
            get(server.port, tls=client)

    def test_cipher_suites_and_curves(self, authority: Authority, web_config: WebConfig) -> None:
        suite = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"
        text = f"{TLS}  max_version: TLS12\n  cipher_suites: [{suite}]\n  curve_preferences: [CurveP384]\n"
        with running(web_config=web_config(text)) as server, tls(server, authority) as client:
            cipher = client.cipher()
        assert cipher
        assert cipher[0] == "ECDHE-ECDSA-AES256-GCM-SHA384"

    def test_a_new_certificate_is_used_at_the_next_connection(
        self, authority: Authority, web_config: WebConfig, tmp_path: Path
    ) -> None:
        def serial() -> str:
            with tls(server, authority) as client:
                certificate = client.getpeercert()
            assert certificate
            return str(certificate["serialNumber"])

        with running(web_config=web_config(TLS)) as server:
            first = serial()
            authority.certificate("renewed", "DNS:localhost")
            for suffix in ("key", "pem"):
                replace(
                    tmp_path / f"server.{suffix}",
                    (authority.directory / f"renewed.{suffix}").read_text(),
                )
            assert serial() != first

    def test_a_handshake_that_stalls_delays_nobody(
        self, authority: Authority, web_config: WebConfig
    ) -> None:
        with running(web_config=web_config(TLS)) as server, server.connect():
            assert get(server.port, tls=authority.client()).body == PAGE


class TestClientCertificates:
    def test_a_client_without_one_is_refused(
        self, authority: Authority, web_config: WebConfig
    ) -> None:
        with running(web_config=web_config(CLIENTS)) as server:
            with pytest.raises((ssl.SSLError, ConnectionError)):
                get(server.port, tls=authority.client())
            pair = authority.directory / "client.pem", authority.directory / "client.key"
            assert get(server.port, tls=authority.client(pair)).body == PAGE

    def test_one_of_another_authority_is_refused(
        self, authority: Authority, web_config: WebConfig, tmp_path: Path
    ) -> None:
        (tmp_path / "other").mkdir()
        other = Authority(tmp_path / "other").certificate("client", "DNS:prometheus.example")
        client = authority.client(other)
        refused = pytest.raises((ssl.SSLError, ConnectionError))
        with running(web_config=web_config(CLIENTS)) as server, refused:
            get(server.port, tls=client)

    def test_with_if_given_a_client_needs_none(
        self, authority: Authority, web_config: WebConfig
    ) -> None:
        text = CLIENTS.replace("RequireAndVerifyClientCert", "VerifyClientCertIfGiven")
        with running(web_config=web_config(text)) as server:
            assert get(server.port, tls=authority.client()).body == PAGE

    @pytest.mark.parametrize(
        ("name", "is_allowed"),
        [
            ("prometheus.example", True),
            ("2001:db8::1", True),
            ("a@example.com", True),
            ("grafana.example", False),
            ("PROMETHEUS.example", False),
        ],
    )
    def test_allowed_names(
        self, authority: Authority, web_config: WebConfig, name: str, is_allowed: bool
    ) -> None:
        pair = authority.directory / "client.pem", authority.directory / "client.key"
        text = f"{CLIENTS}  client_allowed_sans: ['{name}']\n"
        with running(web_config=web_config(text)) as server:
            if is_allowed:
                assert get(server.port, tls=authority.client(pair)).body == PAGE
            else:
                with pytest.raises((ssl.SSLError, ConnectionError)):
                    get(server.port, tls=authority.client(pair))


class TestPasswords:
    @pytest.mark.parametrize(
        ("header", "status"),
        [
            pytest.param(authorization("alice", "secret"), 200, id="right"),
            pytest.param(authorization("alice", "wrong"), 401, id="wrong"),
            pytest.param(authorization("bob", "secret"), 401, id="no such user"),
            pytest.param(authorization("alice", ""), 401, id="empty"),
            pytest.param(authorization("alice", "secret\0x"), 401, id="zero byte"),
            pytest.param({}, 401, id="none"),
            pytest.param({"Authorization": "Basic !"}, 401, id="not base64"),
            pytest.param({"Authorization": "Basic YWxpY2U="}, 401, id="no colon"),
            pytest.param({"Authorization": "Bearer secret"}, 401, id="another scheme"),
        ],
    )
    def test_who_is_allowed(
        self, web_config: WebConfig, header: dict[str, str], status: int
    ) -> None:
        with running(web_config=web_config(users(alice="secret"))) as server:
            answer = get(server.port, headers=header)
            assert answer.status == status
            assert answer.headers.get("WWW-Authenticate") == ("Basic" if status == 401 else None)
            # What is kept is right, too.
            assert get(server.port, headers=header).status == status

    def test_a_password_of_80_bytes(self, web_config: WebConfig) -> None:
        """bcrypt hashes 72 bytes; Go's compares as many."""
        with running(web_config=web_config(users(alice="a" * 72))) as server:
            assert get(server.port, headers=authorization("alice", "a" * 80)).status == 200
            assert get(server.port, headers=authorization("alice", "a" * 71)).status == 401

    def test_a_password_is_hashed_once(
        self, web_config: WebConfig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hashed: list[bytes] = []
        matches = passwords.matches

        def count(password: bytes, hash_: str) -> bool:
            hashed.append(password)
            return matches(password, hash_)

        monkeypatch.setattr(passwords, "matches", count)
        with running(web_config=web_config(users(alice="secret"))) as server:
            for password in ("secret", "wrong", "secret", "wrong"):
                get(server.port, headers=authorization("alice", password))
        assert sorted(hashed) == [b"secret", b"wrong"]

    def test_a_user_that_does_not_exist_is_hashed_too(
        self, web_config: WebConfig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hashes: list[str] = []

        def refuse(_: bytes, hash_: str) -> bool:
            hashes.append(hash_)
            return False

        monkeypatch.setattr(passwords, "matches", refuse)
        with running(web_config=web_config(users(alice="secret"))) as server:
            assert get(server.port, headers=authorization("bob", "x")).status == 401
        assert hashes == [passwords.UNKNOWN_USER]

    def test_a_removed_user_is_refused_at_the_next_request(self, web_config: WebConfig) -> None:
        path = web_config(users(alice="secret", bob="other"))
        with running(web_config=path) as server:
            assert get(server.port, headers=authorization("alice", "secret")).status == 200
            web_config(users(bob="other"))
            assert get(server.port, headers=authorization("alice", "secret")).status == 401
            assert get(server.port, headers=authorization("bob", "other")).status == 200

    def test_every_path_needs_one(self, web_config: WebConfig) -> None:
        with running(web_config=web_config(users(alice="secret"))) as server:
            for path in ("/", "/healthz", "/none"):
                assert get(server.port, path).status == 401


class TestChanges:
    def test_an_invalid_file_refuses_requests_until_it_is_valid(
        self, web_config: WebConfig
    ) -> None:
        path = web_config("{}\n")
        with running(web_config=path) as server:
            assert get(server.port).status == 200
            web_config("basic_auth_users:\n  alice: not hashed\n")
            assert get(server.port).status == 500
            assert get(server.port).status == 500
            web_config("http_server_config:\n  headers:\n    X-Frame-Options: deny\n")
            answer = get(server.port)
        assert answer.status == 200
        assert answer.headers["X-Frame-Options"] == "deny"
        (finding,) = server.findings
        assert finding.code == "CDG-O152"
        assert "not hashed" not in finding.message

    @pytest.mark.parametrize("text", ["", "\n"], ids=["empty", "blank"])
    def test_a_file_that_becomes_empty_opens_nothing(
        self, web_config: WebConfig, text: str
    ) -> None:
        path = web_config(users(alice="secret"))
        with running(web_config=path) as server:
            web_config(text)
            assert get(server.port).status == 500

    def test_a_file_that_is_removed_opens_nothing(self, web_config: WebConfig) -> None:
        path = web_config(users(alice="secret"))
        with running(web_config=path) as server:
            os.unlink(path)
            assert get(server.port).status == 500

    def test_tls_is_not_switched_off_in_a_running_program(
        self, authority: Authority, web_config: WebConfig
    ) -> None:
        with running(web_config=web_config(TLS)) as server:
            web_config("{}\n")
            with pytest.raises((ssl.SSLError, ConnectionError)):
                get(server.port, tls=authority.client())
            with pytest.raises(ConnectionError):
                get(server.port)
            web_config(TLS)
            assert get(server.port, tls=authority.client()).body == PAGE

    def test_tls_is_not_switched_on_in_a_running_program(self, web_config: WebConfig) -> None:
        with running(web_config=web_config("{}\n")) as server:
            web_config(TLS)
            assert get(server.port).status == 500


def test_a_rate_limit(web_config: WebConfig) -> None:
    text = "rate_limit:\n  interval: 1h\n  burst: 2\n"
    with running(web_config=web_config(text)) as server:
        assert [get(server.port).status for _ in range(3)] == [200, 200, 429]


def test_headers_are_on_every_response(web_config: WebConfig) -> None:
    text = "http_server_config:\n  headers:\n    Strict-Transport-Security: max-age=1\n"
    with running(web_config=web_config(text + users(alice="secret"))) as server:
        answers: list[Answer] = [
            get(server.port),
            get(server.port, headers=authorization("alice", "secret")),
            get(server.port, "/none", headers=authorization("alice", "secret")),
        ]
    assert [answer.status for answer in answers] == [401, 200, 404]
    assert all(answer.headers["Strict-Transport-Security"] == "max-age=1" for answer in answers)


def test_an_unchanged_file_is_read_once(web_config: WebConfig) -> None:
    configuration = WebConfigFile(web_config(TLS))
    assert configuration.current() is configuration.current()


def test_the_time_of_a_hash_is_that_of_a_cost_of_10() -> None:
    """The hash for users that do not exist is of the cost that exporter-toolkit recommends."""
    assert passwords.UNKNOWN_USER.startswith("$2b$10$")
    assert not passwords.matches(b"fakepassword", passwords.UNKNOWN_USER)
