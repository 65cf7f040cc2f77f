// Runs before the page is drawn, so that a chosen theme does not flash.  "auto" follows the system.
"use strict";
{
  let theme = "auto";
  try {
    theme = localStorage.getItem("sluice.theme") ?? "auto";
  } catch {
    // storage may be forbidden; the system's colours are fine
  }
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
}
