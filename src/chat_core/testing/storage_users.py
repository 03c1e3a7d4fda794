"""What the storage promises of accounts."""

import asyncio
from datetime import timedelta

import pytest

from chat_core.domain.ids import UserId, uuid7
from chat_core.errors import EmailTaken, UsernameTaken
from chat_core.ports.storage import UnitOfWork
from chat_core.testing.contract import Contract
from chat_core.testing.samples import MOMENT, a_user, any_texts, stored_user


class UserClauses(Contract):
    """Accounts."""

    async def test_an_account_comes_back_as_it_was_stored(self, uow: UnitOfWork) -> None:
        """Every field, to the microsecond, whatever text is in it."""
        for number, text in enumerate(any_texts(12)):
            user = a_user(
                f"user{number}",
                email=f"{text}{number}@example.org",
                password_hash=text,
                created_at=MOMENT + timedelta(microseconds=number),
            )
            async with uow() as tx:
                await tx.users.add(user)
                await tx.commit()
            async with uow.read() as tx:
                assert await tx.users.get(user.id) == user
                assert await tx.users.by_login(user.email) == user

    async def test_nobody_is_found_by_what_is_not_there(self, uow: UnitOfWork) -> None:
        """``None`` for an unknown id, name or e-mail."""
        await stored_user(uow)
        async with uow.read() as tx:
            assert await tx.users.get(UserId(uuid7())) is None
            assert await tx.users.by_login("anne") is None
            assert await tx.users.by_login("") is None

    async def test_a_name_is_taken_without_regard_to_case(self, uow: UnitOfWork) -> None:
        """``UsernameTaken``, and nothing of the second account is stored."""
        await stored_user(uow, "Ann")
        second = a_user("aNN", email="other@example.org")
        async with uow() as tx:
            with pytest.raises(UsernameTaken):
                await tx.users.add(second)
        async with uow.read() as tx:
            assert await tx.users.get(second.id) is None

    async def test_an_e_mail_is_taken_without_regard_to_case(self, uow: UnitOfWork) -> None:
        """``EmailTaken``, also where the letters are not ASCII."""
        await stored_user(uow, "ann", email="Åsa@Example.org")
        async with uow() as tx:
            with pytest.raises(EmailTaken):
                await tx.users.add(a_user("ben", email="åSA@example.ORG"))

    async def test_of_two_who_sign_up_at_once_one_gets_the_name(self, uow: UnitOfWork) -> None:
        """The other meets ``UsernameTaken``, and no other error."""

        async def sign_up(number: int) -> bool:
            try:
                await stored_user(uow, "ann", email=f"{number}@example.org")
            except UsernameTaken:
                return False
            return True

        assert sorted(await asyncio.gather(*map(sign_up, range(8)))) == [False] * 7 + [True]

    async def test_a_log_in_is_a_name_or_an_e_mail_in_any_case(self, uow: UnitOfWork) -> None:
        """Both find the account."""
        user = await stored_user(uow, "Ann", email="Ann.Lee@Example.org")
        async with uow.read() as tx:
            assert await tx.users.by_login("aNN") == user
            assert await tx.users.by_login("ann.lee@EXAMPLE.org") == user

    async def test_a_password_hash_is_replaced_only_where_it_is_still_the_old_one(self, uow: UnitOfWork) -> None:
        """Of two that replace the same hash the second is told so, and changes nothing."""
        user = await stored_user(uow, password_hash="old")
        async with uow() as tx:
            assert await tx.users.replace_password_hash(user.id, "old", "new")
            assert not await tx.users.replace_password_hash(user.id, "old", "newer")
            assert not await tx.users.replace_password_hash(UserId(uuid7()), "old", "newer")
            await tx.commit()
        async with uow.read() as tx:
            assert await tx.users.get(user.id) == user.with_password_hash("new")
