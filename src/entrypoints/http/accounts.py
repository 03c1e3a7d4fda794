"""``/auth``: accounts and log-in."""

from litestar import Router, get, post
from litestar.params import JSONBody

from chat_core.domain.user import Actor
from chat_core.use_cases.accounts import Authenticate, LogIn, SignUp
from entrypoints.http.auth import signed_in
from entrypoints.http.injection import Use
from entrypoints.http.openapi import SECURED, refusals
from entrypoints.http.schemas import LoggedInOut, LogInIn, SignedUpOut, SignUpIn, UserData, UserOut


@post("/signup", responses=refusals(409), summary="Sign up")
async def sign_up(data: JSONBody[SignUpIn], sign_up: Use[SignUp]) -> SignedUpOut:
    """Make an account. Username and e-mail are unique without regard to case."""
    user = await sign_up(username=data.username, email=data.email, password=data.password)
    return SignedUpOut(message="User created successfully", data=UserData(user=UserOut.of(user)))


@post("/login", status_code=200, responses=refusals(401), summary="Log in")
async def log_in(data: JSONBody[LogInIn], log_in: Use[LogIn]) -> LoggedInOut:
    """Begin a session, by username or e-mail."""
    begun = await log_in(login=data.username, password=data.password)
    return LoggedInOut(
        access_token=begun.token.text,
        token_type="bearer",  # noqa: S106 - the scheme's name
        expires_in=begun.token.expires_in,
        user=UserOut.of(begun.user),
    )


@get("/me", guards=[signed_in], security=SECURED, summary="Who am I")
async def me(actor: Use[Actor], authenticate: Use[Authenticate]) -> UserOut:
    """The caller's own account."""
    return UserOut.of(await authenticate.account(actor.user_id))


router = Router("/auth", route_handlers=[sign_up, log_in, me], tags=["Accounts"])
