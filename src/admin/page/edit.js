// Changes of devices in the configuration, where admin.edit = true: add one, give it a new password, remove it.

import { h, patch, write, at } from "./tree.js";

const CONFIRM = 6000; // milliseconds in which a second press removes a device
const PATIENCE = 58000; // milliseconds: a command may be changing the file
let post = null;
let asked = "";

export const beginEdit = (page) => { post = page.post; };

export function showEdit({ edit, configured }) {
  at("edit").hidden = !edit.on;
  write(at("edit-problem"), edit.problem ? `${edit.problem}. Each button shows the command to run instead.` : "");
  at("edit-problem").hidden = !edit.problem;
  const names = configured.map(({ device }) => device).sort();
  patch(at("edit-login"), names.map((name) => h("option", "", name, { key: name })));
}

// The password stands here until somebody hides it; packetboat does not keep it.
function result(parts) {
  patch(at("edit-result"), parts);
}

async function change(path, fields) {
  result([h("p", "", "Changing…")]);
  try {
    const { login, done, password, sheet, without_login: without } = await (await post(path, fields, PATIENCE)).json();
    result([
      h("p", "outcome good", `${login}: ${done}.`),
      password && h("p", "", [h("span", "", "Type this password into the device, it is shown once: "), h("code", "code", password)],
        { key: "password" }),
      without && h("p", "", "It needs no password: switch SMTP authentication off in the device.", { key: "without" }),
      (password || without) && h("p", "", [h("span", "", "Everything else to type: "), h("code", "", sheet)],
        { key: "sheet" }),
      password && h("button", "action", "Hide the password", { key: "hide", fixed: { type: "button", id: "edit-hide" } }),
    ]);
    return true;
  } catch (error) {
    const unsure = error.told ? "" : `. The log of packetboat says whether ${fields.login} was changed; if it was, give it a new password.`;
    result([h("p", "problem", `${error.message}${unsure}`)]);
    return false;
  }
}

// A device without a login is known by its address.
at("edit-add").addEventListener("change", ({ currentTarget: form }) => {
  const { without_login: without, networks } = form.elements;
  networks.required = without.checked;
});

at("edit-add").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target;
  if (await change("edit/add", Object.fromEntries(new FormData(form)))) form.reset();
});

at("edit-device").addEventListener("submit", (event) => {
  event.preventDefault();
  change("edit/password", { login: at("edit-login").value });
});

const REMOVE = "Remove the device";
function settle() {
  asked = "";
  write(at("edit-remove"), REMOVE);
}

at("edit-remove").addEventListener("click", () => {
  const login = at("edit-login").value;
  if (asked === login) {
    settle();
    change("edit/remove", { login });
    return;
  }
  asked = login;
  write(at("edit-remove"), `Press again to remove ${login}`);
  setTimeout(settle, CONFIRM);
});

at("edit-result").addEventListener("click", ({ target }) => target.id === "edit-hide" && result([]));
