/** One case: a connection is brought into a state, segments arrive, and what came of it is written down. */
import type { Profile } from './peer.ts';
import type { Event, Session, State } from './scripts.ts';
import type { World } from './world.ts';

export interface Outcome {
  /** What came back, also after the longest time that an acknowledgment may wait; `-` = nothing. */
  replies: string;
  /** What came back for an empty segment just before the window: whether the connection is still there, and where it stands. */
  after: string;
  /** What the server got, as JSON; ` END` behind it = and the end. */
  host: string;
}

/** Both sides delay acknowledgments: Linux by 40 ms and up to a tick or two, we by 5. */
const DELAYED_ACK_MS = 100;

/** Milliseconds ahead of the clock. */
const NEWEST = 200_000;

export async function play(
  world: World,
  port: number,
  address: string,
  profile: Profile,
  state: State,
  [, segments]: Event,
): Promise<Outcome> {
  const { server } = state;
  const listens = server === 'reads' || server === 'listens';
  const host = listens ? await world.listen(port, address, server === 'reads') : null;
  const peer = world.peer(port, address, profile);
  const session: Session = { host, peer };
  const hangUp = server === 'connects' ? world.connect(port) : null;
  try {
    await state.reach(session);
    await world.fence();
    const before = host?.received.length ?? 0;
    const numbers = peer.mark();
    const { rcv, una } = numbers;
    for (const segment of segments(numbers)) {
      peer.send({ seq: rcv, ack: una, ...segment });
      // One at a time: what arrives at the same time may be acknowledged at once.
      await settled(world);
    }
    const replies = text(peer.take());
    const got = (host?.received.slice(before) ?? '') + (host?.ended === true ? ' END' : '');
    // With a timestamp that is newer than any, and an acknowledgment that tells nothing new.
    peer.send({ flags: 'A', seq: rcv - 1, ack: peer.reopened ? 1 : una, ts: NEWEST });
    await world.fence();
    return { replies, after: text(peer.take()), host: JSON.stringify(got) };
  } finally {
    peer.close();
    host?.close();
    hangUp?.();
  }
}

/** Everything has been answered, also what need not be at once. */
async function settled(world: World): Promise<void> {
  await world.fence();
  await new Promise((resolve) => {
    setTimeout(resolve, DELAYED_ACK_MS);
  });
  await world.fence();
}

function text(lines: readonly string[]): string {
  return lines.join('; ') || '-';
}
