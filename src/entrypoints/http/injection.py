"""The one bridge between the container and the handlers."""

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from litestar import Litestar
from litestar.di import Dependency, Provide
from litestar.params import SkipValidationMarker
from litestar.routes import HTTPRoute

T = TypeVar("T")

#: A parameter that is a use case of the container, by name: ``create_room: Use[CreateRoom]``.
Use = Annotated[T, Dependency(), SkipValidationMarker()]


def bridge(provider: Callable[[], Any]) -> Provide:
    """A container's provider as a dependency of Litestar."""

    def provide() -> Any:
        return provider()

    return Provide(provide, sync_to_thread=False)


def one_after_the_other(app: Litestar) -> None:
    """Have the dependencies of each handler provided one after the other.

    The framework starts a task for each of those that do not depend on one another. None of ours waits for anything,
    and the tasks cost as much as all else that it does for a request.
    """
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for _, model in route.route_handler_map.values():
                model.dependency_batches = [{one} for batch in model.dependency_batches for one in batch]
