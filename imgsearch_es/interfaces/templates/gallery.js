// A picture large, and its path to copy. Where scripts are stripped nothing is missing but that: the
// buttons are hidden until this runs, and what the large view says stands below "Explain".
const galleries = ".imgsearch-gallery";
for (const button of document.querySelectorAll(`${galleries} .ig-copy[hidden]`)) button.hidden = false;
for (const link of document.querySelectorAll(`${galleries} .ig-open`)) link.title = "Show large";
if (window.imgsearchGalleries) return;
window.imgsearchGalleries = true;

/** Copies the path as it is, not as it is shown. */
async function copy(path) {
  const put = (event) => {
    event.clipboardData.setData("text/plain", path.dataset.uri);
    event.preventDefault();
  };
  try {
    await navigator.clipboard.writeText(path.dataset.uri);
    return true;
  } catch {
    getSelection().selectAllChildren(path);
    document.addEventListener("copy", put);
    const done = document.execCommand("copy");
    document.removeEventListener("copy", put);
    return done;
  }
}

let place = null;
let view = null;
function shown(card) {
  const small = card.querySelector(".ig-frame img");
  const { href, protocol } = card.querySelector(".ig-open");
  const about = card.querySelector(".view-about").cloneNode(true);
  about.classList.remove("view-about");
  // A page of its own beside the pictures may show their files; elsewhere there is the thumbnail.
  const isNear = protocol === "file:" && location.protocol === "file:";
  return {
    small: small?.src,
    alt: small?.alt ?? "",
    width: small?.naturalWidth,
    height: small?.naturalHeight,
    large: isNear ? Promise.resolve(href) : Promise.reject(),
    about: Promise.resolve(about),
  };
}
function open(link) {
  // Cards among widgets are each in a gallery of its own.
  place = link.closest(`${galleries}:not(.ig-part-of)`) ?? link.closest(".ig-grid") ?? document;
  view ??= makeView({
    cards: () => [...place.querySelectorAll(".ig-card figure")],
    shown,
    closed: (card) => card?.querySelector(".ig-open").focus(),
    parent: () => link.closest(galleries),
  });
  view.open(link.closest("figure"));
}

document.addEventListener("click", async (event) => {
  const link = event.target.closest?.(`${galleries} .ig-open`);
  if (link && !event.ctrlKey && !event.metaKey && !event.shiftKey && !event.button) {
    event.preventDefault();
    open(link);
  }
  const button = event.target.closest?.(`${galleries} .ig-copy`);
  if (!button) return;
  const done = await copy(button.closest("figcaption").querySelector(".ig-name"));
  const said = button.querySelector("[role=status]");
  said.textContent = done ? "Copied" : "Press Ctrl+C";
  setTimeout(() => { said.textContent = ""; }, 2000);
});
document.addEventListener("keydown", (event) => {
  const link = event.key === "Enter" && event.target.closest?.(`${galleries} div.ig-open`);
  if (link) open(link);
});
