// Requests to the public API with the key of the session.

import { forgetSession, session } from "./session.js";

export class ApiError extends Error {
  // `code` and `issues` ([{loc, msg}] of a 422) are those of the answer.
  constructor(status, message, code, issues = []) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.code = code;
    this.issues = issues;
  }
}

// Return whether a read may succeed when it is tried again: the connection broke, or the server has trouble of its own.
export function mayPass(error) {
  return error instanceof TypeError || (error instanceof ApiError && (error.status === 0 || error.status >= 500));
}

// Return the response; raises ApiError unless it is 2xx or 304.  `body` is sent as JSON, `form` as it is.
export async function send(method, path, { body, form, headers = {}, signal, key } = {}) {
  const used = key ?? session()?.key;
  const sent = { ...headers };
  if (used) sent.Authorization = `Bearer ${used}`;
  if (body !== undefined) sent["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, {
      method, headers: sent, signal, cache: "no-store", credentials: "omit", redirect: "error",
      body: form ?? (body === undefined ? undefined : JSON.stringify(body)),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "The server cannot be reached.", "unreachable");
  }
  if (response.ok || response.status === 304) return response;
  const error = await toError(response);
  if (response.status === 401 && error.code !== "invalid_password" && key === undefined && session()) {
    forgetSession();
    window.dispatchEvent(new CustomEvent("sluice:expired"));
  }
  throw error;
}

async function toError(response) {
  const text = await response.text();
  let found = null;
  try {
    found = JSON.parse(text);
  } catch {
    // a proxy in between may answer with a page
  }
  const message = found?.error?.message ?? `The server answered ${response.status}.`;
  const issues = Array.isArray(found?.detail) ? found.detail : [];
  return new ApiError(response.status, message, found?.error?.code ?? null, issues);
}

async function json(method, path, options) {
  const response = await send(method, path, options);
  return response.status === 204 || response.status === 304 ? null : response.json();
}

export const get = (path, options) => json("GET", path, options);
export const post = (path, body = {}, options = {}) => json("POST", path, { ...options, body });
export const patch = (path, body) => json("PATCH", path, { body });
export const remove = (path) => json("DELETE", path);

// Return `path` with those of the members that have a value; lists are repeated, `metadata` is spelled metadata[name].
export function withQuery(path, members) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(members)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== "" && one !== null && one !== undefined) query.append(name, one);
    }
  }
  const text = query.toString();
  return text ? `${path}?${text}` : path;
}

// Return all rows of a list of the administration.
export async function getAll(path) {
  const rows = [];
  for (;;) {
    const page = await get(withQuery(path, { limit: 100, offset: rows.length }));
    rows.push(...page.data);
    if (page.data.length === 0 || rows.length >= page.total) return rows;
  }
}
