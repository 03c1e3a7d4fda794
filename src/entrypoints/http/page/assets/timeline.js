// The messages of a room as a list: each entry has a key, and is made anew only where something of it changed.
import { user } from "./api.js";
import { $, guarded, h, sure, toast } from "./dom.js";
import { rendered } from "./markdown.js";

const NEAR = 80;
const TOGETHER = 5 * 60_000;
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });
const STOPPED = { failed: "The answer failed.", blocked: "The answer was blocked.", cancelled: "The answer was stopped." };
const list = $("timeline");
const scroller = $("scroller");

const hue = (name) => [...name].reduce((sum, sign) => (sum * 31 + sign.codePointAt(0)) % 360, 7);
const sameDay = (one, other) => new Date(one.created_at).toDateString() === new Date(other.created_at).toDateString();
const button = (label, work, more) => h("button", { type: "button", class: "link", onclick: guarded(work), ...more }, label);

export class Timeline {
  #shown = new Map(); // key -> { node, mark }
  #editing = null;
  #due = 0;
  #pace = 40;
  #last = "";
  #atEnd = true;
  #watch;
  #size;

  constructor(room, outbox) {
    this.room = room;
    this.outbox = outbox;
    list.replaceChildren();
    // Whoever is at the end stays there when the keyboard opens or the window changes.
    this.#size = new ResizeObserver(() => this.#atEnd && this.toEnd());
    this.#size.observe(scroller);
    scroller.onscroll = () => { this.#atEnd = this.#near(); if (this.#atEnd) $("newest").hidden = true; };
    this.#watch = new IntersectionObserver(([entry]) => entry.isIntersecting && this.#older(), { root: scroller, rootMargin: "400px" });
    this.#watch.observe($("beginning"));
    this.draw();
    this.toEnd();
  }

  close() {
    this.#size.disconnect();
    this.#watch.disconnect();
    clearTimeout(this.#due);
    this.#due = -1;
  }

  /** Soon; parts of an answer that come faster are drawn together. */
  drawSoon() {
    this.#due ||= setTimeout(() => { this.#due = 0; this.draw(); }, this.#pace);
  }

  toEnd() {
    scroller.scrollTop = scroller.scrollHeight;
    this.#atEnd = true;
    $("newest").hidden = true;
  }

  #near() { return scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < NEAR; }

  draw() {
    const began = performance.now();
    const entries = this.#entries();
    const keys = new Set(entries.map(({ key }) => key));
    for (const [key, { node }] of this.#shown) if (!keys.has(key)) { node.remove(); this.#shown.delete(key); }
    let next = list.firstChild;
    for (const { key, mark, fill } of entries) {
      let shown = this.#shown.get(key);
      if (!shown) this.#shown.set(key, shown = { node: h("li", { "data-key": key }) });
      if (shown.mark !== mark) fill(shown.node);
      shown.mark = mark;
      if (shown.node === next) next = next.nextSibling;
      else list.insertBefore(shown.node, next);
    }
    const empty = entries.length === 0;
    $("beginning").textContent = this.room.hasOlder ? "Loading earlier messages …"
      : empty ? "Nobody said anything yet. Begin!" : "This is where the room begins.";
    const last = entries.at(-1)?.key ?? "";
    if (this.#atEnd) this.toEnd();
    else if (last !== this.#last) $("newest").hidden = false;
    this.#last = last;
    this.#pace = Math.max(40, 4 * (performance.now() - began)); // a long answer takes its time, and leaves some
  }

  async #older() {
    const below = scroller.scrollHeight - scroller.scrollTop;
    if (!(await this.room.older().catch(() => false))) return;
    this.draw();
    scroller.scrollTop = scroller.scrollHeight - below;
    // Observed anew, it reports again where the beginning is still in view.
    this.#watch.unobserve($("beginning"));
    this.#watch.observe($("beginning"));
  }

  #entries() {
    const { room } = this;
    const ordered = room.ordered;
    const mine = new Set(ordered.filter(({ user_id }) => user_id === user.id).map(({ m_id }) => m_id));
    const entries = [];
    let before;
    for (const message of ordered) {
      const date = new Date(message.created_at);
      if (before && !sameDay(before, message)) before = undefined;
      if (!before) entries.push({ key: `day ${message.id}`, mark: "", fill: (node) => { node.className = "day"; node.textContent = day.format(date); } });
      entries.push(this.#message(message, before));
      before = message;
    }
    for (const item of this.outbox.of(room.id)) if (!mine.has(item.m_id)) entries.push(this.#pending(item));
    for (const draft of room.drafts.values()) entries.push(this.#draft(draft));
    return entries;
  }

  #message(message, before) {
    const { id, content, status, message_type: type, user_id, username, edited_at, reply_to } = message;
    const at = new Date(message.created_at);
    const ai = type === "ai";
    const own = user_id === user.id;
    const editing = this.#editing === id;
    const grouped = !ai && before?.message_type === type && before.user_id === user_id && at - new Date(before.created_at) < TOGETHER;
    const prompt = ai && reply_to !== before?.id ? this.room.messages.get(reply_to) : null;
    const fill = (node) => {
      node.className = `message ${ai ? "ai" : own ? "own" : "other"}${grouped ? " grouped" : ""}`;
      node.style.setProperty("--hue", hue(username));
      const body = status === "deleted" ? h("p", { class: "body gone" }, "This message was deleted.")
        : editing ? this.#editor(message)
          : ai ? h("div", { class: "body prose" }, rendered(content)) : h("p", { class: "body said" }, content);
      const tools = status !== "deleted" && !editing && h("span", { class: "tools" },
        own && button("Edit", () => this.#edit(id), { "aria-label": `Edit “${content.slice(0, 40)}”` }),
        (own || this.room.owned) && button("Delete", () => this.#delete(message), { "aria-label": `Delete “${content.slice(0, 40)}”` }));
      node.replaceChildren(...[
        h("p", { class: "by" }, h("b", null, ai ? "AI Assistant" : own ? "You" : username), " ",
          h("time", { datetime: message.created_at, title: at.toLocaleString() }, clock.format(at)),
          prompt && h("span", { class: "to" }, `to ${prompt.username}: ${prompt.content.slice(0, 60) || "a deleted message"}`)),
        body,
        h("p", { class: "foot" }, edited_at && status !== "deleted" && h("span", null, "edited"),
          status === "incomplete" && h("span", null, "This answer is not whole."), tools),
      ].filter(Boolean));
    };
    return { key: id, mark: JSON.stringify([content, status, edited_at, editing, grouped, prompt?.content, this.room.owned, username]), fill };
  }

  #pending(item) {
    const fill = (node) => {
      node.className = "message own pending";
      node.replaceChildren(h("p", { class: "by" }, h("b", null, "You")), h("p", { class: "body said" }, item.content),
        h("p", { class: "foot" }, item.error ? h("span", { class: "error" }, item.error) : h("span", null, "Sending …"),
          item.error && button("Send again", () => this.outbox.again(item)),
          item.error && button("Discard", () => this.outbox.remove(item))));
    };
    return { key: `pending ${item.m_id}`, mark: item.error ?? "", fill };
  }

  #draft({ reply, text }) {
    const why = STOPPED[reply.status];
    const fill = (node) => {
      // While it grows its buttons stay the same elements, so that they keep the focus.
      if (node.dataset.status !== reply.status) {
        node.dataset.status = reply.status;
        node.className = `message ai ${why ? "stopped" : "draft"}`;
        node.setAttribute("aria-busy", String(!why));
        node.replaceChildren(h("p", { class: "by" }, h("b", null, "AI Assistant")),
          why ? h("p", { class: "body" }, h("span", null, why, reply.error ? ` ${reply.error.title}.` : ""), " ",
            button("Retry", () => this.room.retry(reply), { class: "small" }))
            : h("div", { class: "body prose" }),
          why ? "" : h("p", { class: "foot" }, h("span", { class: "dots" }, "Answering"), button("Stop", () => this.room.stop(reply), { class: "small" })));
      }
      if (!why) node.querySelector(".prose").replaceChildren(text ? rendered(text) : "");
    };
    return { key: `reply ${reply.id}`, mark: `${reply.status} ${text}`, fill };
  }

  #edit(id) {
    this.#editing = id;
    this.draw();
  }

  #editor(message) {
    const text = h("textarea", { "aria-label": "Edited message", rows: 2, maxlength: 32000 });
    text.value = message.content;
    const end = () => { this.#editing = null; this.draw(); $("text").focus(); };
    const save = guarded(async () => {
      if (text.value.trim() && text.value !== message.content) await this.room.edit(message, text.value);
      end();
    });
    text.addEventListener("keydown", (event) => {
      if (event.key === "Escape") end();
      else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) save(event);
    });
    setTimeout(() => text.focus());
    return h("form", { class: "body editor", onsubmit: save }, text,
      h("p", { class: "actions" }, h("button", { type: "button", class: "small", onclick: end }, "Cancel"), h("button", { class: "small" }, "Save")));
  }

  async #delete(message) {
    if (!(await sure("Delete this message? Its place stays, its text is gone for everybody.", "Delete"))) return;
    await this.room.remove(message);
    toast("The message was deleted.");
  }
}
