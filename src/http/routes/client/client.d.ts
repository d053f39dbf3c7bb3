/** A message of a channel. */
export interface Message {
  channel: string;
  /** Text as it was published, or bytes if it was published as such. */
  data: string | Uint8Array;
  /**
   * `EPOCH:OFFSET`; null if only the clients of one server got it, Redis being out of reach, and of
   * the server's greeting.
   */
  position: string | null;
}

/**
 * Messages that will not come: told where they would have been. One may follow another without a
 * message between them.
 */
export interface Gap {
  channel: string;
  /** Of `from` and `to`; null: nobody knows. */
  epoch: string | null;
  /** The first offset that is missing; of an epoch before this one it is unknown what is. */
  from: number;
  /** The last one; `from - 1` if none of this epoch is missing; null: nobody knows. */
  to: number | null;
}

/** What became of a publication. */
export interface Published {
  channel: string;
  position: string | null;
  /** Whom it reaches: everyone, or the clients of one server. */
  scope: "cluster" | "local";
}

/**
 * - `connecting`: a connection is tried, by `detail.transport`;
 * - `open`: messages come;
 * - `waiting`: it broke, with `code` and `reason`; it is tried again in `delay` milliseconds;
 * - `refused`: the server refused `detail.channel`, which is dropped, or a new token (then there is
 *   no channel); the connection goes on;
 * - `failed`: it broke with a `code` that means it would again (a close code, or an HTTP status of
 *   an event stream). This client has ended; `positions` are still right;
 * - `closed`: by `close()`.
 */
export type State = "connecting" | "open" | "waiting" | "refused" | "failed" | "closed";

export interface StateDetail {
  transport?: "websocket" | "sse";
  code?: number | string;
  reason?: string;
  delay?: number;
  channel?: string;
}

export interface Start {
  /** The position after which messages are wanted; wins over `last`. */
  since?: string;
  /** How many of the newest messages are wanted first. */
  last?: number;
}

export interface Options {
  /** Default: `notifications`. An empty list: none, until `subscribe` adds one. */
  channels?: string[];
  /** By channel: the position after which messages are wanted, as `positions` gave it. */
  since?: Record<string, string>;
  /** How many of the newest messages of the other channels are wanted first. */
  last?: number;
  /** A token of `--api-token`, for publishing. */
  token?: string;
  /**
   * Gives the token that the server asks for (a JWT), from where the page's own server makes it.
   * Called before the first connection, before the token expires, and after the server has not
   * accepted one; an empty token: none is shown. If it throws, the token that there is is shown, or
   * if there is none, the connection is tried again later.
   */
  getToken?(): string | Promise<string>;
  /** Default `auto`: event streams if the first two WebSockets cannot be opened. */
  transport?: "auto" | "websocket" | "sse";
  onMessage?(message: Message): void;
  onGap?(gap: Gap): void;
  onState?(state: State, detail: StateDetail): void;
}

export interface PublishOptions {
  /** Names the message (its idempotency key); a repetition of it is published once. */
  id?: string;
}

/** A client of wsbcast: connects when it is made, and comes back by itself until it is closed. */
export class WsBcast {
  /**
   * @param url Where the server is: anything beside its `ws`, `sse` and `broadcast`, such as
   *   `https://example.org/` or `wss://example.org/ws`. Default: where this file came from.
   */
  constructor(url?: string | URL, options?: Options);

  /** Where each channel has got to; to be kept, and given to the next client as `since`. */
  get positions(): Record<string, string>;

  /** Adds a channel; one that is there already is left as it is. */
  subscribe(channel: string, options?: Start): void;

  /** Leaves a channel. */
  unsubscribe(channel: string): void;

  /**
   * Publishes text, bytes, or anything else as JSON. Waits for a connection and goes through
   * reconnects. Rejects with an `Error`, with the server's word in its `code`: after `unconfirmed`
   * the same may be published again with the same `id`. `closed` or `failed`: the client has ended;
   * a message that was under way may have been published all the same.
   */
  publish(
    channel: string,
    data: string | ArrayBuffer | ArrayBufferView | object | number | boolean | null,
    options?: PublishOptions,
  ): Promise<Published>;

  /** Ends it; publications without an answer are rejected. */
  close(): void;
}
