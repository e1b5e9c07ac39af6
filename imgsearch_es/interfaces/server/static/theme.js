// Before anything is drawn: the theme that this person chose, if any.
const chosen = localStorage.getItem("imgsearch-theme");
if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
document.documentElement.classList.add("script");
