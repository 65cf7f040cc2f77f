// Batches: one file, many jobs.

import { button, h } from "../dom.js";
import { count, instant, money } from "../format.js";
import { formDialog } from "../dialog.js";
import { filled } from "../form.js";
import { post, send } from "../http.js";
import { emptyBox, notify } from "../notice.js";
import { keepFresh } from "../poll.js";
import { badge, cursorList, idLink } from "../table.js";
import { renderBatch } from "./batch.js";

export const title = "Batches";

export const OVER = new Set(["completed", "failed", "expired", "cancelled"]);
const ENDPOINTS = ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/rerank", "/v1/responses"];
const COLUMNS = [
  { name: "Batch", head: true, cell: (batch) => idLink(batch.id, `#/batches/${batch.id}`) },
  { name: "State", cell: (batch) => badge(batch.status) },
  { name: "Done", numeric: true, cell: (batch) => `${count(batch.request_counts.completed)} of ${count(batch.request_counts.total)}` },
  { name: "Failed", numeric: true, cell: (batch) => count(batch.request_counts.failed) },
  { name: "Endpoint", cell: (batch) => batch.endpoint },
  { name: "Model", cell: (batch) => batch.model ?? "–" },
  { name: "Created", cell: (batch) => instant(batch.created_at) },
  { name: "Ends by", cell: (batch) => instant(batch.expires_at) },
  { name: "Cost", numeric: true, cell: (batch) => money(batch.sluice.cost) },
];

export async function render(main, { rest, signal }) {
  if (rest[0]) return renderBatch(main, rest[0], signal);
  const list = cursorList({
    path: "/v1/batches", caption: "Batches", columns: COLUMNS, signal,
    empty: emptyBox("No batch yet. Upload a file with one request per line.", button("New batch", newBatch)),
  });
  main.append(h("div", { class: "head" },
    h("div", {}, h("h1", { tabindex: "-1" }, title), h("p", { class: "lead" }, "A file of requests, one per line, each of which becomes a job in the lowest band.")),
    h("div", { class: "actions" }, button("New batch", newBatch, { class: "primary" }))), list.element);
  keepFresh(list, (batch) => !OVER.has(batch.status), signal);
}

function newBatch() {
  const fields = [
    { name: "file", label: "File (JSONL)", kind: "file", required: true, accept: ".jsonl,.ndjson,application/jsonl", hint: "A line: {\"custom_id\": \"a\", \"method\": \"POST\", \"url\": \"/v1/chat/completions\", \"body\": {…}}" },
    { name: "endpoint", label: "Endpoint", kind: "select", options: ENDPOINTS.map((one) => [one]), hint: "Chosen by the first line of the file." },
    { name: "completion_window", label: "Window", value: "24h", required: true, hint: "Ends then at the latest. 24h is always possible, others as the installation says." },
    { name: "start", label: "Start", kind: "select", options: [["asap", "As soon as possible"], ["low_carbon", "In the hours with the cleanest electricity"]] },
    { name: "metadata", label: "Metadata", kind: "json", rows: 2, placeholder: "{\"run\": \"nightly\"}" },
  ];
  const dialog = formDialog({ title: "New batch", fields, action: "Upload and start", save: create });
  const input = dialog.querySelector("input[type=file]");
  input.addEventListener("change", async () => {
    const url = await firstUrl(input.files[0]);
    if (ENDPOINTS.includes(url)) dialog.querySelector("select[name=endpoint]").value = url;
  });
}

async function firstUrl(file) {
  try {
    return JSON.parse((await file.slice(0, 1 << 20).text()).split("\n")[0]).url;
  } catch {
    return null;
  }
}

async function create({ file, ...values }) {
  const form = new FormData();
  form.append("purpose", "batch");
  form.append("file", file);
  const uploaded = await (await send("POST", "/v1/files", { form })).json();
  const batch = await post("/v1/batches", filled({ ...values, input_file_id: uploaded.id }));
  notify("The batch was accepted and is being checked.");
  location.hash = `#/batches/${batch.id}`;
}
