"""The composition root: the one place that names adapters, and nothing else."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from adapters.auth.passwords import CryptContextPasswords
from adapters.auth.tokens import JwtTokens, Key
from adapters.llm import offers
from adapters.llm.choice import Choice
from adapters.llm.registry import Providers, build, names_of
from adapters.memory.delivery import MemoryReplyFeed
from adapters.memory.limits import MemoryRateLimits
from adapters.memory.room_feed import MemoryRoomFeed
from adapters.memory.security import MemoryPasswords, MemoryTokens
from adapters.memory.storage import MemoryUnitOfWork
from adapters.queue.in_process import InProcessReplyQueue
from adapters.sql import migrate
from adapters.sql.engine import DEFAULT_LIMITS, Database, Limits
from adapters.sql.unit_of_work import SqlUnitOfWork
from chat_core.domain.ids import UserId
from chat_core.errors import StorageUnavailable
from chat_core.ports.delivery import ReplyFeed, ReplyQueue, RoomFeed
from chat_core.ports.language_model import LanguageModel, NotableModel
from chat_core.ports.limits import Limit, RateLimits
from chat_core.ports.storage import UnitOfWork
from chat_core.use_cases import (
    accounts,
    authentication,
    contexts,
    departures,
    follow,
    generation,
    limits,
    messages,
    parts,
    replies,
    rooms,
    sending,
    sessions,
    summaries,
    usage,
)
from chat_core.use_cases.live.hub import Hub
from chat_core.use_cases.live.page import ReadLog
from chat_core.use_cases.live.replies import LiveReplies
from chat_core.use_cases.prompts import Budget, Prompts
from chat_core.use_cases.quotas import Quotas
from chat_core.use_cases.turns import Turns
from entrypoints.health import Draining, Part, Readiness
from entrypoints.loading import absent
from entrypoints.open_streams import OpenStreams
from entrypoints.settings import NO_RATES, Rate, Settings, SettingsError

# It can read settings with these, and inject into applications of those; ours are neither.
with absent("fastapi", "pydantic", "pydantic_settings", "starlette", "werkzeug", "yaml"):
    from dependency_injector import containers, providers

#: Failures in a row after which a model counts as down.
FAILURES_TILL_DOWN = 5
#: How often a process that starts looks for its database, about a second apart.
START_TRIES = 5

if TYPE_CHECKING:
    from adapters.feed.pubsub import RedisLine
    from adapters.feed.streams import StreamReader
    from adapters.queue.worker import QueueWorker
    from chat_core.testing.failpoints import Failpoints
    from entrypoints.metrics import Metrics

SchemaMismatch = migrate.SchemaMismatch
Answered = offers.Answered
Offers = offers.Offers


def _tokens(settings: Settings) -> JwtTokens:
    return JwtTokens(
        [Key(secret) for secret in settings.secret_keys],
        algorithm=settings.algorithm,
        lifetime=timedelta(minutes=settings.access_token_expire_minutes),
    )


async def _open_sql(database: Database, settings: Settings) -> None:
    # Machines that start together, or under load, need a moment to find each other.
    for _ in range(START_TRIES - 1):
        try:
            return await _open_sql_now(database, settings)
        except StorageUnavailable:
            await asyncio.sleep(1.0)
    return await _open_sql_now(database, settings)


async def _open_sql_now(database: Database, settings: Settings) -> None:
    state = await migrate.check(database)
    # Alembic takes longer to load than all the rest of a start takes, and nearly always has nothing to do.
    if settings.auto_migrate and not state.fits:
        await migrate.upgrade(settings.database_url)
        state = await migrate.check(database)
    state.require()


async def _close_sql(database: Database) -> None:
    await database.close()


async def _nothing() -> None:
    pass


async def _check_sql(database: Database) -> Part:
    try:
        await database.ping()
    except StorageUnavailable as error:
        return Part("down", error.detail)
    return Part("ok")


async def _in_memory() -> Part:
    return Part("ok", "in memory: gone with the process")


async def _check_redis(line: "RedisLine | None") -> Part:
    if line is None:
        return Part("ok", "not configured")
    return Part("ok") if line.answers else Part("degraded", "away: replies are made in the API's processes")


async def _check_workers(line: "RedisLine | None") -> Part:
    if line is None:
        return Part("ok", "not configured: replies are made in this process")
    if line.connected and line.has_workers:
        return Part("ok")
    return Part("down", "no worker is heard of: replies are made in the API's processes")


async def _check_model(model: LanguageModel) -> Part:
    """By how its last requests went: the provider is asked nothing here."""
    if isinstance(model, NotableModel) and model.notice:
        return Part("degraded", model.notice)
    if isinstance(model, Choice):
        failing = [
            f"{name} (circuit open)" if record.circuit_open else name
            for name, record in model.health.items()
            if record.circuit_open or record.consecutive_failures
        ]
        if failing:
            down = all(
                record.circuit_open or record.consecutive_failures >= FAILURES_TILL_DOWN
                for record in model.health.values()
            )
            return Part("down" if down else "degraded", "failing: " + ", ".join(failing))
    return Part("ok")


def _model(settings: Settings) -> Choice:
    return build(
        settings.llm,
        settings.environ,
        offered=settings.llm_offered,
        concurrency=settings.llm_concurrency,
        first=settings.model_first_part,
        silence=settings.model_silence,
        midway=settings.llm_takeover == "always",
    )


def _offered(model: LanguageModel) -> frozenset[str]:
    return frozenset(model.offered) if isinstance(model, Choice) else frozenset()


def _own_model(model: LanguageModel) -> str | None:
    return model.offered[0] if isinstance(model, Choice) else None


def _budget(settings: Settings, model: LanguageModel) -> Budget:
    # What is no AI, as the echo, cannot say what was said.
    summarises = settings.summaries and not (isinstance(model, NotableModel) and model.notice)
    return Budget(
        tokens=settings.context_tokens,
        messages=settings.context_messages,
        window=settings.context_window,
        summaries=summarises,
    )


def _quotas(settings: Settings) -> Quotas:
    if settings.rate_limits == "off":
        return Quotas()
    return Quotas(running=settings.max_running_replies, daily_tokens=settings.daily_token_limit)


def _failpoints(settings: Settings) -> "Failpoints | None":
    """For fault tests alone: a process that is not built for them does not look at the variable."""
    if settings.environ.get("CHAT_TEST_BUILD") != "1" or "CHAT_FAILPOINTS" not in settings.environ:
        return None
    from chat_core.testing.failpoints import Failpoints

    return Failpoints(settings.environ["CHAT_FAILPOINTS"])


def _turns(settings: Settings) -> Turns:
    # Whoever waits is to be told within 2 s that it is too much; with SQLite, whose file others may hold, within 6 s.
    return Turns(patience=DEFAULT_LIMITS.busy if settings.database_url.startswith("sqlite") else 1.5)


def _metrics(settings: Settings) -> "Metrics | None":
    if settings.metrics_port is None:
        return None
    from entrypoints.metrics import Metrics

    return Metrics()


def _counted_storage(uow: UnitOfWork, metrics: "Metrics | None") -> UnitOfWork:
    if metrics is None:
        return uow
    from entrypoints.metrics import CountedStorage

    return CountedStorage(uow, metrics)


def _storage(database: Database, failpoints: "Failpoints | None", settings: Settings) -> UnitOfWork:
    uow: UnitOfWork = SqlUnitOfWork(database)
    if settings.environ.get("CHAT_TEST_BUILD") == "1" and "CHAT_SEEDED_BUG" in settings.environ:
        from chat_core.testing.seeded_bugs import wrap

        uow = wrap(settings.environ["CHAT_SEEDED_BUG"], uow)
    return failpoints.storage(uow) if failpoints else uow


def _local_queue(
    generate: generation.GenerateReply, failpoints: "Failpoints | None", concurrency: int
) -> InProcessReplyQueue:
    make = failpoints.maker(generate) if failpoints else generate
    return InProcessReplyQueue(make, generate.go_on, concurrency=concurrency)


def _line(settings: Settings) -> "RedisLine | None":
    if settings.redis_url is None:
        return None
    from adapters.feed.pubsub import RedisLine

    return RedisLine(settings.redis_url)


def _reader(local: MemoryReplyFeed, line: "RedisLine | None", settings: Settings) -> "StreamReader | None":
    if line is None or settings.redis_url is None:
        return None
    from adapters.feed.streams import StreamReader

    return StreamReader(local, line, settings.redis_url)


def _feed(local: MemoryReplyFeed, line: "RedisLine | None", reader: "StreamReader | None") -> ReplyFeed:
    if line is None or reader is None:
        return local
    from adapters.feed.streams import RedisReplyFeed

    return RedisReplyFeed(local, line, reader)


def _room_feed(local: MemoryRoomFeed, line: "RedisLine | None") -> RoomFeed:
    if line is None:
        return local
    from adapters.feed.rooms import RedisRoomFeed

    return RedisRoomFeed(local, line)


def _hub(uow: UnitOfWork, feed: RoomFeed, alive: Callable[..., Awaitable[set[UUID]]], draining: Draining) -> Hub:
    return Hub(uow, feed, alive=alive, draining=lambda: draining.begun)


def _limits(settings: Settings, line: "RedisLine | None", metrics: "Metrics | None") -> limits.Limits:
    if settings.rate_limits == "off":
        return limits.Limits()
    buckets: RateLimits = MemoryRateLimits()
    if line is not None:
        from adapters.limits.redis import RedisRateLimits

        buckets = RedisRateLimits(line.ask, buckets)
    if metrics is not None:
        from entrypoints.metrics import CountedLimits

        buckets = CountedLimits(buckets, metrics)

    def limit(name: str, rate: Rate | None) -> Limit | None:
        return Limit(name, *rate) if rate else None

    return limits.Limits(
        buckets=buckets,
        log_in=limit("log-in", settings.login_limit),
        log_in_address=limit("log-in-address", settings.login_address_limit),
        log_in_failures=limit("log-in-failures", settings.login_failure_limit),
        sign_up=limit("sign-up", settings.signup_limit),
        send=limit("sends", settings.send_limit),
        room=limit("rooms", settings.room_limit),
        request=limit("requests", settings.request_limit),
    )


def _open_streams(settings: Settings) -> OpenStreams[UserId]:
    return OpenStreams(settings.streams_per_user if settings.rate_limits == "on" else None)


def _open_sockets(settings: Settings) -> OpenStreams[str]:
    return OpenStreams(settings.sockets_per_address if settings.rate_limits == "on" else None)


def _queue(local: InProcessReplyQueue, line: "RedisLine | None", worker: bool) -> ReplyQueue:
    if line is None:
        return local
    from adapters.queue.remote import RemoteReplyQueue

    def worked() -> bool:
        return line.connected and (worker or line.has_workers)

    return RemoteReplyQueue(line.post, local, worked)


def _tested_queue(queue: ReplyQueue, failpoints: "Failpoints | None") -> ReplyQueue:
    return failpoints.queue(queue) if failpoints else queue


def _queue_worker(local: InProcessReplyQueue, settings: Settings, threads: int) -> "QueueWorker":
    from adapters.queue.broker import ListBroker
    from adapters.queue.worker import QueueWorker

    return QueueWorker(ListBroker(settings.redis_url or ""), local, threads=threads)


def _readiness(
    draining: Draining,
    database: Callable[[], Awaitable[Part]],
    redis: Callable[[], Awaitable[Part]],
    model: Callable[[], Awaitable[Part]],
    workers: Callable[[], Awaitable[Part]],
) -> Readiness:
    checks = {"database": database, "redis": redis, "model": model, "workers": workers}
    return Readiness(checks, draining)


class Container(containers.DeclarativeContainer):
    """Everything, by name. ``settings`` must be given."""

    settings = providers.Dependency(instance_of=Settings)

    database = providers.Singleton(
        lambda settings: Database(settings.database_url, Limits(pool_size=settings.database_pool_size)), settings
    )
    failpoints = providers.Singleton(_failpoints, settings)
    metrics = providers.Singleton(_metrics, settings)
    stored = providers.Singleton(_storage, database, failpoints, settings)
    uow = providers.Singleton(_counted_storage, stored, metrics)
    open_storage = providers.Callable(_open_sql, database, settings)
    close_storage = providers.Callable(_close_sql, database)

    passwords = providers.Singleton(CryptContextPasswords)
    tokens = providers.Singleton(_tokens, settings)
    recent_sessions = providers.Singleton(authentication.RecentSessions)

    model = providers.Singleton(_model, settings)
    #: Whether this process is a worker, and how many replies it makes at once.
    is_worker = providers.Object(False)
    concurrency = providers.Object(200)
    threads = providers.Object(4)

    local_feed = providers.Singleton(MemoryReplyFeed)
    line = providers.Singleton(_line, settings)
    reader = providers.Singleton(_reader, local_feed, line, settings)
    feed = providers.Singleton(_feed, local_feed, line, reader)
    local_room_feed = providers.Singleton(MemoryRoomFeed)
    room_feed = providers.Singleton(_room_feed, local_room_feed, line)
    turns = providers.Singleton(_turns, settings)
    uncarried = providers.Singleton(parts.Uncarried)
    show_parts = providers.Singleton(parts.ShowParts, feed=feed, uncarried=uncarried)
    keep_parts = providers.Singleton(parts.KeepParts, uow=uow, uncarried=uncarried)
    drop_parts = providers.Singleton(parts.DropParts, uow=uow)
    budget = providers.Singleton(_budget, settings, model)
    prompts = providers.Singleton(Prompts, budget=budget, own_model=providers.Callable(_own_model, model))
    quotas = providers.Singleton(_quotas, settings)
    asked_summaries = providers.Singleton(summaries.AskedSummaries)
    make_summaries = providers.Singleton(
        summaries.MakeSummaries, uow=uow, model=model, prompts=prompts, asked=asked_summaries
    )
    ends = providers.Singleton(replies.Ends)
    generate_reply = providers.Singleton(
        generation.GenerateReply,
        uow=uow,
        model=model,
        feed=feed,
        turns=turns,
        show=show_parts,
        room_feed=room_feed,
        prompts=prompts,
        ends=ends,
        asked=asked_summaries,
        timeout=settings.provided.model_timeout,
    )
    local_queue = providers.Singleton(_local_queue, generate_reply, failpoints, concurrency)
    own_queue = providers.Singleton(_queue, local_queue, line, is_worker)
    queue = providers.Singleton(_tested_queue, own_queue, failpoints)
    queue_worker = providers.Singleton(_queue_worker, local_queue, settings, threads)

    limits = providers.Singleton(_limits, settings, line, metrics)
    sign_up = providers.Singleton(accounts.SignUp, uow=uow, passwords=passwords, limits=limits)
    log_in = providers.Singleton(accounts.LogIn, uow=uow, passwords=passwords, tokens=tokens, limits=limits)
    authenticate = providers.Singleton(authentication.Authenticate, uow=uow, tokens=tokens, recent=recent_sessions)
    refresh = providers.Singleton(sessions.Refresh, uow=uow, tokens=tokens, recent=recent_sessions)
    log_out = providers.Singleton(sessions.LogOut, uow=uow, recent=recent_sessions)
    list_sessions = providers.Singleton(sessions.ListSessions, uow=uow)
    end_session = providers.Singleton(sessions.EndSession, uow=uow, recent=recent_sessions)
    alive_sessions = providers.Singleton(sessions.AliveSessions, uow=uow)
    issue_ticket = providers.Singleton(sessions.IssueTicket, uow=uow)
    redeem_ticket = providers.Singleton(sessions.RedeemTicket, uow=uow)
    check_password = providers.Singleton(accounts.CheckPassword, uow=uow, passwords=passwords, limits=limits)
    change_password = providers.Singleton(
        accounts.ChangePassword, uow=uow, passwords=passwords, check=check_password, recent=recent_sessions
    )
    leave_rooms = providers.Singleton(departures.LeaveRooms, uow=uow, feed=feed, room_feed=room_feed)
    end_account = providers.Singleton(
        departures.EndAccount,
        uow=uow,
        feed=feed,
        check=check_password,
        leave_rooms=leave_rooms,
        recent=recent_sessions,
    )
    finish_departures = providers.Singleton(departures.FinishDepartures, uow=uow, feed=feed, leave_rooms=leave_rooms)
    create_room = providers.Singleton(rooms.CreateRoom, uow=uow, limits=limits)
    list_rooms = providers.Singleton(rooms.ListRooms, uow=uow)
    read_room = providers.Singleton(rooms.ReadRoom, uow=uow)
    update_room = providers.Singleton(
        rooms.UpdateRoom, uow=uow, room_feed=room_feed, models=providers.Callable(_offered, model)
    )
    delete_room = providers.Singleton(rooms.DeleteRoom, uow=uow, room_feed=room_feed, feed=feed)
    list_members = providers.Singleton(rooms.ListMembers, uow=uow)
    add_member = providers.Singleton(rooms.AddMember, uow=uow, room_feed=room_feed)
    remove_member = providers.Singleton(rooms.RemoveMember, uow=uow, room_feed=room_feed)
    send_message = providers.Singleton(
        sending.SendMessage,
        uow=uow,
        room_feed=room_feed,
        queue=queue,
        turns=turns,
        model=model,
        prompts=prompts,
        quotas=quotas,
        limits=limits,
        timeout=settings.provided.model_timeout,
    )
    list_messages = providers.Singleton(messages.ListMessages, uow=uow)
    edit_message = providers.Singleton(messages.EditMessage, uow=uow, room_feed=room_feed)
    delete_message = providers.Singleton(messages.DeleteMessage, uow=uow, room_feed=room_feed, feed=feed)
    draining = providers.Singleton(Draining)
    await_reply = providers.Singleton(
        replies.AwaitReply,
        uow=uow,
        feed=feed,
        ends=ends,
        hurry=providers.Callable(lambda draining: draining.hurries, draining),
    )
    follow_reply = providers.Singleton(follow.FollowReply, uow=uow, feed=feed, ends=ends)
    read_reply = providers.Singleton(replies.ReadReply, uow=uow)
    stop_reply = providers.Singleton(replies.StopReply, uow=uow, feed=feed, await_reply=await_reply)
    retry_reply = providers.Singleton(replies.RetryReply, uow=uow, room_feed=room_feed, queue=queue, quotas=quotas)
    read_context = providers.Singleton(contexts.ReadContext, uow=uow)
    read_usage = providers.Singleton(usage.ReadUsage, uow=uow, quotas=quotas)
    spread_stops = providers.Singleton(replies.SpreadStops, uow=uow, feed=local_feed)
    sweep_replies = providers.Singleton(replies.SweepReplies, uow=uow, queue=queue)

    hub = providers.Singleton(_hub, uow, room_feed, alive_sessions, draining)
    live_replies = providers.Singleton(LiveReplies, uow, follow_reply, hub)
    read_log = providers.Singleton(ReadLog, uow=uow)
    open_streams = providers.Singleton(_open_streams, settings)
    open_sockets = providers.Singleton(_open_sockets, settings)

    check_database = providers.Callable(_check_sql, database)
    check_redis = providers.Callable(_check_redis, line)
    check_workers = providers.Callable(_check_workers, line)
    check_model = providers.Callable(_check_model, model)
    readiness = providers.Singleton(
        _readiness,
        draining,
        check_database.provider,
        check_redis.provider,
        check_model.provider,
        check_workers.provider,
    )


def build_container(settings: Settings) -> Container:
    """The container for these settings. Raises ``SettingsError`` where a variable does not fit its adapter."""
    container = Container(settings=settings)
    problems: list[str] = []
    for provider in (container.database, container.model):
        try:
            provider()
        except ValueError as error:
            problems.append(f"{error}.")
    if problems:
        raise SettingsError(problems)
    return container


async def prepare_storage(container: Container) -> None:
    """Bring the storage to where the service can start, in a loop of its own. Raises ``SchemaMismatch``."""
    try:
        await container.open_storage()
    finally:
        await container.close_storage()


async def migrate_storage(settings: Settings) -> None:
    """Bring the database's schema to this version. Raises ``StorageUnavailable``."""
    await migrate.upgrade(settings.database_url)


