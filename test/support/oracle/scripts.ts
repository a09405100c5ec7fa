/** States into which a script brings the other end of a connection, and segments that then arrive there. */
import { until } from '../wait.ts';
import type { Numbers, Peer, Segment } from './peer.ts';
import type { HostEnd } from './world.ts';

/** One connection to be. */
export interface Session {
  peer: Peer;
  host: HostEnd | null;
}

export interface State {
  name: string;
  /** What the server does: listens and reads, listens without reading, is not there, or connects to the peer. */
  server: 'reads' | 'listens' | 'absent' | 'connects';
  reach(session: Session): Promise<void>;
}

export type Event = [name: string, segments: (n: Numbers) => Segment[]];

const GREETING = 'hello peer';
const QUESTION = '0123456789';
/** Largest segment into a window that is to be filled. */
const FILL = 60_000;

async function synReceived({ peer }: Session): Promise<void> {
  peer.syn();
  await peer.until(() => peer.opened, 'SYN-ACK');
}

/** Ten bytes each way have been sent and acknowledged. */
async function established(session: Session): Promise<void> {
  const { peer, host } = session;
  await synReceived(session);
  peer.send({ flags: 'A' });
  await peer.until(() => host?.socket != null, 'a connection');
  host?.write(GREETING);
  await peer.until(() => peer.nxt === 1 + GREETING.length, 'a greeting');
  peer.acknowledge();
  peer.send({ flags: 'PA', data: QUESTION });
  await peer.until(() => peer.rcv === 1 + QUESTION.length, 'an acknowledgment');
}

async function finWait1(session: Session): Promise<void> {
  const { peer, host } = session;
  await established(session);
  const { nxt } = peer;
  host?.end();
  await peer.until(() => peer.nxt === nxt + 1, 'FIN');
}

async function finWait2(session: Session): Promise<void> {
  await finWait1(session);
  session.peer.acknowledge();
}

/** The peer ends, and is acknowledged. */
async function peerEnds({ peer }: Session): Promise<void> {
  const { rcv } = peer;
  peer.send({ flags: 'FA' });
  await peer.until(() => peer.rcv === rcv + 1, 'an acknowledgment of FIN');
}

async function inFlight(session: Session): Promise<void> {
  const { peer, host } = session;
  await established(session);
  const { nxt } = peer;
  host?.write(GREETING);
  await peer.until(() => peer.nxt === nxt + GREETING.length, 'data');
}

async function closeWait(session: Session): Promise<void> {
  await established(session);
  await peerEnds(session);
}

/** The server does not read, and everything that may be sent has been. */
async function shut(session: Session): Promise<void> {
  const { peer } = session;
  await established(session);
  let sent = peer.rcv;
  for (;;) {
    while (sent < peer.edge) {
      const size = Math.min(FILL, peer.edge - sent);
      peer.send({ flags: 'A', seq: sent, data: 'f'.repeat(size) });
      sent += size;
    }
    await peer.until(() => peer.rcv === sent || sent < peer.edge, 'an acknowledgment');
    if (!peer.windowShut) continue;
    // Buffers behind it may still grow for a moment.
    const more = until(() => !peer.windowShut, 'window stays shut', 300, 1);
    if (
      await more.then(
        () => false,
        () => true,
      )
    )
      return;
  }
}

function state(name: string, reach: (session: Session) => Promise<void>): State {
  return { name, server: 'reads', reach };
}

const nothing = (): Promise<void> => Promise.resolve();

export const closed: State = { name: 'CLOSED', server: 'absent', reach: nothing };
export const listen: State = state('LISTEN', nothing);
export const synSent: State = {
  name: 'SYN-SENT',
  server: 'connects',
  reach: ({ peer }) => peer.until(() => peer.opened, 'SYN'),
};
export const shutWindow: State = { name: 'ESTABLISHED, window shut', server: 'listens', reach: shut };
export const dataInFlight: State = state('ESTABLISHED, data in flight', inFlight);

