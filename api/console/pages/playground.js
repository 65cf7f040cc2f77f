// The playground: a conversation with a model, each reply of which is a durable job.

import { button, h, replace } from "../dom.js";
import { TERMINAL, followTurn, listConversations, loadConversation, newConversation, sendPrompt } from "../conversation.js";
import { get, post } from "../http.js";
import { emptyBox, errorBox, showError } from "../notice.js";
import { makeParameters } from "./playground_parameters.js";
import { turnView } from "./playground_turn.js";

export const title = "Playground";

export async function render(main, { rest, signal }) {
  const page = { conversation: rest[0] ?? null, turns: [], running: null, isHeld: false, newest: undefined, signal };
  page.list = h("div", { class: "turns", role: "log", "aria-label": "Conversation", "aria-live": "polite" });
  page.problems = h("div");
  page.history = h("div", { "aria-live": "off" });
  const models = (await get("/v1/models", { signal })).data.filter((model) => /^(text-generation|image-text-to-text)$/.test(model.type));
  page.parameters = makeParameters(models);
  const aside = h("aside", { "aria-label": "Parameters and history" },
    h("section", { class: "panel" }, h("h2", {}, "Parameters"), page.parameters.element),
    h("section", { class: "panel" }, h("h2", {}, "History"), page.history,
      h("p", { class: "hint" }, "Kept by the server as long as the results of these jobs.")));
  main.append(
    h("div", { class: "head" }, h("div", {}, h("h1", { tabindex: "-1" }, title)),
      h("div", { class: "actions" }, button("New conversation", () => startNew(page)))),
    h("div", { class: "chat" }, h("div", { class: "talk" }, page.list, page.problems, writer(page)), aside));
  page.input.focus();
  showHistory(page);
  if (page.conversation) resume(page);
  else showEmpty(page, models);
}

function showEmpty(page, models) {
  replace(page.list, models.length
    ? emptyBox("Write a prompt. The reply streams here, and goes on if you reload the page or lose the connection.")
    : emptyBox("Your role may use no model that writes text. An administrator can grant one to it."));
}

function writer(page) {
  page.input = h("textarea", { id: "prompt", rows: "3", required: true, placeholder: "Ctrl+Enter sends" });
  page.sendButton = h("button", { type: "submit", class: "primary" }, "Send");
  page.stopButton = button("Stop", () => stop(page), { disabled: true });
  page.status = h("span", { class: "muted", role: "status" });
  const form = h("form", { class: "write" }, h("label", { for: "prompt", class: "unseen" }, "Prompt"), page.input,
    h("div", { class: "actions" }, page.sendButton, page.stopButton, page.status));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    submit(page);
  });
  page.input.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  return form;
}

// Nothing is sent while `isHeld`, not by the keyboard either.
function hold(page, isHeld) {
  page.isHeld = isHeld;
  page.sendButton.disabled = isHeld || page.running !== null;
}

async function submit(page) {
  const prompt = page.input.value;
  if (page.isHeld || page.running || !prompt.trim()) return;
  hold(page, true);
  replace(page.problems);
  try {
    const turn = await sendTyped(page, prompt);
    history.replaceState(null, "", `#/playground/${page.conversation}`);
    add(page, turn);
    if (page.newest !== page.conversation) showHistory(page);
    await follow(page, turn);
  } catch (error) {
    if (error.name !== "AbortError") replace(page.problems, errorBox(error));
  } finally {
    hold(page, false);
  }
}

// What is typed meanwhile is the next prompt; one that was not accepted comes back before it.
async function sendTyped(page, prompt) {
  const { model, system, parameters } = page.parameters.read();
  page.conversation ??= newConversation();
  page.input.value = "";
  try {
    return await sendPrompt({ conversation: page.conversation, model, system, turns: page.turns, prompt, parameters });
  } catch (error) {
    page.input.value = [prompt, page.input.value].filter(Boolean).join("\n");
    throw error;
  }
}

function add(page, turn) {
  if (page.turns.length === 0) replace(page.list);
  page.turns.push(turn);
  turn.view = turnView(turn);
  page.list.append(turn.view.element);
}

// Follow the reply that is being made.  Whoever leaves the page leaves only the reading: the job goes on.
async function follow(page, turn) {
  page.running = turn;
  page.stopButton.disabled = false;
  hold(page, false);
  page.status.textContent = "Waiting for the first token …";
  try {
    await followTurn(turn, () => {
      if (turn.text) page.status.textContent = "Receiving …";
      turn.view.update();
      keepInView(turn);
    }, page.signal);
    page.status.textContent = `Reply ${turn.job.status}.`;
  } catch (error) {
    page.status.textContent = "";
    showError(page.problems, error);
  } finally {
    turn.view.update();
    page.running = null;
    page.stopButton.disabled = true;
    hold(page, false);
  }
}

function keepInView(turn) {
  const rest = document.documentElement.scrollHeight - window.innerHeight - window.scrollY;
  if (rest < 160) turn.view.element.scrollIntoView({ block: "end" });
}

async function stop(page) {
  if (!page.running) return;
  page.status.textContent = "Stopping …";
  try {
    await post(`/v1/jobs/${page.running.job.id}/cancel`);
  } catch (error) {
    showError(page.problems, error);
  }
}

// Without its turns nothing may be sent behind them; while they cannot be read the form stays shut.
async function resume(page) {
  hold(page, true);
  page.status.textContent = "Loading the conversation …";
  try {
    await load(page);
  } catch (error) {
    page.status.textContent = "";
    showError(page.problems, error);
    page.problems.append(button("Try again", () => retry(page)));
    return;
  }
  page.status.textContent = "";
  hold(page, false);
  const unfinished = page.turns.find((turn) => !TERMINAL.has(turn.job.status));
  if (unfinished) await follow(page, unfinished);
}

function retry(page) {
  replace(page.problems);
  return resume(page);
}

async function load(page) {
  const { turns, system } = await loadConversation(page.conversation, page.signal);
  if (!turns.length) replace(page.list, emptyBox("This conversation is not there any more. Write a prompt to begin it anew."));
  for (const turn of turns) add(page, turn);
  if (turns.length) page.parameters.set(turns.at(-1).job.model, system);
  for (const turn of turns.filter((one) => TERMINAL.has(one.job.status) && one.job.status !== "completed")) {
    await followTurn(turn, () => {}, page.signal).catch(() => {});  // what was produced until then, if it is still kept
    turn.view.update();
  }
}

async function showHistory(page) {
  try {
    const found = await listConversations(page.signal);
    page.newest = found[0]?.conversation;
    replace(page.history, found.length
      ? h("ul", { class: "history" }, found.map((one) => h("li", {}, h("a", {
        href: `#/playground/${one.conversation}`, title: one.title.slice(0, 300), "aria-current": one.conversation === page.conversation ? "true" : null,
      }, one.title.slice(0, 80)))))
      : h("p", { class: "muted" }, "No conversation yet."));
  } catch (error) {
    showError(page.history, error);
  }
}

function startNew(page) {
  if (page.conversation === null) page.input.focus();
  else location.hash = "#/playground";
}
