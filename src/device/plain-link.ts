/**
 * What links have in common that are no interface of this machine's: nothing is left to the device, every checksum and
 * segment is ours; the MTU stays what it was; the other end is not this kernel.
 */
import type { Medium } from '../device-spec.ts';
import type { TxFrame } from '../stack/link/link.ts';
import type { DeviceLink, LinkOwner, RxFrame } from './device-link.ts';

export abstract class PlainLink implements DeviceLink {
  readonly medium: Medium;
  readonly mtu: number;
  readonly checksumOffload = false;
  readonly tso = false;
  readonly uso = false;
  readonly isLocal = false;

  constructor({ medium, mtu }: { readonly medium: Medium; readonly mtu: number }) {
    this.medium = medium;
    this.mtu = mtu;
  }

  abstract get full(): boolean;
  abstract open(owner: LinkOwner): number;
  abstract receive(index: number, frame: RxFrame): number;
  abstract transmit(frame: TxFrame): number;
  abstract flush(): void;
  abstract close(): void;

  refreshMtu(): void {
    return;
  }
}
