// Makes the page quick: links and forms change a part of it, pictures can be dropped and pasted.
// What is shown is always in the URL; without this script the same links load whole pages.

import { chooseRegion, outlineRegion } from "./crop.js";

const TOKEN = "imgsearch-token";
const main = document.getElementById("main");
const words = document.getElementById("q");
const needsToken = "locked" in document.body.dataset;
let running = null;
let coming = null;

// -- asking the server --

async function ask(url, options = {}) {
  const token = sessionStorage.getItem(TOKEN);
  const headers = { ...(options.headers ?? {}), ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  const response = await fetch(url, { ...options, headers, credentials: "omit" });
  if (response.status === 401) {
    await unlock(token !== null);
    return ask(url, options);
  }
  return response;
}

function unlock(wasWrong) {
  const dialog = document.getElementById("unlock");
  const field = document.getElementById("token");
  document.getElementById("unlock-problem").textContent = wasWrong ? "This token is not accepted." : "";
  sessionStorage.removeItem(TOKEN);
  field.value = "";
  dialog.addEventListener("cancel", (event) => event.preventDefault());
  if (!dialog.open) dialog.showModal();
  return new Promise((resolve) => {
    document.getElementById("unlock-form").addEventListener("submit", (event) => {
      event.preventDefault();
      sessionStorage.setItem(TOKEN, field.value.trim());
      dialog.close();
      resolve();
    }, { once: true });
  });
}

/** An element from HTML of this server; pictures that need the token get it by fetch. */
function parse(html) {
  const found = new DOMParser().parseFromString(html, "text/html");
  if (needsToken) {
    for (const image of found.querySelectorAll("img[src^='/thumbnails/']")) {
      image.dataset.src = image.getAttribute("src");
      image.removeAttribute("src");
    }
  }
  return [...found.body.childNodes];
}

const inView = new IntersectionObserver((entries) => {
  for (const entry of entries.filter((one) => one.isIntersecting)) {
    inView.unobserve(entry.target);
    load(entry.target);
  }
}, { rootMargin: "400px" });

async function load(image) {
  const response = await ask(image.dataset.src);
  if (!response.ok) return image.dispatchEvent(new Event("error"));
  const url = URL.createObjectURL(await response.blob());
  image.addEventListener("load", () => URL.revokeObjectURL(url), { once: true });
  image.src = url;
}

// -- showing --

async function go(url, { push = true, focus = null } = {}) {
  const target = new URL(url, location.href);
  running?.abort();
  const mine = (running = new AbortController());
  coming = target;
  busy(true);
  try {
    const response = await ask(`/results${target.search}`, { signal: mine.signal });
    const type = response.headers.get("content-type") ?? "";
    if (!type.startsWith("text/html")) throw new Error((await response.json()).error.message);
    main.replaceChildren(...parse(await response.text()));
    if (push) history.pushState(null, "", target);
    arrived(focus);
    if (push && focus === null) window.scrollTo({ top: 0 });
  } catch (error) {
    if (error.name !== "AbortError") say(error.message || "The server does not answer.");
  } finally {
    if (running === mine) {
      coming = null;
      busy(false);
    }
  }
}

/** What a switch's link changes, changed in what is on its way: two quick clicks count both. */
function also(href) {
  if (!coming) return href;
  const pairs = (search) => search.slice(1).split("&").filter(Boolean);
  const before = pairs(location.search);
  const after = pairs(new URL(href, location.href).search);
  const kept = pairs(coming.search).filter((one) => !before.includes(one) || after.includes(one));
  const added = after.filter((one) => !before.includes(one) && !kept.includes(one));
  return `/?${[...kept, ...added].join("&")}`;
}

const SLOW = "Still waiting: the index is in use by another program, or the model is being loaded.";
let slow = 0;
function busy(is) {
  clearTimeout(slow);
  const toast = document.getElementById("toast");
  if (is) slow = setTimeout(() => say(SLOW), 1000);
  else if (toast.textContent === SLOW) toast.hidden = true;
  document.getElementById("progress").hidden = !is;
  document.getElementById("grid")?.setAttribute("aria-busy", String(is));
}

/** What follows when something new is shown. */
function arrived(focus) {
  const layout = main.querySelector(".layout");
  if (!layout) return;
  if (document.activeElement !== words) words.value = layout.dataset.q;
  document.title = `${layout.dataset.q || "Image search"} · imgsearch`;
  const facets = document.getElementById("facets");
  if (facets && matchMedia("(max-width: 860px)").matches) facets.open = false;
  const cropped = main.querySelector("[data-region]");
  if (cropped?.dataset.region) outlineRegion(main.querySelector("[data-crop-source]"), cropped.dataset.region);
  for (const image of main.querySelectorAll("img")) {
    image.addEventListener("error", () => failed(image), { once: true });
    if (image.complete && image.naturalWidth === 0 && image.src) failed(image);
    if (image.dataset.src) inView.observe(image);
  }
  if (focus) main.querySelector(focus)?.focus({ preventScroll: true });
  document.getElementById("status").textContent = document.getElementById("summary")?.textContent ?? "";
}

function failed(image) {
  const frame = image.closest(".picture, .frame");
  if (!frame || frame.querySelector(".gone")) return;
  image.classList.add("failed");
  const note = document.createElement("span");
  note.className = "gone";
  note.textContent = "Not shown";
  const reason = document.createElement("small");
  reason.textContent = "moved, changed or gone";
  note.append(reason);
  frame.append(note);
}

let fading = 0;
function say(text) {
  const toast = document.getElementById("toast");
  toast.textContent = text;
  toast.hidden = false;
  document.getElementById("status").textContent = text;
  clearTimeout(fading);
  fading = setTimeout(() => { toast.hidden = true; }, 6000);
}

/** The URL of this page, or of what is on its way, with changes; null removes a parameter. */
function changed(changes) {
  const params = new URLSearchParams((coming ?? location).search);
  params.delete("page");
  for (const [name, value] of Object.entries(changes)) {
    params.delete(name);
    for (const one of value === null ? [] : [value].flat()) params.append(name, one);
  }
  return `/?${params}`;
}

// -- pictures of this person --

async function searchBy(file) {
  if (file.size > Number(document.body.dataset.maxBytes)) {
    return say(`The picture is larger than ${Math.round(document.body.dataset.maxBytes / 2 ** 20)} MB.`);
  }
  const form = new FormData();
  form.append("picture", file, "picture");
  return upload("/api/v1/uploads", { body: form });
}

function searchByUrl(url) {
  const headers = { "Content-Type": "application/json" };
  return upload("/api/v1/uploads/url", { headers, body: JSON.stringify({ url }) });
}

async function upload(path, options) {
  busy(true);
  try {
    const response = await ask(path, { method: "POST", ...options });
    const answer = await response.json();
    if (!response.ok) return say(answer.error.message);
    words.value = "";
    return await go(changed({ image: answer.id, q: null, region: null, like: null, dislike: null }));
  } catch (error) {
    return say(error.message || "The server does not answer.");
  } finally {
    busy(false);
  }
}

document.getElementById("pick").addEventListener("click", () => document.getElementById("file").click());
document.getElementById("file").addEventListener("change", (event) => {
  if (event.target.files.length) searchBy(event.target.files[0]);
  event.target.value = "";
});
document.addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files].find((one) => one.type.startsWith("image/"));
  if (!file) return;
  event.preventDefault();
  searchBy(file);
});

