/* The demo page: a small use of the page script. Belongs here: what its buttons do and what it shows. */
"use strict";
const at = (id) => document.getElementById(id);
const asked = new URLSearchParams(location.search).get("domain")?.trim();
const domain = named(asked);
const ingress = new URL("..", location.href).href.replace(/\/$/, "");
const BADGES = { default: ["not subscribed", ""], granted: ["not subscribed", ""], denied: ["blocked in this browser", "off"] };
const WORDS = { default: "not asked yet", granted: "granted", denied: "denied: change it in the browser’s site settings" };

/** Return a host's ASCII form, also of a pasted address; undefined for what is none: the commands must never hold it. */
function named(text) {
  const address = `https://${text?.replace(/^https?:\/\//i, "")}`;
  const host = text && URL.canParse(address) ? new URL(address).hostname : "";
  return /^[a-z0-9.-]+$/.test(host) ? host : undefined;
}

async function show() {
  const { supported, permission, subscribed, deviceToken, email, visitorGuid } = await NotifyPush.status();
  const [words, kind] = subscribed ? ["subscribed", "on"] : supported ? BADGES[permission] : ["push is not supported here", "off"];
  at("badge").textContent = words;
  at("badge").className = `badge ${kind}`;
  at("subscribe").hidden = subscribed;
  at("subscribe").disabled = !supported || permission === "denied";
  at("unsubscribe").hidden = !subscribed;
  at("permission").textContent = WORDS[permission];
  at("visitor").textContent = visitorGuid ?? "–";
  at("token").textContent = deviceToken ?? "–";
  at("token").title = deviceToken ?? "";
  if (email && document.activeElement !== at("email")) at("email").value = email;
}

function fail(error) {
  at("error").hidden = !error;
  at("error").textContent = error ? `${error.message} (${error.code ?? error.name})` : "";
}

/** Run what a button does; say what went wrong, show what is now. */
async function run(button, work) {
  fail(null);
  button.disabled = true;
  try {
    await work();
  } catch (error) {
    fail(error);
  } finally {
    button.disabled = false;
    await show();
  }
}

/** Add what arrived, or was clicked, above the rest. */
function add(heading, text, image, about) {
  at("nothing").hidden = true;
  const item = document.createElement("li");
  if (image) {
    const shown = Object.assign(new Image(), { src: image, alt: "" });
    shown.addEventListener("error", () => shown.remove());
    item.append(shown);
  }
  const words = document.createElement("div");
  const part = (tag, className, content) => words.append(Object.assign(document.createElement(tag), { className, textContent: content }));
  part("strong", "", heading);
  if (text) part("span", "text", text);
  part("span", "about", `${new Date().toLocaleTimeString()} · ${about}`);
  item.append(words);
  at("list").prepend(item);
}

function commands(name) {
  const call = (method, path, body) =>
    `curl -X ${method} ${ingress}${path} \\\n  -H "Authorization: Bearer $KEY" -H 'Content-Type: application/json' \\\n  -d '${JSON.stringify(body)}'`;
  at("put").textContent = call("PUT", `/domains/${name}`, { isPushFeatureEnabled: true, allowedOrigins: [location.origin] });
  at("send").textContent = call("POST", `/push-contacts/${name}/message`, { title: "Hello", body: "It works.", onClickLink: "https://example.com/" });
}

function begin() {
  at("domain").value = domain;
  at("contact").hidden = at("arrived").hidden = false;
  NotifyPush.addEventListener("change", show);
  NotifyPush.addEventListener("error", ({ detail }) => fail(detail));
  NotifyPush.addEventListener("notification", ({ detail: { title, body, image, icon, data } }) => {
    add(title, body, image ?? icon, data.link ? `leads to ${data.link}` : "without a link");
  });
  NotifyPush.addEventListener("click", ({ detail: { action, link } }) => {
    add(action ? `Action “${action}” clicked` : "Clicked", "", "", link ? `opens ${link}` : "opens nothing");
  });
  NotifyPush.init({ domain, workerUrl: "worker.js" }).then(show);
  // Before the user is asked for a permission in vain. Browsers keep this answer for a minute.
  const off = { code: "domain_disabled", message: "The domain’s push feature is off, or was a minute ago." };
  NotifyPush.isEnabled().then((on) => on || fail(off), fail);
  at("subscribe").addEventListener("click", ({ target }) => run(target, () => NotifyPush.subscribe()));
  at("unsubscribe").addEventListener("click", ({ target }) => {
    at("email").value = at("saved").textContent = ""; // the script forgets it, too
    run(target, () => NotifyPush.unsubscribe());
  });
  at("set-email").addEventListener("submit", (event) => {
    event.preventDefault();
    at("saved").textContent = "";
    run(event.submitter ?? at("subscribe"), async () => {
      const stored = await NotifyPush.setEmail(at("email").value.trim());
      at("saved").textContent = stored ? "Saved." : "It is sent as soon as this browser is subscribed.";
    });
  });
}

for (const button of document.querySelectorAll(".copy")) {
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(at(button.dataset.of).textContent);
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 2_000);
  });
}
commands(domain || "example.com");
if (domain) begin();
else if (asked) at("hint").textContent = "That is no host’s name: it wants one like example.com.";
