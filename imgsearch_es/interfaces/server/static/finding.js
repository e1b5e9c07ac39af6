// Completion of the last words: an editable combobox with a list, as the ARIA practices guide has it
// (https://www.w3.org/WAI/ARIA/apg/patterns/combobox/).

import { ask, made, words } from "./page.js";

const KINDS = { word: "", taught: "taught word", label: "label", file: "file", field: "field" };
const list = document.getElementById("completion");

let found = [];
let active = -1;
let typedIn = []; // of what is being completed: the last three words, two and one
let waiting = 0;
let asking = new AbortController();

/** The last so many words: what is before them, a sign, and they, which may be a phrase. */
function last(line, many) {
  const more = `(?:[^\\s":]+\\s+){${many - 1}}[^\\s"${many > 1 ? ":" : ""}]{2,}`;
  const [, before, sign, phrase] = line.match(new RegExp(`^(|.*[\\s"])([-+]?)(${more})$`, "su")) ?? [];
  return phrase && { before, sign, phrase };
}

/** What was typed is completed, when this person pauses. */
export function typed() {
  clearTimeout(waiting);
  const found = [3, 2, 1].map((many) => last(words.value, many)).filter(Boolean);
  if (!found.length || words.selectionStart !== words.value.length) return close();
  waiting = setTimeout(() => fetched(found), 120);
}

async function fetched(phrases) {
  asking.abort();
  asking = new AbortController();
  const word = phrases[0].phrase;
  try {
    const response = await ask(`/api/v1/suggest?${new URLSearchParams({ word })}`, { signal: asking.signal });
    const answer = await response.json();
    if (!response.ok || document.activeElement !== words) return;
    found = answer.map((one) => (typeof one === "string" ? { text: one, kind: "word", count: null } : one));
  } catch {
    return;
  }
  typedIn = phrases;
  show();
}

function show() {
  list.replaceChildren(...found.map(option));
  list.hidden = !found.length;
  words.setAttribute("aria-expanded", String(!list.hidden));
  choose(-1);
}

function option(one, place) {
  const parts = [["bdi", one.text], ["small", KINDS[one.kind] ?? one.kind], ["i", one.count === null ? "" : one.count.toLocaleString("en")]];
  const shown = parts.filter(([, text]) => text).map(([name, text]) => made(name, {}, text));
  return made("li", { id: `completion-${place}`, role: "option", ariaSelected: "false" }, ...shown);
}

function choose(place) {
  active = place;
  [...list.children].forEach((item, i) => item.setAttribute("aria-selected", String(i === place)));
  if (place < 0) return words.removeAttribute("aria-activedescendant");
  words.setAttribute("aria-activedescendant", `completion-${place}`);
  list.children[place].scrollIntoView({ block: "nearest" });
}

function close() {
  clearTimeout(waiting);
  asking.abort();
  found = [];
  list.hidden = true;
  words.setAttribute("aria-expanded", "false");
  words.removeAttribute("aria-activedescendant");
  active = -1;
}

const quoted = (text) => (/^"|^[^\s",*?^<>:]+$/.test(text) ? text : `"${text.replace(/["\\]/g, "\\$&")}"`);

/** Puts a completion into the line; one that is whole can be searched for at once. */
function take(place, search) {
  const { text, kind } = found[place];
  const isBegun = text.endsWith(":"); // a field, whose value comes next
  const isPart = ({ phrase }) => text.toLowerCase().includes(phrase.toLowerCase().replace(/\s+/g, " "));
  const { before, sign } = typedIn.find(isPart) ?? typedIn.at(-1);
  const opened = before.endsWith('"') && !isBegun; // a quotation, which ends with this
  const isOne = kind === "taught" || (kind === "word" && (sign || opened)); // else several words would be several
  words.value = before.slice(0, before.length - opened) + sign + (isOne ? quoted(text) : text) + (isBegun || search ? "" : " ");
  close();
  words.focus();
  if (isBegun) typed();
  else if (search) words.form.requestSubmit();
}

words.addEventListener("keydown", (event) => {
  const count = found.length;
  if (event.key === "ArrowDown" && list.hidden) typed();
  if (list.hidden || !count) return;
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    const step = event.key === "ArrowDown" ? 1 : -1;
    choose(active < 0 && step < 0 ? count - 1 : active + step >= count ? -1 : Math.max(-1, active + step));
  } else if (event.key === "Enter" && active >= 0) take(active, true);
  else if (event.key === "Tab" && active >= 0) take(active, false);
  else if (event.key === "Escape") {
    close();
    event.stopPropagation();
  } else {
    if (event.key === "Enter") close();
    return;
  }
  event.preventDefault();
}, true);
list.addEventListener("pointerdown", (event) => event.preventDefault());
list.addEventListener("click", (event) => {
  const item = event.target.closest("[role=option]");
  if (item) take([...list.children].indexOf(item), true);
});
words.addEventListener("blur", close);
