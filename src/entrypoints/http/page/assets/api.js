// Calls to the service with the person's token, which is renewed when it runs out.
//
// The access token lives in memory alone: nobody needs it longer than the page. The refresh token lies in localStorage,
// so that a reload, or another tab, is still logged in. A script of this origin could read it there, and the page's
// policy admits no script but its own files; besides it is spent by its first use, and when it is used twice the
// session ends.
import { pause } from "./dom.js";

const KEY = "chat.refresh_token";
let access = null; // { token, until }
let renewing = null;
export let user = null;

/** An answer that is an error. `status` 0: there was no answer. `message` is for people. */
export class Problem extends Error {
  constructor(status, body, retryAfter) {
    const said = (body?.errors ?? []).map(({ pointer, detail }) => `${pointer.slice(1)}: ${detail}`).join(" ");
    super(said || body?.detail || body?.title || "The service did not answer as it should.");
    this.status = status;
    this.code = (body?.type ?? "").split(":").at(-1);
    this.retryAfter = retryAfter;
  }
  get passing() { return this.status === 0 || this.status === 429 || this.status >= 500; }
}

export class LoggedOut extends Error {}

async function raw(method, path, body, headers = {}) {
  let response;
  try {
    response = await fetch(path, {
      method,
      headers: body === undefined ? headers : { "Content-Type": "application/json", ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout(20_000),
    });
    const answer = response.status === 204 ? null : await response.json();
    if (response.ok) return answer;
    throw new Problem(response.status, answer, Number(response.headers.get("Retry-After")) || 0);
  } catch (error) {
    if (error instanceof Problem) throw error;
    throw new Problem(response?.ok === false ? response.status : 0, { detail: "The service cannot be reached." }, 0);
  }
}

function keep(session) {
  // Renewed a little early, for a clock and a network are between the two.
  access = { token: session.access_token, until: Date.now() + (session.expires_in - 20) * 1000 };
  user = session.user;
  localStorage.setItem(KEY, session.refresh_token);
  return access.token;
}

export function forget() {
  access = user = null;
  localStorage.removeItem(KEY);
}

async function renew() {
  for (;;) {
    const spent = localStorage.getItem(KEY);
    if (!spent) throw new LoggedOut("Please log in again.");
    try {
      return keep(await raw("POST", "/auth/refresh", { refresh_token: spent }));
    } catch (error) {
      if (error.passing) throw error;
      // Another tab was faster, and is about to leave the new token here. The spent one must not be shown again:
      // after ten seconds that would pass for theft.
      for (let waited = 0; error.code === "refresh-raced" && waited < 5000; waited += 100) {
        if (localStorage.getItem(KEY) !== spent) break;
        await pause(100);
      }
      if (localStorage.getItem(KEY) === spent) forget();
    }
  }
}

/** A token that is good for a while yet. */
function token() {
  if (access && Date.now() < access.until) return access.token;
  renewing ??= renew().finally(() => { renewing = null; });
  return renewing;
}

/** The answer's JSON (null for 204). Throws `Problem`, or `LoggedOut` when the session is over. */
export async function call(method, path, body, headers = {}) {
  for (let again = false; ; again = true) {
    const bearer = await token();
    try {
      return await raw(method, path, body, { ...headers, Authorization: `Bearer ${bearer}` });
    } catch (error) {
      if (error.status !== 401 || again) throw error;
      if (access?.token === bearer) access = null;
    }
  }
}

export const signUp = (account) => raw("POST", "/auth/signup", account);
export const logIn = async (username, password) => keep(await raw("POST", "/auth/login", { username, password }));
/** Whether somebody is logged in, from before a reload or in another tab. */
export const resume = () => localStorage.getItem(KEY) !== null && token().then(() => true);

export async function logOut() {
  await call("POST", "/auth/logout").catch(() => {});
  forget();
}

/** Calls back when another tab logs out. */
export const onLogOut = (then) => addEventListener("storage", (event) => event.key === KEY && !event.newValue && then());
