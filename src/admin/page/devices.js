// The devices on the page: configured ones, with the answer to "does everybody get mail?", and all that were seen.

import {
  h, patch, write, at, within, number, count, sum, exact, span, relative, when, none, cell, row, first, since, octets, reads,
  stateOf, sentTo,
} from "./tree.js";
import { admission, letIn } from "./strangers.js";

// --- The fleet: which instance has had a sign of life of a device last

export function showFleet({ fleet, devices, configured }) {
  at("fleet").hidden = !fleet;
  if (!fleet) return;
  const { instance, instances } = fleet;
  write(at("instances"), `This page is of instance ${instance}. ${count(instances.length, "instance is", "instances are")} registered${
    instances.length ? `: ${instances.join(", ")}` : ""}.`);
  const seen = [...devices, ...configured].map((one) => one.instance).filter(Boolean);
  const names = distinct([...instances, instance, ...seen]).sort();
  const option = (value, text) => h("option", "option", text, { key: `name ${value}`, fixed: { value } });
  patch(at("names"), names.map((name) => option(name, `instance ${name}`)));
}

const isChosen = (one) => at("instance").value === "" || one.instance === at("instance").value;
const lastAt = ({ instance }) => instance && h("span", "at from", [h("span", "to", "at instance "), h("bdi", "", instance)]);

// --- Configured devices: does everybody get mail, and send it?

const NAMED = 3; // devices that the answer names for each problem

// The names of some devices: "fax1, fax2 and 4 more".
function named(devices) {
  const names = devices.slice(0, NAMED).map(({ device }) => device);
  if (devices.length > NAMED) names.push(`${number(devices.length - NAMED)} more`);
  const last = names.pop();
  return names.length ? `${names.join(", ")} and ${last}` : last;
}

// The verb for one device, and for several: by whether they read, send, or both.
function verbs(configured) {
  if (!configured.some(({ sending }) => sending)) return ["gets its mail", "get their mail"];
  return configured.some(reads) ? ["gets and sends its mail", "get and send their mail"] : ["sends its mail", "send their mail"];
}

export function answer(configured, now) {
  const of = (state) => configured.filter((device) => device.state === state);
  const [ok, all] = [of("ok").length, configured.length];
  const [does, allDo] = verbs(configured);
  const known = all === 1 ? `The one device ${does}` : `All ${number(all)} devices ${allDo}`;
  const parts = [ok === all ? known : `${number(ok)} of ${count(all, `device ${does}`, `devices ${allDo}`)}`];
  const problem = (state, words) => of(state).length && parts.push(words(of(state), of(state).length === 1));
  problem("failing", (those, one) => (
    `logins of ${named(those)} ${one ? `have failed since ${since(those[0].since, now)}` : "fail"}`));
  problem("refused", (those, one) => (
    `every message of ${named(those)} ${one ? `has been refused since ${since(those[0].since, now)}` : "is refused"}`));
  problem("silent", (those, one) => (
    `${named(those)} ${one ? `has been silent since ${since(those[0].since, now)}` : "are silent"}`));
  problem("never", (those, one) => `${named(those)} ${one ? "has" : "have"} never logged in`);
  return `${parts.join("; ")}.`;
}

export function showConfigured({ configured, now }) {
  const body = within("#configured tbody");
  patch(body, configured.map((device) => configuredRow(device, now)));
  const words = wanted("find");
  for (const [i, line] of [...body.rows].entries()) line.hidden = !(isChosen(configured[i]) && matches(line, words));
  const shown = [...body.rows].filter((line) => !line.hidden).length;
  at("configured").hidden = configured.length === 0;
  write(at("found"), shown < configured.length ? `${number(shown)} of ${number(configured.length)} shown` : "");
  body.parentNode.hidden = shown === 0;
  within("#configured .empty").hidden = shown > 0;
}

// The device's own page.
const link = (name) => (
  h("a", "own", [h("bdi", "source", name)], { fixed: { href: `device?name=${encodeURIComponent(name)}` } }));

