// What keys and words do, and how this browser forgets the token.

const dialog = document.getElementById("keys");
export const open = () => dialog.showModal();

dialog.querySelector("#forget-token").addEventListener("click", () => {
  for (const storage of [localStorage, sessionStorage]) storage.removeItem("imgsearch-token");
  location.reload();
});