let depth = 0;
const curtain = document.getElementById("drop");
const brings = (event) => [...event.dataTransfer.types].some((type) => type === "Files" || type === "text/uri-list");
document.addEventListener("dragenter", (event) => {
  if (brings(event)) curtain.hidden = ++depth === 0;
});
document.addEventListener("dragleave", (event) => {
  if (brings(event) && --depth <= 0) curtain.hidden = true;
});
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  depth = 0;
  curtain.hidden = true;
  const own = event.dataTransfer.getData("text/uri-list").match(/\/thumbnails\/([0-9a-f]{32})\//);
  const [file] = event.dataTransfer.files;
  if (own) go(changed({ image: own[1], region: null }));
  else if (file) searchBy(file);
  else say("Drop a picture file. From another page: save the picture, or copy and paste it.");
});

// -- links, forms, buttons --

document.addEventListener("click", (event) => {
  const link = event.target.closest("a, button");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  const data = link.dataset;
  if ("why" in data || "nav" in data || "close" in data || "original" in data && needsToken) event.preventDefault();
  if (data.key === "open" || "why" in data) clicked(link);
  if ("why" in data) explain(link);
  else if ("crop" in data) crop(data);
  else if ("teach" in data) document.getElementById("teach").showModal();
  else if ("copy" in data) copy(data.copy, "Path copied");
  else if ("close" in data) link.closest("dialog").close();
  else if ("original" in data && needsToken) openOriginal(link.href);
  else if ("nav" in data) {
    document.getElementById("why").close();
    const card = link.closest(".card");
    const stays = card && data.key !== "open" ? `[data-id="${card.dataset.id}"] [data-key="${data.key}"]` : null;
    const isSwitch = link.closest("#facets") || ["like", "dislike"].includes(data.key);
    go(isSwitch ? also(link.href) : link.href, { focus: stays });
  }
});

document.getElementById("search").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = words.value.trim();
  if ("urls" in document.body.dataset && /^https?:\/\/\S+$/.test(text)) return searchByUrl(text);
  words.blur();
  return go(changed({ q: text || null }), { focus: "#results" });
});
main.addEventListener("change", (event) => {
  if (event.target.id === "by") go(changed({ by: event.target.value === "auto" ? null : event.target.value }), { focus: "#by" });
});
window.addEventListener("popstate", () => go(location.href, { push: false }));

