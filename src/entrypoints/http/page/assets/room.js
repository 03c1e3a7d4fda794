// What is known of one room: its messages, the answers in the making, who is in and who is here.
import { call, user } from "./api.js";
import { announce } from "./dom.js";
import { rendered } from "./markdown.js";

const PAGE = 50;
const FINAL = new Set(["complete", "incomplete", "failed", "blocked", "cancelled"]);
const TYPING_FOR = 5000;

export class Room {
  messages = new Map(); // id -> MESSAGE
  drafts = new Map(); // reply id -> { reply, text }; without a message once it failed
  members = new Map(); // user id -> MEMBER
  present = new Map(); // user id -> name
  typing = new Map(); // user id -> { username, until }
  hasOlder = false;
  #loading = false;
  #late = []; // changes of messages whose page is on its way
  #leave = () => {};

  /** `changed()` after each change, `closed(text)` when the room is closed to the person. */
  constructor(id, live, changed, closed) {
    Object.assign(this, { id, live, changed, closed });
  }

  get owned() { return this.info.created_by === user.id; }
  /** Oldest first. */
  get ordered() { return [...this.messages.values()].sort((a, b) => a.seq - b.seq); }
  get oldest() { return Math.min(...[...this.messages.values()].map(({ seq }) => seq)); }

  async open() {
    // The place comes first: whatever happens while the rest is loaded is behind it, and comes as an event.
    this.info = await call("GET", `/rooms/${this.id}`);
    const [page, { members }] = await Promise.all([
      call("GET", `/rooms/${this.id}/messages?limit=${PAGE}`), call("GET", `/rooms/${this.id}/members`),
    ]);
    this.#add(page);
    for (const member of members) this.members.set(member.user_id, member);
    this.#leave = this.live.follow(this.id, this.info.last_seq, (event) => this.#take(event));
    this.#recover().catch(() => {});
  }

  close() { this.#leave(); }

  /** One more page of history; false where there is none, or one is on its way. */
  async older() {
    if (!this.hasOlder || this.#loading) return false;
    this.#loading = true;
    try {
      this.#add(await call("GET", `/rooms/${this.id}/messages?limit=${PAGE}&before=${this.oldest}`));
      for (const message of this.#late) if (this.messages.has(message.id)) this.messages.set(message.id, message);
    } finally {
      this.#loading = false;
      this.#late = [];
    }
    return true;
  }

  #add({ messages, has_older }) {
    for (const message of messages) this.messages.set(message.id, message);
    this.hasOlder = has_older;
  }

  /** What a send was answered. */
  settled({ messages, reply }) {
    this.#put(messages.user_message);
    if (messages.ai_message?.id) this.#put(messages.ai_message);
    if (reply) this.#heard(reply);
    this.changed();
  }

  async retry(reply) {
    this.#heard(await call("POST", `/replies/${reply.id}/retry`));
    this.changed();
  }

  async stop(reply) {
    this.#heard(await call("POST", `/replies/${reply.id}/stop`));
    this.changed();
  }

  async edit(message, content) {
    this.#put(await call("PATCH", `/rooms/${this.id}/messages/${message.id}`, { content }));
    this.changed();
  }

  remove(message) { return call("DELETE", `/rooms/${this.id}/messages/${message.id}`); }

  /** Asks for the answers whose end may have been missed: their events have no place in the log. */
  async check() {
    for (const { reply } of [...this.drafts.values()]) {
      if (FINAL.has(reply.status) && reply.status !== "complete" && reply.status !== "incomplete") continue;
      const now = await call("GET", `/replies/${reply.id}`).catch(() => null);
      if (now?.message) this.#put(now.message);
      if (now && FINAL.has(now.status)) this.#heard(now);
    }
    const now = Date.now();
    for (const [id, { until }] of this.typing) if (until < now) this.typing.delete(id);
    this.changed();
  }

  // After a reload nobody tells of an answer that failed. The same send again does, and changes nothing.
  async #recover() {
    const answered = new Set(this.ordered.map(({ reply_to }) => reply_to));
    const open = this.ordered.slice(-10).filter((message) => message.user_id === user.id && !answered.has(message.id) &&
      message.status === "complete" && !message.edited_at);
    if (this.info.ai.mode === "off") return;
    for (const { content, m_id } of open.slice(-3)) {
      const { data } = await call("POST", `/chat/${this.id}`, { content, m_id }, { Prefer: "respond-async" });
      this.settled(data);
    }
  }

  #put(message) {
    if (this.hasOlder && message.seq < this.oldest) return void this.#late.push(message); // it comes with its page
    const known = this.messages.get(message.id);
    this.messages.set(message.id, message);
    for (const [id, { reply }] of this.drafts) if (reply.prompt_id === message.reply_to) this.drafts.delete(id);
    if (message.status === "deleted") this.#forget(message.id);
    const text = message.message_type === "ai" ? rendered(message.content).textContent : message.content;
    if (!known && message.user_id !== user.id) announce(`${message.username}: ${text}`);
    this.typing.delete(message.user_id);
  }

  #forget(prompt) {
    for (const [id, { reply }] of this.drafts) if (reply.prompt_id === prompt) this.drafts.delete(id);
  }

  // The newest reply to a prompt is the one that counts; ids rise with time.
  #heard(reply) {
    const draft = this.drafts.get(reply.id) ?? { text: "" };
    const prompt = this.messages.get(reply.prompt_id);
    const answered = [...this.messages.values()].some(({ reply_to }) => reply_to === reply.prompt_id);
    if (FINAL.has(draft.reply?.status) && !FINAL.has(reply.status)) return;
    if ([...this.drafts.values()].some((other) => other.reply.prompt_id === reply.prompt_id && other.reply.id > reply.id)) return;
    this.#forget(reply.prompt_id);
    this.drafts.delete(reply.id);
    if (answered || prompt?.status === "deleted") return;
    this.drafts.set(reply.id, { ...draft, reply });
  }

  #draft(id) {
    if (!this.drafts.has(id)) this.drafts.set(id, { reply: { id, status: "running" }, text: "" });
    return this.drafts.get(id);
  }

  #take({ type, seq, data }) {
    if (seq) this.info.last_seq = seq;
    if (type === "ok") { this.present.clear(); this.check(); }
    else if (type === "error" && data.status === 409) return this.#anew();
    else if (type === "error") return this.closed(data.detail);
    else if (type.startsWith("message.")) this.#put(data);
    else if (type === "reply.delta") this.#draft(data.reply_id).text += data.text;
    else if (type === "reply.reset") this.#draft(data.reply_id).text = "";
    else if (type === "reply.started") { this.#heard(data); if (this.drafts.has(data.id)) this.drafts.get(data.id).text = ""; }
    else if (type === "reply.ended") this.#heard(data);
    else if (type === "room.updated") Object.assign(this.info, data);
    else if (type === "room.deleted") return this.closed("The room was deleted.");
    else if (type === "member.joined") this.members.set(data.user_id, data);
    else if (type === "member.left") { this.members.delete(data.user_id); this.present.delete(data.user_id); }
    else if (type === "presence") this.#present(data);
    else if (type === "typing") this.typing.set(data.user_id, { username: data.username, until: Date.now() + TYPING_FOR });
    this.changed();
  }

  // The log is shorter than what was seen of it: the service was set back to an earlier state.
  async #anew() {
    this.close();
    this.messages.clear();
    this.drafts.clear();
    await this.open();
    this.changed();
  }

  #present({ user_id, username, present }) {
    if (present === false) this.present.delete(user_id);
    else this.present.set(user_id, username);
  }
}
