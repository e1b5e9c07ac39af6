// What a person does beyond searching; each part is loaded when it is first needed.

import { go, isTyped, made, noAnswer, parse, pathOf, say } from "./page.js";

const main = document.getElementById("main"); // those of page.js are not there yet
const words = document.getElementById("q");

const loaded = new Map();
const WITH_HTML = ["crop", "kept", "keys", "select"];

/** What is only there once this person needs it: its style, and the dialogs of a module. */
async function needed(name) {
  const href = `/static/${name === "view" ? name : "doing"}.css`;
  if (!document.querySelector(`link[href="${href}"]`)) {
    const style = made("link", { rel: "stylesheet", href });
    const isThere = new Promise((resolve) => { style.onload = style.onerror = resolve; });
    document.head.append(style);
    await isThere;
  }
  if (WITH_HTML.includes(name)) {
    document.body.append(...parse(await (await fetch(`/static/${name}.html`)).text()));
  }
  return import(`./${name}.js`);
}

/** A module of this folder; what it offers is its functions. */
export function part(name) {
  if (!loaded.has(name)) {
    loaded.set(name, needed(name).catch((error) => {
      loaded.delete(name);
      say(noAnswer());
      throw error;
    }));
  }
  return loaded.get(name);
}

/** Does something with a module, if it can be had; otherwise that is said. */
export function use(name, act) {
  part(name).catch(() => null).then((it) => it && act(it));
}

for (const [name, value] of Object.entries({
  role: "combobox", "aria-autocomplete": "list", "aria-controls": "completion", "aria-expanded": "false",
})) words.setAttribute(name, value);
words.addEventListener("input", () => use("finding", (it) => it.typed()), { passive: true });
document.addEventListener("pointerover", (event) => {
  const isNear = event.pointerType === "mouse" && navigator.onLine && event.target.closest(".card");
  if (isNear) for (const name of ["select", "view"]) use(name, () => {});
});
document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button && "select" in button.dataset) begin();
  else if (button?.id === "keep") use("kept", (it) => it.open());
  else if (button?.id === "help") use("keys", (it) => it.open());
  else if (button && "teach" in button.dataset) {
    const shown = new URLSearchParams(location.search);
    use("select", (it) => it.teach(shown.getAll("like"), shown.getAll("dislike")));
  }
});

let beginning = null;
function begin() {
  beginning = part("select");
  beginning.then((it) => it.begin()).finally(() => { beginning = null; });
}
/** A picture that is clicked while the selection is on its way is chosen, not opened. */
main.addEventListener("click", (event) => {
  const card = beginning && event.target.closest(".card");
  if (!card) return;
  event.preventDefault();
  event.stopPropagation();
  beginning.then((it) => it.toggle(card, true));
}, true);
document.addEventListener("keydown", (event) => {
  if (event.key !== "x" || isTyped(event)) return;
  const card = document.activeElement.closest(".card");
  use("select", (it) => (card ? it.toggle(card) : it.begin()));
});

// -- what follows when something new is shown --

const showNewest = () => main.querySelector(".timeline")?.scrollTo({ left: 1e6 });
main.addEventListener("load", (event) => event.target.localName === "link" && showNewest(), true); // its style
let waiting = 0;
document.addEventListener("arrived", () => {
  showNewest();
  if (document.getElementById("map")) use("map", (it) => it.draw());
  if (loaded.has("select")) use("select", (it) => it.show());
  clearTimeout(waiting);
  if (main.querySelector("[data-waiting]")) waiting = setTimeout(look, 3000);
});

/** Looks again at what passes by itself, unless this person is doing something. */
async function look() {
  const here = document.activeElement;
  const isBusy = document.querySelector("dialog[open], .more[open], #progress:not([hidden])") || here?.matches("input, select") || document.hidden;
  if (isBusy || window.scrollY > 200) waiting = setTimeout(look, 3000);
  else await go(location.href, { push: false, focus: pathOf(here) });
}
