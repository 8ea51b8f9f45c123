// The status page: asks for status.json every two seconds and patches what changed into it, by key, as text only.

const [EVERY, PATIENCE] = [2000, 10000]; // milliseconds
const DAY = 86400; // seconds, as all that comes from JSON
const STORED = "packetboat.token";

// --- The tree: every part of the page is made of these nodes. Words from JSON travel as `content`, never as markup.

// One element: its tag, fixed class names, a text or a list of nodes, and what else it has.
function h(tag, names, content, more = {}) {
  return { tag, names, content, more, key: `${tag} ${more.key ?? names.split(" ")[0]}` };
}

// Makes the children of `parent` look like `wanted`. A child with the same key is kept, and with it focus, selection
// and an open <details>; what already has the right text is not written again.
function patch(parent, wanted) {
  const free = new Map();
  for (const child of parent.children) {
    if (!free.get(child.key)?.push(child)) free.set(child.key, [child]);
  }
  const nodes = wanted.filter(Boolean).map((want) => {
    const node = free.get(want.key)?.shift() ?? create(want);
    update(node, want);
    return node;
  });
  for (const gone of free.values()) gone.forEach((child) => child.remove());
  arrange(parent, nodes);
}

function create({ tag, key }) {
  const drawn = ["svg", "path", "rect", "text", "title"].includes(tag);
  const space = drawn ? "http://www.w3.org/2000/svg" : "http://www.w3.org/1999/xhtml";
  return Object.assign(document.createElementNS(space, tag), { key });
}

function update(node, { names, content, more }) {
  if (more.memo !== undefined && node.memo === more.memo) return;
  node.memo = more.memo;
  if ((node.getAttribute("class") ?? "") !== names) node.setAttribute("class", names);
  if (more.title !== undefined && node.title !== more.title) node.title = more.title;
  Object.assign(node.dataset, more.data);
  for (const [name, value] of Object.entries(more.fixed ?? {})) {
    if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
  }
  if (Array.isArray(content)) patch(node, content);
  else write(node, content);
}

// Changing the text node itself leaves a selection that begins or ends in it where it is.
function write(node, text) {
  if (node.textContent === text) return;
  if (node.firstChild?.nodeType === Node.TEXT_NODE) node.firstChild.data = text;
  else node.textContent = text;
}

// Puts the children in order. The one with the focus or the selection stays, the others move around it.
function arrange(parent, nodes) {
  if (nodes.every((node, i) => parent.children[i] === node)) return;
  const held = [document.activeElement, document.getSelection().anchorNode];
  const still = nodes.find((node) => held.some((inner) => inner && node.contains(inner)));
  nodes.reduceRight((next, node) => {
    const placed = node.parentNode === parent && (node === still || node.nextSibling === next);
    if (!placed) parent.insertBefore(node, next);
    return node;
  }, null);
}

// --- Words

const at = (id) => document.getElementById(id);
const within = (selector) => document.querySelector(selector);
const number = (value) => value.toLocaleString("en");
const count = (value, one, many = `${one}s`) => `${number(value)} ${value === 1 ? one : many}`;
const sum = (values) => values.reduce((all, value) => all + value, 0);

// Swedish writes 2026-11-24 17:05:09, which nobody misreads.
const [CLOCK, EXACT] = [{ timeStyle: "short" }, { dateStyle: "short", timeStyle: "medium" }].map(
  (styles) => new Intl.DateTimeFormat("sv", styles));
const clock = (unix) => CLOCK.format(unix * 1000);
const exact = (unix) => EXACT.format(unix * 1000);

