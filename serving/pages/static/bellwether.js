// Comfort only: every page works without this script.
"use strict";

document.documentElement.classList.add("has-script");

// A filter applies as soon as it is chosen. Empty fields stay out of the address.
for (const form of document.querySelectorAll("form[data-apply]")) {
  form.addEventListener("change", (event) => {
    if (event.target.matches("select")) form.requestSubmit();
  });
  form.addEventListener("submit", () => {
    for (const field of form.elements) if (field.value === "") field.disabled = true;
  });
}

// On a phone the filters are folded away until they are wanted.
if (matchMedia("(max-width: 760px)").matches && !location.search) {
  for (const fold of document.querySelectorAll(".filter-fold")) fold.open = false;
}

// Coming back to a page finds its fields as they were, not disabled.
addEventListener("pageshow", () => {
  for (const field of document.querySelectorAll("form[data-apply] :disabled")) {
    field.disabled = false;
  }
});

// "/" or Ctrl+K leads to the search; accounts are suggested while typing.
const search = document.querySelector(".search input");
if (search) {
  const found = document.getElementById("found");
  addEventListener("keydown", (event) => {
    const isTyping = event.target.matches("input, select, textarea");
    const isAsked = (event.key === "/" && !isTyping) || (event.key === "k" && (event.ctrlKey || event.metaKey));
    if (!isAsked) return;
    event.preventDefault();
    search.focus();
    search.select();
  });
  let asked = 0;
  search.addEventListener("input", async () => {
    const turn = ++asked;
    await new Promise((done) => setTimeout(done, 120));
    if (turn !== asked || search.value.trim().length < 2) return;
    const answer = await fetch("/search.json?q=" + encodeURIComponent(search.value));
    if (turn !== asked || !answer.ok) return;
    const { rows } = await answer.json();
    found.replaceChildren(...rows.map((row) => new Option(row.name, row.account_id)));
  });
}
