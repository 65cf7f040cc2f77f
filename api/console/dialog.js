// Dialogs: forms, questions, and secrets that are shown once.

import { button, h, newId, replace } from "./dom.js";
import { field, readFields } from "./form.js";
import { errorBox, notify } from "./notice.js";

const layer = h("div");

// Where dialogs are, beside the page, so that a secret outlives a change of the page.
export function dialogLayer() {
  return layer;
}

// Close whatever belongs to a page that is left.
export function closeDialogs() {
  for (const dialog of layer.querySelectorAll("dialog:not([data-outlives-page])")) dialog.close();
}

function open(title, content, outlivesPage = false) {
  const label = newId("title");
  const dialog = h("dialog", { "aria-labelledby": label, "data-outlives-page": outlivesPage }, h("h2", { id: label }, title), content);
  dialog.addEventListener("close", () => dialog.remove());
  layer.append(dialog);
  dialog.showModal();
  return dialog;
}

// Ask for these fields; `save` gets their values, and its error keeps the dialog open.
export function formDialog({ title, lead, fields, action, save }) {
  const problems = h("div");
  const submit = h("button", { type: "submit", class: "primary" }, action);
  const form = h("form", { class: fields.length > 6 ? "form pairs" : "form" }, lead ? h("p", { class: "muted" }, lead) : null, fields.map(field), problems,
    h("div", { class: "actions" }, submit, button("Cancel", () => dialog.close())));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    submit.disabled = true;
    replace(problems);
    try {
      await save(readFields(form, fields));
      dialog.close();
    } catch (error) {
      replace(problems, errorBox(error));
    } finally {
      submit.disabled = false;
    }
  });
  const dialog = open(title, form);
  form.querySelector("input, select, textarea")?.focus();
  return dialog;
}

// Ask before something that cannot be taken back.
export function confirmDialog({ title, text, action, run }) {
  const problems = h("div");
  const go = button(action, async () => {
    go.disabled = true;
    try {
      await run();
      dialog.close();
    } catch (error) {
      replace(problems, errorBox(error));
    } finally {
      go.disabled = false;
    }
  }, { class: "danger" });
  const dialog = open(title, h("div", { class: "form" }, h("p", {}, text), problems,
    h("div", { class: "actions" }, go, button("Keep it", () => dialog.close()))));
}

// Show what will never be shown again.
export function secretDialog({ title, text, secret }) {
  const id = newId("secret");
  const input = h("input", { id, readonly: true, class: "secret" });
  input.value = secret;
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(secret);
      notify("Copied.");
    } catch {
      input.select();
      notify("Press Ctrl+C to copy.");
    }
  };
  const dialog = open(title, h("div", { class: "form" }, h("p", {}, text),
    h("div", { class: "field" }, h("label", { for: id }, "Secret, shown this one time"), input),
    h("div", { class: "actions" }, button("Copy", copy, { class: "primary" }), button("Done", () => dialog.close()))), true);
  input.select();
}