/** Those that events of all kinds are tried in. */
export const openStates: readonly State[] = [
  state('SYN-RECEIVED', synReceived),
  state('ESTABLISHED', established),
  state('FIN-WAIT-1', finWait1),
  state('FIN-WAIT-2', finWait2),
  state('CLOSE-WAIT', closeWait),
  state('CLOSING', async (session) => {
    await finWait1(session);
    await peerEnds(session);
  }),
  state('LAST-ACK', async (session) => {
    await closeWait(session);
    const { peer, host } = session;
    const { nxt } = peer;
    host?.end();
    await peer.until(() => peer.nxt === nxt + 1, 'FIN');
  }),
  state('TIME-WAIT', async (session) => {
    await finWait2(session);
    await peerEnds(session);
  }),
];

/** A new number far beyond any window, and one far behind. */
const FAR = 100_000_000;
const HALF = 2 ** 31;
/** Milliseconds by which a timestamp is too old, and by which another one is newer. */
const OLD = -100_000;

export const synEvents: readonly Event[] = [
  ['SYN again', () => [{ flags: 'S', seq: 0, ack: 0 }]],
  ['SYN at RCV.NXT', ({ rcv }) => [{ flags: 'S', seq: rcv }]],
  ['SYN in the window', ({ rcv }) => [{ flags: 'S', seq: rcv + 100 }]],
  ['SYN before the window', ({ rcv }) => [{ flags: 'S', seq: rcv - 100 }]],
  ['SYN beyond the window', ({ edge }) => [{ flags: 'S', seq: edge + 1000 }]],
  ['SYN with a far newer number', ({ rcv }) => [{ flags: 'S', seq: rcv + FAR }]],
  ['SYN with a far older number', ({ rcv }) => [{ flags: 'S', seq: rcv - FAR }]],
  ['SYN with a newer number and an old timestamp', ({ rcv }) => [{ flags: 'S', seq: rcv + FAR, ts: OLD }]],
  ['SYN with an older number and an old timestamp', ({ rcv }) => [{ flags: 'S', seq: rcv - FAR, ts: OLD }]],
  ['SYN without options', ({ rcv }) => [{ flags: 'S', seq: rcv + FAR, bare: true, ts: 'none' }]],
  ['SYN with data', ({ rcv }) => [{ flags: 'S', seq: rcv + 100, data: 'early' }]],
  ['SYN+ACK again', ({ nxt }) => [{ flags: 'SA', seq: 0, ack: nxt }]],
  ['SYN+ACK in the window', ({ rcv, nxt }) => [{ flags: 'SA', seq: rcv + 100, ack: nxt }]],
  ['SYN+ACK beyond the window', ({ edge, nxt }) => [{ flags: 'SA', seq: edge + 1000, ack: nxt }]],
];

export const rstEvents: readonly Event[] = [
  ['RST at RCV.NXT', ({ rcv }) => [{ flags: 'R', seq: rcv }]],
  ['RST+ACK at RCV.NXT', ({ rcv, nxt }) => [{ flags: 'RA', seq: rcv, ack: nxt }]],
  ['RST at RCV.NXT, never sent ACK', ({ rcv, nxt }) => [{ flags: 'RA', seq: rcv, ack: nxt + 1000 }]],
  ['RST at RCV.NXT with data', ({ rcv }) => [{ flags: 'R', seq: rcv, data: 'bye' }]],
  ['RST at RCV.NXT, old timestamp', ({ rcv }) => [{ flags: 'R', seq: rcv, ts: OLD }]],
  ['RST at RCV.NXT, no timestamp', ({ rcv }) => [{ flags: 'R', seq: rcv, ts: 'none' }]],
  ['RST in the window', ({ rcv }) => [{ flags: 'R', seq: rcv + 10 }]],
  ['RST in the window with data', ({ rcv }) => [{ flags: 'R', seq: rcv + 10, data: 'bye' }]],
  ['RST at the last number of the window', ({ edge }) => [{ flags: 'R', seq: edge - 1 }]],
  ['RST at the right edge', ({ edge }) => [{ flags: 'R', seq: edge }]],
  ['RST beyond the window', ({ edge }) => [{ flags: 'R', seq: edge + 1000 }]],
  ['RST before the window', ({ rcv }) => [{ flags: 'R', seq: rcv - 1 }]],
  ['RST before the window with data into it', ({ rcv }) => [{ flags: 'R', seq: rcv - 1, data: 'bye' }]],
];

