// What the pages need of the browser beside Dash: titles, focus, the end of a session, forms that change the address.
(function () {
  "use strict";
  var SESSION_MS = 4000, TITLE = "Notify";

  // A session that is over: the page goes, at once when Dash hears of it, within seconds otherwise.
  function leave() {
    location.assign("/dashboard/sign-in?next=" + encodeURIComponent(location.pathname + location.search));
  }
  // While parts are made anew the page is shorter for a moment, and whoever reads at its end would be pulled up.
  var standing = 0;
  function stand() {
    var main = document.getElementById("page");
    if (main === null) { return; }
    main.style.minHeight = main.offsetHeight + "px";
    clearTimeout(standing);
    standing = setTimeout(function () { main.style.minHeight = ""; }, 600);
  }
  var plain = window.fetch;
  window.fetch = function () {
    return plain.apply(this, arguments).then(function (answer) {
      if (answer.status === 401) { leave(); }
      if (answer.status === 200 && String(answer.url).includes("/_dash-update-component")) { stand(); }
      return answer;
    });
  };
  setInterval(function () {
    if (!document.hidden) { window.fetch("/dashboard/session").catch(function () {}); }
  }, SESSION_MS);

  // Addresses change without a new document: Dash's location listens for this event.
  var sent = null;
  function go(address) {
    sent = address;
    if (address === location.pathname + location.search) { return; }
    history.pushState({}, "", address);
    dispatchEvent(new CustomEvent("_dashprivate_pushstate"));
  }
  function submitted(form) {
    var query = new URLSearchParams();
    new FormData(form).forEach(function (value, name) { if (value !== "") { query.set(name, value); } });
    var text = query.toString();
    go(form.getAttribute("action") + (text ? "?" + text : ""));
  }
  document.addEventListener("submit", function (event) {
    if (event.target.dataset.live !== undefined) { event.preventDefault(); submitted(event.target); }
  });
  document.addEventListener("change", function (event) {
    var form = event.target.form;
    if (form && form.dataset.live !== undefined) { submitted(form); }
  });
  // The other way round: a link, or the way back, changes what the controls of a form say.
  function followed() {
    var here = location.pathname + location.search, query = new URLSearchParams(location.search);
    if (here === sent) { return; }
    sent = null;
    document.querySelectorAll("form[data-live] :is(input:not([type=hidden]), select)").forEach(function (control) {
      if (control.name) { control.value = query.get(control.name) || ""; }
    });
  }
  ["popstate", "_dashprivate_pushstate"].forEach(function (name) { addEventListener(name, followed); });

  // Dash makes a changed part anew. Whoever was in it with the keyboard goes on where the same thing is now.
  var held = null;
  document.addEventListener("focusin", function (event) { held = event.target; });
  document.addEventListener("focusout", function (event) {
    var left = event.target;
    // Some browsers say this of what is about to go, too.
    setTimeout(function () { if (left.isConnected && held === left) { held = null; } });
  });
  function same(node) {
    if (node.id) { return document.getElementById(node.id); }
    var href = node.getAttribute("href");
    return href === null ? null : Array.from(document.querySelectorAll("main a")).find(function (link) {
      return link.getAttribute("href") === href;
    }) || null;
  }
  function hold() {
    if (held === null || held.isConnected || document.activeElement !== document.body) { return; }
    var found = same(held);
    held = null;
    if (found !== null) { found.focus({ preventScroll: true }); }
  }

  // A new page says its title, and the keyboard goes on at its top. The first one, and a page that moves, do not.
  var path = null;
  function shown() {
    var main = document.getElementById("page");
    if (main === null || !main.dataset.title) { return; }
    var title = main.dataset.title + " · " + TITLE;
    // Not the same again: that is a change too, of which this would be told.
    if (document.title !== title) { document.title = title; }
    if (path !== null && path !== main.dataset.path) {
      scrollTo(0, 0);
      main.focus({ preventScroll: true });
    }
    path = main.dataset.path;
  }
  new MutationObserver(function () { shown(); hold(); }).observe(document.documentElement, {
    childList: true, subtree: true, attributes: true, attributeFilter: ["data-title", "data-path"],
  });
})();
