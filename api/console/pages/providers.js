// Providers: the servers behind the routers.

import { h } from "../dom.js";
import { amount } from "../format.js";
import { get, getAll } from "../http.js";
import { resourcePage } from "../resource.js";
import { badge } from "../table.js";

export const title = "Providers";

const TYPES = ["openai", "vllm", "mistral", "albert", "tei", "simulator"];
const METRICS = ["inflight", "ttft", "latency", "performance"];

async function lookups() {
  const routers = await getAll("/v1/admin/routers");
  const healths = await Promise.all(routers.map((router) => get(`/v1/admin/routers/${router.id}/health`).catch(() => null)));
  return { routers, states: new Map(healths.flatMap((one) => one?.providers ?? []).map((one) => [one.id, one.status])) };
}

export const render = resourcePage({
  title, noun: "provider", path: "/v1/admin/providers", lookups,
  lead: "A provider is one server of a router. How each of them is now: see Health.",
  deletion: "Attempts that run at it finish and are accounted.",
  nameOf: (row) => `${row.model_name} (${row.id})`,
  columns: [
    { name: "Id", numeric: true, cell: (row) => String(row.id) },
    { name: "Model there", head: true, cell: (row) => h("span", { class: "clip", title: row.model_name }, row.model_name) },
    { name: "Health", cell: (row, { states }) => (states.has(row.id) ? badge(states.get(row.id)) : "–") },
    { name: "Router", cell: (row, { routers }) => routers.find((one) => one.id === row.router_id)?.name ?? row.router_id },
    { name: "Type", cell: (row) => row.type },
    { name: "URL", cell: (row) => h("span", { class: "clip", title: row.url }, row.url ?? "–") },
    { name: "Weight", numeric: true, cell: (row) => amount(row.weight) },
    { name: "Parameters", numeric: true, cell: (row) => (row.model_total_params ? `${amount(row.model_total_params)} B` : "unknown") },
    { name: "Zone", cell: (row) => row.model_hosting_zone },
    { name: "Limit", cell: (row) => (row.qos_metric ? `${row.qos_metric} ${amount(row.qos_limit)}` : "–") },
    { name: "Timeout", numeric: true, cell: (row) => `${row.timeout} s` },
  ],
  fields: (row, { routers }) => [
    { name: "router", label: "Router", kind: "select", isNumber: true, required: true, value: row?.router_id, options: [["", "Choose one"], ...routers.map((one) => [one.id, one.name])] },
    row ? null : { name: "type", label: "Type", kind: "select", options: TYPES.map((one) => [one]) },
    { name: "url", label: "URL", stays: true, value: row?.url, placeholder: "http://127.0.0.1:8000", hint: "Not for the simulator." },
    { name: "model_name", label: "Name of the model there", required: true, value: row?.model_name },
    { name: "key", label: row ? "New key" : "Key", kind: "password", autocomplete: "new-password", hint: "What the server wants as a bearer key; kept encrypted, never shown." },
    { name: "model_total_params", label: "Parameters, billions", stays: true, kind: "number", min: 0, value: row?.model_total_params ?? 0, hint: "For energy and carbon; 0 is unknown." },
    { name: "model_active_params", label: "Active parameters, billions", stays: true, kind: "number", min: 0, value: row?.model_active_params ?? 0 },
    { name: "model_hosting_zone", label: "Zone of its electricity", stays: true, value: row?.model_hosting_zone ?? "WOR", hint: "Country, three letters, or WOR." },
    { name: "quantization_bits", label: "Bits of a weight", kind: "integer", min: 1, max: 64, value: row?.quantization_bits },
    { name: "gpu_count", label: "GPUs of one instance", kind: "integer", min: 1, value: row?.gpu_count },
    { name: "gpu_memory_gb", label: "Memory of one GPU, GB", kind: "number", min: 1, value: row?.gpu_memory_gb },
    { name: "batch_size", label: "Requests that run together", kind: "integer", min: 1, value: row?.batch_size },
    { name: "joules_per_output_token", label: "Joules per output token", kind: "number", min: 0, value: row?.joules_per_output_token, hint: "If measured; it replaces the model of its energy." },
    { name: "pue", label: "PUE of its data centre", kind: "number", min: 1, value: row?.pue },
    { name: "wue", label: "WUE of its data centre, litres per kWh", kind: "number", min: 0, value: row?.wue },
    { name: "timeout", label: "Timeout, seconds", stays: true, kind: "integer", min: 1, max: 3600, value: row?.timeout ?? 300 },
    { name: "weight", label: "Weight", stays: true, kind: "number", value: row?.weight ?? 1, hint: "For the choice “weighted”." },
    { name: "qos_metric", label: "Keep away from it by", kind: "select", value: row?.qos_metric ?? "", options: [["", "Nothing"], ...METRICS.map((one) => [one])] },
    { name: "qos_limit", label: "Limit of that", kind: "number", min: 0, value: row?.qos_limit },
    { name: "parameter_set", label: "Parameters that it takes", kind: "select", value: row?.parameter_set ?? "", options: [["", "Those of its type"], ["all"], ["openai"], ["mistral"]] },
    { name: "denied_params", label: "Parameters that are refused", isList: true, value: row?.denied_params.join(", "), hint: "Of chats, separated by commas." },
    { name: "native_responses", label: "It has /v1/responses", kind: "checkbox", value: row?.native_responses },
    { name: "probe", label: "Ask it first whether it serves the model", kind: "checkbox", value: true },
  ].filter(Boolean),
  toBody: (values, row) => {
    const { key, ...others } = { ...values, denied_params: values.denied_params ?? [] };
    return key === null && row ? others : { ...others, key };
  },
  before: (row) => ({ ...row, router: row.router_id, key: null, probe: true }),
});
