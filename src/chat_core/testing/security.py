"""The contracts of ``Passwords`` and ``Tokens``.

Subclass them in a module that pytest collects, and give the fixture of what is under test::

    class TestOurPasswords(PasswordsContract):
        @pytest.fixture
        def passwords(self) -> Passwords: ...

The other fixtures are for what not every adapter can show; their clauses are skipped where they give ``None``. How
long things take is part of the ports' promises and not of these suites: a clause that measures time fails on a busy
machine. Prove it where it can be seen without a clock, by what the adapter calls.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

import pytest

from chat_core.domain.ids import UserId, uuid7
from chat_core.errors import NotAuthenticated, ServerFull
from chat_core.ports.security import Claims, Passwords, Tokens, Verdict
from chat_core.testing.contract import Contract
from chat_core.testing.optional import shown

#: Passwords that people really have, or try: accepted ones are 8 to 1024 characters of any kind.
PASSWORDS = (
    "password",
    " leading and trailing ",
    "pässwörd-ß",
    "密码密码密码密码",
    "🔑🔑🔑🔑🔑🔑🔑🔑",
    "tab\tand\nline",
    "x" * 1024,
)

#: Pairs that a careless hash takes for the same.
LOOKALIKES = (
    ("Password1", "password1"),
    ("password1", "password1 "),
    ("password1", " password1"),
    ("a" * 72 + "b", "a" * 72 + "c"),
    ("a" * 1023 + "b", "a" * 1023 + "c"),
    ("a" * 72, "a" * 73),
    ("caf\u00e9-au-lait", "cafe\u0301-au-lait"),
    ("密" * 30 + "a", "密" * 30 + "b"),
)

#: What may stand where a hash should: nothing, rubbish, what another program wrote, half of something.
UNREADABLE_HASHES = (
    "",
    "password",
    "$",
    "$$$$",
    "\x00",
    "é$é",
    "!",
    "{SSHA}AAAA",
    "$1$salt$hash",
    "$argon2id$",
    "$argon2id$v=19$m=19456,t=2,p=1$abc$def",
    "$2b$12$short",
    "x" * 5000,
)


def _shortly(text: str) -> str:
    return f"{ascii(text[:12])[1:-1]} ({len(text)})"


@dataclass(frozen=True, slots=True, kw_only=True)
class OldHash:
    """A hash that is out of date, and its password."""

    password: str
    password_hash: str


class PasswordsContract(Contract):
    """The clauses of ``Passwords``. Override ``passwords``, and the others where the adapter can show it."""

    @pytest.fixture
    def passwords(self) -> Passwords:
        """The adapter under test."""
        raise NotImplementedError("override the fixture `passwords`")

    @pytest.fixture
    def room_for_one(self) -> Passwords | None:
        """The adapter, so set up that one password at a time is all that it takes on."""
        return None

    @pytest.fixture
    def old_hash(self) -> OldHash | None:
        """A hash that the adapter still reads and no longer makes."""
        return None

    @pytest.mark.parametrize("password", PASSWORDS, ids=_shortly)
    async def test_the_right_password_is_right(self, passwords: Passwords, password: str) -> None:
        """``verify`` says yes to the password that ``hash`` was given, whatever characters it is made of. Strip, fold
        and normalize nothing."""
        verdict = await passwords.verify(password, await passwords.hash(password))
        assert verdict.right

    async def test_another_password_is_wrong(self, passwords: Passwords) -> None:
        """``verify`` says no to any other password, the empty one included, and offers no new hash for it."""
        password_hash = await passwords.hash("password1")
        for other in ("password2", "", "1drowssap", "x" * 1025):
            assert await passwords.verify(other, password_hash) == Verdict(False)

    @pytest.mark.parametrize(("password", "lookalike"), LOOKALIKES, ids=_shortly)
    async def test_every_character_counts(self, passwords: Passwords, password: str, lookalike: str) -> None:
        """Two passwords are the same only where all of their characters are. Where the algorithm takes a few bytes
        alone (bcrypt: 72), do not use it for new hashes."""
        assert not (await passwords.verify(lookalike, await passwords.hash(password))).right

    async def test_two_hashes_of_a_password_differ(self, passwords: Passwords) -> None:
        """Salt each hash, or equal passwords can be seen to be equal."""
        assert await passwords.hash("password1") != await passwords.hash("password1")

    async def test_the_hash_does_not_hold_the_password(self, passwords: Passwords) -> None:
        """What is stored must not tell what was typed."""
        assert "open-sesame" not in await passwords.hash("open-sesame")

    async def test_without_a_hash_the_answer_is_no(self, passwords: Passwords) -> None:
        """``verify(password, None)`` is what a log-in asks for an account that does not exist: no, and no error. Work
        as hard as for a real hash, so that time does not tell the two apart."""
        for password in ("password1", "", "None"):
            assert await passwords.verify(password, None) == Verdict(False)

    @pytest.mark.parametrize("unreadable", UNREADABLE_HASHES, ids=_shortly)
    async def test_an_unreadable_hash_is_never_right(self, passwords: Passwords, unreadable: str) -> None:
        """A hash that cannot be read belongs to no password: answer no, after the same work, and let none of the
        library's errors out. One broken row must not turn that person's log-in into a fault of the service."""
        for password in ("password1", unreadable):
            assert await passwords.verify(password, unreadable) == Verdict(False)

    async def test_a_fresh_hash_is_up_to_date(self, passwords: Passwords) -> None:
        """``new_hash`` is for hashes made with other parameters. Given for a fresh one, every log-in would write."""
        assert await passwords.verify("password1", await passwords.hash("password1")) == Verdict(True)

    async def test_an_old_hash_is_right_and_comes_with_a_new_one(
        self, passwords: Passwords, old_hash: OldHash | None
    ) -> None:
        """Where the password is right and the hash is of an old kind, ``new_hash`` is one of today's kind for the same
        password: stored, it verifies, and is up to date itself."""
        old = shown(old_hash, "old_hash")
        verdict = await passwords.verify(old.password, old.password_hash)
        assert verdict.right
        assert verdict.new_hash is not None
        assert await passwords.verify(old.password, verdict.new_hash) == Verdict(True)

    async def test_an_old_hash_gives_no_new_one_to_a_wrong_password(
        self, passwords: Passwords, old_hash: OldHash | None
    ) -> None:
        """A new hash of a wrong password would lock its owner out and let the guesser in."""
        old = shown(old_hash, "old_hash")
        assert await passwords.verify(old.password + "x", old.password_hash) == Verdict(False)

    async def test_of_many_at_once_each_gets_its_own(self, passwords: Passwords) -> None:
        """Share nothing between two calls but the parameters."""
        hashes = await asyncio.gather(*(passwords.hash(f"password-{number}") for number in range(8)))
        verdicts = await asyncio.gather(
            *(passwords.verify(f"password-{number}", password_hash) for number, password_hash in enumerate(hashes)),
            *(passwords.verify("password-0", password_hash) for password_hash in hashes[1:]),
        )
        assert [verdict.right for verdict in verdicts] == [True] * 8 + [False] * 7

    async def test_where_too_many_wait_the_server_is_full(self, room_for_one: Passwords | None) -> None:
        """Raise ``ServerFull``, with when to come back, from both methods where the work at hand is all that the
        adapter takes on: hashing is slow on purpose, and an unbounded queue of it is an outage. It passes: once there
        is room again, passwords are worked on again."""
        passwords = shown(room_for_one, "room_for_one")
        password_hash = await passwords.hash("password1")
        for another in (passwords.hash("password2"), passwords.verify("password1", password_hash)):
            done = await asyncio.gather(passwords.hash("password1"), another, return_exceptions=True)
            full = [error for error in done if isinstance(error, ServerFull)]
            assert len(full) == 1, f"one of the two should have found the server full; they gave {done}"
            assert full[0].retry_after > 0
        assert (await passwords.verify("password1", password_hash)).right


#: What may come instead of a token.
NO_TOKENS = (
    "",
    " ",
    ".",
    "..",
    "a.b.c",
    "....",
    "null",
    "Bearer",
    "é",
    "\x00",
    "\ud800",
    "e30.e30.e30",
    "eyJhbGciOiJub25lIn0.e30.",
    "x" * 1_000_000,
    "." * 100_000,
)


def some_claims() -> Claims:
    """The claims of a session that has just begun."""
    return Claims(user_id=UserId(uuid7()), session_id=uuid7())


class TokensContract(Contract):
    """The clauses of ``Tokens``. Override ``tokens``, and the others where the adapter can show it."""

    @pytest.fixture
    def tokens(self) -> Tokens:
        """The adapter under test."""
        raise NotImplementedError("override the fixture `tokens`")

    @pytest.fixture
    def let_pass(self) -> Callable[[float], None] | None:
        """Moves the clock of ``tokens`` on by so many seconds."""
        return None

    @pytest.fixture
    def stranger(self) -> Tokens | None:
        """The adapter as another service has it: set up in the same way, with secrets of its own."""
        return None

    @pytest.fixture
    def from_the_future(self) -> Tokens | None:
        """The adapter with the same secrets, on a host whose clock is an hour ahead."""
        return None

    @pytest.fixture
    def for_other_purposes(self) -> Sequence[str]:
        """What the service signs with the same secrets, and is no access token."""
        return ()

    def test_a_token_says_what_it_was_issued_for(self, tokens: Tokens) -> None:
        """``read`` gives back the claims that ``issue`` was given, as the same types."""
        claims = some_claims()
        read = tokens.read(tokens.issue(claims).text)
        assert read == claims
        assert type(read.user_id) is UUID
        assert type(read.session_id) is UUID

    def test_of_many_tokens_each_says_its_own(self, tokens: Tokens) -> None:
        """Two tokens of one person, and those of two people, stay apart."""
        person = UserId(uuid7())
        claims = [Claims(user_id=person, session_id=uuid7()) for _ in range(3)] + [some_claims() for _ in range(3)]
        issued = [tokens.issue(each) for each in claims]
        assert [tokens.read(token.text) for token in issued] == claims

    def test_a_token_says_how_long_it_lives(self, tokens: Tokens) -> None:
        """``expires_in`` is in whole seconds from now, and more than none."""
        token = tokens.issue(some_claims())
        assert type(token.expires_in) is int
        assert token.expires_in > 0

    def test_a_token_fits_into_a_header(self, tokens: Tokens) -> None:
        """Tokens travel as ``Authorization: Bearer TOKEN``: RFC 6750's characters alone, and not too many."""
        text = tokens.issue(some_claims()).text
        assert text.isascii()
        assert all(character.isalnum() or character in "-._~+/=" for character in text)
        assert len(text) <= 2048

    def test_a_token_lives_until_it_expires_and_no_longer(
        self, tokens: Tokens, let_pass: Callable[[float], None] | None
    ) -> None:
        """``read`` takes a token for ``expires_in`` seconds. A little leeway after that, for clocks that differ, is
        allowed; two minutes are not."""
        pass_on = shown(let_pass, "let_pass")
        claims = some_claims()
        token = tokens.issue(claims)
        pass_on(token.expires_in - 1)
        assert tokens.read(token.text) == claims
        pass_on(1 + 120)
        with pytest.raises(NotAuthenticated):
            tokens.read(token.text)

    def test_a_token_from_the_future_is_none(self, tokens: Tokens, from_the_future: Tokens | None) -> None:
        """A token that says it will be issued is no token now: check when it begins, not only when it ends."""
        token = shown(from_the_future, "from_the_future").issue(some_claims())
        with pytest.raises(NotAuthenticated):
            tokens.read(token.text)

    def test_an_altered_token_is_none(self, tokens: Tokens) -> None:
        """Check the signature over every byte, before anything in the token is believed."""
        text = tokens.issue(some_claims()).text
        # The last character of base64 may hold bits that mean nothing: there an altered text can be the same token.
        for place in range(len(text) - 1):
            altered = text[:place] + ("A" if text[place] != "A" else "B") + text[place + 1 :]
            with pytest.raises(NotAuthenticated):
                tokens.read(altered)

    def test_half_a_token_or_two_are_none(self, tokens: Tokens) -> None:
        """Take nothing but the whole text; do not trim it, nor search in it."""
        text = tokens.issue(some_claims()).text
        for other in (
            text[:-8],
            text[8:],
            text + text,
            f"{text}.{text}",
            f" {text}",
            f"Bearer {text}",
            text.swapcase(),
        ):
            with pytest.raises(NotAuthenticated):
                tokens.read(other)

    @pytest.mark.parametrize("text", NO_TOKENS, ids=_shortly)
    def test_what_is_no_token_is_none(self, tokens: Tokens, text: str) -> None:
        """Whatever text comes, the answer is ``NotAuthenticated`` and no other error: translate all that the library
        raises, also for what is no Unicode, no JSON, too deep or too long."""
        with pytest.raises(NotAuthenticated):
            tokens.read(text)

    def test_the_tokens_of_another_service_are_none(self, tokens: Tokens, stranger: Tokens | None) -> None:
        """A token is believed for its signature, not for its looks."""
        token = shown(stranger, "stranger").issue(some_claims())
        with pytest.raises(NotAuthenticated):
            tokens.read(token.text)

    def test_what_was_signed_for_another_purpose_is_none(
        self, tokens: Tokens, for_other_purposes: Sequence[str]
    ) -> None:
        """Tell the kinds of signed texts apart by something that is signed: a refresh token, a ticket or an invitation
        must not open what an access token opens."""
        for text in shown(for_other_purposes or None, "for_other_purposes"):
            with pytest.raises(NotAuthenticated):
                tokens.read(text)

    def test_every_cause_looks_the_same(self, tokens: Tokens, stranger: Tokens | None) -> None:
        """Which check a forged token failed helps nobody but the forger: one ``detail`` for all causes."""
        altered = tokens.issue(some_claims()).text[::-1]
        texts = ["", "a.b.c", altered, *([stranger.issue(some_claims()).text] if stranger else [])]
        details: set[str] = set()
        for text in texts:
            with pytest.raises(NotAuthenticated) as raised:
                tokens.read(text)
            details.add(raised.value.detail)
        assert len(details) == 1
