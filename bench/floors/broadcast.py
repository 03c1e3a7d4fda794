"""The floor of a fan-out: every socket is told what somebody posts."""

import asyncio
import json
from typing import Any

#: As long as the event of a short message is.
PADDING = "x" * 420

sockets: set[Any] = set()
tasks: set["asyncio.Task[None]"] = set()


async def tell(text: str) -> None:
    for send in list(sockets):
        await send({"type": "websocket.send", "text": text})


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        sockets.add(send)
        while (await receive())["type"] == "websocket.receive":
            pass
        sockets.discard(send)
    elif scope["type"] == "http":
        content = json.loads((await receive())["body"])["content"]
        task = asyncio.create_task(tell(json.dumps({"content": content, "padding": PADDING})))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        headers = [(b"content-length", b"2"), (b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 201, "headers": headers})
        await send({"type": "http.response.body", "body": b"{}"})
    else:
        while True:
            event = await receive()
            await send({"type": f"{event['type']}.complete"})
