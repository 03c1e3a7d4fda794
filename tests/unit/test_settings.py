"""Settings: what holds where nothing is set, what is refused, and that no secret shows."""

import os
import stat
import threading
from pathlib import Path

import pytest

from entrypoints.secret_key import kept_secret_key
from entrypoints.settings import Settings, SettingsError, load_model_settings, load_settings, read_environ

SECRET = "a-key-of-tests-" + "0123456789" * 5


@pytest.fixture(autouse=True)
def nothing_is_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty folder to be in, so that no key and no ``.env`` of the developer's own is found."""
    monkeypatch.chdir(tmp_path)


def load(**environ: str) -> Settings:
    return load_settings({"SECRET_KEY": SECRET} | environ)


def problems(**environ: str) -> list[str]:
    with pytest.raises(SettingsError) as raised:
        load(**environ)
    assert str(raised.value) == "\n".join(raised.value.problems)
    return raised.value.problems


def test_where_nothing_is_set_it_is_a_trial_on_this_machine():
    settings = load_settings({})
    assert (settings.debug, settings.host, settings.port, settings.workers) == (True, "127.0.0.1", 8000, 1)
    assert (settings.database_url, settings.auto_migrate) == ("sqlite:///./chat.db", True)
    assert (settings.redis_url, settings.llm, settings.llm_offered) == (None, "echo", ())
    assert settings.llm_concurrency == 256
    assert (settings.algorithm, settings.access_token_expire_minutes) == ("HS256", 30)
    assert (settings.send_wait, settings.model_timeout, settings.max_body_bytes) == (50.0, 300.0, 512 * 1024)
    assert (settings.app_name, settings.log_level, settings.cors_origins) == ("Chat API", "INFO", ())
    assert len(settings.secret_keys) == 1


def test_each_variable_is_read():
    settings = load(
        APP_NAME="Tea", DEBUG="false", HOST="0.0.0.0", PORT="80", WORKERS="4", LOG_LEVEL="warning",
        DATABASE_URL="postgresql://db/chat", DATABASE_POOL_SIZE="3", AUTO_MIGRATE="yes", REDIS_URL="redis://r:1/0",
        ALGORITHM="hs512", ACCESS_TOKEN_EXPIRE_MINUTES="5", LLM="gemini:a,echo:", LLM_OFFERED=" gemini:b, , echo: ",
        CORS_ORIGINS="https://a.example, http://localhost:3000", SEND_WAIT="10", MODEL_TIMEOUT="20",
        MAX_BODY_BYTES="2048", LLM_CONCURRENCY="7",
    )  # fmt: skip
    assert (settings.app_name, settings.debug, settings.host, settings.port) == ("Tea", False, "0.0.0.0", 80)
    assert (settings.workers, settings.log_level, settings.database_url) == (4, "WARNING", "postgresql://db/chat")
    assert (settings.database_pool_size, settings.auto_migrate, settings.redis_url) == (3, True, "redis://r:1/0")
    assert (settings.algorithm, settings.access_token_expire_minutes) == ("HS512", 5)
    assert (settings.llm, settings.llm_offered) == ("gemini:a,echo:", ("gemini:b", "echo:"))
    assert settings.llm_concurrency == 7
    assert settings.cors_origins == ("https://a.example", "http://localhost:3000")
    assert (settings.send_wait, settings.model_timeout, settings.max_body_bytes) == (10.0, 20.0, 2048)
    assert settings.secret_keys == (SECRET,)


def test_a_key_of_gemini_chooses_gemini_unless_another_is_named():
    assert load(GEMINI_API_KEY="k").llm.startswith("gemini:")
    assert load(GEMINI_API_KEY="k", LLM="echo:").llm == "echo:"


def test_a_server_database_is_not_migrated_unless_that_is_said():
    assert load(DATABASE_URL="postgresql://db/chat").auto_migrate is False


def test_the_settings_of_the_models_need_no_others_and_keep_no_key(tmp_path: Path):
    settings = load_model_settings({"LLM": "a:b", "LLM_CONCURRENCY": "3", "MODEL_TIMEOUT": "9", "PORT": "none"})
    assert (settings.llm, settings.llm_concurrency, settings.model_timeout) == ("a:b", 3, 9.0)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(SettingsError, match="LLM_CONCURRENCY should be a whole number from 1 to 10000"):
        load_model_settings({"LLM_CONCURRENCY": "0"})