/** Tells of a click on a picture where the server keeps a log; whether it arrives does not matter. */
function clicked(link) {
  const search = main.querySelector(".layout")?.dataset.search;
  const picture = link.closest(".card")?.dataset.id;
  if (!search || !picture) return;
  const headers = { "Content-Type": "application/json" };
  ask("/clicks", { method: "POST", headers, body: JSON.stringify({ search, picture }), keepalive: true }).catch(() => {});
}

async function explain(link) {
  const dialog = document.getElementById("why");
  busy(true);
  try {
    const response = await ask(link.getAttribute("href"));
    dialog.replaceChildren(...parse(await response.text()));
    for (const image of dialog.querySelectorAll("img[data-src]")) load(image);
    if (!dialog.open) dialog.showModal();
  } catch (error) {
    say(error.message || "The server does not answer.");
  } finally {
    busy(false);
  }
}

document.getElementById("teach-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const [dialog, problem] = ["teach", "teach-problem"].map((id) => document.getElementById(id));
  const shown = new URLSearchParams(location.search);
  const word = document.getElementById("taught").value.trim();
  const body = JSON.stringify({ word, like: shown.getAll("like"), unlike: shown.getAll("dislike") });
  const headers = { "Content-Type": "application/json" };
  event.submitter.disabled = true;
  problem.textContent = "";
  try {
    const response = await ask("/api/v1/words", { method: "POST", headers, body });
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.error.message);
    dialog.close();
    event.target.reset();
    await go(changed({ q: `"${answer.name}"`, image: null, region: null, like: null, dislike: null }));
    say(`Taught ${answer.name}: ${answer.pictures} pictures have it.`);
  } catch (error) {
    problem.textContent = error.message || "The server does not answer.";
  } finally {
    event.submitter.disabled = false;
  }
});

async function crop(data) {
  const image = main.querySelector("[data-crop-source]");
  const large = `/thumbnails/${data.crop}/1280`;
  const source = needsToken ? URL.createObjectURL(await (await ask(large)).blob()) : large;
  const region = await chooseRegion(source || image.src, data.region);
  if (region) go(changed({ region }));
}

async function openOriginal(url) {
  const opened = URL.createObjectURL(await (await ask(url)).blob());
  window.open(opened, "_blank", "noopener");
}

async function copy(text, done) {
  try {
    await navigator.clipboard.writeText(text);
    say(done);
  } catch {
    window.prompt("Copy this:", text);
  }
}

document.getElementById("share").addEventListener("click", () => {
  const link = main.querySelector(".layout")?.dataset.share;
  copy(new URL(link ?? location.href, location.href).href, link ? "Link copied. It holds what was seen in your picture, not the picture." : "Link copied");
});
document.getElementById("help").addEventListener("click", () => document.getElementById("keys").showModal());
document.getElementById("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("imgsearch-theme", root.dataset.theme);
});

// -- completion of the last word --

let typing = 0;
words.addEventListener("input", () => {
  clearTimeout(typing);
  const [, before, last] = words.value.match(/^(.*?)([\p{L}'-]{2,})$/u) ?? [];
  if (!last || (needsToken && !sessionStorage.getItem(TOKEN))) return;
  typing = setTimeout(async () => {
    const response = await ask(`/api/v1/suggest?${new URLSearchParams({ word: last })}`);
    if (!response.ok) return;
    const options = (await response.json()).map((word) => new Option("", before + word));
    document.getElementById("words").replaceChildren(...options);
  }, 150);
});

// -- keys --

const ACTIONS = { l: "like", d: "dislike", e: "why" };
document.addEventListener("keydown", (event) => {
  const typingIn = event.target.closest("input, select, textarea, dialog[open]");
  if (event.ctrlKey || event.metaKey || event.altKey || typingIn) {
    if (event.key === "Escape" && event.target === words) words.blur();
    return;
  }
  const card = document.activeElement.closest?.(".card");
  if (event.key === "/") {
    event.preventDefault();
    words.focus();
    words.select();
  } else if (event.key === "?") document.getElementById("keys").showModal();
  else if (event.key === "n" || event.key === "p") {
    main.querySelector(`[data-page="${event.key === "n" ? "next" : "previous"}"]`)?.click();
  } else if (card && event.key in ACTIONS) card.querySelector(`[data-key="${ACTIONS[event.key]}"]`).click();
  else if (event.key.startsWith("Arrow")) step(event, card);
});

/** From card to card; up and down by what is seen above and below. */
function step(event, card) {
  const cards = [...main.querySelectorAll(".card")];
  if (!cards.length || (!card && event.key !== "ArrowDown")) return;
  const columns = cards.filter((one) => one.offsetTop === cards[0].offsetTop).length;
  const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[event.key];
  const next = card ? cards.indexOf(card) + by : 0;
  if (next < 0 || next >= cards.length) return;
  event.preventDefault();
  cards[next].querySelector(".picture").focus();
}

if (needsToken) go(location.href, { push: false });
else arrived(null);
