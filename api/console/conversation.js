// Conversations of the playground.  Each reply is a durable job; the conversation is nothing but its jobs, found again by
// their metadata.  So the history is the API's: it is there in every browser, nothing of it is stored in this one, and it
// goes when the results go.

import { ApiError, get, post, withQuery } from "./http.js";
import { followJob } from "./follow.js";

const CLIENT = "console";
export const TERMINAL = new Set(["completed", "incomplete", "failed", "cancelled", "expired"]);

// Return an id; also over plain HTTP, where browsers have no randomUUID.
export function newConversation() {
  const random = crypto.getRandomValues(new Uint8Array(10));
  return [...random].map((one) => one.toString(16).padStart(2, "0")).join("");
}

// Send a prompt behind these turns; returns the new turn.
export async function sendPrompt({ conversation, model, system, turns, prompt, parameters }) {
  const messages = [
    ...(system ? [{ role: "system", content: system }] : []),
    ...turns.filter((turn) => turn.text).flatMap((turn) => [
      { role: "user", content: turn.prompt }, { role: "assistant", content: turn.text },
    ]),
    { role: "user", content: prompt },
  ];
  const body = { ...parameters, model, messages, stream: true, metadata: { client: CLIENT, conversation } };
  const job = await post("/v1/chat/completions", body, { headers: { Prefer: "respond-async" } });
  return { job, prompt, text: "", reasoning: "" };
}

// Follow a turn to its end, from the first event on; `onText` is called whenever it has changed.
export async function followTurn(turn, onText, signal) {
  turn.text = turn.reasoning = "";
  const job = await followJob(turn.job.id, ({ event, data }) => {
    if (event === "job.restarted") turn.text = turn.reasoning = "";
    if (event === null) {
      const delta = data.choices?.[0]?.delta;
      turn.text += delta?.content ?? "";
      turn.reasoning += delta?.reasoning_content ?? "";
    }
    onText();
  }, signal);
  turn.job = job ?? (await get(`/v1/jobs/${turn.job.id}`, { signal }));
}

// Return {turns, system} of a conversation; the texts of turns that are over are there, others are to be followed.
export async function loadConversation(conversation, signal) {
  const jobs = [];
  let page;
  do {
    const query = { "metadata[client]": CLIENT, "metadata[conversation]": conversation, order: "asc", limit: 100, after: page?.last_id };
    page = await get(withQuery("/v1/jobs", query), { signal });
    jobs.push(...page.data);
  } while (page.has_more);
  const turns = await Promise.all(jobs.map((job) => loadTurn(job, signal)));
  const [first] = jobs.length ? await messages(jobs.at(-1), "asc", 1, signal) : [];
  return { turns, system: first?.role === "system" ? first.content : "" };
}

async function loadTurn(job, signal) {
  const turn = { job, prompt: null, text: "", reasoning: "" };
  const [last] = await messages(job, "desc", 1, signal);
  turn.prompt = last?.content ?? null;
  if (job.status === "completed") {
    const result = await ifKept(get(`/v1/jobs/${job.id}/result`, { signal }));
    turn.text = result?.choices[0]?.message.content ?? "";
    turn.reasoning = result?.choices[0]?.message.reasoning_content ?? "";
  }
  return turn;
}

// Return the first or the last messages of a request, [] once it is removed.
async function messages(job, order, limit, signal) {
  const path = `/v1/chat/completions/${encodeURIComponent(job.aliases[0] ?? job.id)}/messages`;
  return (await ifKept(get(withQuery(path, { order, limit }), { signal })))?.data ?? [];
}

async function ifKept(promise) {
  try {
    return await promise;
  } catch (error) {
    if (error instanceof ApiError && (error.status === 404 || error.status === 410)) return null;
    throw error;
  }
}

const MOST_LISTED = 12;
const titles = new Map();

// Return the newest conversations as [{conversation, title, job}]; the title is their first prompt.  Their jobs are read on until
// there are enough, since one conversation may have any number of them.
export async function listConversations(signal) {
  const newest = new Map();
  let page;
  do {
    page = await get(withQuery("/v1/jobs", { "metadata[client]": CLIENT, limit: 100, after: page?.last_id }), { signal });
    for (const job of page.data) {
      if (job.metadata.conversation && !newest.has(job.metadata.conversation)) newest.set(job.metadata.conversation, job);
    }
  } while (page.has_more && newest.size < MOST_LISTED);
  return Promise.all([...newest].slice(0, MOST_LISTED).map(async ([conversation, job]) => {
    if (!titles.has(job.id)) titles.set(job.id, await firstPrompt(job, signal));
    return { conversation, job, title: titles.get(job.id) };
  }));
}

// The newest job holds all of its conversation, so the title stays when older jobs are removed.
async function firstPrompt(job, signal) {
  const opening = await messages(job, "asc", 2, signal);  // a system prompt may come first
  return opening.find((message) => message.role === "user")?.content ?? "(removed)";
}
