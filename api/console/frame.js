// The frame around every page: skip link, name, menu, who is signed in, colours.

import { button, h } from "./dom.js";
import { remove } from "./http.js";
import { ADMIN_PAGES, PAGES } from "./routes.js";
import { forgetSession, isAdmin, session } from "./session.js";

export function frame(name, main) {
  const skip = h("a", { href: "#content", class: "skip" }, "Skip to the content");
  skip.addEventListener("click", (event) => {
    event.preventDefault();
    main.focus();
  });
  if (!session()) return [skip, h("header", { class: "bar" }, brand(), themeSwitch()), main];
  const menu = h("nav", { id: "menu", "aria-label": "Pages" }, group("Work", PAGES, name), isAdmin() ? group("Administration", ADMIN_PAGES, name) : null);
  const toggle = button("Menu", () => {
    const isOpen = menu.classList.toggle("open");
    toggle.setAttribute("aria-expanded", String(isOpen));
  }, { class: "toggle", "aria-expanded": "false", "aria-controls": "menu" });
  const who = session().user;
  const account = h("div", { class: "account" },
    h("span", { class: "who", title: who.email }, who.name || who.email), button("Sign out", signOut));
  return [skip, h("header", { class: "bar" }, toggle, brand(), account, themeSwitch()), h("div", { class: "columns" }, menu, main)];
}

function brand() {
  return h("a", { href: "#/playground", class: "brand" }, "Sluice");
}

function group(title, pages, current) {
  return h("div", { class: "group" }, h("p", { class: "heading" }, title), h("ul", {}, Object.entries(pages).map(([name, page]) =>
    h("li", {}, h("a", { href: `#/${name}`, "aria-current": name === current ? "page" : null }, page.title)))));
}

// The key of a login is deleted, so that nobody can use it; one that was pasted belongs to its owner and stays.
async function signOut() {
  const { keyId } = session();
  try {
    if (keyId) await remove(`/v1/me/keys/${keyId}`);
  } catch {
    // it ends by itself within the hour
  }
  forgetSession();
  location.hash = "";
  window.dispatchEvent(new CustomEvent("sluice:changed"));
}

function themeSwitch() {
  const root = document.documentElement;
  const select = h("select", { "aria-label": "Colours", class: "theme" },
    h("option", { value: "auto" }, "Auto"), h("option", { value: "light" }, "Light"), h("option", { value: "dark" }, "Dark"));
  select.value = root.dataset.theme ?? "auto";
  select.addEventListener("change", () => {
    if (select.value === "auto") delete root.dataset.theme;
    else root.dataset.theme = select.value;
    try {
      localStorage.setItem("sluice.theme", select.value);
    } catch {
      // then it holds for this page only
    }
  });
  return select;
}
