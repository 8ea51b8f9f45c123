// The advice that lets a refused device in: the finished command, or the finished lines of the configuration. The page
// changes nothing by itself.

import { h } from "./tree.js";

const RELOAD = "packetboat reload";
const FILE = "/etc/packetboat/packetboat.toml";
// A name with other octets stands in the inventory with question marks in their place, and cannot be repeated.
const REPEATABLE = /^[ -~]{1,200}$/;
const OF_PROTOCOL = { IMAP: ["imap", 1993], POP3: ["pop3", 1995] };

const network = (source) => `${source}/${source.includes(":") ? 128 : 32}`;
// One argument of a shell. A stranger has chosen it.
const argument = (text) => (/^[\w.@+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
// A text of TOML: its escapes are those of JSON.
const toml = (text) => JSON.stringify(text);
const list = (texts) => `[${texts.map(toml).join(", ")}]`;

// The steps for one device that was seen: each has words, and text to paste. None if there is nothing to paste.
export function admission(device, { role, configured, logins = [], listeners = [], accounts = [] }) {
  if (role !== "administrator" || !device.attention) return [];
  const listener = listeners.find((one) => one.name === device.listener);
  if (device.reason === "not_allowed" && listener) return byNetwork(device, listener);
  if (device.reason === "handshake" && device.profile && listener) return byListener(device, listener, listeners);
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

// A listener of its own, so that old TLS is open to this device alone.
function byListener({ source, protocol, profile }, like, listeners) {
  if (like.mode !== "translate") return [];
  const [key, first] = OF_PROTOCOL[protocol] ?? [];
  if (!key) return [];
  const taken = new Set(listeners.flatMap(({ addresses }) => addresses.map((one) => Number(one.split(":").pop()))));
  let port = first;
  while (taken.has(port)) port += 1;
  const address = source.includes(":") ? `[::]:${port}` : `0.0.0.0:${port}`;
  const certificate = like.certificate?.name;
  const lines = ["[[listener]]", `name = ${toml(`${key}-${port}`)}`, `protocol = ${toml(key)}`, `listen = ${list([address])}`,
    `profile = ${toml(profile)}`, `allowed_networks = ${list([network(source)])}`];
  if (certificate && certificate !== "default") lines.push(`certificate = ${toml(certificate)}`);
  return [{ words: `If it is yours: write these lines at the end of ${FILE}. They open a port for this device alone.`,
    text: lines.join("\n") }, { words: `Then reload, and set port ${port} in the device.`, text: RELOAD }];
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
      h("pre", "paste", text, { key: `${i}`, fixed: { tabindex: 0 } })])]);
}
