// The frame: views, and pictures that are dropped, pasted or chosen.

import * as inside from "./inside.js";
import * as name from "./name.js";
import * as search from "./search.js";

const views = { search, name, inside };
const tabs = Object.fromEntries(Object.keys(views).map((view) => [view, document.getElementById(`tab-${view}`)]));
let shown = "search";
let picture = null; // the one that "name it" and "look inside" share

function open(view) {
  shown = view;
  for (const [other, tab] of Object.entries(tabs)) {
    tab.setAttribute("aria-selected", String(other === view));
    tab.tabIndex = other === view ? 0 : -1;
    document.getElementById(other).hidden = other !== view;
  }
  if (view !== "search") views[view].look(picture);
}

function follow() {
  const [view, query] = location.hash.slice(1).split("?");
  open(view in views ? view : "search");
  if (shown === "search") search.follow(new URLSearchParams(query ?? ""));
}

function take(file) {
  if (!file) return;
  if (shown === "search") {
    search.byPicture(file);
    return;
  }
  picture = file;
  views[shown].look(picture);
}

for (const [view, tab] of Object.entries(tabs)) {
  tab.addEventListener("click", () => (location.hash = view));
  tab.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const names = Object.keys(views);
    const next = names[(names.indexOf(view) + step + names.length) % names.length];
    location.hash = next;
    tabs[next].focus();
  });
}
for (const input of document.querySelectorAll("input[type=file]")) {
  input.addEventListener("change", () => {
    take(input.files[0]);
    input.value = "";
  });
}
addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dragged");
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dragged");
});
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dragged");
  take(event.dataTransfer.files[0]);
});
addEventListener("paste", (event) => take(event.clipboardData.files[0]));
addEventListener("hashchange", follow);

async function start() {
  const answer = await fetch("readyz").catch(() => null);
  const facts = answer ? await answer.json() : null;
  if (!facts) return;
  const count = facts.pictures === null ? "" : ` · ${facts.pictures.toLocaleString("en")} pictures`;
  document.getElementById("facts").textContent = facts.model + count;
  search.offer(facts);
}

start();
follow();
