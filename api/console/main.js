// The start: the frame around the pages, and which page an address shows.

import { h, replace } from "./dom.js";
import { closeDialogs, dialogLayer } from "./dialog.js";
import { frame } from "./frame.js";
import { errorBox, noticeRegion } from "./notice.js";
import { ADMIN_PAGES, PAGES } from "./routes.js";
import { isAdmin, session } from "./session.js";
import * as signIn from "./pages/sign_in.js";

const app = h("div");
let current = new AbortController();

async function show(message) {
  current.abort();
  current = new AbortController();
  const signal = current.signal;
  const { name, rest, query } = address();
  const page = session() ? choose(name) : signIn;
  document.title = `${page.title} · Sluice`;
  const main = h("main", { id: "content", tabindex: "-1", "aria-busy": "true" });
  closeDialogs();
  replace(app, frame(name, main));
  try {
    await page.render(main, { rest, query, signal, message });
  } catch (error) {
    if (error.name !== "AbortError" && !signal.aborted) main.append(errorBox(error));
  }
  main.setAttribute("aria-busy", "false");
  if (!signal.aborted && session() && !main.contains(document.activeElement)) main.querySelector("h1")?.focus();
}

function choose(name) {
  const page = PAGES[name] ?? (isAdmin() ? ADMIN_PAGES[name] : undefined);
  return page ?? { title: "Not found", render: notFound };
}

function notFound(main) {
  main.append(h("h1", { tabindex: "-1" }, "Not found"), h("p", {}, "There is no such page, or it is for administrators."));
}

// "#/jobs/job_1?status=failed" is the page `jobs` with the rest ["job_1"] and a query.
function address() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...rest] = path.split("/").map(decode);
  return { name: name || "playground", rest: rest.filter(Boolean), query: new URLSearchParams(query) };
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

document.body.append(app, dialogLayer(), noticeRegion());
window.addEventListener("hashchange", () => show());
window.addEventListener("sluice:expired", () => show("Your session has ended. Sign in again to go on where you were."));
window.addEventListener("sluice:changed", () => show());
show();