function span(seconds) {
  if (seconds < 60) return `${Math.floor(seconds / 10) * 10} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 2 * DAY) return `${Math.floor(seconds / 3600)} h`;
  return count(Math.floor(seconds / DAY), "day");
}

// Both instants are of the proxy's clock; the one of the browser may be wrong.
function relative(unix, now) {
  if (Math.abs(unix - now) < 10) return "just now";
  return unix > now ? `in ${span(unix - now)}` : `${span(now - unix)} ago`;
}

const when = (unix, now, before = "") => h("time", "when", before + relative(unix, now), { title: exact(unix) });
const none = (text) => h("span", "none", text);
// A command of ours is shown as one, anything else as a sentence.
const advice = (text) => text && h(text.startsWith("packetboat ") ? "code" : "span", "advice", text);

const cell = (names, label, content) => h("td", names, content, { fixed: { role: "cell" }, data: { label } });
const row = (key, names, cells, more) => h("tr", names, cells, { key, fixed: { role: "row" }, ...more });
const first = (content) => h("th", "device", content, { fixed: { role: "rowheader", scope: "row" } });

// --- Devices

const VERDICTS = ["refused", "needs", "could", "unknown"];
const ENTRIES = { implicit: "TLS from the start", starttls: "STARTTLS", plaintext: "no TLS" };
const verdictOf = ({ verdict }) => (VERDICTS.includes(verdict.kind) ? verdict.kind : "unknown");
const counted = (devices, kind) => devices.filter((device) => verdictOf(device) === kind).length;

function summary(devices, waiting) {
  if (devices.length === 0) return [h("span", "seen", "No device has connected yet.")];
  const [refused, needs, could, unknown] = VERDICTS.map((kind) => counted(devices, kind));
  const parts = [needs && count(needs, "needs packetboat", "need packetboat"),
    could && `${number(could)} could talk to Exchange Online directly`,
    refused && `${number(refused)} refused`, unknown && `${number(unknown)} unknown`];
  return [h("span", "seen", `${count(devices.length, "device")} seen: ${parts.filter(Boolean).join(", ")}. `),
    waiting > 0 && h("span", "waiting", `${count(waiting, "needs attention", "need attention")}.`)];
}

function showDevices({ devices, listeners, now }) {
  const sorted = [...devices.filter((device) => device.attention), ...devices.filter((device) => !device.attention)];
  const body = within("#devices tbody");
  patch(body, sorted.map((device) => deviceRow(device, now)));

  const words = at("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const boxes = [...at("verdicts").querySelectorAll("input")];
  const kinds = boxes.filter((box) => box.checked).map((box) => box.value);
  for (const [i, line] of [...body.rows].entries()) {
    const text = words.length ? line.textContent.toLowerCase() : "";
    line.hidden = !(kinds.includes(verdictOf(sorted[i])) && words.every((word) => text.includes(word)));
  }
  const shown = [...body.rows].filter((line) => !line.hidden).length;
  for (const box of boxes) write(box.parentNode.querySelector(".count"), number(counted(devices, box.value)));
  write(at("shown"), shown < devices.length ? `${number(shown)} of ${number(devices.length)} shown` : "");
  at("tools").hidden = at("legend").hidden = devices.length === 0;
  body.parentNode.hidden = shown === 0;
  const empty = within("#devices .empty");
  empty.hidden = shown > 0;
  write(empty, devices.length ? "No device matches the filter." : invitation(listeners));
}

function deviceRow(device, now) {
  const [head, ...detail] = device.verdict.text.split(": ");
  const part = (text) => h("span", "", text); // what should stay on one line
  const ages = [device.last_seen, device.failed ?? now].map((unix) => relative(unix, now));
  return row(`${device.source} ${device.protocol} ${device.listener}`, device.attention ? "attention" : "", [
    first([h("bdi", "source", device.source), device.name && h("bdi", "name", device.name),
      device.attention && h("span", "mark", "Needs attention")]),
    cell("verdict", "Verdict", [
      h("span", `badge ${verdictOf(device)}`, head),
      ...(detail.length ? [h("span", "unseen", ": "), h("bdi", "detail", detail.join(": "))] : []),
    ]),
    cell("logins", "Logins", [
      device.logins.length ? h("div", "list", device.logins.map((text) => h("bdi", "login", text))) : none("none yet"),
      device.mailbox && h("span", "mailbox", [h("span", "to", "mailbox "), h("bdi", "", device.mailbox)]),
    ]),
    cell("entry", "Connects by", [
      h("span", "protocol", device.protocol),
      device.entry && h("span", "way", ENTRIES[device.entry] ?? device.entry),
      h("bdi", "listener", device.listener),
    ]),
    cell("tls", "TLS of the device", [
      device.tls ? h("span", "version", device.tls) : none("none agreed"),
      device.cipher && h("bdi", "cipher", device.cipher),
      device.fingerprint && h("bdi", "fingerprint", device.fingerprint.split(/(?<=_)/).map(part)),
      h("details", "more", [h("summary", "", "What it offers"),
        h("bdi", "offers", device.offers ?? "It has not started TLS."),
        h("span", "born", `First seen ${exact(device.first_seen)}`)]),
    ]),
    cell("sessions", "Sessions", [h("span", "total", number(device.sessions)),
      device.open > 0 && h("span", "open", `${number(device.open)} open`)]),
    cell("failure", "Failures", [
      device.failures > 0 ? h("span", "total", count(device.failures, "failure")) : none("none"),
      device.failed && when(device.failed, now, device.failures > 1 ? "last one " : ""),
      device.failure && h("bdi", "reason", device.failure),
    ]),
    cell("seen", "Last seen", [when(device.last_seen, now)]),
  ], { memo: JSON.stringify(device) + ages, data: { source: device.source } });
}

function invitation([listener]) {
  if (!listener) return "No device has connected yet. No listener is open either: see the log.";
  const port = listener.addresses[0]?.split(":").pop() ?? "";
  const how = `port ${port} (${listener.protocol}, ${listener.tls})`;
  return `No device has connected yet. Point one at this machine, ${how}, see listeners below. It shows up here `
    + "as soon as it connects, even when the login fails.";
}

// --- Header, notices, accounts, expiries, listeners

const mark = (names, text) => patch(at("ready"), [h("span", `badge ${names}`, text)]);
const ailing = ({ state, advice: next }) => state === "trouble" || (state === "none" && next !== "");

function showHead({ version, openssl, started, now, ready, problem, config, totals, devices, accounts, expiries }) {
  const waiting = devices.filter((device) => device.attention).length;
  document.title = `${waiting ? `(${number(waiting)}) ` : ""}packetboat status`;
  write(at("version"), version);
  write(at("openssl"), openssl);
  mark(ready ? "could" : "refused", ready ? "Ready" : "Not ready");
  const loaded = `Configuration loaded ${relative(config.loaded, now)}.`;
  write(at("since"), `Up for ${span(now - started)}, since ${exact(started)}. ${loaded}`);
  patch(at("summary"), summary(devices, waiting));
  write(at("totals"), `Since the start: ${count(totals.sessions, "session")}, ${number(totals.open)} open now, `
    + `${count(totals.handshake_failures, "handshake failure")}, ${count(totals.login_failures, "login failure")}.`);

  const ill = accounts.filter(ailing).length;
  const due = expiries.filter((expiry) => expiry.until - now < 7 * DAY).length;
  const link = (href, text) => h("a", "", text, { fixed: { href } });
  const notice = (key, names, parts) => h("li", `notice ${names}`, parts, { key });
  patch(at("notices"), [
    (problem || !ready) && notice("ready", ready ? "soon" : "refused", [
      h("b", "", ready ? "Problem: " : "Not ready: "), h("bdi", "", problem ?? "it accepts no devices now.")]),
    config.problem && notice("config", "refused", [
      h("b", "", "packetboat rejected the last reload: "), h("bdi", "", config.problem),
      h("span", "", `. The configuration of ${exact(config.loaded)} is still in use.`)]),
    ill > 0 && notice("accounts", "soon", [
      link("#accounts", count(ill, "account needs attention", "accounts need attention"))]),
    due > 0 && notice("expiries", "soon", [link("#expiries", count(due, "expiry is due", "expiries are due"))]),
  ]);
}

const STATES = { ok: ["could", "Has a token"], none: ["unknown", "No token yet"], trouble: ["refused", "Trouble"] };
const MODES = {
  translate: "Translates: signs in with OAuth for the device",
  "pass-through": "Passes through: the device signs in by itself",
  observe: "Observes: takes inventory and lets nobody in",
};

function showAccounts({ accounts, now }) {
  fill("#accounts", accounts.map((account) => {
    const [color, words] = STATES[account.state] ?? ["unknown", account.state];
    const until = account.token_until;
    return row(account.name, ailing(account) ? "attention" : "", [
      first([h("bdi", "source", account.name)]),
      cell("box", "Mailbox", [h("bdi", "", account.mailbox)]),
      cell("entry", "Signs in by", [h("span", "grant", account.grant),
        h("span", "identity", [h("span", "to", "identity "), h("bdi", "", account.identity)]),
        account.user && h("span", "user", [h("span", "to", "as "), h("bdi", "", account.user)])]),
      cell("state", "State", [h("span", `badge ${color}`, words),
        until && when(until, now, until > now ? "ends " : "ended ")]),
      cell("advice", "What to do", [advice(account.advice) || none("nothing")]),
    ]);
  }));
}

function showExpiries({ expiries, now }) {
  const sorted = expiries.toSorted((a, b) => a.until - b.until);
  fill("#expiries", sorted.map(({ what, kind, until, advice: next }) => {
    const left = (until - now) / DAY;
    const color = left < 7 ? "refused" : left < 30 ? "soon" : "could";
    return h("li", "expiry", [
      h("span", `badge ${color}`, `${left < 0 ? "ended " : ""}${relative(until, now)}`, { title: exact(until) }),
      h("div", "thing", [h("bdi", "what", what), h("span", "kind", `${kind}, until ${exact(until)}`)]),
      advice(next),
    ], { key: `${kind} ${what}` });
  }));
}

function showListeners({ listeners }) {
  fill("#listeners", listeners.map((listener) => row(listener.name, "", [
    first([h("bdi", "source", listener.name), h("span", "name", listener.protocol)]),
    cell("addresses", "Addresses", listener.addresses.map((address) => h("bdi", "listener", address))),
    cell("tls", "TLS", [h("bdi", "", listener.tls)]),
    cell("mode", "What it does", [h("span", "", MODES[listener.mode] ?? listener.mode)]),
    cell("sessions", "Open now", [h("span", "total", number(listener.open))]),
  ])));
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
let token = sessionStorage.getItem(STORED);
let [locked, asking, timer] = [false, false, 0];
let answered = Date.now() / 1000;

async function ask(path) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const request = fetch(path, { headers, cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
  const answer = await request.catch((error) => {
    throw new Error(error.name === "TimeoutError" ? "packetboat does not answer in time" : "the browser cannot reach packetboat");
  });
  if (answer.status === 401) lock();
  if (!answer.ok) throw new Error(`packetboat answers with HTTP ${answer.status}`);
  return answer;
}

async function poll() {
  clearTimeout(timer);
  if (asking || locked || document.hidden) return;
  asking = true;
  try {
    show(await (await ask("status.json")).json());
    answered = Date.now() / 1000;
    at("lost").hidden = true;
  } catch (error) {
    if (!locked) lose(error);
  }
  asking = false;
  timer = setTimeout(poll, EVERY);
}

function show(next) {
  status = next;
  at("unlock").hidden = true;
  at("main").hidden = at("nav").hidden = at("body").hidden = false;
  for (const part of [showHead, showDevices, showCharts, showAccounts, showExpiries, showListeners]) part(status);
  write(at("zone"), Intl.DateTimeFormat().resolvedOptions().timeZone);
}

function lose(error) {
  const stale = status ? " The data below is from then." : "";
  write(at("lost"), `No answer since ${exact(answered)}: ${error.message}.${stale} Trying again every 2 s.`);
  at("lost").hidden = false;
  mark("refused", "No answer");
}

function lock() {
  write(at("token-problem"), token ? "packetboat does not accept this token." : "");
  token = null;
  sessionStorage.removeItem(STORED);
  locked = true;
  at("unlock").hidden = false;
  at("main").hidden = at("nav").hidden = true;
  mark("unknown", "Locked");
  at("token").focus();
}

at("unlock").addEventListener("submit", (event) => {
  event.preventDefault();
  token = at("token").value.trim();
  at("token").value = "";
  if (!/^[!-~]+$/.test(token)) return lock();
  sessionStorage.setItem(STORED, token);
  locked = false;
  poll();
});

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
at("tools").addEventListener("input", () => showDevices(status));
addEventListener("resize", () => status && showCharts(status));
document.addEventListener("visibilitychange", poll);
poll();
