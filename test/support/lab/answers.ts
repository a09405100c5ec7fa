/** More answers than one call or one turn takes. */
import assert from 'node:assert/strict';
import type { DatagramFile } from './fake-kernel.ts';
import type { Lab } from './lab.ts';
import { ALLOWED4 } from './packets.ts';

const ANSWERS = 300;

/** As many answers come at once on the host socket `file`: the guest gets all, in order. */
export function assertAnswersInOrder(lab: Lab, file: DatagramFile): void {
  const words = Array.from({ length: ANSWERS }, (_, i) => `${i}`);
  for (const word of words) file.deliver({ address: ALLOWED4, port: 9 }, Buffer.from(word));
  lab.run();
  assert.deepEqual(
    lab.take().map((d) => d.payload.toString()),
    words,
  );
}
