// The sign-ins of persons: who has signed in and until when, and a sign-in that begins and ends on the page.

import { DAY, h, patch, at, within, count, exact, relative, when } from "./tree.js";
import { isUnderWay, problem, signIn, start } from "./actions.js";

const STATES = { ok: ["could", "Signed in"], none: ["refused", "Not signed in"], trouble: ["refused", "Trouble"] };
export const SOON = 30 * DAY;

// Whether a person should sign in now: nobody has, it has come to nothing, or it ends within thirty days.
export const isDue = ({ state, until }, now) => state !== "ok" || until - now < SOON;

export function showSignIns({ sign_ins: signIns, now }) {
  at("sign-ins").hidden = signIns.length === 0;
  patch(within("#sign-ins ul"), signIns.map((one) => {
    const ends = one.state === "ok" && one.until - now < SOON;
    const [color, words] = ends ? ["soon", `Signed in, ends ${relative(one.until, now)}`] : STATES[one.state] ?? ["unknown", one.state];
    return h("li", "sign-in", [
      h("span", `badge ${color}`, words, one.until ? { title: `until ${exact(one.until)}` } : {}),
      h("div", "thing", [h("bdi", "what", one.user),
        h("span", "kind", `identity ${one.identity}, ${one.grant}, for ${count(one.accounts.length, "account")}: ${one.accounts.join(", ")}`),
        one.until && when(one.until, now, one.state === "ok" ? "without use it ends " : "it would have ended ")]),
      h("div", "do", [one.advice && h("bdi", "reason", one.advice), steps(one, now)]),
    ], { key: one.account, data: { account: one.account } });
  }));
}

const button = (key, names, words, account, label) => h("button", `action ${names}`, words, {
  key, data: { do: key, account }, fixed: { type: "button", "aria-label": label } });

function steps(one, now) {
  const { account, user } = one;
  const current = signIn(account);
  const words = one.state === "ok" ? "Sign in again" : "Sign in";
  const begin = () => button("sign-in", isDue(one, now) ? "due" : "", words, account, `${words}: ${user}`);
  const parts = {
    browser: () => [
      h("p", "", [h("span", "", "Open "),
        h("a", "go", "the sign-in page", { fixed: { href: current.url, target: "_blank", rel: "noopener noreferrer" } }),
        h("span", "", ` and sign in as ${user}. A browser on packetboat's computer brings the answer by itself.`)], { key: "open" }),
      h("form", "paste", [
        h("label", "", `Another browser ends at an address that begins with ${current.redirect} and does not open. Paste that address:`,
          { fixed: { for: `paste-${account}` } }),
        h("input", "", "", { fixed: { id: `paste-${account}`, type: "password", autocomplete: "off", spellcheck: "false", required: "" } }),
        h("button", "action", "Go on", { fixed: { type: "submit" } }),
        problem("sign-in/answer", account),
      ], { data: { account } }),
      button("sign-in/cancel", "", "Cancel", account, `Cancel the sign-in: ${user}`),
    ],
    code: () => [
      h("p", "", [h("span", "", "Open "),
        h("a", "go", current.url, { fixed: { href: current.url, target: "_blank", rel: "noopener noreferrer" } }),
        h("span", "", " on any computer, type the code "), h("code", "code", current.code),
        h("span", "until", ` and sign in as ${user}. The code ends ${relative(current.until, now)}.`)], { key: "code" }),
      button("sign-in/cancel", "", "Cancel", account, `Cancel the sign-in: ${user}`),
    ],
    beginning: () => [h("p", "", "Beginning…", { key: "beginning" })],
    redeeming: () => [h("p", "", "The answer is here; getting the tokens…", { key: "redeeming" })],
    "signed-in": () => [h("p", "outcome good", current.text, { fixed: { role: "status" } }), begin()],
    failed: () => [h("p", "outcome problem", current.text, { fixed: { role: "status" } }), begin()],
  };
  return h("div", "steps", [...(current ? parts[current.stage]?.() ?? [] : [begin()]), problem("sign-in", account)]);
}

document.addEventListener("click", ({ target }) => {
  const pressed = target.closest?.("button[data-do]");
  if (!pressed || (pressed.dataset.do === "sign-in" && isUnderWay(pressed.dataset.account))) return;
  start(pressed.dataset.do, pressed.dataset.account);
});

// The address holds a code: it goes into the body of a request, and is forgotten here.
document.addEventListener("submit", async (event) => {
  const form = event.target.closest("form.paste");
  if (!form) return;
  event.preventDefault();
  const field = form.querySelector("input");
  const address = field.value;
  field.value = "";
  await start("sign-in/answer", form.dataset.account, { address });
});
