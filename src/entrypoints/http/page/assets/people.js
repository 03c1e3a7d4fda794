// The panel beside a room: who is in, who is here, and what its owner may change.
import { call, user } from "./api.js";
import { $, guarded, h, sure, toast } from "./dom.js";

let room = null;
const path = (rest = "") => `/rooms/${room.id}${rest}`;

export function showPeople(of) {
  room = of;
  const owned = room.owned;
  const here = (id) => id === user.id || room.present.has(id);
  const entries = [...room.members.values()].map(({ user_id, username, role }) => ({ user_id, username, role }));
  // Whoever reads a public room without having joined is here, too.
  for (const [user_id, username] of room.present) if (!room.members.has(user_id)) entries.push({ user_id, username, role: "guest" });
  entries.sort((a, b) => here(b.user_id) - here(a.user_id) || a.username.localeCompare(b.username));
  $("member-list").replaceChildren(...entries.map(({ user_id, username, role }) => h("li", null,
    h("span", { class: here(user_id) ? "dot here" : "dot", role: "img", "aria-label": here(user_id) ? "here" : "away" }),
    h("span", { class: "name" }, username, user_id === user.id && " (you)"),
    role !== "member" && h("span", { class: "quiet" }, role),
    owned && role === "member" && h("button", { class: "link", "aria-label": `Remove ${username}`, onclick: guarded(() => remove(user_id, username)) }, "Remove"),
  )));
  const count = [...room.present.keys()].filter((id) => id !== user.id).length + 1;
  $("people-button").textContent = `${count} here`;
  $("people-button").setAttribute("aria-label", `Members, ${count} here`);
  $("add-member").hidden = $("visibility-field").hidden = $("delete-room").hidden = !owned;
  $("leave").hidden = owned || !room.members.has(user.id);
  if (document.activeElement !== $("visibility")) $("visibility").value = room.info.visibility;
}

export function togglePeople(open = $("people").hidden) {
  const had = $("people").contains(document.activeElement);
  $("people").hidden = !open;
  $("people-button").setAttribute("aria-expanded", String(open));
  if (open) $("close-people").focus();
  else if (had) $("people-button").focus();
}

async function remove(id, name) {
  if (await sure(`Remove ${name} from the room?`, "Remove")) await call("DELETE", path(`/members/${id}`));
}

/** Once. `left()` is called when the person left the room or ended it. */
export function preparePeople(left) {
  $("people-button").onclick = () => togglePeople();
  $("close-people").onclick = () => togglePeople(false);
  $("people").onkeydown = (event) => { if (event.key === "Escape") togglePeople(false); };
  $("add-member").onsubmit = guarded(async ({ target }) => {
    const member = await call("POST", path("/members"), { username: target.username.value.trim() });
    room.members.set(member.user_id, member);
    target.reset();
    showPeople(room);
  });
  $("visibility").onchange = guarded(async ({ target }) => {
    Object.assign(room.info, await call("PATCH", path(), { visibility: target.value }));
    toast(target.value === "private" ? "Now the room is for its members only." : "Now everybody can read and write here.");
    room.changed();
  });
  $("leave").onclick = guarded(async () => {
    if (!(await sure("Leave the room?", "Leave"))) return;
    await call("DELETE", path(`/members/${user.id}`));
    left();
  });
  $("delete-room").onclick = guarded(async () => {
    if (!(await sure("Delete the room, with all that was said in it?", "Delete"))) return;
    await call("DELETE", path());
    left();
  });
}
