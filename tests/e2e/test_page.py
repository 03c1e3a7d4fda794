"""The page in a real browser: people talk with it."""

import re

import pytest

from chat_core.ports.language_model import Text
from chat_core.testing.fake_provider import FakeProvider
from chat_core.testing.models import Gate, ScriptedModel, answer
from entrypoints.container import memory_container
from tests.e2e.browser import shows, visitors
from tests.e2e.conftest import settings
from tests.e2e.service import Person, people, served

pytestmark = [pytest.mark.browser, pytest.mark.slow]


async def test_two_people_see_each_other_and_the_answer_as_it_grows():
    gate = Gate()
    model = ScriptedModel([Text("It can **weave** "), gate, *answer("algebraic patterns.")])
    async with served(memory_container(model=model)) as url, visitors(ada=url, bob=url) as [ada, bob]:
        await ada.make_room("Engines", about="Analytical ones")
        await bob.page.get_by_role("link", name="Engines").click()
        await shows(bob.button("Members, 2 here")).to_be_visible()
        await shows(ada.button("Members, 2 here")).to_be_visible()

        await ada.field("Message").press_sequentially("What")
        await shows(bob.page.get_by_text("ada is typing …")).to_be_visible()
        await ada.say("What can it do?")
        for person in (ada, bob):
            await shows(person.timeline.get_by_text("What can it do?")).to_be_visible()
            await shows(person.draft).to_have_text("It can weave")
            await shows(person.draft.locator("strong")).to_have_text("weave")
        gate.open()
        for person in (ada, bob):
            await shows(person.answers.locator(".body")).to_have_text(["It can weave algebraic patterns."])
            await shows(person.draft).to_have_count(0)
            person.examine()


async def test_an_answer_that_failed_is_tried_again_also_after_a_reload():
    async with FakeProvider() as provider:
        environ = {"GEMINI_API_KEY": "key", "GEMINI_BASE_URL": provider.url}
        container = memory_container(settings("", llm="gemini:fake", environ=environ))
        async with served(container) as url, visitors(ada=url, bob=url) as [ada, bob]:
            await ada.make_room("Engines")
            await bob.enter(ada)
            await ada.say("[[403:1]] Will it work?")
            for person in (ada, bob):
                await shows(person.timeline.get_by_text("The answer failed.")).to_be_visible()
            await ada.page.reload()
            await ada.button("Retry").click()
            for person in (ada, bob):
                await shows(person.answers).to_contain_text(["Will it work?"])
                await shows(person.timeline.locator(".stopped")).to_have_count(0)
                person.examine()


async def test_an_answer_is_stopped_and_keeps_its_text():
    model = ScriptedModel([Text("As I was saying "), Gate(), *answer("never said")], [Gate()])
    async with served(memory_container(model=model)) as url, visitors(ada=url, bob=url) as [ada, bob]:
        await ada.make_room("Engines")
        await bob.enter(ada)
        await ada.say("Go on.")
        await shows(bob.draft).to_have_text("As I was saying")
        await bob.button("Stop").click()
        for person in (ada, bob):
            await shows(person.answers).to_contain_text(["As I was saying"])
            await shows(person.timeline.get_by_text("This answer is not whole.")).to_be_visible()
        await ada.say("And now?")
        await ada.button("Stop").click()
        for person in (ada, bob):
            await shows(person.timeline.get_by_text("The answer was stopped.")).to_be_visible()
            await shows(person.button("Retry")).to_be_visible()
            person.examine()


async def test_messages_are_edited_and_deleted_for_everyone():
    async with served(memory_container()) as url, visitors(ada=url, bob=url) as [ada, bob]:
        await ada.make_room("Engines")
        await bob.enter(ada)
        await bob.say("<b>frist</b>")
        await shows(ada.answers).to_have_count(1)
        await bob.timeline.locator(".own").hover()
        await bob.button("Edit “<b>frist</b>”").click()
        await bob.field("Edited message").fill("<i>first</i>")
        await bob.page.keyboard.press("Enter")
        await shows(ada.timeline.locator(".other .said")).to_have_text("<i>first</i>")
        await shows(ada.timeline.get_by_text("edited", exact=True)).to_be_visible()
        await ada.timeline.locator(".other").hover()
        await shows(ada.button("Edit “<i>first</i>”")).to_have_count(0)
        await ada.button("Delete “<i>first</i>”").click()  # the room is hers
        await ada.button("Delete").click()
        await shows(bob.timeline.get_by_text("This message was deleted.")).to_be_visible()
        for person in (ada, bob):
            await shows(person.timeline.locator(".said")).to_have_count(0)
            person.examine()


