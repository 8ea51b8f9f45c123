// The status page: asks for status.json every two seconds and patches what changed into it, by key, as text only.

import { ask, change, guard, isLocked } from "./access.js";
import { answer, grouped, part, showConfigured, showDevices, showFleet, summary } from "./devices.js";
import { attempt, begin, resume, tryButton } from "./actions.js";
import { beginEdit, showEdit } from "./edit.js";
import { isDue, showSignIns } from "./sign_in.js";
import { beginSpool, showSpool } from "./spool.js";
import {
  DAY, h, patch, write, at, within, number, count, sum, clock, exact, span, relative, when, none, advice, cell, row, first, reach,
} from "./tree.js";

const EVERY = 2000; // milliseconds

// --- Header, notices, accounts, expiries, listeners

const mark = (names, text) => patch(at("ready"), [h("span", `badge ${names}`, text)]);
const isIll = ({ state, advice: next }) => state === "trouble" || (state === "none" && next !== "");

// Ready is what a load balancer needs to know; that nobody can get mail all the same is for people.
function badge({ ready, no_token: hasNoToken }) {
  if (ready && hasNoToken) return mark("refused", "Ready, but no account has a token");
  return mark(ready ? "could" : "refused", ready ? "Ready" : "Not ready");
}

// A technician's status has neither configuration nor accounts.
function showHead(all) {
  const { version, openssl = "", started, now, ready, problem, config, totals, devices, configured } = all;
  const { accounts = [], expiries = [], sign_ins: signIns = [], fleet } = all;
  const groups = grouped(devices);
  const waiting = groups.filter(([{ attention }]) => attention).length;
  const ailing = configured.filter(({ state }) => state !== "ok").length;
  document.title = `${ailing || waiting ? `(${number(ailing || waiting)}) ` : ""}packetboat status`;
  write(at("version"), version);
  write(at("openssl"), openssl);
  badge(all);
  const loaded = config ? ` Configuration loaded ${relative(config.loaded, now)}.` : "";
  write(at("since"), `Up for ${span(now - started)}, since ${exact(started)}.${loaded}`);
  const seen = summary(groups, waiting);
  patch(at("summary"), configured.length ? [h("span", "answer", answer(configured, now))] : seen);
  patch(at("seen"), configured.length ? seen : []);
  write(at("totals"), !totals ? "" : `Since the start: ${count(totals.sessions, "session")}, ${number(totals.open)} open now, `
    + `${count(totals.handshake_failures, "handshake failure")}, ${count(totals.login_failures, "login failure")}.`);

  const ill = accounts.filter(isIll).length;
  const signers = signIns.filter((one) => isDue(one, now)).length;
  const due = expiries.filter((expiry) => expiry.until - now < 7 * DAY).length;
  const given = all.spool.needs_operator;
  const link = (href, text) => h("a", "", text, { fixed: { href } });
  const notice = (key, names, parts) => h("li", `notice ${names}`, parts, { key });
  patch(at("notices"), [
    (problem || !ready) && notice("ready", ready ? "soon" : "refused", [
      h("b", "", ready ? "Problem: " : "Not ready: "), h("bdi", "", problem ?? "it accepts no devices now.")]),
    fleet?.outage && notice("fleet", "soon", [
      h("b", "", `The database of the fleet is not used since ${exact(fleet.outage.since)}. `), h("bdi", "", fleet.outage.why ?? ""),
      h("span", "", ` ${fleet.read ? `Devices of other instances are shown as of ${exact(fleet.read)}.`
        : "Only devices of this instance are shown."}`)]),
    !fleet?.outage && fleet?.problem && notice("fleet", "soon", [
      h("b", "", "Devices of other instances are not up to date: "), h("bdi", "", fleet.problem)]),
    ...(fleet?.troubles ?? []).map((words) => notice(`fleet ${words}`, "refused", [
      h("b", "", "Trouble in the fleet: "), h("bdi", "", words)])),
    config?.problem && notice("config", "refused", [
      h("b", "", "packetboat rejected the last reload: "), h("bdi", "", config.problem),
      h("span", "", `. The configuration of ${exact(config.loaded)} is still in use.`)]),
    given > 0 && notice("spool", "refused", [
      link("#spool", count(given, "message in the spool needs an administrator", "messages in the spool need an administrator"))]),
    ill > 0 && notice("accounts", "soon", [
      link("#accounts", count(ill, "account needs attention", "accounts need attention"))]),
    signers > 0 && notice("sign-ins", "soon", [
      link("#sign-ins", count(signers, "person should sign in", "persons should sign in"))]),
    due > 0 && notice("expiries", "soon", [link("#expiries", count(due, "expiry is due", "expiries are due"))]),
  ]);
}

