"""Where settings come from, in which order, and what is said about wrong ones."""

import secrets
import uuid
from pathlib import Path

import pytest

from pfn_node.settings import Settings, SettingsError, is_weak, load_settings, unknown_variables

GOOD_KEY = "q7Vw2nZc9Lk4Tb8Yx1Rm6Jd3Hs5Pf0Ga"


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"PFN_{name.upper()}", raising=False)


def test_flags_win_over_the_environment_that_over_the_file_and_that_over_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "pfn.toml"
    config.write_text('data = "/from/file"\nport = 1\nhost = "10.0.0.1"\nmesh = "file"\n')
    monkeypatch.setenv("PFN_PORT", "2")
    monkeypatch.setenv("PFN_HOST", "10.0.0.2")

    settings = load_settings({"host": "10.0.0.3", "port": None}, config)

    assert (settings.host, settings.port, settings.mesh) == ("10.0.0.3", 2, "file")
    assert settings.data == Path("/from/file") and settings.sync_seconds == 3600


def test_lists_in_the_environment_are_separated_by_commas_or_spaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PFN_JOIN", "https://a.example, https://b.example")
    monkeypatch.setenv("PFN_TRUSTED_PROXY", "127.0.0.1/32 ::1/128")

    settings = load_settings({"data": "/d"})

    assert settings.join == ("https://a.example", "https://b.example")
    assert [str(network) for network in settings.trusted_proxy] == ["127.0.0.1/32", "::1/128"]


def test_every_wrong_value_is_named_and_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PFN_MASTER_KEY", "too-short-secret")

    with pytest.raises(SettingsError) as failure:
        load_settings({"data": "/d", "port": 70000, "trust_depth": 9})

    text = str(failure.value)
    assert "port" in text and "trust_depth" in text and "fewer than 32 characters" in text
    assert "too-short-secret" not in text


def test_a_word_of_the_file_that_is_no_setting_is_an_error(tmp_path: Path) -> None:
    config = tmp_path / "pfn.toml"
    config.write_text('data = "/d"\nprot = 1\n')

    with pytest.raises(SettingsError, match="not a setting: prot"):
        load_settings({}, config)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("sync_second = 1", r"sync_second \(did you mean sync_seconds\?\)"),
        ("trusted_proxies = []", r"trusted_proxies \(did you mean trusted_proxy\?\)"),
        ("[pfn]\nport = 1", "not a setting: pfn; known are"),
        ("port = true", "port: expected a number, not true or false"),
        ("sync_seconds = false", "sync_seconds: expected a number"),
        ("trusted_proxy = ['10.0.0.1/8']", "trusted_proxy: 10.0.0.1/8 has host bits set"),
        ("trusted_proxy = 5", "trusted_proxy: "),
        ("trusted_proxy = [5]", "trusted_proxy: '5' does not appear"),
        ("allowed_host = ['https://node.example']", "allowed_host: 'https://node.example' is no host's name"),
        ("allowed_host = ['node.example:443']", "allowed_host: 'node.example:443' is no host's name"),
        ("allowed_host = ['*.example']", "allowed_host: .* is no host's name"),
        ("url = 'node.example'", "url: expected a whole URL"),
        ("url = 'https://node.example?x'", "url: .*no query"),
        ("mesh = 5", "mesh: "),
    ],
)
def test_what_the_file_says_wrong_is_named_and_never_taken_for_something_else(
    tmp_path: Path, line: str, sentence: str
) -> None:
    config = tmp_path / "pfn.toml"
    config.write_text(line)

    with pytest.raises(SettingsError, match=sentence):
        load_settings({"data": "/d"}, config)


def test_an_empty_variable_is_no_folder_and_no_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PFN_URL", "")
    assert load_settings({"data": "/d"}).url is None

    monkeypatch.setenv("PFN_DATA", "")
    with pytest.raises(SettingsError, match="data: it is empty"):
        load_settings({})


def test_the_url_is_kept_in_the_spelling_that_nodes_take() -> None:
    assert load_settings({"data": "/d", "url": "https://Node.Example/"}).url == "https://node.example"


def test_variables_that_nothing_reads_are_known_with_those_that_were_meant() -> None:
    names = ("PFN_MASTERKEY", "PFN_PROT", "pfn_join", "PFN_ZZZ", "PFN_NODE", "PFN_KEY", "PFN_CHROMIUM", "PFN_TEST_SEED")

    assert unknown_variables((*names, "PATH", "PFNX")) == {
        "PFN_MASTERKEY": "PFN_MASTER_KEY",
        "PFN_PROT": "PFN_PORT",
        "PFN_ZZZ": None,
    }


@pytest.mark.parametrize("content", [None, "port = = 1"])
def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path, content: str | None) -> None:
    config = tmp_path / "pfn.toml"
    if content is not None:
        config.write_text(content)

    with pytest.raises(SettingsError, match=r"cannot read the configuration .*pfn\.toml"):
        load_settings({}, config)


def test_the_data_folder_has_to_be_named() -> None:
    with pytest.raises(SettingsError, match="data"):
        load_settings({})


def test_secrets_do_not_show_when_settings_are_printed() -> None:
    settings = load_settings({"data": "/d", "master_key": GOOD_KEY, "private_key": "p" * 32})

    assert GOOD_KEY not in repr(settings) and "pppp" not in str(settings)


@pytest.mark.parametrize(
    "key",
    [
        "m" * 32,
        "0123456789" * 4,
        "abcdefghijklmnopqrstuvwxyz0123456789",
        "changeme-changeme-changeme-changeme",
        "your-secret-master-key-goes-here-123",
        "PASSWORD_password_Password_123456",
        "ab3" * 12,
    ],
)
def test_a_master_key_of_examples_and_repetitions_stops_the_start(key: str) -> None:
    assert len(key) >= 32
    with pytest.raises(SettingsError, match="can be guessed") as failure:
        load_settings({"data": "/d", "master_key": key})

    assert key not in str(failure.value)


def test_random_master_keys_of_every_usual_spelling_are_taken() -> None:
    for _ in range(500):
        for key in (secrets.token_urlsafe(32), secrets.token_hex(16), str(uuid.uuid4())):
            assert not is_weak(key), key
