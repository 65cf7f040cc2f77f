// Routers: public model names with prices.

import { h } from "../dom.js";
import { filled } from "../form.js";
import { count, money } from "../format.js";
import { getAll } from "../http.js";
import { resourcePage } from "../resource.js";

export const title = "Routers";

const TYPES = ["text-generation", "image-text-to-text", "text-embeddings-inference", "text-classification", "image-to-text", "automatic-speech-recognition", "text-to-speech"];
const STRATEGIES = ["shuffle", "least_busy", "weighted", "lowest_carbon"];

const spelled = (members) => (Object.keys(members).length ? JSON.stringify(members) : "");

export const render = resourcePage({
  title, noun: "router", path: "/v1/admin/routers",
  lead: "A router is a public model name. It can be called once it has a provider, and a role has a limit for it.",
  deletion: "Its providers and aliases go with it; queued jobs fail, running ones finish.",
  nameOf: (row) => row.name,
  lookups: async () => ({ routers: await getAll("/v1/admin/routers") }),
  columns: [
    { name: "Id", numeric: true, cell: (row) => String(row.id) },
    { name: "Name", head: true, cell: (row) => h("span", { class: "clip", title: row.name }, row.name) },
    { name: "Aliases", cell: (row) => h("span", { class: "clip" }, row.aliases.join(", ") || "–") },
    { name: "Type", cell: (row) => row.type },
    { name: "Providers", numeric: true, cell: (row) => count(row.providers) },
    { name: "Strategy", cell: (row) => row.load_balancing_strategy },
    { name: "Price in", numeric: true, cell: (row) => money(row.cost_prompt_tokens) },
    { name: "Price out", numeric: true, cell: (row) => money(row.cost_completion_tokens) },
    { name: "Cache", numeric: true, cell: (row) => (row.cache_ttl === null ? "off" : `${count(row.cache_ttl)} s, ${row.cache_charge}`) },
    { name: "Fallback", cell: (row, { routers }) => (row.fallback === null ? "–" : routers.find((one) => one.id === row.fallback)?.name ?? row.fallback) },
  ],
  fields: (row, { routers }) => [
    { name: "name", label: "Name", required: true, value: row?.name },
    { name: "type", label: "Type", kind: "select", options: TYPES.map((one) => [one]), value: row?.type },
    { name: "display_name", label: "Name shown to people", value: row?.display_name },
    { name: "description", label: "Description", value: row?.description },
    { name: "aliases", label: "Aliases", isList: true, value: row?.aliases.join(", "), hint: "Other names, separated by commas." },
    { name: "cost_prompt_tokens", label: "Price of a million prompt tokens", kind: "number", min: 0, value: row?.cost_prompt_tokens ?? 0 },
    { name: "cost_completion_tokens", label: "Price of a million completion tokens", kind: "number", min: 0, value: row?.cost_completion_tokens ?? 0 },
    { name: "load_balancing_strategy", label: "Choice among providers", kind: "select", options: STRATEGIES.map((one) => [one, one.replace("_", " ")]), value: row?.load_balancing_strategy },
    { name: "fallback", label: "Fallback", kind: "select", isNumber: true, value: row?.fallback ?? "", options: [["", "None"], ...routers.filter((one) => one.id !== row?.id).map((one) => [one.id, one.name])] },
    { name: "cache_ttl", label: "Seconds answers are cached", kind: "integer", min: 1, max: 2592000, value: row?.cache_ttl, hint: "Empty: no cache." },
    { name: "cache_charge", label: "Cached answers cost", kind: "select", options: [["free", "nothing"], ["full", "the full price"]], value: row?.cache_charge },
    { name: "default_parameters", label: "Default parameters", kind: "json", rows: 2, value: row ? spelled(filled(row.default_parameters)) : "", placeholder: "{\"temperature\": 0.7}" },
  ],
  toBody: (values, row) => ({
    ...values, aliases: values.aliases ?? [], description: values.description ?? "",
    default_parameters: values.default_parameters ?? (row ? {} : null),
    cost_prompt_tokens: values.cost_prompt_tokens ?? 0, cost_completion_tokens: values.cost_completion_tokens ?? 0,
  }),
  before: (row) => ({ ...row, default_parameters: filled(row.default_parameters) }),
});
