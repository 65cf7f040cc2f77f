// Users: whoever signs in and has keys.

import { h } from "../dom.js";
import { grams, instant, money } from "../format.js";
import { getAll } from "../http.js";
import { resourcePage } from "../resource.js";

export const title = "Users";

async function lookups() {
  const [roles, organizations] = await Promise.all([getAll("/v1/admin/roles"), getAll("/v1/admin/organizations")]);
  return { roles, organizations };
}

const nameIn = (rows, id) => rows.find((row) => row.id === id)?.name ?? String(id);

export const render = resourcePage({
  title, noun: "user", path: "/v1/admin/users", lookups,
  lead: "People and programs: each has a role, keys of its own, and perhaps an organization and budgets.",
  deletion: "The user's keys stop working; usage and charges stay.",
  nameOf: (row) => row.email,
  columns: [
    { name: "Id", numeric: true, cell: (row) => String(row.id) },
    { name: "Email", head: true, cell: (row) => h("span", { class: "clip", title: row.email }, row.email) },
    { name: "Name", cell: (row) => h("span", { class: "clip" }, row.name ?? "–") },
    { name: "Role", cell: (row, { roles }) => nameIn(roles, row.role) },
    { name: "Organization", cell: (row, { organizations }) => (row.organization === null ? "–" : nameIn(organizations, row.organization)) },
    { name: "Budget", numeric: true, cell: (row) => (row.budget === null ? "unlimited" : money(row.budget)) },
    { name: "Carbon budget", numeric: true, cell: (row) => (row.carbon_budget === null ? "unlimited" : grams(row.carbon_budget)) },
    { name: "Priority", numeric: true, cell: (row) => String(row.priority) },
    { name: "Expires", cell: (row) => instant(row.expires) },
    { name: "Created", cell: (row) => instant(row.created) },
  ],
  fields: (row, { roles, organizations }) => [
    { name: "email", label: "Email", required: true, value: row?.email },
    { name: "name", label: "Name", stays: true, value: row?.name },
    { name: "password", label: row ? "New password" : "Password", kind: "password", required: !row, minlength: 12, autocomplete: "new-password", hint: "At least 12 characters." },
    { name: "role", label: "Role", kind: "select", isNumber: true, required: true, value: row?.role, options: [["", "Choose one"], ...roles.map((role) => [role.id, role.name])] },
    { name: "organization", label: "Organization", kind: "select", isNumber: true, value: row?.organization ?? "", options: [["", "None"], ...organizations.map((one) => [one.id, one.name])] },
    { name: "budget", label: "Budget", kind: "number", min: 0, value: row?.budget, hint: "Money; empty is unlimited." },
    { name: "carbon_budget", label: "Carbon budget", kind: "number", min: 0, value: row?.carbon_budget, hint: "g CO2e per month; empty is unlimited." },
    { name: "priority", label: "Priority", kind: "integer", stays: true, min: 0, value: row?.priority ?? 0, hint: "A head start in the queue." },
    { name: "expires", label: "Expires", kind: "instant", value: row?.expires },
  ],
});
