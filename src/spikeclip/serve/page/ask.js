// Requests to the server this page came from, and the one place where a refusal becomes a sentence.

let token = sessionStorage.getItem("token");

/** Send a request; returns the answer, or throws an Error with the server's sentence. */
export async function ask(address, options = {}) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  let answer;
  try {
    answer = await fetch(address, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer. Is it still running?");
  }
  if (answer.status === 401) {
    token = await askForToken(Boolean(headers.Authorization));
    sessionStorage.setItem("token", token);
    return ask(address, options);
  }
  if (!answer.ok) {
    const said = await answer.json().catch(() => ({ error: `The server answered ${answer.status}.` }));
    throw new Error(said.error);
  }
  return answer;
}

/** Return a form with a picture and other fields; a list is a field for each of its values. */
export function form(picture, fields = {}) {
  const data = new FormData();
  if (picture) data.append("picture", picture);
  for (const [name, value] of Object.entries(fields)) {
    for (const part of [value].flat()) data.append(name, part);
  }
  return data;
}

/** Show a picture of the server in an <img>; with a token, which an <img> cannot send, by way of a request. */
export async function show(image, address) {
  image.addEventListener("load", () => image.classList.add("there"), { once: true });
  if (!token) {
    image.src = address;
    return;
  }
  const answer = await ask(address).catch(() => null);
  if (answer) image.src = URL.createObjectURL(await answer.blob());
}

let asking = null;

function askForToken(again) {
  asking ??= new Promise((resolve) => {
    const dialog = document.getElementById("token");
    const input = dialog.querySelector("input");
    input.value = "";
    document.getElementById("token-title").textContent = again
      ? "That is not the token of this server"
      : "This server wants its token";
    dialog.addEventListener("close", () => {
      asking = null;
      resolve(input.value);
    }, { once: true });
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    dialog.showModal();
  });
  return asking;
}

/** Return a new element with a class and a text. */
export function element(tag, name = "", text = "") {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text) made.textContent = text;
  return made;
}

/** Return a bar of a share between 0 and 1. */
export function bar(share) {
  const track = element("span", "track");
  const fill = element("i");
  fill.style.width = `${100 * Math.min(1, Math.max(0, share))}%`;
  track.append(fill);
  return track;
}

/** Show a picture file where it can be dropped; one that the browser cannot read leaves the place empty. */
export function preview(view, file) {
  const image = view.querySelector(".drop img");
  image.hidden = true;
  image.onload = () => (image.hidden = false);
  URL.revokeObjectURL(image.src);
  image.src = URL.createObjectURL(file);
}

/**
 * Let a view do one thing at a time: a new one ends the one before. A line moves at the top meanwhile, and what goes
 * wrong is shown as one sentence.
 */
export function worker(view) {
  const error = view.querySelector(".error");
  let current = null;
  return async (work) => {
    current?.abort();
    const mine = (current = new AbortController());
    view.classList.add("busy");
    view.setAttribute("aria-busy", "true");
    error.hidden = true;
    try {
      await work(mine.signal);
    } catch (problem) {
      if (mine.signal.aborted) return;
      error.textContent = problem.message.replace(/^./, (first) => first.toUpperCase());
      error.hidden = false;
    } finally {
      if (mine === current) {
        view.classList.remove("busy");
        view.removeAttribute("aria-busy");
      }
    }
  };
}