const STATES = { ok: ["could", "Has a token"], none: ["unknown", "No token yet"], trouble: ["refused", "Trouble"] };
const MODES = {
  translate: "Translates: signs in with OAuth for the device",
  "pass-through": "Passes through: the device signs in by itself",
  observe: "Observes: takes inventory and lets nobody in",
};

// Each identity once, and each error once, whatever the number of accounts that have it.
function showIdentities({ identities, now }) {
  fill("#identities", identities.map((identity) => {
    const [color, words] = STATES[identity.state] ?? ["unknown", identity.state];
    const until = identity.until && `until ${exact(identity.until).slice(0, 10)}`;
    const isOk = identity.state === "ok";
    return row(identity.name, identity.state === "trouble" ? "attention" : "", [
      first([h("bdi", "source", identity.name), h("span", "grant", identity.grant ?? "")]),
      cell("state", "State", [h("span", `badge ${color}`, isOk ? ["OK", until].filter(Boolean).join(" ") : words),
        !isOk && until && h("span", "until", `its credential is valid ${until}`)]),
      cell("number", "Accounts", [
        h("span", "total", `${number(identity.with_token)} of ${count(identity.accounts, "account has", "accounts have")} a token`)]),
      cell("advice", "What to do", identity.errors.length ? identity.errors.map(({ text, accounts }) => (
        h("div", "error", [advice(text), h("span", "whose", `${count(accounts.length, "account")}: ${listed(accounts)}`)],
          { key: text }))) : [none("nothing")]),
    ]);
  }));
}

const listed = (names) => `${names.slice(0, 8).join(", ")}${names.length > 8 ? ` and ${number(names.length - 8)} more` : ""}`;

function showAccounts({ accounts, identities, now }) {
  const sharing = (account) => identities.find(({ name, errors }) => (
    name === account.identity && errors.some((error) => error.accounts.length > 1 && error.accounts.includes(account.name))));
  fill("#accounts", accounts.map((account) => {
    const [color, words] = STATES[account.state] ?? ["unknown", account.state];
    const until = account.token_until;
    const next = sharing(account)
      ? h("a", "advice", `see identity ${account.identity}`, { fixed: { href: "#identities" } }) : advice(account.advice);
    return row(account.name, isIll(account) ? "attention" : "", [
      first([h("bdi", "source", account.name)]),
      cell("box", "Mailbox", [h("bdi", "", account.mailbox), recipients(account),
        account.trial && h("span", "trial badge soon", "Trial: mail of its devices goes to this mailbox alone")]),
      cell("entry", "Signs in by", [h("span", "grant", account.grant),
        h("span", "identity", [h("span", "to", "identity "), h("bdi", "", account.identity)]),
        account.user && h("span", "user", [h("span", "to", "as "), h("bdi", "", account.user)])]),
      cell("state", "State", [h("span", `badge ${color}`, words),
        until && when(until, now, until > now ? "ends " : "ended "), tryButton(account.name)]),
      cell("advice", "What to do", [next || none("nothing"), attempt(account.name)]),
    ]);
  }));
}

// What a mailbox has sent; the mail server takes no more than its bound in a day.
function recipients({ recipients_day: sent, recipients_bound: bound }) {
  if (sent === undefined) return null;
  const text = `${number(sent)} of ${number(bound)} recipients in 24 hours`;
  return h("span", sent < 0.8 * bound ? "day" : "day badge soon", text);
}

