// The advice that lets a refused device in: the finished command, or the finished lines of the configuration. The page
// changes nothing by itself.

import { h } from "./tree.js";

const RELOAD = "packetboat reload";
const FILE = "/etc/packetboat/packetboat.toml";
// A name with other octets stands in the inventory with question marks in their place, and cannot be repeated.
const REPEATABLE = /^[ -~]{1,200}$/;

const network = (source) => `${source}/${source.includes(":") ? 128 : 32}`;
// One argument of a shell. A stranger has chosen it.
const argument = (text) => (/^[\w.@+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
// A text of TOML: its escapes are those of JSON.
const toml = (text) => JSON.stringify(text);
const list = (texts) => `[${texts.map(toml).join(", ")}]`;

// The steps for one device that was seen: each has words, and text to paste. None if there is nothing to paste.
export function admission(device, status) {
  const { role, configured, logins = [], listeners = [], accounts = [], ways_in: ways = [] } = status;
  if (role !== "administrator" || !device.attention) return [];
  const listener = listeners.find((one) => one.name === device.listener);
  if (device.reason === "not_allowed" && listener) return byNetwork(device, listener);
  if (device.reason === "handshake" && device.profile) return byListener(device, ways);
  if (device.reason === "mail_without_login") return bySource(device, status.without_login ?? []);
  const [login] = device.logins;
  const name = login?.toLowerCase();
  const isKnown = logins.includes(name) || configured.some((one) => one.mailbox?.toLowerCase() === name);
  if (device.reason !== "wrong_password" || !login || isKnown) return [];
  return byDevice(login, device.source, accounts);
}

function byNetwork({ source }, { name, allowed_networks: allowed }) {
  // It has not come again since somebody let it in.
  if (allowed.includes(network(source))) return [];
  const line = `allowed_networks = ${list([...allowed, network(source)])}`;
  return [{ words: `If it is yours: write this line into the section of listener ${name} in ${FILE}, in the place of its `
    + "allowed_networks.", text: line }, { words: "Then reload.", text: RELOAD }];
}

// A listener that takes old TLS from this device alone: packetboat knows it, and the log proposes the same one.
function byListener({ source, profile, listener: refusedBy }, ways) {
  const way = ways.find((one) => one.source === source && one.refused_by === refusedBy && one.profile === profile);
  if (!way) return [];
  const { listener, port, lines, encryption } = way;
  if (!listener) {
    return [{ words: `If it is yours: write these lines at the end of ${FILE}. They open a port for this device alone.`,
      text: lines }, { words: `Then reload, and set port ${port} with ${encryption} in the device.`, text: RELOAD }];
  }
  const place = `listener ${listener}${port ? `, port ${port}` : ""}`;
  if (!lines) return [{ words: `If it is yours: set the device to ${place}, which takes its TLS.` }];
  return [{ words: `If it is yours: write this line into the section of listener ${listener} in ${FILE}, in the place of its `
    + "allowed_networks.", text: lines }, { words: `Then reload, and set the device to ${place}.`, text: RELOAD }];
}

const RISK = "Every computer at that address can send mail from the mailbox then.";

// A device that sends mail without a login: packetboat knows the way in, and the log proposes the same one.
function bySource({ source, listener: refusedBy }, ways) {
  const way = ways.find((one) => one.source === source && one.refused_by === refusedBy);
  if (!way) return [];
  const { commands, lines } = way;
  if (lines) {
    return [{ words: `If it is device ${lines.device}, and its menu has no user name for sending: write these lines into the `
      + `section of that device in ${FILE}. ${RISK}`, text: lines.text }, { words: "Then reload.", text: RELOAD }];
  }
  return commands.map(({ mailbox, text }) => ({
    words: `If it is yours, its menu has no user name, and it is to send from ${mailbox}: run this command. ${RISK}`, text }));
}

function byDevice(login, source, accounts) {
  if (!REPEATABLE.test(login) || login.includes("?") || login.startsWith("-")) return [];
  const own = accounts.find(({ mailbox }) => mailbox.toLowerCase() === login.toLowerCase());
  const offered = own ? [own] : accounts;
  return offered.slice(0, 4).map(({ name, mailbox }) => ({
    words: `If it is yours, and opens mailbox ${mailbox}: run this command. It makes a password for the device.`,
    text: `packetboat device add ${argument(login)} --account ${argument(name)} --network ${argument(source)}` }));
}

export function letIn(device, status) {
  const steps = admission(device, status);
  if (steps.length === 0) return null;
  return h("details", "more admission", [h("summary", "", "Let it in"),
    ...steps.flatMap(({ words, text }, i) => [h("span", "words", words, { key: `${i}` }),
      text && h("pre", "paste", text, { key: `${i}`, fixed: { tabindex: 0 } })])]);
}
