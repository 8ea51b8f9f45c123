// The tree: every part of the page is made of these nodes, and of these words. Text from JSON travels as `content`, never as
// markup.

export const DAY = 86400; // seconds, as all that comes from JSON


// One element: its tag, fixed class names, a text or a list of nodes, and what else it has.
export function h(tag, names, content, more = {}) {
  return { tag, names, content, more, key: `${tag} ${more.key ?? names.split(" ")[0]}` };
}

// Makes the children of `parent` look like `wanted`. A child with the same key is kept, and with it focus, selection
// and an open <details>; what already has the right text is not written again.
export function patch(parent, wanted) {
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
export function write(node, text) {
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

// A stranger's text may have any length, and scrolls inside its own box: the keyboard reaches each box that scrolls.
export function reach() {
  for (const box of document.querySelectorAll(BOXES)) {
    const scrolls = box.scrollHeight > box.clientHeight + 1;
    if (scrolls !== box.hasAttribute("tabindex")) box.toggleAttribute("tabindex", scrolls);
    if (scrolls && box.tabIndex !== 0) box.tabIndex = 0;
  }
}
addEventListener("resize", reach);
document.addEventListener("toggle", reach, true);
const BOXES = ".name, .mailbox, .list, .badge, .detail, .cipher, .fingerprint, .offers, .listener, .source, .reason, .ways";

// --- Words

export const at = (id) => document.getElementById(id);
export const within = (selector) => document.querySelector(selector);
export const number = (value) => value.toLocaleString("en");
export const count = (value, one, many = `${one}s`) => `${number(value)} ${value === 1 ? one : many}`;
export const sum = (values) => values.reduce((all, value) => all + value, 0);

// Swedish writes 2026-11-24 17:05:09, which nobody misreads.
const [CLOCK, EXACT] = [{ timeStyle: "short" }, { dateStyle: "short", timeStyle: "medium" }].map(
  (styles) => new Intl.DateTimeFormat("sv", styles));
export const clock = (unix) => CLOCK.format(unix * 1000);
export const exact = (unix) => EXACT.format(unix * 1000);

export function span(seconds) {
  if (seconds < 60) return `${Math.floor(seconds / 10) * 10} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 2 * DAY) return `${Math.floor(seconds / 3600)} h`;
  return count(Math.floor(seconds / DAY), "day");
}

// Both instants are of the proxy's clock; the one of the browser may be wrong.
export function relative(unix, now) {
  if (Math.abs(unix - now) < 10) return "just now";
  return unix > now ? `in ${span(unix - now)}` : `${span(now - unix)} ago`;
}

export const when = (unix, now, before = "") => h("time", "when", before + relative(unix, now), { title: exact(unix) });
export const none = (text) => h("span", "none", text);
// Today's time is enough; before that the day belongs to it.
export const since = (unix, now) => (now - unix < DAY / 2 ? clock(unix) : exact(unix).slice(0, -3));
// Octets in the unit that people read.
export function octets(value) {
  const unit = value < 1e4 ? 0 : value < 1e7 ? 1 : value < 1e10 ? 2 : 3;
  return `${number(Math.round(value / 1000 ** unit))} ${["B", "kB", "MB", "GB"][unit]}`;
}
// A command of ours is shown as one, anything else as a sentence.
export const advice = (text) => text && h(text.startsWith("packetboat ") ? "code" : "span", "advice", text);

// A configured device reads, sends, or does both.
export const reads = ({ reading, sending }) => Boolean(reading) || !sending;

const STATES = {
  failing: ["refused", "Logins fail"],
  refused: ["refused", "Messages refused"],
  silent: ["soon", "Silent"],
  never: ["soon", "Never logged in"],
};

// The state of a configured device: a color, and words.
export function stateOf(device) {
  const { state, sending } = device;
  if (state !== "ok") return STATES[state] ?? ["unknown", state];
  if (!sending) return ["could", "Gets its mail"];
  if (sending.state === "nothing") return reads(device) ? ["could", "Gets its mail"] : ["soon", "Sends nothing"];
  return ["could", reads(device) ? "Gets and sends mail" : "Sends its mail"];
}

// Messages, and the recipients that they went to: "2 messages sent to 5 recipients".
export const sentTo = (messages, recipients) => (
  `${count(messages, "message")} sent${messages > 0 ? ` to ${count(recipients, "recipient")}` : ""}`);

export const cell = (names, label, content) => h("td", names, content, { fixed: { role: "cell" }, data: { label } });
export const row = (key, names, cells, more) => h("tr", names, cells, { key, fixed: { role: "row" }, ...more });
export const first = (content) => h("th", "device", content, { fixed: { role: "rowheader", scope: "row" } });
