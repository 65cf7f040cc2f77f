// The events of a job as the API sends them, over fetch, since an EventSource cannot send a key.  A connection that breaks
// is opened again behind the last event that was seen.

import { ApiError, mayPass, send } from "./http.js";

const TERMINAL = new Set(["job.completed", "job.incomplete", "job.failed", "job.cancelled", "job.expired"]);
const TRIES = 6;

// Call `onEvent({event, data})` for each event from the first on; returns the job once it is over, null if its end was
// seen before.  Raises ApiError, or AbortError once `signal` fires.
export async function followJob(jobId, onEvent, signal) {
  let last = null;
  let failures = 0;
  for (;;) {
    try {
      const headers = { Accept: "text/event-stream" };
      if (last !== null) headers["Last-Event-ID"] = last;
      const response = await send("GET", `/v1/jobs/${encodeURIComponent(jobId)}/events`, { headers, signal });
      if (response.status === 204) return null;
      for await (const frame of frames(response.body)) {
        failures = 0;
        last = frame.id ?? last;
        if (frame.data === "") continue;
        const data = JSON.parse(frame.data);
        onEvent({ event: frame.event, data });
        if (TERMINAL.has(frame.event)) return data.job;
      }
      failures += 1;
    } catch (error) {
      failures += 1;
      if (!mayPass(error) || failures >= TRIES) throw error;
    }
    if (failures >= TRIES) throw new ApiError(0, "The stream broke off.", "stream_broken");
    await pause(300 * 2 ** failures, signal);
  }
}

// Wait; raises AbortError at once if `signal` fires.
export function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(new DOMException("stopped", "AbortError"));
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, ms);
    if (signal?.aborted) stop();
    else signal?.addEventListener("abort", stop, { once: true });
  });
}

// Yield {id, event, data} of a text/event-stream; comments are left out.
async function* frames(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      rest += value;
      let end;
      while ((end = rest.indexOf("\n\n")) >= 0) {
        const frame = parse(rest.slice(0, end));
        rest = rest.slice(end + 2);
        if (frame) yield frame;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function parse(text) {
  const frame = { id: null, event: null, data: null };
  for (const line of text.split("\n")) {
    const colon = line.indexOf(":");
    if (colon <= 0) continue;
    const name = line.slice(0, colon);
    const value = line.slice(colon + 1).replace(/^ /, "");
    if (name === "data") frame.data = frame.data === null ? value : `${frame.data}\n${value}`;
    else if (name === "id" || name === "event") frame[name] = value;
  }
  return frame.data === null ? null : frame;
}
