// The spool: messages that a mail server has not taken yet, with their removal and retry where admin.edit = true.

import { h, patch, write, at, within, count, number, octets, span, relative, when, none, cell, row, first } from "./tree.js";

const CONFIRM = 6000; // milliseconds in which a second press removes a message
const STATES = {
  sending: ["unknown", "Being sent"],
  waiting: ["soon", "Waits"],
  reporting: ["soon", "Given up, report waits"],
  kept: ["refused", "Given up"],
  damaged: ["refused", "File damaged"],
};
let post = null;
let asked = "";

export const beginSpool = (page) => { post = page.post; };

// What everybody may know: how many messages wait, and for how long.
export function showSpool({ spool, now, edit }) {
  const all = spool.waiting + spool.needs_operator;
  at("spool").hidden = !spool.on && all === 0 && !spool.problem;
  const oldest = spool.waiting ? `, the oldest for ${span(spool.oldest)}` : "";
  const lost = spool.needs_operator ? ` ${count(spool.needs_operator, "message needs", "messages need")} an administrator.` : "";
  const size = spool.octets === undefined ? "" : ` ${octets(spool.octets)} on disk.`;
  write(at("spool-summary"), `${count(spool.waiting, "message waits", "messages wait")}${oldest}.${lost}${size}`);
  at("spool-summary").className = spool.needs_operator ? "problem" : "muted";
  write(at("spool-problem"), spool.problem ? `Messages are not kept: ${spool.problem}.` : "");
  at("spool-problem").hidden = !spool.problem;
  const messages = spool.messages ?? [];
  within("#spool table").hidden = messages.length === 0;
  patch(within("#spool tbody"), messages.map((message) => shown(message, now, Boolean(edit?.on))));
}

function shown(message, now, mayChange) {
  const { id, state, device, mailbox, octets: size, received, attempts, next_attempt: next } = message;
  const [color, words] = STATES[state] ?? ["unknown", state];
  const isRed = state === "kept" || state === "damaged";
  const button = (doing, label) => h("button", "action", asked === `${doing} ${id}` ? "Press again to remove" : label, {
    key: doing, data: { spool: doing, id }, fixed: { type: "button", "aria-label": `${label} message ${id} of ${device || "an unknown device"}` } });
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
      ? [state !== "damaged" && button("retry", "Retry"), button("remove", "Remove")] : [none("nothing")]),
  ]);
}

document.addEventListener("click", async ({ target }) => {
  const pressed = target.closest?.("button[data-spool]");
  if (!pressed) return;
  const { spool: doing, id } = pressed.dataset;
  if (doing === "remove" && asked !== `remove ${id}`) {
    asked = `remove ${id}`;
    write(pressed, "Press again to remove");
    setTimeout(() => { asked = ""; }, CONFIRM);
    return;
  }
  asked = "";
  write(at("spool-result"), "");
  try {
    await post(`spool/${doing}`, { id });
    write(at("spool-result"), doing === "remove" ? `Message ${id} is removed.` : `Message ${id} is tried now.`);
  } catch (error) {
    write(at("spool-result"), `Message ${id}: ${error.message}`);
  }
});
