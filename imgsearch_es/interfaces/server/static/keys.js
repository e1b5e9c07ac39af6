// What keys and words do, and how this browser forgets the token.

import { forgetToken } from "./page.js";

const dialog = document.getElementById("keys");
export const open = () => dialog.showModal();

dialog.querySelector("#forget-token").addEventListener("click", () => {
  forgetToken();
  location.reload();
});
