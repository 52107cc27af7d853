// Runs before the first paint, so that a chosen scheme does not flash. No module: it must block.
(() => {
  const chosen = localStorage.getItem("desk-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
