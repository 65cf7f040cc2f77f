// One's own keys.

import { h, link } from "../dom.js";
import { secretDialog } from "../dialog.js";
import { instant } from "../format.js";
import { emptyBox } from "../notice.js";
import { resourcePage } from "../resource.js";
import { isMaster } from "../session.js";

export const title = "My keys";

export const SCOPES = [["inference", "Call models"], ["jobs", "Jobs, batches, logs, usage, webhooks"], ["collections", "Collections"], ["admin", "Administration"]];

export const KEY_COLUMNS = [
  { name: "Id", numeric: true, cell: (row) => String(row.id) },
  { name: "Name", head: true, cell: (row) => h("span", { class: "clip", title: row.name }, row.name) },
  { name: "Key", cell: (row) => h("code", {}, row.token) },
  { name: "Scopes", cell: (row) => row.scopes?.join(", ") ?? "all" },
  { name: "Dialect", cell: (row) => row.dialect ?? "–" },
  { name: "Last used", cell: (row) => instant(row.last_used_at) },
  { name: "Expires", cell: (row) => (row.expires === null ? "never" : instant(row.expires)) },
  { name: "Created", cell: (row) => instant(row.created) },
];
export const KEY_FIELDS = [
  { name: "name", label: "Name", required: true },
  { name: "scopes", label: "Only for", kind: "checks", options: SCOPES, hint: "None chosen: everything its user may do." },
  { name: "expires", label: "Expires", kind: "instant" },
  { name: "dialect", label: "Dialect", kind: "select", options: [["", "OpenAI"], ["vultr", "Vultr"], ["nec", "NEC"], ["inflection", "Inflection"]], hint: "Whose defaults count where several APIs share a path." },
];

export function showKey(made, values) {
  secretDialog({ title: `Key “${values.name}”`, text: "Keep it safe: it cannot be shown again.", secret: made.key });
}

export function render(main, options) {
  if (!isMaster()) return list(main, options);
  main.append(h("h1", { tabindex: "-1" }, title), h("p", { class: "lead" }, "Keys for programs belong to users."),
    emptyBox("You are signed in with the administrator's key, which belongs to no user. Make a key for a user instead.", link("To the keys of all users", "#/all-keys")));
  return undefined;
}

const list = resourcePage({
  title, noun: "key", path: "/v1/me/keys", canEdit: false, created: showKey,
  lead: "Keys for programs. A sign-in makes one, too, which ends within the hour or when you sign out.",
  deletion: "It stops working within a second.",
  empty: "No key yet. Make one to call the API from a program.",
  nameOf: (row) => `${row.name} (${row.id})`,
  columns: KEY_COLUMNS,
  fields: () => KEY_FIELDS,
});
