// Search: words or a picture in, pictures out.

import { ask, bar, element, form, show, worker } from "./ask.js";

const view = document.getElementById("search");
const [words, chip, list, more] = ["words", "query", "results", "more"].map((id) => document.getElementById(id));
const hint = document.getElementById("try");
const said = view.querySelector(".status");
const work = worker(view);
const PAGE = 24;
let query = {}; // text, like, or picture, of what is shown
let names = {}; // of pictures that were shown, by id
let best = 1;

/** Say what a server without an index lacks. */
export function offer(facts) {
  if (facts.pictures !== null) return;
  hint.textContent = "This server has no index of pictures. Make one with “spikeclip index FOLDER” and start it with --db.";
  for (const part of document.getElementById("ask").elements) part.disabled = true;
}

/** Do the search that the address names. */
export function follow(asked) {
  const [text, like] = [asked.get("text"), asked.get("like")];
  if (text ? query.text === text : like ? query.like === like : query.picture) return;
  if (document.activeElement !== words || text) words.value = text ?? "";
  start(text ? { text } : like ? { like } : {});
}

/** Search with a picture file. */
export function byPicture(file) {
  history.replaceState(null, "", "#search");
  words.value = "";
  start({ picture: file });
}

function start(wanted) {
  query = wanted;
  list.replaceChildren();
  more.hidden = true;
  said.textContent = "";
  const asks = Object.keys(query).length > 0;
  hint.hidden = asks;
  chip.hidden = !(query.like || query.picture);
  if (!chip.hidden) {
    const image = chip.querySelector("img");
    if (query.like) show(image, `v1/pictures/${encodeURIComponent(query.like)}?size=96`);
    else image.src = URL.createObjectURL(query.picture);
    chip.querySelector("span").textContent = `More like ${names[query.like] ?? query.picture?.name ?? "this picture"}`;
  }
  if (asks) page();
  else work(async () => {});
}

function page(cursor) {
  const mine = query;
  work(async (signal) => {
    const fields = { limit: PAGE, ...(cursor && { cursor }), ...(mine.text && { text: mine.text }), ...(mine.like && { like: mine.like }) };
    const answer = await ask("v1/search", { method: "POST", body: form(mine.picture, fields), signal });
    const found = await answer.json();
    if (!cursor) best = Math.max(1e-6, found.results[0]?.score ?? 1);
    const tiles = found.results.map(tile);
    list.append(...tiles);
    if (cursor) tiles[0]?.firstChild.focus();
    more.hidden = found.next === null;
    more.onclick = () => page(found.next);
    said.textContent = list.children.length ? "" : "No picture was found.";
  });
}

function tile(found) {
  names[found.id] = found.name;
  const button = element("button", "tile");
  button.type = "button";
  button.title = `${found.name}, ${found.width} × ${found.height}`;
  button.setAttribute("aria-label", `${found.name}, score ${found.score.toFixed(3)}: more like this`);
  const frame = element("span", "frame");
  const image = element("img");
  image.alt = "";
  image.loading = "lazy";
  image.decoding = "async";
  show(image, `v1/pictures/${found.id}`);
  frame.append(image, element("span", "like", "More like this"));
  const line = element("span", "line");
  line.append(element("span", "", found.name), element("b", "", found.score.toFixed(3)));
  button.append(frame, line, bar(found.score / best));
  button.addEventListener("click", () => {
    location.hash = `search?like=${encodeURIComponent(found.id)}`;
    scrollTo({ top: 0 });
  });
  const item = element("li");
  item.append(button);
  return item;
}

document.getElementById("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = words.value.trim();
  const address = text ? `#search?${new URLSearchParams({ text })}` : "#search";
  if (location.hash === address) start(text ? { text } : {});
  else location.hash = address;
});
for (const button of hint.querySelectorAll("button")) {
  button.addEventListener("click", () => (location.hash = `#search?${new URLSearchParams({ text: button.textContent })}`));
}
chip.querySelector("button").addEventListener("click", () => {
  query = {};
  if (location.hash === "#search") start({});
  else location.hash = "search";
  words.focus();
});
