/**
 * Simulated time, and the order in which things happen in it. Actors are processes: real asynchronous code, whose only
 * way to the outside are calls of a store. A call takes simulated time; whoever's call is due next goes on, and between
 * two calls of one actor any number of others may have acted. Nothing here knows what the calls do.
 *
 * Time that passes (`elapsedMs`) never goes back. Clocks, which may jump, are made from it by others.
 */
export class Timeline {
  elapsedMs = 0;
  /** Called when an event has happened or a process has ended, before anybody goes on. */
  afterStep: () => Promise<void> = async () => undefined;
  readonly #events: Event[] = [];
  readonly #actors = new Set<Actor>();
  #order = 0;
  #wake = (): void => undefined;
  #stepped = false;
  #failure: { error: unknown } | undefined;

  /** At this time, or at once if it has passed. Events of one time happen in the order of these calls. */
  at(elapsedMs: number, act: () => void | Promise<void>): void {
    const event = { atMs: Math.max(elapsedMs, this.elapsedMs), order: this.#order++, act };
    const place = this.#events.findLastIndex(({ atMs }) => atMs <= event.atMs);
    this.#events.splice(place + 1, 0, event);
  }

  /** Lets a process live from now on. `life` must handle its own errors. */
  start(name: string, habits: Habits, life: (actor: Actor) => Promise<void>): Actor {
    const actor: Actor = new Actor(name, habits, () => this.#wake());
    this.#actors.add(actor);
    const end = (): void => {
      this.#actors.delete(actor);
      this.#stepped = true;
      this.#wake();
    };
    life(actor).then(end, (error: unknown) => {
      this.#failure ??= { error };
      end();
    });
    return actor;
  }

  /** Lets everything happen that was planned, and what follows from it, until nothing is left. */
  async run(): Promise<void> {
    for (;;) {
      if (this.#failure) throw this.#failure.error;
      const actors = [...this.#actors];
      if (actors.some(({ waits }) => !waits)) {
        // Somebody is still thinking: his next call, or his end, comes before anything else.
        await new Promise<void>((resolve) => (this.#wake = resolve));
        continue;
      }
      if (this.#stepped) {
        this.#stepped = false;
        await this.afterStep();
        continue;
      }
      const [event] = this.#events;
      const dues = actors.map((actor) => actor.dueMs(this.elapsedMs));
      const soonest = Math.min(...dues);
      if (event && event.atMs <= soonest) {
        this.#events.shift();
        this.elapsedMs = Math.max(this.elapsedMs, event.atMs);
        this.#stepped = true;
        await event.act();
      } else if (actors.length === 0) return;
      else {
        this.elapsedMs = Math.max(this.elapsedMs, soonest);
        await actors[dues.indexOf(soonest)]!.proceed();
      }
    }
  }
}

interface Event {
  readonly atMs: number;
  readonly order: number;
  readonly act: () => void | Promise<void>;
}

export type CallKind = 'read' | 'page' | 'put' | 'commit' | 'remove' | 'ask';

/** How a process behaves. */
export interface Habits {
  /** How long a call takes, in milliseconds. */
  readonly latencyMs: (kind: CallKind) => number;
  /** The process dies at its call of this number (from 1), before the store has heard of it or after it has acted. */
  readonly killed?: { readonly atCall: number; readonly moment: 'before' | 'after' } | undefined;
}

interface Pending {
  readonly kind: CallKind;
  readonly signal: AbortSignal | undefined;
  /** Does it; returns how to tell the caller. */
  readonly act: () => Promise<() => void>;
  readonly refuse: (error: unknown) => void;
  dueMs: number | undefined;
}

/** One process. Its calls are answered one at a time, in the order in which it made them. */
export class Actor {
  readonly name: string;
  calls = 0;
  /** Why it is dead, from then on. */
  killed: Error | undefined;
  readonly #habits: Habits;
  readonly #pending: Pending[] = [];
  readonly #wake: () => void;

  constructor(name: string, habits: Habits, wake: () => void) {
    this.name = name;
    this.#habits = habits;
    this.#wake = wake;
  }

  get waits(): boolean {
    return this.#pending.length > 0;
  }

  /** `effect` happens as a whole, when its time has come; until it has happened nobody else does anything. */
  call<T>(kind: CallKind, effect: () => T | Promise<T>, signal?: AbortSignal): Promise<T> {
    if (this.killed) return Promise.reject(this.killed);
    if (signal?.aborted) return Promise.reject(signal.reason as Error);
    return new Promise<T>((resolve, reject) => {
      const act = async (): Promise<() => void> => {
        try {
          const result = await effect();
          return () => resolve(result);
        } catch (error) {
          return () => reject(error);
        }
      };
      this.#pending.push({ kind, signal, act, refuse: reject, dueMs: undefined });
      this.#wake();
    });
  }

  /** When its next call is answered; a call that was called off is answered now. */
  dueMs(nowMs: number): number {
    const next = this.#pending[0]!;
    if (next.signal?.aborted) return nowMs;
    return (next.dueMs ??= nowMs + this.#habits.latencyMs(next.kind));
  }

  async proceed(): Promise<void> {
    const call = this.#pending.shift()!;
    if (call.signal?.aborted) return call.refuse(call.signal.reason);
    this.calls++;
    const { killed } = this.#habits;
    if (this.calls !== killed?.atCall) return (await call.act())();
    this.killed = new Error(`${this.name} was killed at call ${this.calls} (${call.kind}, ${killed.moment})`);
    if (killed.moment === 'after') await call.act(); // nobody is left to hear of it
    for (const { refuse } of [call, ...this.#pending.splice(0)]) refuse(this.killed);
  }
}
