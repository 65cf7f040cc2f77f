// One's own account: what it may spend and call, and what one may change of it.

import { button, h, replace } from "../dom.js";
import { formDialog } from "../dialog.js";
import { count, grams, instant, money } from "../format.js";
import { get, patch } from "../http.js";
import { changed } from "../form.js";
import { emptyBox, notify, showError } from "../notice.js";
import { keepSession, session } from "../session.js";
import { facts, table } from "../table.js";

export const title = "My account";

const PATH = "/v1/me/info";
const KINDS = { rpm: "Requests a minute", rpd: "Requests a day", tpm: "Tokens a minute", tpd: "Tokens a day" };
const PROFILE = [
  { name: "name", label: "Name", stays: true },
  { name: "email", label: "Email", kind: "email", required: true, autocomplete: "email" },
];
const PASSWORD = [
  { name: "current_password", label: "Current password", kind: "password", required: true, autocomplete: "current-password" },
  { name: "password", label: "New password", kind: "password", required: true, minlength: 12, autocomplete: "new-password", hint: "At least 12 characters. Other sign-ins end; keys for programs stay." },
];

export async function render(main) {
  const place = { actions: h("div", { class: "actions" }), content: h("div") };
  main.append(h("div", { class: "head" }, h("h1", { tabindex: "-1" }, title), place.actions), place.content);
  await show(place);
}

async function show(place) {
  try {
    const me = await get(PATH);
    keepSession({ ...session(), user: me });
    replace(place.actions, ...(me.id ? [
      button("Change name or email", () => changeProfile(me, place)), button("Change password", () => changePassword())] : []));
    replace(place.content, h("div", { class: "panel" }, facts(known(me))), h("h2", {}, "Limits"), limits(me));
  } catch (error) {
    showError(place.content, error);
  }
}

function known(me) {
  return [
    ["Email", me.email], ["Name", me.name], ["Organization", me.organization ? String(me.organization) : null],
    ["Budget left", me.budget === null ? "unlimited" : money(me.budget)],
    ["Carbon left this month", me.carbon_budget === null ? "unlimited" : `${grams(me.carbon_budget_remaining)} of ${grams(me.carbon_budget)}`],
    ["May", me.permissions.join(", ") || "call models"], ["Priority", String(me.priority)], ["Expires", me.expires === null ? "never" : instant(me.expires)],
  ];
}

function limits(me) {
  const found = new Map();
  for (const limit of me.limits) {
    const row = found.get(limit.router) ?? { model: limit.model };
    row[limit.type] = limit.value;
    found.set(limit.router, row);
  }
  const columns = [{ name: "Model", head: true, cell: (row) => row.model }, ...Object.entries(KINDS).map(([kind, name]) => ({
    name, numeric: true, cell: (row) => (row[kind] === null || row[kind] === undefined ? "unlimited" : count(row[kind])),
  }))];
  return found.size ? table({ caption: "Limits", columns, rows: [...found.values()] }) : emptyBox("No model may be called yet.");
}

function changeProfile(me, place) {
  formDialog({
    title: "Change name or email", action: "Save", fields: PROFILE.map((spec) => ({ ...spec, value: me[spec.name] })),
    save: async (values) => {
      await patch(PATH, changed(values, me, PROFILE));
      notify("Saved.");
      await show(place);
      window.dispatchEvent(new CustomEvent("sluice:changed"));
    },
  });
}

function changePassword() {
  formDialog({
    title: "Change password", action: "Change", fields: PASSWORD,
    save: async (values) => {
      await patch(PATH, values);
      notify("The password is changed.");
    },
  });
}