function showExpiries({ expiries, now }) {
  const sorted = expiries.toSorted((a, b) => a.until - b.until);
  fill("#expiries", sorted.map(({ what, kind, until, advice: next }) => {
    const left = (until - now) / DAY;
    const color = left < 7 ? "refused" : left < 30 ? "soon" : "could";
    return h("li", "expiry", [
      h("span", `badge ${color}`, `${left < 0 ? "ended " : ""}${relative(until, now)}`, { title: exact(until) }),
      h("div", "thing", [h("bdi", "what", what), h("span", "kind", `${kind}, until ${exact(until)}`)]),
      h("div", "do", [advice(next),
        kind === "refresh token" && left < 30 && h("a", "signs", "or sign in on this page", { fixed: { href: "#sign-ins" } })]),
    ], { key: `${kind} ${what}` });
  }));
}

const MARKS = {
  observes: "Observes: lets nobody in",
  ancient: "Ancient TLS",
  plaintext: "Takes logins without TLS",
};

function showListeners({ listeners }) {
  fill("#listeners", listeners.map((listener) => row(listener.name, listener.marks.length ? "marked" : "", [
    first([h("bdi", "source", listener.name), h("span", "name", listener.protocol),
      ...listener.marks.map((name) => h("span", "badge soon", MARKS[name] ?? name, { key: name }))]),
    cell("addresses", "Addresses", listener.addresses.map((address) => h("bdi", "listener", address))),
    cell("tls", "TLS", [h("bdi", "", listener.tls)]),
    cell("mode", "What it does", [h("span", "", MODES[listener.mode] ?? listener.mode)]),
    cell("names", "Names in the certificate", listener.certificate
      ? [list("Names", listener.certificate.names), fingerprints(listener.certificate)]
      : [none("no certificate")]),
    cell("networks", "Lets in", [networks(listener.allowed_networks)]),
    cell("sessions", "Open now", [h("span", "total", number(listener.open))]),
  ])));
}

function networks(allowed) {
  if (allowed.length <= 3) return list("Networks", allowed);
  return h("details", "more", [h("summary", "", `${number(allowed.length)} networks`), list("Networks", allowed)]);
}

function list(label, texts) {
  return h("div", "list", texts.map((text) => h("bdi", "listener", text)), { fixed: { role: "group", "aria-label": label } });
}

// What a person compares with a device's display.
function fingerprints({ until, sha256, sha1 }) {
  const pairs = (text) => text.split(/(?<=:)/).map(part);
  return h("details", "more", [h("summary", "", "Fingerprints"),
    h("span", "label", "SHA-256"), h("bdi", "fingerprint", pairs(sha256)),
    h("span", "label", "SHA-1"), h("bdi", "fingerprint", pairs(sha1), { key: "sha1" }),
    h("span", "ends", `Valid until ${exact(until).slice(0, 10)}`)]);
}

function showAuthority({ ca }) {
  at("ca").hidden = !ca;
  patch(at("ca-facts"), ca ? [h("bdi", "subject", ca.subject), fingerprints(ca)] : []);
}

// A table or list, or its empty state.
function fill(section, items) {
  const place = within(`${section} tbody, ${section} ul`);
  patch(place, items);
  within(`${section} .empty`).hidden = items.length > 0;
  (place.closest("table") ?? place).hidden = items.length === 0;
}

// --- Charts: a bar is a quarter of an hour, on the clock's own quarters, so that bars keep their shape.

const QUARTER = 900;
const BARS = DAY / QUARTER;
const [LEFT, TOP, BASE, BOTTOM] = [32, 8, 92, 110];

