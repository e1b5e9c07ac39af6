// Judging in a notebook. Text goes into the page as text, never as markup.
const ACTIONS = [
  ["relevant", "Relevant", "R", ["r", "2"]],
  ["partly", "Partly", "P", ["p", "1"]],
  ["not", "Not relevant", "N", ["n", "0"]],
  ["skip", "Skip", "S", ["s"]],
  ["undo", "Undo", "U", ["u"]],
];

function element(name, className, text) {
  const made = document.createElement(name);
  made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function picture(shown, alt, className) {
  if (!shown.data) return element("div", `${className} ij-problem`, shown.problem);
  const image = element("img", className);
  image.src = shown.data;
  image.alt = alt;
  return image;
}

function query(shown) {
  const box = element("div", "ij-query");
  box.append(element("div", "ij-eyebrow", "Query"));
  if (shown.picture) box.append(picture(shown.picture, "Query picture", "ij-query-picture"));
  box.append(element("div", "ij-text", shown.text));
  return box;
}

function finished(state) {
  const text = state.skipped
    ? `Done but for ${state.skipped} skipped, which come again next time.`
    : state.total
      ? "Done: all is judged."
      : "The pool is empty: no strategy found anything.";
  return element("div", "ij-done", text);
}

function show(state, root) {
  const bar = element("progress", "ij-progress");
  bar.max = Math.max(state.total, 1);
  bar.value = state.judged;
  bar.setAttribute("aria-label", "Judged");
  const count = `${state.judged} of ${state.total} judged`;
  const status = element("div", "ij-status", state.where ? `${count}. ${state.where}.` : count);
  status.setAttribute("role", "status");
  const middle = element("div", "ij-middle");
  if (state.query) {
    const asked = element("div", "ij-asked");
    asked.append(picture(state.picture, "The picture to judge", "ij-picture"));
    asked.append(element("div", "ij-name", state.name));
    middle.append(query(state.query), asked);
  } else {
    middle.append(finished(state));
  }
  const message = element("div", "ij-message", state.message);
  message.setAttribute("role", "alert");
  root.replaceChildren(status, bar, middle, message, element("div", "ij-file", state.file));
}

function render({ model, el }) {
  const root = element("div", "imgsearch-judging");
  root.tabIndex = 0;
  root.dataset.lmSuppressShortcuts = "true"; // JupyterLab's own keys rest while this has the focus
  root.setAttribute("role", "group");
  root.setAttribute("aria-label", "Judging: is the picture relevant to the query?");
  const content = element("div", "ij-content");
  const buttons = element("div", "ij-buttons");
  const hint = element("div", "ij-hint", "Click here, then judge with the keys.");
  const say = (action) => model.send({ action, asked: model.get("state").asked });
  for (const [action, text, letter, keys] of ACTIONS) {
    const button = element("button", `ij-button ij-${action}`, text);
    button.type = "button";
    button.setAttribute("aria-keyshortcuts", keys.join(" "));
    button.append(element("kbd", "ij-key", letter));
    button.addEventListener("click", () => say(action));
    buttons.append(button);
  }
  root.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    const found = ACTIONS.find(([, , , keys]) => keys.includes(event.key.toLowerCase()));
    if (!found) return;
    event.preventDefault();
    event.stopPropagation();
    say(found[0]);
  });
  const update = () => {
    const state = model.get("state");
    show(state, content);
    for (const button of buttons.children) {
      button.disabled = !state.query && !button.classList.contains("ij-undo");
    }
    if (!state.query && document.activeElement?.disabled) root.focus();
  };
  model.on("change:state", update);
  root.append(content, buttons, hint);
  el.append(root);
  update();
  return () => model.off("change:state", update);
}

export default { render };