export const ackEvents: readonly Event[] = [
  ['ACK again', ({ una }) => [{ flags: 'A', ack: una }]],
  ['ACK of everything', ({ nxt }) => [{ flags: 'A', ack: nxt }]],
  ['old ACK', ({ una }) => [{ flags: 'A', ack: una - 5 }]],
  ['old ACK with data', ({ una }) => [{ flags: 'A', ack: una - 5, data: 'new' }]],
  ['ACK of long ago', ({ una }) => [{ flags: 'A', ack: una - FAR }]],
  ['ACK of long ago with data', ({ una }) => [{ flags: 'A', ack: una - FAR, data: 'new' }]],
  ['ACK of what was never sent', ({ nxt }) => [{ flags: 'A', ack: nxt + 1 }]],
  ['ACK of what was never sent with data', ({ nxt }) => [{ flags: 'A', ack: nxt + 1000, data: 'new' }]],
  ['ACK half the numbers away', ({ una }) => [{ flags: 'A', ack: una + HALF }]],
  ['empty before the window', ({ rcv, una }) => [{ flags: 'A', seq: rcv - 1, ack: una }]],
  ['empty far before the window', ({ rcv, una }) => [{ flags: 'A', seq: rcv - FAR, ack: una }]],
  ['empty at the right edge', ({ edge, una }) => [{ flags: 'A', seq: edge, ack: una }]],
  ['empty beyond the window', ({ edge, una }) => [{ flags: 'A', seq: edge + 1000, ack: una }]],
];

export const dataEvents: readonly Event[] = [
  ['data', () => [{ flags: 'PA', data: 'abcdefghij' }]],
  ['data without ACK', () => [{ flags: 'P', data: 'abcdefghij' }]],
  ['data beyond a gap', ({ rcv }) => [{ flags: 'PA', seq: rcv + 10, data: 'klmnopqrst' }]],
  [
    'data beyond a gap, then the gap',
    ({ rcv }) => [
      { flags: 'PA', seq: rcv + 10, data: 'klmnopqrst' },
      { flags: 'PA', seq: rcv, data: 'abcdefghij' },
    ],
  ],
  [
    'data beyond two gaps',
    ({ rcv }) => [
      { flags: 'PA', seq: rcv + 30, data: 'XXXXXXXXXX' },
      { flags: 'PA', seq: rcv + 10, data: 'YYYYYYYYYY' },
    ],
  ],
  [
    'the same numbers twice with other bytes',
    ({ rcv }) => [
      { flags: 'PA', seq: rcv + 10, data: 'first copy' },
      { flags: 'PA', seq: rcv + 10, data: 'other copy' },
      { flags: 'PA', seq: rcv, data: 'abcdefghij' },
    ],
  ],
  [
    'a second copy that goes on',
    ({ rcv }) => [
      { flags: 'PA', seq: rcv + 10, data: 'first copy' },
      { flags: 'PA', seq: rcv, data: 'abcdefghijOTHER COPY and more' },
    ],
  ],
  ['data again', ({ rcv }) => [{ flags: 'PA', seq: rcv - 10, data: '0123456789' }]],
  ['part of the data again', ({ rcv }) => [{ flags: 'PA', seq: rcv - 5, data: '56789' }]],
  ['data again, and more', ({ rcv }) => [{ flags: 'PA', seq: rcv - 5, data: '?????abcde' }]],
  ['data over the right edge', ({ edge }) => [{ flags: 'PA', seq: edge - 5, data: 'abcdefghij' }]],
  ['data at the right edge', ({ edge }) => [{ flags: 'PA', seq: edge, data: 'abcdefghij' }]],
  ['data beyond the window', ({ edge }) => [{ flags: 'PA', seq: edge + 1000, data: 'abcdefghij' }]],
  ['data half the numbers ahead', ({ rcv }) => [{ flags: 'PA', seq: rcv + HALF - 1000, data: 'abcdefghij' }]],
  ['data far before the window', ({ rcv }) => [{ flags: 'PA', seq: rcv - FAR, data: 'abcdefghij' }]],
];

