// The keys of everybody.

import { secretDialog } from "../dialog.js";
import { getAll } from "../http.js";
import { resourcePage } from "../resource.js";
import { KEY_COLUMNS, KEY_FIELDS } from "./keys.js";

export const title = "Keys";

const email = (users, id) => users.find((user) => user.id === id)?.email ?? String(id);

export const render = resourcePage({
  title, noun: "key", path: "/v1/admin/tokens", canEdit: false,
  lead: "The keys of all users, without their secrets.",
  deletion: "It stops working in every process within a second.",
  nameOf: (row) => `${row.name} (${row.id})`,
  lookups: async () => ({ users: await getAll("/v1/admin/users") }),
  created: (made, values) => secretDialog({ title: `Key “${values.name}”`, text: "Give it to its user: it cannot be shown again.", secret: made.key }),
  columns: [...KEY_COLUMNS.slice(0, 2), { name: "User", cell: (row, { users }) => email(users, row.user) }, ...KEY_COLUMNS.slice(2)],
  fields: (_row, { users }) => [
    { name: "user", label: "User", kind: "select", isNumber: true, required: true, options: [["", "Choose one"], ...users.map((user) => [user.id, user.email])] }, ...KEY_FIELDS,
  ],
});
