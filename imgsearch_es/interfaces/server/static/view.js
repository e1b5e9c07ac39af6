// One picture large, over the results: of the page and of galleries, which both say what they show.
// Keys ←, →, Esc, + and -; wheel, double click or two fingers zoom; a swipe goes on.

const MOST = 8;

/**
 * Makes the view; `shown(card)` says of a card {small, alt, width, height, large: Promise<src>,
 * about: Promise<Node>}. `cards()` are those to go through, `more()` resolves when there are more,
 * `moved(card)` and `closed(card)` are told; `parent()` is where the dialog goes.
 */
export function makeView({ cards, shown, more = async () => {}, moved = () => {}, closed = () => {}, parent = () => document.body }) {
  const dialog = document.createElement("dialog");
  dialog.className = "view";
  dialog.setAttribute("aria-label", "Picture");
  const add = (parent, name, kind, text, label) => {
    const made = parent.appendChild(document.createElement(name));
    made.className = kind;
    if (text) made.textContent = text;
    if (label) {
      made.type = "button";
      made.title = label;
      made.setAttribute("aria-label", label);
    }
    return made;
  };
  const stage = add(dialog, "div", "view-stage");
  const frame = add(stage, "div", "view-frame");
  const image = add(frame, "img", "view-image");
  image.draggable = false;
  const before = add(stage, "button", "view-step view-before", "‹", "Previous picture (←)");
  const after = add(stage, "button", "view-step view-after", "›", "Next picture (→)");
  const about = add(dialog, "div", "view-about");
  about.tabIndex = 0;
  about.setAttribute("role", "region");
  about.setAttribute("aria-label", "About the picture");
  add(dialog, "button", "view-close", "×", "Close (Esc)").autofocus = true;
  let card = null;
  let [scale, x, y] = [1, 0, 0];

  const draw = () => {
    const most = [frame.clientWidth, frame.clientHeight].map((side) => (side * (scale - 1)) / 2);
    x = Math.min(most[0], Math.max(-most[0], x));
    y = Math.min(most[1], Math.max(-most[1], y));
    frame.style.transform = scale > 1 ? `translate(${x}px, ${y}px) scale(${scale})` : "";
    stage.classList.toggle("zoomed", scale > 1);
  };
  /** Zooms so that what is at a point of the screen stays there. */
  const zoom = (to, at) => {
    const next = Math.min(MOST, Math.max(1, to));
    const box = stage.getBoundingClientRect();
    const [dx, dy] = [at.clientX - box.left - box.width / 2, at.clientY - box.top - box.height / 2];
    x = dx - ((dx - x) * next) / scale;
    y = dy - ((dy - y) * next) / scale;
    scale = next;
    draw();
  };
  const middle = () => {
    const box = stage.getBoundingClientRect();
    return { clientX: box.left + box.width / 2, clientY: box.top + box.height / 2 };
  };
  const fit = (width, height) => {
    if (!width || !height) return;
    frame.style.aspectRatio = `${width} / ${height}`;
    frame.style.setProperty("--ratio", width / height);
  };

  async function show(next) {
    card = next;
    scale = 1;
    draw();
    const all = cards();
    before.disabled = all.indexOf(card) <= 0;
    after.disabled = false;
    for (const box of frame.querySelectorAll(".view-box")) box.remove();
    const { small, alt, width, height, large, about: text } = shown(card);
    fit(width, height);
    image.hidden = !small;
    if (small) image.src = small;
    else image.removeAttribute("src");
    image.alt = alt;
    about.setAttribute("aria-busy", "true");
    const mine = (promise, use) => promise.then((found) => {
      if (card === next && dialog.open) use(found);
    }, () => {});
    mine(large, (src) => {
      const better = new Image();
      better.src = src;
      return mine(better.decode(), () => {
        image.src = src;
        image.hidden = false;
        if (!width) fit(better.naturalWidth, better.naturalHeight);
      });
    });
    mine(text, (found) => {
      about.replaceChildren(found);
      about.scrollTop = 0;
      about.removeAttribute("aria-busy");
    });
    if (all.indexOf(card) >= all.length - 3) {
      await more();
      if (card === next) after.disabled = cards().indexOf(card) === cards().length - 1;
    }
  }
  function step(by) {
    const all = cards();
    const next = all[all.indexOf(card) + by];
    if (!next) return;
    moved(next);
    show(next);
  }
  function open(first) {
    if (!dialog.isConnected) parent().append(dialog);
    if (!dialog.open) dialog.showModal();
    show(first);
  }
  dialog.addEventListener("close", () => {
    const last = card;
    card = null;
    closed(last);
  });
  dialog.querySelector(".view-close").addEventListener("click", () => dialog.close());
  before.addEventListener("click", () => step(-1));
  after.addEventListener("click", () => step(1));
  dialog.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select")) return;
    const acts = {
      ArrowLeft: () => step(-1), ArrowRight: () => step(1),
      "+": () => zoom(scale * 1.5, middle()), "=": () => zoom(scale * 1.5, middle()),
      "-": () => zoom(scale / 1.5, middle()), 0: () => zoom(1, middle()),
    };
    if (!(event.key in acts)) return;
    event.preventDefault();
    acts[event.key]();
  });

  // -- where a term was best, drawn over the picture while the term is pointed at --

  const point = (event) => {
    for (const box of frame.querySelectorAll(".view-box")) box.remove();
    const box = event.target.closest?.("[data-box]")?.querySelector(".view-box");
    if (box && event.type !== "pointerleave" && event.type !== "focusout") frame.append(box.cloneNode(true));
  };
  for (const kind of ["pointerover", "pointerleave", "focusin", "focusout"]) about.addEventListener(kind, point);

  // -- pointers: drag what is zoomed, swipe what is not, pinch --

  const down = new Map();
  let [start, spread] = [null, 0];
  const distance = () => {
    const [a, b] = [...down.values()];
    return Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
  };
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(scale * Math.exp(-event.deltaY / 400), event);
  }, { passive: false });
  stage.addEventListener("dblclick", (event) => {
    if (!event.target.closest("button")) zoom(scale > 1 ? 1 : 2.5, event);
  });
  stage.addEventListener("pointerdown", (event) => {
    if (event.target.closest("button")) return;
    down.set(event.pointerId, event);
    stage.setPointerCapture(event.pointerId);
    start = down.size === 1 ? event : null;
    if (down.size === 2) spread = distance();
  });
  stage.addEventListener("pointermove", (event) => {
    const last = down.get(event.pointerId);
    if (!last) return;
    down.set(event.pointerId, event);
    if (down.size === 2) {
      const [a, b] = [...down.values()];
      const now = distance();
      zoom((scale * now) / spread, { clientX: (a.clientX + b.clientX) / 2, clientY: (a.clientY + b.clientY) / 2 });
      spread = now;
    } else if (scale > 1) {
      [x, y] = [x + event.clientX - last.clientX, y + event.clientY - last.clientY];
      draw();
    }
  });
  const up = (event) => {
    if (!down.delete(event.pointerId) || event.type === "pointercancel" || !start || scale > 1) return;
    const [dx, dy] = [event.clientX - start.clientX, event.clientY - start.clientY];
    if (Math.abs(dx) > 50 && Math.abs(dx) > 2 * Math.abs(dy)) step(dx < 0 ? 1 : -1);
    else if (event.target === stage && Math.hypot(dx, dy) < 5 && event.pointerType === "mouse" && outside(event)) dialog.close();
  };
  const outside = (event) => {
    const box = frame.getBoundingClientRect();
    return event.clientX < box.left || event.clientX > box.right || event.clientY < box.top || event.clientY > box.bottom;
  };
  stage.addEventListener("pointerup", up);
  stage.addEventListener("pointercancel", up);
  return { open, close: () => dialog.open && dialog.close(), get card() { return card; } };
}
