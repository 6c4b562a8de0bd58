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
