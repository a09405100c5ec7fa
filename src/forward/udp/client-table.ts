/**
 * Flows of a listener by client: the client's socket address, byte for byte as the kernel gives it (so that one table
 * does for both internet families and unix sockets), and the address of ours that it contacted. Keyed hash, because
 * clients choose their ports.
 */
import type { HalfSipHash } from '../../stack/half-sip-hash.ts';
import type { IpAddress } from '../../stack/wire/address.ts';

/** What the table holds. The key must not change meanwhile. */
export interface Client {
  /** Its socket address; empty for an unnamed unix socket. */
  readonly name: Uint8Array;
  /** Our address that it contacted. */
  readonly contacted: IpAddress;
  /** Next one with the same hash; the table's. */
  nextClient: Client | null;
  clientHash: number;
}

export class ClientTable<C extends Client> {
  size = 0;
  readonly #hash: HalfSipHash;
  readonly #byHash = new Map<number, Client>();
  #last: Client | null = null;

  constructor(hash: HalfSipHash) {
    this.#hash = hash;
  }

  /** The flow of the client named by `length` bytes at `at`, which contacted `contacted`; or null. */
  find(view: DataView, at: number, length: number, contacted: IpAddress): C | null {
    const last = this.#last;
    if (last !== null && isNamed(last, view, at, length) && last.contacted.equals(contacted))
      return last as C;
    let client = this.#byHash.get(this.#key(view, at, length, contacted)) ?? null;
    while (client !== null && !(isNamed(client, view, at, length) && client.contacted.equals(contacted))) {
      client = client.nextClient;
    }
    if (client !== null) this.#last = client;
    return client as C | null;
  }

  /** Add a client that is not in the table, and whose name still stands at `at`. */
  add(client: C, view: DataView, at: number): void {
    client.clientHash = this.#key(view, at, client.name.length, client.contacted);
    client.nextClient = this.#byHash.get(client.clientHash) ?? null;
    this.#byHash.set(client.clientHash, client);
    this.size++;
  }

  /** Remove a client that is in the table. */
  remove(client: C): void {
    if (this.#last === client) this.#last = null;
    const first = this.#byHash.get(client.clientHash) ?? null;
    if (first === client) {
      if (client.nextClient === null) this.#byHash.delete(client.clientHash);
      else this.#byHash.set(client.clientHash, client.nextClient);
    } else {
      let before = first;
      while (before !== null && before.nextClient !== client) before = before.nextClient;
      if (before === null) return;
      before.nextClient = client.nextClient;
    }
    client.nextClient = null;
    this.size--;
  }

  /** All of them, as they are now. */
  list(): C[] {
    const all: C[] = [];
    for (const first of this.#byHash.values()) {
      for (let client: Client | null = first; client !== null; client = client.nextClient)
        all.push(client as C);
    }
    return all;
  }

  /** A small integer: keys beyond 2^30 would be allocated. */
  #key(view: DataView, at: number, length: number, contacted: IpAddress): number {
    return this.#hash.bytes(view, at, length, contacted) >>> 2;
  }
}

function isNamed(client: Client, view: DataView, at: number, length: number): boolean {
  const { name } = client;
  if (name.length !== length) return false;
  for (let i = 0; i < length; i++) if (name[i] !== view.getUint8(at + i)) return false;
  return true;
}
