"""Server-sent events, as far as providers use them, and byte for byte."""

from collections.abc import Iterator

from chat_core.errors import ModelBadAnswer

_FIELDS = frozenset({b"data", b"event", b"id", b"retry", b""})


class Events:
    """The data of each event of a stream, as its bytes come.

    Lines end at LF or CR LF alone: U+2028, which may stand raw in JSON, ends none. Raises ``ModelBadAnswer`` for a line
    that is no field of an event, one longer than ``line_bytes``, or more than ``wire_bytes`` in all.
    """

    def __init__(self, *, line_bytes: int, wire_bytes: int) -> None:
        self._line_bytes, self._wire_bytes = line_bytes, wire_bytes
        self._data: list[bytes] = []
        #: The pieces of a line that has not ended: joined once, for a long line may come in very small ones.
        self._pieces: list[bytes] = []
        self._unended = 0
        self._total = 0

    def take(self, chunk: bytes) -> Iterator[bytes]:
        """The data of the events that end with this."""
        self._total += len(chunk)
        if self._total > self._wire_bytes:
            raise ModelBadAnswer(f"the answer is longer than {self._wire_bytes} bytes on the wire")
        first, *others = chunk.split(b"\n")
        self._pieces.append(first)
        self._unended += len(first)
        for following in others:
            line = b"".join(self._pieces).removesuffix(b"\r")
            self._pieces, self._unended = [following], len(following)
            if line:
                self._read(line)
            elif self._data:
                yield self._event()
        if self._unended > self._line_bytes:
            raise ModelBadAnswer(f"a line of the answer is longer than {self._line_bytes} bytes")

    def end(self) -> Iterator[bytes]:
        """At the end of the stream an event without its blank line still counts; half of one is left for its reader to
        refuse."""
        if self._unended:
            self._read(b"".join(self._pieces).removesuffix(b"\r"))
        if self._data:
            yield self._event()

    def _event(self) -> bytes:
        data, self._data = self._data, []
        return b"\n".join(data)

    def _read(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
        elif name not in _FIELDS:
            # The standard has unknown fields ignored. From a provider they are a proxy's page, and silence about it
            # would look like an answer that was cut.
            raise ModelBadAnswer("the answer holds a line that is no event")
