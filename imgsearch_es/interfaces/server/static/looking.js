// Looking through results: a picture large (see view.js), its size in the grid, and more of them as
// one scrolls. The address says which picture is large; the place is kept in the browser's history.

import { part } from "./doing.js";
import { answerOf, ask, clicked, made, main, parse, say, showPictures, source } from "./page.js";

const SIZE = "imgsearch-size";
const PICTURE = /^#picture-([0-9a-f]{32})$/;

/** What page.js calls; the others are its own. */
export function makeLooking() {
  const cards = () => [...main.querySelectorAll(".card")].filter((card) => !card.closest("details:not([open])"));
  const cardOf = (id) => main.querySelector(`.card[data-id="${id}"]`);
  let leaving = false;
  let opened = false; // by a step that Back takes back

  // -- the large view --

  function shown(card) {
    const link = card.querySelector(".picture");
    const small = card.querySelector(".picture img:not(.failed)");
    const content = ask(link.getAttribute("href")).then(async (response) => {
      if (!response.ok) await answerOf(response);
      return parse(await response.text()).find((one) => one.nodeType === Node.ELEMENT_NODE);
    });
    return {
      small: small?.currentSrc || small?.src,
      alt: link.getAttribute("aria-label").replace(/^Show /, ""),
      width: Number(small?.getAttribute("width")),
      height: Number(small?.getAttribute("height")),
      large: content.then((found) => (found.dataset.large ? source(found.dataset.large) : Promise.reject())),
      about: content.catch((error) => made("p", { role: "alert" }, error.message)),
    };
  }
  let view = null; // made for the first picture
  const seen = {
    cards,
    shown,
    more: () => append(),
    moved: (card) => history.replaceState(history.state, "", `#picture-${card.dataset.id}`),
    closed(card) {
      if (leaving) return;
      if (PICTURE.test(location.hash)) {
        if (opened) history.back();
        else forget();
      }
      opened = false;
      const picture = card?.querySelector(".picture");
      picture?.focus({ preventScroll: true });
      card?.scrollIntoView({ block: "nearest" });
    },
  };

  function open(link) {
    const card = link.closest(".card");
    clicked(link);
    history.pushState({ ...history.state, large: true }, "", `#picture-${card.dataset.id}`);
    opened = true;
    follow();
  }
  /** That a picture is large. */
  const forget = () => history.replaceState(history.state, "", location.pathname + location.search);
  /** The large view as the address has it, also when its module has come. */
  function follow() {
    const [, id] = location.hash.match(PICTURE) ?? [];
    const card = id && cardOf(id);
    opened &&= Boolean(id);
    if (!card) view?.close();
    else if (!view) part("view").then((it) => { view ??= it.makeView(seen); follow(); }, forget);
    else if (view.card !== card) view.open(card);
  }

  // -- more as one scrolls --

  let appending = null;
  /** The next page below those that are here. */
  function append() {
    const next = main.querySelector('[data-page="next"]');
    if (!next || main.querySelector("#rest:not([open])")) return Promise.resolve();
    return (appending ??= fetchPage(next).finally(() => { appending = null; }));
  }
  async function fetchPage(next) {
    const grid = document.getElementById("grid");
    try {
      // So that nothing is counted again, and the log has one search.
      const headers = { "Imgsearch-Goes-On": main.querySelector(".layout").dataset.search ?? "yes" };
      const response = await ask(`/results${new URL(next.href).search}`, { headers });
      if (!response.ok) throw new Error("The next pictures cannot be shown now.");
      const holder = made("div", {}, ...parse(await response.text()));
      if (!grid.isConnected) return;
      const search = holder.querySelector(".layout")?.dataset.search;
      const known = new Set(cards().map((card) => card.dataset.id));
      const fresh = [...holder.querySelectorAll(".card")].filter((card) => !known.has(card.dataset.id));
      for (const card of fresh) if (search) card.dataset.search = search;
      const rest = holder.querySelector("#rest");
      const below = fresh.filter((card) => rest?.contains(card));
      grid.append(...fresh.filter((card) => !below.includes(card)));
      const mine = document.getElementById("rest");
      if (mine) mine.querySelector(".grid").append(...below);
      else if (rest) {
        rest.open = false;
        grid.after(rest);
      }
      const range = document.getElementById("range");
      const last = holder.querySelector("#range")?.textContent.split("–")[1];
      if (range && last) range.textContent = `${range.textContent.split("–")[0]}–${last}`;
      main.querySelector(".pages")?.replaceWith(holder.querySelector(".pages") ?? "");
      pages += 1;
      showPictures(fresh);
      watch();
    } catch (error) {
      if (grid.isConnected) say(error.message);
    }
  }
  const end = new IntersectionObserver((entries) => {
    if (entries.some((one) => one.isIntersecting)) append();
  }, { rootMargin: "1200px" });
  main.addEventListener("toggle", (event) => event.target.id === "rest" && watch(), true);
  function watch() {
    end.disconnect();
    const next = main.querySelector('.pages:has([data-page="next"])');
    if (next) end.observe(next);
  }

  // -- the place --

  let pages = 1;
  let keeping = 0;
  history.scrollRestoration = "manual";
  const keep = () => history.replaceState({ ...history.state, pages, y: scrollY, rest: Boolean(main.querySelector("#rest[open]")) }, "");
  addEventListener("scroll", () => {
    clearTimeout(keeping);
    keeping = setTimeout(keep, 120);
  }, { passive: true });
  /** Before another page is shown. */
  function leave() {
    leaving = true;
    view?.close();
    leaving = opened = false;
    clearTimeout(keeping);
    keep();
  }
  /** After another page is shown: its first pictures, or as many as were there before, and where. */
  async function enter(state) {
    pages = 1;
    size();
    const openRest = () => {
      const rest = main.querySelector("#rest");
      if (state?.rest && rest) rest.open = true;
    };
    openRest();
    if (state) {
      for (let page = 1; page < (state.pages ?? 1); page += 1) {
        await append();
        openRest();
      }
      scrollTo({ top: state.y ?? 0, behavior: "instant" });
    }
    watch();
    follow();
  }

  // -- the size --

  function size() {
    const slider = document.getElementById("size");
    const kept = localStorage.getItem(SIZE);
    if (slider && kept) slider.value = kept;
    else if (slider) slider.value = parseInt(getComputedStyle(document.documentElement).getPropertyValue("--row"), 10);
  }
  main.addEventListener("input", (event) => {
    if (event.target.id !== "size") return;
    document.documentElement.style.setProperty("--row", `${event.target.value}px`);
    localStorage.setItem(SIZE, event.target.value);
  });

  return { open, follow, enter, leave };
}

/** From card to card; up and down by what is seen above and below. */
export function step(event, card) {
  const cards = [...main.querySelectorAll(".card")].filter((one) => one.offsetParent);
  if (!cards.length || (!card && event.key !== "ArrowDown")) return;
  const next = card ? cards.indexOf(card) + ({ ArrowLeft: -1, ArrowRight: 1 }[event.key] ?? rows(cards, card, event.key)) : 0;
  if (!cards[next]) return;
  event.preventDefault();
  cards[next].querySelector(".picture").focus();
}

/** How far it is to the card above or below, of those in the next row the nearest. */
function rows(cards, card, key) {
  const [here, tops] = [cards.indexOf(card), cards.map((one) => one.offsetTop)];
  const other = key === "ArrowUp" ? Math.max(...tops.filter((top) => top < tops[here])) : Math.min(...tops.filter((top) => top > tops[here]));
  const center = (one) => one.offsetLeft + one.offsetWidth / 2;
  const row = cards.filter((one) => one.offsetTop === other);
  const [nearest] = row.sort((a, b) => Math.abs(center(a) - center(card)) - Math.abs(center(b) - center(card)));
  return nearest ? cards.indexOf(nearest) - here : NaN;
}
