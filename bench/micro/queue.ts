/** Bytes on their way: the send queue with 64 KiB super-segments, the receive queue behind a slow reader. */
import { ByteQueue, Parts } from '../../src/stack/buffer/byte-queue.ts';
import { ReassemblyQueue } from '../../src/stack/buffer/reassembly-queue.ts';
import { type Case, type CaseGroup, keep } from './case.ts';
import { MSS, Stack } from './fixture.ts';

const SUPER_SEGMENT = 64 * 1024;
const MAX_RANGES = 128;

export function queueCases(): CaseGroup {
  const { slab } = new Stack(true);
  const parts = new Parts(64);
  const frame = slab.region(65536);

  const emptied = new ByteQueue(slab);
  const standing = new ByteQueue(slab);
  const fill = (queue: ByteQueue, bytes: number): void => {
    queue.commit(queue.reserve(bytes, parts));
  };
  fill(standing, 200_000);
  const small = new ByteQueue(slab);

  const inOrder = new ReassemblyQueue(slab);
  const behind = new ReassemblyQueue(slab);
  behind.insert(0, frame, 40_000, MAX_RANGES);
  const gap = new ReassemblyQueue(slab);

  const c = (name: string, run: () => void): Case => ({ group: 'queue', name, run });
  return {
    cases: [
      c('ByteQueue: 64 KiB in, seen, out; empty between', () => {
        fill(emptied, SUPER_SEGMENT);
        emptied.slice(0, SUPER_SEGMENT, parts);
        emptied.drop(SUPER_SEGMENT);
      }),
      c('ByteQueue: 64 KiB in, seen, out; 200 KB standing', () => {
        fill(standing, SUPER_SEGMENT);
        standing.slice(1000, SUPER_SEGMENT, parts);
        standing.drop(SUPER_SEGMENT);
      }),
      c('ByteQueue: 1 byte in, seen, out', () => {
        fill(small, 1);
        small.slice(0, 1, parts);
        small.drop(1);
      }),
      c('ReassemblyQueue: 1,448 bytes kept, read', () => {
        keep(inOrder.insert(inOrder.readable, frame, MSS, MAX_RANGES) ? 1 : 0);
        keep(inOrder.peek(65536, parts));
        inOrder.consume(MSS);
      }),
      c('ReassemblyQueue: 1,448 bytes behind 40 KB, read', () => {
        keep(behind.insert(behind.readable, frame, MSS, MAX_RANGES) ? 1 : 0);
        keep(behind.peek(65536, parts));
        behind.consume(MSS);
      }),
      c('ReassemblyQueue: ahead of a gap, gap filled, read', () => {
        keep(gap.insert(MSS, frame, MSS, MAX_RANGES) ? 1 : 0);
        keep(gap.insert(0, frame, MSS, MAX_RANGES) ? 1 : 0);
        gap.consume(2 * MSS);
      }),
    ],
  };
}
