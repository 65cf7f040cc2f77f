// Answers as files on the visitor's disk.

import { ApiError, send } from "./http.js";
import { bytes } from "./format.js";
import { notify } from "./notice.js";

const MOST_HELD_BYTES = 100e6;
const ENDINGS = {
  "application/json": "json", "text/plain": "txt", "audio/mpeg": "mp3", "audio/ogg": "opus", "audio/aac": "aac", "audio/flac": "flac",
  "audio/wav": "wav", "audio/pcm": "pcm",
};

// Save an answer whose kind is known only when it is there: the name ends accordingly.
export async function downloadAny(path, name) {
  const response = await request(path);
  const type = response.headers.get("Content-Type")?.split(";")[0].trim();
  return save(response, path, `${name}.${ENDINGS[type] ?? "bin"}`);
}

// Save an answer that is held in memory until it is whole.  One with more than `mostBytes` is not: its error has the command that
// fetches it.
export async function download(path, filename, accept, mostBytes = MOST_HELD_BYTES) {
  return save(await request(path, accept), path, filename, accept, mostBytes);
}

async function save(response, path, filename, accept, mostBytes = MOST_HELD_BYTES) {
  const held = await unbroken(readAtMost(response, mostBytes));
  if (held === null) {
    throw Object.assign(new Error(`This is more than ${bytes(mostBytes)}, too much for this browser to hold. Fetch it with a key of yours:`),
      { command: curl(path, filename, accept) });
  }
  const url = URL.createObjectURL(held);
  const anchor = document.createElement("a");
  anchor.href = url;
  anchor.download = filename;
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

// Save an answer of any size: piece by piece where the browser can write files (Chromium, over HTTPS or on this machine).
// The file is asked for first, since a browser allows that only as long as the click is fresh.
export async function downloadLarge(path, filename, accept) {
  if (!window.showSaveFilePicker) return download(path, filename, accept);
  const file = await window.showSaveFilePicker({ suggestedName: filename });
  const response = await request(path, accept);
  await unbroken(response.body.pipeTo(await file.createWritable()));
  return notify(`${file.name} is saved.`);
}

const request = (path, accept) => send("GET", path, { headers: accept ? { Accept: accept } : {} });

// Return a Blob, or null as soon as there is more.
async function readAtMost(response, mostBytes) {
  const reader = response.body.getReader();
  const pieces = [];
  let size = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return new Blob(pieces, { type: response.headers.get("Content-Type") ?? "" });
    size += value.length;
    if (size > mostBytes) {
      await reader.cancel();
      return null;
    }
    pieces.push(value);
  }
}

async function unbroken(promise) {
  try {
    return await promise;
  } catch (error) {
    if (error instanceof TypeError) throw new ApiError(0, "The connection broke before the end; nothing was saved.", "unreachable");
    throw error;
  }
}

function curl(path, filename, accept) {
  const kind = accept ? ` -H 'Accept: ${accept}'` : "";
  return `curl -f -o ${filename} -H "Authorization: Bearer $SLUICE_KEY"${kind} '${new URL(path, location.href).href.replaceAll("'", "%27")}'`;
}
