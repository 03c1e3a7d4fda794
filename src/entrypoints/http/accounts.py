"""``/auth``: accounts, log-in and sessions."""

from typing import Any

from litestar import Request, Router, delete, get, post
from litestar.params import JSONBody

from chat_core.domain.user import Actor
from chat_core.use_cases.accounts import ChangePassword, LogIn, SignUp
from chat_core.use_cases.authentication import Authenticate
from chat_core.use_cases.departures import EndAccount
from chat_core.use_cases.sessions import EndSession, IssueTicket, ListSessions, LogOut, Refresh
from entrypoints.http.auth import anybody, signed_in, turned_out_to_be
from entrypoints.http.injection import Use
from entrypoints.http.openapi import SECURED, refusals
from entrypoints.http.parameters import Id, session_of
from entrypoints.http.schemas import (
    ChangePasswordIn,
    EndAccountIn,
    LoggedInOut,
    LogInIn,
    RefreshIn,
    SessionOut,
    SessionsOut,
    SignedUpOut,
    SignUpIn,
    TicketOut,
    UserData,
    UserOut,
)


@post("/signup", before_request=anybody, responses=refusals(409, 429), summary="Sign up")
async def sign_up(data: JSONBody[SignUpIn], peer: Use[str], sign_up: Use[SignUp]) -> SignedUpOut:
    """Make an account. Username and e-mail are unique without regard to case."""
    user = await sign_up(username=data.username, email=data.email, password=data.password, peer=peer)
    return SignedUpOut(message="User created successfully", data=UserData(user=UserOut.of(user)))


@post("/login", status_code=200, before_request=anybody, responses=refusals(401, 429), summary="Log in")
async def log_in(
    data: JSONBody[LogInIn], request: Request[Any, Any, Any], peer: Use[str], log_in: Use[LogIn]
) -> LoggedInOut:
    """Begin a session, by username or e-mail."""
    agent = request.headers.get("user-agent")
    begun = await log_in(login=data.username, password=data.password, user_agent=agent, peer=peer)
    turned_out_to_be(request, begun.user)
    return LoggedInOut.of(begun)


@post("/refresh", status_code=200, before_request=anybody, responses=refusals(401, 409), summary="Go on with a session")
async def refresh(data: JSONBody[RefreshIn], request: Request[Any, Any, Any], refresh: Use[Refresh]) -> LoggedInOut:
    """A new access token, and a new refresh token in the place of the one that is given, which is spent by this.

    Used again within 10 seconds, a spent token is refused with 409 `refresh-raced`, and nothing changes: another
    request of the same client has the new one. Used again later it is taken for stolen, and the whole session ends. A
    session that is not refreshed for 14 days ends, and every one 30 days after its log-in.
    """
    gone_on = await refresh(refresh_token=data.refresh_token)
    turned_out_to_be(request, gone_on.user)
    return LoggedInOut.of(gone_on)


@get("/me", before_request=signed_in, security=SECURED, summary="Who am I")
async def me(actor: Use[Actor], authenticate: Use[Authenticate]) -> UserOut:
    """The caller's own account."""
    return UserOut.of(await authenticate.account(actor.session_id))


@delete("/me", before_request=signed_in, security=SECURED, responses=refusals(403), summary="End the account")
async def end_account(data: JSONBody[EndAccountIn], actor: Use[Actor], end_account: Use[EndAccount]) -> None:
    """For ever. Messages stay, from a `Deleted user` with a `user_id` of null; the name is never given again, rooms
    pass to their longest-standing member or end, running replies stop. A wrong password is a 403 `wrong-password`.
    """
    await end_account(actor=actor, password=data.password)


@post("/logout", status_code=204, before_request=signed_in, security=SECURED, summary="Log out")
async def log_out(actor: Use[Actor], log_out: Use[LogOut]) -> None:
    """End this session: its tokens are dead everywhere within a second."""
    await log_out(actor=actor)


@post(
    "/password",
    status_code=204,
    before_request=signed_in,
    security=SECURED,
    responses=refusals(403),
    summary="Change the password",
)
async def change_password(
    data: JSONBody[ChangePasswordIn], actor: Use[Actor], change_password: Use[ChangePassword]
) -> None:
    """All other sessions end. A wrong current password is a 403 `wrong-password`: this session goes on."""
    await change_password(actor=actor, current_password=data.current_password, new_password=data.new_password)


@get("/sessions", before_request=signed_in, security=SECURED, summary="List sessions")
async def list_sessions(actor: Use[Actor], list_sessions: Use[ListSessions]) -> SessionsOut:
    """The caller's live sessions, last used first."""
    found = await list_sessions(actor=actor)
    return SessionsOut(sessions=[SessionOut.of(session, actor.session_id) for session in found])


@delete(
    "/sessions/{session_id:str}",
    before_request=signed_in,
    security=SECURED,
    responses=refusals(404),
    summary="End a session",
)
async def end_session(session_id: Id, actor: Use[Actor], end_session: Use[EndSession]) -> None:
    """One of the caller's own: its tokens are dead everywhere within a second."""
    await end_session(actor=actor, session_id=session_of(session_id))


@post("/ws-ticket", status_code=200, before_request=signed_in, security=SECURED, summary="A ticket for a WebSocket")
async def issue_ticket(actor: Use[Actor], issue_ticket: Use[IssueTicket]) -> TicketOut:
    """For browsers, which cannot send a token with a WebSocket's handshake: good once, within 30 seconds."""
    ticket = await issue_ticket(actor=actor)
    return TicketOut(ticket=ticket.text, expires_in=ticket.expires_in)


router = Router(
    "/auth",
    route_handlers=[
        sign_up,
        log_in,
        refresh,
        log_out,
        me,
        end_account,
        change_password,
        list_sessions,
        end_session,
        issue_ticket,
    ],
    tags=["Accounts"],
)
