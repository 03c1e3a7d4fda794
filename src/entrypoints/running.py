"""What runs beside the requests, from the service's start to its end."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from chat_core.errors import Unavailable
from chat_core.ports.language_model import CheckableModel, ClosableModel, ModelCheck
from chat_core.use_cases.replies import SweepReplies
from entrypoints.container import Container
from entrypoints.health import Introduction

log = logging.getLogger("chat_api.start")

#: How long replies that are being made may go on when the service ends, in seconds.
DRAIN_SECONDS = 15.0


@asynccontextmanager
async def running(container: Container) -> AsyncIterator[None]:
    """Open the storage, look after what others left behind, and put everything away at the end."""
    await container.open_storage()
    tasks = [
        asyncio.create_task(_sweep(container.sweep_replies())),
        asyncio.create_task(_introduce(container.model(), container.introduction())),
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await container.queue().close(DRAIN_SECONDS)
        model = container.model()
        if isinstance(model, ClosableModel):
            await model.aclose()
        await container.close_storage()


async def _sweep(sweep: SweepReplies) -> None:
    away = False
    while True:
        # The jitter keeps processes that were started together from looking in step.
        await asyncio.sleep(random.uniform(1.0, 2.0))  # noqa: S311 - no secret
        try:
            await sweep()
            away = False
        except Unavailable as error:
            if not away:
                log.warning("due replies cannot be looked for: %s", error.detail)
            away = True
        except Exception:
            # The sweep is the last resort of every reply: it must outlive its own faults.
            log.exception("the sweep failed")


async def _introduce(model: object, introduction: Introduction) -> None:
    if not isinstance(model, CheckableModel):
        return
    health = introduction.health = await model.check()
    if health.check is ModelCheck.OK:
        log.info("the model is ready: %s", health.detail)
    else:
        log.warning("the model is %s: %s", health.check, health.detail)
