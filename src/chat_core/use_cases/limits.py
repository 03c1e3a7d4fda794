"""The limits to what one person, or one address, may ask for."""

from collections.abc import Sequence
from dataclasses import dataclass

from chat_core.domain.ids import UserId
from chat_core.errors import RateLimited
from chat_core.ports.limits import Charge, Limit, RateLimits

#: Once an account has used up its failed log-ins, what is left to each address: the owner still gets in from theirs.
STEP_UP = Limit("log-in-slow", 1, 60.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Charges for what is asked. ``buckets`` of ``None``: nothing is limited. A limit of ``None`` is not looked at.

    ``log_in`` is for an account from one address, ``log_in_address`` for one address, ``log_in_failures`` for an
    account from anywhere; ``sign_up`` is for an address; ``send``, ``room`` for a person; ``request`` for a person, or
    for an address where nobody is signed in. All raise ``RateLimited``.
    """

    buckets: RateLimits | None = None
    log_in: Limit | None = None
    log_in_address: Limit | None = None
    log_in_failures: Limit | None = None
    sign_up: Limit | None = None
    send: Limit | None = None
    room: Limit | None = None
    request: Limit | None = None

    async def requested(self, whom: UserId | str) -> None:
        """Anything at all was asked, by a person or from an address."""
        if self.buckets is None:
            return
        await self._charge((self.request, str(whom)))

    async def signing_up(self, peer: str) -> None:
        await self._charge((self.sign_up, peer))

    async def making_room(self, user_id: UserId) -> None:
        await self._charge((self.room, str(user_id)))

    async def sending(self, user_id: UserId) -> RateLimited | None:
        """Charges for a new message; gives back the refusal, since a repeat of an old one is not refused."""
        try:
            await self._charge((self.send, str(user_id)))
        except RateLimited as refusal:
            return refusal
        return None

    async def not_new(self, user_id: UserId) -> None:
        """What ``sending`` took was for a repeat."""
        await self._put(self.send, str(user_id), -1)

    async def trying_password(self, account: str, peer: str) -> None:
        """Before a password is looked at; ``account`` names it, also one that there is not."""
        await self._charge((self.log_in_address, peer), (self.log_in, f"{account} {peer}"))
        if self.buckets is not None and self.log_in_failures is not None:
            failures = await self.buckets.take([Charge(self.log_in_failures, account, 0)])
            if failures.standings[0].left < 1:
                await self._charge((STEP_UP, f"{account} {peer}"))

    async def password_was(self, *, right: bool, account: str) -> None:
        """It was looked at. Only failures without a success between them count."""
        if self.log_in_failures is not None:
            await self._put(self.log_in_failures, account, -self.log_in_failures.count if right else 1)

    async def _put(self, limit: Limit | None, whom: str, cost: int) -> None:
        if self.buckets is not None and limit is not None:
            await self.buckets.take([Charge(limit, whom, cost)])

    async def _charge(self, *asked: tuple[Limit | None, str]) -> None:
        charges = [Charge(limit, whom) for limit, whom in asked if limit is not None]
        if self.buckets is None or not charges:
            return
        taken = await self.buckets.take(charges)
        if not taken.allowed:
            raise _refusal(charges, [standing.met for standing in taken.standings])


def _refusal(charges: Sequence[Charge], waits: Sequence[float]) -> RateLimited:
    longest = max(range(len(charges)), key=lambda index: waits[index])
    limit = charges[longest].limit
    return RateLimited(name=limit.name, count=limit.count, seconds=limit.seconds, retry_after=waits[longest])