export const finEvents: readonly Event[] = [
  ['FIN', () => [{ flags: 'FA' }]],
  ['FIN that acknowledges everything', ({ nxt }) => [{ flags: 'FA', ack: nxt }]],
  ['FIN with data', () => [{ flags: 'FPA', data: 'the end' }]],
  ['FIN twice', ({ rcv }) => [{ flags: 'FA' }, { flags: 'FA', seq: rcv }]],
  ['FIN, then data', ({ rcv }) => [{ flags: 'FA' }, { flags: 'PA', seq: rcv + 1, data: 'late' }]],
  ['FIN, then RST', ({ rcv }) => [{ flags: 'FA' }, { flags: 'R', seq: rcv + 1 }]],
  ['FIN before the window', ({ rcv }) => [{ flags: 'FA', seq: rcv - 1 }]],
  ['FIN behind data that is known', ({ rcv }) => [{ flags: 'FA', seq: rcv - 10, data: '0123456789' }]],
  ['FIN beyond a gap', ({ rcv }) => [{ flags: 'FA', seq: rcv + 10 }]],
  [
    'FIN beyond a gap, then the gap',
    ({ rcv }) => [
      { flags: 'FA', seq: rcv + 10 },
      { flags: 'PA', seq: rcv, data: 'abcdefghij' },
    ],
  ],
  [
    'FIN with data beyond a gap, then the gap',
    ({ rcv }) => [
      { flags: 'FPA', seq: rcv + 10, data: 'klmnopqrst' },
      { flags: 'PA', seq: rcv, data: 'abcdefghij' },
    ],
  ],
  [
    'FIN beyond a gap, then data over FIN',
    ({ rcv }) => [
      { flags: 'FA', seq: rcv + 5 },
      { flags: 'PA', seq: rcv, data: 'abcdefghij' },
    ],
  ],
  ['FIN at the right edge', ({ edge }) => [{ flags: 'FA', seq: edge }]],
  ['FIN beyond the window', ({ edge }) => [{ flags: 'FA', seq: edge + 1000 }]],
  ['FIN without ACK', () => [{ flags: 'F' }]],
  ['FIN, never sent ACK', ({ nxt }) => [{ flags: 'FA', ack: nxt + 1000 }]],
];

export const flagEvents: readonly Event[] = [
  ['no flags', () => [{ flags: '' }]],
  ['no flags, data', () => [{ flags: '', data: 'abc' }]],
  ['no flags beyond the window', ({ edge }) => [{ flags: '', seq: edge + 1000 }]],
  ['PSH alone', () => [{ flags: 'P' }]],
  ['SYN+FIN', ({ rcv }) => [{ flags: 'SF', seq: rcv + 100 }]],
  ['SYN+FIN+ACK', ({ rcv, nxt }) => [{ flags: 'SFA', seq: rcv + 100, ack: nxt }]],
  ['SYN+RST', ({ rcv }) => [{ flags: 'SR', seq: rcv }]],
  ['SYN+RST in the window', ({ rcv }) => [{ flags: 'SR', seq: rcv + 100 }]],
  ['FIN+RST', ({ rcv }) => [{ flags: 'FR', seq: rcv }]],
  ['all flags', ({ rcv }) => [{ flags: 'SFRPAU', seq: rcv }]],
  ['URG with pointer 0', () => [{ flags: 'UPA', urgent: 0, data: 'abcde' }]],
  ['URG with pointer 1', () => [{ flags: 'UPA', urgent: 1, data: 'abcde' }]],
  ['URG with pointer at the end', () => [{ flags: 'UPA', urgent: 5, data: 'abcde' }]],
  ['URG with pointer behind the end', () => [{ flags: 'UPA', urgent: 6, data: 'abcde' }]],
  ['URG with the largest pointer', () => [{ flags: 'UPA', urgent: 65535, data: 'abcde' }]],
  ['URG without data', () => [{ flags: 'UA', urgent: 5 }]],
  ['URG without ACK', () => [{ flags: 'U', urgent: 5, data: 'abcde' }]],
  ['pointer without URG', () => [{ flags: 'PA', urgent: 3, data: 'abcde' }]],
];

