"""What a page of one's own does: a reader of streams over ``fetch`` that resumes, and a socket with a ticket."""

import pytest

from chat_core.ports.language_model import End, FinishReason, Text
from chat_core.testing.fake_provider.script import NASTY_TEXT
from chat_core.testing.models import ScriptedModel
from tests.e2e.browser import chromium
from tests.e2e.service import people, served

pytestmark = pytest.mark.browser

#: An EventSource cannot send a token, so a page reads the stream itself. Each connection is cut after a few events.
READER = """
async ({room, token, content}) => {
  const authorization = `Bearer ${token}`;
  let text = "", lastId = "", reply = "", ended = false, connections = 0;
  async function read(path, init, most) {
    const cut = new AbortController();
    const response = await fetch(path, {...init, signal: cut.signal});
    if (!response.ok) throw new Error(await response.text());
    connections += 1;
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let buffer = "";
    for (;;) {
      const {value, done} = await reader.read();
      if (done) return;
      buffer += value;
      const blocks = buffer.split("\\n\\n");
      buffer = blocks.pop();
      for (const block of blocks) {
        const event = {};
        for (const line of block.split("\\n")) {
          const colon = line.indexOf(": ");
          if (colon > 0) event[line.slice(0, colon)] = line.slice(colon + 2);
        }
        if (event.id) lastId = event.id;
        const data = event.data ? JSON.parse(event.data) : {};
        if (event.event === "reply") reply = data.id;
        if (event.event === "delta") text += data.text;
        if (event.event === "reset") text = "";
        if (event.event === "end") { ended = true; return; }
        if (--most === 0) { cut.abort(); return; }
      }
    }
  }
  await read(`/chat/${room}`, {
    method: "POST",
    headers: {authorization, accept: "text/event-stream", "content-type": "application/json"},
    body: JSON.stringify({content}),
  }, 3);
  while (!ended) {
    await read(`/replies/${reply}/events`, {headers: {authorization, "last-event-id": lastId}}, 3);
  }
  return {text, connections};
}
"""

SOCKET = """
async ({room, token}) => {
  const authorization = `Bearer ${token}`;
  const {ticket} = await (await fetch("/auth/ws-ticket", {method: "POST", headers: {authorization}})).json();
  const url = new URL("/ws", location.href.replace("http", "ws"));
  const socket = new WebSocket(url, ["chat.v1", `ticket.${ticket}`]);
  const seqs = [];
  await new Promise((resolve, reject) => {
    socket.onerror = reject;
    socket.onopen = () => socket.send(JSON.stringify({type: "subscribe", ref: 1, room_id: room, after: 0}));
    socket.onmessage = ({data}) => {
      const frame = JSON.parse(data);
      if (frame.ref === 1) {
        socket.send(JSON.stringify({type: "send", ref: 2, room_id: room, m_id: "from-a-page", content: "hello"}));
      }
      if (frame.seq) seqs.push(frame.seq);
      if (seqs.length === 4) resolve();
    };
  });
  socket.close();
  return {seqs, protocol: socket.protocol};
}
"""


async def test_a_page_reads_a_stream_over_many_connections_and_follows_the_room_by_a_ticket(memory):
    memory.model.override(ScriptedModel([*(Text(letter) for letter in NASTY_TEXT), End(reason=FinishReason.STOP)]))
    async with served(memory) as url, people(url, "ada") as [ada], chromium() as browser:
        room = await ada.room()
        page = await (await browser.new_context(bypass_csp=False)).new_page()
        await page.goto(f"{url}/app")
        token = ada.http.headers["Authorization"].removeprefix("Bearer ")
        read = await page.evaluate(READER, {"room": room, "token": token, "content": "hi"})
        stored = (await ada.get(f"/rooms/{room}/messages")).json()["messages"][-1]["content"]
        assert read["text"] == stored == NASTY_TEXT
        assert read["connections"] > 1
        followed = await page.evaluate(SOCKET, {"room": room, "token": token})
        assert followed == {"seqs": [1, 2, 3, 4], "protocol": "chat.v1"}
