/* The page script: makes this browser a contact of a domain, and keeps it one.
 *
 *   <script src="https://notify.example/push/script.js" data-domain="example.com"></script>
 *
 * Belongs here: permission, subscribing, registering: what a page may call. Does not belong here: what arrives
 * (worker.js), any look. What is remembered is in Cache Storage: the worker, which has no localStorage, needs it too
 * when a browser changes its subscription by itself. One lock keeps tabs and worker from registering at once.
 */
(() => {
  "use strict";
  if (window.NotifyPush) return;
  const STORE = "notify-push"; // as in worker.js
  // Of one call. A page that waits longer has been left.
  const PATIENCE_MS = 15_000;
  // What a 429 asks for when its Retry-After cannot be read.
  const RETRY_S = 60;
  // A worker of its own, with a scope that holds no page, is in no other service worker's way.
  const DEFAULTS = { workerUrl: "/push-worker.js", scope: "notify-push-scope" };
  // What visitors write on a page can hold <img name="currentScript">, which stands for it then: DOM clobbering.
  const tag = document.currentScript instanceof HTMLScriptElement ? document.currentScript : null;
  let options = null;
  let known = null; // the domain's configuration

  /** What went wrong. `code` is stable; `status`, `fields` and `retryAfter` (seconds) where there are any. */
  class NotifyPushError extends Error {
    constructor(code, message, more = {}) {
      super(message);
      Object.assign(this, { name: "NotifyPushError", code, ...more });
    }
  }

  class Push extends EventTarget {
    Error = NotifyPushError;
    /** Settles once this visit's work is done; never rejects: see the event `error`. */
    ready = Promise.resolve();

    /** Begin. A script element with data-domain does so by itself. Returns `ready`. */
    init({ domain, ingress, ...rest }) {
      const source = ingress ?? (tag?.src && new URL("..", tag.src).href);
      if (!domain || !source) throw new NotifyPushError("invalid_options", "domain and ingress are needed.");
      options = { ...DEFAULTS, ...given(rest), domain, ingress: source.replace(/\/+$/, "") };
      this.ready = visit().catch(report);
      return this.ready;
    }

    /** True when this browser can. Safari on iOS can once the page is on the home screen. */
    isSupported() {
      return isSecureContext && "serviceWorker" in navigator && "PushManager" in window && "Notification" in window;
    }

    /** `default` (nobody was asked), `granted` or `denied`. */
    permission() {
      return this.isSupported() ? Notification.permission : "denied";
    }

    /** Whether the domain takes contacts. Ask before a button is shown: subscribe() then asks nobody in vain. */
    async isEnabled() {
      return (await configuration()).isPushFeatureEnabled;
    }

    /** Return {supported, permission, subscribed, deviceToken, email, visitorGuid}. */
    async status() {
      const supported = this.isSupported();
      const { deviceToken, email, visitorGuid } = supported ? await load() : {};
      const subscribed = deviceToken !== undefined && this.permission() === "granted";
      return { supported, permission: this.permission(), subscribed, deviceToken, email, visitorGuid };
    }

    /** Ask for permission and register; return the device token. Call it from a click: browsers ask only then. */
    async subscribe({ email, visitorGuid } = {}) {
      started();
      if (!this.isSupported()) throw new NotifyPushError("unsupported", "The browser has no push, or the page no https.");
      if (known && !known.isPushFeatureEnabled) throw disabled();
      // Before anything that takes time: Firefox and Safari forget the click.
      const permission = await Notification.requestPermission();
      if (permission !== "granted") throw new NotifyPushError(`permission_${permission}`, "The user did not allow it.");
      return locked(async () => register({ ...(await load()), ...given({ email, visitorGuid }), optedOut: undefined }));
    }

    /** Say whose browser this is. Returns true once it is stored, false where it waits for subscribe(). */
    async setEmail(email) {
      return put("email", "email", email);
    }

    /** Replace the visitor's guid. Returns as setEmail() does. */
    async setVisitorGuid(visitorGuid) {
      return put("visitorGuid", "visitor-guid", visitorGuid);
    }

    /** End it, here and at the ingress; where that cannot be reached, there at the next visit. */
    async unsubscribe() {
      started();
      if (!this.isSupported()) return;
      await locked(async () => {
        const registration = await navigator.serviceWorker.getRegistration(workerPlace().scope);
        await (await registration?.pushManager.getSubscription())?.unsubscribe();
        await leave({ ...ended(await load()), optedOut: true }).catch(report);
      });
      tell("change", await this.status());
    }
  }

  /** What needs no click: finish what failed, refresh the registration once a visit. */
  async function visit() {
    if (!api.isSupported()) return;
    await locked(async () => {
      let state = await load();
      const granted = Notification.permission === "granted";
      if (state.deviceToken && Notification.permission === "denied") state = ended(state);
      if (state.leaving) state = await leave(state);
      const now = { ...state, ...given({ email: options.email, visitorGuid: options.visitorGuid }) };
      const changed = state.unsent || now.email !== state.email || now.visitorGuid !== state.visitorGuid;
      const seen = `${STORE}:${options.domain}`;
      if (!granted || state.optedOut || (sessionStorage.getItem(seen) && !changed)) return;
      if (!(await configuration()).isPushFeatureEnabled) return;
      await register(now);
      sessionStorage.setItem(seen, "1");
    });
  }

  /** Make the browser and the ingress agree; return the device token. Until then the state is `unsent`. */
  async function register(known) {
    const state = { ...known, visitorGuid: known.visitorGuid ?? crypto.randomUUID(), unsent: true };
    await save(state);
    const { isPushFeatureEnabled, applicationServerKey, iconUrl } = await configuration();
    if (!isPushFeatureEnabled) throw disabled();
    const registration = await worker();
    const contact = { domain: options.domain, visitorGuid: state.visitorGuid, email: state.email };
    const old = state.deviceToken;
    if (options.getToken) {
      contact.deviceToken = await failing("token_failed", options.getToken(registration));
      if (!contact.deviceToken) throw new NotifyPushError("token_failed", "getToken() gave no token.");
    } else {
      contact.subscription = (await subscribed(registration, applicationServerKey)).toJSON();
      // The browser has another address than the contact, which moves with all that is known of it.
      const moves = old && state.endpoint && state.endpoint !== contact.subscription.endpoint;
      if (moves) await call("PUT", `${path(old)}/subscription`, { subscription: contact.subscription }).catch(refused);
    }
    const { deviceToken } = await post(contact);
    const { domain, subscription, ...stored } = contact;
    const endpoint = subscription?.endpoint;
    // A token that Firebase replaced, or of the other way, is nobody's; one that moved is still this contact's.
    const left = endpoint && state.endpoint ? state.leaving : (old ?? state.leaving);
    const leaving = left === deviceToken ? undefined : left;
    const made = { ...stored, deviceToken, endpoint, applicationServerKey, iconUrl, leaving };
    await save({ ...state, ...made, unsent: undefined, retryAt: undefined });
    if (leaving) await call("DELETE", path(leaving)).catch(refused).then(() => change({ leaving: undefined }), report);
    tell("change", await api.status());
    return deviceToken;
  }

  /** Register. An e-mail address or guid that is refused is dropped, and does not keep the browser out. */
  async function post(contact) {
    try {
      return await call("POST", "/push-contacts", contact);
    } catch (error) {
      const wrong = ["email", "visitorGuid"].filter((name) => contact[name] && error.fields?.includes(name));
      if (!wrong.length) throw error;
      report(error);
      for (const name of wrong) contact[name] = name === "email" ? undefined : crypto.randomUUID();
      return call("POST", "/push-contacts", contact);
    }
  }

  async function subscribed({ pushManager }, applicationServerKey) {
    const existing = await pushManager.getSubscription();
    // Push services refuse what is signed with another key than the subscription's.
    if (existing && base64url(existing.options?.applicationServerKey) === applicationServerKey) return existing;
    await existing?.unsubscribe();
    return failing("subscription_failed", pushManager.subscribe({ userVisibleOnly: true, applicationServerKey }));
  }

  async function put(name, segment, value) {
    if (!api.isSupported()) return false;
    return locked(async () => {
      const { deviceToken, unsent, [name]: before } = await change({});
      await change({ [name]: value, unsent: true });
      if (!deviceToken) return false;
      try {
        await call("PUT", `${path(deviceToken)}/${segment}`, { [name]: value });
      } catch (error) {
        // A contact that is gone is made again. Refused for good: what was known stays. No answer: until the next visit.
        if (error.status === 404) return Boolean(await register({ ...(await load()), deviceToken: undefined }));
        if (error.fields) await change({ [name]: before, unsent });
        throw error;
      }
      await change({ unsent });
      tell("change", await api.status());
      return true;
    });
  }

  async function leave(state) {
    await save(state);
    if (state.leaving) await call("DELETE", path(state.leaving)).catch(refused);
    await change({ leaving: undefined });
    return load();
  }

  async function configuration() {
    started();
    known ??= await call("GET", `/domains/${encodeURIComponent(options.domain)}/push-configuration`);
    return known;
  }

  async function call(method, where, body) {
    const waits = Math.ceil((((await load()).retryAt ?? 0) - Date.now()) / 1000);
    if (waits > 0) throw tooMany(waits);
    const headers = body && { "Content-Type": "application/json" };
    const signal = AbortSignal.timeout(PATIENCE_MS);
    const sent = fetch(options.ingress + where, { method, headers, body: body && JSON.stringify(body), signal, credentials: "omit" });
    const answer = await failing("unreachable", sent, `No answer: is this page's origin one of ${options.domain}?`);
    if (answer.ok) return answer.status === 204 ? null : answer.json();
    if (answer.status === 429) {
      const asked = Number(answer.headers.get("Retry-After")) || RETRY_S;
      await change({ retryAt: Date.now() + asked * 1000 });
      throw tooMany(asked);
    }
    const { status } = answer;
    const { error = {} } = await answer.json().catch(() => ({}));
    const fields = status < 500 ? (error.details ?? []).map(({ field }) => field) : undefined;
    throw new NotifyPushError(error.code ?? "unexpected", error.message ?? `HTTP ${status}`, { status, fields });
  }

  async function worker() {
    const { url, scope } = workerPlace();
    // Browsers otherwise take what it imports from their cache for a day.
    const registration = await failing("worker_failed", navigator.serviceWorker.register(url, { scope, updateViaCache: "none" }));
    const rising = registration.installing ?? registration.waiting;
    if (registration.active || !rising) return registration;
    return new Promise((done, fail) => {
      const look = () => {
        if (rising.state === "activated") done(registration);
        if (rising.state === "redundant") fail(new NotifyPushError("worker_failed", `${url} could not be installed.`));
      };
      rising.addEventListener("statechange", look);
      look();
    });
  }

  function workerPlace() {
    const url = new URL(options.workerUrl, location.href);
    return { url: url.href, scope: new URL(options.scope, url).href };
  }

  async function load() {
    started();
    const found = await (await caches.open(STORE)).match(place());
    return { ...(await found?.json()), domain: options.domain, ingress: options.ingress };
  }

  async function save(state) {
    await (await caches.open(STORE)).put(place(), new Response(JSON.stringify(state)));
  }

  async function change(changes) {
    const state = await load();
    await save({ ...state, ...changes });
    return state;
  }

  const place = () => `/${STORE}/${options.domain}`;
  const locked = (work) => navigator.locks.request(STORE, work);
  const path = (token) => `/push-contacts/${encodeURIComponent(token)}`;
  const given = (values) => Object.fromEntries(Object.entries(values).filter(([, value]) => (value ?? null) !== null));
  const ended = ({ deviceToken, leaving = deviceToken, visitorGuid, optedOut }) => ({ leaving, visitorGuid, optedOut });
  const disabled = () => new NotifyPushError("domain_disabled", `${options.domain} takes no contacts now.`);
  const tooMany = (retryAfter) =>
    new NotifyPushError("rate_limited", `Ask again in ${retryAfter} s.`, { status: 429, retryAfter });
  const tell = (name, detail) => void api.dispatchEvent(new CustomEvent(name, { detail }));
  const report = (error) =>
    tell("error", error instanceof NotifyPushError ? error : new NotifyPushError("unexpected", String(error)));

  /** Take a refusal (4xx) for an answer: what is not there need not be ended or moved. */
  function refused(error) {
    if (!error.fields) throw error;
  }
  function started() {
    if (!options) throw new NotifyPushError("invalid_options", "Call NotifyPush.init() first.");
  }

  async function failing(code, promise, about = "") {
    try {
      return await promise;
    } catch (cause) {
      throw new NotifyPushError(code, `${cause?.message ?? cause} ${about}`.trim(), { cause });
    }
  }

  function base64url(buffer) {
    const text = btoa(String.fromCharCode(...new Uint8Array(buffer ?? [])));
    return text.replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
  }

  const api = (window.NotifyPush = new Push());
  navigator.serviceWorker?.addEventListener("message", ({ data }) => {
    if (data?.notifyPush) tell(data.notifyPush, data);
  });
  const { domain, worker: workerUrl, scope, visitorGuid, email } = tag?.dataset ?? {};
  if (domain) api.init({ domain, workerUrl, scope, visitorGuid, email });
})();
