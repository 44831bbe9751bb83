// Look inside: firing rates, spikes and energy of one picture.

import { ask, bar, element, form, preview, worker } from "./ask.js";

const view = document.getElementById("inside");
const [numbers, shape, found, rates, rate, rasters, levels, how] = ["numbers", "shape", "found", "rates", "rate", "rasters", "levels", "how"]
  .map((id) => document.getElementById(id));
const said = view.querySelector(".status");
const work = worker(view);
const MOST = 6;
let picture = null;
let seen = null; // the answer that is shown
let chosen = []; // names of layers
let place = 0; // of the layer that arrow keys have reached

/** Show a picture and what it does in the network. */
export function look(file) {
  if (!file || file === picture) return;
  picture = file;
  preview(view, file);
  inspect();
}

function inspect() {
  work(async (signal) => {
    try {
      const fields = chosen.length ? { layers: chosen } : {};
      const answer = await ask("v1/inspect", { method: "POST", body: form(picture, fields), signal });
      seen = await answer.json();
    } catch (error) {
      if (!signal.aborted) numbers.hidden = shape.hidden = found.hidden = true;
      throw error;
    }
    chosen = seen.rasters.map((raster) => raster.name);
    draw();
  });
}

function draw() {
  said.textContent = "";
  const count = seen.neurons >= 1e6 ? `${(seen.neurons / 1e6).toFixed(1)} million` : seen.neurons.toLocaleString("en");
  const facts = [
    ["neurons", count],
    ["time steps", String(seen.steps)],
    ["spikes per neuron", seen.rate.toFixed(2)],
    ["activations not 0", `${(100 * seen.density).toFixed(0)} %`],
  ];
  numbers.replaceChildren(
    ...facts.map(([what, value]) => {
      const pair = element("div");
      pair.append(element("dt", "", what), element("dd", "", value));
      return pair;
    }),
  );
  numbers.hidden = shape.hidden = found.hidden = false;
  drawRates();
  drawRasters();
  drawLevels();
}

function drawRates() {
  const most = Math.max(...seen.layers.map((layer) => layer.rate), 1e-9);
  rates.tabIndex = 0;
  rates.replaceChildren(
    ...seen.layers.map((layer, i) => {
      const column = element("span");
      column.id = `layer-${i}`;
      column.setAttribute("role", "option");
      column.setAttribute("aria-selected", String(chosen.includes(layer.name)));
      column.setAttribute("aria-label", words(layer));
      const fill = element("i");
      fill.style.height = `${(100 * layer.rate) / most}%`;
      column.append(fill);
      column.addEventListener("pointerenter", () => (rate.textContent = words(layer)));
      column.addEventListener("click", () => {
        place = i;
        mark();
        toggle(layer.name);
      });
      return column;
    }),
  );
  mark();
}

function mark() {
  place = Math.min(place, seen.layers.length - 1);
  [...rates.children].forEach((column, i) => column.classList.toggle("now", i === place));
  rates.setAttribute("aria-activedescendant", `layer-${place}`);
  rate.textContent = words(seen.layers[place]);
}

function words(layer) {
  return `${layer.name}: ${layer.rate.toFixed(2)} of at most ${layer.highest} spikes, ${(100 * layer.density).toFixed(0)} % not zero, ${layer.shape.join(" × ")} neurons`;
}

function toggle(name) {
  if (chosen.includes(name)) {
    if (chosen.length === 1) return;
    chosen = chosen.filter((other) => other !== name);
  } else {
    chosen = [...chosen, name].slice(-MOST);
  }
  const order = seen.layers.map((layer) => layer.name);
  chosen.sort((a, b) => order.indexOf(a) - order.indexOf(b));
  inspect();
}

rates.addEventListener("keydown", (event) => {
  const last = seen.layers.length - 1;
  const next = { ArrowRight: place + 1, ArrowLeft: place - 1, Home: 0, End: last }[event.key];
  if (next !== undefined) {
    event.preventDefault();
    place = Math.min(last, Math.max(0, next));
    mark();
  } else if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    toggle(seen.layers[place].name);
  }
});

function drawRasters() {
  const highest = Math.max(...seen.rasters.map((raster) => raster.highest));
  const signed = seen.rasters.some((raster) => raster.signed);
  how.textContent =
    `Left, ${seen.rasters[0].rows.length} neurons side by side, time upwards: a mark is a spike` +
    (highest > 1 ? ", and n spikes of one time step fill its first n sub-steps" : "") +
    (signed ? "; blue spikes come from OFF neurons, which count as negative" : "") +
    ". Right, where on the picture the layer fires more.";
  rasters.replaceChildren(...seen.rasters.map(card));
  paint();
}

function card(raster) {
  const layer = seen.layers.find((other) => other.name === raster.name);
  const made = element("figure", "card");
  made.append(element("h3", "", raster.name));
  made.append(element("p", "", `${layer.shape.join(" × ")}, ${layer.rate.toFixed(2)} spikes per neuron and step`));
  const both = element("div", raster.map ? "draw" : "draw flat");
  for (const what of raster.map ? ["raster", "map"] : ["raster"]) {
    const canvas = element("canvas", what);
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", what === "raster" ? `Spikes of ${raster.name}` : `Where ${raster.name} fires more`);
    both.append(canvas);
  }
  made.append(both);
  return made;
}

function paint() {
  const style = getComputedStyle(document.documentElement);
  const [warm, cool, fill] = ["--warm", "--cool", "--fill"].map((name) => rgb(style.getPropertyValue(name).trim()));
  seen.rasters.forEach((raster, i) => {
    const { rows, highest } = raster;
    const steps = rows[0].length;
    pixels(rasters.children[i].querySelector(".raster"), rows.length, steps * highest, (x, y) => {
      const n = rows[x][steps - 1 - Math.floor(y / highest)];
      return Math.abs(n) > highest - 1 - (y % highest) ? (n > 0 ? warm : cool) : null;
    });
    if (!raster.map) return;
    const [least, most] = [Math.min(...raster.map.flat()), Math.max(...raster.map.flat())];
    pixels(rasters.children[i].querySelector(".map"), raster.map[0].length, raster.map.length, (x, y) => {
      const share = (raster.map[y][x] - least) / Math.max(most - least, 1e-9);
      return fill.map((part, c) => part + (warm[c] - part) * share);
    });
  });
}

function pixels(canvas, width, height, colour) {
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const found = colour(x, y);
      if (found) image.data.set([...found, 255], 4 * (y * width + x));
    }
  }
  context.putImageData(image, 0, 0);
}

function rgb(hex) {
  return [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
}

function drawLevels() {
  const cards = Object.entries(seen.levels).map(([level, meaning]) => {
    const made = element("section", "card");
    made.append(element("h3", "", level), element("p", "", meaning));
    const rows = seen.energy.filter((row) => level in row.joules);
    const most = Math.max(...rows.map((row) => row.joules[level]));
    for (const row of rows) {
      const line = element("div", row.spiking ? "bar spiking" : "bar");
      line.append(element("span", "", row.network), element("span", "amount", row.shown[level]), bar(row.joules[level] / most));
      made.append(line);
    }
    const sentence = seen.sentences.find((text) => text.startsWith(`${level},`));
    if (sentence) made.append(element("p", "said", `With int8 weights: ${sentence.slice(sentence.lastIndexOf(":") + 2)}`));
    return made;
  });
  levels.replaceChildren(...cards);
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => seen && paint());
