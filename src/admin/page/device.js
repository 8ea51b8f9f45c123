// The page of one device: asks for device.json, follows its events, and patches what changed into the page, as text only.

import { ask, guard, isLocked } from "./access.js";
import {
  h, patch, write, at, within, number, count, exact, span, when, none, cell, row, since, octets, reach, reads, stateOf, sentTo,
} from "./tree.js";

const [AGAIN, SILENCE] = [5000, 30000]; // milliseconds
const name = new URLSearchParams(location.search).get("name") ?? "";
const query = `name=${encodeURIComponent(name)}`;

// --- The state, in one sentence

const TRIAL = "Its account is on trial: each message goes to the mailbox alone, whatever recipients the device gives.";

function sentence(device) {
  const { state, since: from, silent_after: longest, last_login: login, sending, now } = device;
  if (state === "silent") {
    return `Nothing was heard of it since ${since(from, now)}, for longer than ${span(longest)}. `
      + "See whether it is switched on, and whether its network reaches packetboat.";
  }
  if (!login && !sending?.failed) {
    return state === "never" ? "It has never logged in. Enter the mail settings below into the device." : reading(device);
  }
  return [reads(device) && reading(device), sending && sends(sending, now), sending && device.trial && TRIAL]
    .filter(Boolean).join(" ");
}

function reading({ reading: side, since: from, last_mail: mail, last_login: login, now }) {
  const [failing, came] = side ? [side.failing_since, side.last_login] : [from, login];
  if (failing) return `It gets no mail: its logins have failed since ${since(failing, now)}.`;
  if (mail) return `It gets its mail. It fetched the last message at ${since(mail, now)}.`;
  return came ? `It logs in, last at ${since(came, now)}, and has fetched no message yet.` : "";
}

function sends({ state, since: from, last_sent: sent, last_login: login }, now) {
  if (state === "failing") return `It sends no mail: its logins to send have failed since ${since(from, now)}.`;
  if (state === "refused") return `It sends no mail: every message has been refused since ${since(from, now)}.`;
  if (state === "sends") return `It sends its mail. The mail server accepted the last message at ${since(sent, now)}.`;
  const nothing = sent ? `nothing since ${since(sent, now)}` : "no message yet";
  return `It logs in to send, last at ${since(login, now)}, and has sent ${nothing}. Send a test message from the device: `
    + "one that only tests its settings logs in as well.";
}

function showState(device) {
  const { state, reason, failed, advice, description, now } = device;
  const { sending } = device;
  const [color, words] = stateOf(device);
  document.title = `${state === "ok" ? "" : "(!) "}${device.device} - packetboat`;
  write(at("version"), device.version);
  write(at("name"), device.device);
  write(at("description"), description ?? "");
  patch(at("badge"), [h("span", `badge ${color}`, words)]);
  write(at("sentence"), sentence(device));
  patch(at("reason"), reason ? [h("b", "", "Reason: "), h("bdi", "reason", reason), failed && when(failed, now, " ")] : []);
  patch(at("advice"), advice ? [h("b", "", "What to do: "), h("span", "", advice)] : []);
  // A device that reads as well may have failed in that later.
  const hasOwn = state !== "silent" && ["failing", "refused"].includes(sending?.state) && sending.failure !== reason;
  patch(at("sending-reason"), hasOwn ? [h("b", "", "Why it does not send: "), h("bdi", "reason", sending.failure),
    when(sending.failed, now, " ")] : []);
  patch(at("sending-advice"), hasOwn ? [h("b", "", "What to do: "), h("span", "", sending.advice ?? "")] : []);
}

const fact = (label, content) => [h("dt", "", label, { key: label }), h("dd", "", content, { key: label })];

function showFacts(device) {
  const { last_mail: mail, last_login: login, source, open, sessions, messages, octets: size, mailbox, account, now } = device;
  const usual = device.usual_interval;
  const ways = byWay(device.logins);
  const { sending, mailbox_recipients: day } = device;
  patch(at("facts"), [
    ...(reads(device) ? fact("Last mail", [mail ? when(mail, now) : none("none yet")]) : []),
    ...(sending ? fact("Last sent", [sending.last_sent ? when(sending.last_sent, now) : none("none yet")]) : []),
    ...fact("Last login", [login ? when(login, now) : none("none yet"), login && source && h("bdi", "", ` from ${source}`)]),
    ...fact("Last 24 hours", [
      h("span", "", `${reads(device) ? `${count(messages, "message")}, ` : ""}${count(sessions, "login")}`),
      size > 0 && h("span", "octets", `, ${octets(size)}`),
      sending && h("span", "sent", `, ${sent(sending)}`)]),
    ...(ways ? fact("Those logins", [h("span", "ways", ways)]) : []),
    ...fact("Open now", [h("span", "", count(open, "session"))]),
    ...(usual ? fact("Usually comes", [h("span", "", `every ${span(usual)}`)]) : []),
    ...(mailbox ? fact("Mailbox", [h("bdi", "", mailbox), h("span", "account", `, account ${account}`),
      day && h("span", "day", `, ${number(day.count)} of ${number(day.bound)} recipients in 24 hours`)]) : []),
  ]);
}

// The connections to the mail server that logins came by, and their time from LOGIN to OK.
function byWay({ dialled, warm, parked, total_ms: total, longest_ms: longest }) {
  const ways = [[parked, "parked"], [warm, "warm"], [dialled, "dialled"]].filter(([logins]) => logins > 0);
  if (ways.length === 0) return "";
  const mean = total / (dialled + warm + parked);
  const words = ways.map(([logins, way]) => `${number(logins)} ${way}`).join(", ");
  return `${words}; ${took(mean)} from LOGIN to OK on average, ${took(longest)} at most`;
}

