// The spool: messages that a mail server has not taken yet, with their removal and retry where admin.edit = true.

import { h, patch, write, at, within, count, number, octets, span, relative, when, none, cell, row, first } from "./tree.js";

const CONFIRM = 6000; // milliseconds in which a second press removes a message
const AGAIN = "Press again to remove";
const STATES = {
  sending: ["unknown", "Being sent"],
  waiting: ["soon", "Waits"],
  reporting: ["soon", "Given up, report waits"],
  kept: ["refused", "Given up"],
  damaged: ["refused", "File damaged"],
  unreadable: ["refused", "File not readable"],
};
let post = null;
let asked = ""; // the id of the message whose removal waits for a second press
let question = 0; // the timer that ends the question
let latest = null;

export const beginSpool = (page) => { post = page.post; };

// What everybody may know: how many messages wait, and for how long.
export function showSpool(status) {
  latest = status;
  const { spool, now, edit } = status;
  const all = spool.waiting + spool.needs_operator;
  at("spool").hidden = !spool.on && all === 0 && !spool.problem;
  const oldest = spool.waiting ? `, ${spool.waiting > 1 ? "the oldest " : ""}for ${span(spool.oldest)}` : "";
  const lost = spool.needs_operator ? ` ${count(spool.needs_operator, "message needs", "messages need")} an administrator.` : "";
  const size = spool.octets === undefined ? "" : ` ${octets(spool.octets)} on disk.`;
  const messages = spool.messages ?? [];
  const some = messages.length > 0 && messages.length < all
    ? ` The list has the oldest ${number(messages.length)}; packetboat spool list has all.` : "";
  write(at("spool-summary"), `${count(spool.waiting, "message waits", "messages wait")}${oldest}.${lost}${size}${some}`);
  at("spool-summary").className = spool.needs_operator ? "problem" : "muted";
  const problems = [spool.problem, ...(spool.full_shares ?? [])].filter(Boolean);
  write(at("spool-problem"), problems.length ? `Messages are not kept: ${problems.join("; ")}.` : "");
  at("spool-problem").hidden = problems.length === 0;
  within("#spool table").hidden = messages.length === 0;
  patch(within("#spool tbody"), messages.map((message) => shown(message, now, Boolean(edit?.on))));
}

function shown(message, now, mayChange) {
  const { id, state, device, mailbox, octets: size, received, attempts, next_attempt: next } = message;
  const [color, words] = STATES[state] ?? ["unknown", state];
  const isRed = ["kept", "damaged", "unreadable"].includes(state);
  const of = `message ${id} of ${device || "an unknown device"}`;
  const button = (doing, label, isAsked) => h("button", "action", isAsked ? AGAIN : label, {
    key: doing, data: { spool: doing, id },
    fixed: { type: "button", "aria-label": `${isAsked ? `${AGAIN}:` : label} ${of}` } });
  return row(id, isRed ? "attention" : "", [
    first([h("bdi", "source", device || "unknown"), h("span", "name", id)]),
    cell("state", "State", [h("span", `badge ${color}`, words),
      message.may_exist_twice && h("span", "until", "nobody knows whether it was sent")]),
    cell("box", "Mailbox", [h("bdi", "", mailbox || "unknown")]),
    cell("number", "Size", [h("span", "total", octets(size))]),
    cell("seen", "Received", [received ? when(received, now) : none("unknown")]),
    cell("number", "Tries", [h("span", "total", number(attempts)),
      next && h("span", "next", next > now ? `next ${relative(next, now)}` : "next now")]),
    cell("failure", "Last answer", [h("bdi", "reason", message.held || message.last_answer || "none")]),
    cell("do", "Do", mayChange && state !== "sending"
      ? [state !== "damaged" && button("retry", "Retry"), button("remove", "Remove", asked === id)] : [none("nothing")]),
  ]);
}

const tell = (text) => write(at("spool-result"), text);

// Asks about one message; about none, where the question was answered or has stood long enough.
function ask(id) {
  clearTimeout(question);
  asked = id;
  tell(id && `Message ${id} is about to be removed: nobody gets the message, and nobody gets a report.`);
  showSpool(latest);
  if (id) question = setTimeout(() => ask(""), CONFIRM);
}

document.addEventListener("click", async ({ target }) => {
  const pressed = target.closest?.("button[data-spool]");
  if (!pressed) return;
  const { spool: doing, id } = pressed.dataset;
  if (doing === "remove" && asked !== id) return ask(id);
  ask("");
  try {
    const { why, wait } = await post(`spool/${doing}`, { id });
    const tried = why ? `is tried ${wait ? `in ${span(wait)}` : "next"}: ${why}` : "is tried now";
    tell(doing === "remove" ? `Message ${id} is removed.` : `Message ${id} ${tried}. If it stays in the list, its row says why.`);
  } catch (error) {
    tell(`Message ${id}: ${error.message}`);
  }
});
