// Makes the page quick: links and forms change a part of it, pictures can be dropped and pasted.
// What is shown is always in the URL; without this script the same links load whole pages.

import { use } from "./doing.js";
import { makeLooking, step } from "./looking.js";

export {
  answerOf, ask, busy, changed, clicked, copy, forgetToken, go, isTyped, isUrl, keepOwn, made, main, noAnswer, parse, pathOf, post, say,
  showPictures, source, words,
};

const TOKEN = "imgsearch-token";
const main = document.getElementById("main");
const words = document.getElementById("q");
const needsToken = "locked" in document.body.dataset;
let running = null;
let coming = null;
let shownSearch = location.search;
const blobs = []; // of the pictures that are shown
const own = new Map(); // what this person gave, by the id of the upload

// -- asking the server --

/** The token of this browser, or, where it is not to be remembered, of this tab. */
const token = () => localStorage.getItem(TOKEN) ?? sessionStorage.getItem(TOKEN);
function forgetToken() {
  for (const storage of [localStorage, sessionStorage]) storage.removeItem(TOKEN);
}

/** Asks; ``by`` asks instead of fetch, and takes what that takes. */
async function ask(url, { by = fetch, ...options } = {}) {
  const given = token();
  const headers = { ...(options.headers ?? {}), ...(given ? { Authorization: `Bearer ${given}` } : {}) };
  const response = await by(url, { ...options, headers, credentials: "omit" }).catch((error) => {
    throw error.name === "AbortError" ? error : new Error(noAnswer());
  });
  if (response.status === 401) {
    if (token() === given) await unlock(given !== null);
    return ask(url, { by, ...options });
  }
  return response;
}

/** Asks with values as JSON. */
function post(url, values, options = {}) {
  const headers = { "Content-Type": "application/json" };
  return ask(url, { method: "POST", headers, body: JSON.stringify(values), ...options });
}

/** The values of an answer; a refusal is an error with its message. */
async function answerOf(response) {
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error.message);
  return answer;
}

function noAnswer() {
  return navigator.onLine ? "The server does not answer. Is it still running?" : "You are offline. Try again when you are connected.";
}

let unlocking = null;
/** One question however many requests wait for it; what only changes the index can be given up. */
function unlock(wasWrong) {
  unlocking ??= askForToken(wasWrong).finally(() => { unlocking = null; });
  return unlocking;
}

function askForToken(wasWrong) {
  const dialog = document.getElementById("unlock");
  const field = document.getElementById("token");
  document.getElementById("unlock-problem").textContent = wasWrong ? "This token is not accepted." : "";
  forgetToken();
  field.value = "";
  dialog.onkeydown = (event) => { if (needsToken && event.key === "Escape") event.preventDefault(); };
  if (!dialog.open) dialog.showModal();
  return new Promise((resolve, reject) => {
    const form = document.getElementById("unlock-form");
    const until = new AbortController();
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const storage = document.getElementById("remember").checked ? localStorage : sessionStorage;
      storage.setItem(TOKEN, field.value.trim());
      until.abort();
      dialog.close();
      resolve();
    }, { signal: until.signal });
    dialog.addEventListener("cancel", (event) => {
      if (needsToken) return event.preventDefault();
      until.abort();
      reject(new DOMException("no token was given", "AbortError"));
    }, { signal: until.signal });
  });
}

/** An element with properties, and what is in it. */
function made(name, properties, ...inside) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...inside);
  return element;
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
  const url = await source(image.dataset.src).catch(() => null);
  if (!url) return image.dispatchEvent(new Event("error"));
  if (url.startsWith("blob:")) blobs.push(url);
  image.src = url;
}

/** What an image of this server may have as its source. */
async function source(url) {
  if (!needsToken) return url;
  const response = await ask(url);
  if (!response.ok) throw new Error("not shown");
  return URL.createObjectURL(await response.blob());
}

// -- showing --

async function go(url, { push = true, focus = null, state = null } = {}) {
  if (push) looking.leave();
  const target = new URL(url, location.href);
  running?.abort();
  const mine = (running = new AbortController());
  coming = target;
  busy(true);
  try {
    const search = main.querySelector(".layout")?.dataset.search;
    const headers = !push && !state && search ? { "Imgsearch-Looks-Again": search } : {}; // one search for the log
    const response = await ask(`/results${target.search}`, { headers, signal: mine.signal });
    const type = response.headers.get("content-type") ?? "";
    if (!type.startsWith("text/html")) await answerOf(response);
    const html = await response.text();
    blobs.splice(0).forEach((one) => URL.revokeObjectURL(one));
    main.replaceChildren(...parse(html));
    if (push) history.pushState(null, "", target);
    shownSearch = target.search;
    arrived(focus);
    if (push && focus === null) window.scrollTo({ top: 0 });
    await looking.enter(state);
  } catch (error) {
    if (error.name === "AbortError") return;
    say(error.message);
    if (state) lost(target, error.message);
  } finally {
    if (running === mine) {
      coming = null;
      busy(false);
    }
  }
}

