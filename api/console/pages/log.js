// One row of the request log, with request and response as far as they are kept and may be shown.

import { h, link } from "../dom.js";
import { count, duration, energy, grams, instant, money, named } from "../format.js";
import { get } from "../http.js";
import { badge, facts } from "../table.js";

export async function renderLog(main, id, signal) {
  main.append(h("div", { class: "head" }, h("div", {}, h("h1", { tabindex: "-1" }, "Request"), h("p", { class: "lead mono" }, id))));
  const row = await get(`/v1/request_logs/${encodeURIComponent(id)}?include=request,response`, { signal });
  main.append(h("div", { class: "panel" }, facts(known(row))),
    body("Request headers", row.request_headers), body("Request", row.request), body("Response", row.response));
}

function known(row) {
  return [
    ["State", badge(row.status)], ["HTTP status", row.http_status], ["Time", instant(row.created_at)], ["Endpoint", `${row.method} ${row.endpoint}`],
    ["Model", row.model], ["Provider", row.provider_id === null ? null : `${row.provider_model} (${row.provider_id})`],
    ["Attempt", count(row.attempt)], ["Retries", count(row.retry_count)], ["Streamed", row.streamed ? "yes" : "no"],
    ["Wait in the queue", duration(row.queue_ms)], ["First token", duration(row.ttft_ms)], ["Latency", duration(row.latency_ms)],
    ["Tokens", `${count(row.prompt_tokens)} in, ${count(row.completion_tokens)} out`], ["Cost", money(row.cost)],
    ["Energy", energy(row.impacts?.kWh)], ["Carbon", row.impacts ? `${grams(row.impacts.kgCO2eq * 1000)} CO2e` : null],
    ["Error code", row.error_code], ["Vote", row.vote],
    ["User", named(row.user_email, row.user_id)], ["Key", named(row.key_name, row.key_id)],
    ["Organization", named(row.organization_name, row.organization_id)],
    ["Address", row.client_address], ["Client", row.user_agent],
    ["Job", row.job_id ? link(row.job_id, `#/jobs/${row.job_id}`, { class: "mono" }) : null],
    row.batch_id ? ["Batch", link(row.batch_id, `#/batches/${row.batch_id}`, { class: "mono" })] : null,
    ["Request id", h("span", { class: "mono" }, row.request_id)], row.trace_id ? ["Trace", h("span", { class: "mono" }, row.trace_id)] : null,
    row.metadata && Object.keys(row.metadata).length ? ["Metadata", Object.entries(row.metadata).map(([name, value]) => `${name}=${value}`).join(", ")] : null,
  ];
}

function body(name, value) {
  const isShown = value !== null && value !== undefined;
  const text = typeof value === "string" ? value : JSON.stringify(value, null, 2);
  return [h("h2", {}, name), isShown ? h("pre", { tabindex: "0", "aria-label": name }, text) : h("p", { class: "muted" }, "Not kept, or the organization's content policy does not show it.")]
    .reduce((all, one) => (all.append(one), all), h("section", { "aria-label": name }));
}
