// Choosing a part of a picture, by pointer or by keys.

import { changed, go, made, source } from "./page.js";

const STEP = 0.02;
const SMALLEST = 0.05;
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

/** Puts a box over a picture, by fractions of it. */
function put(box, [left, top, right, bottom]) {
  const places = { left, top, width: right - left, height: bottom - top };
  for (const [side, value] of Object.entries(places)) box.style[side] = `${100 * value}%`;
}

/** Resolves to "left,top,right,bottom" as fractions, or null when the person changes their mind. */
function chooseRegion(src, before) {
  const dialog = document.getElementById("crop");
  const stage = document.getElementById("stage");
  const frame = document.getElementById("frame");
  const corner = frame.querySelector(".corner");
  const image = document.getElementById("crop-image");
  const given = (before || "").split(",").map(Number);
  let [left, top, right, bottom] = given.length === 4 ? given : [0.2, 0.2, 0.8, 0.8];

  const show = () => {
    put(frame, [left, top, right, bottom]);
    const percent = [left, top, right, bottom].map((value) => Math.round(100 * value));
    document.getElementById("frame-text").textContent =
      `From ${percent[0]} to ${percent[2]} % of the width, ${percent[1]} to ${percent[3]} % of the height`;
  };
  const move = (dx, dy) => {
    dx = clamp(dx, -left, 1 - right);
    dy = clamp(dy, -top, 1 - bottom);
    [left, right, top, bottom] = [left + dx, right + dx, top + dy, bottom + dy];
    show();
  };
  const resize = (x, y) => {
    right = clamp(x, left + SMALLEST, 1);
    bottom = clamp(y, top + SMALLEST, 1);
    show();
  };
  const at = (event) => {
    const box = stage.getBoundingClientRect();
    return [
      clamp((event.clientX - box.left) / box.width, 0, 1),
      clamp((event.clientY - box.top) / box.height, 0, 1),
    ];
  };
  const drag = (event) => {
    event.preventDefault();
    const [x0, y0] = at(event);
    const target = event.target;
    let [x, y] = [x0, y0];
    stage.setPointerCapture(event.pointerId);
    const onMove = (moved) => {
      const [nextX, nextY] = at(moved);
      if (target === corner) resize(nextX, nextY);
      else if (target === frame) move(nextX - x, nextY - y);
      else {
        [left, right] = [Math.min(x0, nextX), Math.max(x0, nextX)];
        [top, bottom] = [Math.min(y0, nextY), Math.max(y0, nextY)];
        right = Math.min(1, Math.max(right, left + SMALLEST));
        bottom = Math.min(1, Math.max(bottom, top + SMALLEST));
        left = Math.min(left, right - SMALLEST);
        top = Math.min(top, bottom - SMALLEST);
        show();
      }
      [x, y] = [nextX, nextY];
    };
    const until = new AbortController();
    stage.addEventListener("pointermove", onMove, { signal: until.signal });
    for (const kind of ["pointerup", "pointercancel"]) stage.addEventListener(kind, () => until.abort(), { signal: until.signal });
    frame.focus();
  };
  const keys = (event) => {
    const by = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };
    const [dx, dy] = by[event.key] ?? [0, 0];
    if (!dx && !dy) return;
    event.preventDefault();
    if (event.shiftKey) resize(right + dx, bottom + dy);
    else move(dx, dy);
  };

  return new Promise((resolve) => {
    const done = () => {
      stage.removeEventListener("pointerdown", drag);
      frame.removeEventListener("keydown", keys);
      const box = [left, top, right, bottom].map((value) => clamp(value, 0, 1).toFixed(3));
      resolve(dialog.returnValue === "apply" ? box.join(",") : null);
    };
    stage.addEventListener("pointerdown", drag);
    frame.addEventListener("keydown", keys);
    dialog.addEventListener("close", done, { once: true });
    dialog.returnValue = "";
    image.src = src;
    show();
    dialog.showModal();
    frame.focus();
  });
}

/** Asks for a part of the query's picture, and searches for it. */
export async function crop(data) {
  const region = await chooseRegion(await source(`/thumbnails/${data.crop}/1280`), data.region);
  if (region) go(changed({ region }));
}

/** Shows on the query's picture which part of it counts. */
export function outline(image, region) {
  const box = made("span", { className: "outline" });
  put(box, region.split(",").map(Number));
  image.after(box);
}
