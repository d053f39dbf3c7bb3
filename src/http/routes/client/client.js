// The client of wsbcast for browsers, and for Node 22 and later.
//
// It keeps the position of each channel, comes back by itself after whatever cut it off, and goes
// on exactly there: nothing is lost or repeated unseen, a hole is told to `onGap`. It speaks
// `wsbcast.v1`; where WebSockets cannot be opened at all it listens to event streams instead.
// docs/javascript.md says how it is used, client.d.ts what it takes and gives.
//
// It is served without its indentation and its comments, so a comment has lines of its own here,
// and no string reaches over the end of a line.

const BACKOFF_MIN_MS = 500;
const BACKOFF_MAX_MS = 30000;
// Between connecting and the server's first word, twice this may pass.
const PATIENCE_MS = 10000;
// More would make the request's head too large; the others are subscribed to afterwards.
const CHANNELS_IN_URL_MAX = 20;
// Without one success, so many WebSockets are tried before an event stream is.
const SOCKETS_MAX = 2;
// From one try to get the next token to another, at most; and a token that is younger is not given
// up for a connection that could not be opened.
const RENEW_MS_MAX = 60000;
// At least: by a clock that is ahead of the server's a stream's token may have no time left, while
// the server, which ends a socket with its token, knows better.
const RENEW_MS_MIN = 1000;
const RENEW_SOCKET_MS_MIN = 250;
const WAKERS = ["online", "visibilitychange"];

// Whether it would end in the same way again: close codes that blame the client, and answers that
// do, except for "too slow" and "too many". Not 1002: some libraries say it for a 1012 they lack.
// 4403: an operator has sent it away.
const isFinal = (code) =>
  [1003, 1007, 1008, 1009, 4403].includes(code) ||
  (code >= 400 && code < 500 && code != 408 && code != 429);

const failure = (code, text = code) => Object.assign(Error(text), { code });

const place = ({ epoch, offset }) => (epoch ? `${epoch}:${offset}` : null);

const moveTo = (channel, text) => {
  const [epoch, offset] = text.split(":");
  Object.assign(channel, { epoch, offset: +offset });
};

const fromBase64 = (text) => Uint8Array.from(atob(text), (byte) => byte.charCodeAt(0));
// Byte by byte: spread over the arguments of one call, a long array would be too many.
const toBase64 = (bytes) =>
  btoa(bytes.reduce((text, byte) => text + String.fromCharCode(byte), ""));

// How long a token is good from now on, as it says itself, if it does.
const timeLeft = (token) => {
  try {
    const claims = token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/");
    return JSON.parse(atob(claims)).exp * 1000 - Date.now();
  } catch {
    return NaN;
  }
};

const bytesOf = (data) => {
  if (data instanceof ArrayBuffer) return new Uint8Array(data);
  if (ArrayBuffer.isView(data)) {
    return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  }
};

// Only sameness counts, for five minutes. `crypto.randomUUID` is not there on pages without TLS.
const newId = () => crypto.getRandomValues(new Uint32Array(4)).join("-");

export class WsBcast {
  #base;
  // The state that it has ended in.
  #ended;
  #options;
  // By name: `epoch` and `offset` (once known), `last` (what was asked for before), `told` (a hole
  // of unknown size was told, so the next jump is no news).
  #channels = new Map();
  // Publications without an answer, by id. They are sent again after a reconnect: the id is their
  // idempotency key.
  #pending = new Map();
  // The connection, or the attempt at one: `send`, `end`, `opened` (when), `greeting`, `retry` (the
  // server's word on when to come back). What reports of another link is late, and not listened to.
  #link;
  #timer;
  #beat;
  #isQuiet;
  #attempt = 0;
  // What `getToken` gave; null: it is asked before the next connection.
  #token;
  // When that was (never: `token` is of unknown age), and how long it was good then.
  #given = 0;
  #left;
  // Sockets in a row that did not open; not a number once one did.
  #unopened = 0;
  #wake = () => {
    const isHidden = globalThis.document?.visibilityState == "hidden";
    // The time that a server has named is kept to: it spreads its clients with it.
    if (this.#timer && this.#link.retry == null && !isHidden) this.#connect();
  };

