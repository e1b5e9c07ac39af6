// Searches that this person keeps: links in the browser's storage, which no server sees.

import { made, main, words } from "./page.js";

const KEY = "imgsearch-kept";
const dialog = document.getElementById("kept");
const list = document.getElementById("kept-list");
const name = document.getElementById("kept-name");

function kept() {
  try {
    const found = JSON.parse(localStorage.getItem(KEY) ?? "[]");
    return Array.isArray(found) ? found.filter((one) => typeof one.name === "string" && /^\/\?/.test(one.url)) : [];
  } catch {
    return [];
  }
}

function keep(all) {
  localStorage.setItem(KEY, JSON.stringify(all));
  show();
}

const button = (text, label, onclick) => made("button", { type: "button", className: "small", ariaLabel: label, onclick }, text);

function show() {
  const all = kept();
  list.replaceChildren(...all.map((one, place) => {
    const link = made("a", { href: one.url }, one.name);
    link.dataset.nav = "";
    return made(
      "li",
      {},
      link,
      button("Rename", `Rename ${one.name}`, () => {
        const renamed = window.prompt("Name of this search:", one.name)?.trim();
        if (renamed) keep(all.map((each, i) => (i === place ? { ...each, name: renamed } : each)));
      }),
      button("Remove", `Remove ${one.name}`, () => keep(all.filter((_, i) => i !== place))),
    );
  }));
  document.getElementById("kept-none").hidden = all.length > 0;
}

/** Shows what is kept, and offers to keep this search. */
export function open() {
  const chosen = [...main.querySelectorAll(".choices a")].map((one) => one.textContent.trim());
  name.value = [words.value.trim(), ...chosen].filter(Boolean).join(", ");
  const isSearch = location.search.length > 1;
  document.getElementById("kept-form").hidden = !isSearch;
  show();
  dialog.showModal();
}

document.getElementById("kept-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const url = `/${location.search}`;
  keep([{ name: name.value.trim(), url }, ...kept().filter((one) => one.url !== url)]);
});
list.addEventListener("click", (event) => {
  if (event.target.closest("a")) dialog.close();
});
