"""The one bridge between the container and the handlers."""

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from litestar.di import Dependency, Provide
from litestar.params import SkipValidationMarker

T = TypeVar("T")

#: A parameter that is a use case of the container, by name: ``create_room: Use[CreateRoom]``.
Use = Annotated[T, Dependency(), SkipValidationMarker()]


def bridge(provider: Callable[[], Any]) -> Provide:
    """A container's provider as a dependency of Litestar."""

    def provide() -> Any:
        return provider()

    return Provide(provide, sync_to_thread=False)
