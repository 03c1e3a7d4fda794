"""Takes the picture of the page that the README shows: ``python -m tests.e2e.picture``, in the development environment.

People, page and service are real; what the AI says is written here.
"""

import asyncio
from pathlib import Path

from chat_core.ports.language_model import Text
from chat_core.testing.models import Gate, ScriptedModel, answer
from entrypoints.container import memory_container
from tests.e2e.browser import shows, visitors
from tests.e2e.service import served

PICTURE = Path(__file__).resolve().parents[2] / "docs" / "page.png"
FIRST = """Each `seq` is taken **inside** the transaction that stores the message, so that

1. two writers never get the same one,
2. none is skipped: a send that fails gives its place back,
3. a reader who saw `41` knows that `43` is not next.

```sql
UPDATE rooms SET last_seq = last_seq + 1
WHERE id = :room RETURNING last_seq
```
"""
SECOND = "Keep the `m_id`, and send it again. It is stored once, "


async def take() -> None:
    gate = Gate()
    model = ScriptedModel(answer(FIRST), [Text(SECOND), gate, *answer("answered once.")])
    async with served(memory_container(model=model)) as url, visitors(ada=url, grace=url) as [ada, grace]:
        await ada.make_room("Compilers", about="")
        await ada.make_room("Bugs, moths and others", private=True)
        await ada.make_room("Order of messages", about="Why the log has no gaps")
        await grace.enter(ada)
        await grace.say("How do the messages of a room stay in order?")
        await shows(ada.answers).to_have_count(1)
        await ada.say("And when my connection breaks in the middle of a send?")
        await shows(ada.draft).to_contain_text("It is stored once,")
        await grace.field("Message").press_sequentially("Good")
        await shows(ada.page.get_by_text("grace is typing …")).to_be_visible()
        await ada.button("Members, 2 here").click()
        await ada.field("Message").focus()
        await ada.page.screenshot(path=PICTURE)
        gate.open()


if __name__ == "__main__":
    asyncio.run(take())
