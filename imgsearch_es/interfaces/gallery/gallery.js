// Copies a picture's path. The buttons are hidden until this runs, so where scripts are stripped
// nothing is missing: a click on the file name selects the whole path.
(() => {
  const galleries = ".imgsearch-gallery";
  for (const button of document.querySelectorAll(`${galleries} .ig-copy[hidden]`)) button.hidden = false;
  if (window.imgsearchCopies) return;
  window.imgsearchCopies = true;
  const copy = async (path) => {
    try {
      await navigator.clipboard.writeText(path.textContent);
      return true;
    } catch {
      getSelection().selectAllChildren(path);
      return document.execCommand("copy");
    }
  };
  document.addEventListener("click", async (event) => {
    const button = event.target.closest?.(`${galleries} .ig-copy`);
    if (!button) return;
    const done = await copy(button.closest("figcaption").querySelector(".ig-name"));
    const said = button.querySelector("[role=status]");
    said.textContent = done ? "Copied" : "Press Ctrl+C";
    setTimeout(() => { said.textContent = ""; }, 2000);
  });
})();
