"""The page in a real browser, while connections, answers and tokens are lost: nothing is missed, nothing doubled."""

import asyncio
import json
from typing import Any

import pytest

from chat_core.ports.language_model import Text
from chat_core.testing.models import Gate, ScriptedModel, answer
from entrypoints.container import memory_container
from tests.e2e.browser import shows, visitors
from tests.e2e.service import served
from tests.faults.proxy import Pass, Proxy, Refuse

pytestmark = [pytest.mark.browser, pytest.mark.slow]


async def test_who_loses_the_connection_in_the_middle_of_an_answer_has_the_whole_of_it_afterwards():
    away, back = Gate(), Gate()
    model = ScriptedModel(
        [Text("one "), away, Text("two "), back, *answer("three")],
        answer("Welcome back."),
    )
    async with (
        served(memory_container(model=model)) as url,
        Proxy(int(url.rpartition(":")[2])) as proxy,
        visitors(ada=url, bob=f"http://127.0.0.1:{proxy.port}") as [ada, bob],
    ):
        await ada.make_room("Engines")
        await bob.enter(ada)
        await bob.say("Count, please.")
        await shows(bob.draft).to_have_text("one")

        await proxy.set(Refuse())
        proxy.cut()
        await shows(bob.connection).to_contain_text("trying again")
        away.open()
        await shows(ada.draft).to_have_text("one two")
        await bob.say("Are you there?")  # it waits for the connection
        await shows(bob.timeline.locator(".pending")).to_contain_text("Sending …")

        await proxy.set(Pass())
        await shows(bob.connection).to_have_text("Live")
        await shows(bob.draft.first).to_have_text("one two")
        back.open()
        for person in (ada, bob):
            bodies = person.answers.locator(".body")
            await shows(bodies.filter(has_text="one two three")).to_have_count(1)
            await shows(bodies.filter(has_text="Welcome back.")).to_have_count(1)
            await shows(bodies).to_have_count(2)
            await shows(person.timeline.locator(".said")).to_have_text(["Count, please.", "Are you there?"])
            await shows(person.timeline.locator(".pending, .draft")).to_have_count(0)
        ada.examine()
        bob.examine(lost=True)


async def test_what_happened_without_one_is_there_when_one_is_back():
    model = ScriptedModel(answer("Hm."))
    async with (
        served(memory_container(model=model)) as url,
        Proxy(int(url.rpartition(":")[2])) as proxy,
        visitors(ada=url, bob=f"http://127.0.0.1:{proxy.port}") as [ada, bob],
    ):
        await ada.make_room("Engines")
        await bob.enter(ada)
        await ada.say("first")
        await shows(bob.answers).to_have_count(1)
        await proxy.set(Refuse())
        proxy.cut()
        await shows(bob.connection).to_contain_text("trying again")
        for number, text in enumerate(["second", "third", "fourth"], 2):
            await ada.say(text)
            await shows(ada.answers).to_have_count(number)
        await ada.timeline.get_by_text("first").hover()
        await ada.button("Delete “first”").click()
        await ada.button("Delete").click()
        await shows(ada.timeline.get_by_text("This message was deleted.")).to_be_visible()

        await proxy.set(Pass())
        await shows(bob.connection).to_have_text("Live")
        await shows(bob.timeline.locator(".said")).to_have_text(["second", "third", "fourth"])
        await shows(bob.timeline.get_by_text("This message was deleted.")).to_be_visible()
        await shows(bob.answers).to_have_count(4)
        bob.examine(lost=True)


async def test_a_send_whose_answer_is_lost_is_repeated_and_stored_once():
    async with served(memory_container()) as url, visitors(ada=url) as [ada]:
        await ada.make_room("Engines")
        sent: list[str] = []
        repeated = asyncio.Event()

        async def lose_the_first(route: Any) -> None:
            sent.append(route.request.post_data_json["m_id"])
            arrived = await route.fetch()
            if len(sent) == 1:
                await route.abort()
            else:
                await route.fulfill(response=arrived)
                repeated.set()

        await ada.page.route("**/chat/*", lose_the_first)
        await ada.say("Once, please.")
        await shows(ada.answers).to_have_count(1)
        await shows(ada.timeline.locator(".pending")).to_have_count(0)
        await shows(ada.timeline.locator(".said")).to_have_text(["Once, please."])
        async with asyncio.timeout(10):
            await repeated.wait()
        assert len(set(sent)) == 1
        ada.examine(lost=True)


async def test_a_token_that_ran_out_is_renewed_on_the_way():
    async with served(memory_container()) as url, visitors(ada=url) as [ada]:
        await ada.make_room("Engines")
        tokens: list[str] = []

        async def refuse_the_first(route: Any) -> None:
            tokens.append(route.request.headers["authorization"])
            if len(tokens) == 1:
                await route.fulfill(status=401, content_type="application/problem+json", body='{"status": 401}')
            else:
                await route.continue_()

        await ada.page.route("**/chat/*", refuse_the_first)
        await ada.say("Still me.")
        await shows(ada.answers).to_have_count(1)
        assert len(set(tokens)) == 2
        assert f"{url}/auth/refresh" in ada.asked
        ada.complaints = [said for said in ada.complaints if "status of 401" not in said]
        ada.examine()


async def test_tabs_stay_logged_in_together_and_log_out_together():
    async with served(memory_container()) as url, visitors(ada=url) as [ada]:
        tabs = [ada.page, *[await ada.context.new_page() for _ in range(3)]]
        for tab in tabs[1:]:
            ada.watch(tab)
        # All of them renew the one refresh token at once.
        await asyncio.gather(*[tab.goto(f"{url}/app") for tab in tabs])
        for tab in tabs:
            await shows(tab.get_by_text("Choose a room")).to_be_visible()
        kept = json.loads(await ada.page.evaluate("JSON.stringify({...localStorage, ...sessionStorage})"))
        assert [name for name in kept if "token" in name] == ["chat.refresh_token"]
        await ada.button("Log out").click()
        for tab in tabs:
            await shows(tab.get_by_role("button", name="Log in", exact=True)).to_be_visible()
        raced = "the server responded with a status of 409"
        ada.complaints = [said for said in ada.complaints if raced not in said]
        ada.examine()


async def test_nothing_of_a_session_is_left_on_the_page_after_it():
    async with served(memory_container()) as url, visitors(ada=url) as [ada]:
        await ada.make_room("Engines")
        await ada.say("between ourselves")
        await shows(ada.answers).to_have_count(1)
        await ada.button("Log out").wait_for()
        await ada.field("Message").fill("not yet said")
        # The service need not be there for it.
        await ada.page.route("**/auth/logout", lambda route: route.abort())
        await ada.button("Log out").click()
        await shows(ada.button("Log in")).to_be_visible()
        left = await ada.page.evaluate("document.documentElement.outerHTML + document.querySelector('#text').value")
        assert [said for said in ("Engines", "ourselves", "not yet said", ">ada<") if said in left] == []
        assert await ada.page.evaluate("localStorage.getItem('chat.refresh_token')") is None

        await ada.log_in()
        await shows(ada.page.locator("#room-list")).to_contain_text("Engines")
        await shows(ada.timeline.locator(".said")).to_have_text(["between ourselves"])
        ada.examine(lost=True)
