/**
 * Where we answer otherwise than Linux (6.18 was the oracle), on purpose. Each line says what we do in some states after
 * some events: what comes back, what the connection says afterwards of itself, what the server got; a part that is not given is
 * as Linux has it. Lines are for connections with all options; without them (`plain`) the same holds less the options.
 */

/** Parts of an outcome (play.ts), as text. */
interface Difference {
  replies?: string;
  after?: string;
  host?: string;
}

export interface Line extends Difference {
  states: string | readonly string[];
  events: string | readonly string[];
  /** With other options there is no difference. */
  only?: 'plain';
}

interface Reason {
  why: string;
  lines: readonly Line[];
}

const OPEN_BUT_FIRST = ['ESTABLISHED', 'FIN-WAIT-1', 'FIN-WAIT-2'];
const OPEN = ['SYN-RECEIVED', ...OPEN_BUT_FIRST];
const AFTER_FIN = ['CLOSE-WAIT', 'CLOSING', 'LAST-ACK'];

/** A bare acknowledgment of where the other end stood before. */
const ACK = '. nxt ack rcv ts';
const ACK_FIN = '. nxt ack rcv+1 ts';

const reasons: readonly Reason[] = [
  {
    why: 'RFC 9293 §3.10.7.4: the window ends before RCV.NXT+RCV.WND, and text is trimmed to it; Linux takes one more',
    lines: [
      { states: AFTER_FIN, events: ['FIN at the right edge', 'data at the right edge'], replies: ACK },
      { states: [...OPEN, ...AFTER_FIN], events: 'RST at the right edge', replies: '-' },
      {
        states: OPEN,
        events: 'data over the right edge',
        replies: `${ACK} sack edge-5:edge`,
        after: `${ACK} sack edge-5:edge`,
      },
      { states: 'ESTABLISHED, window shut', events: 'FIN', replies: `${ACK} win0`, after: `${ACK} win0` },
    ],
  },
  {
    why: 'RFC 5961 §3.2: a reset is judged by its sequence number alone; Linux also takes one before the window after FIN',
    lines: [
      {
        states: AFTER_FIN,
        events: ['RST before the window', 'RST before the window with data into it'],
        after: ACK,
      },
      { states: OPEN, events: 'RST before the window with data into it', replies: '-' },
      // RFC 7323 §5.2: no reset is too old.
      { states: 'SYN-RECEIVED', events: 'RST at RCV.NXT, old timestamp', after: 'R nxt' },
    ],
  },
  {
    why: 'RFC 1337: a reset does not end TIME-WAIT',
    lines: [
      {
        states: 'TIME-WAIT',
        events: [
          'RST at RCV.NXT',
          'RST+ACK at RCV.NXT',
          'RST at RCV.NXT, never sent ACK',
          'RST at RCV.NXT with data',
          'RST at RCV.NXT, no timestamp',
          'FIN+RST',
        ],
        after: ACK,
      },
      { states: 'TIME-WAIT', events: 'RST at RCV.NXT, old timestamp', after: ACK, only: 'plain' },
      { states: 'FIN-WAIT-2', events: 'FIN, then RST', after: ACK_FIN },
    ],
  },
  {
    why: 'RFC 9293 §3.10.7.4, seventh: there is no text behind FIN, and it is ignored without a word',
    lines: [
      {
        states: 'TIME-WAIT',
        events: [
          'data',
          'data without ACK',
          'old ACK with data',
          'ACK of long ago with data',
          'ACK of what was never sent with data',
          'no flags, data',
          'URG with pointer 0',
          'URG with pointer 1',
          'URG with pointer at the end',
          'URG with pointer behind the end',
          'URG with the largest pointer',
          'URG without ACK',
          'pointer without URG',
          'newer timestamp',
          'no timestamp, data',
        ],
        replies: '-',
      },
      {
        states: 'TIME-WAIT',
        events: [
          'data beyond a gap, then the gap',
          'a second copy that goes on',
          'FIN beyond a gap, then the gap',
          'FIN with data beyond a gap, then the gap',
          'FIN beyond a gap, then data over FIN',
        ],
        replies: ACK,
      },
      { states: 'TIME-WAIT', events: 'the same numbers twice with other bytes', replies: `${ACK}; ${ACK}` },
      { states: 'FIN-WAIT-2', events: 'FIN, then data', replies: ACK_FIN },
      // Linux resets the connection for the first, and counts the second FIN of the second.
      {
        states: AFTER_FIN,
        events: ['data again, and more', 'FIN behind data that is known'],
        replies: '-',
        after: ACK,
      },
    ],
  },
  {
    why: 'RFC 5961 §4.2: a SYN is challenged in SYN-RECEIVED too, so that a forged one ends no handshake; Linux resets',
    lines: [
      {
        states: 'SYN-RECEIVED',
        events: [
          'SYN at RCV.NXT',
          'SYN in the window',
          'SYN with data',
          'SYN+ACK in the window',
          'no timestamp, SYN in the window',
        ],
        replies: ACK,
        after: ACK,
      },
    ],
  },
  {
    why: 'T-04: flags that no connection has use for are dropped before anything else',
    lines: [
      {
        states: [...OPEN, ...AFTER_FIN],
        events: ['SYN+FIN', 'SYN+FIN+ACK', 'SYN+RST', 'SYN+RST in the window', 'all flags'],
        replies: '-',
        after: ACK,
      },
      {
        states: 'TIME-WAIT',
        events: ['SYN+FIN', 'SYN+FIN+ACK', 'SYN+RST', 'all flags'],
        replies: '-',
        after: ACK,
      },
      { states: 'CLOSED', events: ['SYN+FIN', 'SYN+FIN+ACK'], replies: '-' },
      { states: 'LISTEN', events: 'SYN+FIN+ACK', replies: '-' },
      { states: 'SYN-SENT', events: ['SYN+FIN', 'SYN+RST+ACK'], replies: '-', after: '-' },
    ],
  },
  {
    why: 'RFC 9293 §3.10.7.1: before a SYN we know of no listener, so what is no SYN meets a closed port',
    lines: [
      { states: 'LISTEN', events: ['no flags', 'PSH alone'], replies: 'RA 0 ack rcv' },
      { states: 'LISTEN', events: 'no flags, data', replies: 'RA 0 ack rcv+3' },
      { states: 'LISTEN', events: 'no flags beyond the window', replies: 'RA 0 ack edge+1000' },
      { states: 'LISTEN', events: 'data without ACK', replies: 'RA 0 ack rcv+10' },
      { states: 'LISTEN', events: 'URG without ACK', replies: 'RA 0 ack rcv+5' },
      { states: 'LISTEN', events: 'FIN without ACK', replies: 'RA 0 ack rcv+1' },
    ],
  },
  {
    why: 'RFC 9293 §3.10.7.4: the sequence number is looked at before the flags',
    lines: [
      { states: [...OPEN_BUT_FIRST, ...AFTER_FIN], events: 'no flags beyond the window', replies: ACK },
    ],
  },
  {
    why: 'RFC 7323 §3.2: where timestamps were agreed on a segment without one is dropped',
    lines: [
      {
        states: OPEN,
        events: ['no timestamp, data', 'no timestamp, FIN'],
        replies: '-',
        after: ACK,
        host: '""',
      },
      { states: [...OPEN, ...AFTER_FIN], events: 'no timestamp beyond the window', replies: '-' },
    ],
  },
  {
    why: 'RFC 7323 §5.3 R1: timestamps are looked at before the ACK field',
    lines: [{ states: 'SYN-RECEIVED', events: 'old timestamp, ACK never sent', replies: ACK }],
  },
  {
    why: 'RFC 6093: urgent bytes stay in line (RQ-13)',
    lines: [
      {
        states: OPEN,
        events: ['URG with pointer 0', 'URG with pointer 1', 'URG with pointer at the end'],
        host: '"abcde"',
      },
    ],
  },
  {
    why: 'T-10: what came first counts, bytes and FIN; Linux lets a longer segment in order replace what waits',
    lines: [
      {
        states: OPEN,
        events: 'a second copy that goes on',
        replies: `${ACK} sack rcv+10:rcv+20; . nxt ack rcv+29 ts`,
        host: '"abcdefghijfirst copy and more"',
      },
      {
        states: OPEN,
        events: 'FIN beyond a gap, then data over FIN',
        replies: `${ACK} sack rcv+5:rcv+6; . nxt ack rcv+6 ts`,
        after: '. nxt ack rcv+6 ts',
        host: '"abcde END"',
      },
    ],
  },
  {
    why: 'RFC 2883 §4: D-SACK reports text, all that was known of it; not FIN, nor what a timestamp proves to be old',
    lines: [
      { states: [...OPEN_BUT_FIRST, ...AFTER_FIN], events: 'FIN before the window', replies: ACK },
      {
        states: ['SYN-RECEIVED', 'ESTABLISHED', 'FIN-WAIT-1'],
        events: 'FIN twice',
        replies: `${ACK_FIN}; ${ACK_FIN}`,
      },
      { states: [...OPEN_BUT_FIRST, ...AFTER_FIN], events: 'old timestamp, old data', replies: ACK },
      {
        states: ['SYN-RECEIVED', 'ESTABLISHED'],
        events: 'FIN behind data that is known',
        replies: `${ACK_FIN} sack rcv-10:rcv`,
      },
      { states: 'SYN-SENT', events: 'SYN, then SYN+ACK', replies: `SA ack rcv mss,sackOK,ts,ws; ${ACK}` },
    ],
  },
  {
    why: 'RFC 2018 §4: no block below the acknowledgment; Linux leaves one in the last of a half-closed connection',
    lines: [
      {
        states: ['FIN-WAIT-1', 'FIN-WAIT-2'],
        events: 'FIN beyond a gap, then the gap',
        replies: `${ACK} sack rcv+10:rcv+11; . nxt ack rcv+11 ts`,
      },
      {
        states: ['FIN-WAIT-1', 'FIN-WAIT-2'],
        events: 'FIN with data beyond a gap, then the gap',
        replies: `${ACK} sack rcv+10:rcv+21; . nxt ack rcv+21 ts`,
      },
    ],
  },
];

function expand(): Map<string, Line> {
  const all = new Map<string, Line>();
  for (const line of reasons.flatMap(({ lines }) => lines)) {
    for (const state of [line.states].flat()) {
      for (const event of [line.events].flat()) {
        const name = `${state}: ${event}`;
        if (all.has(name)) throw new Error(`two lines for ${name}`);
        all.set(name, line);
      }
    }
  }
  return all;
}

/** By "STATE: event". */
export const differences: ReadonlyMap<string, Line> = expand();

/** What a line says, less the options where none were agreed on. */
export function parts(line: Line, isPlain: boolean): Difference {
  const said: Difference = {};
  for (const part of ['replies', 'after', 'host'] as const) {
    const text = line[part];
    if (text !== undefined) said[part] = isPlain ? text.replace(/ ts\b| sack [^ ;]+/g, '') : text;
  }
  return said;
}
