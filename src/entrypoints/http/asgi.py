"""What a server process loads: the application for the settings in its environment."""

from entrypoints.container import build_container
from entrypoints.garbage import settle, uncollected
from entrypoints.http.app import create_app
from entrypoints.http.request_log import RequestLog
from entrypoints.logs import configure_logs
from entrypoints.settings import ENV_FILE, load_settings, read_environ


def create() -> RequestLog:
    """The application, by the environment and ``.env``. Raises ``SettingsError``."""
    settings = load_settings(read_environ(), env_file=ENV_FILE)
    configure_logs(settings.log_level)
    with uncollected():
        app = create_app(build_container(settings))
    settle()
    return app