async def schema_state(settings: Settings) -> tuple[bool, str]:
    """Whether the schema fits, and a sentence that says so. Raises ``StorageUnavailable``."""
    database = Database(settings.database_url)
    try:
        state = await migrate.check(database)
        state.require()
    except SchemaMismatch as error:
        return False, f"{error}."
    finally:
        await database.close()
    return True, f"The database is at revision {state.head}, as this version needs."


async def redis_answers(settings: Settings) -> bool:
    """Whether the Redis of ``REDIS_URL`` answers within a second."""
    from adapters.queue.broker import client

    def ping() -> bool:
        try:
            with client(settings.redis_url or "", timeout=1.0) as redis:
                return bool(redis.ping())
        except Exception:  # noqa: BLE001 - whatever it is, it is no answer
            return False

    return await asyncio.to_thread(ping)


def build_model(settings: Settings) -> Choice:
    """The language model alone, as ``settings.llm`` and its kin say. Raises ``SettingsError``."""
    try:
        return _model(settings)
    except ValueError as error:
        raise SettingsError([f"{error}."]) from error


def configured_models(llm: str) -> tuple[tuple[str, str], ...]:
    """The provider of each model in ``LLM``, and its ``provider:model``, in the order in which they are asked.

    Raises ``SettingsError``.
    """
    try:
        return tuple((name.provider, f"{name.provider}:{name.model}") for name in names_of(llm))
    except ValueError as error:
        raise SettingsError([f"{error}."]) from error