export const timestampEvents: readonly Event[] = [
  ['old timestamp', () => [{ flags: 'A', ts: OLD }]],
  ['old timestamp, data', () => [{ flags: 'PA', ts: OLD, data: 'abcde' }]],
  ['old timestamp, FIN', () => [{ flags: 'FA', ts: OLD }]],
  ['old timestamp, old data', ({ rcv }) => [{ flags: 'PA', seq: rcv - 10, ts: OLD, data: '0123456789' }]],
  ['old timestamp beyond the window', ({ edge }) => [{ flags: 'A', seq: edge + 1000, ts: OLD }]],
  ['old timestamp, ACK never sent', ({ nxt }) => [{ flags: 'A', ack: nxt + 1000, ts: OLD }]],
  ['timestamp half the numbers old', () => [{ flags: 'PA', ts: -HALF + 60_000, data: 'abcde' }]],
  ['newer timestamp', () => [{ flags: 'PA', ts: 100_000, data: 'abcde' }]],
  ['no timestamp', () => [{ flags: 'A', ts: 'none' }]],
  ['no timestamp, data', () => [{ flags: 'PA', ts: 'none', data: 'abcde' }]],
  ['no timestamp, FIN', () => [{ flags: 'FA', ts: 'none' }]],
  ['no timestamp, SYN in the window', ({ rcv }) => [{ flags: 'S', seq: rcv + 100, ts: 'none' }]],
  ['no timestamp beyond the window', ({ edge }) => [{ flags: 'A', seq: edge + 1000, ts: 'none' }]],
];

export const everyEvent: readonly Event[] = [
  ...synEvents,
  ...rstEvents,
  ...ackEvents,
  ...dataEvents,
  ...finEvents,
  ...flagEvents,
  ...timestampEvents,
];

/** At a window that is shut. */
export const shutEvents: readonly Event[] = [
  ['probe of one byte', ({ rcv }) => [{ flags: 'PA', seq: rcv, data: '!' }]],
  ['probe without a byte', ({ rcv }) => [{ flags: 'A', seq: rcv - 1 }]],
  ['probe with a byte that is known', ({ rcv }) => [{ flags: 'A', seq: rcv - 1, data: 'f' }]],
  ['data', ({ rcv }) => [{ flags: 'PA', seq: rcv, data: 'abcdefghij' }]],
  ['data that acknowledges everything', ({ rcv, nxt }) => [{ flags: 'PA', seq: rcv, ack: nxt, data: 'abc' }]],
  ['empty, in order', ({ rcv }) => [{ flags: 'A', seq: rcv }]],
  ['RST at RCV.NXT', ({ rcv }) => [{ flags: 'R', seq: rcv }]],
  ['RST one further', ({ rcv }) => [{ flags: 'R', seq: rcv + 1 }]],
  ['RST before', ({ rcv }) => [{ flags: 'R', seq: rcv - 1 }]],
  ['SYN at RCV.NXT', ({ rcv }) => [{ flags: 'S', seq: rcv }]],
  ['FIN', ({ rcv }) => [{ flags: 'FA', seq: rcv }]],
  ['FIN with data', ({ rcv }) => [{ flags: 'FPA', seq: rcv, data: 'end' }]],
  ['URG', ({ rcv }) => [{ flags: 'UPA', seq: rcv, urgent: 1, data: '!' }]],
];

