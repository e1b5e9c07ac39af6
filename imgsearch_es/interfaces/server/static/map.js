// A box that is drawn over the map narrows to it.

import { go } from "./page.js";

/** Lets this person draw on the map that is shown now. */
export function draw() {
  const map = document.getElementById("map");
  if (!map || map.dataset.drawn) return;
  map.dataset.drawn = "yes";
  const box = map.querySelector(".drawn");
  const at = (event) => {
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(map.getScreenCTM().inverse());
    return [point.x, point.y];
  };
  map.addEventListener("pointerdown", (event) => {
    if (event.button || event.pointerType === "touch" || event.target.closest("a")) return;
    event.preventDefault();
    const start = at(event);
    let end = start;
    map.setPointerCapture(event.pointerId);
    const move = (moved) => {
      end = at(moved);
      for (const [name, value] of Object.entries({
        x: Math.min(start[0], end[0]), y: Math.min(start[1], end[1]),
        width: Math.abs(start[0] - end[0]), height: Math.abs(start[1] - end[1]),
      })) box.setAttribute(name, value);
    };
    const done = () => {
      map.removeEventListener("pointermove", move);
      const [west, east] = [start[0], end[0]].sort((a, b) => a - b).map((x) => degrees(x, 180));
      const [south, north] = [-start[1], -end[1]].sort((a, b) => a - b).map((y) => degrees(y, 90));
      if (east - west > 0.1 && north - south > 0.1) {
        const all = new URL(map.dataset.all, location.href);
        all.searchParams.append("where", `within=${[south, west, north, east]}`);
        go(all.href);
      } else box.setAttribute("width", 0);
    };
    map.addEventListener("pointermove", move);
    map.addEventListener("pointerup", done, { once: true });
    map.addEventListener("pointercancel", () => map.removeEventListener("pointermove", move), { once: true });
  });
}

const degrees = (tenths, most) => Math.max(-most, Math.min(most, Math.round(tenths * 10) / 100));
