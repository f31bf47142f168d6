/* The service worker: shows what arrives, says that it arrived, and opens what is clicked.
 *
 * A site serves one line as its own /push-worker.js, since a service worker must be of the page's origin:
 *   importScripts("https://notify.example/push/worker.js");
 *
 * Belongs here: pushes in both forms (ours, and FCM's for the web), clicks, beacons, a subscription that the browser
 * changed by itself. Does not belong here: permission and registering (script.js). Whatever arrives, something is shown:
 * browsers take the permission away from workers that stay silent.
 */
(() => {
  "use strict";
  const STORE = "notify-push"; // as in script.js
  // Waits before a beacon that got no answer is sent again. Browsers end a worker some 30 s after its event.
  const AGAIN_MS = [1_000, 5_000];
  const BEACONS = ["received", "clicked", "opened"];

  self.addEventListener("push", (event) => event.waitUntil(received(event.data)));
  self.addEventListener("notificationclick", (event) => {
    const { data } = event.notification;
    // A site's own notifications are its own worker's, which may have loaded this one.
    if (!data?.notifyPush) return;
    event.notification.close();
    event.waitUntil(clicked(data, event.action));
  });
  self.addEventListener("pushsubscriptionchange", (event) => event.waitUntil(moved(event)));

  async function received(data) {
    const { title, options } = shown(parsed(data), (await states()).find(({ iconUrl }) => iconUrl)?.iconUrl);
    const showing = self.registration
      .showNotification(title, options)
      // An option that this browser takes for wrong: the words matter most.
      .catch(() => self.registration.showNotification(title, { body: options.body, tag: options.tag, data: options.data }));
    const told = () => tell("notification", { title, ...options });
    await Promise.allSettled([showing.then(told, told), beacon(options.data, "received")]);
  }

  async function clicked(data, action) {
    // A button without a link opens nothing: it may say "not now".
    const links = data.links ?? {};
    // An action may have the name of what every object has.
    const link = action ? (Object.hasOwn(links, action) ? links[action] : undefined) : data.link;
    await Promise.allSettled([
      open(link),
      beacon(data, "clicked", action),
      beacon(data, "opened"),
      tell("click", { action: action || undefined, link, data }),
    ]);
  }

  /** Show the tab that has the address already, or a new one. */
  async function open(link) {
    if (!link) return;
    const tab = (await tabs()).find(({ url }) => url === link);
    await (tab ? tab.focus().catch(() => self.clients.openWindow(link)) : self.clients.openWindow(link));
  }

  async function beacon({ receipt }, event, action) {
    if (!receipt) return;
    const address = receipt.replace(`/${BEACONS[0]}?`, `/${event}?`) + (action ? `&action=${encodeURIComponent(action)}` : "");
    for (const wait of [0, ...AGAIN_MS]) {
      if (wait) await new Promise((done) => setTimeout(done, wait));
      try {
        // Without CORS the answer cannot be read: that there was one is enough.
        await fetch(address, { method: "POST", mode: "no-cors", keepalive: true, credentials: "omit" });
        return;
      } catch {
        // Without a connection.
      }
    }
  }

  function parsed(data) {
    try {
      return object(data.json()) ?? {};
    } catch {
      return {};
    }
  }

  /** Return the title and options of a payload in either form, without trusting a single field. */
  function shown(payload, defaultIcon) {
    // FCM nests the sender's data, all text, and may have what is shown beside it.
    const data = object(payload.data) ?? payload;
    const fcm = object(payload.notification) ?? {};
    const actions = list(fcm.actions ?? data.actions).filter(({ action, title }) => text(action) && text(title));
    // Links by action: FCM's notification has none, our data has.
    const links = [...actions, ...list(data.actions)].map(({ action, link }) => [action, safe(link)]);
    const options = {
      body: text(fcm.body) ?? text(data.body),
      icon: image(fcm.icon) ?? image(data.icon_url) ?? image(defaultIcon),
      image: image(fcm.image) ?? image(data.image_url),
      tag: text(fcm.tag) ?? text(data.tag),
      actions: actions
        .slice(0, self.Notification?.maxActions ?? 2)
        .map(({ action, title, icon, icon_url }) => ({ action, title, icon: image(icon) ?? image(icon_url) })),
      data: {
        notifyPush: true,
        notificationId: text(data.notificationId),
        receipt: web(data.receipt),
        link: safe(data.link) ?? safe(object(payload.fcmOptions)?.link) ?? safe(fcm.click_action),
        links: Object.fromEntries(links.filter(([, link]) => link)),
      },
    };
    for (const name of Object.keys(options)) if (options[name] === undefined) delete options[name];
    return { title: text(fcm.title) ?? text(data.title) ?? self.location.hostname, options };
  }

  const object = (value) => (value && typeof value === "object" && !Array.isArray(value) ? value : undefined);
  const text = (value) => (typeof value === "string" && value ? value : undefined);

  /** Return a list's objects; FCM's data has lists as JSON. */
  function list(value) {
    try {
      const found = typeof value === "string" ? JSON.parse(value) : value;
      return Array.isArray(found) ? found.filter(object) : [];
    } catch {
      return [];
    }
  }

  function address(value, fits) {
    try {
      const url = new URL(text(value));
      return fits(url) ? url.href : undefined;
    } catch {
      return undefined;
    }
  }
  /** Only https is opened, and the site itself, which on a developer's machine may have none. */
  const safe = (value) => address(value, ({ protocol, origin }) => protocol === "https:" || origin === self.location.origin);
  const image = safe;
  const web = (value) => address(value, ({ protocol }) => protocol === "https:" || protocol === "http:");

  const tabs = () => self.clients.matchAll({ type: "window", includeUncontrolled: true });
  async function tell(notifyPush, what) {
    for (const tab of await tabs()) tab.postMessage({ notifyPush, ...what });
  }

  async function states() {
    try {
      const store = await caches.open(STORE);
      return await Promise.all((await store.matchAll()).map((found) => found.json()));
    } catch {
      return [];
    }
  }

  /** Take the browser's new subscription to each contact that had the old one. What fails, the next visit mends. */
  async function moved({ newSubscription }) {
    await navigator.locks.request(STORE, async () => {
      for (const state of await states()) {
        const { ingress, domain, deviceToken, endpoint, applicationServerKey, email, visitorGuid } = state;
        if (!deviceToken || !endpoint) continue;
        const { pushManager } = self.registration;
        const fresh = newSubscription ?? (await pushManager.subscribe({ userVisibleOnly: true, applicationServerKey }));
        const subscription = fresh.toJSON();
        await call("PUT", `${ingress}/push-contacts/${encodeURIComponent(deviceToken)}/subscription`, { subscription });
        const answer = await call("POST", `${ingress}/push-contacts`, { domain, subscription, email, visitorGuid });
        if (!answer.ok) continue;
        const now = { ...state, ...(await answer.json()), endpoint: subscription.endpoint };
        await (await caches.open(STORE)).put(`/${STORE}/${domain}`, new Response(JSON.stringify(now)));
      }
    });
  }

  const call = (method, url, body) =>
    fetch(url, { method, headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), credentials: "omit" });
})();