function configuredRow(device, now) {
  const [color, words] = stateOf(device);
  const { sending } = device;
  const times = [device.since, device.last_login, device.last_mail, device.failed, sending?.last_sent];
  const usual = device.usual_interval && `usually comes every ${span(device.usual_interval)}`;
  return row(device.device, device.state === "ok" ? "" : "attention", [
    first([link(device.device), device.description && h("bdi", "name", device.description)]),
    cell("state", "State", [
      h("span", `badge ${color}`, words),
      device.since && (device.state === "never" ? when(device.since, now, "configured ")
        : h("time", "when", `since ${since(device.since, now)}`, { title: exact(device.since) })),
      usual && h("span", "usual", usual),
    ]),
    cell("mail", "Last mail", [
      reads(device) && (device.last_mail ? when(device.last_mail, now) : none("none yet")),
      sending && (sending.last_sent ? h("span", "sent", [h("span", "to", "sent "), when(sending.last_sent, now)])
        : h("span", "none sent", "none sent yet")),
    ]),
    cell("came", "Last login", [
      device.last_login ? when(device.last_login, now) : none("none yet"),
      device.source && h("span", "from", [h("span", "to", "from "), h("bdi", "", device.source)]),
      device.open > 0 && h("span", "open", `${number(device.open)} open`),
      lastAt(device),
    ]),
    cell("day", "Last 24 hours", [
      h("span", "total", count(device.sessions, "login")),
      reads(device) && h("span", "total messages", count(device.messages, "message")),
      device.octets > 0 && h("span", "octets", octets(device.octets)),
      sending && h("span", "total sent", sentTo(sending.messages, sending.recipients)),
      sending?.octets > 0 && h("span", "octets up", octets(sending.octets)),
      sending?.refused > 0 && h("span", "total refusals", `${number(sending.refused)} refused`),
    ]),
    cell("box", "Mailbox", device.mailbox === undefined ? [none("not shown")] : [h("bdi", "", device.mailbox ?? ""),
      h("span", "account", [h("span", "to", "account "), h("bdi", "", device.account ?? "")])]),
    cell("failure", "Last failure", [
      device.failed ? when(device.failed, now) : none("none"),
      device.failure && h("bdi", "reason", device.failure),
    ]),
  ], { memo: JSON.stringify(device) + times.map((unix) => unix && relative(unix, now)), data: { device: device.device } });
}

// The words in a search field, and whether a row has all of them.
const wanted = (id) => at(id).value.toLowerCase().split(/\s+/).filter(Boolean);
function matches(line, words) {
  const text = words.length ? line.textContent.toLowerCase() : "";
  return words.every((word) => text.includes(word));
}

// --- Devices that were seen, by [[device]] or by address

const VERDICTS = ["refused", "needs", "could", "unknown"];
const ENTRIES = { implicit: "TLS from the start", starttls: "STARTTLS", plaintext: "no TLS" };
const verdictOf = ({ verdict }) => (VERDICTS.includes(verdict.kind) ? verdict.kind : "unknown");
const counted = (groups, kind) => groups.filter(([leading]) => verdictOf(leading) === kind).length;

// What was seen of one device is one group: it may speak two protocols, or have tried another TLS before. An address where
// just one [[device]] comes from is that device's. What needs attention leads, then what was seen last.
export function grouped(devices) {
  const owners = new Map();
  for (const { source, device } of devices) {
    if (device) owners.set(source, (owners.get(source) ?? new Set()).add(device));
  }
  const groups = new Map();
  for (const seen of devices) {
    const own = owners.get(seen.source);
    const owner = seen.device ?? (own?.size === 1 ? [...own][0] : null);
    const key = owner === null ? `address ${seen.source}` : `device ${owner}`;
    if (!groups.get(key)?.push(seen)) groups.set(key, [seen]);
  }
  const order = (one, other) => other.attention - one.attention || other.last_seen - one.last_seen;
  const all = [...groups].map(([key, group]) => Object.assign(group.sort(order), { key }));
  return [...all.filter(([{ attention }]) => attention), ...all.filter(([{ attention }]) => !attention)];
}

export function summary(groups, waiting) {
  if (groups.length === 0) return [h("span", "seen", "No device has connected yet.")];
  const [refused, needs, could, unknown] = VERDICTS.map((kind) => counted(groups, kind));
  const parts = [needs && count(needs, "needs packetboat", "need packetboat"),
    could && `${number(could)} could talk to Exchange Online directly`,
    refused && `${number(refused)} refused`, unknown && `${number(unknown)} unknown`];
  return [h("span", "seen", `${count(groups.length, "device")} seen: ${parts.filter(Boolean).join(", ")}. `),
    waiting > 0 && h("span", "waiting", `${count(waiting, "needs attention", "need attention")}.`)];
}

export function showDevices(status) {
  const { devices, listeners } = status;
  const groups = grouped(devices);
  const body = within("#devices tbody");
  patch(body, groups.map((group) => deviceRow(group, status)));

  const words = wanted("filter");
  const boxes = [...at("verdicts").querySelectorAll("input")];
  const kinds = boxes.filter((box) => box.checked).map((box) => box.value);
  for (const [i, line] of [...body.rows].entries()) {
    line.hidden = !(kinds.includes(verdictOf(groups[i][0])) && groups[i].some(isChosen) && matches(line, words));
  }
  const shown = [...body.rows].filter((line) => !line.hidden).length;
  for (const box of boxes) write(box.parentNode.querySelector(".count"), number(counted(groups, box.value)));
  write(at("shown"), shown < groups.length ? `${number(shown)} of ${number(groups.length)} shown` : "");
  at("tools").hidden = at("legend").hidden = groups.length === 0;
  body.parentNode.hidden = shown === 0;
  const empty = within("#devices .empty");
  empty.hidden = shown > 0;
  write(empty, groups.length ? "No device matches the filter." : invitation(listeners));
}

