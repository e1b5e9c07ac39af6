// A picture of this person on its way: smaller, if the model needs no more of it, and how far it is.

const LONGEST = 1024;

/** A JPEG of at most 1,024 pixels a side; the file itself where it is small, or this browser cannot read it. */
export async function smaller(file) {
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

/** Posts a form; `told` is called with the share that is sent. Resolves to a Response. */
export function send(url, body, headers, told) {
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
export function showOwn(main, url) {
  const figure = document.createElement("figure");
  figure.className = "example image own";
  const frame = figure.appendChild(document.createElement("div"));
  frame.className = "frame";
  const image = frame.appendChild(document.createElement("img"));
  image.alt = "Query picture: your picture";
  image.src = url;
  const said = figure.appendChild(document.createElement("figcaption"));
  said.setAttribute("role", "status");
  said.textContent = "Sending…";
  const shelf = document.createElement("section");
  shelf.className = "shelf";
  shelf.append(figure);
  (main.querySelector(".content") ?? main).prepend(shelf);
  scrollTo({ top: 0 });
  return {
    told(share) { said.textContent = share < 1 ? `Sending ${Math.round(100 * share)} %` : "Looking at it…"; },
    remove() { shelf.remove(); },
  };
}
