// What the person said and the service did not confirm yet.
//
// Each message gets its id here, so that it may be sent until there is an answer: however often it arrives, it is
// stored once. The box lies in sessionStorage, so that a reload loses nothing.
import { LoggedOut, call, user } from "./api.js";
import { backoff } from "./dom.js";

// Browsers give randomUUID to pages from https and from this machine alone.
const newId = () =>
  crypto.randomUUID?.() ?? Array.from(crypto.getRandomValues(new Uint8Array(16)), (n) => n.toString(16).padStart(2, "0")).join("");

export class Outbox {
  #key = `chat.outbox.${user.id}`;
  #items = JSON.parse(sessionStorage.getItem(this.#key) ?? "[]");
  #busy = false;
  #closed = false;
  #wake = () => {};

  /** `changed()` after each change; `settled(room, data)` with the answer of a send. */
  constructor(changed, settled) {
    this.changed = changed;
    this.settled = settled;
    addEventListener("online", () => this.#wake());
    this.#run();
  }

  /** Oldest first: `{ room_id, m_id, content, error }`, with an error where the service refused. */
  of(room) { return this.#items.filter((item) => item.room_id === room); }

  add(room_id, content) {
    this.#items.push({ room_id, m_id: newId(), content });
    this.#changed();
    this.#run();
  }

  again(item) {
    item.error = undefined;
    this.#changed();
    this.#run();
  }

  remove(item) {
    this.#items = this.#items.filter(({ m_id }) => m_id !== item.m_id);
    this.#changed();
  }

  hurry() { this.#wake(); }
  close() { this.#closed = true; this.#wake(); }

  #changed() {
    sessionStorage.setItem(this.#key, JSON.stringify(this.#items));
    this.changed();
  }

  // One at a time, so that they are stored in the order in which they were written.
  async #run() {
    if (this.#busy) return;
    this.#busy = true;
    let tries = 0;
    for (let item; !this.#closed && (item = this.#items.find(({ error }) => !error)); ) {
      const { room_id, m_id, content } = item;
      try {
        const { data } = await call("POST", `/chat/${room_id}`, { content, m_id }, { Prefer: "respond-async" });
        tries = 0;
        this.settled(room_id, data);
        this.remove(item);
      } catch (error) {
        if (error instanceof LoggedOut) break;
        if (error.passing) {
          const wait = Math.max(backoff(tries++), error.retryAfter * 1000);
          await new Promise((resolve) => { this.#wake = resolve; setTimeout(resolve, wait); });
        } else {
          item.error = error.message;
          this.#changed();
        }
      }
    }
    this.#busy = false;
  }
}