def installed_providers() -> tuple[str, ...]:
    """The names of the language model providers that are installed. Loads none of them."""
    return Providers().installed()


def missing_providers() -> Mapping[str, str]:
    """The providers of packages that are installed without a library that they need, with what to install."""
    return Providers().missing()


async def provider_offers(provider: str, settings: Settings) -> Offers:
    """What this provider says that it offers. It is loaded and asked, whether or not ``LLM`` names it."""
    return await offers.offers_of(provider, settings.environ)


def memory_container(settings: Settings | None = None, *, model: LanguageModel | None = None) -> Container:
    """A container whose storage, passwords and tokens live in this process: for tests, trials and embedding.

    ``model`` answers instead of the one that ``settings.llm`` names, without deadlines or retries around it. Where no
    ``settings`` are given nothing limits how often somebody asks.
    """
    container = Container(settings=settings or Settings(**NO_RATES))
    container.stored.override(providers.Singleton(MemoryUnitOfWork))
    container.passwords.override(providers.Singleton(MemoryPasswords))
    container.tokens.override(providers.Singleton(MemoryTokens))
    container.open_storage.override(providers.Callable(_nothing))
    container.close_storage.override(providers.Callable(_nothing))
    container.check_database.override(providers.Callable(_in_memory))
    if model is not None:
        container.model.override(providers.Object(model))
    return container
