// What people start on the page: for now, a try of an account. The page asks for the steps while they happen.

import { h, advice } from "./tree.js";

const EVERY = 400; // milliseconds, while something runs
const STEPS = { running: ["unknown", "Running"], ok: ["could", "OK"], failed: ["refused", "Failed"] };

let actions = { attempts: {} };
let problems = {}; // why the last press of a button did nothing, by account
let [get, post, redraw, timer] = [null, null, null, 0];

// Takes the page's ways to ask and to draw, and follows what runs already: this may be a reloaded page.
export function begin(page) {
  [get, post, redraw] = [page.get, page.post, page.redraw];
  document.addEventListener("click", press);
  follow();
}

async function press({ target }) {
  const button = target.closest?.("button[data-try]");
  if (!button || running(button.dataset.try)) return;
  const account = button.dataset.try;
  delete problems[account];
  try {
    await post("try", { account });
  } catch (error) {
    problems[account] = error.message;
  }
  follow();
}

async function follow() {
  clearTimeout(timer);
  try {
    actions = await (await get("actions.json")).json();
  } catch {
    // The page itself says that packetboat does not answer; it follows again with the next press.
    return;
  }
  redraw();
  if (Object.values(actions.attempts).some(({ ready }) => ready === null)) timer = setTimeout(follow, EVERY);
}

const running = (account) => actions.attempts[account]?.ready === null;

export function tryButton(account) {
  const words = running(account) ? "Trying…" : "Try now";
  return h("button", "action", words, {
    key: "try", data: { try: account }, fixed: { type: "button", "aria-label": `${words}: account ${account}` } });
}

// The steps of the newest try of an account, with the last line of `packetboat check --online`.
export function attempt(account) {
  const problem = problems[account] && h("p", "problem", problems[account], { key: "press", fixed: { role: "alert" } });
  const newest = actions.attempts[account];
  if (!newest) return problem;
  const done = newest.ready !== null;
  return h("div", "attempt", [problem,
    h("ol", "steps", newest.steps.map((step) => {
      const [color, words] = STEPS[step.state] ?? ["unknown", step.state];
      return h("li", "step", [h("span", `badge ${color}`, words), h("b", "", step.name), h("bdi", "text", step.text),
        step.advice && advice(step.advice)], { key: step.name });
    })),
    done && h("p", newest.ready ? "outcome good" : "outcome problem", newest.summary, { fixed: { role: "status" } }),
  ]);
}
