// Sign in with email and password, or with a key.

import { h, replace } from "../dom.js";
import { field, readFields } from "../form.js";
import { get, post, withQuery } from "../http.js";
import { errorBox } from "../notice.js";
import { keepSession } from "../session.js";

export const title = "Sign in";

const PASSWORD = [
  { name: "email", label: "Email", required: true, autocomplete: "username" },
  { name: "password", label: "Password", kind: "password", required: true, autocomplete: "current-password" },
];
const KEY = [{ name: "key", label: "Key", kind: "password", required: true, placeholder: "sk-…" }];

export function render(main, { message }) {
  main.classList.add("narrow");
  const problems = h("div", {}, message ? h("div", { class: "error", role: "alert" }, h("p", {}, message)) : null);
  main.append(h("h1", {}, "Sign in"), problems,
    h("div", { class: "panel" },
      form("With email and password", PASSWORD, problems, async ({ email, password }) => {
        const login = await post("/v1/auth/login", { email, password }, { key: "" });
        await enter(login.key, login.id || null);
      })),
    h("div", { class: "panel" },
      form("With a key", KEY, problems, ({ key }) => enter(key, null)),
      h("p", { class: "hint" }, "The key stays in this tab: it survives a reload and is gone when the tab is closed or you sign out.")));
  main.querySelector("input").focus();
}

function form(heading, fields, problems, enterWith) {
  const submit = h("button", { type: "submit", class: "primary" }, "Sign in");
  const element = h("form", { class: "form", "aria-label": heading }, h("h2", {}, heading), fields.map(field), h("div", { class: "actions" }, submit));
  element.addEventListener("submit", async (event) => {
    event.preventDefault();
    submit.disabled = true;
    replace(problems);
    try {
      await enterWith(readFields(element, fields));
    } catch (error) {
      if (error.code === "invalid_password") error.message = "Email or password is wrong.";
      replace(problems, errorBox(error));
    } finally {
      submit.disabled = false;
    }
  });
  return element;
}

// Nothing else tells the scopes of a key.
async function mayRead(path, key) {
  try {
    await get(withQuery(path, { limit: 1 }), { key });
    return true;
  } catch (error) {
    if (error.status !== 403) throw error;
    return error.code !== "permission_denied";  // an account that has expired may still look at itself
  }
}

async function enter(key, keyId) {
  const user = await get("/v1/me/info", { key });
  const readable = user.permissions.includes("admin") ? ["/v1/jobs", "/v1/admin/roles"] : ["/v1/jobs"];
  const answers = await Promise.all(readable.map((path) => mayRead(path, key)));
  if (!answers.includes(true)) throw new Error("This key is for programs: it lacks the scope “jobs”, without which the console has nothing to show.");
  keepSession({ key, keyId, user });
  window.dispatchEvent(new CustomEvent("sluice:changed"));
}
