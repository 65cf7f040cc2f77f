// Organizations: budgets, and what the request log keeps of them.

import { h } from "../dom.js";
import { count, grams, instant, money } from "../format.js";
import { resourcePage } from "../resource.js";

export const title = "Organizations";

export const render = resourcePage({
  title, noun: "organization", path: "/v1/admin/organizations",
  lead: "Whoever pays together: a budget falls with every charge, a carbon budget holds for each month.",
  deletion: "Only one without users can be deleted.",
  nameOf: (row) => row.name,
  columns: [
    { name: "Id", numeric: true, cell: (row) => String(row.id) },
    { name: "Name", head: true, cell: (row) => h("span", { class: "clip", title: row.name }, row.name) },
    { name: "Users", numeric: true, cell: (row) => count(row.users) },
    { name: "Budget", numeric: true, cell: (row) => (row.budget === null ? "unlimited" : money(row.budget)) },
    { name: "Carbon budget", numeric: true, cell: (row) => (row.carbon_budget === null ? "unlimited" : `${grams(row.carbon_budget)} a month`) },
    { name: "Log shows", cell: (row) => row.content_policy },
    { name: "Log kept", numeric: true, cell: (row) => (row.log_days === null ? "as set" : `${count(row.log_days)} days`) },
    { name: "Created", cell: (row) => instant(row.created) },
  ],
  fields: (row) => [
    { name: "name", label: "Name", required: true, value: row?.name },
    { name: "budget", label: "Budget", kind: "number", min: 0, value: row?.budget, hint: "Money; empty is unlimited." },
    { name: "carbon_budget", label: "Carbon budget", kind: "number", min: 0, value: row?.carbon_budget, hint: "g CO2e per month; empty is unlimited." },
    { name: "content_policy", label: "Others see of its requests", kind: "select", value: row?.content_policy, options: [["full", "everything, if they are administrators"], ["metadata", "no bodies"], ["none", "no bodies, no headers"]] },
    { name: "log_days", label: "Days the log is kept", kind: "integer", min: 1, max: 3650, value: row?.log_days, hint: "Empty: as the installation says." },
    { name: "shard", label: "Shard", kind: "integer", stays: true, min: 0, value: row?.shard, hint: "Whose Redis has its jobs; empty: the one with the fewest organizations." },
  ],
});