/** After Back the address is another one, whether its pictures came or not. */
function lost(target, why) {
  shownSearch = null;
  const again = made("a", { href: target.href }, "Try again");
  again.dataset.nav = "";
  const said = made("div", { className: "empty problem", role: "alert" }, made("h1", {}, why), made("p", {}, again));
  const layout = made("div", { className: "layout" }, made("div", { className: "content" }, said));
  layout.dataset.q = target.searchParams.get("q") ?? "";
  main.replaceChildren(layout);
  arrived(null);
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

/** A selector of what has the focus, for when the same is shown anew; "" outside of the results. */
function pathOf(element) {
  if (!main.contains(element)) return "";
  const [id, { key }, href] = [element.closest(".card")?.dataset.id, element.dataset, element.getAttribute("href")];
  const own = key ? `[data-key="${key}"]` : element.id ? `#${element.id}` : href ? `[href="${CSS.escape(href)}"]` : "#results";
  return id ? `[data-id="${id}"] ${own}` : own;
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
  if (cropped?.dataset.region) use("crop", (it) => it.outline(main.querySelector("[data-crop-source]"), cropped.dataset.region));
  showPictures([main]);
  if (focus) (main.querySelector(focus) ?? document.getElementById("results"))?.focus({ preventScroll: true });
  document.getElementById("status").textContent = document.getElementById("summary")?.textContent ?? "";
}

/** Loads pictures as they come into view, and says which cannot be shown. */
function showPictures(places) {
  for (const image of places.flatMap((place) => [...place.querySelectorAll("img")])) {
    const [, name] = (image.dataset.src ?? image.src).match(/\/thumbnails\/(upload-[^/]+)/) ?? [];
    if (own.has(name)) {
      delete image.dataset.src;
      image.src = own.get(name);
    }
    image.addEventListener("error", () => failed(image), { once: true });
    if (image.complete && image.naturalWidth === 0 && image.src) failed(image);
    if (image.dataset.src) inView.observe(image);
  }
  document.dispatchEvent(new Event("arrived"));
}

/** Says that a picture is not shown, and why, which the server knows. */
async function failed(image) {
  const frame = image.closest(".picture, .frame");
  if (!frame || frame.querySelector(".gone")) return;
  image.classList.add("failed");
  const reason = made("small", {}, "moved, changed or gone");
  frame.append(made("span", { className: "gone" }, "Not shown", reason));
  const url = image.dataset.src ?? image.getAttribute("src");
  const answer = url ? await ask(url).then((response) => response.text()).catch(() => "") : "";
  const [outside] = answer.match(/lies outside[^"]*/) ?? [];
  if (outside) reason.textContent = outside;
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

function isUrl(text) {
  return /^https?:\/\/\S+$/.test(text);
}
function keepOwn(name, url) {
  own.set(name, url);
}
const searchBy = (given) => use("sending", (it) => it.searchBy(given));

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
  if ("view" in data || "nav" in data || "close" in data || "original" in data && needsToken) event.preventDefault();
  if (data.key === "similar") clicked(link);
  if ("view" in data) looking.open(link);
  else if ("crop" in data) use("crop", (it) => it.crop(data));
  else if ("copy" in data) copy(data.copy, "Path copied");
  else if ("close" in data) link.closest("dialog").close();
  else if ("original" in data && needsToken) openOriginal(link.href);
  else if ("nav" in data) {
    looking.leave();
    const stays = link.closest(".card") && data.key !== "similar" ? pathOf(link) : null;
    const isSwitch = link.closest("#facets, .ways, .choices") || ["like", "dislike"].includes(data.key);
    const url = link.getAttribute("href"); // of a link in a drawing href is no text
    go(isSwitch ? also(url) : url, { focus: stays });
  }
});

document.getElementById("search").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = words.value.trim();
  if ("urls" in document.body.dataset && isUrl(text)) return searchBy(text);
  words.blur();
  return go(changed({ q: text || null }), { focus: "#results" });
});
main.addEventListener("change", (event) => {
  if (event.target.id === "by") go(changed({ by: event.target.value === "auto" ? null : event.target.value }), { focus: "#by" });
});
window.addEventListener("popstate", (event) => {
  if (location.search === shownSearch && !coming) looking.follow();
  else go(location.href, { push: false, state: event.state ?? {} });
});

/** Tells of a click on a picture where the server keeps a log; whether it arrives does not matter. */
function clicked(link) {
  const card = link.closest(".card");
  const search = card?.dataset.search ?? main.querySelector(".layout")?.dataset.search;
  const picture = card?.dataset.id;
  if (search && picture) post("/clicks", { search, picture }, { keepalive: true }).catch(() => {});
}

async function openOriginal(url) {
  const opened = URL.createObjectURL(await (await ask(url)).blob());
  window.open(opened, "_blank", "noopener");
}

async function copy(text, done, otherwise = "Copy this:") {
  try {
    await navigator.clipboard.writeText(text);
    say(done);
  } catch {
    window.prompt(otherwise, text);
  }
}

document.getElementById("share").addEventListener("click", () => {
  const link = main.querySelector(".layout")?.dataset.share;
  copy(new URL(link ?? location.href, location.href).href, link ? "Link copied. It holds what was seen in your picture, not the picture." : "Link copied");
});
document.getElementById("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("imgsearch-theme", root.dataset.theme);
});

// -- keys --

/** Whether a key is typed into something, or for the browser. */
function isTyped(event) {
  return event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea, dialog[open]");
}

const ACTIONS = { l: "like", d: "dislike", m: "similar" };
document.addEventListener("keydown", (event) => {
  if (isTyped(event)) {
    if (event.key === "Escape" && event.target === words) words.blur();
    return;
  }
  const card = document.activeElement.closest?.(".card");
  if (event.key === "/") {
    event.preventDefault();
    words.focus();
    words.select();
  } else if (event.key === "?") use("keys", (it) => it.open());
  else if (card && event.key in ACTIONS) card.querySelector(`[data-key="${ACTIONS[event.key]}"]`).click();
  else if (event.key.startsWith("Arrow")) step(event, card);
});

const looking = makeLooking();
if (needsToken) go(location.href, { push: false, state: history.state });
else {
  arrived(null);
  looking.enter(history.state);
}
