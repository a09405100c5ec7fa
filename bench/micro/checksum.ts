/** The Internet checksum: the only work per byte on frames without checksum offload. */
import { foldSum, pseudoHeaderSum, sumBytes } from '../../src/stack/wire/checksum.ts';
import { PROTOCOL_TCP } from '../../src/stack/wire/tcp.ts';
import { type Case, type CaseGroup, keep } from './case.ts';
import { guest4, guest6, remote4, remote6 } from './fixture.ts';

/** An IPv4 header, a segment of MTU 1500, the largest payload of a frame without virtio-net headers. */
const SIZES = [20, 1480, 65483];

export function checksumCases(): CaseGroup {
  const view = new DataView(new ArrayBuffer(65536));
  for (let i = 0; i < view.byteLength; i++) view.setUint8(i, (i * 167 + 13) & 0xff);
  const bySize = SIZES.map(
    (size): Case => ({
      group: 'checksum',
      name: `${size} bytes`,
      run: () => keep(foldSum(sumBytes(view, 2, size, 0))),
    }),
  );
  return {
    cases: [
      ...bySize,
      {
        group: 'checksum',
        name: 'pseudo-header, IPv4',
        run: () => keep(foldSum(pseudoHeaderSum(guest4, remote4, PROTOCOL_TCP, 1480))),
      },
      {
        group: 'checksum',
        name: 'pseudo-header, IPv6',
        run: () => keep(foldSum(pseudoHeaderSum(guest6, remote6, PROTOCOL_TCP, 1480))),
      },
    ],
  };
}
