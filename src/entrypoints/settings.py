"""All settings, read once from the environment and a ``.env`` file, checked, and then fixed."""

import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

from dotenv import dotenv_values

from entrypoints.secret_key import SecretKeyError, check_own_purpose, check_private, check_secret_key, kept_secret_key

T = TypeVar("T")

DEFAULT_GEMINI = "gemini:gemini-3.8-flash"
ECHO = "echo"
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_UNITS = {"d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0}

ALGORITHMS = ("HS256", "HS384", "HS512")


class Rate(NamedTuple):
    """So many in so many seconds; as text ``5/m``, ``100/15m``."""

    times: int
    seconds: float

    def __str__(self) -> str:
        unit, length = next((unit, length) for unit, length in _UNITS.items() if self.seconds % length == 0)
        return f"{self.times}/{self.seconds / length:g}{unit}".replace(f"/1{unit}", f"/{unit}")


class SettingsError(Exception):
    """Settings that the service does not start with: a sentence for each, which names the variable."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What was set. Secrets do not show in its ``repr``. ``environ`` is what providers read their own settings from."""

    app_name: str = "Chat API"
    debug: bool = True
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    metrics_port: int | None = None
    metrics_host: str = "127.0.0.1"
    log_level: str = "INFO"
    database_url: str = field(default="sqlite:///./chat.db", repr=False)
    database_pool_size: int = 10
    auto_migrate: bool = True
    redis_url: str | None = field(default=None, repr=False)
    secret_keys: tuple[str, ...] = field(default=(), repr=False)
    algorithm: str = "HS256"
    access_token_expire_minutes: int = 30
    llm: str = ECHO
    llm_offered: tuple[str, ...] = ()
    llm_concurrency: int = 256
    llm_takeover: str = "always"
    model_first_part: float = 20.0
    model_silence: float = 20.0
    cors_origins: tuple[str, ...] = ()
    send_wait: float = 50.0
    drain_delay: float = 2.0
    model_timeout: float = 300.0
    max_body_bytes: int = 512 * 1024
    rate_limits: str = "on"
    streams_per_user: int = 10
    sockets_per_address: int = 200
    login_limit: Rate | None = Rate(5, 60.0)
    login_address_limit: Rate | None = Rate(20, 60.0)
    login_failure_limit: Rate | None = Rate(100, 86_400.0)
    signup_limit: Rate | None = Rate(60, 3600.0)
    send_limit: Rate | None = Rate(120, 60.0)
    room_limit: Rate | None = Rate(120, 3600.0)
    request_limit: Rate | None = Rate(1200, 60.0)
    trusted_proxies: tuple[Network, ...] = ()
    context_tokens: int = 16_000
    context_messages: int = 40
    context_window: int | None = None
    summaries: bool = True
    max_running_replies: int = 8
    daily_token_limit: int | None = None
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)


#: For whoever asks as fast as tests do.
NO_RATES: Mapping[str, Any] = dict.fromkeys(
    (
        "login_limit",
        "login_address_limit",
        "login_failure_limit",
        "signup_limit",
        "send_limit",
        "room_limit",
        "request_limit",
    )
)


#: Where variables besides those of the environment stand.
ENV_FILE = Path(".env")


def read_environ(env_file: Path = ENV_FILE) -> dict[str, str]:
    """The process's environment over the variables of ``.env``. A variable set to nothing counts as not set."""
    values = {name: value for name, value in dotenv_values(env_file).items() if value is not None}
    return {name: value for name, value in {**values, **os.environ}.items() if value.strip()}


