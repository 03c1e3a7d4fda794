// The page: the door, the list of rooms, and the room that is open.
import { forget, logIn, logOut, onLogOut, resume, signUp, user, call, LoggedOut } from "./api.js";
import { $, guarded, h, pause, toast } from "./dom.js";
import { Live } from "./live.js";
import { Outbox } from "./outbox.js";
import { preparePeople, showPeople, togglePeople } from "./people.js";
import { Room } from "./room.js";
import { Timeline } from "./timeline.js";

const LIST_EVERY = 10_000;
const TYPING_EVERY = 2000;
let live, outbox, room, timeline, round, rooms = [], most = 50, shown = "", typed = 0, untyped = 0;
const seen = () => JSON.parse(localStorage.getItem(`chat.seen.${user.id}`) ?? "{}");

// --- the door ---

let newcomer = false;

function door(text = "") {
  live?.close();
  outbox?.close();
  clearInterval(round);
  shut();
  live = outbox = null;
  $("house").hidden = true;
  // Whoever has this browser next is shown nothing of it, not even by its tools.
  $("room-list").replaceChildren();
  $("member-list").replaceChildren();
  $("announcer").replaceChildren();
  $("me").textContent = $("room-name").textContent = $("text").value = shown = "";
  rooms = [];
  $("door").hidden = false;
  document.title = "Chat";
  $("door-error").textContent = text;
  asNewcomer(false);
}

function asNewcomer(is) {
  newcomer = is;
  const form = $("account");
  $("door-title").textContent = is ? "Make an account" : "Welcome back";
  $("door-other").textContent = is ? "You have an account?" : "No account yet?";
  $("door-switch").textContent = is ? "Log in" : "Sign up";
  $("email-field").hidden = !is;
  form.email.required = is;
  form.password.autocomplete = is ? "new-password" : "current-password";
  form.querySelector(".primary").textContent = is ? "Sign up" : "Log in";
  form.username.focus();
}

$("door-switch").onclick = () => { $("door-error").textContent = ""; asNewcomer(!newcomer); };
$("account").onsubmit = async (event) => {
  event.preventDefault();
  const { username, email, password } = event.target;
  const press = event.target.querySelector(".primary");
  press.disabled = true;
  $("door-error").textContent = "";
  try {
    if (newcomer) await signUp({ username: username.value, email: email.value, password: password.value });
    await logIn(username.value, password.value);
    event.target.reset();
    enter();
  } catch (error) {
    $("door-error").textContent = error.message;
  } finally {
    press.disabled = false;
  }
};
$("log-out").onclick = async () => { await logOut(); door(); };
onLogOut(() => { forget(); door("You logged out in another tab."); });

function enter() {
  $("door").hidden = true;
  $("house").hidden = false;
  $("me").textContent = user.username;
  rooms = [];
  live = new Live(connection, (error) => door(error.message));
  outbox = new Outbox(() => timeline?.drawSoon(), (id, data) => room?.id === id && room.info && room.settled(data));
  round = setInterval(() => { if (!document.hidden) { listRooms(); room?.info && room.check(); } }, LIST_EVERY);
  listRooms();
  goTo();
}

function connection(kind, text) {
  $("connection").className = `chip ${kind}`;
  $("connection").textContent = text;
  if (kind !== "live") return;
  outbox?.hurry();
  listRooms();
}

// --- the list ---

async function listRooms() {
  try {
    const page = await call("GET", `/rooms?limit=${most}`);
    rooms = page.rooms;
    $("more-rooms").hidden = !page.next_cursor || most >= 200;
  } catch (error) {
    if (error instanceof LoggedOut) door(error.message);
    return;
  }
  showRooms();
}

function showRooms() {
  if (!user) return;
  const read = seen();
  // A link that is put anew between a press and its release is never clicked.
  const look = JSON.stringify([room?.id, rooms.map(({ id, name, visibility, last_seq }) => [id, name, visibility, last_seq > (read[id] ?? 0)])]);
  if (look === shown) return;
  shown = look;
  const focused = document.activeElement?.hash;
  $("room-list").replaceChildren(...rooms.map(({ id, name, visibility, last_seq }) => h("li", null,
    h("a", { href: `#${id}`, "aria-current": room?.id === id && "page" },
      h("span", { class: "name" }, name),
      visibility === "private" && h("span", { class: "quiet", title: "Members only" }, "private"),
      room?.id !== id && last_seq > (read[id] ?? 0) && h("span", { class: "dot new", role: "img", "aria-label": "something new" })))));
  if (rooms.length === 0) $("room-list").append(h("li", { class: "empty" }, "There is no room yet. Make the first one."));
  if (focused) $("room-list").querySelector(`[href="${CSS.escape(focused)}"]`)?.focus();
}

