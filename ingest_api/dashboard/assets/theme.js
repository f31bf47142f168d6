// The theme: what the system says, or what was chosen here. In the document's head, so that no page flashes.
(function () {
  "use strict";
  // What our scripts make of styles is ours: it has the document's nonce, without which no style is applied.
  var nonce = document.currentScript.nonce, create = document.createElement;
  if (nonce) {
    document.createElement = function (name) {
      var made = create.apply(this, arguments);
      if (String(name).toLowerCase() === "style") { made.nonce = nonce; }
      return made;
    };
  }
  var NAME = "notify-dashboard-theme", root = document.documentElement, dark = matchMedia("(prefers-color-scheme: dark)");
  function chosen() {
    try { return localStorage.getItem(NAME); } catch (error) { return null; }
  }
  function show(theme) {
    if (theme === "light" || theme === "dark") { root.dataset.theme = theme; } else { delete root.dataset.theme; }
    label();
  }
  function isDark() { return (root.dataset.theme || (dark.matches ? "dark" : "light")) === "dark"; }
  function label() {
    var button = document.getElementById("theme");
    if (button === null) { return; }
    var words = isDark() ? "Light theme" : "Dark theme";
    if (button.textContent !== words) { button.textContent = words; }
  }
  show(chosen());
  document.addEventListener("click", function (event) {
    if (!(event.target instanceof Element) || event.target.closest("#theme") === null) { return; }
    var theme = isDark() ? "light" : "dark";
    // What the system says anyway is not kept: it goes on following the system.
    var kept = (theme === "dark") === dark.matches ? null : theme;
    try {
      if (kept === null) { localStorage.removeItem(NAME); } else { localStorage.setItem(NAME, kept); }
    } catch (error) { /* It holds for this page then. */ }
    show(kept);
  });
  addEventListener("storage", function (event) { if (event.key === NAME) { show(event.newValue); } });
  dark.addEventListener("change", label);
  // The button comes with the pages.
  new MutationObserver(label).observe(root, { childList: true, subtree: true });
})();
