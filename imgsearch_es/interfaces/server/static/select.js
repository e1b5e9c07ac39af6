// Several pictures at once: chosen by a box, by Shift and a click, or by keys; and what to do with them.

import { ask, busy, changed, copy, go, made, main, post, say } from "./page.js";

const MOST_EXAMPLES = 64;
const MOST_FILES = 200;
const chosen = new Map(); // by id: where its file is, and its name; in the order of choosing
let last = null;
let isOn = false;

const bar = document.getElementById("selection");
const many = (count) => `${count} ${count === 1 ? "picture" : "pictures"}`;
const cards = () => [...main.querySelectorAll(".card[data-id]")];
const nameOf = (card) => card.querySelector(".name bdi").textContent;

/** Boxes are shown on all pictures until the selection ends. */
export function begin() {
  isOn = !isOn || chosen.size > 0;
  if (!isOn) return end();
  show();
  if (matchMedia("(hover: hover)").matches) say("Choose pictures; with Shift all between two.");
}

export function toggle(card, on = !chosen.has(card.dataset.id)) {
  if (on) chosen.set(card.dataset.id, { uri: card.dataset.uri, name: nameOf(card) });
  else chosen.delete(card.dataset.id);
  last = card.dataset.id;
  isOn = isOn || chosen.size > 0;
  show();
}

function end() {
  chosen.clear();
  isOn = false;
  show();
}

/** Marks what is chosen on what is shown now. */
export function show() {
  main.classList.toggle("selecting", isOn);
  for (const card of cards()) {
    let box = card.querySelector(".choose input");
    if (!box) {
      box = made("input", { type: "checkbox", ariaLabel: `Select ${nameOf(card)}` });
      card.append(made("label", { className: "choose" }, box));
    }
    box.checked = chosen.has(card.dataset.id);
    card.classList.toggle("chosen", box.checked);
  }
  bar.hidden = !isOn;
  document.getElementById("selected").textContent = chosen.size ? `${many(chosen.size)} selected` : "None selected";
  for (const button of bar.querySelectorAll("[data-do]")) {
    button.disabled = !chosen.size && !["all", "none"].includes(button.dataset.do);
  }
}

/** All pictures between the last one that was chosen and this one. */
function range(card, on) {
  const all = cards();
  const [from, to] = [all.findIndex((one) => one.dataset.id === last), all.indexOf(card)];
  const between = from < 0 ? [card] : all.slice(Math.min(from, to), Math.max(from, to) + 1);
  for (const one of between) toggle(one, on);
}

main.addEventListener("click", (event) => {
  const card = event.target.closest(".card");
  const box = event.target.closest(".choose");
  const picks = card && (box || (isOn && event.target.closest(".picture")));
  if (!picks || (box && event.target.tagName !== "INPUT")) return;
  if (!box) event.preventDefault();
  event.stopPropagation();
  const on = !chosen.has(card.dataset.id);
  if (event.shiftKey) range(card, on);
  else toggle(card, on);
}, true);
main.addEventListener("mousedown", (event) => {
  if (event.shiftKey && isOn && event.target.closest(".card")) event.preventDefault(); // selects no text
});
document.addEventListener("keydown", (event) => {
  if (!isOn || event.target.closest("input:not([type=checkbox]), select, textarea, dialog[open]")) return;
  if (event.key === "Escape") end();
  else if (event.key === "a" && (event.ctrlKey || event.metaKey)) {
    for (const card of cards()) toggle(card, true);
    event.preventDefault();
  }
});

// -- what to do with them --

const ids = () => [...chosen.keys()];

/** Asks for a change; gives the answer, or null where it failed and was said. */
async function change(path, body, problem = null) {
  busy(true);
  try {
    const response = await post(path, body);
    const answer = await response.json();
    if (response.ok) return answer;
    const message = answer.error.message;
    if (problem) problem.textContent = message;
    else say(message);
  } catch (error) {
    if (error.name !== "AbortError") say(error.message || "The server does not answer.");
  } finally {
    busy(false);
  }
  return null;
}

async function again(text) {
  await go(location.href, { push: false, focus: "#results" });
  say(text);
}

function asked(dialog, count = chosen.size) {
  document.getElementById(`${dialog}-count`).textContent = many(count);
  document.getElementById(`${dialog}-problem`).textContent = "";
  document.getElementById(dialog).showModal();
}

let examples = {};
/** Asks for a word that pictures show, and others do not. */
export function teach(like, unlike = []) {
  examples = { like, unlike };
  asked("teach", like.length);
}

async function save(response, name) {
  if (!response.ok) return say((await response.json()).error.message);
  follow(URL.createObjectURL(await response.blob()), name);
}

function follow(url, name) {
  made("a", { href: url, download: name }).click();
  if (url.startsWith("blob:")) setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

async function download() {
  const one = chosen.size === 1;
  const url = one ? `/api/v1/documents/${ids()[0]}/picture` : `/api/v1/download?${ids().map((id) => `picture=${id}`).join("&")}`;
  const name = one ? [...chosen.values()][0].name : "pictures.zip";
  if (!("locked" in document.body.dataset)) return follow(url, name);
  busy(true);
  try {
    await save(await ask(url), name);
  } finally {
    busy(false);
  }
}

const ACTS = {
  all: () => cards().forEach((card) => toggle(card, true)),
  none: end,
  like: () => go(changed({ like: ids().slice(0, MOST_EXAMPLES) }), { focus: "#results" }).then(end),
  label: () => asked("label"),
  teach: () => teach(ids().slice(0, MOST_EXAMPLES)),
  remove: () => asked("remove"),
  paths: () => copy([...chosen.values()].map((one) => one.uri).join("\n"), `${chosen.size} ${chosen.size === 1 ? "path" : "paths"} copied`, "Copy these:"),
  download: () => (chosen.size > MOST_FILES ? say(`Download at most ${MOST_FILES} at a time.`) : download()),
};
bar.addEventListener("click", (event) => {
  const button = event.target.closest("[data-do]");
  if (button) ACTS[button.dataset.do]();
});

/** A form in a dialog that changes the selected pictures. */
function form(id, send) {
  const dialog = document.getElementById(id);
  dialog.querySelector("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const problem = document.getElementById(`${id}-problem`);
    problem.textContent = "";
    event.submitter.disabled = true;
    const said = await send(new FormData(event.target), problem).finally(() => { event.submitter.disabled = false; });
    if (!said) return;
    dialog.close();
    event.target.reset();
    end();
    await (said.url ? go(said.url).then(() => say(said.text)) : again(said.text));
  });
}

const names = (text) => text.split(",").map((one) => one.trim()).filter(Boolean);
form("label", async (given, problem) => {
  const body = { pictures: ids(), add: names(given.get("add")), drop: names(given.get("drop")) };
  if (!body.add.length && !body.drop.length) {
    problem.textContent = "Give a label to add or to take away.";
    return null;
  }
  const answer = await change("/api/v1/documents/label", body, problem);
  return answer && { text: `${many(answer.changed)} labeled` };
});
form("teach", async (given, problem) => {
  const answer = await change("/api/v1/words", { word: given.get("word").trim(), ...examples }, problem);
  return answer && {
    text: `Taught ${answer.name}: ${many(answer.pictures)} have it.`,
    url: changed({ q: `"${answer.name}"`, image: null, region: null, like: null, dislike: null }),
  };
});
form("remove", async (_, problem) => {
  const answer = await change("/api/v1/documents/remove", { pictures: ids() }, problem);
  return answer && { text: `${many(answer.removed)} removed from the index; the files stay.` };
});

show();