$("more-rooms").onclick = () => { most += 50; listRooms(); };
$("new-room").onclick = () => { $("room-form").reset(); $("room-dialog").showModal(); };
$("room-dialog").querySelector("[data-close]").onclick = () => $("room-dialog").close();
$("room-form").onsubmit = async (event) => {
  event.preventDefault();
  const form = event.target;
  const error = form.querySelector(".error");
  error.textContent = "";
  try {
    const fields = { name: form.elements.name.value, description: form.description.value, visibility: form.visibility.value };
    const { data } = await call("POST", "/rooms/", fields);
    $("room-dialog").close();
    location.hash = data.room.id;
    listRooms();
  } catch (problem) {
    error.textContent = problem.message;
  }
};

// --- the room ---

function shut() {
  timeline?.close();
  room?.close();
  room = timeline = null;
  $("timeline").replaceChildren();
  $("composer").hidden = $("people-button").hidden = $("newest").hidden = true;
  $("typing").textContent = $("room-about").textContent = "";
  togglePeople(false);
}

function leave(text) {
  shut();
  location.hash = "";
  goTo();
  listRooms();
  if (text) toast(text);
}

async function goTo() {
  if (!user) return;
  const id = encodeURIComponent(location.hash.slice(1)); // it is typed, perhaps
  if (room && room.id === id) return;
  shut();
  $("house").classList.toggle("inside", id !== "");
  $("room-name").textContent = id ? "…" : "Chat";
  $("beginning").textContent = id ? "Loading …" : "Choose a room, or make a new one.";
  document.title = "Chat";
  showRooms();
  if (!id) return;
  const opened = room = new Room(id, live, () => room === opened && changed(), (text) => room === opened && leave(text));
  for (let tries = 0; ; tries++) {
    try {
      await opened.open();
      break;
    } catch (error) {
      if (room !== opened) return;
      if (!error.passing) return leave(error.status === 404 ? "There is no such room, or it is closed to you." : error.message);
      $("beginning").textContent = `${error.message} Trying again …`;
      await pause(Math.min(1000 * 2 ** tries, 10_000));
    }
  }
  if (room !== opened) return opened.close();
  timeline = new Timeline(room, outbox);
  $("composer").hidden = $("people-button").hidden = false;
  changed();
  // On a phone the focus would open the keyboard over what one came to read.
  (matchMedia("(pointer: coarse)").matches ? $("room-name") : $("text")).focus();
}

function changed() {
  if (!timeline) return;
  const { info, typing } = room;
  $("room-name").textContent = info.name;
  $("room-about").textContent = info.description;
  document.title = info.name;
  const names = [...typing.entries()].filter(([id, { until }]) => id !== user.id && until > Date.now()).map(([, { username }]) => username);
  $("typing").textContent = names.length === 0 ? "" : names.length > 3 ? "Several people are typing …"
    : `${names.join(" and ")} ${names.length === 1 ? "is" : "are"} typing …`;
  clearTimeout(untyped);
  if (names.length) untyped = setTimeout(changed, 1000);
  showPeople(room);
  timeline.drawSoon();
  const read = seen();
  if (info.last_seq > (read[room.id] ?? 0)) localStorage.setItem(`chat.seen.${user.id}`, JSON.stringify({ ...read, [room.id]: info.last_seq }));
}

$("composer").onsubmit = (event) => {
  event.preventDefault();
  const text = $("text").value;
  if (!text.trim() || !room) return;
  outbox.add(room.id, text);
  $("text").value = "";
  typed = 0;
  timeline.draw();
  timeline.toEnd();
};
$("text").onkeydown = (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("composer").requestSubmit();
};
$("text").oninput = () => {
  if (!$("text").value || Date.now() - typed < TYPING_EVERY) return;
  typed = Date.now();
  live.send({ type: "typing", room_id: room.id });
};
$("newest").onclick = () => timeline?.toEnd();
addEventListener("hashchange", guarded(goTo));
preparePeople(() => leave());

for (let tries = 0; ; tries++) {
  try {
    if (await resume()) enter();
    else door();
    break;
  } catch (error) {
    if (!error.passing) { door(error.message); break; }
    await pause(Math.min(500 * 2 ** tries, 10_000)); // the service is away, the session is not over
  }
}
