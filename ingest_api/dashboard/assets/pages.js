// What the pages need of the browser beside Dash: titles, focus, the end of a session, forms that change the address.
(function () {
  "use strict";
  var SESSION_MS = 4000, TITLE = "Notifications";

  // A session that is over: the page goes, at once when Dash hears of it, within seconds otherwise.
  function leave() {
    location.assign("/dashboard/sign-in?next=" + encodeURIComponent(location.pathname + location.search));
  }
  var plain = window.fetch;
  window.fetch = function () {
    return plain.apply(this, arguments).then(function (answer) {
      if (answer.status === 401) { leave(); }
      return answer;
    });
  };
  setInterval(function () {
    if (!document.hidden) { window.fetch("/dashboard/session").catch(function () {}); }
  }, SESSION_MS);

  // Addresses change without a new document: Dash's location listens for this event.
  function go(address) {
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

  // A new page says its title, and the keyboard goes on at its top. The first one, and a page that moves, do not.
  var path = null;
  function shown() {
    var main = document.getElementById("page");
    if (main === null || !main.dataset.title) { return; }
    var title = main.dataset.title + (main.dataset.title === TITLE ? "" : " · " + TITLE);
    // Not the same again: that is a change too, of which this would be told.
    if (document.title !== title) { document.title = title; }
    if (path !== null && path !== main.dataset.path) {
      scrollTo(0, 0);
      main.focus({ preventScroll: true });
    }
    path = main.dataset.path;
  }
  new MutationObserver(shown).observe(document.documentElement, {
    childList: true, subtree: true, attributes: true, attributeFilter: ["data-title", "data-path"],
  });
})();
