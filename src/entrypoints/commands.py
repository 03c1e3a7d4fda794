"""The commands of ``chat-api``."""

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import replace

from chat_core.errors import ChatError
from entrypoints.garbage import uncollected
from entrypoints.settings import ENV_FILE, Settings, SettingsError, load_model_settings, load_settings, read_environ
from entrypoints.version import VERSION


def _with_settings(act: Callable[[Settings], int], **given: object) -> int:
    return _told(lambda: act(load_settings(read_environ(), env_file=ENV_FILE, **given)))


def _told(act: Callable[[], int]) -> int:
    """What ``act`` returns; settings that it cannot begin with are told."""
    try:
        return act()
    except SettingsError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return 2


def with_cause(error: ChatError) -> str:
    """What it says, and what lay behind it in its own words: for those who run the service, at a terminal."""
    cause: BaseException | None = error
    words = ""
    while cause is not None:
        words = str(cause).strip().partition("\n")[0] or words
        cause = cause.__cause__
    return error.detail if not words or words in error.detail else f"{error.detail} ({words})"


def serve(options: argparse.Namespace) -> int:
    """Start the HTTP API and stay until it is told to end."""
    given = {"host": options.host, "port": options.port, "workers": options.workers}

    def act(settings: Settings) -> int:
        with uncollected():
            from chat_core.errors import StorageUnavailable
            from entrypoints.container import SchemaMismatch, build_container, prepare_storage
            from entrypoints.serve import run

            container = build_container(settings)
        try:
            asyncio.run(prepare_storage(container))
        except SchemaMismatch as error:
            print(f"{error}.", file=sys.stderr)
            return 2
        except StorageUnavailable as error:
            print(f"DATABASE_URL: {with_cause(error)}", file=sys.stderr)
            return 2
        # The processes that serve read their settings anew, from the environment.
        os.environ.update({name.upper(): str(value) for name, value in given.items() if value is not None})
        return run(settings)

    return _with_settings(act, **given)


def worker(options: argparse.Namespace) -> int:
    """Make replies from the queue on Redis, and stay until it is told to end."""

    def act(settings: Settings) -> int:
        if settings.redis_url is None:
            raise SettingsError(["REDIS_URL is not set: workers take replies from a queue on Redis."])
        for name in ("processes", "threads", "concurrency"):
            if not 1 <= getattr(options, name) <= 10_000:
                raise SettingsError([f"--{name} should be a whole number from 1 to 10000."])
        from chat_core.errors import StorageUnavailable
        from entrypoints.container import SchemaMismatch
        from entrypoints.worker import run

        try:
            return run(settings, processes=options.processes, threads=options.threads, concurrency=options.concurrency)
        except SchemaMismatch as error:
            print(f"{error}.", file=sys.stderr)
            return 2
        except StorageUnavailable as error:
            print(f"DATABASE_URL: {with_cause(error)}", file=sys.stderr)
            return 2

    return _with_settings(act)


def migrate(options: argparse.Namespace) -> int:
    """Bring the database's schema to this version, or say whether it fits."""

    def act(settings: Settings) -> int:
        from chat_core.errors import StorageUnavailable
        from entrypoints.container import build_container, migrate_storage, schema_state

        build_container(settings)
        try:
            if not options.check:
                asyncio.run(migrate_storage(settings))
            fits, sentence = asyncio.run(schema_state(settings))
        except StorageUnavailable as error:
            print(f"DATABASE_URL: {with_cause(error)}", file=sys.stderr)
            return 1
        print(sentence)
        return 0 if fits else 1

    return _with_settings(act)


def doctor(_: argparse.Namespace) -> int:
    """Print a table of what is configured, reachable and missing."""

    def act(settings: Settings) -> int:
        from entrypoints.doctor import examine, print_table

        findings = asyncio.run(examine(settings))
        print_table(findings)
        return 1 if any(finding.is_problem for finding in findings) else 0

    return _with_settings(act)


def ask(options: argparse.Namespace) -> int:
    """Ask the models of ``LLM``, or the one that is given, and print the answer as it comes."""

    def act() -> int:
        from entrypoints.ask import ask

        settings = load_model_settings(read_environ())
        if options.model is not None:
            settings = replace(settings, llm=options.model)
        # Rooms choose among the others; here the choice is --model. One that is not set up is no hindrance.
        settings = replace(settings, llm_offered=())
        # What the adapters log of a failed attempt is on the terminal already, in this command's own words.
        logging.disable(logging.WARNING)
        try:
            return 0 if asyncio.run(ask(settings, options.prompt)) else 1
        except KeyboardInterrupt:
            # By now the task was cancelled and has closed the connection.
            print("stopped", file=sys.stderr)
            return 130
        finally:
            logging.disable(logging.NOTSET)

    return _told(act)


def providers(options: argparse.Namespace) -> int:
    """List the providers that are installed, and which of them are asked."""

    def act() -> int:
        from entrypoints.ask import list_models, list_providers

        settings = load_model_settings(read_environ())
        fine = asyncio.run(list_models(settings) if options.models else list_providers(settings, check=options.check))
        return 0 if fine else 1

    return _told(act)


def version(_: argparse.Namespace) -> int:
    """Print the version."""
    print(VERSION)
    return 0