const took = (ms) => (ms < 1000 ? `${number(Math.round(ms))} ms` : `${number(Math.round(ms / 100) / 10)} s`);

const sent = ({ messages, recipients, octets: size, refused }) => [sentTo(messages, recipients), size > 0 && octets(size),
  refused > 0 && `${number(refused)} refused`].filter(Boolean).join(", ");

// --- Its last connections

function happened(one) {
  const { logged_in: isIn, failed, ended, messages, octets: size, text, submits } = one;
  if (!isIn) return failed ? `Not let in: ${text}` : `Did not log in: ${text}`;
  const end = ended === null ? "the session is open" : text || "the session ended";
  if (submits) {
    const { sent: accepted, recipients, sent_octets: long, refused, refusal } = one;
    const went = sent({ messages: accepted, recipients, octets: long, refused });
    return `Logged in; ${went}${refusal ? `: ${refusal}` : ""}${refusal === text ? "" : `; ${end}`}`;
  }
  if (ended === null) return "Logged in; the session is open";
  const fetched = messages ? `${count(messages, "message")} fetched, ${octets(size)}` : "no message fetched";
  return `Logged in; ${fetched}; ${text || "the session ended"}`;
}

function showConnections({ connections, now }) {
  patch(within("#connections tbody"), connections.map((one) => row(one.number, one.failed || one.refusal ? "attention" : "", [
    cell("began", "Time", [h("time", "exact", exact(one.began)), when(one.began, now)]),
    cell("event", "What happened", [h("bdi", one.failed || one.refusal ? "failed" : "", happened(one))]),
    cell("from", "From", [h("bdi", "listener", one.source)]),
    cell("by", "By", [h("span", "", `${one.protocol}, ${one.tls ?? "no TLS agreed"}`), h("bdi", "name", `listener ${one.listener}`)]),
    cell("lasted", "Length", [h("span", "", one.ended === null ? "open" : lasted(one.ended - one.began))]),
  ])));
  within("#connections table").hidden = connections.length === 0;
  within("#connections .empty").hidden = connections.length > 0;
}

const lasted = (seconds) => (seconds < 60 ? `${number(Math.max(0, seconds))} s` : span(seconds));

// --- What to type into it, and the certificates

function showSheet({ device, sheet }) {
  write(at("sheet-name"), device);
  patch(at("settings"), sheet.flatMap(([key, value], i) => [
    h("dt", "", key, { key: `${i}` }), h("dd", "", [h("bdi", "", value)], { key: `${i}` })]));
}

function showAuthority({ names, ca }) {
  patch(at("names"), names.map((one) => h("li", "listener", [h("bdi", "", one)], { key: one })));
  at("downloads").hidden = !ca;
  patch(at("ca-facts"), ca ? [h("p", "subject", ca.subject),
    h("p", "fingerprint", `SHA-256 ${ca.sha256}`, { key: "sha256" }), h("p", "fingerprint", `SHA-1 ${ca.sha1}`, { key: "sha1" }),
    h("p", "ends", `Valid until ${exact(ca.until).slice(0, 10)}`)] : []);
}

function show(device) {
  at("unlock").hidden = true;
  at("main").hidden = at("body").hidden = at("nav").hidden = false;
  at("lost").hidden = true;
  for (const part of [showState, showFacts, showConnections, showSheet, showAuthority]) part(device);
  reach();
  write(at("zone"), Intl.DateTimeFormat().resolvedOptions().timeZone);
}

// --- Asking and following

const pause = (milliseconds) => new Promise((done) => { setTimeout(done, milliseconds); });
const visible = () => (document.hidden
  ? new Promise((done) => { document.addEventListener("visibilitychange", done, { once: true }); }) : null);

// Reads events until the stream ends: each is the whole view. A stream that is silent, or that nobody looks at, is ended.
async function follow() {
  const control = new AbortController();
  const stop = () => control.abort();
  document.addEventListener("visibilitychange", stop, { once: true });
  let timer = setTimeout(stop, SILENCE);
  try {
    const answer = await ask(`device.events?${query}`, { signal: control.signal });
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let text = "", part = await reader.read(); !part.done; part = await reader.read()) {
      clearTimeout(timer);
      timer = setTimeout(stop, SILENCE);
      const events = (text + part.value).split("\n\n");
      text = events.pop();
      for (const event of events) show(JSON.parse(event.replace(/^data: /, "")));
      write(at("live"), "Live: shows each connection as it happens");
    }
  } finally {
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", stop);
  }
}

function lose(error) {
  const gone = error.answer?.status === 404;
  write(at("lost"), gone ? `The configuration has no device ${name}.` : `No answer: ${error.message}. Trying again every 5 s.`);
  at("lost").hidden = false;
  if (gone) at("body").hidden = true;
}

let running = false;

// The view is asked for as a whole first, and after each stream; without streams, every five seconds.
async function run() {
  if (running) return;
  running = true;
  while (!isLocked()) {
    await visible();
    try {
      show(await (await ask(`device.json?${query}`)).json());
      await follow().catch(() => pause(AGAIN));
      write(at("live"), "Reloads every 5 s");
    } catch (error) {
      if (isLocked()) break;
      lose(error);
      await pause(AGAIN);
    }
  }
  running = false;
}

write(at("name"), name || "Device");
guard(() => write(at("live"), "Locked"), run);
at("print").addEventListener("click", () => print());
run();