def test_what_the_command_line_gives_wins():
    settings = load_settings({"SECRET_KEY": SECRET, "HOST": "::1", "PORT": "1"}, host=None, port=2, workers=3)
    assert (settings.host, settings.port, settings.workers) == ("::1", 2, 3)


def test_what_the_command_line_gives_is_checked():
    with pytest.raises(SettingsError, match="PORT"):
        load_settings({"SECRET_KEY": SECRET}, port=70_000)


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / ".env"
    file.write_text("PORT=1\nAPP_NAME='From the file'\nexport LOG_LEVEL=ERROR # loud\n")
    monkeypatch.setenv("PORT", "2")
    monkeypatch.delenv("APP_NAME", raising=False)
    environ = read_environ(file)
    assert (environ["PORT"], environ["APP_NAME"], environ["LOG_LEVEL"]) == ("2", "From the file", "ERROR")


def test_the_file_does_not_become_the_environment(tmp_path: Path):
    (tmp_path / ".env").write_text("ONLY_IN_THE_FILE=1\n")
    assert read_environ()["ONLY_IN_THE_FILE"] == "1"
    assert "ONLY_IN_THE_FILE" not in os.environ


def test_there_need_be_no_file(tmp_path: Path):
    assert "PATH" in read_environ(tmp_path / "none")


@pytest.mark.parametrize("empty", ["", "  "])
def test_a_variable_that_is_set_to_nothing_is_not_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty: str):
    (tmp_path / ".env").write_text("GEMINI_API_KEY=\nSECRET_KEY\nREDIS_URL=' '\n")
    monkeypatch.setenv("PORT", empty)
    environ = read_environ()
    assert not {"PORT", "GEMINI_API_KEY", "SECRET_KEY", "REDIS_URL"} & set(environ)
    assert load_settings(environ).port == 8000


BAD = {
    "DEBUG": ["maybe", "2", "truee"],
    "PORT": ["", "x", "-1", "65536", "1.5", "٣", "1_000", "99999999999999999999"],
    "WORKERS": ["0", "65", "two"],
    "LOG_LEVEL": ["loud", "TRACE"],
    "DATABASE_POOL_SIZE": ["0", "201"],
    "AUTO_MIGRATE": ["perhaps"],
    "REDIS_URL": ["broker:1234", "http://broker"],
    "ALGORITHM": ["none", "RS256", "HS1"],
    "ACCESS_TOKEN_EXPIRE_MINUTES": ["0", "1441", "30m"],
    "CORS_ORIGINS": ["*", "https://*", "example.com", "https://a.example/", "https://a.example/x", "null"],
    "SEND_WAIT": ["0", "601", "1.5"],
    "MODEL_TIMEOUT": ["0", "3601"],
    "LLM_CONCURRENCY": ["0", "10001", "many"],
    "MAX_BODY_BYTES": ["1023", "1e6"],
    "SECRET_KEY": ["tooshort", "x" * 31, "your-secret-key-change-this-in-production"],
    "SECRET_KEY_PREVIOUS": ["tooshort", f"{SECRET},tooshort"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_a_bad_value_names_its_variable_and_not_itself(name: str, value: str):
    [problem] = problems(**{name: value})
    assert problem.startswith(f"{name} ")
    assert problem.endswith(".")
    if "SECRET" in name or "URL" in name:
        assert value not in problem


def test_everything_that_is_wrong_is_said_at_once():
    found = problems(PORT="x", WORKERS="y", LOG_LEVEL="z", SECRET_KEY="short")
    assert [problem.split()[0] for problem in found] == ["PORT", "WORKERS", "LOG_LEVEL", "SECRET_KEY"]


@pytest.mark.parametrize("word", ["true", "TRUE", "1", "yes", "On", " true "])
def test_yes_has_many_words(word: str):
    assert load(DEBUG=word).debug is True


@pytest.mark.parametrize("word", ["false", "False", "0", "no", "OFF"])
def test_so_has_no(word: str):
    assert load(DEBUG=word).debug is False


@pytest.mark.abuse("A95")
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "[::]", "192.168.1.2", "chat.example.com", "localhost.example.com"])
def test_a_trial_is_for_this_machine_alone(host: str):
    [problem] = problems(HOST=host)
    assert problem.startswith(f"HOST is {host}")
    assert "DEBUG=false" in problem
    assert load(HOST=host, DEBUG="false").host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "[::1]", "localhost"])
