// The request log: each attempt and each refusal, also those that run now.

import { button, h, link } from "../dom.js";
import { filterForm } from "../filters.js";
import { count, duration, grams, instant, money, named } from "../format.js";
import { withQuery } from "../http.js";
import { attempt, emptyBox } from "../notice.js";
import { keepFresh } from "../poll.js";
import { downloadLarge } from "../saving.js";
import { isAdmin } from "../session.js";
import { badge, cursorList } from "../table.js";
import { renderLog } from "./log.js";

export const title = "Request logs";

const STATES = ["in_progress", "completed", "failed", "cancelled", "lost", "refused"];
const FILTERS = [
  { name: "created_after", label: "From", kind: "instant" },
  { name: "created_before", label: "Until", kind: "instant" },
  { name: "status", label: "State", kind: "select", options: [["", "Any"], ...STATES.map((one) => [one, one.replace("_", " ")])] },
  { name: "model", label: "Model" },
  { name: "endpoint", label: "Endpoint", placeholder: "/v1/chat/completions" },
  { name: "error_code", label: "Error code" },
];
const MORE = [
  { name: "http_status", label: "HTTP status", kind: "integer", min: 100, max: 599 },
  { name: "provider_id", label: "Provider", kind: "integer", placeholder: "Id" },
  { name: "provider_model", label: "Model there" },
  { name: "key", label: "Key", placeholder: "Name or id" },
  { name: "user", label: "User", placeholder: "Email or id", forAdmins: true },
  { name: "organization", label: "Organization", placeholder: "Name or id", forAdmins: true },
  { name: "min_latency_ms", label: "Latency from (ms)", kind: "integer", min: 0 },
  { name: "max_latency_ms", label: "Latency to (ms)", kind: "integer", min: 0 },
  { name: "min_tokens", label: "Tokens from", kind: "integer", min: 0 },
  { name: "min_cost", label: "Cost from", kind: "number", min: 0 },
  { name: "streamed", label: "Streamed", kind: "select", options: [["", "Any"], ["true", "yes"], ["false", "no"]] },
  { name: "vote", label: "Vote", kind: "select", options: [["", "Any"], ["up"], ["down"]] },
  { name: "job_id", label: "Job", placeholder: "job_…" },
  { name: "batch_id", label: "Batch", placeholder: "batch_…" },
  { name: "request_id", label: "Request id", placeholder: "req_…" },
  { name: "metadata", label: "Metadata", placeholder: "name=value" },
];
// What is looked for most comes first: up to the emissions it is in sight on a screen of 1280 px.
const COLUMNS = [
  { name: "Time", head: true, cell: (row) => link(instant(row.created_at), `#/logs/${row.id}`) },
  { name: "State", cell: (row) => badge(row.status) },
  { name: "Error", cell: (row) => clipped(row.error_code ?? "") },
  { name: "HTTP", numeric: true, cell: (row) => row.http_status ?? "–" },
  { name: "Model", cell: (row) => clipped(row.model ?? "–") },
  { name: "Latency", numeric: true, cell: (row) => duration(row.latency_ms) },
  { name: "In", numeric: true, cell: (row) => count(row.prompt_tokens) },
  { name: "Out", numeric: true, cell: (row) => count(row.completion_tokens) },
  { name: "Cost", numeric: true, cell: (row) => money(row.cost) },
  { name: "CO2e", numeric: true, cell: (row) => grams(row.impacts ? row.impacts.kgCO2eq * 1000 : null) },
  { name: "Endpoint", cell: (row) => row.endpoint },
  { name: "Provider", cell: (row) => clipped(row.provider_id === null ? "–" : `${row.provider_model} (${row.provider_id})`) },
  { name: "User", cell: (row) => clipped(named(row.user_email, row.user_id)) },
  { name: "Organization", cell: (row) => clipped(named(row.organization_name, row.organization_id)), forAdmins: true },
  { name: "Key", cell: (row) => clipped(named(row.key_name, row.key_id)) },
  { name: "Queue", numeric: true, cell: (row) => duration(row.queue_ms) },
  { name: "First token", numeric: true, cell: (row) => duration(row.ttft_ms) },
];
const EXPORTS = [["NDJSON", "application/x-ndjson", "ndjson"], ["CSV", "text/csv", "csv"], ["Parquet", "application/vnd.apache.parquet", "parquet"]];

const clipped = (text) => h("span", { class: "clip short", title: text }, text);

export async function render(main, { rest, query, signal }) {
  if (rest[0]) return renderLog(main, rest[0], signal);
  const problems = h("div");
  const exports = EXPORTS.map(([text, accept, ending]) => button(`Export ${text}`, () =>
    attempt(problems, () => downloadLarge(withQuery("/v1/request_logs", filterForm.query(query)), `request_logs.${ending}`, accept))));
  const forAll = (one) => !one.forAdmins || isAdmin();
  main.append(h("h1", { tabindex: "-1" }, title),
    h("p", { class: "lead" }, isAdmin() ? "Each attempt at a provider and each refused request, of everybody." : "Each attempt at a provider and each refused request of yours."),
    filterForm("logs", FILTERS, query, { more: MORE.filter(forAll), actions: exports }), problems);
  const list = cursorList({
    path: "/v1/request_logs", query: filterForm.query(query), caption: "Request log", columns: COLUMNS.filter(forAll), signal,
    empty: emptyBox("No request matches. Widen the filters, or send something in the playground."),
  });
  main.append(list.element);
  keepFresh(list, (row) => row.status === "in_progress", signal);
}
