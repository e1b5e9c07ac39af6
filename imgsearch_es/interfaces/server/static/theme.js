// Before anything is drawn: the theme and the size of pictures that this person chose, if any.
const chosen = localStorage.getItem("imgsearch-theme");
if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
const size = localStorage.getItem("imgsearch-size");
if (/^\d{2,3}$/.test(size)) document.documentElement.style.setProperty("--row", `${size}px`);
document.documentElement.classList.add("script");
