// Access to packetboat: the bearer token of this tab, the requests that carry it, and the form that asks for it.

import { at, write } from "./tree.js";

const PATIENCE = 10000; // milliseconds
const STORED = "packetboat.token";

let token = sessionStorage.getItem(STORED);
let locked = false;
let announce = () => {};

export const isLocked = () => locked;

// Sends a request. An answer that is not OK is an error, with the words of packetboat where it has some.
export async function ask(path, { headers = {}, signal = AbortSignal.timeout(PATIENCE), ...more } = {}) {
  const all = token ? { ...headers, Authorization: `Bearer ${token}` } : headers;
  const request = fetch(path, { headers: all, cache: "no-store", signal, ...more });
  const answer = await request.catch((error) => {
    throw new Error(error.name === "TimeoutError" ? "packetboat does not answer in time" : "the browser cannot reach packetboat");
  });
  if (answer.status === 401) lock();
  if (!answer.ok) throw Object.assign(new Error(`packetboat answers with HTTP ${answer.status}`), { answer });
  return answer;
}

// Asks for a change: a form with the form token of status.json. An error that packetboat has told has `told`.
export async function change(path, fields, formToken, patience = PATIENCE) {
  const more = { headers: { "X-Form-Token": formToken }, body: new URLSearchParams(fields) };
  const sent = ask(path, { method: "POST", signal: AbortSignal.timeout(patience), ...more });
  return sent.catch(async (error) => {
    throw error.answer ? Object.assign(new Error((await error.answer.text()).trim()), { told: true }) : error;
  });
}

function lock() {
  write(at("token-problem"), token ? "packetboat does not accept this token." : "");
  token = null;
  sessionStorage.removeItem(STORED);
  locked = true;
  at("unlock").hidden = false;
  at("main").hidden = true;
  announce();
  at("token").focus();
  fetch("ca.pem", { method: "HEAD" }).then(({ ok }) => { at("locked-ca").hidden = !ok; }, () => {});
}

// Calls `onLock` when a token is missing or wrong, and `onUnlock` after somebody has entered one.
export function guard(onLock, onUnlock) {
  announce = onLock;
  at("unlock").addEventListener("submit", (event) => {
    event.preventDefault();
    token = at("token").value.trim();
    at("token").value = "";
    if (!/^[!-~]+$/.test(token)) return lock();
    sessionStorage.setItem(STORED, token);
    locked = false;
    onUnlock();
  });
}
