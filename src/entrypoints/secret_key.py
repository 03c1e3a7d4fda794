"""The key that access tokens are signed with: what is good enough, who may know it, and one for trials."""

import os
import re
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path

from dotenv import dotenv_values

SHORTEST = 32

#: Keys, and parts of keys, that tutorials and templates hand out, compared in lower case with punctuation taken away.
WELL_KNOWN = (
    "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
    "changeit", "changeme", "changethis", "defaultsecret", "devsecret", "djangoinsecure", "examplekey",
    "examplesecret", "insecuresecret", "jwtsecret", "keyboardcat", "mysecretkey", "mysupersecret", "notsecret",
    "placeholder", "replaceme", "replacethis", "secretkeyhere", "supersecretkey", "verysecretkey", "yoursecret",
    "yoursupersecret", "yourkeyhere",
)  # fmt: skip


class SecretKeyError(ValueError):
    """A sentence that names the variable, and never the key."""


def check_secret_key(name: str, key: str, shortest: int = SHORTEST) -> None:
    """Raise ``SecretKeyError`` where the key is well known, or shorter than the hash that it keys (RFC 7518, 3.2)."""
    plain = re.sub(r"[^a-z0-9]", "", key.lower())
    if any(known in plain for known in WELL_KNOWN):
        raise SecretKeyError(f"{name} is a well-known example: set it to at least {shortest} random characters.")
    if len(key.encode()) < shortest:
        raise SecretKeyError(f"{name} is too short: set it to at least {shortest} random characters.")


def check_own_purpose(key: str, environ: Mapping[str, str]) -> None:
    """Raise ``SecretKeyError`` where the key is another secret, too: whoever is told that one could sign tokens."""
    for name, value in environ.items():
        if key in value and (name.endswith("_API_KEY") or name in ("DATABASE_URL", "REDIS_URL")):
            raise SecretKeyError(
                f"SECRET_KEY is also in {name}: set it to random characters that are for nothing else."
            )


def check_private(env_file: Path) -> None:
    """Raise ``SecretKeyError`` where the file holds secrets and everybody on this machine may read it."""
    if os.name != "posix" or not env_file.is_file() or not env_file.stat().st_mode & stat.S_IROTH:
        return
    for name, value in dotenv_values(env_file).items():
        if value and (re.search(r"KEY|SECRET|PASSWORD", name) or re.search(r"://[^/]*:[^/]+@", value)):
            raise SecretKeyError(
                f"{env_file} can be read by everybody on this machine, and holds {name}: `chmod 600 {env_file}`."
            )


def kept_secret_key(database_url: str) -> str:
    """A random key for trials, made once and kept beside the SQLite file, or here where there is none.

    The file is readable by its owner alone. Two processes that start at once end up with the same key.
    """
    match = re.match(r"sqlite[^:]*:///(?P<path>[^?]+)", database_url)
    path = Path(f"{match['path']}.secret.key" if match else "chat.secret.key")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _write_once(path, secrets.token_urlsafe(48))
        key = path.read_text().strip()
    except OSError as error:
        raise SecretKeyError(
            f"SECRET_KEY is not set, and one for trials cannot be kept at {path} ({error.strerror}): set SECRET_KEY."
        ) from error
    check_secret_key("SECRET_KEY", key)
    return key


def _write_once(path: Path, text: str) -> None:
    # Written whole under another name first, so that nobody reads half a key; of two that link, the first one wins.
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