def load_settings(environ: Mapping[str, str], *, env_file: Path | None = None, **given: object) -> Settings:
    """The settings that these variables make; ``given`` (host, port, workers) come from a command line and win.

    Raises ``SettingsError`` with every problem; without ``DEBUG`` an ``env_file`` with secrets for everybody to read
    is one. Without ``SECRET_KEY``, and with ``DEBUG``, a random key is made and
    kept beside the database.
    """
    reader = _Reader({**environ, **{name.upper(): str(value) for name, value in given.items() if value is not None}})
    debug = reader.flag("DEBUG", default=True)
    host = reader.text("HOST", "127.0.0.1")
    database_url = reader.text("DATABASE_URL", "sqlite:///./chat.db")
    algorithm = reader.choice("ALGORITHM", "HS256", ALGORITHMS)
    settings = replace(
        _models(reader, environ),
        app_name=reader.text("APP_NAME", "Chat API"),
        debug=debug,
        host=host,
        port=reader.number("PORT", 8000, 0, 65_535),
        workers=reader.number("WORKERS", 1, 1, 64),
        metrics_port=reader.number("METRICS_PORT", 0, 1, 65_535) or None,
        metrics_host=reader.text("METRICS_HOST", "127.0.0.1"),
        log_level=reader.choice("LOG_LEVEL", "INFO", LOG_LEVELS),
        database_url=database_url,
        database_pool_size=reader.number("DATABASE_POOL_SIZE", 10, 1, 200),
        auto_migrate=reader.flag("AUTO_MIGRATE", default=database_url.startswith("sqlite")),
        redis_url=reader.redis_url("REDIS_URL"),
        secret_keys=reader.secret_keys(debug, database_url, algorithm, env_file),
        algorithm=algorithm,
        access_token_expire_minutes=reader.number("ACCESS_TOKEN_EXPIRE_MINUTES", 30, 1, 1440),
        cors_origins=reader.origins("CORS_ORIGINS"),
        send_wait=float(reader.number("SEND_WAIT", 50, 1, 600)),
        drain_delay=float(reader.number("DRAIN_DELAY", 2, 0, 15)),
        max_body_bytes=reader.number("MAX_BODY_BYTES", 512 * 1024, 1024, 64 * 1024 * 1024),
        rate_limits=reader.choice("RATE_LIMITS", "ON", ("ON", "OFF")).lower(),
        sockets_per_address=reader.number("SOCKETS_PER_ADDRESS", 200, 1, 1_000_000),
        login_limit=reader.rate("LOGIN_LIMIT", Rate(5, 60.0)),
        login_address_limit=reader.rate("LOGIN_ADDRESS_LIMIT", Rate(20, 60.0)),
        login_failure_limit=reader.rate("LOGIN_FAILURE_LIMIT", Rate(100, 86_400.0)),
        signup_limit=reader.rate("SIGNUP_LIMIT", Rate(60, 3600.0)),
        send_limit=reader.rate("SEND_LIMIT", Rate(120, 60.0)),
        room_limit=reader.rate("ROOM_LIMIT", Rate(120, 3600.0)),
        request_limit=reader.rate("REQUEST_LIMIT", Rate(1200, 60.0)),
        trusted_proxies=reader.networks("TRUSTED_PROXIES"),
        streams_per_user=reader.number("STREAMS_PER_USER", 10, 1, 10_000),
        context_tokens=reader.number("CONTEXT_TOKENS", 16_000, 500, 10_000_000),
        context_messages=reader.number("CONTEXT_MESSAGES", 40, 2, 1000),
        context_window=reader.number("CONTEXT_WINDOW", 0, 500, 10_000_000) or None,
        summaries=reader.flag("SUMMARIES", default=True),
        max_running_replies=reader.number("MAX_RUNNING_REPLIES", 8, 1, 10_000),
        daily_token_limit=reader.number("DAILY_TOKEN_LIMIT", 0, 1, 999_999_999_999) or None,
    )
    if debug and not _is_loopback(host):
        reader.problems.append(
            f"HOST is {host}, which others can reach, while DEBUG is true: set DEBUG=false (and a SECRET_KEY), "
            "or HOST=127.0.0.1."
        )
    if settings.metrics_port == settings.port:
        reader.problems.append("METRICS_PORT is PORT: metrics are for others than the API is, and have their own.")
    if reader.problems:
        raise SettingsError(reader.problems)
    return settings


def load_model_settings(environ: Mapping[str, str]) -> Settings:
    """The settings of the language models alone, for what needs no server and no database. Makes and keeps no key.

    Raises ``SettingsError`` with every problem.
    """
    reader = _Reader(environ)
    settings = _models(reader, environ)
    if reader.problems:
        raise SettingsError(reader.problems)
    return settings