function showCharts({ history }) {
  const start = (Math.floor(history.end / QUARTER) - BARS + 1) * QUARTER;
  // One unit of the drawing is one pixel of the page, so that its text has the size of other small text.
  const width = Math.max(200, within("#charts svg")?.clientWidth || 280);
  const gather = ([field, color, words, isState = false]) => (
    { color, words, isState, ...collect(history, history[field] ?? [], start, isState) });
  const chart = (name, ...parts) => figure(name, parts.map(gather), start, width);
  patch(within("#charts .figures"), [
    chart("Sessions", ["sessions", "plain", ""]),
    chart("Handshake failures", ["handshake_failures", "bad", ""]),
    chart("Login failures", ["login_failures", "bad", ""]),
    chart("Accounts and their tokens", ["tokens_ok", "good", "with a token", true], ["tokens_bad", "bad", "in trouble", true]),
  ]);
}

// Sums the points of one series into bars; of a state that lasts, the most. What was before the first point is not known,
// and not zero.
function collect({ end, step }, points, start, isState) {
  const bars = Array(BARS).fill(0);
  const born = end - points.length * step;
  points.forEach((value, i) => {
    const bar = Math.floor((born + i * step - start) / QUARTER);
    if (bar >= 0 && bar < BARS) bars[bar] = isState ? Math.max(bars[bar], value) : bars[bar] + value;
  });
  const last = points.at(-1) ?? 0;
  const hour = isState ? last : sum(points.slice(-Math.round(3600 / step)));
  const unknown = Math.min(BARS, Math.max(0, (born - start) / QUARTER));
  return { bars, hour, all: isState ? last : sum(points), unknown, recorded: span(points.length * step) };
}

function figure(name, parts, start, width) {
  const isState = parts[0].isState;
  const whole = ({ all, words, recorded }) => (
    isState ? `${number(all)} ${words}` : `${number(all)} ${words && `${words} `}in ${recorded}`);
  const told = parts.map((part) => (isState ? whole(part) : `${whole(part)}, ${number(part.hour)} in the last hour`));
  // Each series stands on the ones before it.
  const levels = [Array(BARS).fill(0)];
  for (const { bars } of parts) levels.push(bars.map((value, bar) => value + levels.at(-1)[bar]));
  const peak = Math.max(...levels.at(-1));
  const highest = clock(start + levels.at(-1).indexOf(peak) * QUARTER);
  if (peak && !isState) told.push(`at most ${number(peak)} in a quarter of an hour, at ${highest}`);
  return h("figure", "chart", [
    h("figcaption", "", [
      h("h3", "", name),
      h("p", "current", [h("b", "", number(sum(parts.map((part) => part.hour)))), h("span", "", isState ? " now" : " in the last hour")]),
      h("p", "muted", parts.map((part) => h("span", `sum ${part.words && part.color}`, whole(part)))),
    ]),
    drawing(parts, levels, nice(peak), start, width, `${name}, last 24 hours: ${told.join("; ")}.`),
  ], { key: name });
}

function drawing(parts, levels, scale, start, width, told) {
  const x = (bar) => Math.round(10 * (LEFT + ((width - LEFT - 2) * bar) / BARS)) / 10;
  const y = (value) => Math.round(10 * (BASE - ((BASE - TOP) * value) / scale)) / 10;
  const area = (low, high) => high.map((value, bar) => (
    value > low[bar] ? `M${x(bar)} ${y(low[bar])}V${y(value)}H${x(bar + 1)}V${y(low[bar])}Z` : "")).join("");
  const path = (names, d, key) => h("path", names, "", { key, fixed: { d } });
  const text = (names, key, words, left, top) => h("text", names, words, { key, fixed: { x: left, y: top } });
  const hours = [...Array(BARS).keys()].filter((bar) => {
    const date = new Date((start + bar * QUARTER) * 1000);
    return date.getMinutes() === 0 && date.getHours() % 6 === 0;
  });
  const blank = x(parts[0].unknown) - LEFT;
  return h("svg", "", [
    h("title", "", told),
    h("rect", "blank", "", { fixed: { x: LEFT, y: TOP, width: blank, height: BASE - TOP } }),
    blank > 90 && text("x", "blank", "no data", LEFT + blank / 2, (TOP + BASE) / 2 + 4),
    path("grid", `M${LEFT} ${TOP}H${width - 2}M${LEFT} ${BASE}H${width - 2}`),
    path("ticks", hours.map((bar) => `M${x(bar)} ${BASE}v4`).join("")),
    ...parts.map(({ color }, i) => path(color, area(levels[i], levels[i + 1]), `series ${i}`)),
    text("y", "most", number(scale), LEFT - 5, TOP + 4),
    text("y", "least", "0", LEFT - 5, BASE + 4),
    ...hours.map((bar, i) => (
      text("x", `hour ${i}`, clock(start + bar * QUARTER), Math.min(width - 17, x(bar)), BOTTOM - 2))),
  ], { fixed: { role: "img", viewBox: `0 0 ${width} ${BOTTOM}` } });
}

