"""Server-sent events, as far as providers use them, and byte for byte."""

from collections.abc import AsyncGenerator, AsyncIterable

from chat_core.errors import ModelBadAnswer

_FIELDS = frozenset({b"data", b"event", b"id", b"retry", b""})


async def events(chunks: AsyncIterable[bytes], *, line_bytes: int, wire_bytes: int) -> AsyncGenerator[bytes, None]:
    """The data of each event. Lines end at LF or CR LF alone: U+2028, which may stand raw in JSON, ends none.

    At the end of the stream an event without its blank line still counts; half of one is left for its reader to refuse.
    Raises ``ModelBadAnswer`` for a line that is no field of an event, one longer than ``line_bytes``, or more than
    ``wire_bytes`` in all.
    """
    data: list[bytes] = []
    buffer = bytearray()
    total = 0
    async for chunk in chunks:
        total += len(chunk)
        if total > wire_bytes:
            raise ModelBadAnswer(f"the answer is longer than {wire_bytes} bytes on the wire")
        start, seen = 0, len(buffer)
        buffer += chunk
        # What was searched before is not searched again: a long line may come in very small pieces.
        while (end := buffer.find(b"\n", max(start, seen))) >= 0:
            line = bytes(buffer[start:end]).removesuffix(b"\r")
            start = end + 1
            if line:
                _take(line, data)
            elif data:
                yield b"\n".join(data)
                data = []
        del buffer[:start]
        if len(buffer) > line_bytes:
            raise ModelBadAnswer(f"a line of the answer is longer than {line_bytes} bytes")
    if buffer:
        _take(bytes(buffer).removesuffix(b"\r"), data)
    if data:
        yield b"\n".join(data)


def _take(line: bytes, data: list[bytes]) -> None:
    name, _, value = line.partition(b":")
    if name == b"data":
        data.append(value.removeprefix(b" "))
    elif name not in _FIELDS:
        # The standard has unknown fields ignored. From a provider they are a proxy's page, and silence about it would
        # look like an answer that was cut.
        raise ModelBadAnswer("the answer holds a line that is no event")