def test_a_trial_may_be_on_any_address_of_this_machine(host: str):
    assert load(HOST=host).host == host


@pytest.mark.abuse("A95")
def test_in_earnest_a_key_has_to_be_set(tmp_path: Path):
    with pytest.raises(SettingsError) as raised:
        load_settings({"DEBUG": "false"})
    [problem] = raised.value.problems
    assert problem.startswith("SECRET_KEY is not set")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.abuse("A95")
@pytest.mark.parametrize(
    "key",
    [
        *("secret", "", "x" * 31, "é" * 15),
        "your_secret_key_here-your_secret_key_here",
        "YOUR-SECRET-KEY-CHANGE-THIS-IN-PRODUCTION",
        "changeme-changeme-changeme-changeme",
        "django-insecure-abcdefghijklmnopqrstuvwxyz",
        "my super secret key that nobody knows",
        "09D25E094FAA6CA2556C818166B7A9563B93F7099F6F0F4CAA6CF63B88E8D3E7",
    ],
)
@pytest.mark.parametrize("debug", ["true", "false"])
def test_keys_that_others_know_or_can_guess_are_refused(key: str, debug: str):
    [problem] = problems(SECRET_KEY=key, DEBUG=debug)
    assert problem.startswith("SECRET_KEY is")
    assert not key or key not in problem


def test_keys_of_before_come_after_the_one_that_signs():
    older, oldest = SECRET[::-1], SECRET.upper()
    settings = load(SECRET_KEY=f" {SECRET} ", SECRET_KEY_PREVIOUS=f"{older} , {oldest},")
    assert settings.secret_keys == (SECRET, older, oldest)


def test_a_key_for_trials_is_random_and_kept(tmp_path: Path):
    first = load_settings({"DATABASE_URL": "sqlite:///one.db"}).secret_keys
    assert load_settings({"DATABASE_URL": "sqlite:///one.db"}).secret_keys == first
    assert load_settings({"DATABASE_URL": "sqlite:///two.db"}).secret_keys != first
    assert len(first[0]) >= 32
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.db.secret.key", "two.db.secret.key"]


@pytest.mark.parametrize(
    ("database_url", "kept_at"),
    [
        ("sqlite:///./chat.db", "chat.db.secret.key"),
        ("sqlite+aiosqlite:///data/chat.db?timeout=1", "data/chat.db.secret.key"),
        ("postgresql://db/chat", "chat.secret.key"),
    ],
)
def test_a_key_for_trials_is_kept_beside_the_database(tmp_path: Path, database_url: str, kept_at: str):
    key = kept_secret_key(database_url)
    assert (tmp_path / kept_at).read_text() == key


@pytest.mark.abuse("A95")
def test_a_kept_key_is_for_its_owner_alone(tmp_path: Path):
    before = os.umask(0)
    try:
        kept_secret_key(f"sqlite:///{tmp_path}/chat.db")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "chat.db.secret.key").stat().st_mode) == 0o600


def test_of_many_that_start_at_once_all_have_one_key(tmp_path: Path):
    keys: list[str] = []
    together = threading.Barrier(8)

    def start() -> None:
        together.wait(10)
        keys.append(kept_secret_key(f"sqlite:///{tmp_path}/chat.db"))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(keys) == 8
    assert len(set(keys)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["chat.db.secret.key"]


@pytest.mark.parametrize("content", ["", "short", "changeme" * 8])
def test_a_kept_key_that_is_no_good_is_refused(tmp_path: Path, content: str):
    (tmp_path / "chat.db.secret.key").write_text(content)
    with pytest.raises(SettingsError, match=r"^SECRET_KEY "):
        load_settings({})


def test_where_no_key_can_be_kept_that_is_said(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=r"^SECRET_KEY is not set"):
        load_settings({"DATABASE_URL": "sqlite:///file/chat.db"})


def test_no_secret_shows():
    password = "p4ssw0rd-of-the-server"
    settings = load(
        DATABASE_URL=f"postgresql://u:{password}@db/chat",
        REDIS_URL=f"redis://:{password}@r/0",
        GEMINI_API_KEY=password,
        SECRET_KEY_PREVIOUS=SECRET[::-1],
    )
    for shown in (repr(settings), str(settings)):
        assert password not in shown
        assert SECRET not in shown
        assert SECRET[::-1] not in shown


def test_settings_do_not_change():
    with pytest.raises(AttributeError):
        load().port = 1  # type: ignore[misc]
