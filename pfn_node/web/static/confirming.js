// Escape closes a question that a button asks (`details.confirm`), and goes back to the button.

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const asked = event.target.closest("details.confirm[open]");
  if (asked === null) return;
  asked.open = false;
  asked.querySelector("summary").focus();
});