const distinct = (values) => [...new Set(values)];
export const part = (text) => h("span", "", text); // what should stay on one line

function verdict(device) {
  const [head, ...detail] = device.verdict.text.split(": ");
  return [h("span", `badge ${verdictOf(device)}`, head),
    ...(detail.length ? [h("span", "unseen", ": "), h("bdi", "detail", detail.join(": "))] : [])];
}

// The other ways in which a device was seen, folded away.
function others(rest, now) {
  if (rest.length === 0) return null;
  return h("details", "more", [h("summary", "", `${count(rest.length, "more way", "more ways")} seen`),
    h("ul", "ways", rest.map((device) => h("li", "way", [
      ...verdict(device),
      h("span", "by", [device.protocol, device.entry && ENTRIES[device.entry], device.tls, device.source]
        .filter(Boolean).join(", ")),
      when(device.last_seen, now, "seen "),
      device.failure && h("bdi", "reason", device.failure),
    ], { key: `${device.source} ${device.protocol} ${device.listener} ${device.fingerprint}` })))]);
}

// The button that forgets a device which is not connected: all the ways in which it was seen.
function forgetting(group, { role }) {
  if (role !== "administrator") return null;
  const seen = group.map(({ source, protocol, fingerprint }) => ({ source, protocol, fingerprint: fingerprint ?? "" }));
  return h("button", "forget", [h("span", "", "Forget"), h("span", "unseen", ` ${group[0].source}`)],
    { fixed: { type: "button" }, data: { seen: JSON.stringify(seen) } });
}

function deviceRow(group, status) {
  const [device, ...rest] = group;
  const { now } = status;
  const mailbox = group.find((one) => one.mailbox)?.mailbox;
  const ages = group.flatMap(({ last_seen: seen, failed }) => [seen, failed ?? now]).map((unix) => relative(unix, now));
  const [sessions, open] = [sum(group.map((one) => one.sessions)), sum(group.map((one) => one.open))];
  const failures = sum(group.map((one) => one.failures));
  const logins = distinct(group.flatMap((one) => one.logins));
  return row(group.key, device.attention ? "attention" : "", [
    first([...distinct(group.map((one) => one.source)).map((source) => h("bdi", "source", source)),
      device.device && h("bdi", "known", device.device), device.name && h("bdi", "name", device.name), device.attention && h("span", "mark", "Needs attention")]),
    cell("verdict", "Verdict", [...verdict(device), letIn(device, status), others(rest, now)]),
    cell("logins", "Logins", [
      logins.length ? h("div", "list", logins.map((text) => h("bdi", "login", text))) : none("none yet"),
      mailbox && h("span", "mailbox", [h("span", "to", "mailbox "), h("bdi", "", mailbox)]),
    ]),
    cell("entry", "Connects by", [
      h("span", "protocol", device.protocol),
      device.entry && h("span", "way", ENTRIES[device.entry] ?? device.entry),
      h("bdi", "listener", device.listener),
    ]),
    cell("tls", "TLS of the device", [
      device.tls ? h("span", "version", device.tls) : none("none agreed"),
      device.cipher && h("bdi", "cipher", device.cipher),
      h("details", "more", [h("summary", "", "What it offers"),
        h("bdi", "offers", device.offers ?? "It has not started TLS."),
        device.fingerprint && h("bdi", "fingerprint", device.fingerprint.split(/(?<=_)/).map(part)),
        h("span", "born", `First seen ${exact(Math.min(...group.map((one) => one.first_seen)))}`)]),
    ]),
    cell("sessions", "Sessions", [h("span", "total", number(sessions)), open > 0 && h("span", "open", `${number(open)} open`)]),
    cell("failure", "Failures", [
      failures > 0 ? h("span", "total", count(failures, "failure")) : none("none"),
      device.failed && when(device.failed, now, device.failures > 1 ? "last one " : ""),
      device.failure && h("bdi", "reason", device.failure),
    ]),
    cell("seen", "Last seen", [when(Math.max(...group.map((one) => one.last_seen)), now), lastAt(device),
      open === 0 && forgetting(group, status)]),
  ], { memo: JSON.stringify([group, ages, status.role, admission(device, status)]), data: { source: device.source } });
}

// A technician's status has no listeners.
function invitation(listeners) {
  const listener = listeners?.[0];
  if (!listeners) return "No device has connected yet.";
  if (!listener) return "No device has connected yet. No listener is open either: see the log.";
  const port = listener.addresses[0]?.split(":").pop() ?? "";
  const how = `port ${port} (${listener.protocol}, ${listener.tls})`;
  return `No device has connected yet. Point one at this machine, ${how}, see listeners below. It shows up here `
    + "as soon as it connects, even when the login fails.";
}
