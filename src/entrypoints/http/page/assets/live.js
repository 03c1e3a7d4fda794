// One WebSocket for all rooms that are followed, made again whenever it is lost.
//
// The places of a room's events are 1, 2, 3 ... without a gap. For each room the last one seen is kept: whoever comes
// back asks for what is behind it, drops what came twice, and asks again when one is missing.
import { LoggedOut, call } from "./api.js";
import { backoff } from "./dom.js";

const PING_AFTER = 15_000;
const DEAD_AFTER = 25_000;

export class Live {
  #socket = null;
  #rooms = new Map(); // id -> { cursor, take }
  #tries = 0;
  #retry = 0;
  #heard = 0;
  #ended = false;
  #watch;
  #signals = new AbortController();

  /** `state(kind, text)` is told how the connection is, `ended(error)` that the session is over. */
  constructor(state, ended) {
    this.state = state;
    this.ended = ended;
    this.#watch = setInterval(() => this.#look(), 5000);
    const { signal } = this.#signals;
    addEventListener("online", () => this.#now(), { signal });
    addEventListener("offline", () => this.#lost("Offline"), { signal });
    addEventListener("visibilitychange", () => document.visibilityState === "visible" && this.#now(), { signal });
    this.#connect();
  }

  /** Calls `take(event)` for each event behind `cursor`, in order and once; `ok` tells of each new beginning. */
  follow(room, cursor, take) {
    const followed = { cursor, take };
    this.#rooms.set(room, followed);
    this.#subscribe(room);
    return () => {
      if (this.#rooms.get(room) !== followed) return;
      this.#rooms.delete(room);
      this.send({ type: "unsubscribe", room_id: room });
    };
  }

  /** Whether it could be sent. What must not be lost goes over HTTP. */
  send(frame) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(JSON.stringify(frame));
    return true;
  }

  close() {
    this.#ended = true;
    this.#signals.abort();
    clearInterval(this.#watch);
    clearTimeout(this.#retry);
    this.#drop();
  }

  async #connect() {
    this.#retry = 0;
    this.state("wait", "Connecting …");
    try {
      const { ticket } = await call("POST", "/auth/ws-ticket");
      if (this.#ended) return;
      const socket = new WebSocket(new URL("/ws", location.href.replace(/^http/, "ws")), ["chat.v1", `ticket.${ticket}`]);
      this.#socket = socket;
      this.#heard = Date.now();
      socket.onopen = () => this.#opened();
      socket.onmessage = ({ data }) => this.#take(JSON.parse(data));
      socket.onclose = () => this.#socket === socket && this.#lost("Connection lost");
    } catch (error) {
      if (this.#ended) return;
      if (error instanceof LoggedOut) this.ended(error);
      else this.#lost(navigator.onLine ? "Connection lost" : "Offline");
    }
  }

  #opened() {
    this.#tries = 0;
    this.state("live", "Live");
    for (const room of this.#rooms.keys()) this.#subscribe(room);
  }

  #subscribe(room) {
    this.send({ type: "subscribe", room_id: room, after: this.#rooms.get(room).cursor, ref: room });
  }

  #take(event) {
    this.#heard = Date.now();
    const room = this.#rooms.get(event.room_id ?? event.ref);
    if (!room) return;
    if (event.type === "error" && ![403, 404, 409].includes(event.data?.status)) {
      setTimeout(() => this.#rooms.get(event.ref) === room && this.#again(event.ref), backoff(2));
      return;
    }
    if (event.seq != null) {
      if (event.seq <= room.cursor) return;
      if (event.seq > room.cursor + 1) return this.#again(event.room_id);
      room.cursor = event.seq;
    }
    room.take(event);
  }

  #again(room) {
    this.send({ type: "unsubscribe", room_id: room });
    this.#subscribe(room);
  }

  #look() {
    if (this.#socket?.readyState > WebSocket.OPEN || !this.#socket) return;
    const silent = Date.now() - this.#heard;
    if (silent > DEAD_AFTER) this.#lost("Connection lost");
    else if (silent > PING_AFTER) this.send({ type: "ping" });
  }

  #drop() {
    const socket = this.#socket;
    this.#socket = null; // before it closes, which on a dead network takes its time
    socket?.close();
  }

  #lost(why) {
    this.#drop();
    if (this.#ended || this.#retry) return;
    const wait = backoff(this.#tries++);
    this.state("lost", `${why}, trying again`);
    this.#retry = setTimeout(() => this.#connect(), wait);
  }

  #now() {
    if (!this.#retry) return;
    clearTimeout(this.#retry);
    this.#connect();
  }
}
