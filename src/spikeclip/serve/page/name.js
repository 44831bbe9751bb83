// Name it: which of your labels fits a picture.

import { ask, bar, element, form, preview, worker } from "./ask.js";

const view = document.getElementById("name");
const [labels, prompt, scores] = ["labels", "prompt", "scores"].map((id) => document.getElementById(id));
const said = view.querySelector(".status");
const work = worker(view);
let picture = null;
let last = ""; // what was asked, so that coming back asks nothing anew

/** Show a picture and name it. */
export function look(file) {
  if (!file) {
    said.textContent = "The bars of your labels appear here.";
    return;
  }
  if (file !== picture) {
    picture = file;
    last = "";
    preview(view, file);
  }
  classify();
}

function classify() {
  const asked = `${labels.value}\n${prompt.value}`;
  if (!picture || asked === last) return;
  last = asked;
  work(async (signal) => {
    said.textContent = "";
    const fields = { labels: labels.value.replaceAll("\n", ","), top: 20, ...(prompt.value.trim() && { templates: prompt.value }) };
    try {
      const answer = await ask("v1/classify", { method: "POST", body: form(picture, fields), signal });
      draw((await answer.json()).scores);
    } catch (error) {
      if (!signal.aborted) scores.replaceChildren();
      throw error;
    }
  });
}

function draw(found) {
  scores.replaceChildren(
    ...found.map(({ label, score }) => {
      const item = element("li");
      const percent = `${(100 * score).toFixed(1)} %`;
      item.append(element("span", "", label), bar(score), element("span", "amount", percent));
      return item;
    }),
  );
}

let waiting;
for (const field of [labels, prompt]) {
  field.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(classify, 350);
  });
}
