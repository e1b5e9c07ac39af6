// A picture of this person on its way: smaller, if the model needs no more of it, and how far it is.

import { answerOf, ask, busy, changed, go, isUrl, keepOwn, made, main, post, say, words } from "./page.js";

const LONGEST = 1024;

/** A JPEG of at most 1,024 pixels a side; the file itself where it is small, or this browser cannot read it. */
async function smaller(file) {
  try {
    const picture = await createImageBitmap(file, { imageOrientation: "from-image" });
    const scale = LONGEST / Math.max(picture.width, picture.height);
    if (scale >= 1) return file;
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [picture.width, picture.height].map((side) => Math.max(1, Math.round(side * scale)));
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.fillStyle = "#fff"; // as the server has it below what is transparent
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(picture, 0, 0, canvas.width, canvas.height);
    picture.close();
    const made = await new Promise((resolve) => { canvas.toBlob(resolve, "image/jpeg", 0.92); });
    return made && made.size < file.size ? made : file;
  } catch {
    return file; // the server says what it is, or reads what a browser does not
  }
}

/** As fetch; `told` is called with the share that is sent. */
function send(url, { body, headers }, told) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", url);
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.responseType = "blob";
    request.upload.onprogress = (event) => event.lengthComputable && told(event.loaded / event.total);
    request.onload = () => resolve(new Response(request.response, { status: request.status }));
    request.onerror = () => reject(new TypeError("no answer"));
    request.send(body);
  });
}

/** The picture as it is here, before the server has it, with what is done now. */
function showOwn(url) {
  const image = made("img", { alt: "Query picture: your picture", src: url });
  const said = made("figcaption", { role: "status" }, "Sending…");
  const figure = made("figure", { className: "example image own" }, made("div", { className: "frame" }, image), said);
  const shelf = made("section", { className: "shelf" }, figure);
  (main.querySelector(".content") ?? main).prepend(shelf);
  scrollTo({ top: 0 });
  return {
    told(share) { said.textContent = share < 1 ? `Sending ${Math.round(100 * share)} %` : "Looking at it…"; },
    remove() { shelf.remove(); },
  };
}

/** Searches by a file of this person, or by what is at an address. */
export const searchBy = (given) => (given instanceof File ? searchByFile(given) : searchByUrl(given));

async function searchByFile(file) {
  const url = URL.createObjectURL(file);
  const picture = showOwn(url);
  busy(true);
  try {
    const sent = await smaller(file);
    if (sent.size > Number(document.body.dataset.maxBytes)) {
      throw new Error(`The picture is larger than ${Math.round(document.body.dataset.maxBytes / 2 ** 20)} MB.`);
    }
    const body = new FormData();
    body.append("picture", sent, "picture");
    const by = (...asked) => send(...asked, picture.told);
    await uploaded(() => ask("/api/v1/uploads", { method: "POST", body, by }), (name) => keepOwn(name, url));
  } catch (error) {
    say(error.message);
  } finally {
    picture.remove();
    busy(false);
  }
}

const searchByUrl = (url) => uploaded(() => post("/api/v1/uploads/url", { url }));

async function uploaded(send, kept = () => {}) {
  busy(true);
  try {
    const answer = await answerOf(await send());
    kept(answer.id);
    const text = words.value.trim();
    const q = isUrl(text) ? new URLSearchParams(location.search).get("q") : text;
    return await go(changed({ image: answer.id, q: q || null, region: null, like: null, dislike: null }));
  } catch (error) {
    return say(error.message);
  } finally {
    busy(false);
  }
}
