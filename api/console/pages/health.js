// Health: how the providers of each router are now.

import { h, replace } from "../dom.js";
import { amount, count, duration, instant } from "../format.js";
import { get, getAll } from "../http.js";
import { emptyBox, showError } from "../notice.js";
import { every } from "../poll.js";
import { badge, table } from "../table.js";

export const title = "Health";

const COLUMNS = [
  { name: "Router", head: true, cell: (one) => one.router },
  { name: "Provider", cell: (one) => `${one.model_name} (${one.id})` },
  { name: "State", cell: (one) => badge(one.status) },
  { name: "Breaker", cell: (one) => badge(one.breaker) },
  { name: "Until", cell: (one) => instant(one.opens_at) },
  { name: "Failures in a row", numeric: true, cell: (one) => count(one.failures) },
  { name: "In flight", numeric: true, cell: (one) => (one.running === null ? "–" : `${count(one.running)}${one.limit ? ` of ${count(one.limit)}` : ""}`) },
  { name: "First token, 95 %", numeric: true, cell: (one) => duration(one.ttft_p95_ms) },
  { name: "Latency, 95 %", numeric: true, cell: (one) => duration(one.latency_p95_ms) },
  { name: "Tokens per second", numeric: true, cell: (one) => amount(one.tokens_per_s) },
];

export async function render(main, { signal }) {
  const place = h("div");
  main.append(h("h1", { tabindex: "-1" }, title), h("p", { class: "lead" }, "How the providers are now; figures are those of the last two minutes."), place);
  await show(place, signal);
  every(3000, () => show(place, signal), () => true, signal);
}

async function show(place, signal) {
  try {
    const routers = await getAll("/v1/admin/routers");
    const healths = await Promise.all(routers.map((router) => get(`/v1/admin/routers/${router.id}/health`, { signal })));
    const rows = healths.flatMap((router) => router.providers.map((one) => ({ ...one, router: router.name })));
    replace(place, rows.length ? table({ caption: title, columns: COLUMNS, rows }) : emptyBox("No provider yet. Add a router, then a provider of it."));
  } catch (error) {
    showError(place, error);
  }
}
