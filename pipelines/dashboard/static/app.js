// Keys, the live page, and submitting filters when they change. Every page works without it.
"use strict";

const inField = (event) =>
  event.target.closest("input, select, textarea") !== null || event.ctrlKey || event.metaKey || event.altKey;

const rows = () => Array.from(document.querySelectorAll("[data-row]"));

function step(by) {
  const all = rows();
  if (!all.length) return;
  const at = all.indexOf(document.activeElement.closest("[data-row]"));
  const next = all[Math.min(all.length - 1, Math.max(0, at < 0 ? 0 : at + by))];
  next.focus();
  next.scrollIntoView({ block: "nearest" });
}

const click = (selector) => {
  const found = document.querySelector(selector);
  if (found) found.click();
  return found !== null;
};

const KEYS = {
  j: () => step(1),
  k: () => step(-1),
  "/": () => { const field = document.querySelector("[name=q]"); if (field) field.focus(); },
  n: () => click("[rel=next]"),
  p: () => click("[rel=prev]"),
  u: () => click("[data-up]"),
  g: () => click("[data-mark=good]"),
  b: () => click("[data-mark=bad]"),
  x: () => click("[data-mark='']"),
  "?": () => { const box = document.querySelector("#keys"); if (box) box.open = !box.open; },
};

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") { event.target.blur(); return; }
  if (inField(event) || !(event.key in KEYS)) return;
  event.preventDefault();
  KEYS[event.key]();
});

document.addEventListener("change", (event) => {
  const form = event.target.closest("form[data-instant]");
  if (form && event.target.matches("select")) form.requestSubmit();
});

const live = document.querySelector("[data-live]");
if (live) {
  let wait = 2000;
  const again = async () => {
    try {
      const answer = await fetch(live.dataset.live, { headers: { accept: "text/html" } });
      if (answer.ok && !document.hidden) live.innerHTML = await answer.text();
      wait = 2000;
    } catch { wait = Math.min(30000, wait * 2); }
    live.dataset.seen = String(Number(live.dataset.seen || 0) + 1);
    if (!live.querySelector("[data-over]")) setTimeout(again, wait);
  };
  setTimeout(again, wait);
}

// An index that is being made: look again, unless somebody is typing or has chosen a row.
if (document.querySelector("[data-busy]")) {
  setInterval(() => { if (document.activeElement === document.body) location.reload(); }, 2000);
}
