"""One conversation, as it looks in the API's documentation. A test holds each example against its schema."""

from typing import Any

_USER_ID = "019a3c1e-7d00-7aaa-8000-000000000001"
_ROOM_ID = "019a3c1e-8000-7bbb-8000-000000000002"
_PROMPT_ID = "019a3c1e-9000-7ccc-8000-000000000003"
_ANSWER_ID = "019a3c1e-a000-7ddd-8000-000000000004"
_REPLY_ID = "019a3c1e-9001-7eee-8000-000000000005"
_AT = "2026-11-22T12:00:00Z"
_LATER = "2026-11-22T12:00:02Z"

_user: dict[str, Any] = {"id": _USER_ID, "username": "ada", "email": "ada@example.com", "created_at": _AT}
_ai: dict[str, Any] = {
    "mode": "always",
    "model": None,
    "system_prompt": None,
    "temperature": None,
    "max_output_tokens": None,
    "busy": "queue",
}
_room: dict[str, Any] = {
    "id": _ROOM_ID,
    "name": "Engines",
    "description": "On analytical machines",
    "created_by": _USER_ID,
    "created_at": _AT,
    "message_count": 2,
    "visibility": "public",
    "last_seq": 2,
    "ai": _ai,
}
_prompt: dict[str, Any] = {
    "id": _PROMPT_ID,
    "m_id": "first-1",
    "seq": 1,
    "content": "What can the engine do?",
    "user_id": _USER_ID,
    "room_id": _ROOM_ID,
    "message_type": "user",
    "username": "ada",
    "created_at": _AT,
    "reply_to": None,
    "edited_at": None,
    "status": "complete",
}
_answer: dict[str, Any] = {
    **_prompt,
    "id": _ANSWER_ID,
    "m_id": _ANSWER_ID,
    "seq": 2,
    "content": "Whatever we know how to order it to perform.",
    "user_id": None,
    "message_type": "ai",
    "username": "AI Assistant",
    "created_at": _LATER,
    "reply_to": _PROMPT_ID,
}
_reply: dict[str, Any] = {
    "id": _REPLY_ID,
    "room_id": _ROOM_ID,
    "prompt_id": _PROMPT_ID,
    "message_id": _ANSWER_ID,
    "status": "complete",
    "provider": "gemini",
    "model": "gemini-3.8-flash",
    "attempts": 1,
    "finish_reason": "stop",
    "error": None,
    "usage": {"input_tokens": 12, "output_tokens": 11},
    "created_at": _AT,
    "finished_at": _LATER,
}
_member: dict[str, Any] = {"user_id": _USER_ID, "username": "ada", "role": "owner", "joined_at": _AT}

_session: dict[str, Any] = {
    "id": "019a3c1e-7e00-7abc-8000-000000000007",
    "created_at": _AT,
    "last_used_at": _LATER,
    "user_agent": "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
    "current": True,
}
_refresh = "vDdEUO3mDyD1w0b9XoLAq7vrpCVwBLGnEKtq1ahUMWg"

EXAMPLES: dict[str, dict[str, Any]] = {
    "SignUpIn": {"username": "ada", "email": "ada@example.com", "password": "correct horse battery"},
    "LogInIn": {"username": "ada", "password": "correct horse battery"},
    "RefreshIn": {"refresh_token": _refresh},
    "ChangePasswordIn": {"current_password": "correct horse battery", "new_password": "staple of the battery"},
    "EndAccountIn": {"password": "correct horse battery"},
    "CreateRoomIn": {"name": "Engines", "description": "On analytical machines"},
    "UpdateRoomIn": {"name": "Engines", "ai": {"mode": "mention"}},
    "AddMemberIn": {"username": "grace"},
    "SendIn": {"content": "What can the engine do?", "m_id": "first-1"},
    "EditMessageIn": {"content": "What can the Analytical Engine do?"},
    "SignedUpOut": {"message": "User created successfully", "data": {"user": _user}},
    "LoggedInOut": {
        "access_token": "eyJhbGciOi...",
        "token_type": "bearer",
        "expires_in": 1800,
        "refresh_token": _refresh,
        "user": _user,
    },
    "SessionsOut": {"sessions": [_session]},
    "TicketOut": {"ticket": "q2nTlVkzR4hD0m1Jw8yXcPz5eGfU7sBaL3oIvKtYx9M", "expires_in": 30},
    "UserOut": _user,
    "RoomCreatedOut": {"message": "Room created successfully", "data": {"room": _room}},
    "RoomOut": _room,
    "RoomWithMessagesOut": {**_room, "messages": [_prompt, _answer]},
    "RoomsOut": {"rooms": [_room], "count": 1, "next_cursor": None},
    "MemberOut": _member,
    "MembersOut": {"members": [_member]},
    "MessageOut": _prompt,
    "MessagesOut": {"messages": [_prompt, _answer], "has_older": False, "has_newer": False},
    "RoomEventOut": {"type": "message.created", "room_id": _ROOM_ID, "seq": 1, "data": _prompt},
    "RoomEventsOut": {
        "events": [{"type": "message.created", "room_id": _ROOM_ID, "seq": 1, "data": _prompt}],
        "last_seq": 2,
        "has_newer": True,
    },
    "ReplyOut": _reply,
    "ReplyWithMessageOut": {**_reply, "message": _answer},
    "ContextOut": {
        "message_ids": [_PROMPT_ID],
        "summary": None,
        "model_asked": "gemini:gemini-3.8-flash",
        "model_used": "gemini:gemini-3.8-flash",
        "attempts": [
            {
                "provider": "gemini",
                "model": "gemini-3.8-flash",
                "started_at": _AT,
                "ended_at": _LATER,
                "outcome": "stop",
                "input_tokens": 12,
                "output_tokens": 11,
            }
        ],
    },
    "UsageReportOut": {
        "days": [
            {"date": "2026-11-22", "room_id": _ROOM_ID, "input_tokens": 12, "output_tokens": 11, "wasted_tokens": 0}
        ],
        "limit": 100_000,
        "used_today": 23,
        "resets_at": "2026-11-23T00:00:00Z",
    },
    "SentOut": {
        "message": "Messages sent successfully",
        "data": {"messages": {"user_message": _prompt, "ai_message": _answer}, "reply": _reply},
    },
    "Problem": {
        "type": "urn:chat-api:problem:invalid-request",
        "title": "The request is not valid",
        "status": 400,
        "detail": "must not be blank",
        "instance": "019a3c1e-b000-7fff-8000-000000000006",
        "errors": [{"pointer": "/content", "detail": "must not be blank"}],
    },
}
