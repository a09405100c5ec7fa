/**
 * Linux as the oracle of TCP (T-19, RQ-22; T-04, T-07, T-08, T-10, T-17, T-18): the same segments arrive in the same state
 * at the kernel's own TCP and at ours, and a peer that sees every frame must see the same from both. Where we differ on
 * purpose, support/oracle/differences.ts says how and why; a difference that is not there fails, and so does a line there
 * that is not met.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { HOST4, HOST6 } from '../support/namespaces.ts';
import { differences, parts } from '../support/oracle/differences.ts';
import type { Profile } from '../support/oracle/peer.ts';
import { type Outcome, play } from '../support/oracle/play.ts';
import {
  ackEvents,
  closed,
  dataEvents,
  dataInFlight,
  type Event,
  everyEvent,
  finEvents,
  inFlightEvents,
  listen,
  openStates,
  rstEvents,
  type State,
  shutEvents,
  shutWindow,
  synEvents,
  synSent,
  synSentEvents,
} from '../support/oracle/scripts.ts';
import { Pump } from '../support/oracle/wire.ts';
import { openWorlds, type Worlds } from '../support/oracle/world.ts';

/** Cases that are played at the same time: challenge ACKs have a limit per second for all connections together. */
const AT_ONCE = 64;

let worlds: Worlds;
let pump: Pump;

async function open(mtu: number): Promise<void> {
  worlds = await openWorlds(mtu);
  pump = new Pump([worlds.linux.wire, worlds.ours.wire]);
  await Promise.all([worlds.linux.openFence(), worlds.ours.openFence()]);
}

async function close(): Promise<void> {
  await pump?.stop();
  await worlds?.[Symbol.asyncDispose]();
}

interface Variant {
  address?: string;
  profile?: Profile;
}

/** Lines of the table that were met. */
const met = new Set<string>();

/** What is wrong about a case; empty = nothing. Only with all options a line of the table must be a difference. */
function judge(name: string, linux: Outcome, ours: Outcome, profile: Profile): string {
  const line = differences.get(name);
  const isPlain = profile === 'plain';
  const applies = line !== undefined && (line.only === undefined || isPlain);
  const expected: Outcome = { ...linux, ...(applies ? parts(line, isPlain) : {}) };
  const same = JSON.stringify(linux) === JSON.stringify(ours);
  if (applies && !same) met.add(name);
  if (JSON.stringify(ours) === JSON.stringify(expected)) return '';
  const show = ({ replies, after: later, host }: Outcome): string =>
    `${replies} | after ${later} | host ${host}`;
  const table = applies ? `\n    table ${show(expected)}` : '';
  return `${name}\n    Linux ${show(linux)}\n    ours  ${show(ours)}${table}`;
}

/** Play all events in `state` at both ends; fails with a list of what differs and is not in the table. */
async function compare(
  state: State,
  events: readonly Event[],
  { address = HOST4, profile = 'full' }: Variant = {},
  atOnce: number = AT_ONCE,
): Promise<void> {
  const wrong: string[] = [];
  const queue = [...events];
  const one = async (): Promise<void> => {
    for (let event = queue.shift(); event !== undefined; event = queue.shift()) {
      const port = worlds.linux.nextPort(state.server === 'connects');
      const [linux, ours] = await Promise.all([
        play(worlds.linux, port, address, profile, state, event),
        play(worlds.ours, port, address, profile, state, event),
      ]);
      const fault = judge(`${state.name}: ${event[0]}`, linux, ours, profile);
      if (fault !== '') wrong.push(fault);
    }
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, events.length) }, one));
  assert.equal(wrong.length, 0, `${wrong.length} of ${events.length} differ:\n${wrong.join('\n')}`);
}

function some(...names: string[]): State[] {
  return openStates.filter(({ name }) => names.includes(name));
}

describe('TCP, state by state, beside Linux', () => {
  before(() => open(1500));
  after(close);

  for (const state of [closed, listen, ...openStates]) {
    test(`${state.name}: every segment is answered as Linux does (RFC 9293 §3.10.7, RQ-22)`, () =>
      compare(state, everyEvent));
  }
  for (const state of some('SYN-RECEIVED', 'ESTABLISHED', 'FIN-WAIT-2', 'LAST-ACK', 'TIME-WAIT')) {
    test(`${state.name}: the same without timestamps, SACK and scale`, () =>
      compare(state, [...rstEvents, ...ackEvents, ...dataEvents, ...finEvents], { profile: 'plain' }));
  }
  test('SYN-SENT: answers of all kinds (RFC 9293 §3.10.7.3)', () => compare(synSent, synSentEvents));
  test('data in flight: acknowledgments of all kinds', () => compare(dataInFlight, inFlightEvents));
  for (const state of [closed, ...some('SYN-RECEIVED', 'ESTABLISHED', 'TIME-WAIT')]) {
    test(`${state.name}: IPv6 is no different`, () =>
      compare(state, [...synEvents, ...rstEvents, ...finEvents], { address: HOST6 }));
  }
});

describe('TCP with its window shut, beside Linux', () => {
  before(() => open(65520));
  after(close);

  // Megabytes are sent for each, so few at a time.
  test('ESTABLISHED, window shut: probes, and what must still work (T-08, T-18)', () =>
    compare(shutWindow, shutEvents, {}, 4));
});

test('every line of the table of differences was met', () => {
  assert.deepEqual(
    [...differences.keys()].filter((name) => !met.has(name)),
    [],
  );
});
