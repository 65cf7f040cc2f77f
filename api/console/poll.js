// Reading something again until it is over.

import { get, mayPass, send } from "./http.js";
import { pause } from "./follow.js";

// Call `onChange` with what is at `path`, and again whenever it changes, until `isOver` says so.  The server is asked with
// the version that is known and answers once there is another one, or 304.
export async function watchVersions(path, onChange, isOver, signal) {
  let etag = null;
  for (;;) {
    const headers = etag === null ? {} : { "If-None-Match": etag };
    const begun = Date.now();
    const response = await patiently(() => send("GET", etag === null ? path : `${path}?wait=20`, { headers, signal }), signal);
    if (response.status !== 304) {
      etag = response.headers.get("ETag");
      const found = await response.json();
      onChange(found);
      if (isOver(found)) return found;
    }
    if (Date.now() - begun < 500) await pause(500, signal);
  }
}

// Whoever looks on is not bothered with a server that starts again.
async function patiently(action, signal) {
  for (;;) {
    try {
      return await action();
    } catch (error) {
      if (!mayPass(error)) throw error;
      await pause(2000, signal);
    }
  }
}

// The same for what has no version: it is read every `ms`.
export async function watch(path, onChange, isOver, signal, ms = 1500) {
  for (;;) {
    const found = await patiently(() => get(path, { signal }), signal);
    onChange(found);
    if (isOver(found)) return found;
    await pause(ms, signal);
  }
}

// Read a list again: every 2 s while `isLive` says of one of its rows that it moves, else every 10 s.
export function keepFresh(list, isLive, signal, more = () => {}) {
  let ticks = 0;
  const isWanted = () => {
    ticks += 1;
    return ticks % 5 === 0 || list.rows.some(isLive);
  };
  every(2000, () => Promise.all([list.refresh(), more()]), isWanted, signal);
}

// Call `action` every `ms` while the page is looked at and `isWanted` says so.
export async function every(ms, action, isWanted, signal) {
  for (;;) {
    try {
      await pause(ms, signal);
    } catch {
      return;
    }
    if (!document.hidden && isWanted()) await action();
  }
}