def _models(reader: "_Reader", environ: Mapping[str, str]) -> Settings:
    return Settings(
        llm=reader.text("LLM", DEFAULT_GEMINI if "GEMINI_API_KEY" in environ else ECHO),
        llm_offered=tuple(name.strip() for name in reader.text("LLM_OFFERED", "").split(",") if name.strip()),
        llm_concurrency=reader.number("LLM_CONCURRENCY", 256, 1, 10_000),
        llm_takeover=reader.choice("LLM_TAKEOVER", "ALWAYS", ("ALWAYS", "BEFORE-TEXT")).lower(),
        model_first_part=float(reader.number("MODEL_FIRST_PART", 20, 1, 3600)),
        model_silence=float(reader.number("MODEL_SILENCE", 20, 1, 3600)),
        model_timeout=float(reader.number("MODEL_TIMEOUT", 300, 1, 3600)),
        environ=dict(environ),
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


class _Reader:
    """Reads variables, and collects what is wrong with them instead of stopping at the first."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.problems: list[str] = []

    def _read(self, name: str, default: T, parse: Callable[[str], T], wanted: str) -> T:
        value = self._environ.get(name)
        if value is None:
            return default
        try:
            return parse(value.strip())
        except ValueError:
            # The value is not repeated: it may be a secret in the wrong place.
            self.problems.append(f"{name} should be {wanted}.")
            return default

    def text(self, name: str, default: str) -> str:
        return self._environ.get(name, default).strip()

    def number(self, name: str, default: int, least: int, most: int) -> int:
        def parse(value: str) -> int:
            if not re.fullmatch(r"[0-9]{1,12}", value) or not least <= int(value) <= most:
                raise ValueError
            return int(value)

        return self._read(name, default, parse, f"a whole number from {least} to {most}")

    def flag(self, name: str, *, default: bool) -> bool:
        words = {
            "true": True,
            "1": True,
            "yes": True,
            "on": True,
            "false": False,
            "0": False,
            "no": False,
            "off": False,
        }

        def parse(value: str) -> bool:
            if value.lower() not in words:
                raise ValueError
            return words[value.lower()]

        return self._read(name, default, parse, "true or false")

    def choice(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        def parse(value: str) -> str:
            if value.upper() not in choices:
                raise ValueError
            return value.upper()

        return self._read(name, default, parse, "one of " + ", ".join(choices))

    def rate(self, name: str, default: Rate) -> Rate | None:
        def parse(value: str) -> Rate | None:
            if value.lower() == "off":
                return None
            found = re.fullmatch(r"([0-9]{1,9})/([0-9]{0,6})([smhd])", value.lower())
            if not found or not int(found[1]) or found[2].strip("0") == "" != found[2]:
                raise ValueError
            return Rate(int(found[1]), int(found[2] or 1) * _UNITS[found[3]])

        wanted = "so many in a time, such as 5/m, 100/15m or 1000/h, or off"
        return self._read(name, cast("Rate | None", default), parse, wanted)

    def networks(self, name: str) -> tuple[Network, ...]:
        def parse(value: str) -> tuple[Network, ...]:
            return tuple(ipaddress.ip_network(part.strip()) for part in value.split(",") if part.strip())

        return self._read(name, (), parse, "addresses or networks with commas between, such as 10.0.0.0/8, ::1")

    def redis_url(self, name: str) -> str | None:
        def parse(value: str) -> str | None:
            if not re.match(r"(redis|rediss|unix)://", value):
                raise ValueError
            return value

        return self._read(name, None, parse, "a URL such as redis://localhost:6379/0")

    def origins(self, name: str) -> tuple[str, ...]:
        def parse(value: str) -> tuple[str, ...]:
            origins = tuple(origin.strip() for origin in value.split(",") if origin.strip())
            if not all(
                re.fullmatch(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9A-Fa-f:]+\](:[0-9]{1,5})?", o)
                for o in origins
            ):
                raise ValueError
            return origins

        wanted = "exact origins with commas between, such as https://chat.example.com, without a path and never *"
        return self._read(name, (), parse, wanted)

    def secret_keys(self, debug: bool, database_url: str, algorithm: str, env_file: Path | None) -> tuple[str, ...]:
        given = self._environ.get("SECRET_KEY")
        previous = [key.strip() for key in self._environ.get("SECRET_KEY_PREVIOUS", "").split(",") if key.strip()]
        try:
            for name, key in [("SECRET_KEY", given), *(("SECRET_KEY_PREVIOUS", key) for key in previous)]:
                if key is not None:
                    check_secret_key(name, key.strip(), int(algorithm.removeprefix("HS")) // 8)
            if given is not None:
                check_own_purpose(given.strip(), self._environ)
            if env_file is not None and not debug:
                check_private(env_file)
            if given is None and not debug:
                raise SecretKeyError(
                    "SECRET_KEY is not set: without DEBUG it must be, to at least 32 random characters, for example "
                    "from `python3 -c 'import secrets; print(secrets.token_urlsafe(48))'`."
                )
            return (given.strip() if given else kept_secret_key(database_url), *previous)
        except SecretKeyError as error:
            self.problems.append(str(error))
            return ()