// The next round number: one digit, and noughts.
function nice(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(1, value)));
  return [1, 2, 3, 4, 5, 6, 8, 10].find((step) => step * power >= value) * power;
}

// --- Asking

let status = null;
let [asking, timer] = [false, 0];
let answered = Date.now() / 1000;

async function poll() {
  clearTimeout(timer);
  if (asking || isLocked() || document.hidden) return;
  asking = true;
  try {
    show(await (await ask("status.json")).json());
    answered = Date.now() / 1000;
    at("lost").hidden = true;
  } catch (error) {
    if (!isLocked()) lose(error);
  }
  asking = false;
  timer = setTimeout(poll, EVERY);
}

const FOR_ALL = [showHead, showFleet, showConfigured, showDevices, showSpool, showAuthority];
const FOR_ADMINISTRATORS = [showEdit, showCharts, showIdentities, showSignIns, showAccounts, showExpiries, showListeners];

function show(next) {
  status = next;
  at("unlock").hidden = true;
  at("main").hidden = at("nav").hidden = at("body").hidden = false;
  const isTechnician = status.role === "technician";
  for (const part of document.querySelectorAll(".administrator")) part.hidden = isTechnician;
  if (!isTechnician) (begun ? resume : beginActions)();
  for (const show of isTechnician ? FOR_ALL : [...FOR_ALL, ...FOR_ADMINISTRATORS]) show(status);
  reach();
  write(at("zone"), Intl.DateTimeFormat().resolvedOptions().timeZone);
}

let begun = false;

// Lets an administrator start things here, who may come after a technician.
function beginActions() {
  begun = true;
  const post = (path, fields, patience) => change(path, fields, status.form_token, patience);
  beginEdit({ post });
  beginSpool({ post });
  begin({ get: ask, post, redraw: () => [showAccounts, showSignIns].forEach((draw) => draw(status)) });
}

function lose(error) {
  const stale = status ? " The data below is from then." : "";
  write(at("lost"), `No answer since ${exact(answered)}: ${error.message}.${stale} Trying again every 2 s.`);
  at("lost").hidden = false;
  mark("refused", "No answer");
}

guard(() => {
  at("nav").hidden = true;
  mark("unknown", "Locked");
}, poll);

async function download(event) {
  event.preventDefault();
  const kind = event.currentTarget.id;
  write(at("download-problem"), "");
  try {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await (await ask(`inventory.${kind}`)).blob());
    link.download = `packetboat-inventory.${kind}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  } catch (error) {
    write(at("download-problem"), `Download failed: ${error.message}.`);
  }
}

for (const kind of ["csv", "json"]) at(kind).addEventListener("click", download);
within("#devices tbody").addEventListener("click", async ({ target }) => {
  const button = target.closest("button.forget");
  if (!button) return;
  write(at("forget-problem"), "");
  try {
    for (const fields of JSON.parse(button.dataset.seen)) await change("forget", fields, status.form_token);
  } catch (error) {
    write(at("forget-problem"), `Not forgotten: ${error.message}.`);
  }
  poll();
});
at("tools").addEventListener("input", () => showDevices(status));
at("find").addEventListener("input", () => showConfigured(status));
at("instance").addEventListener("change", () => [showConfigured, showDevices].forEach((draw) => draw(status)));
addEventListener("resize", () => status && showCharts(status));
document.addEventListener("visibilitychange", poll);
poll();
