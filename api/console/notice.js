// What the console tells besides the page: passing notices, and errors where they belong.

import { button, h, replace } from "./dom.js";

const region = h("div", { class: "notices", role: "status", "aria-live": "polite" });

export function noticeRegion() {
  return region;
}

// Show a line for a while.
export function notify(text) {
  const line = h("div", { class: "notice" }, h("span", {}, text));
  line.append(button("×", () => line.remove(), { class: "plain", "aria-label": "Dismiss" }));
  region.append(line);
  setTimeout(() => line.remove(), 8000);
}

// Return a box with what went wrong, in words, with the code of the API, the members it complains about, and the `command` that helps.
export function errorBox(error) {
  const issues = (error.issues ?? []).map((issue) =>
    h("li", {}, h("code", {}, (issue.loc ?? []).filter((part) => part !== "body").join(".")), ` ${issue.msg}`));
  const code = [error.status || null, error.code].filter(Boolean).join(" ");
  return h("div", { class: "error", role: "alert" },
    h("p", {}, issues.length ? "The server does not accept this:" : error.message, code ? h("code", { class: "code" }, code) : null),
    issues.length ? h("ul", {}, issues) : null, error.command ? h("pre", { tabindex: "0", "aria-label": "Command" }, error.command) : null);
}

export function showError(place, error) {
  if (error.name !== "AbortError") replace(place, errorBox(error));
}

// Run something that may fail; its error becomes a box in `place`.
export async function attempt(place, action) {
  replace(place);
  try {
    return await action();
  } catch (error) {
    showError(place, error);
    return undefined;
  }
}

// Return a box for an empty list that says what to do.
export function emptyBox(text, ...actions) {
  return h("div", { class: "empty" }, h("p", {}, text), actions);
}
