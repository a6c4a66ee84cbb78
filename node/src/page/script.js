"use strict";
// Fetches the live parts of the page every two seconds while somebody looks.
const lost = document.getElementById("lost");
async function refresh() {
  if (document.visibilityState === "visible") {
    try {
      const answer = await fetch("/live");
      if (!answer.ok) throw new Error(answer.status);
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const part of fresh.querySelectorAll("[data-live]")) {
        const shown = document.getElementById(part.id);
        if (shown && shown.innerHTML !== part.innerHTML) shown.innerHTML = part.innerHTML;
      }
      lost.hidden = true;
    } catch {
      lost.hidden = false;
    }
  }
  setTimeout(refresh, 2000);
}
document.getElementById("refresh").hidden = true;
setTimeout(refresh, 2000);