  constructor(url = import.meta.url, options = {}) {
    this.#base = new URL(url, globalThis.location?.href);
    this.#options = options;
    this.#token = options.token;
    const since = new Map(Object.entries(options.since ?? {}));
    for (const name of options.channels ?? ["notifications"]) {
      this.#add(name, { since: since.get(name), last: options.last });
    }
    for (const event of WAKERS) globalThis.addEventListener?.(event, this.#wake);
    // Not before the caller has what it is told about.
    queueMicrotask(() => this.#ended || this.#connect());
  }

  get positions() {
    const known = [...this.#channels].filter(([, channel]) => channel.epoch);
    return Object.fromEntries(known.map(([name, channel]) => [name, place(channel)]));
  }

  subscribe(name, options = {}) {
    if (this.#channels.has(name)) return;
    this.#add(name, options);
    this.#ask(name);
  }

  unsubscribe(name) {
    if (this.#channels.delete(name)) this.#send({ type: "unsubscribe", channel: name });
  }

  publish(channel, data, { id = newId() } = {}) {
    return new Promise((resolve, reject) => {
      if (this.#ended) return reject(failure(this.#ended));
      const bytes = bytesOf(data);
      const frame = { type: "publish", channel, id };
      if (bytes) Object.assign(frame, { data: toBase64(bytes), encoding: "base64" });
      else frame.data = typeof data == "string" ? data : JSON.stringify(data);
      this.#pending.set(id, { frame, resolve, reject });
      this.#send(frame);
    });
  }

  close() {
    this.#finish("closed");
  }

  #add(name, { since, last }) {
    if (!/^[\w.:-]{1,128}$/.test(name)) throw TypeError(`bad channel: ${name}`);
    const channel = { last };
    if (since) moveTo(channel, since);
    this.#channels.set(name, channel);
  }

  #ask(name) {
    const channel = this.#channels.get(name);
    const since = place(channel) ?? undefined;
    this.#send({ type: "subscribe", channel: name, since, last: since ? undefined : channel.last });
  }

  // What is not sent now is made up for by `#opened`.
  #send(frame) {
    if (this.#link?.opened) this.#link.send(frame);
  }

  // A mistake in the caller's code is the caller's to see, and none of the connection.
  #tell(callback, ...news) {
    try {
      this.#options[callback]?.(...news);
    } catch (error) {
      queueMicrotask(() => {
        throw error;
      });
    }
  }

  #state(state, detail = {}) {
    this.#tell("onState", state, detail);
  }

  #target(path, channels) {
    const url = new URL(path, this.#base);
    const [from, to] = path == "ws" ? ["http", "ws"] : ["ws", "http"];
    if (url.protocol.startsWith(from)) url.protocol = url.protocol.replace(from, to);
    for (const [name, channel] of channels) {
      url.searchParams.append("channel", name);
      if (path == "broadcast") continue;
      // One for each channel, since they are matched by their places.
      url.searchParams.append("since", place(channel) ?? "");
      if (!channel.epoch && channel.last != null) url.searchParams.set("last", channel.last);
    }
    // Else the server would take the default channel.
    if (!channels.length) url.searchParams.set("channel", "");
    const { token } = this.#options;
    if (token && path != "broadcast") url.searchParams.set("token", token);
    return url;
  }

  // Headers with the token: URLs are logged.
  #headers(headers = {}) {
    if (this.#token) headers.Authorization = `Bearer ${this.#token}`;
    return headers;
  }

  // False: it comes too late for this link.
  async #getToken(link) {
    const token = (await this.#options.getToken())?.trim();
    if (link != this.#link) return false;
    this.#token = token;
    this.#given = Date.now();
    this.#left = timeLeft(token);
    return true;
  }

  // Before a token expires the server asks for the next one, which takes its place at once. Streams
  // are opened anew with it, all of them with the same one.
  async #renew(link) {
    if (!this.#options.getToken) return;
    try {
      if (!(await this.#getToken(link))) return;
      this.#send({ type: "token", token: this.#token });
      if (!link.isSse || !link.opened) return;
      link.opened = 0;
      link.end();
      this.#connect();
    } catch {
      this.#renewLater(link);
    }
  }

  // A server cannot ask over a stream: the time is drawn here as it does that, so that the streams
  // of many do not come back together. A clock that is wrong must not make it often.
  #renewInTime(link) {
    const left = this.#given + this.#left - Date.now();
    if (!(left > 0 && left < 2 ** 31)) return;
    link.renewMs = Math.max(RENEW_MS_MIN, Math.min(RENEW_MS_MAX, left / 40));
    const wait = Math.max(BACKOFF_MAX_MS, left * (0.75 + Math.random() * 0.15));
    link.renewal = setTimeout(() => this.#renew(link), wait);
  }

  // No token could be had, or checked: until the connection ends with the one that it has.
  #renewLater(link) {
    if (link.opened) link.renewal = setTimeout(() => this.#renew(link), link.renewMs);
  }

  async #connect() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    const { transport = "auto" } = this.#options;
    const isSse = transport == "sse" || (transport == "auto" && this.#unopened >= SOCKETS_MAX);
    const link = (this.#link = { isSse });
    this.#watch(link, PATIENCE_MS);
    this.#state("connecting", { transport: isSse ? "sse" : "websocket" });
    if (link != this.#link) return;
    const { getToken } = this.#options;
    // One that was at its end when it came tells of a wrong clock.
    const isEnding = this.#left > 0 && Date.now() > this.#given + this.#left * 0.9;
    if (getToken && (!this.#token || isEnding)) {
      try {
        if (!(await this.#getToken(link))) return;
      } catch (error) {
        if (link != this.#link) return;
        // The one that there is may still be good.
        if (!this.#token) return this.#lost(link, "get_token", String(error));
      }
    }
    if (isSse) return this.#openStreams(link);
    try {
      this.#openSocket(link);
    } catch (error) {
      // Such as a page with TLS that may not open a socket without.
      // Its text may quote what was offered, and so the token.
      this.#finish("failed", { reason: error.name });
    }
  }

  #openSocket(link) {
    // `last` counts for all channels in a URL that have no position.
    const channels = [...this.#channels];
    const last = channels.find(([, channel]) => !channel.epoch)?.[1].last;
    const fitting = channels.filter(([, channel]) => channel.epoch || channel.last == last);
    const url = this.#target("ws", fitting.slice(0, CHANNELS_IN_URL_MAX));
    const protocols = ["wsbcast.v1"];
    const { getToken } = this.#options;
    if (getToken && this.#token) protocols.push(`wsbcast.token.${this.#token}`);
    const socket = new WebSocket(url, protocols);
    link.send = (frame) => socket.send(JSON.stringify(frame));
    link.end = () => socket.close();
    socket.onmessage = ({ data }) => this.#receive(link, JSON.parse(data));
    socket.onclose = ({ code, reason }) => this.#lost(link, code, reason);
    // Node 22 says no more than this of a handshake that failed. Browsers tell the end, and more of
    // it, right afterwards.
    socket.onerror = () => setTimeout(() => this.#lost(link, 1006, "error"));
  }

  // Takes no news for bad news: asks after an interval of silence, gives up after another.
  #watch(link, interval) {
    clearInterval(this.#beat);
    this.#isQuiet = false;
    if (!interval) return;
    this.#beat = setInterval(() => {
      if (this.#isQuiet) return this.#lost(link, 1006, "no sign of life");
      this.#isQuiet = true;
      this.#send({ type: "ping" });
    }, interval);
  }

  #receive(link, message) {
    if (link != this.#link) return;
    this.#isQuiet = false;
    const { type, id } = message;
    const channel = this.#channels.get(message.channel);
    if (type == "hello") {
      this.#unopened = NaN;
      link.greeting = message.greeting;
      this.#opened(link, message.positions, message.ping_interval_ms);
      for (const name in message.positions) this.#greet(link, name);
    } else if (type == "subscribed") {
      this.#begin(channel, message);
      this.#greet(link, message.channel);
    } else if (type == "message") {
      this.#message(channel, message);
    } else if (type == "gap") {
      this.#gap(channel, message);
    } else if (type == "token_expiring") {
      link.renewMs = Math.max(RENEW_SOCKET_MS_MIN, Math.min(RENEW_MS_MAX, message.in_ms / 4));
      this.#renew(link);
    } else if (type == "unsubscribed" && message.code) {
      // The new token does not cover it.
      this.#refuse(message.channel, message.code);
    } else if (type == "drain") {
      link.retry = message.reconnect_after_ms;
    } else if (type == "published") {
      const { channel, scope } = message;
      this.#pending.get(id)?.resolve({ channel, position: place(message), scope });
      this.#pending.delete(id);
    } else if (type == "error") {
      const { code, message: text } = message;
      this.#pending.get(id)?.reject(failure(code, text));
      if (this.#pending.delete(id) || id != null) return;
      // The connection ends with the token that it had, and the next one begins with a fresh one.
      if (code == "bad_token") this.#state("refused", { code, reason: text });
      else if (code == "keys_unavailable") this.#renewLater(link);
      else this.#refuse(message.channel, code, text);
    }
  }

  // A channel that is refused once is not asked for again.
  #refuse(channel, code, reason) {
    this.#channels.delete(channel);
    this.#state("refused", { code, reason, channel });
  }

  // Connected: what changed meanwhile, and what got no answer, is said again.
  #opened(link, positions, pingInterval) {
    link.opened = Date.now();
    this.#watch(link, pingInterval);
    for (const name in positions) {
      const channel = this.#channels.get(name);
      if (channel) this.#begin(channel, positions[name]);
      else this.#send({ type: "unsubscribe", channel: name });
    }
    for (const name of this.#channels.keys()) if (!Object.hasOwn(positions, name)) this.#ask(name);
    for (const { frame } of this.#pending.values()) this.#send(frame);
    if (link.isSse) this.#renewInTime(link);
    this.#state("open", { transport: link.isSse ? "sse" : "websocket" });
  }

  // Who has a position keeps it: what the server cannot bring from there on it tells as a gap.
  #begin(channel, start) {
    if (channel && !channel.epoch && start?.epoch) moveTo(channel, place(start));
  }

  // As event streams do by themselves: with each channel that begins.
  #greet(link, name) {
    if (link != this.#link || link.greeting == null) return;
    this.#message(this.#channels.get(name), { channel: name, data: link.greeting });
  }

  #message(channel, { channel: name, epoch, offset, data, encoding }) {
    if (!channel) return;
    if (epoch) {
      const isSame = epoch == channel.epoch;
      if (isSame && offset <= channel.offset) return;
      const from = isSame ? channel.offset + 1 : 1;
      // The server tells holes itself. Should one come untold after all, it is seen here.
      const isUnknown = !isSame && !channel.epoch?.startsWith("empty-");
      const isUntold = channel.epoch && !channel.told && (isUnknown || from < offset);
      if (isUntold) this.#gap(channel, { channel: name, epoch, from, to: offset - 1 });
      Object.assign(channel, { epoch, offset, told: false });
    }
    if (encoding) data = fromBase64(data);
    this.#tell("onMessage", { channel: name, data, position: place({ epoch, offset }) });
  }

  #gap(channel, { channel: name, epoch, from, to }) {
    if (!channel) return;
    // What follows is after `to`, even where that is further back than we had got.
    if (epoch && to != null) Object.assign(channel, { epoch, offset: to });
    else channel.told = true;
    this.#tell("onGap", { channel: name, epoch, from, to });
  }

  #lost(link, code, reason) {
    if (link != this.#link || this.#timer) return;
    clearInterval(this.#beat);
    clearTimeout(link.renewal);
    const detail = { code, reason };
    const hint = link.retry ?? /retry in (\d+) ms/.exec(reason)?.[1];
    // A browser tells nobody that a handshake was refused, let alone why: it may be the token. So
    // it may be where a stream ends unannounced.
    const { getToken } = this.#options;
    const isOld = Date.now() - this.#given > RENEW_MS_MAX;
    const isDoubtful = link.opened ? link.isDone && hint == null : isOld;
    if (getToken && (isDoubtful || code == 401 || code == 4401)) this.#token = null;
    // A server that names a time wants it back, and with a token that it accepts any time is right.
    const isOver = hint == null && isFinal(code) && !(getToken && code == 401);
    if (isOver) return this.#finish("failed", detail);
    // A stream that did not open either proves nothing against sockets.
    const isUnopened = !link.opened && code != "get_token";
    if (isUnopened) this.#unopened = link.isSse ? 0 : this.#unopened + 1;
    const ceiling = () => Math.min(BACKOFF_MAX_MS, BACKOFF_MIN_MS * 2 ** this.#attempt);
    // A connection that lasted longer than its wait may have was a good one.
    if (hint != null || Date.now() - link.opened > ceiling()) this.#attempt = 0;
    detail.delay = +(hint ?? Math.random() * ceiling());
    if (hint == null) this.#attempt++;
    link.retry = hint;
    link.opened = 0;
    this.#timer = setTimeout(() => this.#connect(), detail.delay);
    link.end?.();
    this.#state("waiting", detail);
  }

  #finish(state, detail) {
    if (this.#ended) return;
    const link = this.#link;
    this.#ended = state;
    this.#link = null;
    clearTimeout(this.#timer);
    clearTimeout(link?.renewal);
    clearInterval(this.#beat);
    for (const event of WAKERS) globalThis.removeEventListener?.(event, this.#wake);
    if (link) link.opened = 0;
    link?.end?.();
    for (const { reject } of this.#pending.values()) reject(failure(state));
    this.#pending.clear();
    this.#state(state, detail);
  }

  // One stream a channel; they stand and fall together.
  #openStreams(link) {
    const streams = new Map();
    const waiting = new Set(this.#channels.keys());
    const listen = (name) => {
      const abort = new AbortController();
      streams.set(name, abort);
      this.#listen(link, name, abort.signal, () => {
        if (waiting.delete(name) && !waiting.size) opened();
      });
    };
    const opened = () => {
      this.#opened(link, Object.fromEntries([...streams.keys()].map((name) => [name])));
    };
    link.end = () => streams.forEach((abort) => abort.abort());
    link.send = (frame) => {
      if (frame.type == "subscribe") listen(frame.channel);
      if (frame.type == "unsubscribe") streams.get(frame.channel)?.abort();
      if (frame.type == "publish") this.#post(link, frame);
    };
    waiting.size ? waiting.forEach(listen) : opened();
  }

  // By hand instead of EventSource, which hides the status, the position at which a stream begins,
  // and heartbeats, and which Node lacks.
  async #listen(link, name, signal, opened) {
    const channel = this.#channels.get(name);
    let code = 1006;
    let reason = "";
    try {
      const target = this.#target("sse", [[name, channel]]);
      const headers = this.#options.getToken ? this.#headers() : {};
      const response = await fetch(target, { signal, headers, cache: "no-store" });
      if (!response.ok) {
        code = response.status;
        if (code == 429) link.retry = response.headers.get("retry-after") * 1000 || null;
        const refusal = await response.json().catch(() => ({}));
        reason = refusal.hint ?? response.statusText;
        // This channel alone; the others are asked for again, over a socket if that goes.
        if (refusal.channel && this.#channels.size > 1 && !signal.aborted) {
          this.#refuse(name, refusal.error, reason);
          code = 1006;
        }
        throw reason;
      }
      const start = response.headers.get("wsbcast-position")?.split("=")[1];
      if (start && !channel.epoch) moveTo(channel, start);
      opened();
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      for (;;) {
        const { done, value } = await reader.read();
        if (done) {
          link.isDone = true;
          break;
        }
        const events = (text + value).split("\n\n");
        text = events.pop();
        for (const event of events) if (!signal.aborted) this.#event(link, name, event);
      }
    } catch (error) {
      reason = String(error);
    }
    if (!signal.aborted) this.#lost(link, code, reason);
  }

  // The server writes its events in one way: `\n` at the end, a space behind each colon.
  #event(link, channel, text) {
    let event = "message";
    let id = "";
    const lines = [];
    for (const line of text.split("\n")) {
      if (line.startsWith("data: ")) lines.push(line.slice(6));
      if (line.startsWith("event: ")) event = line.slice(7);
      if (line.startsWith("id: ")) id = line.slice(4);
    }
    if (!lines.length) return;
    const data = lines.join("\n");
    if (event == "message" || event == "binary") {
      const message = { type: "message", channel, data };
      if (id) moveTo(message, id);
      if (event == "binary") message.encoding = "base64";
      this.#receive(link, message);
    } else {
      this.#receive(link, { ...JSON.parse(data), type: event, channel });
    }
  }

  // A browser that was told before that this page may not publish says nothing of it, and has sent
  // nothing. Asked without what it has to ask for, the server says why.
  async #refusal(channel) {
    try {
      const response = await fetch(this.#target("broadcast", [[channel]]), { cache: "no-store" });
      const { error: code, hint } = await response.json();
      if (response.status == 403) return { type: "error", code, message: hint };
    } catch {
      // It cannot be reached at all.
    }
  }

  async #post(link, { channel, data, encoding, id }) {
    const headers = this.#headers({ "Idempotency-Key": id });
    if (encoding) headers["Content-Type"] = "application/octet-stream";
    const body = encoding ? fromBase64(data) : data;
    let answer;
    try {
      const target = this.#target("broadcast", [[channel]]);
      const response = await fetch(target, { method: "POST", headers, body });
      answer = await response.json();
      answer = response.ok
        ? { type: "published", ...answer }
        : { type: "error", code: answer.error, message: answer.hint };
    } catch (error) {
      answer = (await this.#refusal(channel)) ?? {
        type: "error",
        code: "unconfirmed",
        message: String(error),
      };
    }
    this.#receive(link, { ...answer, id });
  }
}