async def test_history_comes_as_one_scrolls_up_each_message_once():
    async with (
        served(memory_container()) as url,
        people(url, "grace") as [grace],
        visitors(ada=url) as [ada],
    ):
        room = await quiet_room(grace)
        for number in range(130):
            assert (await grace.send(room, f"message {number}")).status_code == 201
        await ada.page.goto(f"{url}/app#{room}")
        said = ada.timeline.locator(".said")
        await shows(said.last).to_have_text("message 129")
        await shows(said.last).to_be_in_viewport()
        await shows(said.filter(has_text=re.compile("^message 0$"))).to_have_count(0)
        for loaded in (100, 130):
            await ada.page.locator("#scroller").evaluate("element => element.scrollTo(0, 0)")
            await shows(said.nth(loaded - 1)).to_be_attached()
        await shows(ada.page.get_by_text("This is where the room begins.")).to_be_attached()
        await shows(said).to_have_text([f"message {number}" for number in range(130)])
        ada.examine()


async def quiet_room(owner: Person) -> str:
    room = await owner.room(name="Long")
    assert (await owner.patch(f"/rooms/{room}", {"ai": {"mode": "off"}})).status_code == 200
    return room


HOSTILE = """# Title

<img src="https://elsewhere.example/a.png" onerror="document.title = 'owned'"> <script>document.title = "owned"</script>
![spy](https://elsewhere.example/spy.png) [run](javascript:document.title='owned') [go](https://elsewhere.example/)

<style>body { display: none }</style><form action="https://elsewhere.example/"><input name="password"></form>
"""


async def test_what_the_ai_says_is_shown_and_not_obeyed():
    model = ScriptedModel(answer(HOSTILE))
    async with served(memory_container(model=model)) as url, visitors(ada=url) as [ada]:
        await ada.make_room("Engines")
        await ada.say("Be evil.")
        await shows(ada.answers.get_by_role("heading", name="Title")).to_be_visible()
        await shows(ada.answers.locator("img, script, style, form, input, [onerror], [style]")).to_have_count(0)
        await shows(ada.answers).to_contain_text("<script>")
        links = ada.answers.locator("a[href]")
        await shows(links).to_have_text(["spy", "go"])
        for link in await links.all():
            await shows(link).to_have_attribute("rel", "noopener noreferrer")
            await shows(link).to_have_attribute("target", "_blank")
        assert await ada.page.title() == "Engines"
        ada.examine()


async def test_private_rooms_are_for_those_who_were_added():
    async with served(memory_container()) as url, visitors(ada=url, bob=url) as [ada, bob]:
        await ada.make_room("Secret", private=True)
        await bob.page.goto(f"{url}/app{ada.page.url[ada.page.url.index('#') :]}")
        await shows(bob.page.get_by_text("There is no such room, or it is closed to you.")).to_be_visible()
        bob.complaints.clear()  # the browser's, of the 404
        await ada.button("Members, 1 here").click()
        await ada.field("Add somebody by name").fill("bob")
        await ada.page.keyboard.press("Enter")
        await shows(ada.button("Remove bob")).to_be_visible()
        await bob.page.reload()
        await bob.page.get_by_role("link", name="Secret").click()
        await bob.field("Message").wait_for()
        await ada.button("Remove bob").click()
        await ada.button("Remove").click()
        await shows(bob.page.get_by_text("Choose a room, or make a new one.")).to_be_visible()
        await shows(bob.page.get_by_role("link", name="Secret")).to_have_count(0)
        ada.examine()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_fits_a_small_phone(scheme):
    model = ScriptedModel(
        answer("A `" + "very_long_name_" * 12 + "`\n\n| a | b |\n|---|---|\n| " + "wide " * 60 + "| 2 |")
    )
    async with served(memory_container(model=model)) as url, visitors(ada=url) as [ada]:
        await ada.page.emulate_media(color_scheme=scheme)
        await ada.page.set_viewport_size({"width": 320, "height": 568})

        async def fits() -> None:
            assert await ada.page.evaluate("document.documentElement.scrollWidth") == 320

        await fits()
        await ada.make_room("A room with a rather long name, longer than a phone is wide")
        await ada.say("w" * 200)
        await shows(ada.answers).to_have_count(1)
        await shows(ada.answers).to_be_in_viewport()
        await fits()
        await ada.button("Members, 1 here").click()
        await shows(ada.button("Delete the room")).to_be_in_viewport()
        await fits()
        await ada.page.keyboard.press("Escape")
        await ada.page.get_by_role("link", name="All rooms").click()
        await shows(ada.page.get_by_role("link", name="A room with")).to_be_in_viewport()
        await fits()
        ada.examine()
