# SPDX-License-Identifier: Apache-2.0
"""The keys and values of a web configuration file."""

from __future__ import annotations

import pytest

from cdi_gen.metrics.web.config_file import (
    Pem,
    RateLimit,
    WebConfig,
    WebConfigError,
    parse_web_config,
)

HASH = "$2y$10$BAUjM4xV88ZZYfBH8zhhzOjdDqI1.x5Md7V0e8WRzIKHF1h9LRz0."
TLS = "tls_server_config:\n  cert_file: a.pem\n  key_file: /keys/a.key\n"


def parse(text: str) -> WebConfig:
    return parse_web_config(text.encode(), "/etc/web.yml")


def message(text: str) -> str:
    with pytest.raises(WebConfigError) as error:
        parse(text)
    assert error.value.message.startswith("/etc/web.yml")
    return error.value.message


@pytest.mark.parametrize("text", ["", "{}", "---\n", "tls_server_config:\nbasic_auth_users:\n"])
def test_a_file_without_keys_restricts_nothing(text: str) -> None:
    assert parse(text) == WebConfig()


def test_every_key() -> None:
    config = parse(
        f"""
{TLS}
  client_auth_type: RequireAndVerifyClientCert
  client_ca: |
    text of a CA
  client_allowed_sans: [a.example, 10.0.0.1]
  min_version: TLS13
  max_version: TLS13
  cipher_suites: [TLS_AES_128_GCM_SHA256]
  prefer_server_cipher_suites: false
  curve_preferences: [X25519]
http_server_config:
  http2: false
  headers:
    X-Frame-Options: sameorigin
    Content-Security-Policy: ""
basic_auth_users:
  alice: {HASH}
  "bob": "{HASH}"
rate_limit:
  interval: 1m30s
  burst: 3
"""
    )
    assert config.tls
    assert config.tls.certificate == Pem(key="tls_server_config.cert_file", path="/etc/a.pem")
    assert config.tls.private_key == Pem(key="tls_server_config.key_file", path="/keys/a.key")
    assert config.tls.client_ca == Pem(key="tls_server_config.client_ca", text="text of a CA\n")
    assert config.tls.client_allowed_sans == ("a.example", "10.0.0.1")
    assert (config.tls.min_version, config.tls.max_version) == ("TLS13", "TLS13")
    assert config.tls.cipher_suites == ("TLS_AES_128_GCM_SHA256",)
    assert not config.tls.prefer_server_cipher_suites
    assert config.tls.curve_preferences == ("X25519",)
    assert not config.http2
    assert config.headers == {"X-Frame-Options": "sameorigin"}
    assert config.users == {"alice": HASH, "bob": HASH}
    assert config.rate_limit == RateLimit(interval=90.0, burst=3)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("tls_config: {}", "tls_config is not a key"),
        ("tls_server_config: {certfile: a}", "tls_server_config.certfile is not a key"),
        ("http_server_config: {http3: true}", "http_server_config.http3 is not a key"),
        ("rate_limit: {rate: 1}", "rate_limit.rate is not a key"),
        ("basic_auth_users: {}\nbasic_auth_users: {}", "line 2"),
        ("[]", "must be a mapping"),
        ("tls_server_config: yes", "tls_server_config must be a mapping"),
        ("a: [", "line 2"),
        ("tls_server_config: {cert_file: a}", "needs key_file"),
        ("tls_server_config: {key_file: a}", "needs cert_file"),
        ("tls_server_config: {client_auth_type: VerifyClientCertIfGiven}", "needs cert_file"),
        (f"{TLS}  client_auth_type: Verify", "it must be one of"),
        (f"{TLS}  client_auth_type: RequireAnyClientCert", "accepts any certificate"),
        (f"{TLS}  client_ca_file: a", "no client needs a certificate"),
        (f"{TLS}  client_allowed_sans: [a]", "needs client_auth_type"),
        (f"{TLS}  client_allowed_sans: a", "must be a list"),
        (f"{TLS}  min_version: TLS14", "it must be one of TLS10"),
        (f"{TLS}  min_version: 1.2", "put it in quotes"),
        (f"{TLS}  min_version: TLS13\n  max_version: TLS12", "later than max_version"),
        (f"{TLS}  prefer_server_cipher_suites: 1", "must be true or false"),
        ("http_server_config: {headers: {Server: a}}", "headers.Server is not a key"),
        ("http_server_config: {headers: {X-Frame-Options: a}}", "one of deny, sameorigin"),
        ('http_server_config: {headers: {X-XSS-Protection: "a\\r\\nb"}}', "cannot have"),
        ('http_server_config: {headers: {X-XSS-Protection: "\\u00e4"}}', "cannot have"),
        ("basic_auth_users: {alice: secret}", "'alice' is not a bcrypt hash"),
        (f"basic_auth_users: {{alice: '{HASH[:-1]}'}}", "is not a bcrypt hash"),
        ("basic_auth_users: {alice: }", "is not a bcrypt hash"),
        ("rate_limit: {interval: 1s}", "burst must be 1 or more"),
        ("rate_limit: {interval: 1 s, burst: 1}", "must be a duration"),
        ("rate_limit: {interval: -1, burst: 1}", "must be a duration"),
    ],
)
def test_what_is_wrong_is_said(text: str, part: str) -> None:
    assert part in message(text)


@pytest.mark.parametrize(
    ("interval", "seconds"),
    [("1s", 1.0), ("250ms", 0.25), ("1h0.5m", 3630.0), ("2000000000", 2.0), ("10us", 1e-5)],
)
def test_durations_are_those_of_go(interval: str, seconds: float) -> None:
    limit = parse(f"rate_limit: {{interval: {interval}, burst: 1}}").rate_limit
    assert limit
    assert limit.interval == pytest.approx(seconds)


@pytest.mark.parametrize("interval", ["0", "0s", ""])
def test_an_interval_of_0_is_no_limit(interval: str) -> None:
    assert parse(f"rate_limit: {{interval: {interval or '~'}, burst: 1}}").rate_limit is None


def test_no_secret_is_shown() -> None:
    text = f"tls_server_config: {{cert: PEM, key: KEY}}\nbasic_auth_users: {{alice: '{HASH}'}}"
    shown = repr(parse(text))
    assert "KEY" not in shown
    assert HASH not in shown
    assert "hunter2" not in message("basic_auth_users: {alice: hunter2}")
