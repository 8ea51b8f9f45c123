// The actions that people start on the page: a try of an account, or a sign-in. The page asks for the steps while they
// happen.

import { h, advice } from "./tree.js";

const EVERY = 400; // milliseconds, while something runs
const AGAIN = 2000; // milliseconds, while packetboat does not answer
const FORBIDDEN = [401, 403];
const STEPS = { running: ["unknown", "Running"], ok: ["could", "OK"], failed: ["refused", "Failed"] };
const ENDED = ["signed-in", "failed"];

let actions = { attempts: {}, sign_ins: {} };
let problems = {}; // why the last press of a button did nothing, by path and account
let [get, post, redraw, timer] = [null, null, null, 0];
let stopped = false; // this tab has no token that may ask

// Takes the page's ways to ask and to draw, and follows what runs already: this may be a reloaded page.
export function begin(page) {
  [get, post, redraw] = [page.get, page.post, page.redraw];
  document.addEventListener("click", ({ target }) => {
    const button = target.closest?.("button[data-try]");
    if (button && !running(button.dataset.try)) start("try", button.dataset.try);
  });
  follow();
}

// Starts something for an account, and shows what comes of it. Returns whether packetboat has taken it.
export async function start(path, account, fields = {}) {
  const key = `${path} ${account}`;
  delete problems[key];
  try {
    await post(path, { account, ...fields });
  } catch (error) {
    problems[key] = error.message;
  }
  follow();
  return !problems[key];
}

// Goes on following, after a token has opened the page again.
export function resume() {
  if (stopped) follow();
}

async function follow() {
  clearTimeout(timer);
  stopped = false;
  let every = EVERY;
  try {
    actions = await (await get("actions.json")).json();
  } catch (error) {
    // A locked page asks for nothing. Otherwise the page itself says that packetboat does not answer.
    stopped = FORBIDDEN.includes(error.answer?.status);
    if (stopped) return;
    every = AGAIN;
  }
  redraw();
  const waits = Object.values(actions.attempts).some(({ ready }) => ready === null)
    || Object.values(actions.sign_ins).some(({ progress }) => !ENDED.includes(progress.stage));
  if (waits) timer = setTimeout(follow, every);
}

const running = (account) => actions.attempts[account]?.ready === null;
export const signIn = (account) => actions.sign_ins[account]?.progress;
export const isUnderWay = (account) => signIn(account) && !ENDED.includes(signIn(account).stage);

export const problem = (path, account) => problems[`${path} ${account}`]
  && h("p", "problem", problems[`${path} ${account}`], { key: path, fixed: { role: "alert" } });

export function tryButton(account) {
  const words = running(account) ? "Trying…" : "Try now";
  return h("button", "action", words, {
    key: "try", data: { try: account }, fixed: { type: "button", "aria-label": `${words}: account ${account}` } });
}

// The steps of the newest try of an account, with the last line of `packetboat check --online`.
export function attempt(account) {
  const newest = actions.attempts[account];
  if (!newest) return problem("try", account);
  const done = newest.ready !== null;
  return h("div", "attempt", [problem("try", account),
    h("ol", "steps", newest.steps.map((step) => {
      const [color, words] = STEPS[step.state] ?? ["unknown", step.state];
      return h("li", "step", [h("span", `badge ${color}`, words), h("b", "", step.name), h("bdi", "text", step.text),
        step.advice && advice(step.advice)], { key: step.name });
    })),
    done && h("p", newest.ready ? "outcome good" : "outcome problem", newest.summary, { fixed: { role: "status" } }),
  ]);
}