/** While ten bytes of the other end wait for an acknowledgment. */
export const inFlightEvents: readonly Event[] = [
  ['ACK of everything', ({ nxt }) => [{ flags: 'A', ack: nxt }]],
  ['ACK of half', ({ una }) => [{ flags: 'A', ack: una + 5 }]],
  ['ACK again', ({ una }) => [{ flags: 'A', ack: una }]],
  ['ACK again, with another window', ({ una }) => [{ flags: 'A', ack: una, window: 400 }]],
  ['ACK that shuts the window', ({ nxt }) => [{ flags: 'A', ack: nxt, window: 0 }]],
  ['ACK of what was never sent', ({ nxt }) => [{ flags: 'A', ack: nxt + 1 }]],
  ['old ACK', ({ una }) => [{ flags: 'A', ack: una - 5 }]],
  ['data that acknowledges', ({ nxt }) => [{ flags: 'PA', ack: nxt, data: 'abcde' }]],
  ['FIN that acknowledges', ({ nxt }) => [{ flags: 'FA', ack: nxt }]],
  ['FIN that does not', () => [{ flags: 'FA' }]],
  ['RST at RCV.NXT', ({ rcv }) => [{ flags: 'R', seq: rcv }]],
  ['RST in the window', ({ rcv }) => [{ flags: 'R', seq: rcv + 10 }]],
  ['SYN in the window', ({ rcv }) => [{ flags: 'S', seq: rcv + 100 }]],
];

/** Nothing but a SYN has been heard from the other end. */
export const synSentEvents: readonly Event[] = [
  ['SYN+ACK', ({ nxt }) => [{ flags: 'SA', seq: 0, ack: nxt }]],
  ['SYN+ACK with data', ({ nxt }) => [{ flags: 'SA', seq: 0, ack: nxt, data: 'early' }]],
  ['SYN+ACK without options', ({ nxt }) => [{ flags: 'SA', seq: 0, ack: nxt, bare: true, ts: 'none' }]],
  ['SYN+ACK of nothing', ({ nxt }) => [{ flags: 'SA', seq: 0, ack: nxt - 1 }]],
  ['SYN+ACK of what was never sent', ({ nxt }) => [{ flags: 'SA', seq: 0, ack: nxt + 1 }]],
  [
    'SYN+ACK twice',
    ({ nxt }) => [
      { flags: 'SA', seq: 0, ack: nxt },
      { flags: 'SA', seq: 0, ack: nxt },
    ],
  ],
  ['SYN', () => [{ flags: 'S', seq: 0 }]],
  [
    'SYN, then its ACK',
    ({ nxt }) => [
      { flags: 'S', seq: 0 },
      { flags: 'A', seq: 1, ack: nxt },
    ],
  ],
  [
    'SYN, then SYN+ACK',
    ({ nxt }) => [
      { flags: 'S', seq: 0 },
      { flags: 'SA', seq: 0, ack: nxt },
    ],
  ],
  ['ACK', ({ nxt }) => [{ flags: 'A', ack: nxt }]],
  ['ACK with data', ({ nxt }) => [{ flags: 'A', ack: nxt, data: 'early' }]],
  ['ACK of nothing', ({ nxt }) => [{ flags: 'A', ack: nxt - 1 }]],
  ['ACK of what was never sent', ({ nxt }) => [{ flags: 'A', ack: nxt + 1 }]],
  ['RST+ACK', ({ nxt }) => [{ flags: 'RA', seq: 0, ack: nxt }]],
  ['RST+ACK of nothing', ({ nxt }) => [{ flags: 'RA', seq: 0, ack: nxt - 1 }]],
  ['RST+ACK of what was never sent', ({ nxt }) => [{ flags: 'RA', seq: 0, ack: nxt + 1 }]],
  ['RST', () => [{ flags: 'R', seq: 0 }]],
  ['FIN', () => [{ flags: 'F' }]],
  ['FIN+ACK', ({ nxt }) => [{ flags: 'FA', ack: nxt }]],
  ['no flags', () => [{ flags: '' }]],
  ['URG', () => [{ flags: 'U', urgent: 1, data: '!' }]],
  ['SYN+FIN', () => [{ flags: 'SF', seq: 0 }]],
  ['SYN+RST', () => [{ flags: 'SR', seq: 0 }]],
  ['SYN+RST+ACK', ({ nxt }) => [{ flags: 'SRA', seq: 0, ack: nxt }]],
];
