"""The least that a broadcast can cost: a bare ASGI application that tells every socket what somebody posts."""

import asyncio
import json
import sys
from typing import Any

import uvicorn

from entrypoints.serve import UVICORN

sockets: set[Any] = set()
tasks: set["asyncio.Task[None]"] = set()
#: As long as the event of a short message is.
PADDING = "x" * 420


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
        if scope["method"] == "POST":
            content = json.loads((await receive())["body"])["content"]
            task = asyncio.create_task(tell(json.dumps({"content": content, "padding": PADDING})))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        headers = [(b"content-length", b"2"), (b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"{}"})


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), **UVICORN)
