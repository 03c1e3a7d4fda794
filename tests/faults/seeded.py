"""``entrypoints.cli`` with a bug on purpose, for a build that does not know CHAT_SEEDED_BUG by itself."""

import sys

from dependency_injector import providers

from adapters.sql.unit_of_work import SqlUnitOfWork
from chat_core.testing.seeded_bugs import seeded
from entrypoints import cli
from entrypoints.container import Container, build_container
from entrypoints.http import asgi
from entrypoints.settings import Settings


def _with_bug(settings: Settings) -> Container:
    container = build_container(settings)
    container.uow.override(providers.Singleton(seeded, providers.Singleton(SqlUnitOfWork, container.database)))
    return container


if __name__ == "__main__":
    asgi.build_container = _with_bug  # type: ignore[attr-defined]
    sys.exit(cli.main())
