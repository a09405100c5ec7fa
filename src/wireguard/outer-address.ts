/** Where a peer is on the network outside: an address and a port of UDP. */
import { formatEndpoint, IpAddress } from '../stack/wire/address.ts';

export class OuterAddress {
  readonly address: IpAddress = new IpAddress();
  port = 0;
  /** Interface of a link-local address; 0 = none. */
  scopeId = 0;

  equals(other: OuterAddress): boolean {
    return this.port === other.port && this.scopeId === other.scopeId && this.address.equals(other.address);
  }

  copyFrom(other: OuterAddress): void {
    this.address.copyFrom(other.address);
    this.port = other.port;
    this.scopeId = other.scopeId;
  }

  /** Address and port as bytes. */
  toBytes(): Uint8Array {
    const bytes = new Uint8Array(18);
    const view = new DataView(bytes.buffer);
    const length = this.address.write(view, 0);
    view.setUint16(length, this.port);
    return bytes.subarray(0, length + 2);
  }

  toString(): string {
    return formatEndpoint({ address: this.address.toString(), port: this.port });
  }
}
