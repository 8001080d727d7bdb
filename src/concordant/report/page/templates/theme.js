/* The theme before anything is painted: the reader's last choice, else what the system prefers. */
(() => {
  let theme = null;
  try { theme = localStorage.getItem("concordant-theme"); } catch { /* storage may be closed to files */ }
  if (theme !== "light" && theme !== "dark") {
    theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  }
  document.documentElement.dataset.theme = theme;
})();
